"""Selective prediction: how much does the error fall if a model may abstain on the samples it is least sure of?"""

from collections.abc import Sequence

import numpy as np

from lskd.measure.weighted_samples import tie_groups, validate_samples


def area_under_risk_coverage(
    confidence: np.ndarray | Sequence[float],
    correct: np.ndarray | Sequence[bool],
    weights: np.ndarray | Sequence[float] | None = None,
) -> float:
    """AURC: the error among the k most confident samples, averaged over k = 1 to N (Geifman et al. 2019).

        AURC = 1/N Σ_k 1/k Σ_{i ≤ k} error(i)        samples in order of decreasing confidence

    The risk and coverage of a selective classifier are those of Geifman & El-Yaniv 2017. Samples of equal confidence
    share their mean error, so that their order does not matter. With weights, both sums are weighted, and k becomes
    the cumulative weight.

    Args:
        confidence: (N,) finite; any score that is higher the surer the model is.
        correct: (N,) bool, whether the prediction is right.
        weights: (N,) 0 or more; all 1 when None.

    Returns:
        0 to 1, lower is better. It is 0 if all predictions are right, and the error rate if confidence is
        uninformative; a more accurate classifier has a lower AURC even if its confidence ranks no better.

    Raises:
        ValueError: no samples, arrays of different lengths, or numbers out of range.

    Example:
        >>> area_under_risk_coverage([0.9, 0.8], [True, False]), area_under_risk_coverage([0.8, 0.9], [True, False])
        (0.25, 0.75)
    """
    confidence, correct, weights = validate_samples(confidence, correct, weights)
    _, tied, total = tie_groups(confidence, weights)
    wrong = np.bincount(tied, weights * ~correct, len(total))
    risk = np.divide(wrong, total, out=np.zeros(len(total)), where=total > 0)[tied]  # the mean error of tied samples
    order = np.argsort(-confidence, kind="stable")
    weight, mass = weights[order], np.cumsum(weights[order])
    with np.errstate(invalid="ignore"):  # samples of weight 0 may come first
        selective = np.where(mass > 0, np.cumsum(weight * risk[order]) / mass, 0)
    return float(weight @ selective / mass[-1])
