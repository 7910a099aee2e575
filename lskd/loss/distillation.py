"""The distillation loss of a student on its teacher's soft targets at a temperature: value and gradient in one pass.

The formula is that of :mod:`lskd.loss.reference`. Computed naively, at T = 64 it is off by half its value in bfloat16,
and also in float32 where the student is close to its teacher; :mod:`lskd.loss.rows` says what is computed instead.

Rows are processed in chunks that fit the processor's cache, and the gradient is computed along with the value, so that
the gradient is the only tensor of the size of the logits that is kept.
"""

import functools
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lskd.loss.checks import check_settings, check_student, check_teacher, validate_teacher
from lskd.loss.fused import FusedRows
from lskd.loss.rows import is_precise, rows
from lskd.loss.types import (
    DistillationSums,
    GradientScale,
    LossType,
    MeasuredSums,
    ProjectedLogits,
    Settings,
    TopkLogits,
)
from lskd.loss.variants import distillation_gradient, variant_rows

# The number of logits in a chunk: on a CPU few enough to stay in its cache; on a GPU enough to keep it busy, while the
# dozen tensors of this size that are allocated without a compiler still fit its memory.
CHUNK_ELEMENTS = {"cpu": 2**17, "cpu compiled": 2**17, "gpu": 2**22, "gpu compiled": 2**25}
# The precision in which a chunk is computed, and whether logits of -inf are handled. Where a pair is not enough for a
# chunk, the next pair is used for it and for all later chunks. Double precision may be 64 times slower on a GPU.
PRECISIONS = {
    "cpu": [(torch.float32, False), (torch.float64, False), (torch.float64, True)],
    "gpu": [(torch.float32, True)],
}
WORKSPACES = threading.local()
T1 = Settings(temperature=1.0, student_temperature=1.0, kd_weight=1.0, label_smoothing=0.0)  # the paper's loss at T = 1
# At least this many logits and rows are used to estimate a gradient's norm for the log; few enough to cost little.
MEASURED_ELEMENTS, MEASURED_ROWS = 2**14, 8
PROJECTED_ROWS = 256  # at least this many at a time: a product of fewer rows is bound by reading the weight matrix


def distillation_loss(
    student_logits: Tensor,
    teacher_logits: Tensor | ProjectedLogits | Sequence[Tensor | ProjectedLogits] | TopkLogits,
    target: Tensor,
    *,
    temperature: float = 1.0,
    student_temperature: float | None = None,
    kd_weight: float = 1.0,
    label_smoothing: float = 0.0,
    teacher_topk: int = 0,
    loss: LossType = "kl",
    nckd_weight: float | None = None,
    gradient_scale: GradientScale = "t2",
    all_reduce: Callable[[Tensor], object] | None = None,
    measure_gradient: bool = False,
    overwrite: bool = False,
    compiled: bool | None = None,
    each_row: bool = False,
) -> DistillationSums:
    """The distillation loss and its terms, summed over rows.

    Args:
        student_logits: (N, V), any floating dtype; -inf is a probability of 0, and N may be 0. Every row counts:
            remove padded positions before projecting to logits.
        teacher_logits: (N, V), or those of several teachers, (N, V) each, whose probabilities are averaged after
            tempering; or the k largest ones of one teacher. :class:`ProjectedLogits` are computed chunk by chunk.
        target: (N,) integer, 0 to V-1.
        temperature: T of the teacher's distribution, from 10⁻⁶ to 10⁵.
        student_temperature: T_s of the student's distribution, in the same range; equal to ``temperature`` when None.
            1 tempers the teacher only (Müller et al. 2019).
        kd_weight: β, in [0, 1].
        label_smoothing: α of the hard-label loss, in [0, 1): the weight of the uniform distribution.
        teacher_topk: keep only the k most probable tokens of the teacher and renormalise over them; 0 keeps all.
        loss: the distillation term: ``kl``, the paper's; ``standardised``, KL of z-scored logits; ``mse``, logit
            matching, the limit of ``kl`` as T → ∞; ``decoupled`` KD; or ``wttm``, which tempers the teacher only and
            weights rows by its smoothness (without the weights it is TTM: ``kl`` with a student temperature of 1).
            Formulas and sources: :mod:`lskd.loss.reference`. All but ``kl`` need all of the teacher's logits.
        nckd_weight: weight of the term of the non-target classes in the loss ``decoupled``, 0 or more; 8 when None.
        gradient_scale: how the gradient of the distillation term is scaled: ``t2``, not at all, it has the factor T_s²;
            ``none``, without that factor; or ``match``, multiplied by one number so that its norm over these rows
            equals that of the paper's loss at T = 1 for the same logits. The value of the loss is not scaled, so that
            logs remain comparable.
        all_reduce: with ``match``, sums a tensor in place over the processes that share the batch, like
            ``torch.distributed.all_reduce``; called once if there is a gradient. None: these rows are the whole batch.
        measure_gradient: return :class:`MeasuredSums`, as with ``match``, if there is a gradient to measure and the
            teacher's logits are not only its k largest.
        overwrite: write the gradient over the student's logits, which must not be used afterwards, so that no memory
            of their size is allocated.
        compiled: fuse the computation with torch.compile, for one teacher's dense logits; takes some seconds once per
            process. None: on a GPU only.
        each_row: return ``loss`` for each row, (N,), instead of the sum.

    Returns:
        The sums. ``loss.backward()`` may be called once: the gradient of ``student_logits`` has been computed already
        and is handed over without a copy.

    Raises:
        ValueError: a setting or a target is out of range (on a GPU, targets are not checked), or shapes or types do not
            fit.

    Example:
        >>> student = torch.tensor([[2.0, 0.0, 0.0]], requires_grad=True)
        >>> sums = distillation_loss(student, torch.tensor([[0.0, 2.0, 0.0]]), torch.tensor([1]), temperature=2.0)
        >>> round(sums.kd_loss.item(), 3)
        1.457
        >>> sums.loss.backward()
        >>> [round(g, 3) for g in student.grad[0].tolist()]
        [0.728, -0.728, 0.0]
    """
    settings = check_settings(
        temperature=temperature,
        student_temperature=student_temperature,
        kd_weight=kd_weight,
        label_smoothing=label_smoothing,
        teacher_topk=teacher_topk,
        loss=loss,
        gradient_scale=gradient_scale,
        nckd_weight=nckd_weight,
    )
    check_student(student_logits, target)
    teacher = validate_teacher(teacher_logits, student_logits, teacher_topk)
    check_teacher(teacher, loss, gradient_scale)
    with_gradient = torch.is_grad_enabled() and student_logits.requires_grad
    fused = None
    dense = isinstance(teacher, list) and len(teacher) == 1 and not teacher_topk and loss == "kl"
    if dense and (compiled or student_logits.device.type != "cpu"):
        fused = _fused_rows(student_logits.device, compiled is not False)
    inputs = _Inputs(teacher, target.long(), settings, teacher_topk, fused, loss)
    squares = None
    if (
        with_gradient
        and isinstance(teacher, list)
        and not teacher_topk
        and (measure_gradient or gradient_scale == "match")
    ):
        squares = _gradient_squares(student_logits.detach(), teacher, inputs, every_row=gradient_scale == "match")
        if gradient_scale == "match":
            of_batch = squares.clone()
            if all_reduce is not None:
                all_reduce(of_batch)
            factor = math.sqrt(of_batch[1] / of_batch[0]) if of_batch[0] else 1.0
            inputs = replace(inputs, settings=settings._replace(gradient_factor=factor))
        squares[0] *= inputs.settings.gradient_factor**2
    value, *terms = _DistillationLoss.apply(student_logits, inputs, with_gradient, overwrite, each_row)
    return DistillationSums(value, *terms) if squares is None else MeasuredSums(value, *terms, *squares.unbind())


_fused_rows = functools.cache(FusedRows)  # one for each device, compiled or not


@dataclass(frozen=True)
class _Inputs:
    """All inputs of the loss other than the student's logits.

    Attributes:
        teacher: logits of one teacher or several, or the k largest ones of one.
        target: (N,) int64.
        settings: settings of the loss.
        topk: how many of the teacher's logits to keep, 0 for all.
        fused: computes a chunk in place of :func:`lskd.loss.rows.rows`, unless None.
        loss: the distillation term.
    """

    teacher: list[Tensor | ProjectedLogits] | TopkLogits
    target: Tensor
    settings: Settings
    topk: int
    fused: FusedRows | None
    loss: LossType


class _DistillationLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, student: Tensor, inputs: _Inputs, with_gradient: bool, overwrite: bool, each_row: bool
    ) -> tuple[Tensor, ...]:
        # A gradient in half precision must not be rounded before it is multiplied, above all by a GradScaler's factor,
        # so it is computed in backward, where the factor is known.
        later = with_gradient and student.dtype in (torch.float16, torch.bfloat16)
        gradient = None
        if with_gradient and not later:
            gradient = student if overwrite else torch.empty_like(student)
        sums = torch.zeros(5, dtype=torch.float64, device=student.device)
        kd_weight, losses = inputs.settings.kd_weight, torch.empty(len(student) if each_row else 0, device=sums.device)
        for chunk, terms, chunk_gradient in _chunks(student, inputs, gradient is not None):
            sums += terms[:5].sum(1, dtype=torch.float64)
            if each_row:
                losses[chunk] = _weighted(terms, kd_weight)
            if gradient is not None and chunk_gradient is not None:
                gradient[chunk] = chunk_gradient
        ctx.gradient, ctx.overwrite, ctx.done = gradient, overwrite, False
        if later:
            ctx.save_for_backward(student)
            ctx.inputs = inputs
        ctx.mark_non_differentiable(*(totals := sums.unbind()))
        return losses if each_row else _weighted(sums, kd_weight).float(), *totals

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None, None]:
        if torch.is_grad_enabled():
            raise RuntimeError("the distillation loss has no second derivative: call backward without create_graph")
        if ctx.done:
            raise RuntimeError("backward was already called for this distillation loss: compute the loss again")
        grad_loss = grad_outputs[0][:, None] if grad_outputs[0].dim() else grad_outputs[0]
        if ctx.saved_tensors:
            (student,) = ctx.saved_tensors
            gradient = student.detach() if ctx.overwrite else torch.empty_like(student)
            for chunk, _, chunk_gradient in _chunks(student, ctx.inputs, with_gradient=True):
                if chunk_gradient is not None:
                    gradient[chunk] = chunk_gradient.mul_(grad_loss[chunk] if grad_loss.dim() else grad_loss)
        else:
            gradient = ctx.gradient.mul_(grad_loss)
        ctx.gradient, ctx.inputs, ctx.done = None, None, True
        return gradient, None, None, None, None


def _weighted(terms: Tensor, kd_weight: float) -> Tensor:
    """β · KL + (1 - β) · H, from terms in this order; a term of weight 0 is left out, even if it is not finite."""
    weighted = [weight * term for weight, term in zip((kd_weight, 1 - kd_weight), terms, strict=False) if weight]
    return functools.reduce(torch.add, weighted)


def _chunks(student: Tensor, inputs: _Inputs, with_gradient: bool) -> Iterator[tuple[slice, Tensor, Tensor | None]]:
    """Yield for each chunk: its rows, the terms of the loss and the gradient; see :mod:`lskd.loss.rows`."""
    settings, fused = inputs.settings, inputs.fused
    kind = "cpu" if student.device.type == "cpu" else "gpu"
    step = max(1, CHUNK_ELEMENTS[f"{kind} compiled" if fused and fused.compiled else kind] // student.size(1))
    precisions = PRECISIONS[kind]
    if kind == "cpu" and student.dtype != torch.float32:
        precisions = precisions[1:]
    shape = 4, min(step, len(student)), student.size(1)
    exact = torch.autocast(student.device.type, enabled=False)  # autocast would compute products in half precision
    for chunk, teacher in _teacher_chunks(inputs.teacher, len(student), step):
        student_rows, target = student[chunk], inputs.target[chunk]
        if inputs.loss != "kl" and isinstance(teacher, list):
            with exact:
                terms, gradient = variant_rows(inputs.loss, student_rows, teacher, target, settings, with_gradient)
            yield chunk, terms, gradient
            continue
        if fused and isinstance(teacher, list):
            with exact:
                terms, gradient = fused(student_rows, teacher[0], target, settings, with_gradient)
            yield chunk, terms, gradient
            continue
        teacher = _keep_topk(teacher, settings.temperature, inputs.topk)
        while True:
            dtype, masked = precisions[0]
            workspace = _workspace(shape, dtype, student.device)
            with exact:
                terms, gradient = rows(student_rows, teacher, target, settings, with_gradient, workspace, masked)
            if len(precisions) == 1:
                break
            if not terms.sum().isfinite():
                precisions = precisions[-1:]
            elif dtype == torch.float32 and isinstance(teacher, list) and not is_precise(terms, gradient, settings):
                precisions = precisions[1:]  # top-k logits need no check: nothing cancels unless the loss is not finite
            else:
                break
        yield chunk, terms, gradient


@torch.no_grad()
def _gradient_squares(
    student: Tensor, teachers: list[Tensor | ProjectedLogits], inputs: _Inputs, every_row: bool
) -> Tensor:
    """(2,) the squared norm of the distillation term's gradient, summed over rows, without β and gradient factor.

    The first is for this loss, the second for the paper's loss at T = 1. Unless ``every_row``, both are estimated from
    evenly spaced rows.
    """
    every = max(1, min(student.numel() // MEASURED_ELEMENTS, len(student) // MEASURED_ROWS))
    every = 1 if every_row else every
    rows = torch.arange(0, len(student), every, device=student.device)
    squares = torch.zeros(2, dtype=torch.float64, device=student.device)
    step = max(1, CHUNK_ELEMENTS["cpu" if student.device.type == "cpu" else "gpu"] // student.size(1))
    with torch.autocast(student.device.type, enabled=False):
        for chunk in rows.split(step):
            logits = student[chunk], [each[chunk] for each in teachers], inputs.target[chunk]
            for place, (loss, settings) in enumerate(((inputs.loss, inputs.settings), ("kl", T1))):
                squares[place] += distillation_gradient(loss, *logits, settings).square().sum()
    return squares * (len(student) / max(1, len(rows)))


def _workspace(shape: tuple[int, int, int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Memory for a chunk's computation; on a CPU its 2 or 4 MiB are kept for the thread's next loss."""
    count = math.prod(shape)
    if device.type != "cpu" or count > 4 * CHUNK_ELEMENTS["cpu"]:
        return torch.empty(shape, dtype=dtype, device=device)
    if (workspace := getattr(WORKSPACES, str(dtype), None)) is None or workspace.numel() < count:
        with torch.inference_mode(False):  # so that later losses can use it, even if this one runs in inference mode
            workspace = torch.empty(4 * CHUNK_ELEMENTS["cpu"], dtype=dtype)
        setattr(WORKSPACES, str(dtype), workspace)
    return workspace[:count].view(shape)


def _teacher_chunks(
    teacher: list[Tensor | ProjectedLogits] | TopkLogits, count: int, step: int
) -> Iterator[tuple[slice, list[Tensor] | TopkLogits]]:
    """Yield chunks of ``step`` rows with the teacher's logits; the projection is computed for many rows at once."""
    block = step * math.ceil(PROJECTED_ROWS / step)
    for first in range(0, count, block):
        block_logits = _teacher_rows(teacher, slice(first, first + block))
        for start in range(first, min(first + block, count), step):
            yield slice(start, start + step), _teacher_rows(block_logits, slice(start - first, start - first + step))


def _teacher_rows(teacher: Sequence[Tensor | ProjectedLogits] | TopkLogits, chunk: slice) -> list[Tensor] | TopkLogits:
    """The teacher's logits for a chunk of rows, projected where needed."""
    return teacher[chunk] if isinstance(teacher, TopkLogits) else [logits[chunk] for logits in teacher]


def _keep_topk(teacher: list[Tensor] | TopkLogits, temperature: float, topk: int) -> list[Tensor] | TopkLogits:
    """Keep only the teacher's k most probable classes if ``topk`` is not 0."""
    if not topk or isinstance(teacher, TopkLogits):
        return teacher
    if len(teacher) == 1:
        return TopkLogits(*teacher[0].topk(topk, 1))
    mean = torch.stack([torch.softmax(logits.double() / temperature, 1) for logits in teacher]).mean(0)
    probability, indices = mean.topk(topk, 1)
    return TopkLogits(probability.log() * temperature, indices)
