"""The run record of an image model, and the same information in its checkpoints."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lskd.io.errors import InputError
from lskd.measure.teacher_smoothing import temperature_warnings
from lskd.records.determinism import nondeterminism, switches
from lskd.records.runs import INCIDENTAL, RunRecord, read_run
from lskd_vision.checkpoints import Checkpoint
from lskd_vision.config import DatasetConfig, EvaluationConfig, TrainingConfig
from lskd_vision.data import DataConfig, Split, fingerprint, read_split

IMAGE_READING = ("input_img_mode", "max_pixel_value")  # of an image, besides the data configuration
CHECKPOINTS = LAST, BEST = "last.pth.tar", "model_best.pth.tar"  # of every run, in its directory


def new_record(
    config: TrainingConfig,
    data_config: DataConfig,
    data_record: dict[str, Any],
    teacher_record: dict[str, Any] | None,
) -> RunRecord:
    """Make the record of a new training; ``teacher_record`` is for a student, see :meth:`Teacher.record`."""
    loss, temperature = config.distillation, config.distillation.temperature
    args = stored_args(config, len(data_record["classes"]))
    configuration = {
        "temperature": temperature,
        "student_temperature": loss.loss_settings().student_temperature if loss.distils else None,
        "kd_weight": 1 - loss.task_loss_weight if loss.distils else 0.0,
        "label_smoothing": loss.smoothing,
        "teacher_topk": 0,
        "kd_loss_type": ("feature" if loss.kd_distill_type == "feature" else loss.kd_loss) if loss.distils else None,
        "nckd_weight": loss.loss_settings().nckd_weight if loss.kd_loss == "decoupled" else None,
        "kd_gradient_scale": loss.kd_gradient_scale if loss.distils else None,
        "temperature_schedule": loss.kd_temperature_schedule if loss.distils else None,
        "final_temperature": loss.kd_final_temperature,
        "model": config.model.model,
        "host": args | {"data_config": plain(data_config)},
    }
    return RunRecord(
        configuration=configuration,
        seed=config.run.seed,
        data=data_record,
        teacher=teacher_record,
        warnings=temperature_warnings(teacher_record["label_smoothing"], loss.highest_temperature)
        if teacher_record
        else [],
        nondeterminism=nondeterminism(
            config.device.torch_device.type,
            config.processes.world_size,
            compiled=bool(loss.distils or config.run.torchcompile),  # the distillation loss is compiled on a GPU
            switches=switches(),
        ),
    )


def stored_args(config: TrainingConfig, num_classes: int) -> dict[str, Any]:
    """A training's configuration as stored in its record and its checkpoints: plain values under timm's names."""
    return plain(config.stored() | {"num_classes": num_classes})


def own_settings(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Select, of the settings that a record stores under ``host``, those that change the result of a training."""
    return {key: value for key, value in arguments.items() if key not in INCIDENTAL and key != "data_config"}


def own_record(checkpoint: Checkpoint) -> RunRecord | None:
    """The record of the run that wrote a checkpoint, if it is still beside it.

    The run may have been resumed since, with other options that do not change its result.
    """
    record = read_run(checkpoint.path.parent)
    if record is None:
        return None
    made, made_too = (_made(each) for each in (record.configuration, checkpoint.provenance.get("configuration") or {}))
    return record if made == made_too else None


def _made(configuration: Mapping[str, Any]) -> dict[str, Any]:
    host = configuration.get("host")
    return {**configuration, "host": own_settings(host) if isinstance(host, Mapping) else None}


def other_images(
    record: RunRecord, config: EvaluationConfig, split: str, data: Split, data_config: DataConfig
) -> str | None:
    """How images or their preprocessing differ from those of a run; None if they do not.

    Args:
        record: the run's record.
        config: the configuration with which the images were loaded.
        split: the split's name.
        data: the split.
        data_config: the model's data configuration.
    """
    host = record.configuration["host"]
    theirs = host["data_config"] | {name: host.get(name) for name in IMAGE_READING}
    ours = plain({**data_config} | {name: getattr(config.input, name) for name in IMAGE_READING})
    for name, value in ours.items():
        if value != theirs.get(name):
            return f"{name} is {value}, and was {theirs.get(name)} in the training"
    if _is_of(record.data, host, config.dataset, split, data):
        return None
    return f"{config.dataset.data_dir}, split {split}, has other images or labels than the run's data"


def _is_of(
    recorded: Mapping[str, Any], host: Mapping[str, Any], config: DatasetConfig, split: str, data: Split
) -> bool:
    """Whether a split belongs to the data in a run's record."""
    known = recorded.get("split_fingerprints", {})  # earlier versions wrote one for both splits together
    if split in known:
        return fingerprint(data) == known[split]
    names = host["train_split"], host["val_split"]
    try:
        splits = [data if name == split else read_split(config, name) for name in names]
    except (InputError, OSError):
        return False
    return fingerprint(*splits) == recorded["fingerprint"]


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Convert values to types that JSON and safe checkpoints can hold: paths to strings, tuples to lists."""

    def convert(value: object) -> object:
        if isinstance(value, Path):
            return str(value)
        if isinstance(value, (list, tuple)):
            return [convert(each) for each in value]
        if isinstance(value, dict):
            return {str(key): convert(each) for key, each in value.items()}
        return value

    return {key: convert(value) for key, value in values.items()}
