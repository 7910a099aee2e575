"""Features and labels of a model, the moments of each class, and the file that holds them.

A feature vector is the input of a model's last layer: the penultimate features of an image classifier, or the decoder
output of a Transformer, one vector for each target token. The class of an image is its label, that of a token is the
token itself.

A file ``NAME.representations.safetensors`` holds the moments of every class over all samples, the features and labels
of the samples that were kept (all, those of some classes, or none), the last layer, which maps features to logits, and
their provenance. It is read without executing code, and features stay on disk until they are used.

Any features can be written to such a file with :func:`collect`:

    write_representations("mine.representations.safetensors", collect(features, labels, class_names))
"""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lskd.io.arrays import as_array, described, numbers, validate_class_names, validate_labels, whole
from lskd.io.errors import InputError, input_error
from lskd.io.files import json_text
from lskd.io.tensor_files import mapped_tensors, read_about, write_tensors
from lskd.measure.moments import ClassMoments
from lskd.records.inputs import SUFFIX
from lskd.records.provenance import validate_provenance

SCHEMA_VERSION = 2  # 1 had sums and summed squares in place of centroids and squared deviations


@dataclass
class Representations:
    """The content of a representation file. Arrays may be given as tensors or lists.

    Attributes:
        class_names: K names, all different.
        moments: moments of each class, over all samples.
        features: (N, d) float16, float32 or float64 of the samples that were kept; may be memory-mapped.
        labels: (N,) int64 of the samples that were kept.
        index: (N,) int64, increasing: their indices in the split, by which samples of two models are matched.
        weight: (K, d) weight of the last layer, or None.
        bias: (K,) bias of the last layer, or None.
        correct: (2, K) int64, top-1 and top-5 correct samples of each class, or None.
        entropy: (M, 3) float64, :meth:`lskd.measure.smoothness.EntropySums.rows` over all samples; M may be 0.
        provenance: ``model``, ``checkpoint``, ``split``, ``seed``, ``configuration`` …
        path: path of the file, for messages; None if not from a file.

    Raises:
        ValueError: fields that do not fit each other, or have a wrong type. Features are validated when they are used.
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
    provenance: dict[str, Any] = field(default_factory=dict)
    path: str | None = None

    def __post_init__(self) -> None:
        self.class_names = validate_class_names(self.class_names)
        self.provenance = validate_provenance(self.provenance)
        classes, dimension = len(self.class_names), self.moments.dimension
        if self.moments.classes != classes:
            raise ValueError(f"class_names: {classes} (must be {self.moments.classes}, as many as the moments are of)")
        self.labels = validate_labels(self.labels, classes)
        kept = len(self.labels)
        shapes = {"features": ("f", (kept, dimension)), "index": ("iu", (kept,))}
        shapes |= {"weight": ("f", (classes, dimension)), "bias": ("f", (classes,)), "correct": ("iu", (2, classes))}
        shapes |= {"entropy": ("f", (len(self.entropy), 3))}
        for name, (kinds, shape) in shapes.items():
            if getattr(self, name) is None and name in ("weight", "bias", "correct"):
                continue
            array = as_array(name, getattr(self, name))
            if array.shape != shape or array.dtype.kind not in kinds:
                kind = "floating" if kinds == "f" else "integers"
                raise ValueError(f"{name}: {described(array)} (must be {kind}, of shape {shape})")
            if name in ("weight", "bias", "entropy") and not np.isfinite(array).all():
                raise ValueError(f"{name}: not finite (must be finite numbers)")
            setattr(self, name, array)
        if kept and (self.index[0] < 0 or (np.diff(self.index.astype(np.int64)) <= 0).any()):
            raise ValueError("index: not in order (must be increasing, from 0)")
        counts = self.moments.counts
        if (np.bincount(self.labels, minlength=classes) > counts).any():
            raise ValueError("labels: more kept than there are samples of a class (must be at most its samples)")
        if self.correct is not None and (np.diff([0 * counts, *self.correct, counts], axis=0) < 0).any():
            raise ValueError("correct: out of range (must be 0 or more, top-1 up to top-5, top-5 up to the samples)")

    @property
    def complete(self) -> bool:
        """Whether the features of all samples were kept."""
        return len(self.labels) == int(self.moments.counts.sum())

    def of_class(self, label: int, limit: int | None = None) -> np.ndarray:
        """(n, d) the kept features of a class, at most the first ``limit``.

        Raises:
            ValueError: no such class, or one of the features is not finite.
        """
        whole("label", label, 0, len(self.class_names) - 1)
        rows = np.flatnonzero(self.labels == label)[:limit]
        return self._finite(self.features[rows], rows)

    def thinned(self, most: int) -> "Representations":
        """A copy with at most ``most`` (at least 1) of the kept samples, evenly spaced."""
        step = max(1, -(-len(self.labels) // whole("most", most, 1)))
        kept = {name: getattr(self, name)[::step] for name in ("features", "labels", "index")}
        return dataclasses.replace(self, **kept)

    def logits(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """(n, K) float64 logits of the kept samples ``start`` to ``stop``: features · weightᵀ + bias.

        Raises:
            ValueError: there is no last layer, or a feature is not finite.
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

    def feature_chunks(self, rows: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the kept features in float64, ``rows`` at a time, each chunk with the index of its first row.

        Raises:
            ValueError: a feature is not finite.
        """
        for start in range(0, len(self.labels), rows):
            yield start, self._finite(np.asarray(self.features[start : start + rows], np.float64), start)

    def _finite(self, features: np.ndarray, first: int | np.ndarray) -> np.ndarray:
        """Check that features are finite; they are the kept samples from index ``first`` on, or those in ``first``.

        This is done when they are used, not when a file is opened, as they may not fit in memory.
        """
        if not (finite := np.isfinite(features).all(1)).all():
            row = int(np.flatnonzero(~finite)[0])
            sample = first[row] if isinstance(first, np.ndarray) else first + row
            message = f"features: not a finite number in sample {sample} (must be finite)"
            raise InputError(f"{self.path}: {message}") if self.path else ValueError(message)
        return features


def collect(features: np.ndarray, labels: np.ndarray, class_names: Sequence[str], **others: Any) -> Representations:
    """Make representations from features and labels, keeping all samples; takes arrays, tensors on any device or lists.

    Args:
        features: (N, d) floating.
        labels: (N,) integers, 0 to K-1.
        class_names: K different names.
        others: further fields of :class:`Representations`, such as ``weight``, ``bias`` and ``provenance``.

    Raises:
        ValueError: arguments that do not fit, or a feature that is not finite.

    Example:
        >>> both = collect(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0, 1]), ["cat", "dog"])
        >>> both.moments.centroids().tolist(), both.complete
        ([[1.0, 0.0], [0.0, 1.0]], True)
    """
    names = validate_class_names(class_names)
    features, labels = as_array("features", features), validate_labels(labels, len(names))
    if features.ndim != 2:
        raise ValueError(f"features: shape {features.shape} (must be samples by dimensions)")
    moments = ClassMoments(len(names), features.shape[1])
    moments.update(features, labels)
    return Representations(names, moments, features, labels, np.arange(len(labels)), **others)


def write_representations(path: str | os.PathLike[str], representations: Representations) -> None:
    """Write a representation file atomically.

    Raises:
        InputError: the name does not end in ``.representations.safetensors``, or the provenance is not JSON.
    """
    if not str(path).endswith(SUFFIX):
        raise input_error("representations", path, f"must end in {SUFFIX}")
    moments = representations.moments
    tensors = {
        "counts": moments.counts,
        "centroids": np.where(moments.counts[:, None] > 0, moments.centroids(), 0),
        "squared_deviations": moments.squared_deviations(),
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
    try:
        json_text(about)
    except (TypeError, ValueError) as error:
        raise input_error("provenance", representations.provenance, f"must be what JSON can hold: {error}") from None
    write_tensors(path, tensors, about)


def read_representations(path: str | os.PathLike[str]) -> Representations:
    """Read a representation file; its features stay on disk until they are used.

    Raises:
        InputError: not a representation file, or written by a newer version of the project.
        OSError: the file cannot be read.
    """
    if not Path(path).is_file():
        there = sorted(Path(path).glob(f"*{SUFFIX}"))
        hint = f", such as {there[0]}" if there else ""
        valid = f"must be a file, as written by `lskd vision representations`{hint}"
        raise input_error("representations", path, valid)
    try:
        about, mapped = read_about(path), mapped_tensors(path)
        tensors = {name: np.array(tensor) for name, tensor in mapped.items() if name != "features"}
        tensors["features"] = mapped["features"]
    except (ValueError, KeyError) as error:
        raise input_error("representations", path, f"must be a representation file: {error}") from None
    if not isinstance(about, dict) or not isinstance(about.get("schema_version"), int):
        raise input_error("representations", path, "must be a representation file, with lskd's metadata")
    if about["schema_version"] > SCHEMA_VERSION:
        raise input_error(
            "representations",
            path,
            f"has schema version {about['schema_version']}, this version of lskd reads up to {SCHEMA_VERSION}",
        )
    try:
        return dataclasses.replace(_from_file(about, tensors), path=str(path))
    except (KeyError, TypeError, ValueError) as error:
        raise input_error("representations", path, f"is not valid: {error}") from None


def _from_file(about: dict[str, Any], tensors: dict[str, np.ndarray]) -> Representations:
    """The validated content of a file."""
    moments = _moments(about["schema_version"], len(validate_class_names(about["class_names"])), tensors)
    entropy, samples = tensors["entropy"], moments.counts.sum()
    if about["schema_version"] == 1 and entropy.shape[1:] == (3,) and samples:
        entropy[:, 2] = np.maximum(entropy[:, 2] - entropy[:, 1] ** 2 / samples, 0)
    return Representations(
        about["class_names"],
        moments,
        tensors["features"],
        tensors["labels"],
        tensors["index"],
        weight=tensors.get("weight"),
        bias=tensors.get("bias"),
        correct=tensors.get("correct"),
        entropy=entropy,
        provenance=about.get("provenance", {}),
    )


def _moments(version: int, classes: int, tensors: dict[str, np.ndarray]) -> ClassMoments:
    """The moments in a file of any schema version. Raises ValueError if they do not fit."""
    counts, dimension = tensors["counts"], tensors["features"].shape[-1]
    if version > 1:
        centroids = numbers("centroids", tensors["centroids"], classes, dimension)
        return ClassMoments.of(counts, centroids, tensors["squared_deviations"])
    sums = numbers("sums", tensors["sums"], classes, dimension)
    squares = numbers("squares", tensors["squares"], classes)
    centroids = sums / np.maximum(numbers("counts", counts, classes), 1)[:, None]
    return ClassMoments.of(counts, centroids, np.maximum(squares - counts * (centroids**2).sum(1), 0))
