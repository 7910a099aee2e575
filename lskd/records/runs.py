"""The record that every run leaves: ``run.json`` beside its checkpoints, and ``summary.csv``, a row a validation.

A record says how a run was made (command, configuration, seed, data, teacher, versions, hardware) and what came of it
(figures, with their units in their names where they have one). Both sides use the same words in ``configuration``:
``temperature``, ``student_temperature``, ``label_smoothing`` (the paper's α), ``kd_weight`` (β), ``teacher_topk``.
"""

import contextlib
import csv
import datetime
import fcntl
import importlib.metadata
import io
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from lskd.io.errors import input_error
from lskd.io.files import json_text, write_text
from lskd.io.schema import Versioned, convert, read_json

SCHEMA_VERSION = 1
LARGEST = 1e300  # of a number in a record: NaN and infinity are not within
# Options of either host that say where, from whom and how fast, or what a study's runs differ in anyway.
INDIFFERENT = {"config", "output", "experiment", "resume", "group_size", "workers", "num_workers", "pin_mem", "device"}
INDIFFERENT |= {"debug", "data", "data_dir", "dataset_download", "rank", "local_rank", "distributed", "log_wandb"}
INDIFFERENT |= {"log_tensorboard", "wandb_project", "validation_batch_size", "max_tokens_valid", "batch_size_valid"}
INDIFFERENT |= {"seed", "data_seed", "temperature", "kd_temperature", "student_temperature", "kd_student_temperature"}
INDIFFERENT |= {"teacher_path", "teacher_cache", "kd_checkpoint"}
Percent = Annotated[float, Meta(ge=0, le=100)]
PACKAGES = ("lskd", "torch", "fairseq-fixed", "timm", "torchvision", "sacrebleu", "sentencepiece", "numpy")


@dataclass
class RunRecord:
    """What a run was and what came of it; :func:`write_run` and :func:`read_run` carry it to and from ``run.json``.

    Attributes:
        configuration: the settings that matter, in the words above, and the host's own under ``host``.
        seed: the random seed of the run.
        data: ``path`` and ``fingerprint``, one SHA-256 over the prepared files.
        teacher: None, or ``paths``, ``fingerprint`` of the weights, ``label_smoothing`` with its source, ``valid``.
        figures: by split, then by checkpoint: for example ``figures["test"]["checkpoint_best.pt"]["bleu"]``.
        history: a row for each validation, oldest first.
        warnings: what a reader of the figures has to know.
        nondeterminism: what may come out otherwise in a repetition, see :mod:`lskd.records.determinism`; None: nobody
            knows, as of a record that is older.
    """

    configuration: dict
    seed: int
    data: dict
    teacher: dict | None = None
    command: list[str] = field(default_factory=lambda: [Path(sys.argv[0]).name, *sys.argv[1:]])
    versions: dict = field(default_factory=lambda: versions())
    hardware: dict = field(default_factory=lambda: hardware())
    revision: str | None = field(default_factory=lambda: source_revision())
    started: str = field(default_factory=lambda: now())
    updated: str = field(default_factory=lambda: now())
    figures: dict[str, dict[str, dict]] = field(default_factory=dict)
    history: list[dict] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    nondeterminism: list[str] | None = None
    schema_version: int = SCHEMA_VERSION

    def add_validation(self, row: dict) -> None:
        """Append a validation; rows of the same or later updates, left by a run that was resumed, are replaced."""
        self.history = [old for old in self.history if old["updates"] < row["updates"]] + [row]

    def add_figures(self, split: str, checkpoint: str, figures: dict) -> None:
        """Set or replace figures of one checkpoint on one split; other figures of the same checkpoint stay."""
        self.figures.setdefault(split, {}).setdefault(checkpoint, {}).update(figures)


class _Figures(msgspec.Struct):
    """What is checked of the figures of a checkpoint."""

    top1: Percent | None = None
    top5: Percent | None = None
    bleu: Percent | None = None
    tokenised_lowercased_bleu: Percent | None = None
    samples: Annotated[float, Meta(ge=0)] | None = None


def write_run(record: RunRecord, directory: str | os.PathLike) -> None:
    """Write ``summary.csv`` and ``run.json`` into ``directory``, each in one step.

    The record last: after a kill between the two it is behind, and who goes on with the run writes both again.
    """
    record.updated = now()
    text = json_text(asdict(record))
    if record.history:
        columns = list(dict.fromkeys(key for row in record.history for key in row))
        table = io.StringIO()
        writer = csv.DictWriter(table, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(record.history)
        write_text(Path(directory) / "summary.csv", table.getvalue())
    write_text(Path(directory) / "run.json", text)


@contextlib.contextmanager
def locked(directory: str | os.PathLike) -> Iterator[None]:
    """Keep other processes that ask for it from changing the record in an existing ``directory``; no file is left."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks: two may then come at the same moment
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def add_to_run(directory: str | os.PathLike, split: str, checkpoint: str, figures: dict) -> None:
    """Add figures of a checkpoint to the record in ``directory`` as it is now: its training may have gone on meanwhile.

    Raises:
        InputError: there is no record, or it cannot be read.
    """
    with locked(directory):
        if (record := read_run(directory)) is None:
            raise input_error("run record", Path(directory) / "run.json", "was there before, and is gone")
        record.add_figures(split, checkpoint, figures)
        write_run(record, directory)


def write_training_record(record: RunRecord, directory: str | os.PathLike, checkpoints: Sequence[str]) -> None:
    """Write the record of a training that goes on, with the figures that others have added to its file meanwhile.

    Args:
        record: of the training.
        directory: of the run.
        checkpoints: those whose figures on ``valid`` are the training's own, and new.
    """
    with locked(directory):
        found = read_run(directory)
        if found is not None and found.started == record.started:
            own = {name: record.figures["valid"][name] for name in checkpoints}
            record.figures = found.figures | {"valid": found.figures.get("valid", {}) | own}
        write_run(record, directory)


def unfinished(record: RunRecord) -> str | None:
    """How far a training of images came that is short of its end, in words; None where it is done, or nobody knows.

    >>> unfinished(RunRecord({"host": {"epochs": 90}}, seed=1, data={}, history=[{"epoch": 30, "updates": 3000}]))
    'ended after 30 of 90 epochs'
    """
    epochs = look_up(record.configuration, "host", "epochs")
    done = look_up(record.history[-1], "epoch") if record.history else None
    if isinstance(epochs, int) and isinstance(done, int) and done < epochs:
        return f"ended after {done} of {epochs} epochs"
    return None


def read_run(directory: str | os.PathLike) -> RunRecord | None:
    """The record in ``directory``, or None where there is none.

    Raises:
        InputError: ``run.json`` is not a record, or was written by a newer version of the project.
    """
    path = Path(directory) / "run.json"
    try:
        version = read_json(path, Versioned).schema_version
    except (FileNotFoundError, NotADirectoryError):
        return None
    if version > SCHEMA_VERSION:
        raise input_error(
            "run record", path, f"has schema version {version}, this version of lskd reads up to {SCHEMA_VERSION}"
        )
    record = read_json(path, RunRecord)
    for split, checkpoints in record.figures.items():
        for figures in checkpoints.values():
            convert(figures, _Figures, f"{path}: figures of {split}")
    return record


def is_number(value: object) -> bool:
    """Whether a value of a JSON file is a finite number, or None."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST
    return value is None or number


def look_up(content: object, *keys: str) -> object:
    """What is below ``keys`` in dictionaries within each other, None where they do not go so far.

    >>> look_up({"teacher": {"label_smoothing": None}}, "teacher", "label_smoothing", "alpha")
    """
    for key in keys:
        content = content.get(key) if isinstance(content, dict) else None
    return content


def teacher_smoothing(made: dict) -> float | None:
    """α of a student's teacher, of any other model its own; None where nobody knows.

    Args:
        made: a run record as a dictionary, or the provenance of a representation file, which has the same words.
    """
    if made.get("teacher"):
        return look_up(made, "teacher", "label_smoothing", "alpha")
    return look_up(made, "configuration", "label_smoothing")


@dataclass(frozen=True)
class TrainingTime:
    """How long a model was trained, as far as validations recorded it.

    Attributes:
        seconds: that its process took, wall clock.
        together: how many models the process trained in the last epoch; None where nobody knows.
        own: the model's share of the seconds, equal parts; None where nobody knows.
    """

    seconds: float
    together: int | None
    own: float | None


def training_time(record: RunRecord) -> TrainingTime | None:
    """The time of a training; None where nothing was recorded.

    Models of images that are trained in one process share its time, so their ``seconds`` must not be added up. Records
    of older versions do not say how many there were. A translation has a process of its own.
    """
    if not record.history or record.history[-1].get("seconds") is None:
        return None
    alone = 1 if is_translation(record) else None
    own, before = 0.0, 0.0
    for row in record.history:
        seconds, together = row.get("seconds"), row.get("together", alone)
        together = together if together and together >= 1 else None
        own = None if None in (own, together, seconds) else own + (seconds - before) / together
        before = seconds or before
    return TrainingTime(before, together, own)


def is_translation(record: RunRecord) -> bool:
    """Whether a run is of fairseq, not of timm."""
    return "pair" in record.data or "task" in record.configuration.get("host", {})


def data_name(data: object) -> str | None:
    """What a run's or a representation file's data set is called: timm's name, a directory's; None if nobody knows.

    >>> data_name({"dataset": "torch/fashion_mnist"}), data_name({"dataset": "folders", "path": "/data/cub200"})
    ('fashion_mnist', 'cub200')
    """
    name = look_up(data, "dataset")
    if isinstance(name, str) and name not in ("folders", "lskd/arrays"):
        return name.rpartition("/")[2]
    path = look_up(data, "path")
    return Path(path).name or None if isinstance(path, str) else None


def deciding_settings(settings: dict, prefix: str = "") -> dict[str, str]:
    """Settings that decide about a training's result beside data, teacher, T and seed: JSON by their full names.

    What is off is left out, as is what an older version did not have.

    >>> deciding_settings({"epochs": 3, "mixup": 0, "workers": 4, "model": {"arch": "net"}})
    {'epochs': '3', 'model.arch': '"net"'}
    """
    found: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            found |= deciding_settings(value, f"{prefix}{name}.")
        elif name not in INDIFFERENT and value not in (None, False, "", 0, []):
            found[prefix + name] = json.dumps(value, ensure_ascii=False)
    return found


def now() -> str:
    """The time, ISO 8601, UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that decide a result; those not installed are left out."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    if torch := sys.modules.get("torch"):
        found["torch"] = str(torch.__version__)  # with the build, as in 2.15.0+cpu
    return found


def hardware() -> dict:
    """The processor's name, the cores this process may use; torch's threads and GPUs where torch is loaded."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = {"processor": _processor(), "cores": cores}
    if torch := sys.modules.get("torch"):
        found["threads"] = torch.get_num_threads()
        found["gpus"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        if found["gpus"]:
            found["tf32"] = torch.backends.cuda.matmul.allow_tf32  # rounds factors to 11 bits
    return found


def source_revision() -> str | None:
    """The git commit of the source that runs, with ``+changes`` where files differ from it; None outside a checkout."""
    here = Path(__file__).resolve().parents[2]
    git = ["git", "-C", str(here)]
    try:
        found = subprocess.run(
            [*git, "rev-parse", "--show-toplevel", "HEAD"], capture_output=True, text=True, check=True
        )
        changes = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    top, revision = found.stdout.splitlines()
    if Path(top).resolve() != here:  # installed somewhere below another project's checkout
        return None
    tracked = [line for line in changes.stdout.splitlines() if not line.startswith("??")]
    return revision + ("+changes" if tracked else "")


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
