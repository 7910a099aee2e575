"""Project the features of three classes into their plane, as in the paper's Figure 1, and measure distances there.

:mod:`lskd.measure.class_plane` fits the plane.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lskd.io.arrays import numbers, whole
from lskd.measure.class_plane import Projection, centroids_of, fit_projection
from lskd.measure.representations import Representations
from lskd.records.runs import look_up, teacher_smoothing


def distance_to_third(centroids: np.ndarray) -> float:
    """The mean Euclidean distance of the first two of three centroids (3, 2) to the third."""
    centroids = numbers("centroids", centroids, 3, 2)
    return float(np.linalg.norm(centroids[:2] - centroids[2], axis=1).mean())


def relative_distance(centroids: np.ndarray) -> float:
    """The distance between the first two of three centroids (3, 2), relative to :func:`distance_to_third`.

    0 where the two coincide, 1 in an equilateral triangle, at most 2, NaN where all three coincide.

    >>> relative_distance(np.array([[0.0, 1.0], [0.0, -1.0], [np.sqrt(15), 0.0]]))
    0.5
    """
    centroids = numbers("centroids", centroids, 3, 2)
    third = distance_to_third(centroids)
    return float(np.linalg.norm(centroids[0] - centroids[1])) / third if third else np.nan


@dataclass(frozen=True)
class Panel:
    """One model on one split, in the plane of three classes.

    Attributes:
        class_names: names of the three classes.
        coordinates: (n, 2), in units of the features.
        labels: (n,) 0, 1 or 2, an index into ``class_names``.
        index: (n,) indices of the samples in the split.
        projection: the plane.
        fitted_on: the split on which the plane was fitted.
        provenance: provenance of the representations.
    """

    class_names: list[str]
    coordinates: np.ndarray
    labels: np.ndarray
    index: np.ndarray
    projection: Projection
    fitted_on: str
    provenance: dict[str, Any]

    @property
    def centroids(self) -> np.ndarray:
        """(3, 2) centroids of the samples shown."""
        return centroids_of(self.coordinates, self.labels, range(3))

    @property
    def relative_distance(self) -> float:
        """:func:`relative_distance` of the samples shown."""
        return relative_distance(self.centroids)

    @property
    def split(self) -> str:
        """The split of the samples."""
        return self.provenance.get("split", "unknown split")

    @property
    def model(self) -> str:
        """``student`` where the provenance has a teacher, else ``teacher``, and the model's name."""
        if not self.provenance:
            return "model"
        role = "student" if self.provenance.get("teacher") else "teacher"
        return f"{role} {self.provenance.get('model') or ''}".rstrip()

    @property
    def temperature(self) -> float | None:
        """The T at which a student was distilled; None for a teacher, or if unknown."""
        return look_up(self.provenance, "configuration", "temperature") if self.provenance.get("teacher") else None

    @property
    def label_smoothing(self) -> float | None:
        """α of a teacher, or of a student's teacher; None if unknown."""
        return teacher_smoothing(self.provenance)

    @property
    def title(self) -> str:
        """Two lines: model and T; then α, the split, and whether the plane was fitted on it if it is not ``train``."""
        temperature = "" if self.temperature is None else f", T = {self.temperature:g}"
        smoothing = "α unknown" if self.label_smoothing is None else f"α = {self.label_smoothing:.3g}"
        fitted = ", fitted on it" if self.split == self.fitted_on != "train" else ""
        return f"{self.model}{temperature}\n{smoothing}, {self.split}{fitted}"


def project(
    fitted: Representations,
    applied: Sequence[Representations],
    class_names: Sequence[str],
    fitted_samples: int | None = 150,
    applied_samples: int | None = 50,
    seed: int = 0,
) -> list[Panel]:
    """Make the panels of one model: for the split on which the plane is fitted, and for others to which it is applied.

    Samples of each class are drawn at random without replacement (in the paper 150 of training, 50 of validation, and
    all, None, for CUB). The draws depend on ``seed`` and the size of the class: if the files kept the same samples, all
    models show the same ones.

    Args:
        fitted: representations of the training split, with the last layer.
        applied: representations of the same model on other splits.
        class_names: two similar classes, then a dissimilar one.
        fitted_samples: the most samples of each class of ``fitted``; None for all.
        applied_samples: the same for each of ``applied``.
        seed: seed of the draws, 0 or above.

    Raises:
        ValueError: representations of different models, an unknown class or one without features, or arguments that
            :func:`fit_projection` rejects.
    """
    if fitted.weight is None:
        raise ValueError("weight: none (the representations must hold the last layer)")
    for other in applied:
        same = other.class_names == fitted.class_names and _equal(other.weight, fitted.weight)
        if not same or not _equal(other.bias, fitted.bias):
            raise ValueError("representations: of other classes or another last layer (must be of the same model)")
    classes = [_index(name, fitted.class_names) for name in class_names]
    draws = [_draw(fitted, classes, fitted_samples, seed)]
    draws += [_draw(each, classes, applied_samples, seed) for each in applied]
    rows = draws[0]
    projection = fit_projection(fitted.features[rows], fitted.labels[rows], classes, fitted.weight, fitted.bias)
    return [
        Panel(
            class_names=list(class_names),
            coordinates=projection.transform(each.features[rows]),
            labels=np.array([classes.index(label) for label in each.labels[rows]]),
            index=each.index[rows],
            projection=projection,
            fitted_on=fitted.provenance.get("split", "unknown split"),
            provenance=each.provenance,
        )
        for each, rows in zip([fitted, *applied], draws, strict=True)
    ]


def _equal(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    """Whether two arrays are equal, or both None."""
    if one is None or other is None:
        return one is other
    return np.array_equal(one, other)


def _index(name: str, class_names: list[str]) -> int:
    """The index of a class by its name."""
    if name not in class_names:
        near = difflib.get_close_matches(name, class_names) or class_names[:3]
        raise ValueError(f"class: {name!r} (must be one of the {len(class_names)} classes, such as {', '.join(near)})")
    return class_names.index(name)


def _draw(representations: Representations, classes: list[int], samples: int | None, seed: int) -> np.ndarray:
    """Rows of at most ``samples`` samples of each class, in increasing order."""
    drawn = []
    for label in classes:
        rows = np.flatnonzero(representations.labels == label)
        if not len(rows):
            name, split = representations.class_names[label], representations.provenance.get("split", "the split")
            raise ValueError(f"features: none of class {name!r} on {split} (some must have been kept)")
        if samples is not None and len(rows) > whole("samples", samples, 1):
            rows = np.random.default_rng(seed).choice(rows, samples, replace=False)
        drawn.append(rows)
    return np.sort(np.concatenate(drawn))
