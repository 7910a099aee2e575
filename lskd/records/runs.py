"""The record of a run: ``run.json`` beside its checkpoints, and ``summary.csv`` with a row for each validation.

A record says how a run was made (command, configuration, seed, data, teacher, versions, hardware) and holds its results
(``metrics``, with the unit, if any, in the name; the file calls them ``figures``). Image and translation runs use the
same names in ``configuration``: ``temperature``, ``student_temperature``, ``label_smoothing`` (the paper's α),
``kd_weight`` (β), ``teacher_topk``; and, missing in older records, ``kd_loss_type`` (``kd_loss`` is a value in the
history), ``nckd_weight``, ``kd_gradient_scale``, ``temperature_schedule`` and ``final_temperature``.
"""

import contextlib
import fcntl
import json
import os
import sys
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from lskd.io.errors import input_error
from lskd.io.files import json_text, write_text
from lskd.io.schema import Versioned, convert, read_json
from lskd.io.tables import csv_text
from lskd.records.provenance import hardware, now, source_revision, versions

SCHEMA_VERSION = 1
# Options of image and translation training for paths, speed and logging, which do not change the result.
INCIDENTAL = {"config", "output", "experiment", "resume", "group_size", "workers", "num_workers", "pin_mem", "device"}
INCIDENTAL |= {"debug", "data", "data_dir", "dataset_download", "rank", "local_rank", "distributed", "log_wandb"}
INCIDENTAL |= {"log_tensorboard", "wandb_project", "validation_batch_size", "max_tokens_valid", "batch_size_valid"}
INCIDENTAL |= {"teacher_path", "teacher_cache", "kd_checkpoint", "log_interval", "val_interval"}
# These, and the options in which the runs of a study differ anyway.
NOT_COMPARED = INCIDENTAL | {"seed", "data_seed", "temperature", "kd_temperature"}
NOT_COMPARED |= {"student_temperature", "kd_student_temperature"}
# Settings and options that older records do not have, with the values that were then in effect.
ADDED_OPTIONS = {"kd_loss": "kl", "kd_loss_type": "kl", "kd_gradient_scale": "t2", "temperature_schedule": "constant"}
ADDED_OPTIONS |= {"kd_temperature_schedule": "constant", "nckd_weight": None, "kd_nckd_weight": None}
ADDED_OPTIONS |= {"final_temperature": None, "kd_final_temperature": None}
ADDED_OPTIONS |= {"mixup": 0.0, "cutmix": 0.0, "mixup_prob": 1.0, "mixup_switch_prob": 0.5, "mixup_mode": "batch"}
ADDED_OPTIONS |= {"mixup_off_epoch": 0, "bce_loss": False, "bce_sum": False, "kd_token_distill_type": "soft"}
ADDED_OPTIONS |= {"patience_epochs": 10, "cooldown_epochs": 0, "plateau_mode": "max"}
Percent = Annotated[float, Meta(ge=0, le=100)]


class RunRecord(msgspec.Struct):
    """How a run was made and its results; :func:`write_run` and :func:`read_run` store it as ``run.json``.

    Attributes:
        configuration: the main settings, by the names above, and timm's or fairseq's own under ``host``.
        seed: the random seed of the run.
        data: ``path`` and ``fingerprint``, one SHA-256 over the prepared files.
        teacher: None, or ``paths``, ``fingerprint`` of the weights, ``label_smoothing`` with its source, ``valid``.
        metrics: results by split, then by checkpoint, such as ``metrics["test"]["checkpoint_best.pt"]["bleu"]``.
        history: a row for each validation, oldest first.
        warnings: what a reader of the results must know.
        nondeterminism: why a repetition may differ, see :mod:`lskd.records.determinism`; None if unknown, as in older
            records.
    """

    configuration: dict[str, Any]
    seed: int
    data: dict[str, Any]
    teacher: dict[str, Any] | None = None
    command: list[str] = msgspec.field(default_factory=lambda: [Path(sys.argv[0]).name, *sys.argv[1:]])
    versions: dict[str, Any] = msgspec.field(default_factory=versions)
    hardware: dict[str, Any] = msgspec.field(default_factory=hardware)
    revision: str | None = msgspec.field(default_factory=source_revision)
    started: str = msgspec.field(default_factory=now)
    updated: str = msgspec.field(default_factory=now)
    # Called "figures" in run.json since the first version.
    metrics: dict[str, dict[str, dict[str, Any]]] = msgspec.field(default_factory=dict, name="figures")
    history: list[dict[str, Any]] = msgspec.field(default_factory=list)
    warnings: list[str] = msgspec.field(default_factory=list)
    nondeterminism: list[str] | None = None
    schema_version: int = SCHEMA_VERSION

    def add_validation(self, row: dict[str, Any]) -> None:
        """Append a validation. It replaces rows of the same or a later update, left from before the run was resumed."""
        self.history = [old for old in self.history if old["updates"] < row["updates"]] + [row]

    def add_metrics(self, split: str, checkpoint: str, metrics: dict[str, Any]) -> None:
        """Set or replace metrics of a checkpoint on a split; its other metrics are kept."""
        self.metrics.setdefault(split, {}).setdefault(checkpoint, {}).update(metrics)


class _Metrics(msgspec.Struct):
    """The schema of a checkpoint's metrics."""

    top1: Percent | None = None
    top5: Percent | None = None
    bleu: Percent | None = None
    tokenised_lowercased_bleu: Percent | None = None
    teacher_agreement: Percent | None = None
    samples: Annotated[float, Meta(ge=0)] | None = None


def write_run(record: RunRecord, directory: str | os.PathLike[str]) -> None:
    """Write ``summary.csv`` and ``run.json`` into ``directory``, each atomically.

    The record is written last: if the process is killed in between, the record is the older one, and a resumed run
    writes both again.
    """
    record.updated = now()
    text = json_text({each.encode_name: getattr(record, each.name) for each in msgspec.structs.fields(record)})
    if record.history:
        write_text(Path(directory) / "summary.csv", csv_text(record.history))
    write_text(Path(directory) / "run.json", text)


@contextlib.contextmanager
def locked(directory: str | os.PathLike[str]) -> Generator[None]:
    """Lock the record in an existing ``directory`` against other processes, without a lock file."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks: two processes may then write at once
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def add_to_run(directory: str | os.PathLike[str], split: str, checkpoint: str, metrics: dict[str, Any]) -> None:
    """Add metrics of a checkpoint to the record in ``directory``, which a running training may have changed meanwhile.

    Raises:
        InputError: there is no record, or it cannot be read.
    """
    with locked(directory):
        record = read_existing_run(directory)
        record.add_metrics(split, checkpoint, metrics)
        write_run(record, directory)


def write_training_record(record: RunRecord, directory: str | os.PathLike[str], checkpoints: Sequence[str]) -> None:
    """Write the record of a running training, keeping metrics that other processes have added to the file meanwhile.

    Args:
        record: record of the training.
        directory: directory of the run.
        checkpoints: the checkpoints that training has just saved: their metrics on ``valid`` are taken from ``record``.
    """
    with locked(directory):
        found = read_run(directory)
        if found is not None and found.started == record.started:
            own, earlier = (each.metrics.get("valid", {}) for each in (record, found))
            valid = {name: metrics for name, metrics in earlier.items() if name not in checkpoints}
            valid |= {name: metrics for name, metrics in own.items() if name in checkpoints}
            record.metrics = found.metrics | {"valid": valid}
        write_run(record, directory)


def unfinished(record: RunRecord) -> str | None:
    """How far an unfinished image training came, in words; None if it is finished, or unknown.

    >>> unfinished(RunRecord({"host": {"epochs": 90}}, seed=1, data={}, history=[{"epoch": 30, "updates": 3000}]))
    'ended after 30 of 90 epochs'
    """
    epochs = look_up(record.configuration, "host", "epochs")
    done = look_up(record.history[-1], "epoch") if record.history else None
    if isinstance(epochs, int) and isinstance(done, int) and done < epochs:
        return f"ended after {done} of {epochs} epochs"
    return None


def read_run(directory: str | os.PathLike[str]) -> RunRecord | None:
    """Read the record in ``directory``; None if there is none.

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
    for split, checkpoints in record.metrics.items():
        for metrics in checkpoints.values():
            convert(metrics, _Metrics, f"{path}: figures of {split}")
    return record


def read_existing_run(directory: str | os.PathLike[str]) -> RunRecord:
    """Like :func:`read_run`, for a run that must have a record.

    Raises:
        InputError: there is no record, or it cannot be read.
    """
    if (record := read_run(directory)) is None:
        raise input_error("run record", Path(directory) / "run.json", "must exist")
    return record


def look_up(content: object, *keys: str) -> Any:
    """The value under ``keys`` in nested dictionaries; None if a key is missing.

    >>> look_up({"teacher": {"label_smoothing": None}}, "teacher", "label_smoothing", "alpha")
    """
    for key in keys:
        content = content.get(key) if isinstance(content, dict) else None
    return content


def teacher_smoothing(made: dict[str, Any]) -> float | None:
    """α of a student's teacher, or of the model itself if it has none; None if unknown.

    Args:
        made: a run record as a dictionary, or the provenance of a representation file, which has the same keys.
    """
    if made.get("teacher"):
        return look_up(made, "teacher", "label_smoothing", "alpha")
    return look_up(made, "configuration", "label_smoothing")


@dataclass(frozen=True)
class TrainingTime:
    """How long a model was trained, as recorded at its validations.

    Attributes:
        seconds: wall-clock time of its process.
        together: how many models the process trained together in the last epoch; None if unknown.
        own: the model's equal share of the seconds; None if unknown.
    """

    seconds: float
    together: int | None
    own: float | None


def training_time(record: RunRecord) -> TrainingTime | None:
    """The training time of a run; None if it was not recorded.

    Image models that are trained in one process share its time, so their ``seconds`` must not be added up. Records of
    older versions do not say how many there were. A translation model has its own process.
    """
    if not record.history or record.history[-1].get("seconds") is None:
        return None
    alone = 1 if is_translation(record) else None
    own: float | None = 0.0
    before, together = 0.0, None
    for row in record.history:
        seconds, together = row.get("seconds"), row.get("together", alone)
        together = together if together and together >= 1 else None
        own = None if own is None or together is None or seconds is None else own + (seconds - before) / together
        before = seconds or before
    return TrainingTime(before, together, own)


def is_translation(record: RunRecord) -> bool:
    """Whether a run is fairseq's, not timm's."""
    return "pair" in record.data or "task" in record.configuration.get("host", {})


def data_name(data: object) -> str | None:
    """The name of the data set of a run or a representation file: timm's, or the directory's; None if unknown.

    >>> data_name({"dataset": "torch/fashion_mnist"}), data_name({"dataset": "folders", "path": "/data/cub200"})
    ('fashion_mnist', 'cub200')
    """
    name = look_up(data, "dataset")
    if isinstance(name, str) and name not in ("folders", "lskd/arrays"):
        return name.rpartition("/")[2]
    path = look_up(data, "path")
    return Path(path).name or None if isinstance(path, str) else None


def deciding_settings(settings: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """The settings that affect the result, other than data, teacher, T and seed, as JSON by their full names.

    Those that are switched off are left out, as they are missing in records of older versions.

    >>> deciding_settings({"epochs": 3, "mixup": 0, "workers": 4, "model": {"arch": "net"}})
    {'epochs': '3', 'model.arch': '"net"'}
    """
    found: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            found |= deciding_settings(value, f"{prefix}{name}.")
        elif name not in NOT_COMPARED and value not in (None, False, "", 0, [], ADDED_OPTIONS.get(name)):
            found[prefix + name] = json.dumps(value, ensure_ascii=False)
    return found
