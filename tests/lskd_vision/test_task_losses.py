"""Losses of the labels against their formulas in float64, and against timm's."""

import pytest
import torch
import torch.nn.functional as F
from timm.loss import BinaryCrossEntropy

from lskd_vision.loss_config import TaskLossConfig
from lskd_vision.task_losses import make_task_loss

LOGITS = 3 * torch.randn(6, 10, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([3, 0, 9, 3, 5, 1])
MIXED = 0.7 * F.one_hot(LABELS, 10).float() + 0.3 * F.one_hot(LABELS.flip(0), 10).float()


@pytest.mark.parametrize("target", [LABELS, MIXED], ids=["labels", "mixed"])
@pytest.mark.parametrize("alpha", [0.0, 0.1])
@pytest.mark.parametrize("summed", [False, True])
@pytest.mark.parametrize("threshold", [None, 0.0, 0.35])
@pytest.mark.parametrize("weight", [None, 4.0])
def test_the_binary_cross_entropy_is_that_of_float64(target, alpha, summed, threshold, weight):
    loss = make_task_loss(TaskLossConfig(True, summed, threshold, weight), alpha)
    y = (F.one_hot(target, 10) if target.dim() == 1 else target).double() * (1 - alpha) + alpha / 10
    y = y if threshold is None else (y > threshold).double()
    p = torch.sigmoid(LOGITS.double())
    each = -((weight or 1) * y * p.log() + (1 - y) * (1 - p).log())
    expected = each.sum(1).mean() if summed else each.mean()
    assert loss(LOGITS, target).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 0.1])
def test_the_binary_cross_entropy_of_labels_is_timms(alpha):
    loss = make_task_loss(TaskLossConfig(bce_loss=True, bce_sum=True), alpha)
    theirs = BinaryCrossEntropy(smoothing=alpha, sum_classes=True)
    assert loss(LOGITS, LABELS).item() == pytest.approx(theirs(LOGITS, LABELS).item(), rel=1e-6)


@pytest.mark.parametrize("bce", [False, True])
def test_losses_of_logits_in_half_precision_are_computed_in_float32(bce):
    loss = make_task_loss(TaskLossConfig(bce_loss=bce), 0.1)
    for target in (LABELS, MIXED):
        found = loss(LOGITS.bfloat16(), target)
        assert found.dtype == torch.float32
        assert found.item() == loss(LOGITS.bfloat16().float(), target).item()
