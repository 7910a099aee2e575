"""Features and labels of a model, the moments of each class, and the file that carries them.

A feature vector is what enters a model's last layer: the penultimate features of an image classifier, the decoder's of
a Transformer, one for each target token. The class of an image is its label, that of a token is the token itself.

A file ``NAME.representations.safetensors`` holds the moments of every class over all samples, the features and labels
of the samples that were kept (all, those of some classes, or none), the last layer, with which the features give the
logits, and how all this came about. It is read without executing anything, and features stay on the disk until used.

Features from anywhere become such a file with :func:`record`:

    write_representations("mine.representations.safetensors", record(features, labels, class_names))
"""

import dataclasses
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lskd.errors import InputError, bad
from lskd.moments import ClassMoments, checked_labels
from lskd.runs import is_number, look_up
from lskd.tensor_files import mapped_tensors, read_about, write_tensors

SUFFIX = ".representations.safetensors"
SCHEMA_VERSION = 1
PROVENANCE = [  # what may be in these places, beside nothing
    *((keys, dict, "an object") for keys in ((), ("configuration",), ("teacher",), ("data",))),
    *((keys, str, "a text") for keys in (("model",), ("split",), ("checkpoint",), ("kind",), ("teacher", "model"))),
    *((("configuration", name), float, "a number") for name in ("temperature", "label_smoothing")),
    *((keys, float, "a number") for keys in (("seed",), ("teacher", "label_smoothing", "alpha"))),
]


@dataclass
class Representations:
    """What a representation file holds.

    Attributes:
        class_names: K names, all different.
        moments: of each class, over all samples.
        features: (N, d) float16, float32 or float64 of the samples that were kept; may lie on the disk.
        labels: (N,) int64 of the samples that were kept.
        index: (N,) int64, increasing: which samples of the split they are. Two models on one split: equal.
        weight: (K, d) of the last layer, or None.
        bias: (K,) of the last layer, or None.
        correct: (2, K) int64, samples of each class that are right within the first and the first five, or None.
        entropy: (M, 3) float64, rows of temperature, Σ entropy and Σ entropy² in nats over all samples; M may be 0.
        provenance: how it came about: ``model``, ``checkpoint``, ``split``, ``seed``, ``configuration`` …
        path: of the file, for messages; None of what is not from a file.
    """

    class_names: list[str]
    moments: ClassMoments
    features: np.ndarray
    labels: np.ndarray
    index: np.ndarray
    weight: np.ndarray | None = None
    bias: np.ndarray | None = None
    correct: np.ndarray | None = None
    entropy: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    provenance: dict = field(default_factory=dict)
    path: str | None = None

    @property
    def complete(self) -> bool:
        """Whether the features of all samples were kept."""
        return len(self.labels) == int(self.moments.counts.sum())

    def of_class(self, label: int, limit: int | None = None) -> np.ndarray:
        """(n, d) features that were kept of a class, at most the first ``limit``.

        Raises:
            ValueError: one of them is not finite.
        """
        rows = np.flatnonzero(self.labels == label)[:limit]
        return self._finite(self.features[rows], rows)

    def thinned(self, most: int) -> "Representations":
        """The same with at most ``most`` of the kept samples, evenly spread."""
        step = max(1, -(-len(self.labels) // most))
        kept = {name: getattr(self, name)[::step] for name in ("features", "labels", "index")}
        return dataclasses.replace(self, **kept)

    def logits(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """(n, K) float64 logits of the kept samples ``start`` to ``stop``: features · weightᵀ + bias.

        Raises:
            ValueError: the last layer is not there, or a feature is not finite.
        """
        if self.weight is None:
            raise ValueError("weight: none (the file must hold the last layer)")
        features = self._finite(np.asarray(self.features[start:stop], np.float64), start)
        logits = features @ self.weight.astype(np.float64).T
        return logits if self.bias is None else logits + self.bias

    def logit_chunks(self, elements: int = 2**22) -> Iterator[np.ndarray]:
        """:meth:`logits` of all kept samples, in chunks of about ``elements`` numbers."""
        rows = max(1, elements // len(self.class_names))
        for start in range(0, len(self.labels), rows):
            yield self.logits(start, start + rows)

    def _finite(self, features: np.ndarray, first: int | np.ndarray) -> np.ndarray:
        """``features`` of kept samples as they are: of ``first`` and those after it, or of the samples it names.

        They are looked at when they are used, not when a file is opened: there may be more than memory holds.
        """
        if not (finite := np.isfinite(features).all(1)).all():
            row = int(np.flatnonzero(~finite)[0])
            sample = first[row] if isinstance(first, np.ndarray) else first + row
            message = f"features: not a finite number in sample {sample} (must be finite)"
            raise InputError(f"{self.path}: {message}") if self.path else ValueError(message)
        return features


class Recorder:
    """Collects what a representation file holds, batch by batch.

    Args:
        class_names: K different names.
        dimension: d.
        keep_classes: the classes whose features are kept, as indices; all when None.
        keep_per_class: keep the features of at most so many samples of each class, the first ones; all when None.
        dtype: in which features are kept.

    Raises:
        ValueError: names that are not different, a class out of range.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        dimension: int,
        keep_classes: Collection[int] | None = None,
        keep_per_class: int | None = None,
        dtype: type = np.float32,
    ):
        self.class_names = checked_names(class_names)
        self.moments = ClassMoments(len(self.class_names), dimension)
        kept = range(len(self.class_names)) if keep_classes is None else sorted(set(keep_classes))
        room = np.zeros(len(self.class_names), np.int64)
        room[checked_labels(np.array(kept, np.int64), len(room))] = (
            np.iinfo(np.int64).max if keep_per_class is None else keep_per_class
        )
        self._room = room
        self._dtype = dtype
        self._features, self._labels, self._index = [np.empty((0, dimension), dtype)], [], []

    def add(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Add a batch: features (N, d) floating, labels (N,) integers 0 to K-1.

        Raises:
            ValueError: as :meth:`ClassMoments.update`.
        """
        first = int(self.moments.counts.sum())
        labels = checked_labels(labels, self.moments.classes)
        self.moments.update(features, labels)
        rows = []
        for row, label in enumerate(labels.tolist()):
            if self._room[label]:
                self._room[label] -= 1
                rows.append(row)
        if rows:
            self._features.append(features[rows].astype(self._dtype))
            self._labels.append(labels[rows])
            self._index.append(np.array(rows) + first)

    def result(self, **others) -> Representations:
        """All that was collected; ``others`` are further fields of :class:`Representations`."""
        none = np.empty(0, np.int64)
        return Representations(
            class_names=self.class_names,
            moments=self.moments,
            features=np.concatenate(self._features),
            labels=np.concatenate([none, *self._labels]),
            index=np.concatenate([none, *self._index]),
            **others,
        )


def record(features: np.ndarray, labels: np.ndarray, class_names: Sequence[str], **others) -> Representations:
    """Representations of features and labels from anywhere, everything kept.

    Args:
        features: (N, d) floating.
        labels: (N,) integers, 0 to K-1.
        class_names: K different names.
        others: further fields of :class:`Representations`, such as ``weight``, ``bias`` and ``provenance``.

    Raises:
        ValueError: what does not fit.

    Example:
        >>> both = record(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0, 1]), ["cat", "dog"])
        >>> both.moments.centroids().tolist(), both.complete
        ([[1.0, 0.0], [0.0, 1.0]], True)
    """
    names = checked_names(class_names)
    labels = checked_labels(labels, len(names))
    if features.ndim != 2:
        raise ValueError(f"features: shape {features.shape} (must be samples by dimensions)")
    moments = ClassMoments(len(names), features.shape[1])
    moments.update(features, labels)
    return Representations(names, moments, features, labels, np.arange(len(labels)), **others)


def write_representations(path: str | os.PathLike, representations: Representations) -> None:
    """Write a representation file in one step.

    Raises:
        InputError: the name does not end in ``.representations.safetensors``.
    """
    if not str(path).endswith(SUFFIX):
        raise bad("representations", path, f"must end in {SUFFIX}")
    moments = representations.moments
    tensors = {
        "counts": moments.counts,
        "sums": moments.sums,
        "squares": moments.squares,
        "features": representations.features,
        "labels": representations.labels,
        "index": representations.index,
        "entropy": representations.entropy,
    }
    for name in ("weight", "bias", "correct"):
        if (value := getattr(representations, name)) is not None:
            tensors[name] = value
    about = {
        "schema_version": SCHEMA_VERSION,
        "class_names": representations.class_names,
        "provenance": representations.provenance,
    }
    write_tensors(path, tensors, about)


def read_representations(path: str | os.PathLike) -> Representations:
    """Read a representation file; its features stay on the disk until they are used.

    Raises:
        InputError: not such a file, or one of a newer version of the project.
        OSError: the file cannot be read.
    """
    if not Path(path).is_file():
        raise bad("representations", path, "must be a file, made by `python -m lskd_vision.representations` or alike")
    try:
        about, mapped = read_about(path), mapped_tensors(path)
        tensors = {name: np.array(tensor) for name, tensor in mapped.items() if name != "features"}
        tensors["features"] = mapped["features"]
    except (ValueError, KeyError) as error:
        raise bad("representations", path, f"must be a representation file: {error}") from None
    if not isinstance(about, dict) or not isinstance(about.get("schema_version"), int):
        raise bad("representations", path, "must be a representation file, with lskd's metadata")
    if about["schema_version"] > SCHEMA_VERSION:
        raise bad(
            "representations", path, f"has schema version {about['schema_version']}, read is up to {SCHEMA_VERSION}"
        )
    try:
        return dataclasses.replace(_checked(about, tensors), path=str(path))
    except (KeyError, TypeError, ValueError) as error:
        raise bad("representations", path, f"is not as it should be: {error}") from None


def checked_names(class_names: Sequence[str]) -> list[str]:
    """``class_names`` as a list.

    Raises:
        ValueError: none, or one of them twice.
    """
    names = list(class_names)
    if not names:
        raise ValueError("class_names: none (must be at least one)")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"class_names: {twice!r} twice (must be all different)")
    return names


def _checked(about: dict, tensors: dict[str, np.ndarray]) -> Representations:
    """The content of a file, every shape compared with the others."""
    names = checked_names(about["class_names"])
    if not all(isinstance(name, str) for name in names):
        raise ValueError("class_names (must be texts)")
    provenance = _checked_provenance(about.get("provenance", {}))
    features, sums = tensors["features"], tensors["sums"]
    if features.dtype.kind != "f":
        raise ValueError(f"features of type {features.dtype} (must be floating)")
    moments = ClassMoments(len(names), sums.shape[1])
    moments.counts, moments.sums, moments.squares = tensors["counts"], sums, tensors["squares"]
    classes, dimension, kept = len(names), sums.shape[1], len(features)
    shapes = {"sums": (classes, dimension), "counts": (classes,), "squares": (classes,), "features": (kept, dimension)}
    shapes |= {"index": (kept,), "labels": (kept,), "weight": (classes, dimension), "bias": (classes,)}
    shapes |= {"correct": (2, classes), "entropy": (len(tensors["entropy"]), 3)}
    for name, shape in shapes.items():
        if name in tensors and tensors[name].shape != shape:
            raise ValueError(f"{name} of shape {tensors[name].shape} (must be {shape})")
    for name in ("counts", "correct"):
        if name in tensors and (tensors[name].dtype.kind not in "iu" or (tensors[name] < 0).any()):
            raise ValueError(f"{name} (must be whole numbers, 0 or more)")
    for name in ("sums", "squares", "weight", "bias", "entropy"):  # features are looked at when they are used
        if name in tensors and not np.isfinite(tensors[name]).all():
            raise ValueError(f"{name}: not finite (must be finite numbers)")
    fields = {name: tensors.get(name) for name in ("weight", "bias", "correct", "entropy", "index")}
    labels = checked_labels(tensors["labels"], classes)
    return Representations(names, moments, features, labels, provenance=provenance, **fields)


def _checked_provenance(provenance: object) -> dict:
    """What is said of how a file came about, with the types that everybody relies on."""
    for keys, kind, valid in PROVENANCE:
        value = look_up({"provenance": provenance}, "provenance", *keys)
        if not (is_number(value) if kind is float else isinstance(value, kind | None)):
            raise ValueError(f"{', '.join(('provenance', *keys))} (must be {valid})")
    return provenance or {}
