"""The run record of a fairseq training: its configuration and data, updated with every checkpoint."""

import hashlib
import math
import os
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from fairseq import utils
from fairseq.data.iterators import EpochBatchIterator
from fairseq.logging import metrics
from fairseq.tasks.translation import TranslationTask
from fairseq.trainer import Trainer
from omegaconf import DictConfig, OmegaConf

from lskd.io.files import sha256
from lskd.loss.checks import check_settings
from lskd.records.determinism import nondeterminism, switches
from lskd.records.provenance import now
from lskd.records.runs import RunRecord, read_run, write_training_record
from lskd_fairseq import options
from lskd_fairseq.batch import Batch
from lskd_fairseq.teacher_checks import PairedData, dictionary_fingerprint
from lskd_fairseq.text import manifest

LAST = "checkpoint_last.pt"  # of every run; the default of --restore-file
# A legacy model or optimizer holds all of fairseq's options; these prefixes are those of its own.
ARCHITECTURE = (
    "arch",
    "_name",
    "encoder",
    "decoder",
    "share_",
    "dropout",
    "attention_dropout",
    "activation_",
    "layernorm",
)
OPTIMIZER = ("optimizer", "_name", "lr", "adam_", "momentum", "weight_decay", "fp16_adam")


class RecordedTrainer(Trainer):
    """fairseq's trainer with the attributes that :mod:`lskd_fairseq.hooks` adds to it; a type for annotations only.

    Attributes:
        cfg: fairseq's complete configuration.
        lskd_record: the run's record.
        lskd_samples: the batches of the current step.
        lskd_validation: the metrics of the latest validation.
    """

    cfg: Any
    lskd_record: RunRecord
    lskd_samples: list[Batch]
    lskd_validation: dict[str, Any]


def record_of(trainer: RecordedTrainer) -> RunRecord:
    """The record of a trainer's run: created at its first checkpoint, or read from ``run.json`` if it was resumed."""
    if (record := getattr(trainer, "lskd_record", None)) is not None:
        return record
    record = new_record(trainer.cfg, trainer.get_criterion(), trainer.task)
    if trainer._optim_history:  # a checkpoint was restored; nothing else in fairseq shows it
        with options.exit_on_input_error():
            earlier = read_run(trainer.cfg.checkpoint.save_dir)
        if earlier is not None:
            record.started, record.metrics, record.history = earlier.started, earlier.metrics, earlier.history
    trainer.lskd_record = record
    return record


def new_record(cfg: DictConfig, criterion: Any, task: TranslationTask) -> RunRecord:
    """The record of a new run, from fairseq's complete configuration; only our criterion has a teacher."""
    teacher, data = getattr(criterion, "teacher", None), PairedData.of(task)
    data_directory = utils.split_paths(cfg.task.data)[0]
    return RunRecord(
        configuration=_shared_settings(cfg.criterion, len(task.target_dictionary)) | {"host": _host_settings(cfg)},
        seed=cfg.common.seed,
        data={
            "path": os.path.abspath(data_directory),
            "fingerprint": data_fingerprint(utils.split_paths(cfg.task.data)),
            "pair": data.pair,
            "dictionaries": {side: dictionary_fingerprint(each) for side, each in data.dictionaries.items()},
        }
        | ({"distilled": distilled} if (distilled := manifest(data_directory).get("distilled")) else {}),
        teacher=teacher and teacher.record(),
        warnings=criterion.warnings() if teacher else [],
        nondeterminism=nondeterminism(
            "cuda" if torch.cuda.is_available() and not cfg.common.cpu else "cpu",
            cfg.distributed_training.distributed_world_size,
            compiled=teacher is not None,  # the distillation loss is compiled on a GPU
            switches=switches(),
        ),
    )


def provenance(record: RunRecord) -> dict[str, Any]:
    """How a checkpoint was made, for the checkpoint itself: plain values, so that it loads safely anywhere."""
    return {
        "configuration": {key: value for key, value in record.configuration.items() if key != "host"},
        "seed": record.seed,
        "data": record.data,
        "teacher": record.teacher,
        "versions": record.versions,
        "hardware": record.hardware,
        "nondeterminism": record.nondeterminism,
        "figures": {"valid": record.metrics["valid"][LAST]},
        "revision": record.revision,
    }


def add_validation(record: RunRecord, trainer: RecordedTrainer, epoch_itr: EpochBatchIterator) -> None:
    """Add the latest validation to the record, and the teacher's scores if it was scored."""
    # Removed from the trainer, so that a checkpoint without a validation does not get the previous metrics.
    validation = {key: utils.item(value) for key, value in vars(trainer).pop("lskd_validation", {}).items()}
    row = {"epoch": epoch_itr.epoch, "updates": trainer.get_num_updates(), "time": now()}
    row |= {"seconds": round(float(trainer.cumulative_training_time()), 1)}
    found = {f"valid_{key}": value for key, value in validation.items()}
    meters = metrics.get_meters("train")  # of the epoch so far
    if meters is not None and "kd_gradient_ratio" in meters:
        found["train_kd_gradient_ratio"] = meters.get_smoothed_value("kd_gradient_ratio")
    row |= {key: value for key, value in found.items() if isinstance(value, (int, float)) and math.isfinite(value)}
    record.add_validation(row)
    put_history(record, record.history)
    if record.teacher is not None and (scores := getattr(trainer.task, "teacher_scores", None)):
        record.teacher["valid"] = scores


def put_history(record: RunRecord, history: list[dict[str, Any]]) -> None:
    """Set the rows of a record's history; the metrics of the last row are those of the last checkpoint."""
    record.history = history
    metrics = {key.removeprefix("valid_"): each for key, each in history[-1].items() if key.startswith("valid_")}
    record.add_metrics("valid", LAST, metrics)


def write_record(record: RunRecord, directory: str) -> None:
    """Write the record of a training, keeping scores that other commands have added to its file in the meantime."""
    write_training_record(record, directory, [LAST])


def data_fingerprint(directories: Sequence[str]) -> str:
    """SHA-256 over the dictionaries and binarised sentences of a data set."""
    digest = hashlib.sha256()
    for directory in directories:
        for path in sorted(Path(directory).iterdir()):
            if path.suffix in (".bin", ".idx") or path.name.startswith("dict."):
                digest.update(f"{path.name} {sha256(path)}\n".encode())
    return digest.hexdigest()


def _shared_settings(criterion: DictConfig, vocabulary: int) -> dict[str, Any]:
    if criterion._name in options.CRITERIONS:
        nckd_weight = check_settings(**options.loss_arguments(criterion)).nckd_weight
        kd = {
            "temperature": criterion.temperature,
            "student_temperature": options.student_temperature_of(criterion),
            "kd_weight": criterion.kd_weight,
            "teacher_topk": criterion.teacher_topk,
            "kd_loss_type": criterion.kd_loss,
            "nckd_weight": nckd_weight if criterion.kd_loss == "decoupled" else None,
            "kd_gradient_scale": criterion.kd_gradient_scale,
            "temperature_schedule": criterion.kd_temperature_schedule,
            "final_temperature": criterion.kd_final_temperature,
        }
    else:
        kd = {"temperature": None, "student_temperature": None, "kd_weight": 0.0, "teacher_topk": 0}
    epsilon = float(getattr(criterion, "label_smoothing", None) or 0.0)
    smoothing = {"label_smoothing": options.paper_alpha(epsilon, vocabulary), "label_smoothing_epsilon": epsilon}
    return kd | smoothing


def _host_settings(cfg: DictConfig) -> dict[str, Any]:
    """fairseq's own settings, without the hundreds of options that a legacy architecture repeats."""
    settings = {name: plain(cfg[name]) for name in ("task", "criterion", "lr_scheduler", "optimization", "dataset")}
    for name, prefixes in (("model", ARCHITECTURE), ("optimizer", OPTIMIZER)):
        settings[name] = {key: value for key, value in sorted(plain(cfg[name]).items()) if key.startswith(prefixes)}
    return settings


def plain(section: DictConfig | Namespace) -> dict[str, Any]:
    """A section of fairseq's configuration as built-in types; legacy parts of fairseq use a Namespace."""
    values: Any = vars(section) if isinstance(section, Namespace) else None
    if values is None:
        values = OmegaConf.to_container(section, resolve=True, enum_to_str=True)
    # dict: hydra's sections may be nested; bytes: export.py stores kernel sizes so.
    builtin = (str, bytes, int, float, bool, list, dict, type(None))
    return {key: value for key, value in values.items() if isinstance(value, builtin)}
