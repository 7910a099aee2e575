"""Hard-label losses, in float32 whatever the model's precision, for one label per image or mixed labels.

Mixed labels, as mixup and cutmix make them, are (N, K) probabilities. Smoothing by α is (1-α)·y + α/K for both.
"""

import torch.nn.functional as F
from timm.loss import BinaryCrossEntropy
from torch import Tensor, nn

from lskd_vision.loss_config import TaskLossConfig


class SmoothedCrossEntropy(nn.CrossEntropyLoss):
    """Cross entropy with ``label_smoothing``, in float32 also where a CPU's autocast would leave it in bfloat16."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """The mean loss over the images, from logits (N, K) and labels (N,) or mixed labels (N, K)."""
        return super().forward(input.float(), target)


class SmoothedBinaryCrossEntropy(BinaryCrossEntropy):
    """timm's binary cross entropy, a binary decision for each class, which smooths mixed labels too.

    In timm's script it smooths plain labels only; mixed labels are smoothed when they are mixed.

    Example:
        >>> import torch
        >>> loss = SmoothedBinaryCrossEntropy(smoothing=0.2, target_threshold=0.15)
        >>> round(loss(torch.zeros(1, 2), torch.tensor([0])).item(), 4)  # log 2 of each class
        0.6931
    """

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        """The mean loss over the images, from logits (N, K) and labels (N,) or mixed labels (N, K)."""
        return super().forward(x.float(), smoothed(target, x.shape[1], self.smoothing))


def smoothed(target: Tensor, num_classes: int, label_smoothing: float) -> Tensor:
    """Smooth labels (N,) or mixed labels (N, K) towards the uniform distribution: (N, K) float32.

    >>> import torch
    >>> smoothed(torch.tensor([1]), 4, 0.2)
    tensor([[0.0500, 0.8500, 0.0500, 0.0500]])
    """
    mixed = target if target.dim() == 2 else F.one_hot(target.long(), num_classes)
    return (1 - label_smoothing) * mixed.float() + label_smoothing / num_classes


def make_task_loss(config: TaskLossConfig, label_smoothing: float) -> nn.Module:
    """Make the hard-label loss, from logits (N, K) and labels to the mean over the images."""
    if not config.bce_loss:
        return SmoothedCrossEntropy(label_smoothing=label_smoothing)
    return SmoothedBinaryCrossEntropy(
        smoothing=label_smoothing,
        target_threshold=config.bce_target_thresh,
        sum_classes=config.bce_sum,
        pos_weight=config.bce_pos_weight,
    )
