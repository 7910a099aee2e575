"""Was this teacher trained with label smoothing, and with which α? An answer from its outputs alone."""

import math
from dataclasses import dataclass

import numpy as np

from lskd.smoothness import Logits, blocks

# Where these come from: estimate_label_smoothing.
CLASSES, SAMPLES = 5, 100  # of fewer, nothing is told
CONFIDENT, SHARE = 0.7, 0.2  # at least this share of the samples must have a class of this probability
WEAKEST = 0.02  # α below this is not told from none
TIGHT, RELATIVE = 1.75, 0.65  # a floor's spread in nats, at most; also in parts of its distance to 1, -ln(K × floor)
DROP = 1.3  # nats that the floor may be lower among the confident samples
MARGIN = 0.45  # of ln α


@dataclass(frozen=True)
class SmoothingEstimate:
    """What a teacher's outputs tell of the label smoothing that it was trained with.

    Attributes:
        alpha: the paper's α; 0.0 where it was not smoothed, None where the outputs do not tell.
        low: α is at least this; None where they do not tell.
        high: α is at most this; likewise.
        verdict: "smoothed", "not smoothed" or "cannot tell".
        reason: the figures that it rests on, in one line.
    """

    alpha: float | None
    low: float | None
    high: float | None
    verdict: str
    reason: str


def estimate_label_smoothing(logits: Logits) -> SmoothingEstimate:
    """Whether a teacher was trained with label smoothing, and with which α, from its outputs alone.

    Smoothing puts a floor of α/K under every class. The improbable half of a sample's classes lie on it: K times the
    largest of their probabilities (the median of the wrong classes) is about α in sample after sample, and their spread
    is small; without smoothing they reach over orders of magnitude. Over a large vocabulary, probabilities scatter
    around the floor, which is then their mean and not their median: by σ²/2 in logarithms, if they were log-normal. α
    is taken half way between the two readings, and the interval holds both, a margin, and two standard errors.

    A teacher that has not learned much has a floor too, but a loose one, which is lower the more confident it is: both
    are checked, and some confident samples are asked for. The bounds are those that separated teachers of known α
    (ResNets and perceptrons on images, Transformers on sentences); the margin is what these were off by, so that the
    interval is no confidence interval. The outputs do not tell a student of a smoothed teacher from such a teacher, nor
    label smoothing from other causes of a floor, such as mixup.

    Args:
        logits: (N, K) at T = 1, of inputs like those it was trained for; a few hundred are enough. No labels.

    Raises:
        ValueError: not of this shape, or a logit that is not finite.

    Example:
        >>> floor = np.full((200, 10), 0.01)  # α = .1: .01 for each wrong class, .91 for the right one
        >>> floor[:, 0] = 0.91
        >>> estimate = estimate_label_smoothing(np.log(floor))
        >>> estimate.verdict, round(estimate.alpha, 3)
        ('smoothed', 0.1)
    """
    floors, scatters, tops, sums = [], [], [], np.zeros(2)
    classes = half = 0
    for block in blocks(logits):
        classes = block.shape[1]
        if classes < CLASSES:
            return _cannot_tell(f"{classes} classes, at least {CLASSES} are needed")
        half = classes // 2
        block = block - block.max(1, keepdims=True)
        log_total = np.log(np.exp(block).sum(1, keepdims=True))
        improbable = np.partition(block, half - 1, axis=1)[:, :half] - log_total
        floors.append(improbable[:, -1])
        scatters.append(improbable.std(1))
        tops.append(np.exp(-log_total[:, 0]))
        sums += improbable.sum(), np.einsum("nk,nk->", improbable, improbable)
    samples = sum(map(len, floors))
    if samples < SAMPLES:
        return _cannot_tell(f"{samples} samples, at least {SAMPLES} are needed")
    floor, scatter = np.concatenate(floors), float(np.median(np.concatenate(scatters)))
    confident = np.concatenate(tops) >= CONFIDENT
    spread = math.sqrt(max(0, sums[1] / (samples * half) - (sums[0] / (samples * half)) ** 2))
    median = classes * math.exp(float(np.median(floor)))
    figures = f"K × the median probability of wrong classes is {median:.2g}, with a spread of {spread:.2f} nats"
    if confident.mean() < SHARE:
        return _cannot_tell(
            f"only {confident.mean():.0%} of the samples have a class of at least {CONFIDENT:.0%} (must be {SHARE:.0%})"
        )
    # 1.66 makes the standard deviation of a normal distribution's lower half that of the whole.
    # No model comes near the limits, under which the exponentials stay numbers.
    mean_above_median = min((1.66 * scatter) ** 2 / 2, 300)
    error = min(MARGIN + 2 * 1.25 * float(floor.std()) / math.sqrt(samples), 300)
    alpha, low = median * math.exp(mean_above_median / 2), median * math.exp(-error)
    high = median * math.exp(mean_above_median + error)
    if high < WEAKEST or (spread > TIGHT and median < WEAKEST):
        return SmoothingEstimate(0.0, 0.0, WEAKEST, "not smoothed", figures)
    drop = float(np.median(floor) - np.median(floor[confident]))
    if median < WEAKEST or spread > min(TIGHT, RELATIVE * -math.log(median)) or drop > DROP:
        return _cannot_tell(figures + ", which teachers of both kinds have")
    return SmoothingEstimate(min(alpha, 1.0), low, min(high, 1.0), "smoothed", figures)


def _cannot_tell(reason: str) -> SmoothingEstimate:
    return SmoothingEstimate(None, None, None, "cannot tell", reason)
