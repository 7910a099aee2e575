"""Value and gradient of the distillation losses other than the paper's, for a chunk of rows, in float64 on any device.

The formulas are those of :mod:`lskd.loss.reference`, which has their sources; here the gradient is written out, and a
logit of -inf is a probability of 0. Such a logit has no z-score and no squared difference: with the losses
``standardised`` and ``mse`` its row is NaN.

As each chunk is converted to float64, no digits are lost where student and teacher are close or logits are in half
precision; on a CPU that takes two to six times as long as the paper's loss.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lskd.loss.types import LossType, Settings


class DistillationTerm(NamedTuple):
    """The distillation term of n rows.

    Attributes:
        value: (n,) at least 0.
        gradient: (n, V) of each row's value with respect to the student's logits.
        p_t: (n, V) the teacher's distribution.
    """

    value: Tensor
    gradient: Tensor
    p_t: Tensor


def variant_rows(
    loss: LossType, student: Tensor, teachers: Sequence[Tensor], target: Tensor, settings: Settings, with_gradient: bool
) -> tuple[Tensor, Tensor | None]:
    """The terms (5, n) of a loss and its gradient (n, V), in float64; the terms are those of :mod:`lskd.loss.rows`.

    Args:
        loss: the distillation term.
        student: (n, V) logits of any floating dtype.
        teachers: the logits of each teacher, likewise.
        target: (n,) int64.
        settings: settings of the loss.
        with_gradient: whether to compute the gradient.
    """
    kd = _TERMS[loss](student.double(), [each.double() for each in teachers], target, settings)
    log_p, alpha = torch.log_softmax(student.double(), 1), settings.label_smoothing
    nll = -log_p.gather(1, target[:, None])[:, 0]
    hard = (1 - alpha) * nll - alpha * log_p.mean(1) if alpha else nll
    best = (teachers[0] if len(teachers) == 1 else kd.p_t).argmax(1, keepdim=True)
    agreement = student.argmax(1, keepdim=True).eq(best)[:, 0] & ~kd.value.isnan()
    terms = torch.stack([kd.value, hard, nll, -torch.special.xlogy(kd.p_t, kd.p_t).sum(1), agreement.double()])
    if not with_gradient:
        return terms, None
    gradient = (settings.kd_weight * settings.gradient_factor) * kd.gradient
    if settings.kd_weight != 1:
        of_target = torch.full_like(nll[:, None], 1 - alpha)
        gradient += (1 - settings.kd_weight) * (log_p.exp() - alpha / student.size(1))
        gradient.scatter_add_(1, target[:, None], (settings.kd_weight - 1) * of_target)
    return terms, gradient


def distillation_gradient(
    loss: LossType, student: Tensor, teachers: Sequence[Tensor], target: Tensor, settings: Settings
) -> Tensor:
    """(n, V) the gradient of any loss's distillation term, without β and the gradient factor, in float64.

    The arguments are those of :func:`variant_rows`; here ``loss`` may also be the paper's.
    """
    student, teachers = student.double(), [each.double() for each in teachers]
    if loss != "kl":
        return _TERMS[loss](student, teachers, target, settings).gradient
    p_t = torch.stack([torch.softmax(each / settings.temperature, 1) for each in teachers]).mean(0)
    return settings.student_temperature * (torch.softmax(student / settings.student_temperature, 1) - p_t)


def _kl(student: Tensor, teachers: Sequence[Tensor], _: Tensor, settings: Settings) -> DistillationTerm:
    at = settings.student_temperature
    log_p_s, log_p_t = torch.log_softmax(student / at, 1), _log_targets(teachers, settings.temperature)
    p_t = log_p_t.exp()
    return DistillationTerm(at**2 * _divergence(log_p_t, log_p_s), at * (log_p_s.exp() - p_t), p_t)


def _standardised(student: Tensor, teachers: Sequence[Tensor], target: Tensor, settings: Settings) -> DistillationTerm:
    z, deviation = _z_scores(student)
    value, at_z, p_t = _kl(z, [_z_scores(each)[0] for each in teachers], target, settings)
    gradient = (at_z - at_z.mean(1, keepdim=True) - z * (at_z * z).mean(1, keepdim=True)) / deviation
    return DistillationTerm(value, gradient, p_t)


def _z_scores(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The z-scores of each row and its standard deviation (n, 1); 0 and infinity for a constant row."""
    centred = logits - logits.mean(1, keepdim=True)
    constant = logits.amax(1, keepdim=True) == logits.amin(1, keepdim=True)
    deviation = torch.where(constant, math.inf, centred.square().mean(1, keepdim=True).sqrt())
    return centred / deviation, deviation


def _mse(student: Tensor, teachers: Sequence[Tensor], _: Tensor, settings: Settings) -> DistillationTerm:
    difference = student - torch.stack(list(teachers)).mean(0)
    difference = difference - difference.mean(1, keepdim=True)
    value = difference.square().mean(1) / 2
    return DistillationTerm(value, difference / student.size(1), _log_targets(teachers, 1.0).exp())


def _decoupled(student: Tensor, teachers: Sequence[Tensor], target: Tensor, settings: Settings) -> DistillationTerm:
    at, weight, correct = settings.student_temperature, settings.nckd_weight, target[:, None]
    log_p_s, log_p_t = torch.log_softmax(student / at, 1), _log_targets(teachers, settings.temperature)
    binary_s, others_s = _decouple(log_p_s, correct)
    binary_t, others_t = _decouple(log_p_t, correct)
    value = _divergence(binary_t, binary_s) + weight * _divergence(others_t, others_s)
    others_s, others_t = others_s.exp(), others_t.exp()
    excess = (binary_s.exp() - binary_t.exp())[:, :1]
    gradient = weight * (others_s - others_t) - excess * others_s  # both 0 at the target
    return DistillationTerm(at**2 * value, at * gradient.scatter_add(1, correct, excess), log_p_t.exp())


def _decouple(log_p: Tensor, correct: Tensor) -> tuple[Tensor, Tensor]:
    """Log probabilities: (n, 2) of the target and of all other classes together, and (n, V) among the others."""
    others = log_p.scatter(1, correct, -math.inf)
    rest = torch.logsumexp(others, 1, keepdim=True)
    return torch.cat([log_p.gather(1, correct), rest], 1), others - rest


def _wttm(student: Tensor, teachers: Sequence[Tensor], _: Tensor, settings: Settings) -> DistillationTerm:
    (teacher,), at = teachers, settings.temperature
    value, gradient, p_t = _kl(student, teachers, _, settings)
    # Σ p_t(1)^(1/T), the normaliser of the power transform.
    weight = (torch.logsumexp(teacher / at, 1) - torch.logsumexp(teacher, 1) / at).exp()
    return DistillationTerm(weight * value, weight[:, None] * gradient, p_t)


_TERMS: dict[LossType, Callable[[Tensor, Sequence[Tensor], Tensor, Settings], DistillationTerm]] = {
    "standardised": _standardised,
    "mse": _mse,
    "decoupled": _decoupled,
    "wttm": _wttm,
}


def _log_targets(teachers: Sequence[Tensor], temperature: float) -> Tensor:
    """(n, V) log of the mean over the teachers of softmax(z / T)."""
    each = [torch.log_softmax(logits / temperature, 1) for logits in teachers]
    return each[0] if len(each) == 1 else torch.logsumexp(torch.stack(each), 0) - math.log(len(each))


def _divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """(n,) KL(p ‖ q) from log probabilities; a class of probability 0 adds nothing; clamped to at least 0."""
    p = log_p.exp()
    return torch.where(p == 0, 0.0, p * (log_p - log_q)).sum(1).clamp(min=0)
