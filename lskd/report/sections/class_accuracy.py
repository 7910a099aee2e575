"""Accuracy of each class at one temperature, and how it changes at others (Tables I.1 to I.3)."""

from collections.abc import Sequence
from dataclasses import dataclass

from lskd.records.found_runs import Run
from lskd.records.spread import Spread, over_seeds
from lskd.records.studies import Study, at, number, signed, smoothing
from lskd.report.elements import Section, Table

CLASSES_SHOWN = 30  # all of so many; of more, those that changed most


@dataclass(frozen=True, kw_only=True)
class ClassAccuracySection(Section):
    """A table for each teacher whose students have class-wise accuracy at two temperatures."""

    template = "class_accuracy.html"
    tables: Sequence[Table]


def class_accuracy_section(study: Study, base: float) -> ClassAccuracySection | None:
    """Accuracy of each class at ``base``, else the lowest T, and its changes; None without students of images."""
    if study.first.kind == "translation" or not study.students:
        return None
    tables = [table for alpha in study.smoothings if (table := _changes(study, alpha, base))]
    return ClassAccuracySection(title="Accuracy by class", tables=tables)


def _changes(study: Study, alpha: float | None, base: float) -> Table | None:
    every = {T: _classwise(study.students.get((alpha, T), [])) for T in study.temperatures}
    by_class = {T: found for T, found in every.items() if found}
    if len(by_class) < 2:
        return None
    first = base if base in by_class else min(by_class)
    others = [T for T in by_class if first != T]
    names = [name for name in by_class[first] if all(name in by_class[T] for T in others)]
    changes = {name: [by_class[T][name].mean - by_class[first][name].mean for T in others] for name in names}
    shown = set(sorted(names, key=lambda name: -max(map(abs, changes[name])))[:CLASSES_SHOWN])
    rows = [
        [name, number(by_class[first][name]), *(signed(each, 2) for each in changes[name])]
        for name in names
        if name in shown
    ]
    chosen = "" if len(shown) == len(names) else f", the {len(shown)} of {len(names)} that change most"
    n = len(study.students[alpha, first])
    caption = (
        f"Teacher with {smoothing(alpha)}: accuracy at {at(first)} in %, and changes in points (n = {n}){chosen}. "
        f"{study.title}"
    )
    return Table(caption, [["class", at(first), *map(at, others)]], rows)


def _classwise(runs: Sequence[Run]) -> dict[str, Spread]:
    """Over seeds, of the classes that every run has."""
    each = [run.metrics.get("classwise") or {} for run in runs]
    names = [name for name in (each[0] if each else {}) if all(one.get(name) is not None for one in each)]
    return {name: over_seeds([one[name] for one in each]) for name in names}
