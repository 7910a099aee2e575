"""Bootstrap intervals of measures over samples."""

from collections.abc import Callable

import numpy as np

from lskd.io.arrays import whole
from lskd.measure.weighted_samples import validate_weights

RESAMPLES = 500
CONFIDENCE = 0.95


def bootstrap_interval(
    measure: Callable[[np.ndarray], float],
    weights: np.ndarray,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """The basic 95 % bootstrap interval of a measure between 0 and 1, over samples drawn with replacement.

    With θ the measure of the samples and q the quantiles of θ over resamples, it is 2θ - q(.975) to 2θ - q(.025)
    (Davison & Hinkley 1997). Unlike the percentile interval, it corrects for a bias that the resamples have just as the
    samples do, such as that of ECE.

    Args:
        measure: a function of the (N,) weights of the samples.
        weights: (N,) 0 or more, the samples' own; a resample multiplies them by how often each sample was drawn.
        resamples: above 0.
        seed: seed of the draws.

    Example:
        >>> values = np.array([0.0, 1.0] * 50)
        >>> low, high = bootstrap_interval(lambda weights: np.average(values, weights=weights), np.ones(100))
        >>> 0.38 < low < 0.42 and 0.58 < high < 0.62
        True
    """
    weights = validate_weights(weights, len(weights))
    n, generator = len(weights), np.random.default_rng(seed)
    drawn = (np.bincount(generator.integers(0, n, n), minlength=n) for _ in range(whole("resamples", resamples, 1)))
    found = [measure(weights * times) for times in drawn]
    tail = (1 - CONFIDENCE) / 2
    ends = 2 * measure(weights) - np.quantile(found, [1 - tail, tail])
    low, high = np.clip(ends, 0, 1).tolist()
    return low, high
