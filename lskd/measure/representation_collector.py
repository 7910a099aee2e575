"""Collect representations while a model runs: the moments of all samples and the features of those to be kept."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from lskd.io.arrays import as_array, class_list, validate_class_names, validate_labels, whole
from lskd.measure.moments import ClassMoments
from lskd.measure.representations import Representations


class RepresentationCollector:
    """Collects the content of a representation file, batch by batch.

    Args:
        class_names: K different names.
        dimension: d.
        keep_classes: the classes whose features are kept, as indices; all when None.
        keep_per_class: keep the features of at most the first this many samples of each class; all when None.
        dtype: dtype of the kept features.

    Raises:
        ValueError: names that are not unique, or a class or a number out of range.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        dimension: int,
        keep_classes: Collection[int] | None = None,
        keep_per_class: int | None = None,
        dtype: type[np.floating[Any]] = np.float32,
    ) -> None:
        self.class_names = validate_class_names(class_names)
        self.moments = ClassMoments(len(self.class_names), dimension)
        classes = len(self.class_names)
        kept = range(classes) if keep_classes is None else class_list("keep_classes", keep_classes, classes)
        self._wanted = np.zeros(classes, np.int64)
        most = np.iinfo(np.int64).max
        self._wanted[list(kept)] = most if keep_per_class is None else whole("keep_per_class", keep_per_class, 0)
        if dtype not in (np.float16, np.float32, np.float64):
            raise ValueError(f"dtype: {dtype} (must be float16, float32 or float64)")
        self._dtype = dtype
        self._features: list[np.ndarray] = [np.empty((0, dimension), dtype)]
        self._labels: list[np.ndarray] = []
        self._index: list[np.ndarray] = []

    def add(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Add a batch: features (N, d) floating, labels (N,) integers 0 to K-1.

        Raises:
            ValueError: as :meth:`ClassMoments.update`, or a feature that is too large for the dtype.
        """
        first = int(self.moments.counts.sum())
        features, labels = as_array("features", features), validate_labels(labels, self.moments.classes)
        largest = np.abs(features).max(initial=0) if features.dtype.kind == "f" else 0
        if np.finfo(self._dtype).max < largest < np.inf:
            wider = "float32" if self._dtype == np.float16 else "float64"
            raise ValueError(f"dtype: {np.dtype(self._dtype)} (must be {wider}: a feature is {largest:.3g})")
        self.moments.update(features, labels)
        rows = []
        for row, label in enumerate(labels.tolist()):
            if self._wanted[label]:
                self._wanted[label] -= 1
                rows.append(row)
        if rows:
            self._features.append(features[rows].astype(self._dtype))
            self._labels.append(labels[rows])
            self._index.append(np.array(rows) + first)

    def result(self, **others: Any) -> Representations:
        """The representations collected; ``others`` are further fields of :class:`Representations`."""
        none = np.empty(0, np.int64)
        return Representations(
            class_names=self.class_names,
            moments=self.moments,
            features=np.concatenate(self._features),
            labels=np.concatenate([none, *self._labels]),
            index=np.concatenate([none, *self._index]),
            **others,
        )
