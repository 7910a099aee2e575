"""The distillation loss and its gradient for a chunk of rows on a GPU, in float32, to be compiled into a few kernels.

Double precision can be 64 times slower on a GPU. Where student and teacher are close, p_s - p_t is a small difference
of large numbers. It is computed as tanh(d/2)·(p_s + p_t) with d = log p_s - log p_t, for which only the difference of
the logits has to be exact. The formulas and the terms returned are those of :mod:`lskd.loss.rows`.
"""

import functools
import importlib.util
import logging
import math

import torch
from torch import Tensor

from lskd.loss.rows import LEAST
from lskd.loss.types import Settings

logger = logging.getLogger(__name__)

NEAR = 0.6  # |log p_s - log p_t| below which computing p_s - p_t directly would lose more than a digit


class FusedRows:
    """:func:`fused_rows` on one device, with the settings passed as tensors so that one kernel serves all settings.

    Attributes:
        compiled: whether torch.compile fuses it.
    """

    def __init__(self, device: torch.device, compiled: bool) -> None:
        self.function = fused_rows
        if compiled and device.type != "cpu" and importlib.util.find_spec("triton") is None:  # pragma: no cover (GPU)
            logger.warning("no Triton: the distillation loss is not compiled, and slower")
        elif compiled:
            self.function = torch.compile(fused_rows, dynamic=True)
        self.compiled = self.function is not fused_rows

    def __call__(
        self, student: Tensor, teacher: Tensor, target: Tensor, settings: Settings, with_gradient: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Like :func:`lskd.loss.rows.rows` for one teacher's dense logits: the first five terms, (5, n), float32."""
        temperature, student_temperature, kd_weight, alpha, gradient_factor, _ = _setting_tensors(
            settings, student.device
        )
        return self.function(
            student,
            teacher,
            target,
            temperature,
            student_temperature,
            kd_weight,
            alpha,
            gradient_factor,
            tempered=settings.student_temperature != 1,
            with_hard_gradient=settings.kd_weight != 1,
            with_gradient=with_gradient,
        )


def fused_rows(
    student: Tensor,
    teacher: Tensor,
    target: Tensor,
    temperature: Tensor,
    student_temperature: Tensor,
    kd_weight: Tensor,
    alpha: Tensor,
    gradient_factor: Tensor,
    tempered: bool,
    with_hard_gradient: bool,
    with_gradient: bool,
) -> tuple[Tensor, Tensor | None]:
    """The terms (5, n) of the loss and its gradient (n, V), in float32, for one teacher's dense logits.

    The terms are the first five of :func:`lskd.loss.rows.rows`. It does not branch on data, so it can be fused.

    Args:
        student: (n, V) logits.
        teacher: (n, V) logits.
        target: (n,) integer.
        temperature: T of the teacher; a scalar, like the next four.
        student_temperature: T_s.
        kd_weight: β.
        alpha: α of the label smoothing.
        gradient_factor: factor of the distillation term's gradient.
        tempered: whether T_s is not 1.
        with_hard_gradient: whether β is not 1.
        with_gradient: whether the gradient is wanted.
    """
    student, teacher = student.float(), teacher.float()
    largest, teacher_largest = student.amax(1, keepdim=True), teacher.amax(1, keepdim=True)
    power, teacher_power = (student - largest) / student_temperature, (teacher - teacher_largest) / temperature
    exponential, teacher_exponential = power.exp(), teacher_power.exp()
    total, teacher_total = exponential.sum(1, keepdim=True), teacher_exponential.sum(1, keepdim=True)
    p_s, p_t = exponential / total, teacher_exponential / teacher_total
    # d = log p_s - log p_t, up to the rounding of a constant per row: `excess` corrects that, as p_s and p_t sum to 1.
    constant = total.log() - teacher_total.log() + largest / student_temperature - teacher_largest / temperature
    d = (student - teacher) / student_temperature + teacher * (1 / student_temperature - 1 / temperature) - constant
    both, x = p_s + p_t, d / 2  # where a logit is -inf, d is infinite or NaN, and p_s - p_t is used below
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
    gradient = torch.where(kd_weight > 0, kd_weight * student_temperature * gradient_factor * difference, 0.0)
    if with_hard_gradient:
        correct = torch.arange(student.size(1), device=student.device) == target[:, None]
        of_target = alpha / student.size(1) + torch.where(correct, 1 - alpha, 0.0)
        gradient = gradient + (1 - kd_weight) * (exponential / total - of_target)
    agreement = student.argmax(1, keepdim=True).eq(teacher.argmax(1, keepdim=True)) & ~kl.isnan()
    columns = [kl.clamp(min=0) * student_temperature**2, hard, nll, entropy, agreement]
    return torch.cat([column.float() for column in columns], 1).T, gradient if with_gradient else None


@functools.lru_cache(maxsize=64)
def _setting_tensors(settings: Settings, device: torch.device) -> tuple[Tensor, ...]:
    return torch.tensor(settings, dtype=torch.float32, device=device).unbind()
