"""The distillation loss as its formula stands, in float64: slow and plain; the tests compare the fast one with it.

The paper's Eq. of Section 2 has the cross entropy where KL stands here: they differ by the teacher's entropy, a
constant, so the gradient is the same. The paper sets kd_weight = 1. A term of weight 0 is left out, even where it is
not finite.
"""

import torch
from torch import Tensor

from lskd.loss.types import DistillationSums


def reference_loss(
    student: Tensor,
    p_t: Tensor,
    target: Tensor,
    *,
    student_temperature: float = 1.0,
    kd_weight: float = 1.0,
    label_smoothing: float = 0.0,
) -> DistillationSums:
    """The sums of :func:`lskd.loss.distillation.distillation_loss`, with autograd for the gradient of ``loss``.

    Args:
        student: (N, V) logits z_s.
        p_t: (N, V) the teacher's distribution p_t(T), as from :func:`teacher_distribution`.
        target: (N,) integers y.

    Example:
        >>> p_t = teacher_distribution([torch.tensor([[0.0, 2.0, 0.0]])], temperature=2.0)
        >>> student = torch.tensor([[2.0, 0.0, 0.0]])
        >>> round(reference_loss(student, p_t, torch.tensor([1]), student_temperature=2.0).kd_loss.item(), 3)
        1.457
    """
    z = student.double()
    log_p_s, log_p = torch.log_softmax(z / student_temperature, 1), torch.log_softmax(z, 1)
    y = torch.nn.functional.one_hot(target.long(), z.size(1)).double()
    y_smoothed = (1 - label_smoothing) * y + label_smoothing / z.size(1)
    kl = _expectation(p_t, p_t.log() - log_p_s)
    kd, hard = student_temperature**2 * kl, _expectation(y_smoothed, -log_p)
    terms = [weight * term for weight, term in ((kd_weight, kd), (1 - kd_weight, hard)) if weight]
    loss = torch.stack(terms).sum(0)
    best = p_t.argmax(1, keepdim=True)
    agreement = (z.gather(1, best) == z.amax(1, keepdim=True))[:, 0] & ~kl.isnan()
    sums = loss, kd, hard, _expectation(y, -log_p), _expectation(p_t, -p_t.log()), agreement
    return DistillationSums(*(each.sum() for each in sums))


def teacher_distribution(teachers: list[Tensor], temperature: float = 1.0, topk: int = 0) -> Tensor:
    """(N, V) the mean of softmax(z_t / T) over teachers with logits (N, V), renormalised over its ``topk`` largest."""
    p_t = torch.stack([torch.softmax(logits.double() / temperature, 1) for logits in teachers]).mean(0)
    if topk:
        largest, indices = p_t.topk(topk, 1)
        p_t = torch.zeros_like(p_t).scatter(1, indices, largest / largest.sum(1, keepdim=True))
    return p_t


def _expectation(p: Tensor, values: Tensor) -> Tensor:
    """(N,) Σ p·values over each row, in which a value of probability 0 counts for nothing, even an infinite one."""
    return torch.where(p == 0, 0.0, p * values).sum(1)
