"""Validate the arguments of the distillation loss: ValueErrors of one line, ``name: value (what is valid)``."""

import math
import operator
from collections.abc import Sequence
from numbers import Real
from typing import Any, get_args

import torch
from torch import Tensor

from lskd.loss.types import GradientScale, LossType, ProjectedLogits, Settings, TopkLogits

# In this range T²·KL is accurate to 1e-6, or 1e-3 on a GPU in float32; above it, KL is mostly rounding error.
LOWEST_T, HIGHEST_T = 1e-6, 1e5
INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def check_student(student: Tensor, target: Tensor) -> None:
    """Raise ValueError if logits or targets have a wrong type or shape, or a target is out of range."""
    for name, tensor in (("student_logits", student), ("target", target)):
        if not isinstance(tensor, Tensor):
            raise ValueError(f"{name}: {type(tensor).__name__} (must be a tensor)")
    if student.dim() != 2 or not student.size(1) or not student.is_floating_point():
        found = f"{student.dtype} of shape {tuple(student.shape)}"
        raise ValueError(f"student_logits: {found} (must be floating, rows by at least one class)")
    if target.shape != (count := len(student),) or (count and target.dtype not in INTEGERS):
        raise ValueError(f"target: {target.dtype} of shape {tuple(target.shape)} (must be integers, ({count},))")
    if count and target.device.type == "cpu" and not 0 <= target.min() <= target.max() < student.size(1):
        wrong = target.min() if target.min() < 0 else target.max()
        raise ValueError(f"target: {wrong} (must be between 0 and {student.size(1) - 1})")


def validate_teacher(teacher: object, student: Tensor, topk: int) -> list[Tensor | ProjectedLogits] | TopkLogits:
    """Return the teachers' logits as a list, or the k largest ones. Raises ValueError if types or shapes do not fit."""
    count, vocabulary = student.shape
    if isinstance(teacher, TopkLogits):
        k = teacher.values.shape[-1]
        expected = {"values": (count, k), "indices": (count, k), "log_normaliser": (count,)}
        for name, shape in expected.items():
            if (tensor := getattr(teacher, name)) is not None and tensor.shape != shape:
                raise ValueError(f"teacher_logits: {name} of shape {tuple(tensor.shape)} (must be {shape})")
        if not teacher.values.is_floating_point() or teacher.indices.dtype not in INTEGERS:
            found = f"{teacher.values.dtype} and {teacher.indices.dtype}"
            raise ValueError(f"teacher_logits: values and indices of {found} (must be floating and integers)")
        if count and teacher.indices.device.type == "cpu":
            least, most = teacher.indices.min(), teacher.indices.max()
            if not 0 <= least <= most < vocabulary:
                wrong = least if least < 0 else most
                raise ValueError(f"teacher_logits: index {wrong} (must be between 0 and {vocabulary - 1})")
        if not 1 <= k <= vocabulary:
            raise ValueError(f"teacher_logits: {k} largest (must be 1 to {vocabulary}, the size of the vocabulary)")
        if topk > k:
            raise ValueError(f"teacher_topk: {topk} (must be at most {k}, as many as the teacher's logits are)")
        return TopkLogits(teacher.values[:, :topk], teacher.indices[:, :topk]) if topk else teacher
    if not isinstance(teacher, (Tensor, ProjectedLogits, Sequence)):
        raise ValueError(f"teacher_logits: {type(teacher).__name__} (must be tensors)")
    teachers = [teacher] if isinstance(teacher, Tensor | ProjectedLogits) else list(teacher)
    if not teachers:
        raise ValueError("teacher_logits: none (must be those of at least one teacher)")
    for logits in teachers:
        if not isinstance(logits, Tensor | ProjectedLogits):
            raise ValueError(f"teacher_logits: {type(logits).__name__} (must be tensors)")
        if isinstance(logits, Tensor) and not logits.is_floating_point():
            raise ValueError(f"teacher_logits: {logits.dtype} (must be floating)")
        if logits.shape != student.shape:
            raise ValueError(f"teacher_logits: shape {tuple(logits.shape)} (must be {tuple(student.shape)})")
    if topk > vocabulary:
        raise ValueError(f"teacher_topk: {topk} (must be at most {vocabulary}, the size of the vocabulary)")
    return teachers


def check_settings(
    *,
    temperature: float = 1.0,
    student_temperature: float | None = None,
    kd_weight: float = 1.0,
    label_smoothing: float = 0.0,
    teacher_topk: int = 0,
    loss: LossType = "kl",
    gradient_scale: GradientScale = "t2",
    nckd_weight: float | None = None,
) -> Settings:
    """Validate the loss's arguments and return its settings as numbers, with defaults filled in.

    The gradient factor of ``match`` depends on the batch; it is 1 here.

    Raises:
        ValueError: an argument is NaN or out of range, or cannot be combined with the loss.
    """
    for name, value, known in (("loss", loss, LossType), ("gradient_scale", gradient_scale, GradientScale)):
        if value not in get_args(known):
            raise ValueError(f"{name}: {value!r} (must be one of {', '.join(get_args(known))})")
    own = {"mse": 1.0, "wttm": 1.0}.get(loss, temperature) if student_temperature is None else student_temperature
    for name, value in (("temperature", temperature), ("student_temperature", own)):
        check_temperature(name, value)
    if not _is_number(kd_weight) or not 0 <= kd_weight <= 1:
        raise ValueError(f"kd_weight: {kd_weight!r} (must be between 0 and 1)")
    if not _is_number(label_smoothing) or not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing: {label_smoothing!r} (must be at least 0 and below 1)")
    try:
        valid = not isinstance(teacher_topk, bool) and operator.index(teacher_topk) >= 0
    except TypeError:
        valid = False
    if not valid:
        raise ValueError(f"teacher_topk: {teacher_topk!r} (must be 0, for the full vocabulary, or more)")
    if nckd_weight is None:
        nckd_weight = Settings._field_defaults["nckd_weight"]
    elif not _is_number(nckd_weight) or not 0 <= nckd_weight < math.inf:
        raise ValueError(f"nckd_weight: {nckd_weight!r} (must be a finite number, 0 or more)")
    elif loss != "decoupled":
        raise ValueError(f"nckd_weight: {nckd_weight!r} (must be left out: the loss {loss} has no such term)")
    if loss == "mse" and temperature != 1:
        raise ValueError(f"temperature: {temperature!r} (must be 1: the loss mse has none, it is the limit T → ∞)")
    if loss in ("mse", "wttm") and own != 1:
        raise ValueError(f"student_temperature: {own!r} (must be 1: the loss {loss} does not temper the student)")
    if loss in ("mse", "wttm") and gradient_scale == "none":
        raise ValueError(f"gradient_scale: 'none' (must be t2 or match: the loss {loss} has no factor T²)")
    if not kd_weight and (loss != "kl" or gradient_scale != "t2"):
        what = f"the loss {loss}" if loss != "kl" else f"the gradient scale {gradient_scale}"
        raise ValueError(f"kd_weight: {kd_weight!r} (must be above 0: {what} applies to the distillation term)")
    if teacher_topk and (what := _needs_all_logits(loss, gradient_scale)):
        raise ValueError(f"teacher_topk: {teacher_topk!r} (must be 0: {what} needs all logits of the teacher)")
    factor = 1 / own**2 if gradient_scale == "none" else 1.0
    given = (temperature, own, kd_weight, label_smoothing, factor, nckd_weight)
    # As numbers, since a caller may change a tensor in place afterwards.
    return Settings(*(each.item() if isinstance(each, Tensor) else each for each in given))


def check_temperature(name: str, value: Any) -> None:
    """Check a temperature of the loss. Raises ValueError if it is not a number in the range of accurate results.

    >>> check_temperature("temperature", 1e9)
    Traceback (most recent call last):
    ValueError: temperature: 1000000000.0 (must be a number from 0.000001 to 100000; T → ∞ is the loss mse)
    """
    if not _is_number(value) or not LOWEST_T <= value <= HIGHEST_T:
        instead = "; T → ∞ is the loss mse" if _is_number(value) and value > HIGHEST_T else ""
        raise ValueError(f"{name}: {value!r} (must be a number from {LOWEST_T:f} to {HIGHEST_T:.0f}{instead})")


def check_teacher(
    teachers: list[Tensor | ProjectedLogits] | TopkLogits, loss: LossType, gradient_scale: GradientScale
) -> None:
    """Check that a loss can be computed from a teacher's logits.

    Raises:
        ValueError: they are only the k largest, come from several teachers, or have a single class, and the loss does
            not support that.
    """
    if isinstance(teachers, TopkLogits):
        if what := _needs_all_logits(loss, gradient_scale):
            raise ValueError(f"teacher_logits: the {teachers.values.shape[1]} largest (must be all: {what} needs them)")
    elif loss == "wttm" and len(teachers) > 1:
        raise ValueError(
            f"teacher_logits: of {len(teachers)} teachers (must be of one: the loss wttm weights rows by the teacher)"
        )
    elif loss == "decoupled" and teachers[0].shape[1] < 2:
        raise ValueError(
            "student_logits: 1 class (must be at least 2: the loss decoupled needs the target and other classes)"
        )


def _needs_all_logits(loss: LossType, gradient_scale: GradientScale) -> str | None:
    """Name the setting that needs the teacher's logits of all classes, for an error message; None if none does."""
    if loss != "kl":
        return f"the loss {loss}"
    return "the gradient scale match" if gradient_scale == "match" else None


def _is_number(value: object) -> bool:
    """Whether ``value`` is a real number or a tensor with one element."""
    return isinstance(value, Real) or (isinstance(value, Tensor) and value.numel() == 1)
