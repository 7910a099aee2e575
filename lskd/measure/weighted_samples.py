"""Weighted samples: a subset of a split that represents all of it, and bootstrap resamples."""

from collections.abc import Sequence

import numpy as np

from lskd.io.arrays import as_array, described, numbers


def validate_weights(weights: np.ndarray | Sequence[float] | None, samples: int) -> np.ndarray:
    """Validate weights and return them as (N,) float64 divided by the largest, as only ratios matter; ones when None.

    Raises:
        ValueError: not one for each sample, a negative weight, or all 0.
    """
    if weights is None:
        weights = np.ones(samples)
    found = numbers("weights", weights, samples)
    if (found < 0).any() or not found.any():
        raise ValueError(f"weights: {found.min(initial=0):g} (must be 0 or more, and not all 0)")
    return found / found.max()


def sample_weights(labels: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Weights with which the kept samples of each class represent all its samples: number of samples / number kept.

    If a fixed number was kept per class, the kept samples are nearly balanced over classes even if the split is not;
    weighted means estimate the means over all samples of these classes. All weights are 1 if every sample was kept.

    Args:
        labels: (N,) int64 labels of the samples that were kept.
        counts: (K,) int64, the number of samples of each class, kept or not.

    Returns:
        (N,) float64, 1 or more.

    Example:
        >>> sample_weights(np.array([0, 1, 1]), np.array([4, 2])).tolist()
        [4.0, 1.0, 1.0]
    """
    kept = np.bincount(labels, minlength=len(counts))
    return (counts / np.maximum(kept, 1))[labels]


def validate_samples(
    scores: np.ndarray | Sequence[float],
    correct: np.ndarray | Sequence[bool],
    weights: np.ndarray | Sequence[float] | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Validate confidence, correctness and weights of N samples, and return them as arrays.

    Raises:
        ValueError: no samples, arrays of different lengths or types, or numbers that are not finite.
    """
    scores, correct = numbers("confidence", scores, None), as_array("correct", correct)
    if not len(scores):
        raise ValueError("confidence: no samples (must be at least one)")
    if correct.shape != scores.shape or correct.dtype != bool:
        raise ValueError(f"correct: {described(correct)} (must be bool, of shape {scores.shape})")
    return scores, correct, validate_weights(weights, len(scores))


def tie_groups(scores: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The distinct scores, increasing; (N,) the position of each sample's score in these; the weight of each score."""
    different, tied = np.unique(scores, return_inverse=True)
    return different, tied, np.bincount(tied, weights, len(different))
