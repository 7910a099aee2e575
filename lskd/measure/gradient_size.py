"""The size of the distillation loss's gradient at each temperature, estimated from a teacher's outputs alone.

At the student's logits z_s, the gradient of T²·KL(p_t(T) ‖ p_s(T)) is

    g_T = T·(p_s(T) − p_t(T)).

Its size depends on the student. Two hypothetical students stand for the start and the end of training:

- start: a student whose logits are all equal, p_s = 1/K, so that g_T = T·(1/K − p_t(T));
- end: a student whose logits differ from the teacher's by a small isotropic noise ε. To first order
  g_T = (diag(p) − p pᵀ) ε with p = p_t(T), and E‖g_T‖² is proportional to Σp² − 2Σp³ + (Σp²)².

The step size of plain SGD is proportional to the gradient's; an optimiser that normalises its steps, such as Adam, is
hardly affected. Training records the size of its actual gradients (``train_kd_gradient_ratio``,
``kd_gradient_ratio``).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lskd.measure.logit_blocks import Logits, blocks, validate_temperature
from lskd.measure.predictions import softmax


@dataclass(frozen=True)
class GradientSize:
    """The root mean square, over samples, of the norm of g_T, relative to that of g_1.

    Attributes:
        start: for a student with equal logits, 0 or more; infinite if only g_1 is 0.
        end: for a student close to its teacher; likewise.
    """

    start: float
    end: float


def gradient_sizes(logits: Logits, temperatures: Sequence[float]) -> dict[float, GradientSize]:
    """The size of the gradient at each T relative to T = 1.

    Args:
        logits: the teacher's logits, (N, K) floating with K of at least 2, or chunks of them.
        temperatures: finite and above 0.

    Raises:
        ValueError: logits that are not finite, no samples, one class, or a temperature that is not valid.

    Example:
        >>> sizes = gradient_sizes(np.array([[4.0, 0.0, 0.0]]), [1.0, 4.0])
        >>> sizes[1.0]
        GradientSize(start=1.0, end=1.0)
        >>> round(sizes[4.0].start, 3), round(sizes[4.0].end, 3)
        (1.538, 7.823)
    """
    every = [1.0, *(validate_temperature(each) for each in temperatures)]
    squares, samples = np.zeros((len(every), 2)), 0
    for block in blocks(logits):
        if block.shape[1] < 2:
            raise ValueError(f"logits: {block.shape[1]} class (must be at least 2)")
        samples += len(block)
        for place, temperature in enumerate(every):
            squares[place] += _squares(block, temperature)
    if not samples:
        raise ValueError("logits: no samples (must be at least one)")
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.sqrt(squares / squares[0])
    ratios[squares == squares[0]] = 1.0  # also where both are 0
    return {T: GradientSize(*map(float, ratio)) for T, ratio in zip(every[1:], ratios[1:], strict=True)}


def _squares(block: np.ndarray, temperature: float) -> tuple[float, float]:
    """Σ over samples of ‖g_T‖²: exact for the start, up to a constant factor for the end."""
    p = softmax(block, temperature)
    square = (p**2).sum(1)
    start = temperature**2 * (p - 1 / p.shape[1]) ** 2
    # Equal to Σp² − 2Σp³ + (Σp²)², whose terms cancel where p is nearly 0 or 1.
    end = (p**2 * (1 - p) ** 2).sum(1) + (p**2 * (square[:, None] - p**2)).sum(1)
    return float(start.sum()), float(end.sum())
