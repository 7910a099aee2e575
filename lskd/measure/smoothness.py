"""The smoothness of a teacher's targets: their entropy, the temperature of a given entropy, mean soft outputs.

See the paper's Appendix H (mean entropy of the targets at each T), Figure 2 and Appendix E (mean soft outputs).

Logits are (N, K) arrays, or iterables of such chunks, and are processed in blocks of rows in float64. Entropies are in
nats.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from lskd.io.arrays import as_array, class_list, is_real, numbers, validate_labels, whole
from lskd.measure.logit_blocks import Logits, blocks, validate_temperature
from lskd.measure.predictions import softmax
from lskd.measure.roots import increasing_root

TEMPERATURES = (1e-2, 1e4)  # the range in which a temperature is searched
LEAST = -800  # logarithms below this are clipped: their exponential is 0
FAR_BELOW = 100  # Appendix E: "at least 100 times"


class EntropySums:
    """Entropies of softmax(logits / T) at several temperatures T, summed over samples; :meth:`merge` combines sums.

    Args:
        temperatures: M different temperatures, finite and above 0.

    Attributes:
        temperatures: (M,) float64.
        n: number of samples.
        sums: (M,) float64, Σ H in nats.
        squared_deviations: (M,) float64, Σ (H - mean)².

    Raises:
        ValueError: a temperature that is not valid, or is given twice.

    Example:
        >>> sums = EntropySums([1.0, 64.0])
        >>> sums.update(np.array([[0.0, 0.0], [math.log(3), 0.0]]))
        >>> sums.n, sums.mean().round(4).tolist()
        (2, [0.6277, 0.6931])
    """

    def __init__(self, temperatures: Sequence[float] | np.ndarray) -> None:
        if is_real(temperatures):
            raise ValueError(f"temperatures: {temperatures} (must be several, or a list of one)")
        self.temperatures = np.array([validate_temperature(each) for each in temperatures], np.float64)
        if len(set(temperatures)) < len(temperatures):
            raise ValueError(f"temperatures: {list(temperatures)} (must be all different)")
        self.n = 0
        self.sums = np.zeros(len(temperatures))
        self.squared_deviations = np.zeros(len(temperatures))

    @classmethod
    def of_rows(cls, rows: np.ndarray, n: int) -> "EntropySums":
        """Restore the sums from :meth:`rows` and the number of samples.

        Raises:
            ValueError: rows that are not valid output of :meth:`rows`.
        """
        rows = numbers("rows", rows, None, 3)
        if (rows[:, 1:] < 0).any():
            raise ValueError(f"rows: {rows[:, 1:].min()} (must be 0 or more)")
        sums = cls(rows[:, 0].tolist())
        sums.n, sums.sums, sums.squared_deviations = whole("n", n, 0), rows[:, 1].copy(), rows[:, 2].copy()
        return sums

    def rows(self) -> np.ndarray:
        """(M, 3) of temperature, Σ H and Σ (H - mean)², stored as ``entropy`` in a representation file."""
        return np.stack([self.temperatures, self.sums, self.squared_deviations], axis=1)

    def update(self, logits: Logits) -> None:
        """Add samples.

        Args:
            logits: (N, K) of any floating dtype, or chunks of them.

        Raises:
            ValueError: a wrong shape, or a logit that is not finite.
        """
        for block in blocks(logits):
            part = EntropySums(self.temperatures)
            part.n = len(block)
            for place, temperature in enumerate(self.temperatures):
                each = _entropy(block, temperature)[0]
                part.sums[place] = each.sum()
                part.squared_deviations[place] = ((each - each.mean()) ** 2).sum()
            self.merge(part)

    def merge(self, other: "EntropySums") -> None:
        """Add the sums of ``other``, which must come from other samples.

        Raises:
            ValueError: ``other`` has different temperatures.
        """
        ours, theirs = self.temperatures.tolist(), other.temperatures.tolist()
        if theirs != ours:
            raise ValueError(f"other: temperatures {theirs} (must be {ours})")
        if self.n and other.n:
            between = (self.sums / self.n - other.sums / other.n) ** 2 * (self.n * other.n / (self.n + other.n))
            self.squared_deviations += between
        self.squared_deviations += other.squared_deviations
        self.n += other.n
        self.sums += other.sums

    def mean(self) -> np.ndarray:
        """(M,) mean entropy in nats, 0 to ln K (Table H.1); NaN without samples."""
        return self.sums / self.n if self.n else np.full(len(self.sums), math.nan)

    def standard_error(self) -> np.ndarray:
        """(M,) standard error of the mean, over samples; NaN for fewer than two."""
        if self.n < 2:
            return np.full(len(self.sums), math.nan)
        return np.sqrt(self.squared_deviations / (self.n - 1) / self.n)


def entropy(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """The entropy of each row of softmax(logits / T).

    Args:
        logits: (N, K), finite.
        temperature: T, above 0.

    Returns:
        (N,) float64 in nats, 0 to ln K; small values keep their digits.

    Raises:
        ValueError: a wrong shape, logits that are not finite, or a temperature that is not valid.

    Example:
        >>> entropy(np.zeros((1, 4))).round(4).tolist()  # ln 4
        [1.3863]
    """
    temperature = validate_temperature(temperature)
    return np.concatenate([np.empty(0), *(_entropy(block, temperature)[0] for block in blocks(logits))])


def match_temperature(logits: Logits, target: float, bounds: tuple[float, float] = TEMPERATURES) -> float:
    """The temperature at which the mean entropy of softmax(logits / T) equals ``target``.

    The entropy of a row increases with T: dH/d ln T is the variance of logits / T under the row's softmax, which is 0
    only if all its logits are equal. So T is unique unless all rows are like that. It is found in ln T, by about six
    passes over the logits.

    Args:
        logits: (N, K), or chunks that can be iterated over repeatedly.
        target: mean entropy in nats, as :meth:`EntropySums.mean` gives it.
        bounds: the least and the largest temperature.

    Returns:
        T, with a relative error of about 1e-9, or more if the entropy hardly depends on T.

    Raises:
        ValueError: no samples, only rows of equal logits, or an entropy that no temperature within the bounds gives.

    Example:
        >>> logits = np.array([[2.0, 1.0, 0.0], [0.0, 5.0, 1.0]])
        >>> round(match_temperature(3 * logits, entropy(logits).mean()), 6)
        3.0
    """
    if not is_real(target):
        raise ValueError(f"target: {target!r} (must be a number)")
    if isinstance(logits, Iterator):
        raise ValueError("logits: an iterator (must be an array, or chunks that can be iterated over again)")
    low, high = (math.log(validate_temperature(each)) for each in bounds)
    (least, _), (largest, slope) = _mean_entropy(logits, bounds[0]), _mean_entropy(logits, bounds[1])
    if least == largest and slope == 0:
        raise ValueError("logits: all equal in each row (their entropy must depend on the temperature)")
    if not least <= target <= largest:
        raise ValueError(
            f"target: entropy {target:.6g} (must be between {least:.6g} and {largest:.6g}, which T = {bounds[0]:g} "
            f"and {bounds[1]:g} give)"
        )

    def excess(ln_T: float) -> tuple[float, float]:
        mean, slope = _mean_entropy(logits, math.exp(ln_T))
        return mean - target, slope

    return math.exp(increasing_root(excess, low, high))


def mean_soft_outputs(
    logits: Logits, labels: np.ndarray, classes: Sequence[int], temperature: float = 1.0
) -> np.ndarray:
    """The mean of softmax(logits / T) over the samples of each of the given classes (Figure 2).

    Args:
        logits: (N, K), or chunks of them.
        labels: (N,) integers, in the order of the logits.
        classes: indices of the classes.
        temperature: T, above 0.

    Returns:
        (len(classes), K) float64, each row sums to 1.

    Raises:
        ValueError: logits that do not fit the labels, or a class without samples.
    """
    temperature = validate_temperature(temperature)
    labels, start = as_array("labels", labels), 0
    sums: np.ndarray | None = None
    for block in blocks(logits):
        if sums is None:
            labels, classes = validate_labels(labels, block.shape[1]), class_list("classes", classes, block.shape[1])
            if not classes:
                raise ValueError("classes: none (must be at least one)")
            sums = np.zeros((len(classes), block.shape[1]))
        here = labels[start : start + len(block)]
        start += len(block)
        if len(here) < len(block):
            break
        for place, label in enumerate(classes):
            if (rows := here == label).any():
                sums[place] += softmax(block[rows], temperature).sum(0)
    if start != len(labels):
        raise ValueError(f"labels: {len(labels)} (must be as many as there are logits)")
    for label in classes:
        if not (labels == label).any():
            raise ValueError(f"classes: {label} has no samples (must have some)")
    return np.zeros((0, 0)) if sums is None else sums / np.array([[np.sum(labels == label)] for label in classes])


def far_below_second(outputs: np.ndarray, factor: float = FAR_BELOW) -> np.ndarray:
    """Count the classes whose probability is at most 1 / ``factor`` of the second largest (Appendix E).

    Args:
        outputs: (C, K) mean soft outputs, K at least 2.
        factor: 100 in the paper, which counts 976, 924 and 964 of 1000 classes.

    Returns:
        (C,) int64, 0 to K-2.

    Raises:
        ValueError: fewer than two classes, a number that is not finite, or a factor not above 1.

    Example:
        >>> far_below_second(np.array([[0.9, 0.0994, 0.0005, 0.0001]])).tolist()
        [2]
    """
    outputs = as_array("outputs", outputs)
    if outputs.ndim != 2 or outputs.shape[1] < 2:
        raise ValueError(f"outputs: shape {outputs.shape} (must be rows of at least 2 classes)")
    outputs = numbers("outputs", outputs, None, None)
    if (outputs < 0).any():
        raise ValueError(f"outputs: {outputs.min():.3g} (must be probabilities)")
    if not is_real(factor) or not factor > 1:
        raise ValueError(f"factor: {factor} (must be above 1)")
    second = np.partition(outputs, -2, axis=1)[:, -2:-1]
    return ((second >= factor * outputs) & (outputs < second)).sum(1)


def _entropy(block: np.ndarray, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """The entropy of each row, and its derivative with respect to ln T.

    With u = (z - max z) / T, H = ln Σ exp(u) - Σ p u: both terms are at least 0, so nothing cancels. The first is
    computed as log1p of the sum without the largest class, to keep the digits of an entropy near 0.
    """
    rows, best = np.arange(len(block)), block.argmax(1)
    with np.errstate(over="ignore"):
        u = (block - block[rows, best][:, None]) / temperature
    np.maximum(u, LEAST, out=u)
    weight = np.exp(u)
    weight[rows, best] = 0
    others = weight.sum(1)
    total = 1 + others
    first = np.einsum("nk,nk->n", weight, u) / total
    second = np.einsum("nk,nk,nk->n", weight, u, u) / total
    return np.log1p(others) - first, np.maximum(second - first**2, 0)


def _mean_entropy(logits: Logits, temperature: float) -> tuple[float, float]:
    """The mean entropy, and its derivative with respect to ln T."""
    total, slope, n = 0.0, 0.0, 0
    for block in blocks(logits):
        each, slopes = _entropy(block, temperature)
        total, slope, n = total + each.sum(), slope + slopes.sum(), n + len(block)
    if not n:
        raise ValueError("logits: no samples (must be at least one)")
    return total / n, slope / n
