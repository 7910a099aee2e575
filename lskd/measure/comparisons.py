"""Tests for differences between temperatures: best against worst, best against T = 1, and T = 1 against the rest.

The best and the worst of k temperatures are chosen by the same values that are then compared, so their difference is
large even if temperature has no effect. It is tested twice against the studentised range of k groups (Tukey 1949),
which accounts for that choice, and the larger p is reported:

    pooled   t = D / sqrt(variance of all groups together), with all their degrees of freedom
    own      t = D / sqrt(variance of these two groups),    with theirs alone

The pooled test is the more powerful; the own test is robust to a temperature with a larger variance than the others. If
all temperatures have the same seeds, differences within seeds are tested. The comparison of T = 1 with the mean of the
others is planned in advance: a t-test. ``scripts/headline_false_claims.py`` measures how often each test claims a
difference if there is none, and if there is one.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lskd.measure.studentised_range import largest_difference_quantile, studentised_range_p
from lskd.records.spread import Spread, over_seeds

# Two seeds say next to nothing about the spread, and accuracies, which are discrete, are often equal by chance.
LEAST_SEEDS = 3
LEVEL = 0.05


@dataclass(frozen=True)
class Comparison:
    """A difference between temperatures, with a test that accounts for how it was chosen.

    Attributes:
        higher: the temperature of the higher mean; in a comparison with the rest, the temperature compared with it.
        lower: the temperature of the lower mean; None for the mean of all others.
        difference: difference of the means; at least 0 unless ``lower`` is None.
        interval: 95 % interval of the difference; for the best against the worst, simultaneous over all pairs.
        p: the probability of a difference at least this large by chance.
        temperatures: the number of temperatures compared.
        seeds: the smallest number of seeds of any temperature.
        paired: whether the differences are within seeds.
    """

    higher: float
    lower: float | None
    difference: float
    interval: tuple[float, float]
    p: float
    temperatures: int
    seeds: int
    paired: bool


@dataclass(frozen=True)
class _Contrast:
    """A difference, with its variance estimated from its own groups and from all, each with degrees of freedom."""

    difference: float
    own: tuple[float, int]
    pooled: tuple[float, int]


class Groups:
    """Means over seeds at several temperatures, and their variances.

    Args:
        values: for each temperature, its values keyed by what pairs them (seed and teacher), or their mean, standard
            deviation and number. Temperatures with fewer than :data:`LEAST_SEEDS` values or no standard deviation are
            left out.
    """

    def __init__(self, values: Mapping[float, Mapping[Hashable, float] | Spread]) -> None:
        kept = {T: each for T, each in values.items() if _seeds(each) >= LEAST_SEEDS}
        self.temperatures = sorted(kept)
        every = [kept[T] for T in self.temperatures]
        self.blocks: np.ndarray | None = None  # (seeds, temperatures)
        by_seed = [each for each in every if not isinstance(each, Spread)]
        if every and len(by_seed) == len(every) and all(each.keys() == by_seed[0].keys() for each in by_seed):
            self.blocks = np.array([[each[key] for each in by_seed] for key in by_seed[0]], np.float64)
        spreads = [each if isinstance(each, Spread) else over_seeds(list(each.values())) for each in every]
        self.means = np.array([each.mean for each in spreads])
        self.variances = np.array([each.sd**2 for each in spreads if each.sd is not None])  # never None here
        self.n = np.array([each.n for each in spreads])

    def contrast(self, weights: ArrayLike) -> _Contrast:
        """The weighted sum of the means, for weights that sum to 0."""
        weights = np.asarray(weights, np.float64)
        difference = float(self.means @ weights)
        if self.blocks is not None:
            n, k = self.blocks.shape
            rest = self.blocks - self.blocks.mean(0) - self.blocks.mean(1, keepdims=True) + self.blocks.mean()
            residual = float((rest**2).sum()) / ((n - 1) * (k - 1))
            own = float(np.var(self.blocks @ weights, ddof=1)) / n, n - 1
            return _Contrast(difference, own, (residual * float(weights @ weights) / n, (n - 1) * (k - 1)))
        compared = weights != 0
        own = float((weights**2 * self.variances / self.n).sum()), int(self.n[compared].min()) - 1
        freedom = int(self.n.sum()) - len(self.n)
        variance = float(((self.n - 1) * self.variances).sum()) / freedom
        return _Contrast(difference, own, (variance * float((weights**2 / self.n).sum()), freedom))

    def best_against_worst(self) -> Comparison | None:
        """The highest mean against the lowest; None unless two temperatures have enough seeds."""
        k = len(self.temperatures)
        if k < 2:
            return None
        return self._of_chosen(int(self.means.argmax()), int(self.means.argmin()))

    def one_against_rest(self) -> Comparison | None:
        """T = 1 against the mean of the others; None unless it and two others have enough seeds."""
        k = len(self.temperatures)
        if k < 3 or 1.0 not in self.temperatures:
            return None
        chosen = self.temperatures.index(1.0)
        weights = np.full(k, -1 / (k - 1))
        weights[chosen] = 1
        found = self.contrast(weights)
        error, df = math.sqrt(found.own[0]), found.own[1]
        p = _tail(found.difference, error, 2, df)
        return self._comparison(chosen, None, found.difference, error * largest_difference_quantile(2, df, LEVEL), p)

    def best_against(self, temperature: float = 1.0) -> Comparison | None:
        """The highest mean against that of ``temperature``, or if that is the highest, it against the next highest.

        The test and interval are those of the best against the worst, since the best is chosen by the same values. None
        unless ``temperature`` and another one have enough seeds.
        """
        k = len(self.temperatures)
        if k < 2 or temperature not in self.temperatures:
            return None
        best, second = np.argsort(-self.means, kind="stable")[:2].tolist()
        given = self.temperatures.index(temperature)
        return self._of_chosen(best, second if best == given else given)

    def between(self, higher: float, lower: float) -> Comparison | None:
        """Compare two temperatures that were chosen by their means, with the test of the best against the worst.

        None if one of them has too few seeds.
        """
        if not {higher, lower} <= set(self.temperatures):
            return None
        return self._of_chosen(self.temperatures.index(higher), self.temperatures.index(lower))

    def _of_chosen(self, higher: int, lower: int) -> Comparison:
        """Compare two groups that were chosen among all by their means."""
        weights = np.zeros(len(self.temperatures))
        weights[higher] += 1
        weights[lower] -= 1
        found = self.contrast(weights)
        p, half = self._chosen(found)
        return self._comparison(higher, lower, found.difference, half, p)

    def _chosen(self, found: _Contrast) -> tuple[float, float]:
        """p and the interval's half-width for a difference whose groups were chosen among all by their means."""
        k = len(self.temperatures)
        tests = [(math.sqrt(variance), df) for variance, df in (found.own, found.pooled)]
        p = max(_tail(found.difference, error, k, df) for error, df in tests)
        return p, max(error * largest_difference_quantile(k, df, LEVEL) for error, df in tests)

    def _comparison(self, higher: int, lower: int | None, difference: float, half: float, p: float) -> Comparison:
        """A comparison with an interval of half-width ``half``."""
        interval = difference - half, difference + half
        T = self.temperatures
        other = None if lower is None else T[lower]
        paired = self.blocks is not None
        return Comparison(T[higher], other, difference, interval, p, len(T), int(self.n.min()), paired)


@dataclass(frozen=True)
class Difference:
    """A difference between groups that were chosen in advance, with a t-test.

    Attributes:
        difference: the weighted sum of the means.
        interval: its 95 % interval.
        p: the two-sided probability of a difference at least this large by chance.
        seeds: the smallest number of seeds of any group.
        paired: whether differences within seeds were tested.
    """

    difference: float
    interval: tuple[float, float]
    p: float
    seeds: int
    paired: bool


def planned_difference(groups: Sequence[tuple[float, Mapping[Hashable, float]]]) -> Difference | None:
    """Test a weighted sum of means over seeds, such as ``[(1, at T = 1), (-1, at T = 3)]``; None for too few seeds.

    Args:
        groups: for each of at least two groups, its weight and its values keyed by what pairs them; the weights sum to
            0.

    >>> found = planned_difference([(1, {1: 80.0, 2: 81.0, 3: 82.5}), (-1, {1: 79.0, 2: 79.5, 3: 81.0})])
    >>> round(found.difference, 3), [round(end, 2) for end in found.interval], round(found.p, 4), found.paired
    (1.333, [0.62, 2.05], 0.0153, True)
    """
    found = Groups({float(place): values for place, (_, values) in enumerate(groups)})
    if len(found.temperatures) < len(groups):
        return None
    contrast = found.contrast([weight for weight, _ in groups])
    error, freedom = math.sqrt(contrast.own[0]), contrast.own[1]
    half = error * largest_difference_quantile(2, freedom, LEVEL)
    interval = contrast.difference - half, contrast.difference + half
    p = _tail(contrast.difference, error, 2, freedom)
    return Difference(contrast.difference, interval, p, int(found.n.min()), found.blocks is not None)


def _seeds(values: Mapping[Hashable, float] | Spread) -> int:
    """The number of values; 0 if their standard deviation is not known."""
    if isinstance(values, Spread):
        return values.n if values.sd is not None and values.n else 0
    return len(values)


def mean_test(values: Sequence[float]) -> tuple[tuple[float, float], float] | None:
    """The 95 % interval of a mean over seeds, and its p against a mean of 0 (two-sided t-test); None if too few values.

    >>> interval, p = mean_test([-2.0, -3.0, -2.5])
    >>> [round(end, 2) for end in interval], round(p, 4)
    ([-3.74, -1.26], 0.0131)
    """
    spread = over_seeds(values) if len(values) >= LEAST_SEEDS else None
    if spread is None or spread.sd is None:
        return None
    error = spread.sd / math.sqrt(spread.n)
    half = error * largest_difference_quantile(2, spread.n - 1, LEVEL)
    return (spread.mean - half, spread.mean + half), _tail(spread.mean, error, 2, spread.n - 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for multiple testing by Holm's step-down method, which bounds the chance of any false claim.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def _tail(difference: float, error: float, groups: int, freedom: int) -> float:
    """The p of a difference between two of several means; with two groups, that of the two-sided t-test."""
    if difference == 0:
        return 1.0
    return 0.0 if error == 0 else studentised_range_p(math.sqrt(2) * abs(difference) / error, groups, freedom)
