"""Neural collapse: do features collapse to their class centroids, and do the centroids form a simplex?

Papyan, Han & Donoho 2020. With the centroids μ_c of K classes, their mean μ_G, and W the last layer's weight,

    Σ_W = mean over samples of (h - μ_c)(h - μ_c)ᵀ          Σ_B = mean over classes of (μ_c - μ_G)(μ_c - μ_G)ᵀ

    NC1         tr(Σ_W Σ_B⁺) / K                            features collapse to their class's centroid
    NC1 ratio   tr Σ_W / tr Σ_B                             the same, from the traces only
    NC2 norms   sd / mean of ‖μ_c - μ_G‖ over classes       centroids are equally far from their mean
    NC2 angles  mean over c ≠ c' of |cos(μ_c - μ_G, μ_c' - μ_G) + 1/(K - 1)|     at the largest possible equal angles
    NC3         ‖W / ‖W‖ - M / ‖M‖‖², M with rows μ_c - μ_G the last layer is aligned with the centroids

All go to 0 under collapse. The ratio, NC2 and NC3 need only class moments and the last layer, so they are measured on
all samples of the split. NC1 needs Σ_W, hence features: it uses the kept ones, relative to the split's centroids,
weighted by the counts of their classes. Σ_B⁺ gives most weight to the directions in which centroids differ least.
"""

import math
from dataclasses import dataclass

import numpy as np

from lskd.io.arrays import as_array, numbers
from lskd.measure.moments import ClassMoments
from lskd.measure.representations import Representations
from lskd.measure.weighted_samples import sample_weights

BLOCK = 2**20  # features or cosines in a block


@dataclass(frozen=True)
class NeuralCollapse:
    """NC1 to NC3, each 0 or more; None where it is not defined or cannot be measured.

    Attributes:
        classes: K, the number of classes with samples.
        nc1: None unless some features of each class were kept.
        nc1_ratio: ratio of the traces.
        nc2_norms: a coefficient of variation.
        nc2_angles: 0 to 1 + 1/(K - 1).
        nc3: 0 to 4; None without a last layer.
    """

    classes: int
    nc1: float | None
    nc1_ratio: float | None
    nc2_norms: float | None
    nc2_angles: float | None
    nc3: float | None


def neural_collapse(representations: Representations) -> NeuralCollapse:
    """NC1 to NC3 of a model on one split.

    Classes without samples are left out. With fewer than two classes, or if all centroids are equal, all are undefined.

    Raises:
        ValueError: a feature is not finite, or moments are too large.

    Example:
        >>> from lskd.measure.representations import collect
        >>> features = np.array([[3.0, 0.0], [1.0, 0.0], [-3.0, 0.0], [-1.0, 0.0]])
        >>> found = neural_collapse(collect(features, [0, 0, 1, 1], ["a", "b"], weight=np.array([[1.0, 0], [-1, 0]])))
        >>> round(found.nc1, 4), round(found.nc1_ratio, 4), round(found.nc3, 4)  # (1 / 4) / 2, 1 / 4
        (0.125, 0.25, 0.0)
    """
    moments = representations.moments
    present = np.flatnonzero(moments.counts)
    centred = centred_centroids(moments, present)
    if not centred.any():
        return NeuralCollapse(len(present), None, None, None, None, None)
    with np.errstate(over="ignore"):
        between = float((centred**2).sum()) / len(present)
        within = float(moments.squared_deviations().sum() / moments.counts.sum())
    if not (math.isfinite(between) and math.isfinite(within)):
        raise ValueError(f"centroids: {np.abs(centred).max():.3g} in size (must be small enough to be squared)")
    norms = np.linalg.norm(centred, axis=1)
    weight = representations.weight
    return NeuralCollapse(
        classes=len(present),
        nc1=within_over_between(representations),
        nc1_ratio=within / between,
        nc2_norms=float(norms.std() / norms.mean()),
        nc2_angles=angle_deviation(centred) if norms.all() else None,
        nc3=None if weight is None else self_duality(weight[present], centred),
    )


def centred_centroids(moments: ClassMoments, classes: np.ndarray) -> np.ndarray:
    """(K, d) float64, μ_c - μ_G of these classes, μ_G the mean of their centroids; rounding errors are set to 0."""
    centroids = moments.centroids()[classes]
    centred = centroids - centroids.mean(0)
    rounding = len(classes) * np.finfo(np.float64).eps * np.abs(centroids).max(0, initial=0)
    return np.where(np.abs(centred) > rounding, centred, 0)


def within_over_between(representations: Representations) -> float | None:
    """NC1, tr(Σ_W Σ_B⁺) / K, from kept features, block by block; None if a class with samples has no kept features.

    With the singular values s and right singular vectors V of M, it is the mean of ‖s⁻¹ Vᵀ(h - μ_c)‖². Singular values
    that may be rounding errors of the centroids are left out, as in a pseudo-inverse: always at least one, since M's
    rows sum to 0.

    Raises:
        ValueError: a feature is not finite.
    """
    moments, labels = representations.moments, representations.labels
    present = np.flatnonzero(moments.counts)
    if not np.array_equal(np.unique(labels), present):
        return None
    centred, centroids = centred_centroids(moments, present), moments.centroids()
    _, sizes, directions = np.linalg.svd(centred, full_matrices=False)
    used = sizes > np.linalg.norm(centroids[present]) * max(centred.shape) * np.finfo(np.float64).eps
    if not used.any():
        return None
    scaled = directions[used].T / sizes[used]
    weights, total = sample_weights(labels, moments.counts), 0.0
    rows = max(1, BLOCK // moments.dimension)
    for start, features in representations.feature_chunks(rows):
        part = slice(start, start + rows)
        deviations = (features - centroids[labels[part]]) @ scaled
        total += float(weights[part] @ np.einsum("nr,nr->n", deviations, deviations))
    return total / float(weights.sum())


def angle_deviation(centred: np.ndarray) -> float:
    """NC2 angles: the mean over pairs of rows of |cos + 1/(K - 1)|, in blocks of rows.

    Args:
        centred: (K, d), K at least 2, without rows of zeros.

    Raises:
        ValueError: a wrong shape, a number that is not finite, or a row of zeros.

    Example:
        >>> round(angle_deviation(np.eye(3) - 1 / 3), 12), angle_deviation(np.eye(3))  # a simplex, a right angle
        (0.0, 0.5)
    """
    centred = numbers("centred", centred, None, None)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    classes = len(centred)
    if classes < 2 or not norms.all():
        raise ValueError(f"centred: {classes} rows (must be at least 2, none of them zeros)")
    directions, total = centred / norms, 0.0
    rows = max(1, BLOCK // classes)
    for start in range(0, classes, rows):
        cosines = directions[start : start + rows] @ directions.T
        deviations = np.abs(cosines + 1 / (classes - 1))
        deviations[np.arange(len(cosines)), np.arange(start, start + len(cosines))] = 0
        total += float(deviations.sum())
    return total / (classes * (classes - 1))


def self_duality(weight: np.ndarray, centred: np.ndarray) -> float | None:
    """NC3: ‖W / ‖W‖ - M / ‖M‖‖², in Frobenius norms; None if either is 0.

    Args:
        weight: (K, d) weight of the last layer, not centred: a vector added to all rows changes no prediction, but
            changes NC3.
        centred: (K, d), centroids less their mean.

    Returns:
        0 if they are proportional, 2 if orthogonal, 4 if opposite.

    Raises:
        ValueError: shapes that do not fit, or a number that is not finite.

    Example:
        >>> [round(self_duality(np.eye(2), factor * np.eye(2)), 6) for factor in (3.0, -3.0)]
        [0.0, 4.0]
    """
    weight = numbers("weight", weight, None, None)
    centred = numbers("centred", as_array("centred", centred), *weight.shape)
    norms = math.sqrt((weight**2).sum()), math.sqrt((centred**2).sum())
    return float(((weight / norms[0] - centred / norms[1]) ** 2).sum()) if all(norms) else None
