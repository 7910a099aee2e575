"""Mean entropy of the teachers' outputs against T."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lskd.measure.smoothness import EntropySums
from lskd.records.formatting import at, smoothing
from lskd.records.found_runs import Run
from lskd.report.elements import Drawing, Missing, Section, Table
from lskd.report.plots import Series, in_drawings, lines, svg
from lskd.report.representation_files import RepresentationFiles

LIMIT = 4000  # evenly spaced samples from which an entropy curve is computed
TEMPERATURES = (0.5, 1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True, kw_only=True)
class EntropySection(Section):
    """A line for each teacher, and ln K, in as many drawings as needed; or why there is none."""

    template = "entropy.html"
    drawings: Sequence[Drawing | Missing]


def entropy_section(files: RepresentationFiles) -> EntropySection | None:
    """Mean entropy of the teachers' outputs; None for runs without any teacher."""
    study = files.study
    if not study.students and not study.teachers:
        return None
    title = "Entropy of the teachers' outputs"
    entropies = []
    for alpha in study.smoothings:
        run = next((each for each in study.teachers.get(alpha, []) if each.directory in files.paths), None)
        if run is not None and (found := [each for each in (_stored(files, run), _curve(files, run)) if each]):
            entropies.append((smoothing(alpha), found))
    if not entropies:
        needed = "Entropies need the teachers' representation files with their last layer, which are not there:"
        return EntropySection(title=title, drawings=[Missing(needed, files.command(teacher=True))])
    drawings = [_drawing(study.title, part, len(files.class_names)) for part in in_drawings(entropies)]
    return EntropySection(title=title, drawings=drawings)


@dataclass(frozen=True)
class _Entropies:
    """Entropies of a teacher: the sums, the file they are from, and over which samples they were taken."""

    sums: EntropySums
    path: Path
    over: str


def _stored(files: RepresentationFiles, run: Run) -> _Entropies | None:
    """The entropies stored in a file, over all samples, of the training split if there."""
    for split in files.splits_of(run):
        each = files.read(run, split)
        if len(each.entropy):
            n = int(each.moments.counts.sum())
            sums = EntropySums.of_rows(each.entropy[np.argsort(each.entropy[:, 0])], n)
            return _Entropies(sums, files.paths[run.directory][split], f"all {n} samples of {split}")
    return None


def _curve(files: RepresentationFiles, run: Run) -> _Entropies | None:
    """Entropies at more temperatures, from kept features, of a split of which all were kept if there is one."""
    there = [(split, files.read(run, split)) for split in files.splits_of(run)]
    there = [(split, each) for split, each in there if each.weight is not None and len(each.labels)]
    if not there:
        return None
    split, each = min(there, key=lambda item: not item[1].complete)
    sums = EntropySums(sorted({*TEMPERATURES, *files.study.temperatures}))
    sums.update(each.thinned(LIMIT).logits())
    n = int(each.moments.counts.sum())
    over = f"all {n} samples of {split}" if sums.n == n else f"{sums.n} of {n} samples of {split}"
    over += "" if each.complete else ", whose features were kept"
    return _Entropies(sums, files.paths[run.directory][split], over)


def _drawing(title: str, entropies: Sequence[tuple[str, Sequence[_Entropies]]], classes: int) -> Drawing:
    """Draw the last of each teacher's entropies as a line, with a table of all."""
    series, drawn, rows = [], [], []
    for teacher, found in entropies:
        series.append(Series(teacher, found[-1].sums.temperatures.tolist(), found[-1].sums.mean().tolist()))
        drawn.append(found[-1].over)
        for each in found:
            values = zip(each.sums.temperatures, each.sums.mean(), each.sums.standard_error(), strict=True)
            rows += [[teacher, f"{T:g}", f"{mean:.4f}", f"{error:.4f}", each.over] for T, mean, error in values]
    most = math.log(classes)
    words = (f"{one.label}: {one.y[0]:.2f} at {at(one.x[0])} to {one.y[-1]:.2f} at {at(one.x[-1])}" for one in series)
    what = f"{title}: mean entropy of the teachers' outputs against T"
    return Drawing(
        svg(lines(series, "temperature T", "mean entropy, nats", (most, f"ln K = {most:.2f}"))),
        f"{what}. {'; '.join(words)}. The maximum is {most:.2f}.",
        f"{what}; ln {classes} = {most:.2f} nats is the maximum. Of several seeds the first. Over "
        f"{' and '.join(dict.fromkeys(drawn))}.",
        [Table(f"Mean entropy in nats. {title}", [["teacher", "T", "mean", "standard error", "over"]], rows)],
        list(dict.fromkeys(str(each.path) for _, found in entropies for each in found)),
    )
