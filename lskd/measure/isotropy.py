"""Test η against isotropic change: did similar classes come closer than a common scale and constant explain?

Isotropic noise adds one constant to the squared distance between any two centroids, and a contraction scales all
distances, so under *isotropic* change

    D_ij(T2) = a · D_ij(T1) + b        for every two classes i, j, up to chance.

Subtracting a constant (b < 0) takes a larger share of a small distance: similar classes then come closer *relative* to
the others, η(S1) < 0, although nothing moved towards them. More noise, or fewer samples, in the first student has this
effect.

For a target π with similar classes S1 the line is fitted on all pairs of classes of the sets except those within
{π} ∪ S1, and the test is whether the distances from π to S1 lie beyond it:

    u_ij = D_ij(T1) − α − β · D_ij(T2)    least squares with weights 1 / v_ij, v_ij = FLOOR + D_ij(T2) / mean
    t_π  = mean over k in S1 of u_πk / √v_πk,  divided by the root mean square of u / √v on the fitted pairs

t is positive if S1 was farther at T1 than its distance at T2 predicts, that is, if it came closer. The first distances
are regressed on the second, not the other way round: noise in the regressor flattens the line, which in this direction
hides drift and in the other would feign it.

Residuals share classes and directions, so t has no standard distribution. Its null distribution is simulated: in place
of the first student's centroids are the second's, displaced by independent Gaussian noise in all dimensions whose size
gives the residuals observed. (If the noise is in the second student instead, the line is flatter than the simulated
ones, and p is too large rather than too small.) p = (1 + draws with t at least as large) / (1 + draws), for each target
and, with the same draws, for the mean of the targets' t, each divided by its standard deviation over the draws, so that
the dependence of targets that share classes is accounted for. The classes are those of all targets' sets, so a target's
p depends on the other targets.

A uniform contraction of *all* similar pairs of classes is isotropic by this definition and is not detected: one pair of
students cannot tell it from noise that was removed. ``scripts/eta_false_claims.py`` measures how often the test is
wrong, and what it detects.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lskd.io.arrays import class_list
from lskd.measure.class_distances import squared_distances
from lskd.measure.class_sets import ClassSets, members
from lskd.measure.diffusion import relative_changes
from lskd.measure.moments import ClassMoments

DRAWS = 999
FLOOR = 0.3  # of the mean distance: the part of a residual's variance that does not grow with the distance
LEAST_PAIRS = 4  # the fewest pairs of classes on which a line is fitted
BATCH_BYTES = 2**26  # of displaced centroids at a time


@dataclass(frozen=True)
class IsotropyTest:
    """The result of a test against isotropic change.

    Attributes:
        p_values: p of each target; None if too few pairs of classes are left to fit a line, or if the distances of the
            two students are not positively related.
        expected: η(S1) of each target, a fraction, that the fitted scale and constant alone give; the mean over pairs
            of students. None where undefined.
        p_together: p of all targets that have one, together; None if there are none.
    """

    p_values: dict[int, float | None]
    expected: dict[int, float | None]
    p_together: float | None


def isotropy_test(
    pairs: Sequence[tuple[ClassMoments, ClassMoments]],
    sets: Mapping[int, ClassSets],
    draws: int = DRAWS,
    seed: int = 0,
    progress: Callable[[int], object] = lambda draws: None,
) -> IsotropyTest:
    """Test η(S1) of each target, and of all together, against isotropic change; one-sided, for drift towards S1.

    Distances are squared distances of centroids, corrected for sampling noise if every class has at least two samples.
    With several pairs of students, t is the mean over the pairs.

    Args:
        pairs: class moments of students at T1 and at T2, with the same classes.
        sets: S1 and S2 of each target; every class has samples in every student.
        draws: draws of the null distribution, for each pair.
        seed: seed of the draws.
        progress: called with the number of draws just finished.
    """
    classes = class_list("sets", members(sets), min((len(each.counts) for pair in pairs for each in pair), default=0))
    fits = [_Fit(_distances(first, classes), _distances(second, classes), classes, sets) for first, second in pairs]
    known = [bool(fits) and all(fit.defined[place] for fit in fits) for place in range(len(sets))]
    none: dict[int, float | None] = dict.fromkeys(sets)
    if not any(known):
        return IsotropyTest(none, dict(none), None)
    observed = np.mean([fit.statistics(fit.first[None])[0] for fit in fits], 0)
    null = np.zeros((draws, len(sets)))
    for number, (fit, (_, second)) in enumerate(zip(fits, pairs, strict=True)):
        generator = np.random.default_rng([seed, number])
        null += fit.null(second.centroids()[classes], draws, generator, progress) / len(fits)
    tested = np.flatnonzero(known)
    exceeded = (null >= observed - 1e-9).sum(0)
    scale = null[:, tested].std(0)
    scale[scale == 0] = 1
    together = (null[:, tested] / scale).mean(1) >= (observed[tested] / scale).mean() - 1e-9
    found = {target: float((1 + exceeded[place]) / (1 + draws)) for place, target in enumerate(sets) if known[place]}
    expected: dict[int, float | None] = {}
    for place, target in enumerate(sets):
        values = [value for fit in fits if known[place] and (value := fit.expected(place)) is not None]
        expected[target] = float(np.mean(values)) if len(values) == len(fits) else None
    return IsotropyTest(none | found, expected, float((1 + together.sum()) / (1 + draws)))


def _distances(moments: ClassMoments, classes: Sequence[int]) -> np.ndarray:
    """(M, M) squared distances of the classes' centroids."""
    variant = "corrected" if (moments.counts[classes] > 1).all() else "centroid"
    return squared_distances(moments, classes, classes, variant)


class _Fit:
    """The fitted lines of one pair of students: everything that does not depend on the simulated first distances."""

    def __init__(
        self, first: np.ndarray, second: np.ndarray, classes: Sequence[int], sets: Mapping[int, ClassSets]
    ) -> None:
        self.size, self.distances = len(classes), second
        self.upper = np.triu_indices(self.size, 1)
        place = {label: number for number, label in enumerate(classes)}
        pair = np.zeros((self.size, self.size), np.int64)
        pair[self.upper] = np.arange(len(self.upper[0]))
        pair += pair.T
        self.tested: list[np.ndarray] = []  # pairs of each target and its similar classes
        self.within: list[np.ndarray] = []  # pairs within {π} ∪ S1
        self.others: list[np.ndarray] = []  # pairs of each target and its dissimilar classes
        for target, each in sets.items():
            own, similar = place[target], [place[label] for label in each.similar]
            group = np.array([own, *similar])
            self.tested.append(pair[own, similar])
            self.within.append(pair[group[:, None], group][np.triu_indices(len(group), 1)])
            self.others.append(pair[own, [place[label] for label in each.dissimilar]])
        self.unit = second[self.upper].mean()
        if not (self.unit > 0 and first[self.upper].mean() > 0):  # corrected distances that are only noise
            self.defined = np.zeros(len(sets), bool)
            return
        # Centred and in units of their means, so that sums of squares lose no digits.
        self.first = self._scaled(first)
        self.second = second[self.upper] / self.unit - 1
        self.variance = FLOOR + np.maximum(1 + self.second, 0)
        self.weight = 1 / self.variance
        self.powers = [self.weight * self.second**power for power in range(3)]
        self.sums = [power.sum() - self._within(power[None])[0] for power in self.powers]
        self.fitted = np.array([len(self.second) - len(within) for within in self.within])
        self.determinant = self.sums[0] * self.sums[2] - self.sums[1] ** 2
        slope, _, spread = self._line(self.first[None])
        self.line = slope[0], (self._sums(self.first[None])[0][0] - slope[0] * self.sums[1]) / self.sums[0]
        valid = (self.fitted >= LEAST_PAIRS) & (slope[0] > 0)
        self.defined = valid & np.isfinite(spread[0])

    def statistics(self, first: np.ndarray) -> np.ndarray:
        """(B, targets) t of first distances (B, pairs); 0 where the tested pairs are on the line."""
        slope, level, spread = self._line(first)
        t = np.zeros_like(slope)
        for number, tested in enumerate(self.tested):
            residual = first[:, tested] - level[:, number, None] - slope[:, number, None] * self.second[tested]
            above = (residual / np.sqrt(self.variance[tested])).mean(1)
            exact = np.abs(above) <= 1e-9
            t[:, number] = np.where(exact, 0, above / np.maximum(spread[:, number], 1e-9))
        return t

    def expected(self, place: int) -> float | None:
        """η(S1) of a target if the second distances were exactly on the line; None if it is not defined for these."""
        slope, level = (each[place] for each in self.line)
        both = np.concatenate([self.tested[place], self.others[place]])
        second = (self.first[both] - level) / slope + 1
        first = self.first[both] + 1
        if (second < 0).any() or not second.any() or (first <= 0).any():
            return None
        return float(relative_changes(first, second)[: len(self.tested[place])].mean())

    def null(
        self, centroids: np.ndarray, draws: int, generator: np.random.Generator, progress: Callable[[int], object]
    ) -> np.ndarray:
        """(draws, targets) t for simulated first students: the second student with isotropic noise."""
        dimension = centroids.shape[1]
        left, sizes, _ = np.linalg.svd(centroids - centroids.mean(0), full_matrices=False)
        places = left * sizes
        noise = ((places[:, None] - places) ** 2).sum(-1) - self.distances  # sampling noise, which corrected ones lack
        deviation = self._noise(dimension)
        batch = max(1, BATCH_BYTES // (8 * self.size * max(dimension, self.size)))
        found = []
        for start in range(0, draws, batch):
            number = min(batch, draws - start)
            moved = deviation * generator.standard_normal((number, self.size, dimension))
            moved[..., : places.shape[1]] += places
            norms = (moved**2).sum(-1)
            distances = norms[:, :, None] + norms[:, None, :] - 2 * moved @ moved.transpose(0, 2, 1) - noise
            found.append(self.statistics(self._scaled(distances)))
            progress(number)
        return np.concatenate(found)

    def _noise(self, dimension: int) -> float:
        """The standard deviation τ per dimension of displacements that give residuals as large as those observed.

        The variance of a squared distance D is 8·τ²·D + 8·d·τ⁴; both sides are averaged with the weights of the fit.
        """
        slope, level, _ = self._line(self.first[None])
        place = int(np.argmax(self.defined))
        residual = (self.first - level[0, place]) / slope[0, place] - self.second
        keep = np.ones(len(residual), bool)
        keep[self.within[place]] = False
        seen = float((self.weight * residual**2)[keep].mean()) * self.unit**2
        linear = 8 * float((self.weight * np.maximum(1 + self.second, 0))[keep].mean()) * self.unit
        squared = 8 * dimension * float(self.weight[keep].mean())
        return math.sqrt(2 * seen / (linear + math.sqrt(linear**2 + 4 * squared * seen)))

    def _scaled(self, distances: np.ndarray) -> np.ndarray:
        """(…, pairs) distances divided by their mean, less 1."""
        flat = distances[..., self.upper[0], self.upper[1]]
        return flat / flat.mean(-1, keepdims=True) - 1

    def _line(self, first: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(B, targets) slope, level and root mean square residual of each target's line."""
        y, xy, yy = self._sums(first)
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = (self.sums[0] * xy - self.sums[1] * y) / self.determinant
            level = (y - slope * self.sums[1]) / self.sums[0]
            squares = np.maximum(yy - level * y - slope * xy, 0)
            return slope, level, np.sqrt(squares / (self.fitted - 2))

    def _sums(self, first: np.ndarray) -> list[np.ndarray]:
        """(B, targets) weighted sums of y, xy and y² over the pairs on which each target's line is fitted."""
        weighted = (first * self.powers[0], first * self.powers[1], first**2 * self.powers[0])
        return [values.sum(-1, keepdims=True) - self._within(values) for values in weighted]

    def _within(self, values: np.ndarray) -> np.ndarray:
        """(B, targets) sums of values (B, pairs) over the pairs within each target's {π} ∪ S1."""
        return np.stack([values[:, within].sum(-1) for within in self.within], -1)
