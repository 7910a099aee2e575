"""Evaluate models on a split: one pass over the images for all of them."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, distributed
from tqdm import tqdm

from lskd.measure.accuracy import ClassCounts
from lskd_vision.config import DeviceConfig


def evaluate(
    models: Sequence[Callable[[Tensor], Tensor]],
    batches: Iterable[tuple[Tensor, Tensor]],
    num_classes: int,
    device: DeviceConfig,
    total: int | None = None,
    name: str = "validation",
) -> list[ClassCounts]:
    """Count what each model gets right over the batches of all processes.

    Args:
        models: functions from images (N, C, H, W) to logits (N, K); modules must be in eval mode.
        batches: images and labels, on the device.
        num_classes: K.
        device: of images and models.
        total: how many batches, for the progress bar.
        name: what the progress bar is called.
    """
    counts = [ClassCounts(num_classes, device=device.torch_device) for _ in models]
    hidden = True if distributed.is_initialized() and distributed.get_rank() else None  # None: on a terminal only
    with torch.inference_mode():
        for images, target in tqdm(batches, total=total, desc=name, unit="batch", leave=False, disable=hidden):
            for model, count in zip(models, counts, strict=True):
                with device.autocast():
                    logits = model(images)
                count.update(logits, target)
    return [count.all_reduce() for count in counts]
