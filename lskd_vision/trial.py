"""Try out each model of a command before any is trained: build it, and run it on a few images of the real size."""

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lskd.io.errors import InputError, input_error
from lskd_vision.feature_distillation import StudentWithConnectors, feature_loss
from lskd_vision.models import by, check_input, check_logits, first_line
from lskd_vision.pooled_features import StudentWithProjection, check_width
from lskd_vision.randomness import RandomStream
from lskd_vision.run import TrainingRun
from lskd_vision.teacher import Teacher


def try_out(runs: Sequence[TrainingRun]) -> None:
    """Build each kind of model that is to be trained, and run it on images, in eval mode and in training.

    The models are discarded, and no other random numbers change.

    Raises:
        InputError: a model cannot be built, its initial weights do not fit, or it cannot take the images.
    """
    for run in {run.kind: run for run in runs}.values():
        config, name, input_size = run.config, run.config.model.model, run.data_config["input_size"]
        device = config.device.torch_device
        together = config.processes.world_size if config.model.sync_bn else 1
        model = run.build_model().to(device)
        wrapped = isinstance(model, StudentWithConnectors | StudentWithProjection)
        check_input(model.student if wrapped else model, input_size, "--model", name)
        with RandomStream(device, config.run.seed):
            classes, images = len(run.class_names), config.optimisation.batch_size * together
            check_training(_forward(run, model.train()), classes, input_size, images, name, device)


def _forward(run: TrainingRun, model: torch.nn.Module) -> Callable[[Tensor], Tensor]:
    """A run's forward pass to the logits; it also computes the loss of features, which fails if they do not fit."""
    teacher = run.teacher
    if run.config.distillation.kd_distill_type == "token":
        return functools.partial(_first_of_two, model, run.config.model.model)
    if teacher is None or not run.distils_features:
        return model
    if isinstance(model, StudentWithProjection):
        return functools.partial(_first_of_features, model, run.config.model.model, teacher)

    def forward(images: Tensor) -> Tensor:
        logits, features = model(images, with_features=True)
        feature_loss(features, teacher(images).features, teacher.margins())
        return logits

    return forward


def _first_of_two(model: torch.nn.Module, name: str, images: Tensor) -> Tensor:
    """The logits of the labels' head. Raises InputError: the model has no other head."""
    heads = model(images)
    if not isinstance(heads, tuple) or len(heads) != 2:
        raise input_error("--model", name, "must have a head for the teacher, for --kd-distill-type token")
    return heads[0]


def _first_of_features(model: StudentWithProjection, name: str, teacher: Teacher, images: Tensor) -> Tensor:
    """The logits of a student. Raises InputError: it or its teacher does not give the expected features."""
    check_width(model.student, images, "--model", name)
    check_width(teacher.model, images, *teacher.named)
    return model(images)[0]


def check_training(
    forward: Callable[[Tensor], Tensor],
    num_classes: int,
    input_size: Sequence[int],
    batch_size: int,
    name: str,
    device: torch.device,
) -> None:
    """Check that a model in training mode gives logits for a batch of images.

    Args:
        forward: from images (N, C, H, W) to logits; it may change the model's statistics.
        num_classes: the number of logits per image.
        input_size: channels, height, width.
        batch_size: images in a step; two are tried for any larger number.
        name: the model's name.
        device: where the model is.

    Raises:
        InputError: it does not; naming ``--batch-size`` if it does with two images, as with a BatchNorm over one value.
    """

    def failure(images: int) -> str | None:
        try:
            with torch.no_grad():
                check_logits(forward(torch.zeros(images, *input_size, device=device)), images, num_classes)
        except InputError:
            raise
        except (AssertionError, RuntimeError, ValueError) as error:
            return first_line(error)
        return None

    if (why := failure(min(batch_size, 2))) is None:
        return
    if batch_size == 1 and failure(2) is None:
        raise input_error("--batch-size", 1, f"must be at least 2 for {name} and images of {by(input_size)}: {why}")
    raise input_error("--model", name, f"cannot be trained on images of {by(input_size)}, see --img-size: {why}")
