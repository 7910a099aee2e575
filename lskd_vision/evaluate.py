"""Evaluate models on a split: one pass over the images for all of them."""

import itertools
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, distributed
from tqdm import tqdm

from lskd.measure.accuracy import ClassCounts
from lskd_vision.config import DeviceConfig
from lskd_vision.validation_fidelity import TeacherFidelity


def evaluate(
    models: Sequence[Callable[[Tensor], Tensor]],
    batches: Iterable[tuple[Tensor, Tensor]],
    num_classes: int,
    device: DeviceConfig,
    total: int | None = None,
    name: str = "validation",
    fidelities: Sequence[TeacherFidelity | None] = (),
) -> list[ClassCounts]:
    """Count each model's correct predictions over the batches of all processes.

    Args:
        models: functions from images (N, C, H, W) to logits (N, K); modules must be in eval mode.
        batches: images and labels, on the device.
        num_classes: K.
        device: where images and models are, and the precision.
        total: the number of batches, for the progress bar.
        name: the title of the progress bar.
        fidelities: updated for these models; None for a model without a teacher.
    """
    counts = [ClassCounts(num_classes, device=device.torch_device) for _ in models]
    hidden = True if distributed.is_initialized() and distributed.get_rank() else None  # None: on a terminal only
    with torch.inference_mode():
        bar = tqdm(batches, total=total, desc=name, unit="batch", leave=False, disable=hidden)
        for number, (images, target) in enumerate(bar):
            for model, count, fidelity in itertools.zip_longest(models, counts, fidelities):
                with device.autocast():
                    logits = model(images)
                count.update(logits, target)
                if fidelity is not None:
                    fidelity.update(number, images, logits)
    return [count.all_reduce() for count in counts]
