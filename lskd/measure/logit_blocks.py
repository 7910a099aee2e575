"""Iterate over logits in blocks of rows that stay in the cache while they are used several times, in float64."""

import math
from collections.abc import Iterable, Iterator

import numpy as np

from lskd.io.arrays import as_array, described, is_real

BLOCK = 2**18  # numbers in a block of rows: 2 MB, which fits a core's cache

Logits = np.ndarray | Iterable[np.ndarray]  # (N, K), or chunks of it


def blocks(logits: Logits) -> Iterator[np.ndarray]:
    """Yield blocks of rows of ``logits`` in float64, of about :data:`BLOCK` numbers at most.

    Raises:
        ValueError: not floating (N, K) with K above 0, a logit that is not finite, or chunks that differ in K.
    """
    first = 0
    classes: int | None = None
    if not isinstance(logits, Iterable):
        raise ValueError(f"logits: {type(logits).__name__} (must be an array, or chunks of it)")
    for chunk in [logits] if isinstance(logits, np.ndarray) or hasattr(logits, "detach") else logits:
        chunk = as_array("logits", chunk)
        if chunk.ndim != 2 or not chunk.shape[1] or chunk.dtype.kind != "f":
            raise ValueError(f"logits: {described(chunk)} (must be floating, samples by classes)")
        if classes not in (None, chunk.shape[1]):
            raise ValueError(f"logits: {chunk.shape[1]} classes (must be {classes}, as before)")
        classes = chunk.shape[1]
        rows = max(1, BLOCK // chunk.shape[1])
        for start in range(0, len(chunk), rows):
            block = np.asarray(chunk[start : start + rows], np.float64)
            if not (finite := np.isfinite(block).all(1)).all():
                sample = first + start + int(np.argmin(finite))
                raise ValueError(f"logits: not a finite number in sample {sample} (must be finite)")
            yield block
        first += len(chunk)


def validate_temperature(temperature: float) -> float:
    """Validate a temperature and return it as a float.

    Raises:
        ValueError: not finite, or not above 0.
    """
    if not (is_real(temperature) and math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature: {temperature} (must be a finite number above 0)")
    return float(temperature)
