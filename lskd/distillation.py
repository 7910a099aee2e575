"""The distillation loss: a student against its teacher's soft targets at a temperature, value and gradient in one pass.

For logits z (N rows, V symbols or classes), p(T) = softmax(z / T), teacher t, student s, hard target y:

    loss = (1 - kd_weight) · H(y_LS, p_s(1)) + kd_weight · T_s² · KL(p_t(T) ‖ p_s(T_s))

which is the paper's Eq. of Section 2 with KL in place of the cross entropy: they differ by the teacher's entropy, a
constant, so the gradient is the same. The paper sets kd_weight = 1. y_LS = (1-α)·onehot(y) + α/V.

Everything is computed in float32 whatever comes in: at T = 64 a loss in bfloat16 is wrong by half its value. Float32
alone is not enough either when the student is near its teacher, where log p_t - log p_s is a small difference of large
numbers. So the loss is written in u = z_s/T_s - log p_t, centred under p_t, which is small when the two are near:

    s = Σ p_t·expm1(u)      KL = log1p(s) - Σ p_t·u      p_s - p_t = p_t·(expm1(u) - s) / (1 + s)

Rows go through in chunks that fit the processor's cache, and the gradient is made along with the value, so nothing of
the size of the logits is kept but the gradient.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK_ELEMENTS = {"cpu": 2**18, "cuda": 2**26}  # logits per chunk: 1 MiB stays in a core's cache, 256 MiB fills a GPU
FAR = 20.0  # above this u, p_t·expm1(u) is computed as p_s's own exponential: p_t may have lost its digits


@dataclass(frozen=True)
class DistillationSums:
    """Sums over the N rows, in nats; divide by the number of sentences, tokens or images once, at the end.

    Attributes:
        loss: what is trained on; differentiable with respect to the student's logits. Scalar, float32.
        kd_loss: T_s² · KL(p_t(T) ‖ p_s(T_s)), at least 0. Scalar, float64, like all that follow.
        hard_loss: H(y_LS, p_s(1)), the label-smoothed cross entropy.
        nll_loss: -log p_s(1)[y], always at temperature 1 and without smoothing.
        teacher_entropy: H(p_t(T)), of the targets that were used: after top-k where there is one.
        agreement: number of rows in which student and teacher have the same largest logit, 0 to N.
    """

    loss: Tensor
    kd_loss: Tensor
    hard_loss: Tensor
    nll_loss: Tensor
    teacher_entropy: Tensor
    agreement: Tensor


def distillation_loss(
    student_logits: Tensor,
    teacher_logits: Tensor | Sequence[Tensor],
    target: Tensor,
    *,
    temperature: float = 1.0,
    student_temperature: float | None = None,
    kd_weight: float = 1.0,
    label_smoothing: float = 0.0,
    teacher_topk: int = 0,
) -> DistillationSums:
    """The distillation loss and what one wants to know beside it, summed over rows.

    Args:
        student_logits: (N, V), any floating dtype. Only rows that count: leave padded positions out before projecting.
        teacher_logits: (N, V), or several teachers' (N, V) each, whose probabilities are averaged after tempering.
        target: (N,) integer, 0 to V-1.
        temperature: T of the teacher's distribution, above 0.
        student_temperature: T_s of the student's, above 0; the same as ``temperature`` when None. 1 tempers the
            teacher only (Müller et al. 2019).
        kd_weight: β, in [0, 1].
        label_smoothing: α of the hard term, in [0, 1), the mixture with the uniform distribution.
        teacher_topk: keep only the k most probable symbols of the teacher and renormalise over them, 0 keeps all.

    Returns:
        The sums; ``loss.backward()`` reaches ``student_logits``.

    Raises:
        ValueError: a setting out of range or shapes that do not fit.

    Example:
        >>> student = torch.tensor([[2.0, 0.0, 0.0]], requires_grad=True)
        >>> sums = distillation_loss(student, torch.tensor([[0.0, 2.0, 0.0]]), torch.tensor([1]), temperature=2.0)
        >>> round(sums.kd_loss.item(), 3)
        1.457
        >>> sums.loss.backward()
        >>> [round(g, 3) for g in student.grad[0].tolist()]
        [0.728, -0.728, 0.0]
    """
    teachers = [teacher_logits] if isinstance(teacher_logits, Tensor) else list(teacher_logits)
    student_temperature = temperature if student_temperature is None else student_temperature
    check_settings(temperature, student_temperature, kd_weight, label_smoothing, teacher_topk)
    if student_logits.dim() != 2 or not student_logits.size(1):
        raise ValueError(f"student_logits: shape {tuple(student_logits.shape)} (must be rows by at least one symbol)")
    rows, vocabulary = student_logits.shape
    if not teachers:
        raise ValueError("teacher_logits: none (must be those of at least one teacher)")
    for logits in teachers:
        if logits.shape != student_logits.shape:
            raise ValueError(f"teacher_logits: shape {tuple(logits.shape)} (must be {tuple(student_logits.shape)})")
    if target.shape != (rows,):
        raise ValueError(f"target: shape {tuple(target.shape)} (must be ({rows},))")
    if teacher_topk > vocabulary:
        raise ValueError(f"teacher_topk: {teacher_topk} (must be at most {vocabulary}, the number of symbols)")
    settings = (temperature, student_temperature, kd_weight, label_smoothing, teacher_topk)
    with_gradient = torch.is_grad_enabled() and student_logits.requires_grad
    loss, *parts = _DistillationLoss.apply(student_logits, target, settings, with_gradient, *teachers)
    return DistillationSums(loss, *parts)


def check_settings(
    temperature: float, student_temperature: float, kd_weight: float, label_smoothing: float, teacher_topk: int
) -> None:
    """Raise ValueError, in the words ``name: value (what is valid)``, for a setting out of range (NaN is)."""
    for name, value in (("temperature", temperature), ("student_temperature", student_temperature)):
        if not 0 < value < math.inf:
            raise ValueError(f"{name}: {value} (must be a finite number above 0)")
    if not 0 <= kd_weight <= 1:
        raise ValueError(f"kd_weight: {kd_weight} (must be between 0 and 1)")
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing: {label_smoothing} (must be at least 0 and below 1)")
    if teacher_topk < 0:
        raise ValueError(f"teacher_topk: {teacher_topk} (must be 0, for the full vocabulary, or more)")


class _DistillationLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, student_logits, target, settings, with_gradient, *teachers):
        temperature, student_temperature, kd_weight, label_smoothing, topk = settings
        rows, vocabulary = student_logits.shape
        gradient = torch.empty_like(student_logits, dtype=torch.float32) if with_gradient else None
        sums = torch.zeros(5, dtype=torch.float64, device=student_logits.device)
        elements = CHUNK_ELEMENTS.get(student_logits.device.type, CHUNK_ELEMENTS["cuda"])
        step = max(1, elements // max(1, vocabulary))
        for start in range(0, rows, step):
            chunk = slice(start, start + step)
            student = student_logits[chunk].float()
            teacher = [logits[chunk].float() for logits in teachers]
            soft = _soft_loss_topk if topk else _soft_loss
            kl, entropy, log_normaliser, best, difference = soft(
                student, teacher, temperature, student_temperature, topk
            )
            if student_temperature != 1:
                log_normaliser = torch.logsumexp(student, 1)
            nll = log_normaliser - student.gather(1, target[chunk, None]).squeeze(1)
            # α/V · Σ_v -log p(v), written so that it costs one mean over the row.
            hard = torch.lerp(nll, log_normaliser - student.mean(1), label_smoothing) if label_smoothing else nll
            agreement = student.argmax(1).eq(best)
            parts = (kl * student_temperature**2, hard, nll, entropy, agreement)
            sums += torch.stack([part.sum(dtype=torch.float64) for part in parts])
            if with_gradient:
                # d(T_s²·KL)/dz_s = T_s·(p_s - p_t)
                torch.mul(difference, kd_weight * student_temperature, out=gradient[chunk])
                if kd_weight != 1:
                    hard_gradient = torch.exp(student - log_normaliser[:, None]).sub_(label_smoothing / vocabulary)
                    correct = torch.full_like(nll, label_smoothing - 1)[:, None]
                    hard_gradient.scatter_add_(1, target[chunk, None], correct)
                    gradient[chunk].add_(hard_gradient, alpha=1 - kd_weight)
        ctx.gradient, ctx.dtype = gradient, student_logits.dtype
        ctx.mark_non_differentiable(*(parts := sums.unbind()))
        return (kd_weight * sums[0] + (1 - kd_weight) * sums[1]).float(), *parts

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_loss, *_):
        # The factor of a GradScaler is in grad_loss: multiply in float32, round to half precision afterwards.
        return (ctx.gradient * grad_loss).to(ctx.dtype), None, None, None, *(None,) * (len(ctx.needs_input_grad) - 4)


def _soft_loss(student: Tensor, teachers: list[Tensor], temperature: float, student_temperature: float, _: int):
    """Row-wise KL(p_t‖p_s), H(p_t), log Σ exp(z_s/T_s), the teacher's best symbol, and p_s - p_t (N, V).

    ``student`` and ``teachers`` are float32 (n, V) and stay as they are.
    """
    log_teacher, log_ratio, offset = _log_mean_probability(teachers, temperature)
    if temperature == student_temperature:
        # The difference of the logits first, then the temperature: exact where the two are near.
        u = torch.sub(student, teachers[0]).div_(temperature)
        if log_ratio is not None:
            u -= log_ratio
    else:
        u = _tempered(student, student_temperature) - log_teacher
        offset = torch.zeros_like(offset)
    teacher_probability = log_teacher.exp()
    entropy = -(teacher_probability * log_teacher).sum(1)
    mean = (teacher_probability * u).sum(1, keepdim=True)
    u -= mean
    weighted = torch.expm1(u).mul_(teacher_probability)
    far = u > FAR
    if far.any():
        weighted, overflown = _recompute_far(
            weighted, far, student, teacher_probability, offset + mean, student_temperature
        )
    else:
        overflown = None
    s = weighted.sum(1, keepdim=True)
    # KL = log1p(s) - Σ p_t·u. Where s is small the first orders of s and Σ p_t·u must cancel: element by element.
    u.mul_(teacher_probability)
    near = torch.sub(weighted, u).sum(1) - (s - torch.log1p(s)).squeeze(1)
    kl = torch.where(s.squeeze(1) < 1, near, torch.log1p(s).squeeze(1) - u.sum(1))
    log_normaliser = (offset + mean + torch.log1p(s)).squeeze(1)
    difference = torch.addcmul(weighted, teacher_probability, s, value=-1, out=weighted).div_(1 + s)
    if overflown is not None and len(overflown):
        log_student = torch.log_softmax(_tempered(student[overflown], student_temperature), 1)
        probability = teacher_probability[overflown]
        kl[overflown] = (torch.special.xlogy(probability, probability) - probability * log_student).sum(1)
        log_normaliser[overflown] = torch.logsumexp(_tempered(student[overflown], student_temperature), 1)
        difference[overflown] = log_student.exp() - probability
    # Rounding can leave a KL of two equal distributions a hair below zero.
    # Of one teacher by its logits, which tempering could make equal.
    best = (teachers[0] if len(teachers) == 1 else log_teacher).argmax(1)
    return kl.clamp_(min=0), entropy, log_normaliser, best, difference


def _recompute_far(weighted, far, student, teacher_probability, offset, student_temperature):
    """p_t·expm1(u) where u is large, from the student's logits; and the rows in which even that overflows."""
    exponent = (_tempered(student, student_temperature) - offset)[far]  # log p_t + u
    weighted[far] = torch.exp(exponent) - teacher_probability[far]
    rows = far.nonzero()[:, 0]
    return weighted, rows[exponent > 60].unique()  # e^60 times any number of symbols is below float32's largest


def _soft_loss_topk(student: Tensor, teachers: list[Tensor], temperature: float, student_temperature: float, k: int):
    """As :func:`_soft_loss`, with the teacher's k most probable symbols, renormalised over them at T."""
    if len(teachers) == 1:
        values, symbols = teachers[0].topk(k, 1)
        values = _tempered(values, temperature)
    else:
        values, symbols = _log_mean_probability(teachers, temperature)[0].topk(k, 1)
    log_teacher = torch.log_softmax(values, 1)
    teacher_probability = log_teacher.exp()
    entropy = -(teacher_probability * log_teacher).sum(1)
    log_student = torch.log_softmax(_tempered(student, student_temperature), 1)
    log_normaliser = _tempered(student[:, 0], student_temperature) - log_student[:, 0]
    cross_entropy = -(teacher_probability * log_student.gather(1, symbols)).sum(1)
    difference = log_student.exp_().scatter_add_(1, symbols, -teacher_probability)
    best = teachers[0].argmax(1) if len(teachers) == 1 else symbols[:, 0]
    return (cross_entropy - entropy).clamp_(min=0), entropy, log_normaliser, best, difference


def _log_mean_probability(teachers: list[Tensor], temperature: float):
    """log p_t of the mean over teachers, its log ratio to the first one's (None for one), and log Σ exp(z_1/T)."""
    logs = [torch.log_softmax(_tempered(logits, temperature), 1) for logits in teachers]
    normalisers = [
        (_tempered(logits[:, :1], temperature) - log[:, :1]) for logits, log in zip(teachers, logs, strict=True)
    ]
    if len(teachers) == 1:
        return logs[0], None, normalisers[0]
    ratios = [
        torch.sub(logits, teachers[0]).div_(temperature).sub_(normaliser - normalisers[0])
        for logits, normaliser in zip(teachers, normalisers, strict=True)
    ]
    ratios = torch.stack(ratios)
    log_ratio = torch.where(
        ratios.amax(0) < FAR,
        torch.log1p(torch.expm1(ratios).mean(0)),
        torch.logsumexp(ratios, 0) - math.log(len(teachers)),
    )
    return logs[0] + log_ratio, log_ratio, normalisers[0]


def _tempered(logits: Tensor, temperature: float) -> Tensor:
    return logits if temperature == 1 else logits / temperature
