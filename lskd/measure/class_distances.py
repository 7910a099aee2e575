"""The distances D of a target class to other classes, from which the diffusion index η is computed: four variants.

- ``centroid``, the paper's: ‖c_π − c_k‖² of the class means. It carries tr(Σ_π)/n_π + tr(Σ_k)/n_k of sampling noise.
- ``corrected``: the same less that noise, an unbiased estimate of the distance between the classes' true centroids.
- ``pairwise``: the mean Euclidean distance of all pairs of samples, in the span of the last layer's templates of
  {π} ∪ S1 ∪ S2. Our reading of Appendix K, which specifies neither the projection nor whether distances are squared.
- ``pairwise-squared``: the mean squared distance of all pairs, in the whole feature space, exact from class moments:
  ‖c_π − c_k‖² + tr(Σ_π) + tr(Σ_k), Σ the samples' own (divided by n).
"""

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from lskd.io.arrays import as_array, class_list, numbers, whole
from lskd.measure.moments import ClassMoments
from lskd.measure.representations import Representations

VARIANTS = ("centroid", "corrected", "pairwise", "pairwise-squared")
SIDE = 1024  # samples of each class per block; a block of distances takes 8 MiB


def squared_distances(
    moments: ClassMoments,
    targets: Sequence[int],
    classes: Sequence[int] | None = None,
    variant: str = "centroid",
) -> np.ndarray:
    """Squared distances of targets to classes, from class moments.

    Args:
        moments: moments of K classes.
        targets: P class indices.
        classes: C class indices, all K when None.
        variant: ``centroid``, ``corrected`` (can be negative) or ``pairwise-squared``; see the module's docstring.

    Returns:
        (P, C) float64, NaN where a class has too few samples; meaningless where target and class are the same.

    Raises:
        ValueError: no such class, or no such variant.
    """
    targets = class_list("targets", targets, moments.classes)
    classes = class_list("classes", range(moments.classes) if classes is None else classes, moments.classes)
    if not targets or not classes:
        raise ValueError(f"{'classes' if targets else 'targets'}: none (must be at least one)")
    share = variance_share(variant, moments.counts)
    centroids = moments.centroids()
    # Differences first: |a|² + |b|² − 2ab would lose digits where classes are close.
    squared = np.array([((centroids[classes] - centroids[target]) ** 2).sum(1) for target in targets])
    if variant == "centroid":
        return squared
    spread = np.where(
        share == 0, 0, share * moments.within_class_variance()
    )  # the variance of a single sample is NaN, which a share of 0 leaves out
    return squared + spread[targets][:, None] + spread[classes]


def target_distances(student: Representations, target: int, classes: Sequence[int], variant: str) -> np.ndarray:
    """(C,) distances of a target to classes, in any of :data:`VARIANTS`; NaN where a class has too few samples."""
    if variant == "pairwise":
        return pairwise_distances(student, target, classes, uniform_weights(student))[0]
    return squared_distances(student.moments, [target], classes, variant)[0]


def variance_share(variant: str, counts: np.ndarray) -> np.ndarray:
    """The share of a class's variance that a variant adds to a squared distance of centroids.

    Raises:
        ValueError: not a variant with squared distances.
    """
    if variant not in VARIANTS or variant == "pairwise":
        raise ValueError(f"variant: {variant!r} (must be centroid, corrected or pairwise-squared)")
    counts = as_array("counts", counts)
    with np.errstate(divide="ignore"):
        return {"centroid": 0 * counts, "corrected": -1 / counts, "pairwise-squared": 1 - 1 / counts}[variant]


def template_basis(weight: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    """An orthonormal basis (d, r) of the span of the templates, the rows of ``weight`` (K, d), of ``classes``.

    Distances in the span are the same in any of its bases, such as QR's; this one leaves out directions that are only
    rounding errors where templates are linearly dependent: r is their rank.

    Raises:
        ValueError: a weight that is not a finite matrix, or no such class.
    """
    weight = as_array("weight", weight)
    rows = numbers("weight", weight, None, None)[class_list("classes", classes, len(weight))]
    if not len(rows):
        raise ValueError("classes: none (must be at least one)")
    _, sizes, basis = np.linalg.svd(rows, full_matrices=False)
    eps = np.finfo(weight.dtype if weight.dtype.kind == "f" else np.float64).eps
    return basis[sizes > sizes[0] * max(rows.shape) * eps].T


def mean_distances(
    own: np.ndarray, other: np.ndarray, own_weights: np.ndarray, other_weights: np.ndarray
) -> np.ndarray:
    """Weighted mean Euclidean distance of all pairs of two classes' samples: Σ_ij w_i v_j ‖x_i − y_j‖.

    Args:
        own: (n, d) x. Pairs are computed block by block, in float64, relative to the classes' common mean.
        other: (m, d) y.
        own_weights: (B, n) w, with rows that sum to 1.
        other_weights: (B, m) v, likewise.

    Returns:
        (B,) float64.

    Raises:
        ValueError: no sample, shapes that do not fit, or a number that is not finite.
    """
    own = numbers("own", own, None, None)
    other = numbers("other", other, None, own.shape[1])
    if not len(own) or not len(other):
        raise ValueError(f"{'other' if len(own) else 'own'}: no samples (must be at least one)")
    own_weights = numbers("own_weights", own_weights, None, len(own))
    other_weights = numbers("other_weights", other_weights, len(own_weights), len(other))
    mean = (own.mean(0) + other.mean(0)) / 2
    own, other = own - mean, other - mean
    own_norms, other_norms = (own**2).sum(1), (other**2).sum(1)
    total = np.zeros(len(own_weights))
    starts = itertools.product(range(0, len(own), SIDE), range(0, len(other), SIDE))
    for rows, columns in ((slice(i, i + SIDE), slice(j, j + SIDE)) for i, j in starts):
        distances = own[rows] @ (-2 * other[columns].T)
        distances += own_norms[rows, None]
        distances += other_norms[columns]
        np.sqrt(np.maximum(distances, 0, out=distances), out=distances)
        total += ((own_weights[:, rows] @ distances) * other_weights[:, columns]).sum(1)
    return total


def pairwise_distances(
    student: Representations, target: int, classes: Sequence[int], weights: Callable[[int], np.ndarray]
) -> np.ndarray:
    """(B, C) mean pairwise distances in the templates' span; ``weights(label)`` gives (B, n) sample weights of a class.

    Raises:
        ValueError: no last layer, no such class, or a class without samples.
    """
    if student.weight is None:
        raise ValueError("weight: none (must hold the last layer)")
    target = whole("target", target, 0, len(student.class_names) - 1)
    if not (classes := class_list("classes", classes, len(student.class_names))):
        raise ValueError("classes: none (must be at least one)")
    basis = template_basis(student.weight, [target, *classes])
    own, own_weights = student.of_class(target).astype(np.float64) @ basis, weights(target)
    columns = []
    for label in classes:
        other = student.of_class(label).astype(np.float64) @ basis
        columns.append(mean_distances(own, other, own_weights, weights(label)))
    return np.stack(columns, 1)


def uniform_weights(student: Representations) -> Callable[[int], np.ndarray]:
    """Equal (1, n) weights of the n kept samples of a class, for :func:`pairwise_distances`."""
    kept = np.bincount(student.labels, minlength=len(student.class_names))
    return lambda label: np.full((1, kept[label]), 1 / kept[label])
