"""η of the students of a page of runs, measured from the representation files beside them."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from lskd.measure.class_sets import ClassSets, read_origin
from lskd.measure.comparisons import mean_test
from lskd.measure.diffusion import DiffusionIndex
from lskd.measure.eta import EtaMeasurement, measure_eta
from lskd.measure.similar_classes import sets_by_distance
from lskd.measure.student_pairs import check_origin
from lskd.records.formatting import at
from lskd.records.found_runs import Run
from lskd.records.spread import Spread, over_seeds
from lskd.records.studies import Study, pair
from lskd.report.elements import Missing
from lskd.report.options import Options
from lskd.report.representation_files import RepresentationFiles

RESAMPLES = 1000
TARGETS = 30  # without --sets, η is not measured on data with more classes: the user has to choose the targets

Interval = tuple[float, float]
RunPairs = Sequence[tuple[Run, Run]]


@dataclass(frozen=True)
class TargetEta:
    """η of one target class.

    Attributes:
        name: name of the class.
        similar_names: names of the classes in S1.
        found: the diffusion index for each pair of students.
        similar_percent: η(S1), mean over pairs.
        dissimilar_percent: η(S2) likewise.
        similar_interval_percent: the interval of η(S1) for a single pair or ± σ over several; None if there is none.
        dissimilar_interval_percent: that of η(S2) likewise.
        whiskers: what the intervals are, in words.
        p_isotropic: p of the test against isotropic change; None if it was not tested.
    """

    name: str
    similar_names: Sequence[str]
    found: Sequence[DiffusionIndex]
    similar_percent: float
    dissimilar_percent: float
    similar_interval_percent: Interval | None
    dissimilar_interval_percent: Interval | None
    whiskers: str
    p_isotropic: float | None

    @classmethod
    def of(cls, names: Sequence[str], measured: EtaMeasurement, found: Sequence[DiffusionIndex]) -> "TargetEta":
        """Summarise the indices of one target; ``names`` are those of all classes."""
        target = found[0].target
        similar = over_seeds([100 * each.eta_similar for each in found])
        dissimilar = over_seeds([100 * each.eta_dissimilar for each in found])
        if len(found) > 1:
            whiskers, intervals = "± σ over seeds", (_deviation(similar), _deviation(dissimilar))
        else:
            whiskers = "95 % interval" if found[0].similar_interval else "–"
            intervals = _percent(found[0].similar_interval), _percent(found[0].dissimilar_interval)
        return cls(
            name=names[target],
            similar_names=[names[label] for label in measured.sets[target].similar],
            found=found,
            similar_percent=similar.mean,
            dissimilar_percent=dissimilar.mean,
            similar_interval_percent=intervals[0],
            dissimilar_interval_percent=intervals[1],
            whiskers=whiskers,
            p_isotropic=None if measured.isotropy is None else measured.isotropy.p_values[target],
        )

    @property
    def ends(self) -> list[float]:
        """All values that are drawn, in %, for the limits of an axis."""
        intervals = (self.similar_interval_percent or (), self.dissimilar_interval_percent or ())
        return [self.similar_percent, self.dissimilar_percent, *intervals[0], *intervals[1]]


@dataclass(frozen=True)
class MeasuredEta:
    """η of the students of one teacher on one split.

    Attributes:
        rows: η of each target.
        p_isotropic: p of the test against isotropic change, all targets together; None if it was not tested.
        notes: what was left out or corrected for, a sentence each.
        files: the students' representation files.
    """

    rows: Sequence[TargetEta]
    p_isotropic: float | None
    notes: Sequence[str]
    files: Sequence[str]


@dataclass(frozen=True)
class MeanEta:
    """η of a study's students of one teacher, mean over targets.

    Attributes:
        split: split of the representations.
        targets: number of targets.
        similar: η(S1) in %, one value for each pair of students.
        dissimilar: η(S2) likewise.
        signs: for how many targets η(S1) is below 0, and for how many η(S2) is above 0, by their means over pairs.
        excluding: for a single pair, for how many targets the 95 % interval of η(S1), and that of η(S2), excludes 0;
            None if there are no intervals.
        p: p over pairs, that chance alone gives a mean η(S1) so far below 0; None for too few pairs. It is one-sided,
            as noise in the distances alone makes relative changes positive on average.
        p_isotropic: p of the test against isotropic change, all targets together; None if it was not tested.
    """

    split: str
    targets: int
    similar: tuple[float, ...]
    dissimilar: tuple[float, ...]
    signs: tuple[int, int]
    excluding: tuple[int, int] | None
    p: float | None
    p_isotropic: float | None

    @classmethod
    def of(cls, split: str, measured: MeasuredEta) -> "MeanEta":
        """Average η over targets."""
        rows = measured.rows
        pairs = list(zip(*(row.found for row in rows), strict=True))  # for each pair of students, η of all targets
        similar = tuple(100 * float(np.mean([each.eta_similar for each in indices])) for indices in pairs)
        dissimilar = tuple(100 * float(np.mean([each.eta_dissimilar for each in indices])) for indices in pairs)
        excluding = None
        intervals = [(row.similar_interval_percent, row.dissimilar_interval_percent) for row in rows]
        if len(pairs) == 1 and all(one and other for one, other in intervals):
            excluding = sum(_leaves_out_0(one) for one, _ in intervals), sum(_leaves_out_0(two) for _, two in intervals)
        signs = sum(row.similar_percent < 0 for row in rows), sum(row.dissimilar_percent > 0 for row in rows)
        p = None
        if tested := mean_test(similar):
            p = tested[1] / 2 if np.mean(similar) < 0 else 1 - tested[1] / 2
        return cls(split, len(rows), similar, dissimilar, signs, excluding, p, measured.p_isotropic)


@dataclass(frozen=True)
class Diffusion:
    """η of a study's students.

    Attributes:
        etas: η by split, validation first, then by α.
        undefined: why η is not defined, by split and α.
        sets_file: the file of S1 and S2; None if they were chosen by feature distance.
        missing: if nothing was measured, what is missing, and how to make it.
    """

    etas: Mapping[str, Mapping[float | None, MeasuredEta]] = field(default_factory=dict)
    undefined: Mapping[tuple[str, float | None], str] = field(default_factory=dict)
    sets_file: str | None = None
    missing: Missing | None = None


def measure_diffusion(files: RepresentationFiles, options: Options) -> Diffusion:
    """Measure η between two temperatures, for each split and each α of the teacher."""
    study, (first, second) = files.study, (options.first, options.second)
    pairs = {alpha: found for alpha in study.smoothings if (found := _pairs(study, alpha, first, second))}
    if not pairs:
        needed = f"η compares students at {at(first)} and {at(second)}; others are compared by"
        return Diffusion(missing=Missing(needed, "--first T --second T"))
    there = {split: _recorded(files, split, pairs) for split in files.splits}
    if not any(there.values()):
        needed = "η needs the students' representation files, which are not there:"
        return Diffusion(missing=Missing(needed, files.command()))
    sets_file, sets = files.fitting_sets(options.sets) or (None, _sets_by_distance(files))
    if isinstance(sets, Missing):
        return Diffusion(missing=sets)
    etas: dict[str, dict[float | None, MeasuredEta]] = {}
    undefined = {}
    for split, recorded in there.items():
        for alpha, both in recorded.items():
            try:
                measured = _measured(files, split, both, sets, sets_file)
            except ValueError as error:
                undefined[split, alpha] = str(error)
            else:
                paths = [str(files.paths[run.directory][split]) for each in both for run in each]
                rows = [TargetEta.of(files.class_names, measured, each) for each in measured.targets]
                together = None if measured.isotropy is None else measured.isotropy.p_together
                etas.setdefault(split, {})[alpha] = MeasuredEta(rows, together, measured.notes, paths)
    return Diffusion(etas, undefined, None if sets_file is None else str(sets_file))


def _pairs(study: Study, alpha: float | None, first: float, second: float) -> list[tuple[Run, Run]]:
    """Pairs of students at the two temperatures with the same teacher and seeds."""
    later = {pair(run): run for run in study.students.get((alpha, second), [])}
    return [(run, later[pair(run)]) for run in study.students.get((alpha, first), []) if pair(run) in later]


def _recorded(
    files: RepresentationFiles, split: str, pairs: Mapping[float | None, RunPairs]
) -> dict[float | None, list[tuple[Run, Run]]]:
    """The pairs that both have a representation file of the split."""
    there = {
        alpha: [each for each in found if all(split in files.splits_of(run) for run in each)]
        for alpha, found in pairs.items()
    }
    return {alpha: both for alpha, both in there.items() if both}


def _sets_by_distance(files: RepresentationFiles) -> Mapping[int, ClassSets] | Missing:
    """S1 and S2 of every class by feature distance in the least smoothed teacher, or how to provide them."""
    if files.study.first.kind == "translation" or len(files.class_names) > TARGETS:
        source = files.reference[0] if files.reference else "TEACHER.representations.safetensors"
        words = " --words --least 50" if files.study.first.kind == "translation" else ""
        command = f"lskd similar {source} --by distance{words} --targets … --output sets.json"
        command += " && lskd report … --sets sets.json"
        return Missing("η needs target classes, and the classes similar to them:", command)
    if files.reference is None:
        needed = "Which classes are similar is taken from a teacher's representation file, or given:"
        return Missing(needed, "--sets FILE.json")
    return sets_by_distance(files.reference[1].moments.centroids())


def _measured(
    files: RepresentationFiles,
    split: str,
    both: RunPairs,
    sets: Mapping[int, ClassSets],
    sets_file: str | os.PathLike[str] | None,
) -> EtaMeasurement:
    """η of pairs of students on a split.

    Raises:
        InputError: η is not defined, or the given sets were chosen in one of the students.
    """
    pairs = [(files.read(one, split), files.read(other, split)) for one, other in both]
    students = [(str(each.path), each) for pair in pairs for each in pair]
    notes = check_origin(read_origin(sets_file), "--sets", sets_file, students) if sets_file is not None else []
    measured = measure_eta(pairs, sets, resamples=RESAMPLES, seed=1)
    return replace(measured, notes=[*notes, *measured.notes])


def _deviation(spread: Spread) -> Interval | None:
    """± σ about the mean."""
    return None if spread.sd is None else (spread.mean - spread.sd, spread.mean + spread.sd)


def _percent(interval: Interval | None) -> Interval | None:
    """An interval of fractions in %; None if an end is undefined."""
    return None if interval is None or not np.isfinite(interval).all() else (100 * interval[0], 100 * interval[1])


def _leaves_out_0(interval: Interval | None) -> bool:
    return interval is not None and (interval[0] > 0 or interval[1] < 0)
