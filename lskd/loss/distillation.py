"""The distillation loss: a student against its teacher's soft targets at a temperature, value and gradient in one pass.

For logits z (N rows, V symbols or classes), p(T) = softmax(z / T), teacher t, student s, hard target y:

    loss = (1 - kd_weight) · H(y_LS, p_s(1)) + kd_weight · T_s² · KL(p_t(T) ‖ p_s(T_s))

which is the paper's Eq. of Section 2 with KL in place of the cross entropy: they differ by the teacher's entropy, a
constant, so the gradient is the same. The paper sets kd_weight = 1. y_LS = (1-α)·onehot(y) + α/V. A term of weight 0 is
left out, whatever it is. :mod:`lskd.loss.reference` has the formula as it stands here, in a dozen lines.

Whatever precision comes in, at T = 64 a loss in bfloat16 is wrong by half its value, and one in float32 is where the
student is near its teacher: :mod:`lskd.loss.rows` says what is computed instead.

Rows go through in chunks that fit the processor's cache, and the gradient is made along with the value, so nothing of
the size of the logits is kept but the gradient.
"""

import functools
import importlib.util
import logging
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lskd.loss.checks import check_settings, check_student, checked_teacher
from lskd.loss.rows import ProjectedLogits, Settings, TopkLogits, fused_rows, is_precise, rows

logger = logging.getLogger(__name__)

# Logits of a chunk. A processor's stay in its cache; a GPU is filled by them, and has room for the dozen of this
# size that are made without a compiler.
CHUNK_ELEMENTS = {"cpu": 2**17, "cpu compiled": 2**17, "gpu": 2**22, "gpu compiled": 2**25}
# How to compute some rows: in which precision, and whether with care for logits of -inf. Each is for what the one
# before it was not enough for, and for the chunks that follow. Double precision may be 64 times slower on a GPU.
WAYS = {"cpu": [(torch.float32, False), (torch.float64, False), (torch.float64, True)], "gpu": [(torch.float32, True)]}
WORKSPACES = threading.local()
PROJECTED_ROWS = 256  # at least so many at a time: a matrix product of few rows only waits for the matrix


@dataclass(frozen=True)
class DistillationSums:
    """Sums over the N rows, in nats; divide by the number of sentences, tokens or images once, at the end.

    Attributes:
        loss: what is trained on; differentiable with respect to the student's logits. Scalar, float32.
        kd_loss: T_s² · KL(p_t(T) ‖ p_s(T_s)), at least 0. Scalar, float64, like all that follow.
        hard_loss: H(y_LS, p_s(1)), the label-smoothed cross entropy.
        nll_loss: -log p_s(1)[y], always at temperature 1 and without smoothing.
        teacher_entropy: H(p_t(T)), of the targets that were used: after top-k where there is one.
        agreement: number of rows in which the teacher's best symbol, of equal ones the first, has the student's largest
            logit, 0 to N.
    """

    loss: Tensor
    kd_loss: Tensor
    hard_loss: Tensor
    nll_loss: Tensor
    teacher_entropy: Tensor
    agreement: Tensor


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
    overwrite: bool = False,
    compiled: bool | None = None,
    each_row: bool = False,
) -> DistillationSums:
    """The distillation loss and what one wants to know beside it, summed over rows.

    Args:
        student_logits: (N, V), any floating dtype; -inf is a probability of 0, and N may be 0. Only rows that count:
            leave padded positions out before projecting.
        teacher_logits: (N, V), or several teachers' (N, V) each, whose probabilities are averaged after tempering; or
            the k largest ones of one teacher. Projected ones are made a chunk at a time.
        target: (N,) integer, 0 to V-1.
        temperature: T of the teacher's distribution, above 0.
        student_temperature: T_s of the student's, above 0; the same as ``temperature`` when None. 1 tempers the
            teacher only (Müller et al. 2019).
        kd_weight: β, in [0, 1].
        label_smoothing: α of the hard term, in [0, 1), the mixture with the uniform distribution.
        teacher_topk: keep only the k most probable symbols of the teacher and renormalise over them, 0 keeps all.
        overwrite: put the gradient where the student's logits are, which nobody may use afterwards: nothing of their
            size is made.
        compiled: let torch.compile fuse it, for one teacher's dense logits; takes seconds, once a process. None: on
            a GPU alone.
        each_row: ``loss`` is that of each row, (N,), and not the sum.

    Returns:
        The sums; ``loss.backward()`` reaches ``student_logits``, once: the gradient is there already and is handed
        over, not copied.

    Raises:
        ValueError: a setting or a target out of range (on a GPU, targets are not looked at), shapes or types that do
            not fit.

    Example:
        >>> student = torch.tensor([[2.0, 0.0, 0.0]], requires_grad=True)
        >>> sums = distillation_loss(student, torch.tensor([[0.0, 2.0, 0.0]]), torch.tensor([1]), temperature=2.0)
        >>> round(sums.kd_loss.item(), 3)
        1.457
        >>> sums.loss.backward()
        >>> [round(g, 3) for g in student.grad[0].tolist()]
        [0.728, -0.728, 0.0]
    """
    student_temperature = temperature if student_temperature is None else student_temperature
    check_settings(temperature, student_temperature, kd_weight, label_smoothing, teacher_topk)
    check_student(student_logits, target)
    teacher = checked_teacher(teacher_logits, student_logits, teacher_topk)
    settings = Settings(temperature, student_temperature, kd_weight, label_smoothing)
    with_gradient = torch.is_grad_enabled() and student_logits.requires_grad
    dense = isinstance(teacher, list) and len(teacher) == 1 and not teacher_topk
    on_processor = student_logits.device.type == "cpu"
    fused = dense and (compiled or not on_processor)
    if fused:
        fused = _fused_rows(student_logits.device, compiled is not False)
    problem = teacher, target.long(), settings, teacher_topk, fused
    loss, *parts = _DistillationLoss.apply(student_logits, problem, with_gradient, overwrite, each_row)
    return DistillationSums(loss, *parts)


class _DistillationLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, student, problem, with_gradient, overwrite, each_row):
        # A gradient in half precision must not be rounded before it is multiplied, by a GradScaler's factor above all:
        # it is made once that is known.
        later = with_gradient and student.dtype in (torch.float16, torch.bfloat16)
        gradient = None
        if with_gradient and not later:
            gradient = student if overwrite else torch.empty_like(student)
        sums = torch.zeros(5, dtype=torch.float64, device=student.device)
        weight, losses = problem[2].kd_weight, torch.empty(len(student) if each_row else 0, device=student.device)
        for chunk, parts, part_gradient in _chunks(student, *problem, gradient is not None):
            sums += parts[:5].sum(1, dtype=torch.float64)
            if each_row:
                losses[chunk] = _weighted(parts, weight)
            if gradient is not None:
                gradient[chunk] = part_gradient
        ctx.gradient, ctx.overwrite, ctx.done = gradient, overwrite, False
        if later:
            ctx.save_for_backward(student)
            ctx.problem = problem
        ctx.mark_non_differentiable(*(parts := sums.unbind()))
        return losses if each_row else _weighted(sums, weight).float(), *parts

    @staticmethod
    def backward(ctx, grad_loss, *_):
        if torch.is_grad_enabled():
            raise RuntimeError("the distillation loss has no second derivative: call backward without create_graph")
        if ctx.done:
            raise RuntimeError("the gradient of this distillation loss has been handed over already: compute it anew")
        grad_loss = grad_loss[:, None] if grad_loss.dim() else grad_loss
        if ctx.saved_tensors:
            (student,) = ctx.saved_tensors
            gradient = student.detach() if ctx.overwrite else torch.empty_like(student)
            for chunk, _, part in _chunks(student, *ctx.problem, True):
                gradient[chunk] = part.mul_(grad_loss[chunk] if grad_loss.dim() else grad_loss)
        else:
            gradient = ctx.gradient.mul_(grad_loss)
        ctx.gradient, ctx.problem, ctx.done = None, None, True
        return gradient, None, None, None, None


def _weighted(parts: Tensor, kd_weight: float) -> Tensor:
    """β · KL + (1 - β) · H of each column; a term of weight 0 is left out, also where it is not finite."""
    return sum(weight * part for weight, part in zip((kd_weight, 1 - kd_weight), parts, strict=False) if weight)


def _chunks(student, teacher, target, settings, topk, fused, with_gradient):
    """Of some rows after the others: which ones, their ``parts`` and their gradient; see :mod:`lskd.loss.rows`."""
    kind = "cpu" if student.device.type == "cpu" else "gpu"
    kind += " compiled" if fused and fused.compiled else ""
    step = max(1, CHUNK_ELEMENTS[kind] // student.size(1))
    ways = WAYS["cpu" if kind == "cpu" else "gpu"]
    ways = ways[kind == "cpu" and student.dtype != torch.float32 :]
    shape = 4, min(step, len(student)), student.size(1)
    exact = torch.autocast(student.device.type, enabled=False)  # it would make products in half precision
    for chunk, part in _teacher_chunks(teacher, len(student), step):
        if fused:
            with exact:
                found = fused(student[chunk], part[0], target[chunk], settings, with_gradient)
            yield chunk, *found
            continue
        part = _kept(part, settings.temperature, topk)
        while True:
            dtype, masked = ways[0]
            workspace = _workspace(shape, dtype, student.device)
            with exact:
                found = rows(student[chunk], part, target[chunk], settings, with_gradient, workspace, masked)
            if len(ways) == 1:
                break
            if not found[0].sum().isfinite():
                ways = ways[-1:]
            # Of k symbols alone, nothing cancels but at these.
            elif dtype == torch.float32 and not (isinstance(part, TopkLogits) or is_precise(*found, settings)):
                ways = ways[1:]
            else:
                break
        yield chunk, *found


def _workspace(shape: tuple[int, int, int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Room for some rows' computation; a processor's is kept for the next loss of the thread, 2 or 4 MiB."""
    count = math.prod(shape)
    if device.type != "cpu" or count > 4 * CHUNK_ELEMENTS["cpu"]:
        return torch.empty(shape, dtype=dtype, device=device)
    if (kept := getattr(WORKSPACES, str(dtype), None)) is None or kept.numel() < count:
        with torch.inference_mode(False):  # whatever it is asked for first, any loss can use it
            kept = torch.empty(4 * CHUNK_ELEMENTS["cpu"], dtype=dtype)
        setattr(WORKSPACES, str(dtype), kept)
    return kept[:count].view(shape)


def _teacher_chunks(teacher: list[Tensor | ProjectedLogits] | TopkLogits, count: int, step: int):
    """Rows, ``step`` at a time, and what the teacher has for them."""
    block = step * math.ceil(PROJECTED_ROWS / step)
    for first in range(0, count, block):
        some = _some(teacher, slice(first, first + block))
        for start in range(first, min(first + block, count), step):
            yield slice(start, start + step), _some(some, slice(start - first, start - first + step))


def _some(teacher: list[Tensor | ProjectedLogits] | TopkLogits, chunk: slice) -> list[Tensor] | TopkLogits:
    """Some rows of the teacher, projected."""
    return teacher.rows(chunk) if isinstance(teacher, TopkLogits) else [logits[chunk] for logits in teacher]


def _kept(part: list[Tensor] | TopkLogits, temperature: float, topk: int) -> list[Tensor] | TopkLogits:
    """The k most probable symbols of these rows of the teacher, where so many are asked for."""
    if not topk or isinstance(part, TopkLogits):
        return part
    if len(part) == 1:
        return TopkLogits(*part[0].topk(topk, 1))
    mean = torch.stack([torch.softmax(logits.double() / temperature, 1) for logits in part]).mean(0)
    probability, symbols = mean.topk(topk, 1)
    return TopkLogits(probability.log() * temperature, symbols)


@functools.cache
def _fused_rows(device: torch.device, compiled: bool):
    """:func:`fused_rows` with the settings as tensors, so that one kernel is of all; compiled, where torch can."""
    function = fused_rows
    if compiled and device.type != "cpu" and importlib.util.find_spec("triton") is None:  # pragma: no cover (GPU)
        logger.warning("no Triton: the distillation loss is not compiled, and slower")
    elif compiled:
        function = torch.compile(fused_rows, dynamic=True)

    @functools.lru_cache(maxsize=64)
    def arguments(settings: Settings) -> tuple[Settings, bool, bool]:
        tensors = Settings(*torch.tensor(settings, dtype=torch.float32, device=device).unbind())
        return tensors, settings.student_temperature != 1, settings.kd_weight != 1

    def run(student: Tensor, teacher: Tensor, target: Tensor, settings: Settings, with_gradient: bool):
        return function(student, teacher, target, *arguments(settings), with_gradient)

    run.compiled = function is not fused_rows
    return run
