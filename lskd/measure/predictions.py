"""Per-sample properties of a model's predictions: correctness, confidence, likelihood.

Logits are (N, K) arrays, or iterables of such chunks, and are processed in blocks of rows in float64.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lskd.io.arrays import as_array, described, validate_labels
from lskd.measure.logit_blocks import Logits, blocks, validate_temperature


@dataclass(frozen=True)
class Predictions:
    """The predictions for N samples; at T = 1 unless noted.

    Attributes:
        correct: (N,) bool, whether the predicted class (of equal largest logits, the first) is the label.
        doubt: (N,) float64, 1 - p(predicted), 0 to 1 - 1/K; computed so that small values keep their digits.
        nll: (N,) float64, -ln p(label) in nats, 0 or more.
        non_target: (M, N) float64, the total probability of all classes except the label at M temperatures, 0 to 1:
            what a teacher tells a student about other classes. Small values keep their digits.

    Example:
        >>> found = Predictions.of(np.array([[0.0, 0.0], [np.log(3), 0.0]]), [1, 0], [1.0, 2.0])
        >>> found.correct.tolist(), found.confidence.round(3).tolist(), found.nll.round(3).tolist()
        ([False, True], [0.5, 0.75], [0.693, 0.288])
        >>> found.non_target.round(3).tolist()
        [[0.5, 0.25], [0.5, 0.366]]
    """

    correct: np.ndarray
    doubt: np.ndarray
    nll: np.ndarray
    non_target: np.ndarray

    @property
    def confidence(self) -> np.ndarray:
        """(N,) float64, p(predicted), 1/K to 1."""
        return 1 - self.doubt

    @classmethod
    def of(
        cls, logits: Logits, labels: np.ndarray | Sequence[int], temperatures: Sequence[float] = ()
    ) -> "Predictions":
        """Compute the predictions from logits, in one pass.

        Args:
            logits: (N, K) floating, or chunks of them.
            labels: (N,) integers, 0 to K-1.
            temperatures: the M temperatures of :attr:`non_target`, finite and above 0.

        Raises:
            ValueError: logits that are not finite, labels that do not fit them, or a temperature that is not valid.
        """
        divisors = [validate_temperature(each) for each in temperatures]
        parts = [_predictions(*part, divisors) for part in labelled_blocks(logits, labels)]
        return cls(*(np.concatenate(each, -1) for each in zip(*parts, strict=True)))


def labelled_blocks(logits: Logits, labels: np.ndarray | Sequence[int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield float64 blocks of rows of ``logits``, each with its labels.

    Raises:
        ValueError: as :meth:`Predictions.of`, or there are no samples.
    """
    labels, start = as_array("labels", labels), 0
    for block in blocks(logits):
        if start == 0:
            labels = validate_labels(labels, block.shape[1])
        part = labels[start : start + len(block)]
        start += len(block)
        if len(part) < len(block):
            break
        yield block, part
    if not start:
        raise ValueError("logits: no samples (must be at least one)")
    if start != len(labels):
        raise ValueError(f"labels: {described(labels)} (must be as many as the logits have rows)")


def below_largest(block: np.ndarray) -> np.ndarray:
    """Logits less the largest of their row, clipped at -1e150 so that their squares are finite."""
    with np.errstate(over="ignore"):
        return np.maximum(block - block.max(1, keepdims=True), -1e150)


def softmax(block: np.ndarray, temperature: float) -> np.ndarray:
    """softmax(z / T) of each row.

    >>> softmax(np.array([[2 * np.log(3.0), 0.0]]), 2.0).round(2).tolist()
    [[0.75, 0.25]]
    """
    with np.errstate(over="ignore"):
        weight = np.exp(below_largest(block) / temperature)
    return weight / weight.sum(1, keepdims=True)


def _predictions(block: np.ndarray, labels: np.ndarray, temperatures: Sequence[float]) -> tuple[np.ndarray, ...]:
    rows, predicted, below = np.arange(len(block)), block.argmax(1), below_largest(block)
    weight = np.exp(below)
    weight[rows, predicted] = 0
    others = weight.sum(1)
    non_target = np.empty((len(temperatures), len(block)))
    for place, temperature in enumerate(temperatures):
        with np.errstate(over="ignore"):
            weight = np.exp(below / temperature)
        target = weight[rows, labels]
        weight[rows, labels] = 0
        rest = weight.sum(1)
        non_target[place] = rest / (target + rest)
    return predicted == labels, others / (1 + others), np.log1p(others) - below[rows, labels], non_target
