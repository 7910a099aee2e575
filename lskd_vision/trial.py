"""Try out each model of a command before any is trained: built as it will be, with a few images of the real size."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lskd.io.errors import InputError, input_error
from lskd_vision.feature_distillation import feature_loss
from lskd_vision.models import by, check_input, check_logits, first_line
from lskd_vision.randomness import RandomStream
from lskd_vision.run import Run


def try_out(runs: Sequence[Run], device: torch.device) -> None:
    """Build each kind of model that is to be trained, and give it images, in eval mode and in training.

    Nothing of it is kept, and random numbers are taken from nobody.

    Raises:
        InputError: it cannot be built, its initial weights do not fit, or it cannot take the images.
    """
    for run in {run.kind: run for run in runs}.values():
        arguments, name, input_size = run.arguments, run.setting.model, run.config["input_size"]
        together = arguments.world_size if arguments.distributed and arguments.sync_bn else 1
        model = run.build_model().to(device)
        check_input(model.student if run.overhaul else model, input_size, "--model", name)
        with RandomStream(device, run.setting.seed):
            classes, images = len(run.data_record["classes"]), arguments.batch_size * together
            check_training(_forward(run, model.train()), classes, input_size, images, name, device)


def _forward(run: Run, model: torch.nn.Module) -> Callable[[Tensor], Tensor]:
    """A run's training as far as the logits; the loss of features too, which fails where they do not fit."""
    if not run.overhaul:
        return model

    def forward(images: Tensor) -> Tensor:
        logits, features = model(images, with_features=True)
        feature_loss(features, run.teacher(images).features, run.margins(images.device))
        return logits

    return forward


def check_training(
    forward: Callable[[Tensor], Tensor],
    num_classes: int,
    input_size: Sequence[int],
    batch_size: int,
    name: str,
    device: torch.device,
) -> None:
    """Check that a model in training gives logits for a batch of images of (C, H, W).

    Args:
        forward: from images (N, C, H, W) to logits; it may change the model's statistics.
        num_classes: of the logits.
        input_size: channels, height, width.
        batch_size: how many images it learns from at once; two stand for any larger number.
        name: of the model.
        device: where the model is.

    Raises:
        InputError: it does not; of ``--batch-size`` where it would with two images, as of a BatchNorm over one value.
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
