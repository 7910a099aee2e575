"""The distillation loss as an ``nn.Module``: shapes, ``ignore_index`` and ``reduction`` as in torch's own losses."""

import operator

import torch
from torch import Tensor, nn
from torch._compile import _disable_dynamo  # torch.compiler.disable without importing the compiler at this point

from lskd.loss.checks import check_settings
from lskd.loss.distillation import distillation_loss
from lskd.loss.types import GradientScale, LossType

REDUCTIONS = ("mean", "sum", "none")


class DistillationLoss(nn.Module):
    """The distillation loss (1 - β)·H(y_LS, p_s(1)) + β·T_s²·KL(p_t(T) ‖ p_s(T_s)) of a student and its teacher.

    ``loss`` selects another distillation term in place of T_s²·KL, see :mod:`lskd.loss.reference`. The defaults are the
    paper's: pure distillation at T = 1. Exact whatever the precision of the logits (:mod:`lskd.loss.distillation`);
    logits of -inf have probability 0. The loss is float32. ``backward`` can be called once, and there is no second
    derivative. ``torch.compile`` breaks the graph here, so it cannot be used with ``fullgraph=True``, nor with the
    transforms of ``torch.func``.

    Args:
        temperature: T of the teacher's distribution, from 10⁻⁶ to 10⁵.
        student_temperature: T_s of the student's distribution; equal to ``temperature`` when None. With 1 the loss is
            also known as TTM.
        kd_weight: β in [0, 1]; the hard-label loss has the weight 1 - β.
        label_smoothing: α of the hard labels, in [0, 1): the weight of the uniform distribution.
        loss: ``kl``, ``standardised`` (z-scored logits), ``mse`` (logit matching), ``decoupled`` (DKD) or ``wttm``.
        nckd_weight: weight of the term of the non-target classes in ``decoupled``; 8 when None.
        gradient_scale: ``t2``, the loss's own gradient; ``none``, without the factor T_s²; ``match``, scaled so that
            the gradient of a batch has the same norm as that of ``kl`` at T = 1. The value is the same with all three.
        ignore_index: positions with this target are ignored.
        reduction: ``mean`` over the positions that are not ignored (NaN if all are, as in torch), ``sum``, or ``none``.

    Shapes:
        Logits of student and teacher: (C,), (N, C) or (N, C, d…). Targets: the same without C. Output: a scalar, or
        with ``none`` the shape of the targets, 0 where they are ignored.

    Raises:
        ValueError: a setting is out of range or cannot be combined with the loss.

    Example:
        >>> loss = DistillationLoss(temperature=2.0)
        >>> student = torch.tensor([[2.0, 0.0, 0.0]], requires_grad=True)
        >>> value = loss(student, torch.tensor([[0.0, 2.0, 0.0]]), torch.tensor([1]))
        >>> round(value.item(), 3)
        1.457
        >>> value.backward()
        >>> [round(g, 3) for g in student.grad[0].tolist()]
        [0.728, -0.728, 0.0]
    """

    def __init__(
        self,
        temperature: float = 1.0,
        *,
        student_temperature: float | None = None,
        kd_weight: float = 1.0,
        label_smoothing: float = 0.0,
        loss: LossType = "kl",
        nckd_weight: float | None = None,
        gradient_scale: GradientScale = "t2",
        ignore_index: int = -100,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        if reduction not in REDUCTIONS:
            raise ValueError(f"reduction: {reduction!r} (must be one of {', '.join(REDUCTIONS)})")
        try:
            ignore_index = operator.index(ignore_index)
        except TypeError:
            raise ValueError(f"ignore_index: {ignore_index!r} (must be an integer)") from None
        check_settings(
            temperature=temperature,
            student_temperature=student_temperature,
            kd_weight=kd_weight,
            label_smoothing=label_smoothing,
            loss=loss,
            nckd_weight=nckd_weight,
            gradient_scale=gradient_scale,
        )
        self.temperature, self.student_temperature, self.kd_weight = temperature, student_temperature, kd_weight
        self.loss: LossType = loss
        self.gradient_scale: GradientScale = gradient_scale
        self.label_smoothing, self.nckd_weight = label_smoothing, nckd_weight
        self.ignore_index, self.reduction = ignore_index, reduction

    def extra_repr(self) -> str:
        """The settings, for ``repr``."""
        names = ["temperature"] + ["student_temperature"] * (self.student_temperature is not None)
        names += ["kd_weight", "label_smoothing", "ignore_index", "reduction"]
        names += ["loss"] * (self.loss != "kl") + ["nckd_weight"] * (self.nckd_weight is not None)
        names += ["gradient_scale"] * (self.gradient_scale != "t2")
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in names)

    @_disable_dynamo
    def forward(self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor | None = None) -> Tensor:
        """Compute the loss.

        Args:
            student_logits: see the class's Shapes.
            teacher_logits: of the same shape; no gradient flows to them.
            target: class indices, 0 to C-1 or ``ignore_index``; needed for the hard-label loss, for ``decoupled``, and
                to ignore positions.

        Raises:
            ValueError: shapes or types do not fit, or a target is needed but missing.
        """
        for name, tensor in (("student_logits", student_logits), ("teacher_logits", teacher_logits)):
            if not isinstance(tensor, Tensor):
                raise ValueError(f"{name}: {type(tensor).__name__} (must be a tensor)")
            if not tensor.dim() or not tensor.size(min(tensor.dim() - 1, 1)):
                raise ValueError(f"{name}: shape {tuple(tensor.shape)} (must be of at least one class)")
        if teacher_logits.shape != student_logits.shape:
            valid = f"must be {tuple(student_logits.shape)}, as student_logits"
            raise ValueError(f"teacher_logits: shape {tuple(teacher_logits.shape)} ({valid})")
        student, teacher = _classes_last(student_logits), _classes_last(teacher_logits.detach())
        shape = student.shape[:-1]
        if target is None and self.kd_weight < 1:
            raise ValueError(f"target: None (must be given for kd_weight = {self.kd_weight}, below 1)")
        if target is None and self.loss == "decoupled":
            raise ValueError("target: None (must be given for the loss decoupled)")
        if target is not None and not isinstance(target, Tensor):
            raise ValueError(f"target: {type(target).__name__} (must be a tensor)")
        if target is not None and target.shape != shape:
            raise ValueError(f"target: shape {tuple(target.shape)} (must be {tuple(shape)})")
        # Without a target no position is ignored, even if ``ignore_index`` is a class such as 0.
        keep = student.new_ones(shape, dtype=torch.bool) if target is None else target != self.ignore_index
        target = student.new_zeros(shape, dtype=torch.int64) if target is None else target
        keep, target = keep.reshape(-1), target.reshape(-1)
        student, teacher = (logits.reshape(-1, logits.size(-1)) for logits in (student, teacher))
        ignored = not bool(keep.all())
        if ignored:
            student, teacher, target = student[keep], teacher[keep], target[keep]
        sums = distillation_loss(
            student,
            teacher,
            target,
            temperature=self.temperature,
            student_temperature=self.student_temperature,
            kd_weight=self.kd_weight,
            label_smoothing=self.label_smoothing,
            loss=self.loss,
            nckd_weight=self.nckd_weight,
            gradient_scale=self.gradient_scale,
            each_row=self.reduction == "none",
        )
        if self.reduction == "none":
            loss = sums.loss if not ignored else sums.loss.new_zeros(keep.shape).masked_scatter(keep, sums.loss)
            return loss.view(shape)
        return sums.loss / len(target) if self.reduction == "mean" else sums.loss


def _classes_last(logits: Tensor) -> Tensor:
    """Logits of shape (C,), (N, C) or (N, C, d…) with the classes as the last dimension."""
    return logits.movedim(1, -1) if logits.dim() > 2 else logits
