"""The paper's picture of three classes: two similar ones and a dissimilar one, in the plane (Figure 1, Appendix F).

Algorithms 1 and 2 there: features are projected on an orthonormal basis of the last layer's templates of the three
classes, then from these three dimensions to two with PCA. As in Müller et al. (2019), a template has the class's bias
as its last coordinate and a feature vector a 1. The plane is found on one split and shows others as it is.

PCA leaves open how the plane is turned. Here every picture is turned, and mirrored where needed, in one way: seen from
half-way between the similar classes' centroids the dissimilar class's is straight to the right, and the first class's
is above the second's. Distances in the plane stay as PCA has them, and its origin, the mean of the features, too.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lskd.io.arrays import as_array, class_list, numbers, validate_labels, whole
from lskd.io.errors import input_error
from lskd.measure.representations import Representations
from lskd.records.runs import look_up, teacher_smoothing


@dataclass(frozen=True)
class Projection:
    """A plane for three classes' features.

    Attributes:
        basis: (d + 1, 3) orthonormal columns that span the templates, whose last coordinate is the bias.
        mean: (3,) of the features it was fitted on, in the basis.
        plane: (3, 2) orthonormal columns: PCA's plane, turned as the module says.
        centroids: (3, 2) of the features it was fitted on, in the order of the classes.
        explained: share of the variance in the basis that the plane keeps, 0 to 1.
        kept: share of the variance of the features themselves that the plane keeps, 0 to 1.
    """

    basis: np.ndarray
    mean: np.ndarray
    plane: np.ndarray
    centroids: np.ndarray
    explained: float
    kept: float

    def transform(self, features: np.ndarray) -> np.ndarray:
        """(N, 2) float64, in units of the features (N, d), which may be of any split and class.

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
    """Algorithms 1 and 2 (Appendix F), in float64; features of other classes count for nothing.

    Args:
        features: (N, d), what enters the last layer.
        labels: (N,) integers, 0 to K-1.
        classes: three of them: two similar ones, then a dissimilar one.
        weight: (K, d) of the last layer.
        bias: (K,) of the last layer, or None where it has none.

    Raises:
        ValueError: shapes or classes that do not fit, a class without features, templates that span no three
            dimensions, features without two directions, centroids that leave the picture's turn open.

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
    from_three = np.isin(labels, classes)
    features, labels = _finite("features", features[from_three]), labels[from_three]
    templates = _templates(classes, weight, bias, features.shape[1])
    _check_present(labels, classes)
    basis, _ = np.linalg.qr(templates.T)
    projected = _in_basis(features, basis)
    with np.errstate(invalid="ignore"):  # features that are all the same are refused below
        pca = _pca()(n_components=2, svd_solver="full").fit(projected)
    variances = pca.explained_variance_
    if np.sqrt(variances[1]) <= 1e-12 * np.abs(projected).max():
        raise ValueError("features: all on a line in the span of the templates (must differ in two directions)")
    flat = centroids_of(pca.transform(projected), labels, classes)
    turn = _turn(flat)
    return Projection(
        basis=basis,
        mean=pca.mean_,
        plane=pca.components_.T @ turn,
        centroids=flat @ turn,
        explained=float(variances.sum() / projected.var(0, ddof=1).sum()),
        kept=float(variances.sum() / features.var(0, ddof=1).sum()),
    )


def centroids_of(coordinates: np.ndarray, labels: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    """(3, 2) means of the coordinates (N, 2) of each of three classes.

    Raises:
        ValueError: a class without coordinates, or one of them is not finite.
    """
    coordinates, labels = numbers("coordinates", coordinates, None, 2), as_array("labels", labels)
    if labels.shape != (len(coordinates),):
        raise ValueError(f"labels: shape {labels.shape} (must be ({len(coordinates)},))")
    _check_present(labels, classes)
    return np.stack([coordinates[labels == label].mean(0) for label in classes])


def distance_to_third(centroids: np.ndarray) -> float:
    """The mean Euclidean distance of the first two of three centroids (3, 2) to the third."""
    centroids = numbers("centroids", centroids, 3, 2)
    return float(np.linalg.norm(centroids[:2] - centroids[2], axis=1).mean())


def relative_distance(centroids: np.ndarray) -> float:
    """The distance between the first two of three centroids (3, 2), relative to :func:`distance_to_third`.

    0 where the two are one, 1 in an equilateral triangle, at most 2, NaN where all three are one.

    >>> relative_distance(np.array([[0.0, 1.0], [0.0, -1.0], [np.sqrt(15), 0.0]]))
    0.5
    """
    centroids = numbers("centroids", centroids, 3, 2)
    third = distance_to_third(centroids)
    return float(np.linalg.norm(centroids[0] - centroids[1])) / third if third else np.nan


def _in_basis(features: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """(N, 3) features (N, d) in the basis, each with a 1 as its last coordinate."""
    return features @ basis[:-1] + basis[-1]


def _matrix(name: str, rows: np.ndarray) -> np.ndarray:
    """``rows`` as an array."""
    rows = as_array(name, rows)
    if rows.ndim != 2 or rows.dtype.kind not in "fiu":
        raise ValueError(f"{name}: shape {rows.shape} (must be rows by dimensions)")
    return rows


def _finite(name: str, rows: np.ndarray) -> np.ndarray:
    """``rows`` in float64."""
    rows = _matrix(name, rows)
    if not np.isfinite(rows).all():
        raise ValueError(f"{name}: NaN or infinite (must be finite)")
    return rows.astype(np.float64)


def _templates(classes: Sequence[int], weight: np.ndarray, bias: np.ndarray | None, dimension: int) -> np.ndarray:
    """(3, d + 1) float64: rows of the last layer, each with the bias of its own class, 0 where there is none."""
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
    for label in classes:
        if not (labels == label).any():
            raise ValueError(f"features: none of class {label} (must be at least one of each of the three)")


def _turn(centroids: np.ndarray) -> np.ndarray:
    """(2, 2) orthogonal: turns, and mirrors where needed, coordinates on its left so that they lie as agreed."""
    ahead = centroids[2] - centroids[:2].mean(0)
    length = np.linalg.norm(ahead)
    if length <= 1e-12 * np.abs(centroids).max():
        raise ValueError("features: the third centroid is half-way between the other two (must be apart from there)")
    right = ahead / length
    up = np.array([-right[1], right[0]])
    return np.stack([right, up if (centroids[0] - centroids[1]) @ up >= 0 else -up], 1)


def _pca():
    try:
        from sklearn.decomposition import PCA
    except ImportError:
        raise input_error(
            "scikit-learn", "not installed", "the projection needs it: pip install 'lskd[report]'"
        ) from None
    return PCA


@dataclass(frozen=True)
class Panel:
    """One model on one split, in the plane.

    Attributes:
        class_names: the three.
        coordinates: (n, 2), in units of the features.
        labels: (n,) 0, 1 or 2: which of the three.
        index: (n,) which samples of the split.
        projection: the plane.
        fitted_on: the split that the plane was fitted on.
        provenance: of the representations.
    """

    class_names: list[str]
    coordinates: np.ndarray
    labels: np.ndarray
    index: np.ndarray
    projection: Projection
    fitted_on: str
    provenance: dict

    @property
    def centroids(self) -> np.ndarray:
        """(3, 2), of the samples shown."""
        return centroids_of(self.coordinates, self.labels, range(3))

    @property
    def relative_distance(self) -> float:
        """:func:`relative_distance` of the samples shown."""
        return relative_distance(self.centroids)

    @property
    def split(self) -> str:
        """The split the samples are of."""
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
        """T that a student was distilled at."""
        return look_up(self.provenance, "configuration", "temperature") if self.provenance.get("teacher") else None

    @property
    def label_smoothing(self) -> float | None:
        """α of a teacher, of a student's teacher for a student; None where nobody knows."""
        return teacher_smoothing(self.provenance)

    @property
    def title(self) -> str:
        """Two lines: model and T; α, the split, and whether the plane was fitted on a split that is no training one."""
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
    """Panels of one model: of the split the plane is fitted on, and of others that it is applied to.

    Of each class so many samples are drawn at random without replacement (the paper: 150 for training, 50 for
    validation, all with CUB: None). Draws depend on ``seed`` and how many there are of the class: from files that kept
    the same samples, all models show the same ones.

    Args:
        fitted: of the training split, with the last layer.
        applied: of the same model on other splits.
        class_names: two similar classes, then a dissimilar one.
        fitted_samples: at most so many of each class, of ``fitted``.
        applied_samples: the same, of each of ``applied``.
        seed: of the draws, 0 or above.

    Raises:
        ValueError: representations of different models, an unknown class or one without features, and all that
            :func:`fit_projection` refuses.
    """
    if fitted.weight is None:
        raise ValueError("weight: none (the representations must hold the last layer)")
    for other in applied:
        same = other.class_names == fitted.class_names and np.array_equal(other.weight, fitted.weight)
        if not same or not np.array_equal(other.bias, fitted.bias):
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


def _index(name: str, class_names: list[str]) -> int:
    if name not in class_names:
        near = difflib.get_close_matches(name, class_names) or class_names[:3]
        raise ValueError(f"class: {name!r} (must be one of the {len(class_names)} classes, such as {', '.join(near)})")
    return class_names.index(name)


def _draw(representations: Representations, classes: list[int], samples: int | None, seed: int) -> np.ndarray:
    """Increasing rows: at most so many of each class."""
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
