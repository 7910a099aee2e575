"""Measured results in the form of a table of the paper, from runs and from files that other commands wrote.

The table determines which results are used: its metrics, of teachers, students, or both. Results are averaged over
seeds.
"""

import math
import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lskd.io.errors import input_error
from lskd.io.schema import Text
from lskd.measure.model_accuracy import accuracy_of_representations
from lskd.paper.command_files import Row, accuracy_rows, is_result, read_rows
from lskd.paper.published import Measurement, published
from lskd.paper.run_results import OTHER_BLEU, no_result, results_of_runs, spread_fields
from lskd.records.found_runs import find_runs, score_notes
from lskd.records.inputs import find_inputs
from lskd.records.runs import unfinished

VALID = "must be a run, a representation file, a directory of these, or a .json file that a command wrote"
# What measurements that differ only in their seed have in common.
CELL = ("teacher", "student", "label_smoothing", "temperature", "split", "target_class", "metric")
OF_STUDENT = ("data", "teacher", "student", "distill_type", "temperature")


@dataclass(frozen=True, kw_only=True)
class Measured(Measurement):
    """A measurement of our own; models and data have their own names.

    Attributes:
        stands_for: the paper's model that ``student`` stands for; None if it is that model or none was given.
    """

    stands_for: Text | None = None


def measure(
    table: str, inputs: Sequence[str | os.PathLike[str]], stand_ins: Mapping[str, str] | None = None
) -> tuple[list[Measured], list[str]]:
    """Collect the measured results of a table.

    Args:
        table: an id of :func:`lskd.paper.published.tables`.
        inputs: run directories, representation files, directories above either, and JSON files that other commands
            wrote.
        stand_ins: the paper's model for which a model stands, by the model's name (or its part before the first comma).

    Returns:
        The measurements in the order of the table: teachers, then students, with those that stand for no model last, in
        the order of the inputs; then by class, α and T. And notes on the results.

    Raises:
        InputError: no such table, an input that has no result for it or cannot be read, two measurements for the same
            cell of the table, or a name in ``stand_ins`` that is not a model of the inputs.
    """
    printed = published(table)
    found_inputs = find_inputs("INPUT", inputs, VALID, is_result)
    runs = find_runs(found_inputs.runs) if found_inputs.runs else []
    rows = [_measured(table, known) for known in results_of_runs(table, printed, runs)] if runs else []
    notes = dict.fromkeys(score_notes(run.metrics for run in runs))
    notes |= {f"{run.name} {short}.": None for run in runs if (short := unfinished(run.record))}
    given: list[tuple[Path, Row]] = []
    sources = [(path, read_rows(path)) for path in found_inputs.others]
    sources += [(path, accuracy_rows(accuracy_of_representations(path))) for path in found_inputs.representations]
    for path, of_file in sources:
        found = [row for row in of_file if _fits(row.measurement, printed)]
        if not found and path in found_inputs.others:
            raise no_result(table, path, printed)
        given += [(path, row) for row in found]
        notes |= {note: None for row in found for note in row.notes}
    from_files = _over_seeds(table, given)
    if {measurement.metric for measurement in printed if measurement.student} >= {"entropy", "top1"}:
        from_files = _targets(table, given, from_files, rows)
    rows += from_files
    if any(measurement.target_class == "average" for measurement in printed):
        rows += _averages(rows)
    if not rows:
        raise input_error("INPUT", " ".join(map(str, inputs)), f"must have a result of Table {table}")
    _check(table, printed, rows)
    return _sorted(_with_stand_ins(rows, stand_ins or {}), printed), list(notes)


def _fits(row: Mapping[str, Any], printed: Sequence[Measurement]) -> bool:
    """Whether a table has measurements of this kind; entropies are always of teachers."""
    of_teacher = row.get("student") is None
    return any(
        measurement.metric == row["metric"]
        and (measurement.metric == "entropy" or (measurement.student is None) == of_teacher)
        for measurement in printed
    )


def _measured(table: str, known: Mapping[str, Any]) -> Measured:
    fields: dict[str, Any] = {**known, "table": table}
    return Measured(**fields)


def _over_seeds(table: str, given: Sequence[tuple[Path, Row]]) -> list[Measured]:
    """Average measurements over seeds; those already averaged by the command are not changed."""
    rows: list[Measured] = []
    cells: dict[tuple[object, ...], dict[str, dict[str, Any]]] = {}
    for path, row in given:
        if not row.seed:
            rows.append(_measured(table, row.measurement))
            continue
        key = tuple(row.measurement.get(name) for name in CELL)
        seeds = cells.setdefault(key, {})
        if row.seed in seeds:
            raise input_error(
                "INPUT", path, f"has {row.seed} at T = {row.measurement['temperature']:g} twice, or as another input"
            )
        seeds[row.seed] = row.measurement
    for seeds in cells.values():
        known = next(iter(seeds.values()))
        rows.append(_measured(table, known | spread_fields([each["mean"] for each in seeds.values()])))
    return rows


def _targets(
    table: str, given: Sequence[tuple[Path, Row]], entropies: Sequence[Measured], students: Sequence[Measured]
) -> list[Measured]:
    """The entropy of each student's targets, from the entropies measured for its teacher's α and its T."""
    students = [each for each in students if each.metric == "top1" and each.student]
    for path in dict.fromkeys(path for path, _ in given):
        rows = [_measured(table, row.measurement) for other, row in given if other == path]
        if not any(_taught(row, each) for row in rows for each in students):
            raise input_error("INPUT", path, f"must have the entropy at α and T of a student of Table {table}")
    return [
        replace(targets, **{name: getattr(student, name) for name in OF_STUDENT})
        for student in students
        for targets in entropies
        if _taught(targets, student)
    ]


def _taught(targets: Measured, student: Measured) -> bool:
    """Whether a student was trained on targets of these α and T, which a command line may have rounded."""
    if targets.temperature is None or student.temperature is None:
        return False
    same = targets.label_smoothing == student.label_smoothing
    return same and math.isclose(targets.temperature, student.temperature, rel_tol=1e-4)


def _averages(rows: Sequence[Measured]) -> list[Measured]:
    """Means over classes, unless the inputs have them; their spread over seeds is unknown."""
    alike: dict[tuple[object, ...], list[Measured]] = {}
    for row in rows:
        key = (row.metric, row.student, row.label_smoothing, row.temperature, row.split)
        alike.setdefault(key, []).append(row)
    found = []
    for each in alike.values():
        if not any(row.target_class == "average" for row in each):
            known = [row.n for row in each if row.n is not None]
            n = min(known) if len(known) == len(each) else None
            mean = statistics.fmean(row.mean for row in each)
            found.append(replace(each[0], target_class="average", mean=mean, standard_deviation=None, n=n))
    return found


def _check(table: str, printed: Sequence[Measurement], rows: Iterable[Measured]) -> None:
    """Check that each measurement occurs once, and has an α if the table has one."""
    with_smoothing = all(measurement.label_smoothing is not None for measurement in printed)
    seen = set()
    for row in rows:
        named = [row.student or f"teacher {row.teacher}", row.target_class, row.split, row.metric]
        named += [
            f"{name} = {value:g}"
            for name, value in (("α", row.label_smoothing), ("T", row.temperature))
            if value is not None
        ]
        what = ", ".join(each for each in named if each)
        if with_smoothing and row.label_smoothing is None:
            raise input_error("INPUT", what, "must be of a teacher whose α is known")
        if what in seen:
            raise input_error("INPUT", what, f"must be given once for Table {table}: two inputs have it")
        seen.add(what)


def _with_stand_ins(rows: Sequence[Measured], stand_ins: Mapping[str, str]) -> list[Measured]:
    models = {name for row in rows for name in (row.student, row.teacher) if name}
    for name in stand_ins:
        if not any(name in _names(model) for model in models):
            raise input_error(
                "--as", name, f"must be a model of the inputs: {', '.join(sorted(models)) or 'none is known'}"
            )
    return [
        replace(row, stands_for=next((stand_ins[name] for name in _names(row.student) if name in stand_ins), None))
        for row in rows
    ]


def _names(model: str | None) -> tuple[str, ...]:
    """A model's full name, and its part before the sizes: ``transformer, 2+1 layers, d = 128``."""
    return (model, model.partition(",")[0]) if model else ()


def _sorted(rows: Sequence[Measured], printed: Sequence[Measurement]) -> list[Measured]:
    paper = list(dict.fromkeys(measurement.student for measurement in printed))
    students = list(dict.fromkeys((row.stands_for, row.student) for row in rows))
    students.sort(key=lambda each: paper.index(each[0]) if each[0] in paper else len(paper))
    classes = list(dict.fromkeys(row.target_class for row in rows))
    metrics = [*dict.fromkeys(measurement.metric for measurement in printed), OTHER_BLEU]
    last = (None, "average", "by chance")

    def key(row: Measured) -> tuple[Any, ...]:
        return (
            row.student is not None,
            students.index((row.stands_for, row.student)),
            last.index(row.target_class) if row.target_class in last else 0,
            classes.index(row.target_class),
            row.label_smoothing or 0,
            row.temperature or 0,
            row.split != "train",
            row.split or "",
            metrics.index(row.metric),
        )

    return sorted(rows, key=key)
