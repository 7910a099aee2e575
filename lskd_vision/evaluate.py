"""Scoring models on a split: one pass over the images for all of them."""

import argparse
from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from tqdm import tqdm

from lskd.measure.accuracy import ClassCounts
from lskd_vision.precision import autocast


def evaluate(
    models: list[Callable[[Tensor], Tensor]],
    batches: Iterable[tuple[Tensor, Tensor]],
    num_classes: int,
    arguments: argparse.Namespace,
    device: torch.device,
    total: int | None = None,
    name: str = "validation",
) -> list[ClassCounts]:
    """The counts of each model over the batches of all processes.

    Args:
        models: functions from images (N, C, H, W) to logits (N, K); modules must be in eval mode.
        batches: images and labels, on the device.
        num_classes: K.
        arguments: ``amp``, ``amp_dtype`` and ``rank`` are used.
        device: of images and counts.
        total: how many batches, for the progress bar.
        name: what the progress bar is called.
    """
    counts = [ClassCounts(num_classes, device=device) for _ in models]
    hidden = None if arguments.rank == 0 else True
    with torch.inference_mode():
        for images, target in tqdm(batches, total=total, desc=name, unit="batch", leave=False, disable=hidden):
            for model, count in zip(models, counts, strict=True):
                with autocast(arguments, device):
                    logits = model(images)
                count.update(logits, target)
    return [count.all_reduce() for count in counts]
