"""The distillation loss and its gradient for some rows of logits: one formula in two precisions.

For p = softmax, teacher t, student s, hard target y, with z_s, z_t a row's logits:

    KL = Σ p_t(T)·(log p_t(T) - log p_s(T_s))        d(T_s²·KL)/dz_s = T_s·(p_s(T_s) - p_t(T))

- :func:`rows`, the processor's, in float32 where :func:`is_precise` tells that this is enough, else in float64. A chunk
  of rows is in the cache, so that costs but twice as much, and nothing is lost however near the two distributions are.
  Where that gives a value that is not finite, -inf logits may be why: it is computed again, with 0·log 0 taken as 0.
- :func:`fused_rows`, the GPU's, in float32, because double precision can be 64 times slower there; made to be compiled
  into a kernel or two. Where student and teacher are near, p_s - p_t is a small difference of large numbers. With
  d = log p_s - log p_t, for which only the difference of the logits has to be exact, it is tanh(d/2)·(p_s + p_t).

Both return ``parts``, a row each: T_s²·KL, the hard loss, -log p_s(1)[y], H(p_t), and 1 where the student's largest
logit is the teacher's best symbol; and the gradient (n, V) of the weighted loss.

A logit of -inf is a symbol of probability 0, as of a masked vocabulary. Where both mask it, it counts for nothing;
where the student alone does, the KL is infinite. NaN, +inf or nothing but -inf in a row make the row's parts NaN.
:func:`lskd.loss.reference.reference_loss` is the same formula without any of these cares.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

LOG2_E = math.log2(math.e)
BLOCK = 64
LEAST = -745.2  # log p, below which p is 0 in float64 too
NEAR = 0.6  # log p_s - log p_t, below which p_s - p_t would lose more than a digit


class Settings(NamedTuple):
    """T of the teacher, T_s of the student, β, and α of the hard loss: numbers, or tensors without dimensions."""

    temperature: float
    student_temperature: float
    kd_weight: float
    label_smoothing: float


@dataclass(frozen=True)
class ProjectedLogits:
    """A teacher's last features and its output projection, in place of its logits, which are made as they are needed.

    Attributes:
        features: (N, d) floating; ``weight``: (V, d); ``bias``: (V,) or None.
    """

    features: Tensor
    weight: Tensor
    bias: Tensor | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Of the logits: N, V."""
        return len(self.features), len(self.weight)

    def __getitem__(self, chunk: slice) -> Tensor:
        """The logits of some rows."""
        return linear(self.features[chunk], self.weight, self.bias)


@dataclass(frozen=True)
class TopkLogits:
    """A teacher's k largest logits in each of N rows, in place of all V.

    Attributes:
        values: (N, k) floating, the largest first, less any constant of the row.
        symbols: (N, k) int64, whose they are, 0 to V-1.
        log_normaliser: (N,) log Σ exp(z/T) over the whole vocabulary, at the temperature in use and less the same
            constant divided by T. What the k symbols leave of the probability is then spread evenly over the others.
            None: the k symbols have all of it.
    """

    values: Tensor
    symbols: Tensor
    log_normaliser: Tensor | None = None

    def rows(self, chunk: slice) -> "TopkLogits":
        """Some of the rows."""
        normaliser = None if self.log_normaliser is None else self.log_normaliser[chunk]
        return TopkLogits(self.values[chunk], self.symbols[chunk], normaliser)


def rows(
    student: Tensor,
    teacher: list[Tensor] | TopkLogits,
    target: Tensor,
    settings: Settings,
    with_gradient: bool,
    workspace: Tensor,
    masked: bool,
) -> tuple[Tensor, Tensor | None]:
    """``parts`` and the gradient, in the precision of ``room``; None for the gradient where it is not wanted.

    A sixth part is for :func:`is_precise`.

    Args:
        student: (n, V) logits of any floating dtype.
        teacher: likewise, of one teacher or several, whose probabilities are averaged; or the k largest ones.
        target: (n,) integer.
        room: (4, at least n, V) float32 or float64, overwritten: memory that is new costs as much as the computation.
            The gradient lies there.
        masked: there may be logits of -inf, also -inf by overflow.
    """
    _, student_temperature, kd_weight, alpha = settings
    workspace = workspace[:, : len(student)]
    softmax = _softmax(student, student_temperature, workspace[:2])
    if student_temperature == 1:
        nll, hard = _cross_entropies(softmax, target, alpha)
    soft = _sparse if isinstance(teacher, TopkLogits) else _dense
    kl, entropy, best, largest, gradient = soft(softmax, teacher, settings, with_gradient, workspace[2:], masked)
    with_hard_gradient = with_gradient and kd_weight != 1
    if student_temperature != 1 or with_hard_gradient:
        softmax = _softmax(student, 1.0, workspace[2:])
    if student_temperature != 1:
        nll, hard = _cross_entropies(softmax, target, alpha)
    if with_hard_gradient:
        gradient.addcmul_(softmax.exponential, (1 - kd_weight) / softmax.total)
        gradient.sub_((1 - kd_weight) * alpha / student.size(1))
        gradient.scatter_add_(1, target[:, None], torch.full_like(nll, (1 - kd_weight) * (alpha - 1)))
    agreement = student.gather(1, best).eq(student.amax(1, keepdim=True)) & ~kl.isnan()
    # Of two equal distributions, rounding can leave a KL a hair below zero.
    kd = kl.clamp(min=0) * student_temperature**2
    return torch.cat([kd, hard, nll, entropy, agreement, largest], 1).T, gradient


def is_precise(parts: Tensor, gradient: Tensor | None, settings: Settings) -> bool:
    """Whether float32 was enough for :func:`rows`: an error of the gradient below 1e-5, and of the KL below 1e-4.

    A probability's error is 2⁻²³ or so of itself: little beside the difference of two, unless student and teacher are
    near. A KL is a difference of entropies, whose errors are some 1e-6.
    """
    if not parts[0].sum() > 0.03 * settings.student_temperature**2 * parts.size(1):
        return False
    # The squared norm of probabilities is at most the largest of them.
    probabilities = settings.student_temperature * parts[5].sum().sqrt()
    return gradient is None or bool(gradient.norm() > 0.05 * probabilities)


def fused_rows(
    student: Tensor,
    teacher: Tensor,
    target: Tensor,
    settings: Settings,
    tempered: bool,
    with_hard_gradient: bool,
    with_gradient: bool,
) -> tuple[Tensor, Tensor | None]:
    """As :func:`rows` of one teacher's dense logits, in float32; without a branch on data, so a compiler can fuse it.

    Args:
        tempered: whether T_s is not 1; ``with_hard_gradient``: whether β is not 1. Compiled code has the numbers as
            tensors.
    """
    temperature, student_temperature, kd_weight, alpha = settings
    student, teacher = student.float(), teacher.float()
    largest, teacher_largest = student.amax(1, keepdim=True), teacher.amax(1, keepdim=True)
    power, teacher_power = (student - largest) / student_temperature, (teacher - teacher_largest) / temperature
    exponential, teacher_exponential = power.exp(), teacher_power.exp()
    total, teacher_total = exponential.sum(1, keepdim=True), teacher_exponential.sum(1, keepdim=True)
    p_s, p_t = exponential / total, teacher_exponential / teacher_total
    # d = log p_s - log p_t, up to the rounding of a constant of the row: `excess` corrects it, p_s and p_t sum to 1.
    constant = total.log() - teacher_total.log() + largest / student_temperature - teacher_largest / temperature
    d = (student - teacher) / student_temperature + teacher * (1 / student_temperature - 1 / temperature) - constant
    both, x = p_s + p_t, d / 2  # of a masked symbol d is infinite or NaN, and p_s - p_t is taken
    tanh = x * (1 + x**2 * (-1 / 3 + x**2 * (2 / 15 + x**2 * (-17 / 315 + x**2 * 62 / 2835))))  # to 1e-7 below NEAR
    difference = torch.where(d.abs() < NEAR, tanh * both, p_s - p_t)
    excess = difference.sum(1, keepdim=True)
    difference = difference - excess / 2 * both
    weighted = torch.where(student == -math.inf, -math.inf, p_t * d)
    kl = (difference - torch.where(teacher_power < LEAST, 0.0, weighted)).sum(1, keepdim=True) + excess
    entropy = teacher_total.log() - torch.where(p_t == 0, 0.0, p_t * teacher_power).sum(1, keepdim=True)
    if tempered:
        exponential = (student - largest).exp()
        total = exponential.sum(1, keepdim=True)
    nll = total.log() - (student.gather(1, target[:, None]) - largest)
    uniform = total.log() - (student - largest).mean(1, keepdim=True)
    hard = (1 - alpha) * nll + torch.where(alpha > 0, alpha * uniform, 0.0)
    gradient = torch.where(kd_weight > 0, kd_weight * student_temperature * difference, 0.0)
    if with_hard_gradient:
        correct = torch.arange(student.size(1), device=student.device) == target[:, None]
        of_target = alpha / student.size(1) + torch.where(correct, 1 - alpha, 0.0)
        gradient = gradient + (1 - kd_weight) * (exponential / total - of_target)
    agreement = student.gather(1, teacher.argmax(1, keepdim=True)).eq(largest) & ~kl.isnan()
    parts = [kl.clamp(min=0) * student_temperature**2, hard, nll, entropy, agreement]
    return torch.cat([part.float() for part in parts], 1).T, gradient if with_gradient else None


class _Softmax(NamedTuple):
    """p = 2^power / total = exponential / total. (n, V), (n, V), (n, 1)."""

    power: Tensor
    exponential: Tensor
    total: Tensor


def _softmax(logits: Tensor, temperature: float, workspace: Tensor) -> _Softmax:
    """Of (n, V) logits, in the (2, n, V) numbers that there is room for."""
    power, exponential = workspace
    largest = logits.amax(1, keepdim=True).to(workspace.dtype)
    if logits.dtype == workspace.dtype:
        torch.sub(logits, largest, out=power)
    else:
        power.copy_(logits).sub_(largest)
    power.mul_(LOG2_E / temperature)  # powers of two: processors make them faster than powers of e
    torch.exp2(power, out=exponential)
    return _Softmax(power, exponential, exponential.sum(1, keepdim=True))


def _cross_entropies(softmax: _Softmax, target: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """-log p[y], and with the smoothed y; (n, 1) each."""
    log2_total = softmax.total.log2()
    nll = (log2_total - softmax.power.gather(1, target[:, None])) / LOG2_E
    if not alpha:
        return nll, nll
    # α/V · Σ_v -log p(v), written so that it costs one mean over the row.
    uniform = (log2_total - softmax.power.mean(1, keepdim=True)) / LOG2_E
    return nll, (1 - alpha) * nll + alpha * uniform  # lerp would take one infinity from the other


def _dense(
    student: _Softmax, teachers: list[Tensor], settings: Settings, with_gradient: bool, workspace: Tensor, masked: bool
):
    """KL, H(p_t), the teacher's best symbol, the largest p_s + the largest p_t (n, 1); β·T_s·(p_s - p_t) (n, V)."""
    factor = settings.kd_weight * settings.student_temperature
    if len(teachers) == 1:
        # By its logits: tempering could make two of them equal.
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
    difference = None
    if with_gradient and not factor:  # even where the teacher's outputs are NaN
        difference = student.exponential.zero_()
    elif with_gradient:
        # Both factors first: of a student that is its teacher, nothing is left.
        difference = student.exponential.mul_(factor / student.total).sub_(weight.mul_(factor / total))
    return cross_entropy - entropy, entropy, best, 1 / student.total + 1 / total, difference


def _sparse(
    student: _Softmax, teacher: TopkLogits, settings: Settings, with_gradient: bool, workspace: Tensor, masked: bool
):
    """As :func:`_dense`; the symbols that are not among the k share what is left evenly, where something is.

    Of so few symbols, all are treated as if they were ``masked``.
    """
    factor = settings.kd_weight * settings.student_temperature
    vocabulary, k, dtype = workspace.size(2), teacher.symbols.size(1), workspace.dtype
    log_teacher = teacher.values.to(dtype) / settings.temperature
    if teacher.log_normaliser is None:
        log_teacher = torch.log_softmax(log_teacher, 1)
        rest = torch.zeros_like(student.total)
    else:
        log_teacher = log_teacher - teacher.log_normaliser[:, None].to(dtype)
        rest = (1 - log_teacher.exp().sum(1, keepdim=True)).clamp(min=0) / max(1, vocabulary - k)
        rest.masked_fill_(teacher.values[:, -1:] == -math.inf, 0)  # one of the k is masked, as are all that are smaller
    p_t, none = log_teacher.exp(), log_teacher < LEAST
    power = student.power.gather(1, teacher.symbols).masked_fill_(none, 0)
    entropy = -(p_t * log_teacher.masked_fill(none, 0)).sum(1, keepdim=True)
    entropy -= (vocabulary - k) * torch.special.xlogy(rest, rest)
    mean_power = torch.where(power == -math.inf, power, p_t * power).sum(1, keepdim=True)
    if teacher.log_normaliser is not None:
        others = student.power.scatter_(1, teacher.symbols, 0).sum(1, keepdim=True)
        mean_power += rest * others.masked_fill_(rest == 0, 0)
    mass = p_t.sum(1, keepdim=True) + (vocabulary - k) * rest
    cross_entropy = (mass * student.total.log2() - mean_power) / LOG2_E
    difference = None
    if with_gradient and not factor:
        difference = student.exponential.zero_()
    elif with_gradient:
        difference = student.exponential.mul_(factor / student.total)
        if teacher.log_normaliser is not None:
            difference.sub_(factor * rest)
        difference.scatter_add_(1, teacher.symbols, -factor * (p_t - rest))
    return cross_entropy - entropy, entropy, teacher.symbols[:, :1], p_t[:, :1], difference


def _argmax(logits: Tensor) -> Tensor:
    """(n, 1) the largest one's place: its block first, as torch finds a largest value ten times faster than a place."""
    blocks = logits.size(1) // BLOCK
    if blocks < 4:
        return logits.argmax(1, keepdim=True)
    whole = logits[:, : blocks * BLOCK].unflatten(1, (blocks, BLOCK))
    block = whole.amax(2).argmax(1)
    rest = logits[:, blocks * BLOCK :]
    among = torch.cat([whole[torch.arange(len(block), device=block.device), block], rest], 1).argmax(1)
    place = torch.where(among < BLOCK, block * BLOCK + among, (blocks - 1) * BLOCK + among)
    return place[:, None]


def _dot(one: Tensor, other: Tensor) -> Tensor:
    return torch.linalg.vecdot(one, other)[:, None]
