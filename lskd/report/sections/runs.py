"""How each run was made: a table of the runs, and the details in each run's record."""

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from lskd.records.formatting import smoothing
from lskd.records.found_runs import METRICS, Run
from lskd.records.runs import TrainingTime, training_time
from lskd.report.elements import Cell, Section, Table


@dataclass(frozen=True)
class RunDetails:
    """How a run was made; ``facts`` are names and values from its record."""

    name: str
    directory: str
    command: str
    facts: Sequence[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class RunsSection(Section):
    """An introduction, which may be empty, a table with a row for each run, and each run's details."""

    template = "runs.html"
    introduction: str
    table: Table
    runs: Sequence[RunDetails]


def runs_section(title: str, runs: Sequence[Run], introduction: str = "") -> RunsSection:
    """The section on the runs of a page and how each was made."""
    rows: list[list[str | Cell]] = [
        [
            run.directory.name,
            run.data,
            Cell(run.model, prose=True),
            "a teacher" if run.record.teacher else "labels",
            smoothing(run.label_smoothing).removeprefix("α\u00a0=\u00a0"),
            "–" if run.temperature is None else f"{run.temperature:g}",
            str(run.record.seed),
            _result(run),
            minutes(training_time(run.record)),
        ]
        for run in runs
    ]
    heads = ["run", "data", "model", "learnt from", "α of the targets", "T", "seed", "result", "training, minutes"]
    table = Table("The runs of this page", [heads], rows)
    return RunsSection(title=title, introduction=introduction, table=table, runs=list(map(_details, runs)))


def minutes(time: TrainingTime | None) -> str:
    """Training time in minutes; for models that shared a process, the time of the process and each model's share.

    >>> minutes(TrainingTime(90.0, 1, 90.0)), minutes(TrainingTime(3720.0, 8, 465.0)), minutes(None)
    ('1.5', '62.0 for 8 together, 7.8 each', '–')
    """
    if time is None:
        return "–"
    whole = f"{time.seconds / 60:.1f}"
    if time.together is None or time.own is None:
        return f"{whole}, perhaps for several together"
    if math.isclose(time.own, time.seconds):
        return whole
    return f"{whole} for {time.together:g} together, {time.own / 60:.1f} each"


def _result(run: Run) -> str:
    """The run's first metric; students without a temperature are in no other table."""
    first = METRICS[run.kind][0]
    value = run.metrics.get(first.key)
    return "–" if value is None else f"{value:.2f} {'BLEU' if first.key == 'bleu' else '%'}"


def _details(run: Run) -> RunDetails:
    record, teacher = run.record, run.record.teacher or {}
    facts = [
        ("Seed", str(record.seed)),
        ("Data", f"{record.data.get('path', '–')}, SHA-256 {record.data.get('fingerprint', '–')}"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in record.versions.items())),
        ("Hardware", ", ".join(f"{name}: {_plain(value)}" for name, value in record.hardware.items())),
        ("Not repeatable", _not_repeatable(record.nondeterminism)),
        ("Revision", record.revision or "not from a git checkout"),
        ("Time", f"{record.started} to {record.updated}"),
        ("Warnings", " · ".join(map(str, record.warnings)) or "none"),
    ]
    if teacher:
        known = teacher.get("label_smoothing") or {}
        alpha = f"{smoothing(run.label_smoothing)}, source: {known.get('source', 'unknown')}"
        paths = ", ".join(map(str, teacher.get("paths", [])))
        facts.insert(2, ("Teacher", f"{paths}, weights' SHA-256 {teacher.get('fingerprint', '–')}, {alpha}"))
    return RunDetails(run.name, str(run.directory), shlex.join(map(str, record.command)), facts)


def _not_repeatable(causes: list[str] | None) -> str:
    if causes is None:
        return "not recorded"
    return " ".join(map(str, causes)) or "nothing, on the same processor with the same number of threads"


def _plain(value: object) -> str:
    return (", ".join(map(str, value)) or "none") if isinstance(value, list) else str(value)
