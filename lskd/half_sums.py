"""Half-precision features added up class by class by torch, at about the speed at which memory gives them.

A row goes through three passes while it is in the cache: to float32, its squared norm, and onto a sum of its class. At
most :data:`TOGETHER` rows of a class are added in float32 before their sum goes on in float64. A half has 11 digits of
float32's 24, so what is lost is a digit of a feature that is 2¹² times smaller than the sum it comes to: 4e-6 of Σ|x|
at the very most, 2e-8 of what networks give. Rounding the same features to half precision has cost 5e-4 of each.
"""

import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import numpy as np

TOGETHER = 64  # rows of a class that are added in float32
SPAN = 2**15  # rows whose sums are held in float32, for K + SPAN / TOGETHER sums at most
BLOCK = 2**20  # features that are in the cache at once, in float32
PAGE = 4096  # bytes that a system maps at once, at least
MANY = 2**24  # features for which torch is worth importing


def worth_it(features: np.ndarray) -> bool:
    """Whether these features are many, in half precision, and torch is there."""
    return features.dtype == np.float16 and features.size >= MANY and find_spec("torch") is not None


def slots(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A sum for each class and, where a class has more than :data:`TOGETHER` rows, another for each so many.

    Args:
        labels: (N,) at least 0.

    Returns:
        The sum that each row belongs to, (N,), and the class of each sum, (S,).

    Example:
        >>> which, classes = slots(np.array([5, 3, 5, 5]))
        >>> which.tolist(), classes.tolist()
        ([1, 0, 1, 1], [3, 5])
    """
    small = labels.astype(np.uint16) if labels.max(initial=0) < 2**16 else labels  # these have a radix sort
    order = np.argsort(small, kind="stable")
    ordered, place = labels[order], np.arange(len(labels))
    first = np.maximum.accumulate(np.where(np.diff(ordered, prepend=-1) != 0, place, 0))  # of the class
    begins = (place - first) % TOGETHER == 0
    which = np.empty_like(labels)
    which[order] = np.cumsum(begins) - 1
    return which, ordered[begins]


def spans(features: np.ndarray, labels: np.ndarray, sums: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Add rows to the sums of their classes, a span at a time, once the caller has seen its norms and goes on.

    Args:
        features: (N, d) float16, also an array that lies on the disk.
        labels: (N,) int64, 0 to K-1.
        sums: (K, d) float64, which are added to.

    Yields:
        The number of a span's first row, and the norms of its rows: (n,) float32, valid until the next span.
    """
    import torch

    dimension = features.shape[1]
    rows = max(1, BLOCK // dimension)
    single, double = torch.empty(rows, dimension), torch.empty(rows, dimension, dtype=torch.float64)
    norms, held = torch.empty(SPAN), torch.empty(0, dimension)
    total = torch.from_numpy(sums)
    for start in _read(features):
        with warnings.catch_warnings(action="ignore"):  # a file that is mapped for reading is only read
            halves = torch.from_numpy(np.ascontiguousarray(features[start : start + SPAN]))
        which, classes = (torch.from_numpy(each) for each in slots(labels[start : start + SPAN]))
        if len(held) < len(classes):
            held = torch.empty(len(classes), dimension)
        parts = held[: len(classes)].zero_()
        of_span = norms[: len(halves)]
        for half, slot, norm in zip(halves.split(rows), which.split(rows), of_span.split(rows), strict=True):
            block = single[: len(half)].copy_(half)
            torch.linalg.vector_norm(block, dim=1, out=norm)
            parts.index_add_(0, slot, block)
        yield start, of_span.numpy()
        for part, label in zip(parts.split(rows), classes.split(rows), strict=True):
            total.index_add_(0, label, double[: len(part)].copy_(part))


def _read(features: np.ndarray) -> Iterator[int]:
    """The first row of each span; of a mapped file it is in memory, and a thread reads the next one meanwhile."""
    starts = range(0, len(features), SPAN)
    if not isinstance(features, np.memmap) or not features.flags.c_contiguous:
        yield from starts
        return
    pages = features.reshape(-1)[:: PAGE // features.itemsize]  # a number of each
    rate = pages.size / len(features)

    def touch(start: int) -> None:
        pages[int(start * rate) : int((start + SPAN) * rate)].view(np.int16).sum()

    with ThreadPoolExecutor(1) as thread:
        reading = thread.submit(touch, 0)
        for start in starts:
            reading.result()
            reading = thread.submit(touch, start + SPAN)
            yield start
