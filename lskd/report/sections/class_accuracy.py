"""Accuracy of each class at one temperature, and how it changes at others (Tables I.1 to I.3)."""

from collections.abc import Sequence
from dataclasses import dataclass

from lskd.records.formatting import at, signed, smoothing, with_spread
from lskd.records.found_runs import Run
from lskd.records.spread import Spread, over_seeds
from lskd.records.studies import Study
from lskd.report.elements import Section, Table

CLASSES_SHOWN = 30  # if there are more classes, those that changed most are shown


@dataclass(frozen=True, kw_only=True)
class ClassAccuracySection(Section):
    """A table for each teacher whose students have class-wise accuracy at two temperatures."""

    template = "class_accuracy.html"
    tables: Sequence[Table]


def class_accuracy_section(study: Study, base: float) -> ClassAccuracySection | None:
    """Accuracy of each class at T = ``base``, or else the lowest T, and its changes; None without image students."""
    if study.first.kind == "translation" or not study.students:
        return None
    tables = [table for alpha in study.smoothings if (table := _changes(study, alpha, base))]
    return ClassAccuracySection(title="Accuracy by class", tables=tables)


def _changes(study: Study, alpha: float | None, base: float) -> Table | None:
    runs = {T: _with_classes(study.students.get((alpha, T), [])) for T in study.temperatures}
    by_class = {T: found for T, each in runs.items() if (found := _over_seeds(each))}
    if len(by_class) < 2:
        return None
    first = base if base in by_class else min(by_class)
    others = [T for T in by_class if first != T]
    names = [name for name in by_class[first] if all(name in by_class[T] for T in others)]
    changes = {name: [by_class[T][name].mean - by_class[first][name].mean for T in others] for name in names}
    shown = set(sorted(names, key=lambda name: -max(map(abs, changes[name])))[:CLASSES_SHOWN])
    rows = [
        [name, with_spread(by_class[first][name]), *(signed(each, 2) for each in changes[name])]
        for name in names
        if name in shown
    ]
    chosen = "" if len(shown) == len(names) else f", the {len(shown)} of {len(names)} that change most"
    sizes = sorted({len(runs[T]) for T in by_class})
    n = " to ".join(dict.fromkeys(map(str, (sizes[0], sizes[-1]))))
    caption = (
        f"Teacher with {smoothing(alpha)}: accuracy at {at(first)} in %, and changes in points (n = {n}){chosen}. "
        f"{study.title}"
    )
    return Table(caption, [["class", at(first), *map(at, others)]], rows)


def _with_classes(runs: Sequence[Run]) -> list[dict[str, float | None]]:
    """The accuracies by class of the runs that have them: a run that was interrupted early has none."""
    return [found for run in runs if (found := run.metrics.get("classwise"))]


def _over_seeds(runs: Sequence[dict[str, float | None]]) -> dict[str, Spread]:
    """The spread over seeds for each class that every run has."""
    spreads = {}
    for name in runs[0] if runs else ():
        values = [value for run in runs if (value := run.get(name)) is not None]
        if len(values) == len(runs):
            spreads[name] = over_seeds(values)
    return spreads
