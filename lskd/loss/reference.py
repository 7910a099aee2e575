"""Reference implementation of the distillation losses: the formulas written out in float64, slow and plain.

The tests compare the fast implementations with them. The paper's equation in Section 2 has the cross entropy in place
of KL: they differ by the teacher's entropy, a constant, so the gradient is the same. The paper sets kd_weight = 1. A
term of weight 0 is left out, even if it is not finite.

The functions at the end are the other distillation terms, in place of T_s² · KL(p_t(T) ‖ p_s(T_s)), for one teacher:
(N,) from logits (N, V).
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
    agreement = (z.argmax(1) == p_t.argmax(1)) & ~kl.isnan()
    sums = loss, kd, hard, _expectation(y, -log_p), _expectation(p_t, -p_t.log()), agreement
    return DistillationSums(*(each.sum() for each in sums))


def teacher_distribution(teachers: list[Tensor], temperature: float = 1.0, topk: int = 0) -> Tensor:
    """(N, V) the mean of softmax(z_t / T) over teachers with logits (N, V), restricted to its ``topk`` largest.

    What is kept is renormalised; a ``topk`` of 0 keeps everything.
    """
    p_t = torch.stack([torch.softmax(logits.double() / temperature, 1) for logits in teachers]).mean(0)
    if topk:
        largest, indices = p_t.topk(topk, 1)
        p_t = torch.zeros_like(p_t).scatter(1, indices, largest / largest.sum(1, keepdim=True))
    return p_t


def _expectation(p: Tensor, values: Tensor) -> Tensor:
    """(N,) Σ p·values over each row; a value of probability 0 adds nothing, even an infinite one."""
    return torch.where(p == 0, 0.0, p * values).sum(1)


def standardised(
    student: Tensor, teacher: Tensor, temperature: float = 1.0, student_temperature: float | None = None
) -> Tensor:
    """T_s²·KL of z-scored logits: logit standardisation (Sun et al., CVPR 2024, arXiv:2403.01427, Algorithm 1).

    Each row is (z - mean) / standard deviation over its V classes, so that the student need not match the scale of the
    teacher's logits. A row of equal logits becomes 0. The paper's standard deviation divides by V, as here; its code
    divides by V - 1.

    Example:
        >>> student, teacher = torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([[0.0, 2.0, 0.0]])
        >>> round(standardised(student, teacher, temperature=2.0).item(), 3)
        1.639
        >>> round(standardised(10 * student + 3, teacher, temperature=2.0).item(), 3)
        1.639
    """

    def score(logits: Tensor) -> Tensor:
        z = logits.double() - logits.double().mean(1, keepdim=True)
        return torch.where(z.any(1, keepdim=True), z / z.square().mean(1, keepdim=True).sqrt(), z)

    student_temperature = student_temperature or temperature
    log_p_s = torch.log_softmax(score(student) / student_temperature, 1)
    log_p_t = torch.log_softmax(score(teacher) / temperature, 1)
    return student_temperature**2 * _expectation(log_p_t.exp(), log_p_t - log_p_s)


def mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Logit matching: ½ · mean over the classes of (z_s - z_t)², with each row's mean subtracted from its logits.

    It is the limit of T²·KL as T → ∞ (Kim et al., IJCAI 2021, arXiv:2105.08919). Their MSE of the raw logits also fits
    the mean of a row's logits, to which softmax is invariant, and lacks the factor ½.

    Example:
        >>> student, teacher = torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([[0.0, 2.0, 0.0]])
        >>> round(mse(student, teacher).item(), 3)
        1.333
        >>> p_t = teacher_distribution([teacher], temperature=1e4)
        >>> round(reference_loss(student, p_t, torch.tensor([1]), student_temperature=1e4).kd_loss.item(), 3)
        1.333
    """
    difference = student.double() - teacher.double()
    return (difference - difference.mean(1, keepdim=True)).square().mean(1) / 2


def decoupled(
    student: Tensor,
    teacher: Tensor,
    target: Tensor,
    temperature: float = 1.0,
    student_temperature: float | None = None,
    nckd_weight: float = 8.0,
) -> Tensor:
    """T_s²·(TCKD + w·NCKD): decoupled KD (Zhao et al., CVPR 2022, arXiv:2203.08679, with α = 1).

    TCKD is the KL of the binary distribution target / not target, NCKD that of the distribution among the other
    classes. KL itself has 1 - p_t(target) in place of w, which is near 0 where the teacher is confident.

    Example:
        >>> student, teacher = torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([[0.0, 2.0, 0.0]])
        >>> round(decoupled(student, teacher, torch.tensor([1]), temperature=2.0).item(), 3)
        5.097
    """
    is_target = torch.nn.functional.one_hot(target.long(), student.size(1)).bool()

    def parts(logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        p = torch.softmax(logits.double() / temperature, 1)
        others = p[~is_target].view(len(p), -1)
        rest = others.sum(1, keepdim=True)
        return torch.cat([p[is_target][:, None], rest], 1), others / rest

    student_temperature = student_temperature or temperature
    (b_s, q_s), (b_t, q_t) = parts(student, student_temperature), parts(teacher, temperature)
    tckd, nckd = _expectation(b_t, b_t.log() - b_s.log()), _expectation(q_t, q_t.log() - q_s.log())
    return student_temperature**2 * (tckd + nckd_weight * nckd)


def wttm(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Weighted transformed teacher matching: U·KL(p_t(T) ‖ p_s(1)) with U = Σ p_t(1)^(1/T).

    Zheng and Yang, ICLR 2024, arXiv:2402.11148, Section 4. Only the teacher is tempered, and rows on which it is
    smoother have more weight. Without U it is their TTM, the paper's loss with a student temperature of 1.

    Example:
        >>> student, teacher = torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([[0.0, 2.0, 0.0]])
        >>> round(wttm(student, teacher, temperature=2.0).item(), 3)
        1.294
    """
    power = torch.softmax(teacher.double(), 1) ** (1 / temperature)
    u = power.sum(1)
    p_t = power / u[:, None]
    return u * _expectation(p_t, p_t.log() - torch.log_softmax(student.double(), 1))
