"""Means over the images of an epoch."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor


class EpochMeans:
    """Means, weighted by images, of the scalars that a task returns at each step.

    Nothing is copied from a GPU until a mean is read.

    Args:
        device: the device of the scalars.
        skips: leave out steps whose loss is not finite, which a loss scaler skips.

    Example:
        >>> means = EpochMeans(torch.device("cpu"))
        >>> means.add({"loss": torch.tensor(1.0)}, 3)
        >>> means.add({"loss": torch.tensor(2.0)}, 1)
        >>> means.loss, means.of_all_processes()
        (1.25, {'train_loss': 1.25})
    """

    def __init__(self, device: torch.device, skips: bool = False) -> None:
        self.device, self.skips = device, skips
        self.sums: dict[str, Tensor] = {}
        self.images: int | Tensor = 0

    def add(self, result: Mapping[str, Tensor], images: int) -> None:
        """Add a task's result for a batch of that many images; ``output``, which is not a scalar, is left out."""
        finite = result["loss"].detach().isfinite() if self.skips else None
        weight = images if finite is None else finite * images
        self.images += weight
        for name, value in result.items():
            if name != "output":
                value = value.detach().double()
                value = value if finite is None else torch.where(finite, value, 0)
                self.sums[name] = self.sums.get(name, 0) + value * weight

    @property
    def loss(self) -> float:
        """The mean loss of this process so far."""
        return float(self.sums["loss"] / self.images)  # if all steps were skipped, tensors give NaN

    def of_all_processes(self) -> dict[str, float]:
        """The means over the images of all processes, named ``train_…``; NaN if all steps were skipped.

        ``train_kd_gradient_ratio`` is the root mean square, over images, of the norm of the distillation term's
        gradient with respect to the logits, relative to that of the paper's loss at T = 1 for the same logits.
        """
        names = sorted(self.sums)
        images = torch.as_tensor(self.images, dtype=torch.float64, device=self.device)
        sums = torch.stack([*(self.sums[name] for name in names), images])
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(sums)
        *values, images = sums.tolist()
        images = images or math.nan
        means = {f"train_{name}": value / images for name, value in zip(names, values, strict=True)}
        if "train_gradient_square" in means:
            square, at_one = means.pop("train_gradient_square"), means.pop("train_gradient_square_t1")
            means["train_kd_gradient_ratio"] = math.sqrt(square / at_one) if at_one else 1.0
        return means
