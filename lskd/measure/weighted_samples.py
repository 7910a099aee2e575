"""Samples with weights: some of a split that stand for all of it, and resamples of them."""

from collections.abc import Sequence

import numpy as np

from lskd.io.arrays import as_array, described, numbers


def checked_weights(weights: np.ndarray | Sequence[float] | None, samples: int) -> np.ndarray:
    """``weights`` as (N,) float64, divided by the largest, as only their ratios count; ones when None.

    Raises:
        ValueError: not one of each sample, negative, or all 0.
    """
    if weights is None:
        weights = np.ones(samples)
    found = numbers("weights", weights, samples)
    if (found < 0).any() or not found.any():
        raise ValueError(f"weights: {found.min(initial=0):g} (must be 0 or more, and not all 0)")
    return found / found.max()


def sample_weights(labels: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Weights with which some samples of each class stand for all of them: n of the class / kept ones of the class.

    Samples that were kept per class are nearly balanced over classes where the split need not be; weighted, their means
    estimate those of all samples of their classes. They are all 1 where every sample was kept.

    Args:
        labels: (N,) int64 of the samples that were kept.
        counts: (K,) int64, all samples of each class.

    Returns:
        (N,) float64, 1 or more.

    Example:
        >>> sample_weights(np.array([0, 1, 1]), np.array([4, 2])).tolist()
        [4.0, 1.0, 1.0]
    """
    kept = np.bincount(labels, minlength=len(counts))
    return (counts / np.maximum(kept, 1))[labels]


def checked_samples(
    scores: np.ndarray | Sequence[float],
    correct: np.ndarray | Sequence[bool],
    weights: np.ndarray | Sequence[float] | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Confidence, correctness and weights of N samples as arrays.

    Raises:
        ValueError: no samples, arrays of different lengths or types, or numbers that are not finite.
    """
    scores, correct = numbers("confidence", scores, None), as_array("correct", correct)
    if not len(scores):
        raise ValueError("confidence: no samples (must be at least one)")
    if correct.shape != scores.shape or correct.dtype != bool:
        raise ValueError(f"correct: {described(correct)} (must be bool, of shape {scores.shape})")
    return scores, correct, checked_weights(weights, len(scores))


def tie_groups(scores: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The different scores, increasing; (N,) the place of each sample's; and the weight of each."""
    different, tied = np.unique(scores, return_inverse=True)
    return different, tied, np.bincount(tied, weights, len(different))
