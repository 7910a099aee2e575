"""Mean and standard deviation over seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

from lskd.io.arrays import numbers

LARGEST = 1e150


@dataclass(frozen=True)
class Spread:
    """Mean, standard deviation (n − 1; None for n = 1) and number of values, one for each pair of seeds."""

    mean: float
    sd: float | None
    n: int


def over_seeds(values: Sequence[float]) -> Spread:
    """The spread of one figure over seeds: η(S1) of a target, say, from several pairs of students.

    Raises:
        ValueError: no value, or one that is not finite or above 1e150 in size: its square would not be.

    >>> over_seeds([-0.1, -0.3])
    Spread(mean=-0.2, sd=0.1414213562373095, n=2)
    """
    values = numbers("values", values, None)
    if not len(values):
        raise ValueError("values: none (must be at least one)")
    if (size := float(abs(values).max())) > LARGEST:
        raise ValueError(f"values: {size:.3g} in size (must be at most {LARGEST:g})")
    return Spread(float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else None, len(values))
