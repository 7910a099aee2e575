"""Calibration: is a model right as often as its confidence says?

The confidence of a prediction is the probability of the predicted class. With samples in M bins B by confidence,

    ECE = Σ_m |B_m| / N · |accuracy(B_m) - mean confidence(B_m)|

for bins of equal width (Guo et al. 2017, with M = 15; Naeini et al. 2015), or of equally many samples: *adaptive* ECE,
which uses the adaptive ranges of Nixon et al. 2019 for the predicted class alone (their ACE averages over all classes).
T* is the temperature that calibrates best by the likelihood (temperature scaling, Guo et al. 2017):

    T* = argmin_T Σ -ln softmax(z / T)[label]

ECE is never below 0, so chance adds to it: a perfectly calibrated model has Σ_m √(2/π · Σ_{i in B_m} c_i (1 - c_i)) / N
on average, c being its confidence (the mean of a half-normal distribution in each bin). If samples have weights, all
sums and means are weighted.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lskd.io.arrays import as_array, whole
from lskd.measure.logit_blocks import Logits
from lskd.measure.predictions import below_largest, labelled_blocks
from lskd.measure.roots import increasing_root
from lskd.measure.weighted_samples import tie_groups, validate_samples, validate_weights

BINS = 15
TEMPERATURES = (1e-2, 1e2)  # the range in which T* is searched


@dataclass(frozen=True)
class ConfidenceBins:
    """Bins of a reliability diagram, those without samples left out.

    Attributes:
        share: (B,) the bin's share of the samples' weight; they sum to 1.
        confidence: (B,) mean, increasing.
        accuracy: (B,) mean, 0 to 1.
        deviation: (B,) standard deviation that the accuracy has if the model is calibrated.
    """

    share: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    deviation: np.ndarray

    @property
    def error(self) -> float:
        """The expected calibration error, 0 to 1."""
        return float((self.share * np.abs(self.accuracy - self.confidence)).sum())

    @property
    def error_by_chance(self) -> float:
        """The expected error of a calibrated model with the same confidences."""
        return math.sqrt(2 / math.pi) * float((self.share * self.deviation).sum())


def confidence_bins(
    confidence: np.ndarray | Sequence[float],
    correct: np.ndarray | Sequence[bool],
    weights: np.ndarray | Sequence[float] | None = None,
    bins: int = BINS,
    equal_mass: bool = False,
) -> ConfidenceBins:
    """Sort samples into bins by confidence.

    Args:
        confidence: (N,) 0 to 1.
        correct: (N,) bool, whether the prediction is right.
        weights: (N,) 0 or more; all 1 when None.
        bins: M, above 0.
        equal_mass: use bins of equal weight; otherwise of equal width, ((m-1)/M, m/M]. Samples of equal confidence go
            into one bin, so with ties the weights are only roughly equal.

    Raises:
        ValueError: no samples, arrays of different lengths, or numbers out of range.
    """
    confidence, correct, weights = validate_samples(confidence, correct, weights)
    if confidence.min() < 0 or confidence.max() > 1:
        wrong = confidence.min() if confidence.min() < 0 else confidence.max()
        raise ValueError(f"confidence: {wrong:g} (must be between 0 and 1)")
    bins = whole("bins", bins, 1)
    if equal_mass:
        _, tied, total = tie_groups(confidence, weights)
        middle = (np.cumsum(total) - total / 2) / total.sum()  # of each confidence, from the lowest
        place = np.minimum((middle * bins).astype(np.int64), bins - 1)[tied]
    else:
        place = np.searchsorted(np.arange(1, bins) / bins, confidence)
    mass = np.bincount(place, weights, bins)
    filled = mass > 0
    variance = np.bincount(place, weights**2 * confidence * (1 - confidence), bins)[filled]
    return ConfidenceBins(
        share=mass[filled] / mass.sum(),
        confidence=np.bincount(place, weights * confidence, bins)[filled] / mass[filled],
        accuracy=np.bincount(place, weights * correct, bins)[filled] / mass[filled],
        deviation=np.sqrt(variance) / mass[filled],
    )


def expected_calibration_error(
    confidence: np.ndarray | Sequence[float],
    correct: np.ndarray | Sequence[bool],
    weights: np.ndarray | Sequence[float] | None = None,
    bins: int = BINS,
) -> float:
    """ECE over bins of equal width; the arguments are those of :func:`confidence_bins`.

    Returns:
        0 to 1, less is better.

    Example:
        >>> round(expected_calibration_error([0.9, 0.9, 0.6, 0.6], [True, True, True, False]), 3)
        0.1
    """
    return confidence_bins(confidence, correct, weights, bins).error


def adaptive_calibration_error(
    confidence: np.ndarray | Sequence[float],
    correct: np.ndarray | Sequence[bool],
    weights: np.ndarray | Sequence[float] | None = None,
    bins: int = BINS,
) -> float:
    """ECE over bins of equal weight; the arguments are those of :func:`confidence_bins`.

    Returns:
        0 to 1, less is better.

    Example:
        >>> round(adaptive_calibration_error([0.9, 0.8, 0.7, 0.6], [True, True, True, False], bins=2), 3)
        0.15
    """
    return confidence_bins(confidence, correct, weights, bins, equal_mass=True).error


def optimal_temperature(
    logits: Logits,
    labels: np.ndarray | Sequence[int],
    weights: np.ndarray | Sequence[float] | None = None,
) -> float:
    """T*, the temperature that minimises the negative log likelihood of the labels under softmax(logits / T).

    The negative log likelihood is convex in β = 1/T: its slope, the mean of E_p[z] - z_label, increases with β at the
    rate of the variance of the logits under p. The slope's root is found in ln β.

    Args:
        logits: (N, K) floating, or chunks that can be iterated over repeatedly.
        labels: (N,) integers, 0 to K-1.
        weights: (N,) 0 or more; all 1 when None.

    Returns:
        T*, with a relative error of about 1e-9; above 1 if the model is overconfident.

    Raises:
        ValueError: logits and labels that do not fit each other, or a T* outside :data:`TEMPERATURES`: if every
            prediction is right, ever lower temperatures are better; if labels are no likelier than by chance, ever
            higher ones.

    Example:
        >>> logits = np.array([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0], [2.0, 0.0]])
        >>> round(optimal_temperature(logits, [0, 0, 0, 1]), 6) == round(2 / math.log(3), 6)  # p = 3/4
        True
    """
    if isinstance(logits, Iterator):
        raise ValueError("logits: an iterator (must be an array, or chunks that can be iterated over again)")
    least, most = TEMPERATURES
    high, low = 1 / least, 1 / most
    weights = validate_weights(weights, as_array("labels", labels).size)
    valid = f"must be from {least:g} to {most:g}"
    if _slope(logits, labels, weights, high)[0] <= 0:
        raise ValueError(f"T*: below {least:g}, the likelihood still rises as T falls ({valid})")
    if _slope(logits, labels, weights, low)[0] >= 0:
        raise ValueError(f"T*: above {most:g}, the higher the likelier ({valid})")

    def slope(ln_beta: float) -> tuple[float, float]:
        beta = math.exp(ln_beta)
        value, curvature = _slope(logits, labels, weights, beta)
        return value, beta * curvature

    return math.exp(-increasing_root(slope, math.log(low), math.log(high)))


def _slope(logits: Logits, labels: np.ndarray | Sequence[int], weights: np.ndarray, beta: float) -> tuple[float, float]:
    """The first and second derivatives with respect to β of the summed negative log likelihood of softmax(β·logits)."""
    slope, curvature, start = 0.0, 0.0, 0
    for block, own in labelled_blocks(logits, labels):
        below = below_largest(block)
        p = np.exp(beta * below)  # as softmax() does, without looking for the largest once more in each step
        p /= p.sum(1, keepdims=True)
        mean = np.einsum("nk,nk->n", p, below)
        square = np.einsum("nk,nk,nk->n", p, below, below)
        weight = weights[start : start + len(block)]
        slope += float(weight @ (mean - below[np.arange(len(block)), own]))
        curvature += float(weight @ np.maximum(square - mean**2, 0))
        start += len(block)
    return slope, curvature
