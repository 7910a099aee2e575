"""Load the teachers of a command, each once, however many students it has."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lskd.io.errors import input_error
from lskd.io.joined_paths import joined_paths
from lskd_vision.config import TrainingConfig
from lskd_vision.data import Data, DataConfig
from lskd_vision.ensemble import Ensemble
from lskd_vision.loss_config import DistillationConfig
from lskd_vision.teacher import Teacher, load_teacher


def load_teachers(
    configs: Sequence[TrainingConfig], data: Data, data_configs: Sequence[DataConfig]
) -> dict[tuple[Any, Any], Teacher]:
    """Load the teachers, by configured name and checkpoint, each checked against the data and the students' input.

    Raises:
        InputError: one cannot be used, see :func:`lskd_vision.teacher.load_teacher`.
    """
    inputs = {each["input_size"] for each in data_configs}
    teachers: dict[tuple[Any, Any], Teacher] = {}
    for config in configs:
        loss, device = config.distillation, config.device.torch_device
        key = loss.kd_model_name, loss.kd_checkpoint
        if not loss.distils or key in teachers:
            continue
        paths = member_paths(loss.kd_checkpoint)
        check_ensemble(paths, loss, [path for _, path in teachers])
        kind = {"features": loss.kd_distill_type == "overhaul", "pooled_features": loss.kd_distill_type == "feature"}
        kind |= {"use_batch_statistics": loss.kd_batch_statistics}
        members = [
            load_teacher(loss.kd_model_name, path, data.class_names, inputs, device, **kind) for path in paths or [None]
        ]
        teacher = members[0] if len(members) == 1 else Ensemble(members)
        teacher.speed_up(max(inputs), config.device.channels_last, config.run.torchcompile)
        teachers[key] = teacher
    return teachers


def member_paths(path: Path | None) -> list[Path]:
    """Split ``--kd-checkpoint A:B`` into the checkpoints of an ensemble; one, or none without a checkpoint.

    Raises:
        InputError: one of several is empty.

    >>> [str(each) for each in member_paths(Path("a.pth.tar:runs/b.pth.tar"))]
    ['a.pth.tar', 'runs/b.pth.tar']
    """
    return [] if path is None else [Path(part) for part in joined_paths("--kd-checkpoint", str(path))]


def check_ensemble(paths: Sequence[Path], loss: DistillationConfig, others: Sequence[Path | None] = ()) -> None:
    """Check the checkpoints of an ensemble, and that only its mean probabilities are distilled.

    Args:
        paths: its checkpoints; nothing is checked for fewer than two.
        loss: its students' configuration.
        others: the command's earlier teachers.

    Raises:
        InputError: a checkpoint is repeated, or the ensemble is in another order, or the loss needs a single teacher.
    """
    if len(paths) < 2:
        return
    if any(set(member_paths(other)) == set(paths) for other in others if other is not None):
        raise input_error("--kd-checkpoint", loss.kd_checkpoint, "must not repeat an ensemble, in another order either")
    if loss.kd_loss == "wttm":
        raise input_error("--kd-loss", "wttm", "must be another: it weighs images by one teacher, not by an ensemble")
    repeated = next((path for path in paths if paths.count(path) > 1), None)
    if repeated is not None:
        raise input_error("--kd-checkpoint", repeated, "must not be repeated in an ensemble")
    if (kind := loss.kd_distill_type) in ("overhaul", "feature"):
        raise input_error("--kd-distill-type", kind, "must be logit or token: an ensemble has no features")
    if loss.learns_class:
        raise input_error("--kd-token-distill-type", "hard", "must be soft: an ensemble averages probabilities")
