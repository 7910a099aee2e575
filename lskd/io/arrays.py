"""Validate arrays from callers, which may be lists, NumPy arrays or tensors on any device."""

import numbers as kinds
import operator
from collections.abc import Iterable
from typing import Any

import numpy as np


def as_array(name: str, value: Any) -> np.ndarray:
    """Convert ``value`` to a NumPy array: from an array, a tensor on any device, or nested lists of equal lengths.

    Raises:
        ValueError: it is none of these.

    >>> as_array("features", [[1.0, 2.0]]).shape
    (1, 2)
    """
    if isinstance(value, np.ndarray):
        return value if value.dtype != np.longdouble else value.astype(np.float64)
    try:
        if hasattr(value, "detach"):  # a torch tensor; torch is not imported for it
            value = value.detach().cpu()
            wide = value.is_floating_point() and value.dtype.itemsize < 4  # including bfloat16, which NumPy lacks
            half = str(value.dtype) == "torch.float16"
            return (value.float() if wide and not half else value).numpy()
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{name}: {type(value).__name__} (must be an array, with rows of one length)") from None


def numbers(name: str, value: object, *shape: int | None) -> np.ndarray:
    """Convert ``value`` to a float64 array of finite numbers. In ``shape``, None allows any length.

    Raises:
        ValueError: a wrong shape or type, or a number that is not finite.

    >>> numbers("changes", [1, 2], None).tolist()
    [1.0, 2.0]
    >>> numbers("changes", [1.0, float("nan")], 2)
    Traceback (most recent call last):
    ValueError: changes: nan (must be finite numbers)
    """
    array = as_array(name, value)
    fits = array.ndim == len(shape) and all(n in (None, m) for n, m in zip(shape, array.shape, strict=True))
    if not fits or (array.dtype.kind not in "fiu" and array.size):
        wanted = ", ".join("any" if n is None else str(n) for n in shape) + "," * (len(shape) == 1)
        raise ValueError(f"{name}: {described(array)} (must be numbers of shape ({wanted}))")
    array = array.astype(np.float64)
    if not (finite := np.isfinite(array)).all():
        raise ValueError(f"{name}: {array[~finite][0]} (must be finite numbers)")
    return array


def whole(name: str, value: Any, least: int, most: int | None = None) -> int:
    """Validate a whole number between ``least`` and ``most``, and return it as an int.

    Raises:
        ValueError: not a whole number, or out of range.

    >>> whole("seed", np.int64(3), 0)
    3
    """
    valid = f"must be a whole number, {least} or more" if most is None else f"must be between {least} and {most}"
    try:
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name}: {value!r} ({valid})") from None
    if number < least or (most is not None and number > most):
        raise ValueError(f"{name}: {number} ({valid})")
    return number


def class_list(name: str, classes: object, among: int) -> list[int]:
    """Validate class indices, and return them as a list of int.

    Raises:
        ValueError: not a sequence, or an index that is not from 0 to ``among`` - 1.
    """
    if not isinstance(classes, Iterable):
        raise ValueError(f"{name}: {classes!r} (must be classes, between 0 and {among - 1})")
    return [whole(name, label, 0, among - 1) for label in classes]


def is_real(value: object) -> bool:
    """Whether ``value`` is a single real number, which includes NaN and infinities."""
    return isinstance(value, kinds.Real)


def validate_labels(labels: object, classes: int) -> np.ndarray:
    """Validate labels, and return them as (N,) int64.

    Raises:
        ValueError: not one-dimensional, or not integers from 0 to ``classes`` - 1.

    >>> validate_labels([2, 0], 3).tolist()
    [2, 0]
    """
    labels = as_array("labels", labels)
    if labels.ndim != 1 or (labels.dtype.kind not in "iu" and len(labels)):
        raise ValueError(f"labels: {described(labels)} (must be integers in one row)")
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        wrong = labels.min() if labels.min() < 0 else labels.max()
        raise ValueError(f"labels: {wrong} (must be between 0 and {classes - 1})")
    return labels.astype(np.int64)


def validate_class_names(class_names: Iterable[str]) -> list[str]:
    """Validate class names, and return them as a list.

    Raises:
        ValueError: no names, equal names, or a name that is not a string that UTF-8 can encode.
    """
    names = list(class_names)
    if not names:
        raise ValueError("class_names: none (must be at least one)")
    for name in names:
        if not isinstance(name, str) or any("\ud800" <= character <= "\udfff" for character in name):
            raise ValueError(f"class_names: {name!r} (must be strings)")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"class_names: {twice!r} twice (must be all different)")
    return names


def described(array: np.ndarray) -> str:
    """The dtype and shape of an array, for error messages.

    >>> described(np.zeros((2, 3)))
    'float64 of shape (2, 3)'
    """
    return f"{array.dtype} of shape {array.shape}"
