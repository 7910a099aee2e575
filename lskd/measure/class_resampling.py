"""Resample the samples of each class, for intervals of η over samples."""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from lskd.measure.class_distances import pairwise_distances, scatter_share
from lskd.measure.representations import Representations

CACHE_BYTES = 2**28  # of resampled centroids, for classes that several targets share


class Resampling:
    """A student's samples, drawn anew within each class; the draws of a class come from a seed of its own.

    Args:
        student: with the features of at least two samples of each class that is asked for.
        resamples: how many draws.
        seed: whole numbers, 0 or above.
    """

    def __init__(self, student: Representations, resamples: int, seed: Sequence[int]):
        self.student, self.resamples, self.seed = student, resamples, seed
        self.scatter, self.centroids = student.moments.scatter(), student.moments.centroids()
        kept = np.bincount(student.labels, minlength=len(self.scatter))
        with np.errstate(divide="ignore", invalid="ignore"):
            self.unsure = (self.scatter / student.moments.counts) ** 2 / kept  # by which tr(S²) is overestimated
        room = CACHE_BYTES // (8 * resamples * student.moments.dimension)
        self.shifts = lru_cache(max(1, room))(self._shifts)

    def distances(self, target: int, classes: Sequence[int], variant: str) -> np.ndarray:
        """(resamples, C) distances of a target to classes in each draw, none below 0."""
        if variant == "pairwise":
            return pairwise_distances(self.student, target, classes, self.kept_weights)
        counts = self.student.moments.counts
        share = scatter_share(variant, counts) - 1 / np.maximum(counts, 1)  # what resampling adds is taken off
        shift, scatter = self.shifts(target)
        columns = []
        for label in classes:
            other_shift, other_scatter = self.shifts(label)
            between, moved = self.centroids[target] - self.centroids[label], shift - other_shift
            linear, squared = 2 * moved @ between, (moved**2).sum(1)
            # The estimated difference is longer than the true one, by noise, and would make the linear part vary too
            # much: by 4·tr(S²) of 4·ΔᵀSΔ, S the covariance of the shift. The squared part varies by 2·tr(S²), and by
            # more where S is known from few samples: that is not taken off.
            excess = 2 * (squared.var() - 2 * (self.unsure[target] + self.unsure[label])) / (linear.var() or 1)
            distances = between @ between + math.sqrt(np.clip(1 - excess, 0, 1)) * linear + squared
            columns.append(distances + share[target] * scatter + share[label] * other_scatter)
        return np.maximum(np.stack(columns, 1), 0)

    def kept_weights(self, label: int) -> np.ndarray:
        """(resamples, n) weights of the n samples of a class that were kept, drawn n times."""
        return self._weights(label, kept := int((self.student.labels == label).sum()), kept)

    def _weights(self, label: int, kept: int, draws: int) -> np.ndarray:
        generator = np.random.default_rng([*self.seed, label])
        return generator.multinomial(draws, np.full(kept, 1 / kept), size=self.resamples) / draws

    def _shifts(self, label: int) -> tuple[np.ndarray, np.ndarray]:
        """(resamples, d) by which the resampled centroid is off the class's own, and (resamples,) scatters."""
        samples, count = self.student.of_class(label).astype(np.float64), int(self.student.moments.counts[label])
        samples -= samples.mean(0)
        norms = (samples**2).sum(1)
        if spread := norms.mean():
            samples *= math.sqrt(self.scatter[label] / spread)
            norms *= self.scatter[label] / spread
        weights = self._weights(label, len(samples), count)
        shift = weights @ samples
        scatter = (weights @ norms - (shift**2).sum(1)) * count / (count - 1)
        return shift, scatter
