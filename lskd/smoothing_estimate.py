"""Was this teacher trained with label smoothing, and with which α? An answer from its outputs alone."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from lskd.smoothness import Logits, blocks

REVISION = 2  # of the rule; what an earlier one said is not relied upon
CLASSES, SAMPLES = 5, 100  # of fewer, nothing is told
# Chosen on the tuning half of scripts/smoothing_study.py; see estimate_label_smoothing.
UNCONSTRAINED = 0.004  # a smaller 1 - p(top) than any smoothing leaves, α = .01 included
WEAKEST = 0.01  # the α below which a teacher without smoothing is said to be
FAINT, STRONG = 0.02, 0.5  # floor and ceiling of α between which smoothing is looked for
IRREGULAR = 0.11  # the variation of the logit gap, and a tenth of the unevenness of classes, that smoothing leaves
BELOW, ABOVE = 0.8, 1.25  # how far α was from the floor and from the ceiling


@dataclass(frozen=True)
class SmoothingEstimate:
    """What a teacher's outputs tell of the label smoothing that it was trained with.

    Attributes:
        alpha: the paper's α; 0.0 where it was not smoothed, None where the outputs do not tell.
        low: α is at least this; None where they do not tell.
        high: α is at most this; likewise.
        verdict: "smoothed", "not smoothed" or "cannot tell".
        reason: the figures that it rests on, in one line.
        revision: of the rule that said so; None in files from before there was a second one.
    """

    alpha: float | None
    low: float | None
    high: float | None
    verdict: str
    reason: str
    revision: int | None = REVISION


@dataclass(frozen=True)
class OutputShape:
    """The four figures of a model's outputs that label smoothing leaves its mark on, over the more confident half.

    Attributes:
        samples: N, of both halves.
        classes: K.
        floor: K times the median probability of the wrong classes (median over samples).
        ceiling: K/(K-1) times the median of 1 - p(top).
        variation: standard deviation ÷ mean, over samples, of the logit gap between the top class and the median of
            the others. It does not depend on the scale of the logits.
    """

    samples: int
    classes: int
    floor: float
    ceiling: float
    variation: float

    @property
    def unevenness(self) -> float:
        """ln(ceiling ÷ floor): 0 where all wrong classes are equally probable, σ²/2 where they are log-normal."""
        return math.log(self.ceiling / self.floor) if self.floor else math.inf

    @property
    def irregularity(self) -> float:
        """How far the outputs are from one gap for all samples and all wrong classes, which is 0."""
        return self.variation + self.unevenness / 10


def estimate_label_smoothing(logits: Logits) -> SmoothingEstimate:
    """Whether a teacher was trained with label smoothing, and with which α, from its outputs alone.

    A model that has learned labels smoothed by α gives α/K to every wrong class of a sample it is sure of, and 1 - α +
    α/K to the top one, whatever the sample and the class: confidence has a ceiling, wrong classes have a floor, and both
    are the same α. So:

    - not smoothed, where the confident half of the samples is surer than any smoothing of at least :data:`WEAKEST` allows;
    - smoothed, where the logit gap between the top class and the others is much the same from sample to sample and from
      class to class (:attr:`OutputShape.irregularity`). Weight decay, mixup, focal loss, small models and short
      trainings also keep probabilities from 0, but not all of them at one value. α lies between floor and ceiling,
      which learning reaches from below and from above;
    - cannot tell, otherwise.

    The bounds were chosen on half of the models of known α of ``scripts/smoothing_study.py``; ``docs/reproduction.md``
    has what came of the other half.

    Outputs do not tell how the smoothing came about. A student of a smoothed teacher, at T = 1, has its teacher's α. And
    labels of which a share α was replaced at random are smoothed labels, on average.

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
    shape = output_shape(logits)
    if shape.classes < CLASSES and shape.samples:
        return _cannot_tell(f"{shape.classes} classes, at least {CLASSES} are needed")
    if shape.samples < SAMPLES:
        return _cannot_tell(f"{shape.samples} samples, at least {SAMPLES} are needed")
    floor, ceiling, irregularity = shape.floor, shape.ceiling, shape.irregularity
    confidence = f"in the more confident half of {shape.samples} samples, 1 - p(top) is {ceiling:.2g}"
    gap = f"with a floor of {floor:.2g}, and the logit gap has an irregularity of {irregularity:.2f}"
    figures = f"{confidence} {gap}"
    if ceiling < UNCONSTRAINED:
        return SmoothingEstimate(0.0, 0.0, WEAKEST, "not smoothed", f"{confidence}, less than smoothing leaves")
    if not FAINT <= floor <= ceiling * 1.001 or ceiling > STRONG or irregularity > IRREGULAR:
        return _cannot_tell(f"{figures}; {IRREGULAR} and a floor of {FAINT} to a 1 - p(top) of {STRONG}")
    low, high = BELOW * floor, min(ABOVE * ceiling, 1.0)
    return SmoothingEstimate(math.sqrt(floor * ceiling), low, high, "smoothed", figures)


def output_shape(logits: Logits) -> OutputShape:
    """Measure what :func:`estimate_label_smoothing` decides on.

    Args:
        logits: (N, K), or chunks of them.

    Returns:
        The figures; NaN, and K = 0, without samples.

    Raises:
        ValueError: as there.
    """
    tops, rests, wrongs = [np.empty(0)], [np.empty(0)], [np.empty(0)]
    classes = 0
    for block in blocks(logits):
        classes = block.shape[1]
        ordered = np.sort(block, axis=1)
        ordered -= ordered[:, -1:]
        others = np.exp(ordered[:, :-1]).sum(1)
        total = np.log1p(others)
        tops.append(-total)
        rests.append(np.log(np.maximum(others, 1e-300)) - total)
        wrongs.append(np.median(ordered[:, :-1], axis=1) - total if classes > 1 else -total)
    top, rest, wrong = map(np.concatenate, (tops, rests, wrongs))
    if not len(top) or classes < 2:
        return OutputShape(len(top), classes, math.nan, math.nan, math.nan)
    confident = top >= np.median(top)
    gap = (top - wrong)[confident]
    return OutputShape(
        samples=len(top),
        classes=classes,
        floor=classes * math.exp(np.median(wrong[confident])),
        ceiling=classes / (classes - 1) * math.exp(np.median(rest[confident])),
        variation=float(gap.std() / gap.mean()) if gap.mean() > 0 else math.inf,
    )


def most_smoothed(estimates: Iterable[SmoothingEstimate]) -> SmoothingEstimate:
    """What to say of several teachers together: the one with the largest α, or else one that may have been smoothed.

    >>> plain, unknown = SmoothingEstimate(0.0, 0.0, 0.01, "not smoothed", ""), _cannot_tell("few samples")
    >>> most_smoothed([plain, unknown]).verdict
    'cannot tell'
    """
    order = ("not smoothed", "cannot tell", "smoothed")
    return max(estimates, key=lambda each: (order.index(each.verdict), each.alpha or 0))


def _cannot_tell(reason: str) -> SmoothingEstimate:
    return SmoothingEstimate(None, None, None, "cannot tell", reason)
