"""The moments of each class: what a stream of features leaves behind when centroids and their spread are wanted."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from lskd import half_sums

READ_BYTES = 2**24  # of float64: rows that are read and converted while those before them are summed
BLOCK_BYTES = 2**20  # of float64: rows that stay in a core's cache while they are used twice


class ClassMoments:
    """Counts, sums of features and of their squared norms, of each of K classes, in float64: exact, and they add up.

    But many half-precision features at once are summed by torch, where it is installed, in float32 for a few rows at a
    time: four times as fast, and exact to some 1e-8 of what is summed, see :mod:`lskd.half_sums`.

    Args:
        classes: K, above 0.
        dimension: d of the features, above 0.

    Attributes:
        counts: (K,) int64, samples.
        sums: (K, d) float64.
        squares: (K,) float64, Σ‖x‖².

    Example:
        >>> moments = ClassMoments(2, 1)
        >>> moments.update(np.array([[1.0], [3.0], [5.0]]), np.array([0, 0, 1]))
        >>> moments.centroids().tolist(), moments.scatter().tolist()
        ([[2.0], [5.0]], [2.0, nan])
    """

    def __init__(self, classes: int, dimension: int):
        for name, value in (("classes", classes), ("dimension", dimension)):
            if value < 1:
                raise ValueError(f"{name}: {value} (must be at least 1)")
        self.counts = np.zeros(classes, np.int64)
        self.sums = np.zeros((classes, dimension))
        self.squares = np.zeros(classes)

    @property
    def classes(self) -> int:
        """K."""
        return len(self.counts)

    @property
    def dimension(self) -> int:
        """d."""
        return self.sums.shape[1]

    def update(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Add samples; memory does not grow with their number.

        Args:
            features: (N, d), any floating dtype, also an array that lies on the disk.
            labels: (N,) integers, 0 to K-1.

        Raises:
            ValueError: shapes that do not fit, a label out of range, or a feature that is not finite. Nothing is added
                then but the blocks before the feature.
        """
        labels = checked_labels(labels, self.classes)
        if features.ndim != 2 or features.shape != (len(labels), self.dimension) or features.dtype.kind != "f":
            shape = (len(labels), self.dimension)
            raise ValueError(
                f"features: {features.dtype} of shape {tuple(features.shape)} (must be floating, of shape {shape})"
            )
        if half_sums.worth_it(features):
            for start, norms in half_sums.spans(features, labels, self.sums):
                self._add_norms(norms.astype(np.float64) ** 2, labels[start : start + len(norms)], start)
            return
        rows = max(1, BLOCK_BYTES // (8 * self.dimension))
        for start, some in _in_float64(features):
            for first in range(start, start + len(some), rows):
                block = some[first - start : first - start + rows]
                self._add(block, labels[first : first + len(block)], first)

    def _add(self, block: np.ndarray, labels: np.ndarray, first: int) -> None:
        self._add_norms(np.einsum("nd,nd->n", block, block), labels, first)
        for label, row in zip(labels.tolist(), block, strict=True):
            total = self.sums[label]
            total += row

    def _add_norms(self, squared: np.ndarray, labels: np.ndarray, first: int) -> None:
        if not np.isfinite(squared).all():
            sample = first + int(np.flatnonzero(~np.isfinite(squared))[0])
            raise ValueError(f"features: not a finite number in sample {sample} (must be finite)")
        np.add.at(self.squares, labels, squared)
        np.add.at(self.counts, labels, 1)

    def merge(self, other: "ClassMoments") -> None:
        """Add the moments of ``other``, of other samples.

        Raises:
            ValueError: ``other`` has other classes or another dimension.
        """
        if other.sums.shape != self.sums.shape:
            raise ValueError(f"other: classes and dimension {other.sums.shape} (must be {self.sums.shape})")
        self.counts += other.counts
        self.sums += other.sums
        self.squares += other.squares

    def centroids(self) -> np.ndarray:
        """(K, d) float64, the mean of each class; NaN for a class without samples."""
        with np.errstate(invalid="ignore"):
            return self.sums / self.counts[:, None]

    def scatter(self) -> np.ndarray:
        """(K,) float64, the trace of each class's unbiased covariance; NaN for a class of fewer than two samples."""
        with np.errstate(invalid="ignore", divide="ignore"):
            about_mean = self.squares - (self.sums**2).sum(1) / self.counts
            spread = np.maximum(about_mean, 0) / (self.counts - 1)
        return np.where(self.counts > 1, spread, np.nan)


def _in_float64(features: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """The number of a row, and some rows from there on; the next ones are read by a thread while these are used."""
    rows = max(1, READ_BYTES // (8 * features.shape[1]))
    if len(features) <= rows:  # as a batch is: not worth a thread
        yield 0, np.asarray(features, np.float64)
        return
    buffers = np.empty((2, rows, features.shape[1]))

    def read(start: int) -> np.ndarray:
        some = buffers[start // rows % 2, : len(features) - start]
        some[...] = features[start : start + rows]
        return some

    with ThreadPoolExecutor(1) as thread:
        reading = thread.submit(read, 0)
        for start in range(0, len(features), rows):
            some = reading.result()
            if start + rows < len(features):
                reading = thread.submit(read, start + rows)
            yield start, some


def checked_labels(labels: np.ndarray, classes: int) -> np.ndarray:
    """``labels`` as int64.

    Raises:
        ValueError: not a row of integers from 0 to ``classes`` - 1.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or (labels.dtype.kind not in "iu" and len(labels)):
        raise ValueError(f"labels: {labels.dtype} of shape {labels.shape} (must be integers in one row)")
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        wrong = labels.min() if labels.min() < 0 else labels.max()
        raise ValueError(f"labels: {wrong} (must be between 0 and {classes - 1})")
    return labels.astype(np.int64)
