"""Bootstrap the samples of each class, for intervals of η over samples."""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from lskd.measure.class_distances import pairwise_distances, variance_share
from lskd.measure.representations import Representations

CACHE_BYTES = 2**28  # of resampled centroids, cached for classes that several targets share


class Resampling:
    """Bootstrap resamples of a student's samples within each class; each class has its own random generator.

    Args:
        student: representations with the features of at least two samples of each class in use.
        resamples: the number of draws.
        seed: whole numbers, 0 or above.
    """

    def __init__(self, student: Representations, resamples: int, seed: Sequence[int]) -> None:
        self.student, self.resamples, self.seed = student, resamples, seed
        self.within_class_variance, self.centroids = (
            student.moments.within_class_variance(),
            student.moments.centroids(),
        )
        kept = np.bincount(student.labels, minlength=len(self.within_class_variance))
        with np.errstate(divide="ignore", invalid="ignore"):
            self.bias = (
                self.within_class_variance / student.moments.counts
            ) ** 2 / kept  # by which tr(S²) is overestimated
        classes = CACHE_BYTES // (8 * resamples * student.moments.dimension)
        self.shifts = lru_cache(max(1, classes))(self._shifts)

    def distances(self, target: int, classes: Sequence[int], variant: str) -> np.ndarray:
        """(resamples, C) distances of a target to classes in each draw, none below 0."""
        if variant == "pairwise":
            return pairwise_distances(self.student, target, classes, self.kept_weights)
        counts = self.student.moments.counts
        share = variance_share(variant, counts) - 1 / np.maximum(counts, 1)  # less the tr(Σ)/n that resampling adds
        shift, within_class_variance = self.shifts(target)
        columns = []
        for label in classes:
            other_shift, other_variance = self.shifts(label)
            between, moved = self.centroids[target] - self.centroids[label], shift - other_shift
            linear, squared = 2 * moved @ between, (moved**2).sum(1)
            # Noise makes the estimated difference of centroids longer than the true one, so the variance of the linear
            # part, 4·ΔᵀSΔ with S the covariance of the shift, is too large by 4·tr(S²). The variance of the squared
            # part is 2·tr(S²), and larger if S is estimated from few samples, which is not removed.
            excess = 2 * (squared.var() - 2 * (self.bias[target] + self.bias[label])) / (linear.var() or 1)
            distances = between @ between + math.sqrt(np.clip(1 - excess, 0, 1)) * linear + squared
            columns.append(distances + share[target] * within_class_variance + share[label] * other_variance)
        return np.maximum(np.stack(columns, 1), 0)

    def kept_weights(self, label: int) -> np.ndarray:
        """(resamples, n) weights of the n kept samples of a class, from n draws with replacement."""
        return self._weights(label, kept := int((self.student.labels == label).sum()), kept)

    def _weights(self, label: int, kept: int, draws: int) -> np.ndarray:
        """(resamples, kept) each sample's share of the draws."""
        generator = np.random.default_rng([*self.seed, label])
        return generator.multinomial(draws, np.full(kept, 1 / kept), size=self.resamples) / draws

    def _shifts(self, label: int) -> tuple[np.ndarray, np.ndarray]:
        """(resamples, d) shifts of the resampled centroid from the class's own, (resamples,) within-class variances.

        The samples are first scaled to the class's within-class variance.
        """
        samples, count = self.student.of_class(label).astype(np.float64), int(self.student.moments.counts[label])
        samples -= samples.mean(0)
        norms = (samples**2).sum(1)
        if spread := norms.mean():
            samples *= math.sqrt(self.within_class_variance[label] / spread)
            norms *= self.within_class_variance[label] / spread
        weights = self._weights(label, len(samples), count)
        shift = weights @ samples
        within_class_variance = (weights @ norms - (shift**2).sum(1)) * count / (count - 1)
        return shift, within_class_variance
