"""The plane in which the paper draws three classes: two similar ones and a dissimilar one (Figure 1, Appendix F).

Algorithms 1 and 2 there: features are projected onto an orthonormal basis of the last layer's templates of the three
classes, then from these three dimensions to two with PCA. As in Müller et al. (2019), a template has the class's bias
as its last coordinate and a feature vector a 1. The plane is fitted on one split and applied to others.

PCA does not determine the plane's orientation. Here every plane is rotated, and mirrored if necessary, so that the
dissimilar class's centroid is directly to the right of the midpoint of the similar classes' centroids, and the first
class's centroid is above the second's. Distances in the plane and its origin, the mean of the features, are as PCA
gives them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lskd.io.arrays import as_array, class_list, numbers, validate_labels
from lskd.io.errors import not_installed


@dataclass(frozen=True)
class Projection:
    """The plane of three classes.

    Attributes:
        basis: (d + 1, 3) orthonormal columns that span the templates, whose last coordinate is the bias.
        mean: (3,) mean of the features it was fitted on, in the basis.
        plane: (3, 2) orthonormal columns: PCA's plane, oriented as the module describes.
        centroids: (3, 2) centroids of the features it was fitted on, in the order of the classes.
        explained: share of the variance in the basis that the plane explains, 0 to 1.
        kept: share of the variance of the features themselves that the plane explains, 0 to 1.
    """

    basis: np.ndarray
    mean: np.ndarray
    plane: np.ndarray
    centroids: np.ndarray
    explained: float
    kept: float

    def transform(self, features: np.ndarray) -> np.ndarray:
        """Project features (N, d) of any split and class: (N, 2) float64, in units of the features.

        Raises:
            ValueError: another d, or a number that is not finite.
        """
        features = _finite("features", features)
        if features.shape[1] != len(self.basis) - 1:
            raise ValueError(f"features: {features.shape[1]} dimensions (must be {len(self.basis) - 1})")
        return (_in_basis(features, self.basis) - self.mean) @ self.plane


def fit_projection(
    features: np.ndarray, labels: np.ndarray, classes: Sequence[int], weight: np.ndarray, bias: np.ndarray | None = None
) -> Projection:
    """Fit the plane of three classes by Algorithms 1 and 2 (Appendix F), in float64.

    Features of other classes are ignored.

    Args:
        features: (N, d), the inputs of the last layer.
        labels: (N,) integers, 0 to K-1.
        classes: three of them: two similar ones, then a dissimilar one.
        weight: (K, d) weight of the last layer.
        bias: (K,) bias of the last layer, or None if it has none.

    Raises:
        ValueError: shapes or classes that do not fit, a class without features, templates that do not span three
            dimensions, features on a line, or centroids that do not determine the orientation.

    Example:
        >>> features = np.array([[0.0, 3.0, 0.0], [0.0, 1.0, 0.0], [6.0, 2.0, 0.0]])
        >>> fitted = fit_projection(features, np.array([0, 1, 2]), [0, 1, 2], np.eye(3))
        >>> (fitted.centroids.round(6) + 0.0).tolist()
        [[-2.0, 1.0], [-2.0, -1.0], [4.0, 0.0]]
    """
    features, labels, weight = _matrix("features", features), as_array("labels", labels), _matrix("weight", weight)
    bias = None if bias is None else as_array("bias", bias)
    classes = class_list("classes", classes, len(weight))
    if labels.shape != features.shape[:1]:
        raise ValueError(f"labels: shape {labels.shape} (must be one for each of {len(features)} features)")
    labels = validate_labels(labels, len(weight))
    selected = np.isin(labels, classes)
    features, labels = _finite("features", features[selected]), labels[selected]
    templates = _templates(classes, weight, bias, features.shape[1])
    _check_present(labels, classes)
    basis, _ = np.linalg.qr(templates.T)
    projected = _in_basis(features, basis)
    with np.errstate(invalid="ignore"):  # identical features are refused below
        pca = _pca()(n_components=2, svd_solver="full").fit(projected)
    variances = pca.explained_variance_
    if np.sqrt(variances[1]) <= 1e-12 * np.abs(projected).max():
        raise ValueError("features: all on a line in the span of the templates (must differ in two directions)")
    centroids = centroids_of(pca.transform(projected), labels, classes)
    rotation = _orientation(centroids)
    return Projection(
        basis=basis,
        mean=pca.mean_,
        plane=pca.components_.T @ rotation,
        centroids=centroids @ rotation,
        explained=float(variances.sum() / projected.var(0, ddof=1).sum()),
        kept=float(variances.sum() / features.var(0, ddof=1).sum()),
    )


def centroids_of(coordinates: np.ndarray, labels: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    """(3, 2) the means of the coordinates (N, 2) of three classes.

    Raises:
        ValueError: a class without coordinates, or one of them is not finite.
    """
    coordinates, labels = numbers("coordinates", coordinates, None, 2), as_array("labels", labels)
    if labels.shape != (len(coordinates),):
        raise ValueError(f"labels: shape {labels.shape} (must be ({len(coordinates)},))")
    _check_present(labels, classes)
    return np.stack([coordinates[labels == label].mean(0) for label in classes])


def _in_basis(features: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """(N, 3) coordinates in the basis of features (N, d), each with a 1 appended."""
    return features @ basis[:-1] + basis[-1]


def _matrix(name: str, rows: np.ndarray) -> np.ndarray:
    """``rows`` as a two-dimensional array of numbers."""
    rows = as_array(name, rows)
    if rows.ndim != 2 or rows.dtype.kind not in "fiu":
        raise ValueError(f"{name}: shape {rows.shape} (must be rows by dimensions)")
    return rows


def _finite(name: str, rows: np.ndarray) -> np.ndarray:
    """``rows`` as a two-dimensional float64 array of finite numbers."""
    rows = _matrix(name, rows)
    if not np.isfinite(rows).all():
        raise ValueError(f"{name}: NaN or infinite (must be finite)")
    return rows.astype(np.float64)


def _templates(classes: Sequence[int], weight: np.ndarray, bias: np.ndarray | None, dimension: int) -> np.ndarray:
    """(3, d + 1) float64: rows of the last layer, each with its class's bias appended, or 0 without a bias."""
    if len(classes) != 3 or len(set(classes)) < 3 or not all(0 <= label < len(weight) for label in classes):
        raise ValueError(f"classes: {list(classes)} (must be three different ones, from 0 to {len(weight) - 1})")
    if weight.ndim != 2 or weight.shape[1] != dimension:
        raise ValueError(f"weight: shape {weight.shape} (must be classes by the features' {dimension} dimensions)")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias: shape {bias.shape} (must be ({len(weight)},))")
    chosen = list(classes)
    templates = _finite("weight", np.column_stack([weight[chosen], np.zeros(3) if bias is None else bias[chosen]]))
    lengths = np.linalg.norm(templates, axis=1, keepdims=True)
    rank = np.linalg.matrix_rank(templates / np.where(lengths, lengths, 1))
    if rank < 3:
        raise ValueError(f"weight: the templates of the classes span {rank} dimensions (must be 3, all independent)")
    return templates


def _check_present(labels: np.ndarray, classes: Sequence[int]) -> None:
    """Raise ValueError if a class has no samples."""
    for label in classes:
        if not (labels == label).any():
            raise ValueError(f"features: none of class {label} (must be at least one of each of the three)")


def _orientation(centroids: np.ndarray) -> np.ndarray:
    """(2, 2) orthogonal matrix that, multiplied from the right, orients coordinates as the module describes."""
    to_third = centroids[2] - centroids[:2].mean(0)
    length = np.linalg.norm(to_third)
    if length <= 1e-12 * np.abs(centroids).max():
        raise ValueError("features: the third centroid is half-way between the other two (must be apart from there)")
    right = to_third / length
    up = np.array([-right[1], right[0]])
    return np.stack([right, up if (centroids[0] - centroids[1]) @ up >= 0 else -up], 1)


def _pca() -> Any:
    """scikit-learn's PCA class."""
    try:
        from sklearn.decomposition import PCA
    except ImportError:
        raise not_installed("scikit-learn", "report") from None
    return PCA
