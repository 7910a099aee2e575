"""Estimate from a teacher's outputs whether it was trained with label smoothing, and with which α."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from lskd.measure.logit_blocks import Logits, blocks

REVISION = 2  # of the decision rule; estimates of earlier revisions are not used
CLASSES, SAMPLES = 5, 100  # the fewest for an estimate
# Chosen on the tuning half of scripts/smoothing_study.py; see estimate_label_smoothing.
WEAKEST = 0.01  # an α below this cannot be distinguished from 0
ABSENT = 0.0005  # the outputs of a teacher without smoothing suggest an α below this; a twentieth of WEAKEST
FAINT, STRONG = 0.01, 0.5  # the least floor and the largest ceiling that a small weight norm does not explain
IRREGULAR = 0.22  # label smoothing gives an OutputShape.irregularity below this
BELOW, ABOVE = 0.65, 1.35  # the interval's ends, relative to α of the confident half and of all samples


@dataclass(frozen=True)
class SmoothingEstimate:
    """An estimate, from a teacher's outputs, of the label smoothing it was trained with.

    Attributes:
        alpha: the paper's α; 0.0 if it was not smoothed, None if the outputs are inconclusive.
        low: lower end of the interval of α; None if they are inconclusive.
        high: upper end of the interval of α; likewise.
        verdict: "smoothed", "not smoothed" or "cannot tell".
        reason: the measurements on which it is based, in one line.
        revision: revision of the decision rule; None in files from before the second revision.
    """

    alpha: float | None
    low: float | None
    high: float | None
    verdict: str
    reason: str
    revision: int | None = REVISION


@dataclass(frozen=True)
class OutputShape:
    """The properties of outputs that label smoothing affects, on the more confident half of the samples unless noted.

    Attributes:
        samples: N, of both halves.
        classes: K.
        alpha: √(floor · ceiling), the α that these suggest.
        alpha_of_all: the same for all samples.
        floor: K times the median probability of the wrong classes (median over samples).
        ceiling: K/(K-1) times the median of 1 - p(top).
        variation: coefficient of variation, over samples, of the log-odds of the top class if all other classes had
            their median probability. It hardly depends on the scale of the logits.
    """

    samples: int
    classes: int
    alpha: float
    alpha_of_all: float
    floor: float
    ceiling: float
    variation: float

    @property
    def unevenness(self) -> float:
        """ln(ceiling ÷ floor): 0 if all wrong classes are equally probable, σ²/2 if log-normally distributed."""
        return math.log(self.ceiling / self.floor) if self.floor else math.inf

    @property
    def irregularity(self) -> float:
        """How far the log-odds are from being the same for all samples and all wrong classes; 0 if they are."""
        return self.variation + self.unevenness / 4


def estimate_label_smoothing(logits: Logits) -> SmoothingEstimate:
    """Estimate whether a teacher was trained with label smoothing, and with which α, from its outputs alone.

    A model that has learned labels smoothed by α gives α/K to every wrong class of a sample that it is sure of, and
    1 - α + α/K to the top class, whatever the sample and the class. So the verdict is

    - not smoothed, if wrong classes have far less probability than any α of at least :data:`WEAKEST` would give them;
    - smoothed, if the log-odds of the top class are nearly the same for all samples and against every wrong class
      (:attr:`OutputShape.irregularity`). Weight decay, mixup, focal loss, small models and short training also keep
      probabilities away from 0, but not all of them at one value. The spread of the logits lowers the floor, low
      confidence raises 1 - p(top), and α is between them: the estimate is too small on the confident half and too large
      on all samples, and the interval extends from the one to the other;
    - cannot tell otherwise.

    The bounds were chosen on half of the models of known α of ``scripts/smoothing_study.py``; ``docs/reproduction.md``
    has the results on the other half.

    Outputs do not show where the smoothing comes from: a student of a smoothed teacher, at T = 1, has its teacher's α,
    and labels of which a share α is replaced at random are smoothed on average.

    Args:
        logits: (N, K) at T = 1, for inputs like those of training; a few hundred are enough, without labels.

    Raises:
        ValueError: a wrong shape, or a logit that is not finite.

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
    measured = (
        f"in the more confident half of {shape.samples} samples, K × the median p(wrong) is {shape.floor:.2g}, "
        f"1 - p(top) {shape.ceiling:.2g}, their irregularity {shape.irregularity:.2f}"
    )
    if shape.alpha < ABSENT:
        return SmoothingEstimate(0.0, 0.0, WEAKEST, "not smoothed", measured)
    if shape.floor < FAINT:
        return _cannot_tell(f"{measured}: the first is below {FAINT}")
    if shape.ceiling > STRONG:
        return _cannot_tell(f"{measured}: the second is above {STRONG}, too unsure for any α")
    if shape.irregularity > IRREGULAR:
        return _cannot_tell(f"{measured}, above {IRREGULAR}: weight decay, mixup or a short training do that too")
    low, high = BELOW * shape.alpha, min(ABOVE * shape.alpha_of_all, 1.0)
    return SmoothingEstimate(math.sqrt(shape.alpha * shape.alpha_of_all), low, high, "smoothed", measured)


def output_shape(logits: Logits) -> OutputShape:
    """Measure the properties of outputs on which :func:`estimate_label_smoothing` is based.

    Args:
        logits: (N, K), or chunks of them.

    Returns:
        The properties; NaN, and K = 0, without samples.

    Raises:
        ValueError: as for :func:`estimate_label_smoothing`.
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
        return OutputShape(len(top), classes, *[math.nan] * 5)
    confident = top >= np.median(top)
    odds = (top - wrong)[confident] - math.log(classes - 1)
    (floor, ceiling), (floor_of_all, ceiling_of_all) = (
        (
            classes * math.exp(np.median(wrong[which])),
            classes / (classes - 1) * math.exp(np.median(rest[which])),
        )
        for which in (confident, slice(None))
    )
    return OutputShape(
        samples=len(top),
        classes=classes,
        alpha=math.sqrt(floor * ceiling),
        alpha_of_all=math.sqrt(floor_of_all * ceiling_of_all),
        floor=floor,
        ceiling=ceiling,
        variation=float(odds.std() / odds.mean()) if odds.mean() > 0 else math.inf,
    )


def most_smoothed(estimates: Iterable[SmoothingEstimate]) -> SmoothingEstimate:
    """The estimate for several teachers together: the smoothed one with the largest α, else an inconclusive one if any.

    >>> plain, unknown = SmoothingEstimate(0.0, 0.0, 0.01, "not smoothed", ""), _cannot_tell("few samples")
    >>> most_smoothed([plain, unknown]).verdict
    'cannot tell'
    """
    order = ("not smoothed", "cannot tell", "smoothed")
    return max(estimates, key=lambda each: (order.index(each.verdict), each.alpha or 0))


def _cannot_tell(reason: str) -> SmoothingEstimate:
    """An inconclusive estimate."""
    return SmoothingEstimate(None, None, None, "cannot tell", reason)
