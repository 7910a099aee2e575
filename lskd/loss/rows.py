"""The distillation loss and its gradient for a chunk of rows of logits on a CPU.

For p = softmax, teacher t, student s, label y, and z_s, z_t the logits of a row:

    KL = Σ p_t(T)·(log p_t(T) - log p_s(T_s))        d(T_s²·KL)/dz_s = T_s·(p_s(T_s) - p_t(T))

It is computed in float32 where :func:`is_precise` says that this is enough, else in float64: as a chunk fits the cache,
that costs only twice as much, and no digits are lost however close the two distributions are. If the result is not
finite, logits of -inf may be the reason, and it is computed again with 0·log 0 = 0. :mod:`lskd.loss.fused` is the
counterpart for a GPU.

Both return the terms of the loss as rows of one tensor: T_s²·KL, the hard-label loss, -log p_s(1)[y], H(p_t), and 1
where student and teacher have the same most probable class (of equal ones, the first); and the gradient (n, V) of the
weighted loss, whose distillation term is multiplied by ``gradient_factor``.

A logit of -inf is a probability of 0, as in a masked vocabulary. A class that both mask adds nothing; where only the
student masks it, the KL is infinite. If a row has a NaN or +inf, or all of it is -inf, all its terms are NaN.
:func:`lskd.loss.reference.reference_loss` is the same formula without these precautions.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lskd.loss.types import Settings, TopkLogits

LOG2_E = math.log2(math.e)
BLOCK = 64
LEAST = -745.2  # the log p below which p is 0 even in float64


def rows(
    student: Tensor,
    teacher: list[Tensor] | TopkLogits,
    target: Tensor,
    settings: Settings,
    with_gradient: bool,
    workspace: Tensor,
    masked: bool,
) -> tuple[Tensor, Tensor | None]:
    """The terms (6, n) of the loss and its gradient (n, V), in the precision of ``workspace``.

    The sixth term is for :func:`is_precise`. The gradient is None unless ``with_gradient``.

    Args:
        student: (n, V) logits of any floating dtype.
        teacher: (n, V) logits of one teacher or several, whose probabilities are averaged; or the k largest ones.
        target: (n,) integer.
        settings: settings of the loss.
        with_gradient: whether to compute the gradient.
        workspace: (4, at least n, V) float32 or float64, which is overwritten, since allocating memory would cost as
            much as the computation. The gradient returned is a view of it.
        masked: whether there may be logits of -inf, including -inf by overflow.
    """
    student_temperature, kd_weight, alpha = settings.student_temperature, settings.kd_weight, settings.label_smoothing
    workspace = workspace[:, : len(student)]
    softmax = _softmax(student, student_temperature, workspace[:2])
    cross_entropies = _cross_entropies(softmax, target, alpha) if student_temperature == 1 else None
    if isinstance(teacher, TopkLogits):
        soft = _sparse(softmax, teacher, settings, with_gradient, workspace[2:])
    else:
        soft = _dense(softmax, teacher, settings, with_gradient, workspace[2:], masked)
    kl, entropy, best, largest, gradient = soft
    if cross_entropies is None or (with_gradient and kd_weight != 1):
        softmax = _softmax(student, 1.0, workspace[2:])
    if cross_entropies is None:
        cross_entropies = _cross_entropies(softmax, target, alpha)
    nll, hard = cross_entropies
    if gradient is not None and kd_weight != 1:
        gradient.addcmul_(softmax.exponential, (1 - kd_weight) / softmax.total)
        gradient.sub_((1 - kd_weight) * alpha / student.size(1))
        gradient.scatter_add_(1, target[:, None], torch.full_like(nll, (1 - kd_weight) * (alpha - 1)))
    agreement = best.eq(_argmax(student)) & ~kl.isnan()
    # For two equal distributions, rounding can leave the KL slightly below zero.
    kd = kl.clamp(min=0) * student_temperature**2
    return torch.cat([kd, hard, nll, entropy, agreement, largest], 1).T, gradient


def is_precise(terms: Tensor, gradient: Tensor | None, settings: Settings) -> bool:
    """Whether float32 was enough for :func:`rows`: an error below 1e-5 in the gradient and below 1e-4 in the KL.

    The relative error of a probability is about 2⁻²³: small compared with p_s - p_t, unless student and teacher are
    close. The KL is a difference of entropies, whose errors are about 1e-6.
    """
    if not terms[0].sum() > 0.03 * settings.student_temperature**2 * terms.size(1):
        return False
    # The squared norm of probabilities is at most the largest of them.
    probabilities = settings.student_temperature * settings.gradient_factor * terms[5].sum().sqrt()
    return gradient is None or bool(gradient.norm() > 0.05 * probabilities)


class _Softmax(NamedTuple):
    """p = 2^power / total = exponential / total. (n, V), (n, V), (n, 1)."""

    power: Tensor
    exponential: Tensor
    total: Tensor


def _softmax(logits: Tensor, temperature: float, workspace: Tensor) -> _Softmax:
    """The softmax of (n, V) logits, written to a (2, n, V) workspace."""
    power, exponential = workspace
    largest = logits.amax(1, keepdim=True).to(workspace.dtype)
    if logits.dtype == workspace.dtype:
        torch.sub(logits, largest, out=power)
    else:
        power.copy_(logits).sub_(largest)
    power.mul_(LOG2_E / temperature)  # powers of two are faster to compute than powers of e
    torch.exp2(power, out=exponential)
    return _Softmax(power, exponential, exponential.sum(1, keepdim=True))


def _cross_entropies(softmax: _Softmax, target: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """-log p[y] and H(y_LS, p), (n, 1) each."""
    log2_total = softmax.total.log2()
    nll = (log2_total - softmax.power.gather(1, target[:, None])) / LOG2_E
    if not alpha:
        return nll, nll
    # α/V · Σ_v -log p(v), computed with one mean over the row.
    uniform = (log2_total - softmax.power.mean(1, keepdim=True)) / LOG2_E
    return nll, (1 - alpha) * nll + alpha * uniform  # lerp would subtract one infinity from another


class _SoftTerms(NamedTuple):
    """The terms of the loss that depend on the teacher's distribution.

    Attributes:
        kl: (n, 1).
        entropy: (n, 1) of p_t.
        best: (n, 1) the teacher's most probable class.
        largest: (n, 1) the largest p_s + the largest p_t; for a teacher's k largest logits, only the latter.
        gradient: (n, V) β·T_s·(p_s - p_t), times the gradient factor, or None if it is not needed.
    """

    kl: Tensor
    entropy: Tensor
    best: Tensor
    largest: Tensor
    gradient: Tensor | None


def _dense(
    student: _Softmax, teachers: list[Tensor], settings: Settings, with_gradient: bool, workspace: Tensor, masked: bool
) -> _SoftTerms:
    """The terms for teachers' logits (n, V)."""
    factor = settings.kd_weight * settings.student_temperature * settings.gradient_factor
    if len(teachers) == 1:
        # From the logits: tempering could make two of them equal.
        best = _argmax(teachers[0])
        power, weight, total = _softmax(teachers[0], settings.temperature, workspace)
        if masked:
            power.masked_fill_(weight == 0, 0)
        entropy = (total.log2() - _dot(weight, power) / total) / LOG2_E
    else:
        each = [torch.softmax(logits.to(workspace.dtype) / settings.temperature, 1) for logits in teachers]
        weight = torch.stack(each).mean(0)
        best, total = weight.argmax(1, keepdim=True), torch.ones_like(student.total)
        entropy = -torch.special.xlogy(weight, weight).sum(1, keepdim=True)
    if masked:
        student.power.masked_fill_(weight == 0, 0)
    cross_entropy = (student.total.log2() - _dot(weight, student.power) / total) / LOG2_E
    gradient = None
    if with_gradient and not factor:  # even where the teacher's outputs are NaN
        gradient = student.exponential.zero_()
    elif with_gradient:
        # Both factors first: where student and teacher are equal, this is exactly 0.
        gradient = student.exponential.mul_(factor / student.total).sub_(weight.mul_(factor / total))
    largest = 1 / student.total + 1 / total
    return _SoftTerms(cross_entropy - entropy, entropy, best, largest, gradient)


def _sparse(
    student: _Softmax, teacher: TopkLogits, settings: Settings, with_gradient: bool, workspace: Tensor
) -> _SoftTerms:
    """The terms for a teacher's k largest logits; the probability that they leave over is spread evenly.

    Logits of -inf are always handled: with so few logits, that costs little.
    """
    factor = settings.kd_weight * settings.student_temperature * settings.gradient_factor
    vocabulary, k, dtype = workspace.size(2), teacher.indices.size(1), workspace.dtype
    log_teacher = teacher.values.to(dtype) / settings.temperature
    if teacher.log_normaliser is None:
        log_teacher = torch.log_softmax(log_teacher, 1)
        rest = torch.zeros_like(student.total)
    else:
        log_teacher = log_teacher - teacher.log_normaliser[:, None].to(dtype)
        rest = (1 - log_teacher.exp().sum(1, keepdim=True)).clamp(min=0) / max(1, vocabulary - k)
        rest.masked_fill_(teacher.values[:, -1:] == -math.inf, 0)  # if one of the k is -inf, so are all smaller ones
    p_t, zero = log_teacher.exp(), log_teacher < LEAST
    power = student.power.gather(1, teacher.indices).masked_fill_(zero, 0)
    entropy = -(p_t * log_teacher.masked_fill(zero, 0)).sum(1, keepdim=True)
    entropy -= (vocabulary - k) * torch.special.xlogy(rest, rest)
    mean_power = torch.where(power == -math.inf, power, p_t * power).sum(1, keepdim=True)
    if teacher.log_normaliser is not None:
        others = student.power.scatter_(1, teacher.indices, 0).sum(1, keepdim=True)
        mean_power += rest * others.masked_fill_(rest == 0, 0)
    mass = p_t.sum(1, keepdim=True) + (vocabulary - k) * rest
    cross_entropy = (mass * student.total.log2() - mean_power) / LOG2_E
    gradient = None
    if with_gradient and not factor:
        gradient = student.exponential.zero_()
    elif with_gradient:
        gradient = student.exponential.mul_(factor / student.total)
        if teacher.log_normaliser is not None:
            gradient.sub_(factor * rest)
        gradient.scatter_add_(1, teacher.indices, -factor * (p_t - rest))
    smaller = teacher.values != teacher.values[:, :1]  # equal values may come in any order
    best = teacher.indices.masked_fill(smaller, vocabulary).amin(1, keepdim=True)
    return _SoftTerms(cross_entropy - entropy, entropy, best, p_t[:, :1], gradient)


def _argmax(logits: Tensor) -> Tensor:
    """(n, 1) the index of the largest logit. Finds its block first, as torch's amax is ten times faster than argmax."""
    blocks = logits.size(1) // BLOCK
    if blocks < 4:
        return logits.argmax(1, keepdim=True)
    whole = logits[:, : blocks * BLOCK].unflatten(1, (blocks, BLOCK))
    block = whole.amax(2).argmax(1)
    rest = logits[:, blocks * BLOCK :]
    among = torch.cat([whole[torch.arange(len(block), device=block.device), block], rest], 1).argmax(1)
    index = torch.where(among < BLOCK, block * BLOCK + among, (blocks - 1) * BLOCK + among)
    return index[:, None]


def _dot(one: Tensor, other: Tensor) -> Tensor:
    """(n, 1) the row-wise inner products of two (n, V) tensors."""
    return torch.linalg.vecdot(one, other)[:, None]
