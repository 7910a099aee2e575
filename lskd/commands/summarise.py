"""Summarise students: the best T against T = 1, whether step size explains it, and which smoothing had the best ones.

Runs are grouped by everything that decides a result: data, teacher's and student's model, α, and the settings of the
training. Where runs differ only in --kd-gradient-scale match, in a larger --lr or in an optimiser that normalises its
steps, a second table says how much of what T costs goes away with it. With students of differently smoothed teachers, a
third compares the best of them; there a teacher counts once. p is adjusted for all differences of a table (Holm).
"""

import argparse
from collections.abc import Sequence
from typing import Any

from lskd.commands.effect_tables import (
    as_values,
    difference_row,
    effect_row,
    effects_table,
    format_best_students,
    interval,
    smoothing_rows,
)
from lskd.io.argument_types import table_file
from lskd.io.errors import input_error
from lskd.io.output import shown_anyway
from lskd.io.tables import Column, show, write
from lskd.measure.comparisons import Difference, holm
from lskd.measure.smoothing_choice import smoothing_choices
from lskd.measure.temperature_effects import Effect, StepControl, effects, step_controls
from lskd.records.found_runs import METRICS, Run, find_runs, left_out_note
from lskd.records.studies import group

EXAMPLE = "lskd summarise runs/letters --output summary.csv"
STEP_VERDICTS = {
    "more": "removed, and T is better than T = 1",
    "all": "removed, within chance",
    "part": "in part removed",
    "none": "not shown to be removed",
    "no cost": "no cost beyond chance",
    "cannot tell": "too few seeds",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``lskd summarise``."""
    parser.add_argument("runs", nargs="+", metavar="RUNS", help="run directories, or directories above them")
    parser.add_argument(
        "--output",
        type=table_file,
        metavar="FILE",
        help="a row for each α, T and setting, .csv or .json, which also has the comparison of the α",
    )


def run(arguments: argparse.Namespace) -> None:
    """Print the tables; write the rows."""
    runs = find_runs(arguments.runs)
    found = effects(group(runs))
    left_out = left_out_note(sum(run.learns_without_temperature for run in runs))
    if not found:
        valid = "must hold students: runs with a teacher, a temperature and a result"
        raise input_error("runs", arguments.runs[0], valid)
    smoothings = smoothing_rows(smoothing_choices(found))
    others = controls_table(step_controls(found)), smoothings_table(smoothings), left_out, unscored_note(runs)
    with shown_anyway(students_table(found), *filter(None, others)):
        if arguments.output:
            write(arguments.output, summary_rows(found), {"smoothings": smoothings})


def unscored_note(runs: Sequence[Run]) -> str:
    """The note on students without a result, which were interrupted before a validation; empty if there are none."""
    students = [run for run in runs if run.temperature is not None]
    missing = [run for run in students if run.metrics.get(METRICS[run.kind][0].key) is None]
    return f"Left out: {len(missing)} of {len(students)} students have no result yet." if missing else ""


def summary_rows(found: Sequence[Effect]) -> list[dict[str, Any]]:
    """A row for each effect and temperature: the models and settings, mean, standard deviation, n."""
    return [
        {
            "data": each.study.first.data,
            "teacher": each.study.teacher,
            "student": each.study.first.model,
            "settings": each.study.setting or None,
            "optimiser": each.optimiser,
            "learning_rate": each.learning_rate,
            "label_smoothing": each.alpha,
            "temperature": T,
            "metric": each.study.metrics[0].key,
            "mean": spread.mean,
            "standard_deviation": spread.sd,
            "n": spread.n,
        }
        for each in found
        for T, spread in each.means.items()
    ]


def students_table(found: Sequence[Effect]) -> str:
    """A table with settings and α as rows and T as columns, and the best T less T = 1."""
    comparisons = [each.against_one for each in found]
    adjusted = iter(holm([each.p for each in comparisons if each]))
    rows = []
    for each, comparison in zip(found, comparisons, strict=True):
        p = next(adjusted) if comparison else None
        rows.append(effect_row(each.study.title, each.alpha, each.best, each.means, as_values(comparison), p))
    temperatures = sorted({T for each in found for T in each.values})
    table = effects_table(rows, temperatures, [Column("study", "study")])
    units = " and ".join(dict.fromkeys("BLEU" if each.study.unit == "BLEU" else "top-1 in %" for each in found))
    about = f"{units}, mean ± standard deviation over seeds and teachers (n); difference: the best T and T = 1, or the "
    return f"{about}next best; the interval allows for the choice.\n\n{table}"


def controls_table(controls: Sequence[StepControl]) -> str:
    """A table of what T costs without and with a control for the step size; empty without controls."""
    if not controls:
        return ""
    rows = [
        {
            "study": each.plain.study.title,
            "alpha": each.plain.alpha,
            "temperature": each.temperature,
            "control": each.name,
            "cost": _interval(each.cost),
            "controlled": _interval(each.cost_controlled),
            "removed": _interval(each.removed),
            "verdict": STEP_VERDICTS[each.verdict],
        }
        for each in controls
    ]
    columns = [Column("study", "study")] if len({row["study"] for row in rows}) > 1 else []
    columns += [Column("control", "control"), Column("α", "alpha", "g"), Column("T", "temperature", "g")]
    columns += [Column("cost of T (95 %)", "cost"), Column("with the control", "controlled")]
    columns += [Column("removed", "removed"), Column("the cost is", "verdict")]
    about = "Cost of T: T = 1 less T, without and with a control for the size of the steps."
    return f"{about}\n\n{show(rows, columns)}"


def smoothings_table(rows: Sequence[dict[str, Any]]) -> str:
    """A table of the best students and those of another α, from :func:`smoothing_rows`; empty without rows."""
    if not rows:
        return ""
    shown = [
        {
            "study": row["study"],
            "best": format_best_students(row["best"]),
            "other": format_best_students(row["other"]),
            "difference": row["difference"] and interval(row["difference"]),
            "p": row["p_adjusted"],
            "verdict": row["verdict"],
        }
        for row in rows
    ]
    columns = [Column("study", "study")] if len(rows) > 1 else []
    columns += [Column("the best students", "best"), Column("the other α", "other")]
    columns += [Column("difference (95 %)", "difference"), Column("p", "p", ".2g"), Column("smooth?", "verdict")]
    about = "Students of differently smoothed teachers: the best α and T, and the best T of α = 0 or, failing that, of "
    about += "the next best α; mean ± standard deviation over teachers (n). Interval and p allow for the choice."
    return f"{about}\n\n{show(shown, columns)}"


def _interval(difference: Difference | None) -> str | None:
    return None if difference is None else interval(difference_row(difference))
