"""The run record of a fairseq training: what it was made with, brought up to date with every checkpoint."""

import hashlib
import math
import os
from argparse import Namespace
from pathlib import Path

import torch
from fairseq import utils
from omegaconf import OmegaConf

from lskd.io.errors import InputError
from lskd.io.files import sha256
from lskd.records.determinism import nondeterminism, switches
from lskd.records.runs import RunRecord, now, read_run, write_training_record
from lskd_fairseq import options
from lskd_fairseq.teacher_checks import PairedData, dictionary_fingerprint

# Of the options of a legacy model or optimizer, which hold all of fairseq's, these are its own.
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


def record_of(trainer) -> RunRecord:
    """The record of a trainer's run: made at its first checkpoint, continued from ``run.json`` where it was resumed."""
    if (record := getattr(trainer, "lskd_record", None)) is not None:
        return record
    record = new_record(trainer.cfg, trainer.get_criterion(), trainer.task)
    if trainer._optim_history:  # a checkpoint was restored: fairseq says so nowhere else
        try:
            earlier = read_run(trainer.cfg.checkpoint.save_dir)
        except InputError as error:
            options.exit_with_error(error)
        if earlier is not None:
            record.started, record.figures, record.history = earlier.started, earlier.figures, earlier.history
    trainer.lskd_record = record
    return record


def new_record(cfg, criterion, task) -> RunRecord:
    """The record of a run that begins, from fairseq's whole configuration."""
    teacher, data = getattr(criterion, "teacher", None), PairedData.of(task)
    return RunRecord(
        configuration=_shared_settings(cfg.criterion, len(task.target_dictionary)) | {"host": _host_settings(cfg)},
        seed=cfg.common.seed,
        data={
            "path": os.path.abspath(utils.split_paths(cfg.task.data)[0]),
            "fingerprint": data_fingerprint(utils.split_paths(cfg.task.data)),
            "pair": data.pair,
            "dictionaries": {side: dictionary_fingerprint(each) for side, each in data.dictionaries.items()},
        },
        teacher=teacher and teacher.record(),
        warnings=criterion.warnings() if teacher else [],
        nondeterminism=nondeterminism(
            "cuda" if torch.cuda.is_available() and not cfg.common.cpu else "cpu",
            cfg.distributed_training.distributed_world_size,
            compiled=teacher is not None,  # the distillation loss is, on a GPU
            switches=switches(),
        ),
    )


def provenance(record: RunRecord) -> dict:
    """What a checkpoint remembers of how it was made: plain values, so that it loads safely anywhere."""
    return {
        "configuration": {key: value for key, value in record.configuration.items() if key != "host"},
        "seed": record.seed,
        "data": record.data,
        "teacher": record.teacher,
        "versions": record.versions,
        "hardware": record.hardware,
        "nondeterminism": record.nondeterminism,
        "figures": {"valid": record.figures["valid"]["checkpoint_last.pt"]},
        "revision": record.revision,
    }


def add_validation(record: RunRecord, trainer, epoch_itr) -> None:
    """Add the latest validation, and the teacher's own where it was scored, to the record."""
    # Taken away, so that a checkpoint that is saved without a validation does not get the last one's figures.
    validation = {key: utils.item(value) for key, value in vars(trainer).pop("lskd_validation", {}).items()}
    row = {"epoch": epoch_itr.epoch, "updates": trainer.get_num_updates(), "time": now()}
    row |= {"seconds": round(float(trainer.cumulative_training_time()), 1)}
    row |= {
        f"valid_{key}": value
        for key, value in validation.items()
        if isinstance(value, (int, float)) and math.isfinite(value)
    }
    record.add_validation(row)
    put_history(record, record.history)
    if record.teacher is not None and (scores := getattr(trainer.task, "teacher_scores", None)):
        record.teacher["valid"] = scores


def put_history(record: RunRecord, history: list[dict]) -> None:
    """Give a record these rows, and the last one's figures as those of the last checkpoint."""
    record.history = history
    figures = {key.removeprefix("valid_"): each for key, each in history[-1].items() if key.startswith("valid_")}
    record.add_figures("valid", "checkpoint_last.pt", figures)


def write_record(record: RunRecord, directory: str) -> None:
    """Write the record of a training, with the scores that others have added to its file since it was read."""
    write_training_record(record, directory, ["checkpoint_last.pt"])


def data_fingerprint(directories: list[str]) -> str:
    """One SHA-256 over the dictionaries and binarised sentences of a data set."""
    digest = hashlib.sha256()
    for directory in directories:
        for path in sorted(Path(directory).iterdir()):
            if path.suffix in (".bin", ".idx") or path.name.startswith("dict."):
                digest.update(f"{path.name} {sha256(path)}\n".encode())
    return digest.hexdigest()


def _shared_settings(criterion, vocabulary: int) -> dict:
    if criterion._name in options.CRITERIONS:
        kd = {
            "temperature": criterion.temperature,
            "student_temperature": options.student_temperature_of(criterion),
            "kd_weight": criterion.kd_weight,
            "teacher_topk": criterion.teacher_topk,
        }
    else:
        kd = {"temperature": None, "student_temperature": None, "kd_weight": 0.0, "teacher_topk": 0}
    epsilon = float(getattr(criterion, "label_smoothing", None) or 0.0)
    smoothing = {"label_smoothing": options.paper_alpha(epsilon, vocabulary), "label_smoothing_epsilon": epsilon}
    return kd | smoothing


def _host_settings(cfg) -> dict:
    """fairseq's own settings, without the hundreds that a legacy architecture's options repeat."""
    settings = {name: plain(cfg[name]) for name in ("task", "criterion", "lr_scheduler", "optimization", "dataset")}
    for name, prefixes in (("model", ARCHITECTURE), ("optimizer", OPTIMIZER)):
        settings[name] = {key: value for key, value in sorted(plain(cfg[name]).items()) if key.startswith(prefixes)}
    return settings


def plain(section) -> dict:
    """A section of fairseq's configuration as built-in types alone; legacy parts of fairseq use a Namespace."""
    if isinstance(section, Namespace):
        values = vars(section)
    else:
        values = OmegaConf.to_container(section, resolve=True, enum_to_str=True)
    # dict: what hydra configures has sections of its own; bytes: in an export, see there.
    builtin = (str, bytes, int, float, bool, list, dict, type(None))
    return {key: value for key, value in values.items() if isinstance(value, builtin)}
