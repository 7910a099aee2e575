"""What was measured, in the form of a table of the paper: figures of runs, and of what other commands wrote.

The table says what is taken: its metrics, and whether it is about teachers, students, or both. Seeds are summed up.
"""

import math
import os
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lskd.io.errors import InputError, input_error
from lskd.io.schema import Text
from lskd.measure.model_accuracy import accuracy_of_representations
from lskd.paper.command_files import Row, accuracy_rows, is_result, read_rows
from lskd.paper.published import Figure, published
from lskd.records.found_runs import Run, find_runs, score_notes
from lskd.records.inputs import find_inputs
from lskd.records.runs import unfinished
from lskd.records.spread import over_seeds
from lskd.records.studies import Study, group

# A second figure of translations, which the paper's looks like.
OTHER_BLEU = "tokenised_lowercased_bleu"
VALID = "must be a run, a representation file, a directory of these, or a .json file that a command wrote"
# What figures that differ in their seed alone have in common.
CELL = ("teacher", "student", "label_smoothing", "temperature", "split", "target_class", "metric")
OF_STUDENT = ("data", "teacher", "student", "distill_type", "temperature")
KINDS = {"logit": "the logits alone", "overhaul": "features too (--kd-distill-type overhaul)"}


@dataclass(frozen=True, kw_only=True)
class Measured(Figure):
    """One measured figure; models and data have their own names.

    Attributes:
        stands_for: the paper's model in whose place ``student`` is, None where it is that model or nobody said.
    """

    stands_for: Text | None = None


def measure(
    table: str, inputs: Sequence[str | os.PathLike[str]], stand_ins: Mapping[str, str] | None = None
) -> tuple[list[Measured], list[str]]:
    """What was measured of a table.

    Args:
        table: an id of :func:`lskd.paper.published.tables`.
        inputs: run directories, representation files, directories above either, and JSON files that other commands
            wrote.
        stand_ins: by a model's name (or what is before its first comma), the paper's model that it stands for.

    Returns:
        The figures, in the order of the table: teachers, then students, those that stand for nobody last and in the
        order of the inputs; classes in theirs; by α, then T. And notes on what they are of.

    Raises:
        InputError: no such table, an input that gives nothing for it, one that cannot be read, two figures that would
            have one place, or a name in ``stand_ins`` that is no model of the inputs.
    """
    try:
        printed = published(table)
    except ValueError as error:
        raise InputError(str(error)) from None
    found_inputs = find_inputs("INPUT", inputs, VALID, is_result)
    runs = find_runs(found_inputs.runs) if found_inputs.runs else []
    rows = list(_of_runs(table, printed, runs)) if runs else []
    notes = dict.fromkeys(score_notes(run.figures for run in runs))
    notes |= {f"{run.name} {short}.": None for run in runs if (short := unfinished(run.record))}
    given: list[tuple[Path, Row]] = []
    sources = [(path, read_rows(path)) for path in found_inputs.others]
    sources += [(path, accuracy_rows(accuracy_of_representations(path))) for path in found_inputs.representations]
    for path, of_file in sources:
        found = [row for row in of_file if _fits(row.figure, printed)]
        if not found and path in found_inputs.others:
            raise _nothing(table, path, printed)
        given += [(path, row) for row in found]
        notes |= {note: None for row in found for note in row.notes}
    from_files = _over_seeds(table, given)
    if {figure.metric for figure in printed if figure.student} >= {"entropy", "top1"}:
        from_files = _targets(table, given, from_files, rows)
    rows += from_files
    if any(figure.target_class == "average" for figure in printed):
        rows += _averages(rows)
    if not rows:
        raise input_error("INPUT", " ".join(map(str, inputs)), f"must have a figure of Table {table}")
    _check(table, printed, rows)
    return _sorted(_with_stand_ins(rows, stand_ins or {}), printed), list(notes)


def _nothing(table: str, path: object, printed: Sequence[Figure]) -> InputError:
    wanted = ", ".join(dict.fromkeys(figure.metric for figure in printed))
    whom = {figure.student is None for figure in printed}
    of = "teachers and students" if len(whom) > 1 else "teachers" if True in whom else "students"
    return input_error("INPUT", path, f"must have a figure of Table {table}: {wanted} of {of}")


def _fits(row: Mapping[str, Any], printed: Sequence[Figure]) -> bool:
    """Whether a table is about such a figure; entropies are always of teachers."""
    of_teacher = row.get("student") is None
    return any(
        figure.metric == row["metric"] and (figure.metric == "entropy" or (figure.student is None) == of_teacher)
        for figure in printed
    )


def _figure(table: str, known: Mapping[str, Any]) -> Measured:
    return Measured(**{**known, "table": table})


# Of runs


def _of_runs(table: str, printed: Sequence[Figure], runs: Sequence[Run]) -> Iterator[Measured]:
    """Figures of the last epoch of images, of the best checkpoint of translations, over seeds."""
    wanted = {figure.metric: figure.unit for figure in printed if figure.metric in ("top1", "top5", "bleu")}
    if not wanted:
        raise _nothing(table, runs[0].directory, printed)
    wanted |= {OTHER_BLEU: "BLEU"} if "bleu" in wanted else {}
    studies = group(runs)
    cells: dict[tuple[Any, ...], tuple[Study, list[Run]]] = {}
    for study in studies:
        for (alpha, temperature), students in study.students.items():
            _place(cells, (study.first.model, alpha, temperature), study, students)
    if any(figure.student is None for figure in printed):
        for alpha, teachers in _teachers(studies).items():
            _place(cells, (None, alpha, None), studies[0], teachers)
    kinds = {figure.distill_type for figure in printed if figure.student}
    for (student, alpha, temperature), (study, alike) in cells.items():
        kind = alike[0].record.configuration.get("host", {}).get("kd_distill_type") or "logit"
        if student and kind not in kinds:
            needed = " or ".join(KINDS[each] for each in sorted(kinds))
            raise input_error("INPUT", alike[0].directory, f"must be distilled by {needed} for Table {table}")
        for run in alike:
            if missing := [name for name in wanted if run.figures.get(name) is None and name != OTHER_BLEU]:
                raise input_error(
                    "INPUT", run.directory, f"must have figures for Table {table}: it has no {missing[0]}"
                )
        known = {
            "data": alike[0].data,
            "teacher": study.teacher if student else alike[0].model,
            "student": student,
            "distill_type": kind if student else None,
            "label_smoothing": alpha,
            "temperature": temperature,
        }
        for metric, unit in wanted.items():
            values = [run.figures[metric] for run in alike if run.figures.get(metric) is not None]
            if values:
                yield _figure(table, known | {"metric": metric, "unit": unit} | _spread(values))


def _place(cells: dict[str, Any], key: tuple[Any, ...], study: Study, runs: Sequence[Run]) -> None:
    """Runs of one cell; what differs by more than the seed cannot share one."""
    if key in cells:
        first, other = cells[key][1][0], runs[0]
        names = [name for name in first.settings | other.settings if _setting(first, name) != _setting(other, name)]
        what = ", ".join(names[:3]) or "data or teacher"
        raise input_error(
            "INPUT", other.directory, f"differs from {first.directory} in {what}, must be compared by itself"
        )
    cells[key] = study, list(runs)


def _setting(run: Run, name: str) -> str | None:
    return run.settings.get(name)


def _teachers(studies: Sequence[Study]) -> dict[float | None, list[Run]]:
    """By α, the runs that taught, and others of their models; without any student, all runs."""
    taught = [run for study in studies for runs in study.teachers.values() for run in runs]
    models = {run.model for run in taught}
    alone = [run for study in studies for runs in study.alone.values() for run in runs]
    if any(study.students for study in studies):
        alone = [run for run in alone if run.model in models]
    found: dict[float | None, dict[Path, Run]] = {}
    for run in [*taught, *alone]:
        alike = found.setdefault(run.label_smoothing, {})
        for other in alike.values():
            if other.directory != run.directory and other.record.seed == run.record.seed:
                raise input_error(
                    "INPUT", run.directory, f"is a teacher of the seed of {other.directory}; must be given once"
                )
            if (other.model, other.settings) != (run.model, run.settings):
                raise input_error(
                    "INPUT", run.directory, f"is made otherwise than {other.directory}, must be compared by itself"
                )
        alike[run.directory] = run
    return {alpha: list(alike.values()) for alpha, alike in found.items()}


def _spread(values: Sequence[float]) -> dict[str, Any]:
    spread = over_seeds(values)
    return {"mean": float(spread.mean), "standard_deviation": spread.sd, "n": spread.n}


# Of files


def _over_seeds(table: str, given: Sequence[tuple[Path, Row]]) -> list[Measured]:
    """Figures of different seeds are one; those that the command has summed up itself stay as they are."""
    rows: list[Measured] = []
    cells: dict[tuple[Any, ...], dict[str, dict[str, Any]]] = {}
    for path, row in given:
        if not row.seed:
            rows.append(_figure(table, row.figure))
            continue
        key = tuple(row.figure.get(name) for name in CELL)
        seeds = cells.setdefault(key, {})
        if row.seed in seeds:
            raise input_error(
                "INPUT", path, f"has {row.seed} at T = {row.figure['temperature']:g} twice, or as another input"
            )
        seeds[row.seed] = row.figure
    for seeds in cells.values():
        known = next(iter(seeds.values()))
        rows.append(_figure(table, known | _spread([each["mean"] for each in seeds.values()])))
    return rows


def _targets(
    table: str, given: Sequence[tuple[Path, Row]], entropies: Sequence[Measured], students: Sequence[Measured]
) -> list[Measured]:
    """Of each student the entropy of its targets: of its teacher's α, at its T."""
    students = [each for each in students if each.metric == "top1" and each.student]
    for path in dict.fromkeys(path for path, _ in given):
        rows = [_figure(table, row.figure) for other, row in given if other == path]
        if not any(_taught(row, each) for row in rows for each in students):
            raise input_error("INPUT", path, f"must have the entropy at α and T of a student of Table {table}")
    return [
        replace(targets, **{name: getattr(student, name) for name in OF_STUDENT})
        for student in students
        for targets in entropies
        if _taught(targets, student)
    ]


def _taught(targets: Measured, student: Measured) -> bool:
    """Whether a student learnt from targets of these α and T, which a command line may have rounded."""
    same = targets.label_smoothing == student.label_smoothing
    return same and math.isclose(targets.temperature, student.temperature, rel_tol=1e-4)


def _averages(rows: Sequence[Measured]) -> list[Measured]:
    """Means over classes, where the input had none; their spread over seeds is not known from those of the classes."""
    alike: dict[tuple[Any, ...], list[Measured]] = {}
    for row in rows:
        key = (row.metric, row.student, row.label_smoothing, row.temperature, row.split)
        alike.setdefault(key, []).append(row)
    return [
        replace(
            each[0],
            target_class="average",
            mean=statistics.fmean(row.mean for row in each),
            standard_deviation=None,
            n=min(row.n for row in each) if all(row.n is not None for row in each) else None,
        )
        for each in alike.values()
        if not any(row.target_class == "average" for row in each)
    ]


# All of them


def _check(table: str, printed: Sequence[Figure], rows: Iterable[Measured]) -> None:
    """Each figure once, and α where the table has it."""
    with_smoothing = all(figure.label_smoothing is not None for figure in printed)
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
    """A model's whole name, and that before its sizes: ``transformer, 2+1 layers, d = 128``."""
    return (model, model.partition(",")[0]) if model else ()


def _sorted(rows: Sequence[Measured], printed: Sequence[Figure]) -> list[Measured]:
    paper = list(dict.fromkeys(figure.student for figure in printed))
    students = list(dict.fromkeys((row.stands_for, row.student) for row in rows))
    students.sort(key=lambda each: paper.index(each[0]) if each[0] in paper else len(paper))
    classes = list(dict.fromkeys(row.target_class for row in rows))
    metrics = [*dict.fromkeys(figure.metric for figure in printed), OTHER_BLEU]
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
