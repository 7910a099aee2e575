"""One page in HTML of what runs gave: the answer in words, α × T tables beside the paper's, figures, how all was made.

It is made from run records and, where there are some, the representation files beside checkpoints. The same input gives
the same bytes.
"""

import math
import os
import shlex
from collections.abc import Sequence

from lskd.io.errors import InputError, input_error
from lskd.records.found_runs import Run, find_runs
from lskd.records.runs import TrainingTime, training_time
from lskd.records.studies import group, smoothing
from lskd.report.accuracy import accuracy, class_changes
from lskd.report.claims import Claims
from lskd.report.diffusion import diffusion, measure_diffusion
from lskd.report.html import Markup, Page, code, details, element, facts, paragraph, table, text_cell
from lskd.report.models import entropy, projection
from lskd.report.sources import Options, Sources

TITLE = "Label smoothing and distillation: what these runs gave"


def report(places: Sequence[str | os.PathLike], options: Options | None = None) -> str:
    """The page.

    Args:
        places: run directories, or directories above them.
        options: see :class:`lskd.report.sources.Options`.

    Raises:
        InputError: no run, a record or a representation file that cannot be read, sets or classes that fit no data.
    """
    options = options or Options()
    runs = find_runs(places)
    sources = [Sources(study) for study in group(runs)]
    _check_options(sources, options)
    measured = [measure_diffusion(files, options) for files in sources]
    studies = [(files.study, found) for files, found in zip(sources, measured, strict=True)]
    page = Page(TITLE, Claims(studies, f"T\u00a0=\u00a0{options.first:g} → {options.second:g}").answer())
    for files, found in zip(sources, measured, strict=True):
        page.heading(files.study.title)
        accuracy(page, files.study)
        diffusion(page, files, options, found)
        projection(page, files, options)
        entropy(page, files)
        class_changes(page, files.study, options.first)
    page.heading("How each figure was made")
    page.add(paragraph("Below each figure are the files it was made from. These are the runs:"), table_of_runs(runs))
    page.add(*(details(run.name, made(run)) for run in runs))
    return page.html()


def _check_options(sources: Sequence[Sources], options: Options) -> None:
    """Each file of sets, and the classes, have to fit a study; in the others the page says what is missing."""
    checks = [("--sets", path, Sources.given_sets) for path in options.sets]
    if options.classes is not None:
        checks.append(("--classes", options.classes, Sources.given_classes))
    for argument, value, check in checks:
        errors, with_files = [], [files for files in sources if files.class_names is not None]
        if not with_files:
            raise input_error(
                argument,
                value if argument == "--sets" else " ".join(value),
                "must have representation files to be used on: none is beside these runs",
            )
        for files in with_files:
            try:
                check(files, value)
            except InputError as error:
                errors.append(error)
        if len(errors) == len(with_files):
            raise errors[0]


def table_of_runs(runs: Sequence[Run]) -> Markup:
    """What the runs are, one a row."""
    rows = [
        [
            run.directory.name,
            run.data,
            text_cell(run.model),
            "labels" if run.temperature is None else "a teacher",
            smoothing(run.label_smoothing).removeprefix("α\u00a0=\u00a0"),
            "–" if run.temperature is None else f"{run.temperature:g}",
            str(run.record.seed),
            minutes(training_time(run.record)),
        ]
        for run in runs
    ]
    heads = ["run", "data", "model", "learnt from", "α of these", "T", "seed", "training, minutes"]
    return table("The runs of this page", [heads], rows)


def minutes(time: TrainingTime | None) -> str:
    """The minutes of a training; of models that shared a process, those of the process and a model's part of them.

    >>> minutes(TrainingTime(90.0, 1, 90.0)), minutes(TrainingTime(3720.0, 8, 465.0)), minutes(None)
    ('1.5', '62.0 for 8 together, 7.8 each', '–')
    """
    if time is None:
        return "–"
    whole = f"{time.seconds / 60:.1f}"
    if time.together is None:
        return f"{whole}, perhaps for several together"
    if math.isclose(time.own, time.seconds):
        return whole
    return f"{whole} for {time.together:g} together, {time.own / 60:.1f} each"


def made(run: Run) -> Markup:
    """All that a record says of how a run came about."""
    record, teacher = run.record, run.record.teacher or {}
    known = teacher.get("label_smoothing") or {}
    pairs = [
        ("Directory", code(str(run.directory))),
        ("Command", element("pre", shlex.join(map(str, record.command)))),
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
        alpha = f"{smoothing(run.label_smoothing)}, by {known.get('source', 'nobody')}"
        paths = ", ".join(map(str, teacher.get("paths", [])))
        teaching = f"{paths}, weights' SHA-256 {teacher.get('fingerprint', '–')}, {alpha}"
        pairs.insert(4, ("Teacher", teaching))
    return facts(pairs)


def _not_repeatable(causes: list[str] | None) -> str:
    if causes is None:
        return "not recorded"
    return " ".join(map(str, causes)) or "nothing, on this processor with as many threads"


def _plain(value: object) -> str:
    return (", ".join(map(str, value)) or "none") if isinstance(value, list) else str(value)
