"""The distribution of the range of several means of normal values, divided by an estimate of their standard error.

It is integrated here, as scipy's ``studentized_range`` takes a hundred times as long (9 ms for a p), too long for a
simulation of a million; the tests compare the two.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np


def studentised_range_p(q: float, groups: int, freedom: int) -> float:
    """The probability that the range of ``groups`` normal values exceeds ``q`` standard deviations.

    The standard deviation is estimated independently with ``freedom`` degrees of freedom. With two groups, q/√2 is
    Student's t, two-sided. The absolute error is below 1e-5.

    Args:
        q: at least 0.
        groups: k, at least 2.
        freedom: at least 1.

    >>> round(studentised_range_p(4.896, 4, 6), 4), round(studentised_range_p(2**0.5 * 4.303, 2, 2), 4)
    (0.05, 0.05)
    """
    estimates, weights = _estimates(freedom)
    ranges, tails = _range_tails(groups)
    return min(1.0, float(weights @ np.interp(q * estimates, ranges, tails, right=0.0)))


@lru_cache
def _estimates(freedom: int) -> tuple[np.ndarray, np.ndarray]:
    """Estimates s = χ/√ν of a standard deviation of 1, evenly spaced in u = ln s, and their quadrature weights.

    The weights are 2 (ν/2)^(ν/2) / Γ(ν/2) · s^ν exp(−ν s²/2) du.
    """
    u, step = np.linspace(-16, 2, 1537, retstep=True)
    density = math.log(2) + freedom / 2 * math.log(freedom / 2) - math.lgamma(freedom / 2)
    return np.exp(u), step * np.exp(density + freedom * u - freedom / 2 * np.exp(2 * u))


@lru_cache
def _range_tails(groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Widths w, and the probability that the range of ``groups`` standard normal values exceeds each.

    The probability is 1 − k ∫ φ(z) [Φ(z) − Φ(z − w)]^(k − 1) dz.
    """
    step = 1 / 128
    z = np.arange(-9, 9 + step / 2, step)
    below = np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in z])
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    tails = []
    for shift in range(len(z)):
        other = np.concatenate([np.zeros(shift), below[: len(z) - shift]])
        tails.append(1 - groups * step * float((density * (below - other) ** (groups - 1)).sum()))
    return step * np.arange(len(z)), np.array(tails)


@lru_cache
def largest_difference_quantile(groups: int, freedom: int, tail: float) -> float:
    """The quantile of the largest difference between several means, in units of a difference's standard error.

    ``tail`` is the probability of a larger one.

    >>> round(largest_difference_quantile(2, 4, 0.05), 3)  # Student's t
    2.776
    """
    return _root(lambda t: studentised_range_p(math.sqrt(2) * t, groups, freedom) - tail)


def _root(falling: Callable[[float], float]) -> float:
    """The positive root of a decreasing function, by bisection."""
    low, high = 0.0, 1.0
    while falling(high) > 0:
        high *= 2
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return high
