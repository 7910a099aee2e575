"""Build configurations from command-line flags, one for each combination of their values."""

import argparse
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from lskd.io.errors import input_error
from lskd_vision.augmentation_config import AugmentationConfig, MixingConfig
from lskd_vision.config import (
    DatasetConfig,
    DeviceConfig,
    EvaluationConfig,
    InputConfig,
    LoaderConfig,
    ModelConfig,
    OptimisationConfig,
    RunConfig,
    TrainingConfig,
)
from lskd_vision.config_values import flag, spaced
from lskd_vision.loss_config import DistillationConfig, TaskLossConfig
from lskd_vision.run_record import LAST


class _Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Any]]


T = TypeVar("T", bound=_Dataclass)
STUDENT_RECIPE = {"epochs": 200, "decay_epochs": 80, "warmup_epochs": 5}  # the paper's, on ImageNet


def training_configs(arguments: argparse.Namespace) -> list[TrainingConfig]:
    """Build a configuration for each model, smoothing, teacher, seed and temperature, the last varying fastest.

    Args:
        arguments: from :func:`lskd_vision.options.parser`: only the flags that were given.

    Raises:
        InputError: flags do not fit together, or a value is repeated.
    """
    given = with_place_of_resumed(vars(arguments))
    if not arguments.data_dir.is_dir() and not given.get("dataset_download"):
        raise input_error("--data-dir", arguments.data_dir, "must be the directory of the data set")
    teachers = _teachers(given.get("kd_model_name"), given.get("kd_checkpoint"))
    combined: dict[str, list[Any]] = {
        "model": given.get("model", [ModelConfig.model]),
        "smoothing": given.get("smoothing", [DistillationConfig.smoothing]),
        "teacher": teachers or [{}],
        "seed": given.get("seed", [RunConfig.seed]),
        "kd_temperature": list(itertools.chain(*given.get("kd_temperature", [[DistillationConfig.kd_temperature]]))),
    }
    for name in ("model", "seed", "kd_temperature", "smoothing"):
        _check_different(name, combined[name])
    if teachers and len(combined["smoothing"]) > 1:
        valid = "must be one value beside a teacher: it is the hard-label loss's"
        raise input_error("--smoothing", spaced(combined["smoothing"]), valid)
    if not teachers and len(combined["kd_temperature"]) > 1:
        raise input_error("--kd-temperature", spaced(combined["kd_temperature"]), "needs a teacher: --kd-checkpoint")
    configs = []
    for values in itertools.product(*combined.values()):
        one = dict(zip(combined, values, strict=True))
        configs.append(training_config({**given, **one, **one["teacher"]}))
    return configs


def with_place_of_resumed(given: dict[str, Any]) -> dict[str, Any]:
    """Turn ``--resume FILE`` into a switch and that run's ``--output`` and ``--experiment``, unless these are given.

    Raises:
        InputError: FILE is not the last checkpoint of a run.
    """
    file = given.get("resume")
    if not isinstance(file, Path):
        return given
    if file.name != LAST or not file.is_file():
        valid = f"must be the {LAST} of a run; --initial-checkpoint starts from the weights of another file"
        raise input_error("--resume", file, valid)
    study = file.resolve().parent.parent
    place = {} if "output" in given or "experiment" in given else {"output": study.parent, "experiment": study.name}
    return given | place | {"resume": True}


def check_resumed(given: Mapping[str, Any], directories: Sequence[Path]) -> None:
    """Check that the file given to ``--resume`` belongs to a run of this command. Raises InputError."""
    file = given.get("resume")
    if isinstance(file, Path) and file.resolve().parent not in [each.resolve() for each in directories]:
        valid = f"must be of a run of this command: {', '.join(map(str, directories[:3]))}"
        raise input_error("--resume", file, valid)


def check_num_classes(given: Mapping[str, Any], of_data: int) -> None:
    """Check that ``--num-classes``, if given, is the data's number of classes. Raises InputError."""
    if given.get("num_classes", of_data) != of_data:
        raise input_error("--num-classes", given["num_classes"], f"must be {of_data}, as many as the data have")


def _teachers(names: Sequence[str] | None, checkpoints: Sequence[Path] | None) -> list[Mapping[str, Any]]:
    """The model name and the checkpoint of each teacher, as flags; either may be None."""
    _check_different("kd_checkpoint", checkpoints or ())
    if not checkpoints:
        _check_different("kd_model_name", names or ())
        return [{"kd_model_name": name, "kd_checkpoint": None} for name in names or ()]
    models: list[str | None] = [*names] if names else [None]
    if len(models) == 1:
        models *= len(checkpoints)
    if len(models) != len(checkpoints):
        valid = f"must be one, or as many as checkpoints: {len(checkpoints)}"
        raise input_error("--kd-model-name", spaced(models), valid)
    return [{"kd_model_name": name, "kd_checkpoint": path} for name, path in zip(models, checkpoints, strict=True)]


def _check_different(name: str, values: Sequence[object]) -> None:
    """Check that no value is repeated. Raises InputError."""
    if len(set(values)) < len(values):
        raise input_error(flag(name), spaced(values), "must not repeat a value")


def evaluation_config(given: Mapping[str, Any]) -> EvaluationConfig:
    """Build the configuration of an evaluation from the given flags."""
    return EvaluationConfig(
        dataset=from_flags(DatasetConfig, given),
        input=from_flags(InputConfig, given),
        loader=from_flags(LoaderConfig, given),
        device=from_flags(DeviceConfig, given),
    )


def training_config(given: Mapping[str, Any]) -> TrainingConfig:
    """Build the configuration of one training run from the given flags, each with one value.

    Raises:
        InputError: flags do not fit together.
    """
    distillation = from_flags(DistillationConfig, given)
    recipe = STUDENT_RECIPE if distillation.distils else {}
    return TrainingConfig(
        dataset=from_flags(DatasetConfig, given),
        input=from_flags(InputConfig, given),
        loader=from_flags(LoaderConfig, given),
        model=from_flags(ModelConfig, given),
        distillation=distillation,
        optimisation=from_flags(OptimisationConfig, recipe | dict(given)),
        task_loss=from_flags(TaskLossConfig, given),
        mixing=from_flags(MixingConfig, given),
        augmentation=from_flags(AugmentationConfig, given),
        device=from_flags(DeviceConfig, given),
        run=from_flags(RunConfig, given),
        config=given.get("config"),
    )


def from_flags(role: type[T], given: Mapping[str, Any]) -> T:
    """Build a configuration class from the flags that are its fields; other fields keep their defaults.

    Lists become tuples.
    """
    names = {each.name for each in fields(role)} & given.keys()
    return role(**{name: tuple(value) if isinstance(value := given[name], list) else value for name in names})
