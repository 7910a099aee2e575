"""The root of an increasing function of which each value is a pass over all logits."""

import math
from collections.abc import Callable

CLOSE = 1e-10  # a step this small ends the search


def increasing_root(value_and_slope: Callable[[float], tuple[float, float]], low: float, high: float) -> float:
    """The root between ``low`` and ``high``, by Newton's method, with bisection where a step would leave the bracket.

    It starts at 0, or at the bound nearest to it: unknowns here are logarithms of a temperature that is often 1.

    Args:
        value_and_slope: the function, at most 0 at ``low`` and at least 0 at ``high``, and its derivative.
        low: the least root.
        high: the largest.

    Returns:
        The root, with an error of about 1e-10.

    Example:
        >>> round(increasing_root(lambda x: (x**3 - 8, 3 * x**2), -1.0, 5.0), 9)
        2.0
    """
    at = min(max(0.0, low), high)
    while high - low > CLOSE / 100:
        value, slope = value_and_slope(at)
        if value == 0:
            break
        low, high = (at, high) if value < 0 else (low, at)
        step = at - value / slope if slope > 0 else math.inf
        if abs(step - at) < CLOSE:  # it may lie on the edge of the bracket, or just outside
            return min(max(step, low), high)
        at = step if low < step < high else (low + high) / 2
    return at
