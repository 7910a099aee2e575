"""The part of a report on the diffusion index η: bars with intervals for each target class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from lskd.io.errors import input_error
from lskd.measure.class_sets import ClassSets, read_origin
from lskd.measure.diffusion import DiffusionIndex
from lskd.measure.eta import EtaMeasurement, measure_eta
from lskd.measure.similar_classes import sets_by_distance
from lskd.measure.student_pairs import student_of_origin
from lskd.records.found_runs import Run
from lskd.records.spread import over_seeds
from lskd.records.studies import Study, at, pair, signed, smoothing
from lskd.report.html import Markup, Page, absent, code, element, paragraph, table, text_cell
from lskd.report.plots import Bars, bars, svg
from lskd.report.sources import Options, Sources

RESAMPLES = 1000
TARGETS = 30  # without --sets, data of more classes have no η: which targets, a reader has to say
COUPLING = (
    "η(S1) and η(S2) of a target are two views of the same changes: relative distances sum to 1 at every T, so what "
    "some classes lose others gain. Opposite signs are forced only where both sets hold one class. Intervals are over "
    "samples, with these students as they are; they say nothing about students of other seeds. p is the share of all "
    "ways to call as many classes similar that would have given an η(S1) as low; it cannot fall below 1 / their number "
    "and is small by chance more often than it says. p iso is that of isotropic change: one scale of all squared "
    "distances and one constant, as noise adds; it is small where S1 came nearer than these explain."
)


@dataclass(frozen=True)
class MeasuredEta:
    """η of the students of one teacher on one split.

    Attributes:
        rows: for each target.
        p_isotropic: of isotropic change, all targets together; None where there is no such test.
        notes: what was left out or corrected for, a sentence each.
        files: the students'.
    """

    rows: Sequence["Row"]
    p_isotropic: float | None
    notes: Sequence[str]
    files: Sequence[str]


@dataclass(frozen=True)
class Diffusion:
    """η of a study's students.

    Attributes:
        etas: by split, then by α; validation first.
        undefined: by split and α, why there is none.
        origin: where S1 and S2 are from.
        missing: what is not there, and how it would be made, where nothing was measured.
    """

    etas: Mapping[str, Mapping[float | None, MeasuredEta]] = field(default_factory=dict)
    undefined: Mapping[tuple[str, float | None], str] = field(default_factory=dict)
    origin: Markup | None = None
    missing: Markup | None = None


def measure_diffusion(files: Sources, options: Options) -> Diffusion:
    """η between two temperatures, for each split and each α of the teacher."""
    study, (first, second) = files.study, (options.first, options.second)
    pairs = {alpha: found for alpha in study.smoothings if (found := _pairs(study, alpha, first, second))}
    if not pairs:
        needed = f"η compares students at {at(first)} and {at(second)}; others are compared by"
        return Diffusion(missing=absent(needed, "--first T --second T"))
    there = {split: _recorded(files, split, pairs) for split in files.splits}
    if not any(there.values()):
        return Diffusion(
            missing=absent("η needs the students' representation files, which are not there:", files.command())
        )
    sets, origin = _sets(files, options)
    if sets is None:
        return Diffusion(missing=origin)
    etas: dict[str, dict[float | None, MeasuredEta]] = {}
    undefined = {}
    for split, found in there.items():
        for alpha, both in found.items():
            try:
                measured = _measured(files, options, sets, split, both)
            except ValueError as error:
                undefined[split, alpha] = str(error)
            else:
                paths = [str(files.path(run, split)) for each in both for run in each]
                rows = [Row(files.class_names, measured, each) for each in measured.targets]
                together = measured.isotropy and measured.isotropy.p_together
                etas.setdefault(split, {})[alpha] = MeasuredEta(rows, together, measured.notes, paths)
    return Diffusion(etas, undefined, origin)


def _recorded(files: Sources, split: str, pairs: Mapping[float | None, Sequence]) -> dict[float | None, list]:
    """Of the pairs those whose representations are there."""
    there = {
        alpha: [each for each in found if all(files.path(run, split) for run in each)] for alpha, found in pairs.items()
    }
    return {alpha: both for alpha, both in there.items() if both}


def _measured(
    files: Sources, options: Options, sets: Mapping[int, ClassSets], split: str, both: Sequence[tuple[Run, Run]]
) -> EtaMeasurement:
    """η of pairs of students on a split.

    Raises:
        InputError: it is not defined, or the given sets were chosen in one of the students.
    """
    pairs = [(files.get(one, split), files.get(other, split)) for one, other in both]
    if (given := files.fitting_sets(options.sets)) and (origin := read_origin(given[0])):
        students = [(each.path, each) for pair in pairs for each in pair]
        chosen = student_of_origin(origin, students)
        if chosen is not None and not chosen[1]:
            raise input_error("--sets", given[0], f"S1 and S2 were chosen in {chosen[0]}, a student under test")
    return measure_eta(pairs, sets, resamples=RESAMPLES, seed=1)


def diffusion(page: Page, files: Sources, options: Options, found: Diffusion) -> None:
    """Bars, intervals and p of what :func:`measure_diffusion` found."""
    if not files.study.students:
        return
    page.heading(f"Diffusion index η, T = {options.first:g} → {options.second:g}", 3)
    if found.missing is not None:
        page.add(found.missing)
        return
    page.add(found.origin)
    for (split, alpha), why in found.undefined.items():
        page.add(paragraph(f"η on {split}, {smoothing(alpha)}, is not defined: {why}", class_="absent"))
    for split, etas in found.etas.items():
        for alpha, eta in etas.items():
            page.add(*(paragraph(f"η on {split}, {smoothing(alpha)}: {note}", class_="absent") for note in eta.notes))
        _diffusion_of_split(page, files, split, etas)
    page.add(paragraph(COUPLING))


def _pairs(study: Study, alpha: float | None, first: float, second: float) -> list[tuple[Run, Run]]:
    """Students at both temperatures that share teacher and seed."""
    later = {pair(run): run for run in study.students.get((alpha, second), [])}
    return [(run, later[pair(run)]) for run in study.students.get((alpha, first), []) if pair(run) in later]


def _sets(files: Sources, options: Options) -> tuple[dict[int, ClassSets] | None, Markup]:
    """S1 and S2, and where they are from; or None, and what would make them."""
    if given := files.fitting_sets(options.sets):
        path, sets = given
        return sets, paragraph("Similar classes (S1) and dissimilar ones (S2) are those of ", code(str(path)), ".")
    if files.study.first.kind == "translation" or len(files.class_names) > TARGETS:
        source = files.reference[0] if files.reference else "TEACHER.representations.safetensors"
        words = " --words --least 50" if files.study.first.kind == "translation" else ""
        command = f"lskd similar {source} --by distance{words} --targets … --output sets.json"
        command += " && lskd report … --sets sets.json"
        return None, absent("η needs to be told the target classes and what is similar to them:", command)
    if files.reference is None:
        return None, absent(
            "Which classes are similar is taken from a teacher's representation file, or given:", "--sets FILE.json"
        )
    return sets_by_distance(files.reference[1].moments.centroids()), paragraph(
        "Similar classes (S1) are the closest 1 % of the others, at least one, and dissimilar ones (S2) the farthest "
        "90 %, by the class centroids of the least smoothed teacher."
    )


def _diffusion_of_split(page: Page, files: Sources, split: str, etas: Mapping[float | None, MeasuredEta]) -> None:
    """A table of means and a drawing for each α, all on one scale."""
    title, rows = files.study.title, {alpha: eta.rows for alpha, eta in etas.items()}
    summary = [
        [
            smoothing(alpha),
            signed(100 * np.mean([row.similar for row in each])),
            f"{sum(row.similar < 0 for row in each)} of {len(each)}",
            signed(100 * np.mean([row.dissimilar for row in each])),
            _p(etas[alpha].p_isotropic),
            str(len(each[0].found)),
        ]
        for alpha, each in rows.items()
    ]
    heads = ["teacher", "mean η(S1) %", "η(S1) below 0", "mean η(S2) %", "p iso, all together", "pairs of seeds"]
    page.add(table(f"η on the {split} split, mean over target classes. {title}", [heads], summary))
    ends = [0, *(end for each in rows.values() for row in each for end in row.ends)]
    margin = 0.05 * (max(ends) - min(ends) or 1)
    limits = (min(ends) - margin, max(ends) + margin)
    drawings = []
    for alpha, each in rows.items():
        what = f"η in % for each target class, {split} split, teacher with {smoothing(alpha)}. {title}"
        used = [*etas[alpha].files, *([str(files.reference[0])] if files.reference else [])]
        drawings.append(_drawing(page, what, each, limits, used))
    page.add(element("div", *drawings, class_="beside"))


def _drawing(page: Page, what: str, rows: Sequence["Row"], limits: tuple[float, float], files: Sequence[str]) -> Markup:
    """Bars of all targets with their figures as a table."""
    whiskers = rows[0].whiskers
    groups = [
        Bars("similar, S1", [100 * row.similar for row in rows], [row.similar_interval for row in rows]),
        Bars("dissimilar, S2", [100 * row.dissimilar for row in rows], [row.dissimilar_interval for row in rows]),
    ]
    said = "; ".join(
        f"{row.name}: {signed(100 * row.similar)} similar, {signed(100 * row.dissimilar)} dissimilar" for row in rows
    )
    heads = ["target", "similar classes", "η(S1) %", whiskers, "η(S2) %", whiskers, "p", "p iso"]
    return page.figure(
        svg(bars([row.name for row in rows], groups, "η in %", limits)),
        f"{what}. {said}.",
        f"{what}. {_about(rows)}.",
        table(what, [heads], [row.cells() for row in rows]),
        files,
    )


def _about(rows: Sequence["Row"]) -> str:
    """What the whiskers are."""
    whiskers = rows[0].whiskers
    if whiskers == "–":
        return "No intervals: too few features were kept"
    missing = [row.name for row in rows if row.similar_interval is None or row.dissimilar_interval is None]
    return f"Whiskers: {whiskers}" + (f"; resamples leave it undefined for {', '.join(missing)}" if missing else "")


def _p(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


class Row:
    """η of one target in fractions, with its whiskers in %: the interval of a single pair, ± σ over several."""

    def __init__(self, names: Sequence[str], measured: EtaMeasurement, found: Sequence[DiffusionIndex]):
        target = found[0].target
        self.found, self.name = found, names[target]
        self.similar_names = ", ".join(names[label] for label in measured.sets[target].similar)
        self.p_isotropic = measured.isotropy and measured.isotropy.p_values[target]
        spreads = [
            over_seeds([each.eta_similar for each in found]),
            over_seeds([each.eta_dissimilar for each in found]),
        ]
        self.similar, self.dissimilar = (each.mean for each in spreads)
        intervals = [found[0].similar_interval, found[0].dissimilar_interval]
        if len(found) > 1:
            intervals = [(each.mean - each.sd, each.mean + each.sd) for each in spreads]
        self.whiskers = "± σ over seeds" if len(found) > 1 else "95 % interval" if intervals[0] else "–"
        self.similar_interval, self.dissimilar_interval = (
            None if each is None or not np.isfinite(each).all() else (100 * each[0], 100 * each[1])
            for each in intervals
        )

    @property
    def ends(self) -> list[float]:
        """Everything that is drawn, in %."""
        return [
            100 * self.similar,
            100 * self.dissimilar,
            *(self.similar_interval or ()),
            *(self.dissimilar_interval or ()),
        ]

    def cells(self) -> list[str]:
        """A row of the table."""
        cells = [self.name, text_cell(self.similar_names)]
        for value, interval in ((self.similar, self.similar_interval), (self.dissimilar, self.dissimilar_interval)):
            cells += [signed(100 * value), "–" if interval is None else " to ".join(map(signed, interval))]
        return [*cells, ", ".join(f"{each.p_value:.3f}" for each in self.found), _p(self.p_isotropic)]
