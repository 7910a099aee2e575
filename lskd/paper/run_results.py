"""Results of runs for a table of the paper: a row for each student and teacher, averaged over seeds."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lskd.io.errors import InputError, input_error
from lskd.paper.published import Measurement
from lskd.records.found_runs import Run
from lskd.records.spread import over_seeds
from lskd.records.studies import Study, group

OTHER_BLEU = "tokenised_lowercased_bleu"  # a second metric of translations, which resembles the paper's
KINDS = {"logit": "the logits alone", "overhaul": "features too (--kd-distill-type overhaul)"}
Cell = tuple[str | None, float | None, float | None]  # student, α and T; a teacher has neither student nor T


def no_result(table: str, path: object, printed: Sequence[Measurement]) -> InputError:
    """The error for an input that has no result of the kind that the table has."""
    wanted = ", ".join(dict.fromkeys(measurement.metric for measurement in printed))
    whom = {measurement.student is None for measurement in printed}
    of = "teachers and students" if len(whom) > 1 else "teachers" if True in whom else "students"
    return input_error("INPUT", path, f"must have a result of Table {table}: {wanted} of {of}")


def results_of_runs(table: str, printed: Sequence[Measurement], runs: Sequence[Run]) -> Iterator[dict[str, Any]]:
    """Yield results of the last epoch for images and of the best checkpoint for translations, averaged over seeds.

    Args:
        table: the table's id, for error messages.
        printed: the published measurements of the table.
        runs: at least one run; of images and of translation, those that the table is not about are left out.

    Yields:
        The known fields of :class:`lskd.paper.published.Measurement`.

    Raises:
        InputError: a run has no such result, or differs in more than its seed from another run in the same cell.
    """
    wanted = {
        measurement.metric: measurement.unit
        for measurement in printed
        if measurement.metric in ("top1", "top5", "bleu")
    }
    if not wanted:
        raise no_result(table, runs[0].directory, printed)
    wanted |= {OTHER_BLEU: "BLEU"} if "bleu" in wanted else {}
    kind_of_run = "translation" if "bleu" in wanted else "vision"
    of_this_kind = [run for run in runs if run.kind == kind_of_run]
    if not of_this_kind:
        raise no_result(table, runs[0].directory, printed)
    studies = group(of_this_kind)
    cells: dict[Cell, tuple[Study, list[Run]]] = {}
    for study in studies:
        for (alpha, temperature), students in study.students.items():
            _place(cells, (study.first.model, alpha, temperature), study, students)
    if any(measurement.student is None for measurement in printed):
        for alpha, teachers in _teachers(studies).items():
            _place(cells, (None, alpha, None), studies[0], teachers)
    kinds = {measurement.distill_type or "logit" for measurement in printed if measurement.student}
    for (student, alpha, temperature), (study, alike) in cells.items():
        kind = alike[0].record.configuration.get("host", {}).get("kd_distill_type") or "logit"
        if student and kind not in kinds:
            needed = " or ".join(KINDS[each] for each in sorted(kinds))
            raise input_error("INPUT", alike[0].directory, f"must be distilled by {needed} for Table {table}")
        for run in alike:
            if missing := [name for name in wanted if run.metrics.get(name) is None and name != OTHER_BLEU]:
                raise input_error(
                    "INPUT", run.directory, f"must have results for Table {table}: it has no {missing[0]}"
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
            values = [run.metrics[metric] for run in alike if run.metrics.get(metric) is not None]
            if values:
                yield known | {"metric": metric, "unit": unit} | spread_fields(values)


def _place(cells: dict[Cell, tuple[Study, list[Run]]], key: Cell, study: Study, runs: Sequence[Run]) -> None:
    """Add the runs of a cell; those that differ in more than their seed cannot share one."""
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
    """The teachers' runs and others of the same models, by α; all runs if there are no students."""
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
                    "INPUT", run.directory, f"has the seed of the teacher {other.directory}; must be given once"
                )
            if (other.model, other.settings) != (run.model, run.settings):
                raise input_error(
                    "INPUT", run.directory, f"has other settings than {other.directory}, must be compared by itself"
                )
        alike[run.directory] = run
    return {alpha: list(alike.values()) for alpha, alike in found.items()}


def spread_fields(values: Sequence[float]) -> dict[str, Any]:
    """Mean, standard deviation and n as fields of a measurement."""
    spread = over_seeds(values)
    return {"mean": float(spread.mean), "standard_deviation": spread.sd, "n": spread.n}
