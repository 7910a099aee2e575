"""timm's mixup and cutmix, with random numbers that depend on ``--data-seed``, epoch and batch alone."""

from typing import Any

import torch
from timm.data import Mixup
from torch import Tensor

from lskd.io.errors import input_error
from lskd_vision.augmentation_config import MixingConfig
from lskd_vision.config import Processes
from lskd_vision.config_values import spaced
from lskd_vision.randomness import RandomStream

STREAM = 1  # separates its random numbers from those of random erasing, also seeded by epoch and batch


class Mixing:
    """Mix the images of a batch, and their labels in the same proportions (timm's ``Mixup``).

    This is done once for all models of a process: students and their teachers see the same images. As in timm without
    its prefetcher, images are mixed on the device, after normalisation and random erasing. Labels are not smoothed
    here, as the models of a process may differ in ``--smoothing``. Smoothing is linear: smoothing mixed labels is the
    same as mixing smoothed ones.

    Args:
        config: enables mixup, cutmix or both.
        num_classes: K.
        input_size: channels, height and width.
        data_seed: the seed of the random numbers.
        processes: each process draws numbers for its own batches.

    Raises:
        InputError: no box fits ``--cutmix-minmax`` in images of this size.
    """

    def __init__(
        self,
        config: MixingConfig,
        num_classes: int,
        input_size: tuple[int, int, int],
        data_seed: int,
        processes: Processes,
    ) -> None:
        self.off_epoch, self.data_seed, self.processes = config.mixup_off_epoch, data_seed, processes
        minmax: Any = config.cutmix_minmax  # timm takes any sequence
        if minmax and any(int(size * minmax[0]) >= int(size * minmax[1]) for size in input_size[1:]):
            by = f"{input_size[1]}x{input_size[2]}"
            raise input_error("--cutmix-minmax", spaced(minmax), f"must differ by at least a pixel of images of {by}")
        self.mixup = Mixup(
            mixup_alpha=config.mixup,
            cutmix_alpha=config.cutmix,
            cutmix_minmax=minmax,
            prob=config.mixup_prob,
            switch_prob=config.mixup_switch_prob,
            mode=config.mixup_mode,
            label_smoothing=0.0,
            num_classes=num_classes,
        )

    def __call__(self, images: Tensor, labels: Tensor, epoch: int, batch: int) -> tuple[Tensor, Tensor]:
        """Mix the images and labels of a batch.

        Args:
            images: (N, C, H, W) float32, N even; they may be overwritten.
            labels: (N,) int64.
            epoch: from 0.
            batch: the batch's number in this process's epoch, from 0.

        Returns:
            Images (N, C, H, W), and labels (N, K) float32 whose rows sum to 1; from ``--mixup-off-epoch`` on, the
            arguments unchanged.
        """
        if self.off_epoch and epoch >= self.off_epoch:
            return images, labels
        number = batch * self.processes.world_size + self.processes.rank
        with RandomStream(torch.device("cpu"), self.data_seed, epoch, number, STREAM):
            return self.mixup(images, labels)
