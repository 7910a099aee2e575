"""Mean and standard deviation over seeds."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from lskd.io.arrays import numbers

LARGEST = 1e150


@dataclass(frozen=True)
class Spread:
    """Mean, sample standard deviation (dividing by n − 1; None for n = 1) and number of values over seeds."""

    mean: float
    sd: float | None
    n: int


def over_seeds(values: Sequence[float]) -> Spread:
    """The spread of one measurement over seeds, such as η(S1) of a target from several pairs of students.

    Raises:
        ValueError: no value, or one that is not finite or whose size is above 1e150, so that its square may overflow.

    >>> over_seeds([-0.1, -0.3])
    Spread(mean=-0.2, sd=0.1414213562373095, n=2)
    """
    array = numbers("values", values, None)
    if not len(array):
        raise ValueError("values: none (must be at least one)")
    if (size := float(np.abs(array).max())) > LARGEST:
        raise ValueError(f"values: {size:.3g} in size (must be at most {LARGEST:g})")
    return Spread(float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else None, len(array))


def spread_of_known(values: Iterable[float | None]) -> Spread | None:
    """The spread over seeds of the values that are known; None if none is.

    >>> spread_of_known([80.0, None, 82.0]), spread_of_known([None])
    (Spread(mean=81.0, sd=1.4142135623730951, n=2), None)
    """
    known = [value for value in values if value is not None]
    return over_seeds(known) if known else None
