"""Moments of the features of each class, accumulated over a stream, for centroids and within-class variance."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from lskd.io.arrays import as_array, described, numbers, validate_labels, whole

READ_BYTES = 2**22  # of float64 rows that are read and converted while the rows before them are summed
BLOCK_BYTES = 2**20  # of float64 rows that stay in a core's cache while they are used several times


class ClassMoments:
    """The count, mean and squared deviations of the features of each of K classes, in float64.

    Sums are of differences from the first sample of a class, so that no digits are lost if features are far from 0
    relative to their spread: squared deviations keep 12 digits at any offset, or log10 n fewer for n samples if the
    first one is an extreme outlier. :meth:`merge` combines moments of disjoint subsets of the samples, in any order.

    Args:
        classes: K, above 0.
        dimension: d of the features, above 0.

    Attributes:
        counts: (K,) int64, the number of samples of each class.

    Example:
        >>> moments = ClassMoments(2, 1)
        >>> moments.update(np.array([[1.0], [3.0], [5.0]]), np.array([0, 0, 1]))
        >>> moments.centroids().tolist(), moments.within_class_variance().tolist()
        ([[2.0], [5.0]], [2.0, nan])
    """

    def __init__(self, classes: int, dimension: int) -> None:
        classes, dimension = whole("classes", classes, 1), whole("dimension", dimension, 1)
        self.counts = np.zeros(classes, np.int64)
        self._origins = np.zeros((classes, dimension))  # the first sample of each class; 0 for a class without any
        self._sums = np.zeros((classes, dimension))  # Σ (x - origin)
        self._squares = np.zeros(classes)  # Σ ‖x - origin‖²

    @classmethod
    def of(cls, counts: np.ndarray, centroids: np.ndarray, squared_deviations: np.ndarray) -> "ClassMoments":
        """Restore the moments from :attr:`counts`, :meth:`centroids` and :meth:`squared_deviations`.

        Args:
            counts: (K,) integers, at least 0.
            centroids: (K, d), finite; ignored for classes without samples.
            squared_deviations: (K,), at least 0.

        Raises:
            ValueError: shapes that do not fit, or numbers out of range.
        """
        counts = as_array("counts", counts)
        if counts.ndim != 1 or counts.dtype.kind not in "iu" or (counts < 0).any():
            raise ValueError(f"counts: {described(counts)} (must be whole numbers, 0 or more)")
        centroids = as_array("centroids", centroids)
        if centroids.ndim == 2 and len(centroids) == len(counts) and centroids.dtype.kind == "f":
            centroids = np.where(counts[:, None] > 0, centroids, 0)
        centroids = numbers("centroids", centroids, len(counts), None)
        squared_deviations = numbers("squared_deviations", squared_deviations, len(counts))
        if (squared_deviations < 0).any():
            raise ValueError(f"squared_deviations: {squared_deviations.min()} (must be 0 or more)")
        moments = cls(*centroids.shape)
        moments.counts[:] = counts
        moments._origins[:] = centroids
        moments._squares[:] = squared_deviations
        return moments

    @property
    def classes(self) -> int:
        """The number of classes, K."""
        return len(self.counts)

    @property
    def dimension(self) -> int:
        """The dimension of the features, d."""
        return self._sums.shape[1]

    def update(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Add samples, in constant memory.

        Args:
            features: (N, d) of any floating dtype, an array, memory-mapped or not, or a tensor.
            labels: (N,) integers, 0 to K-1.

        Raises:
            ValueError: shapes that do not fit, a label out of range, or a feature that is not finite or too large to be
                squared. The blocks before that feature have then been added.
        """
        labels = validate_labels(labels, self.classes)
        features, shape = as_array("features", features), (len(labels), self.dimension)
        if features.shape != shape or features.dtype.kind != "f":
            raise ValueError(f"features: {described(features)} (must be floating, of shape {shape})")
        rows = max(1, BLOCK_BYTES // (8 * self.dimension))
        workspace = np.empty((min(rows, len(labels)), self.dimension))  # allocating memory costs as much as the sums
        for start, part in _in_float64(features):
            for first in range(start, start + len(part), rows):
                block = part[first - start : first - start + rows]
                self._add(block, labels[first : first + len(block)], first, workspace[: len(block)])

    def _add(self, block: np.ndarray, labels: np.ndarray, first: int, workspace: np.ndarray) -> None:
        """Add a block of float64 features; ``first`` is the index of its first sample, for error messages."""
        origins = np.take(self._origins, labels, 0, out=workspace, mode="clip")
        of_new = np.flatnonzero(self.counts[labels] == 0)  # rows of classes that had no samples
        new, at, which = np.unique(labels[of_new], return_index=True, return_inverse=True)
        firsts = block[of_new[at]]
        if len(of_new):
            origins[of_new] = firsts[which]
        with np.errstate(invalid="ignore", over="ignore"):
            differences = np.subtract(block, origins, out=origins)
            squares = np.einsum("nd,nd->n", differences, differences)
            if len(new):  # first samples are squared when moments are merged
                squares[of_new[at]] += 0 * np.einsum("nd,nd->n", firsts, firsts)
        if not (finite := np.isfinite(squares)).all():
            row = int(np.argmin(finite))
            wrong = "too large a number" if np.isfinite(block[row]).all() else "not a finite number"
            raise ValueError(f"features: {wrong} in sample {first + row} (must be finite)")
        if len(new):
            self._origins[new] = firsts
        np.add.at(self._squares, labels, squares)
        np.add.at(self.counts, labels, 1)
        starts = np.flatnonzero(np.diff(labels, prepend=-1))  # of runs of equal labels: most data are sorted by class
        for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(labels)], strict=True):
            total = self._sums[labels[start]]
            total += differences[start] if stop - start == 1 else differences[start:stop].sum(0)

    def merge(self, other: "ClassMoments") -> None:
        """Add the moments of ``other``, which must come from other samples.

        Raises:
            ValueError: ``other`` differs in the number of classes or the dimension.
        """
        if other._sums.shape != self._sums.shape:
            raise ValueError(f"other: classes and dimension {other._sums.shape} (must be {self._sums.shape})")
        new = self.counts == 0
        self._origins[new] = other._origins[new]
        shift = np.where(other.counts[:, None] > 0, other._origins - self._origins, 0)
        self._squares += other._squares + 2 * (shift * other._sums).sum(1) + other.counts * (shift**2).sum(1)
        self._sums += other._sums + other.counts[:, None] * shift
        self.counts += other.counts

    def centroids(self) -> np.ndarray:
        """(K, d) float64, the mean of each class; NaN for a class without samples."""
        with np.errstate(invalid="ignore"):
            return self._origins + self._sums / self.counts[:, None]

    def squared_deviations(self) -> np.ndarray:
        """(K,) float64, Σ ‖x - centroid‖² of each class; 0 for a class of fewer than two samples."""
        return np.maximum(self._squares - (self._sums**2).sum(1) / np.maximum(self.counts, 1), 0)

    def within_class_variance(self) -> np.ndarray:
        """(K,) float64, the trace of each class's unbiased covariance; NaN for a class of fewer than two samples."""
        known = self.counts > 1
        return np.where(known, self.squared_deviations() / np.where(known, self.counts - 1, 1), np.nan)


def _in_float64(features: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield chunks of float64 rows, each with the index of its first row; a thread reads the next one in advance."""
    rows = max(1, READ_BYTES // (8 * features.shape[1]))
    if len(features) <= rows:  # such as a batch: not worth a thread
        yield 0, np.asarray(features, np.float64)
        return
    buffers = np.empty((2, rows, features.shape[1]))

    def read(start: int) -> np.ndarray:
        part = buffers[start // rows % 2, : len(features) - start]
        part[...] = features[start : start + rows]
        return part

    with ThreadPoolExecutor(1) as thread:
        reading = thread.submit(read, 0)
        for start in range(0, len(features), rows):
            part = reading.result()
            if start + rows < len(features):
                reading = thread.submit(read, start + rows)
            yield start, part
