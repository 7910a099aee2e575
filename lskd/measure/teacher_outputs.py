"""Measures of a teacher's outputs at each temperature: entropy, non-target probability, size of the gradient."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lskd.measure.gradient_size import gradient_sizes
from lskd.measure.logit_blocks import Logits
from lskd.measure.predictions import Predictions
from lskd.measure.smoothness import EntropySums

SMALL = 0.5  # relative to the size of the gradient at T = 1


@dataclass(frozen=True)
class OutputsAt:
    """Measures of a teacher's outputs at one temperature, averaged over samples.

    Attributes:
        temperature: T.
        entropy: in nats, 0 to ln K.
        non_target: the total probability of all classes except the label, 0 to 1.
        gradient_start: the size of the gradient of T²·KL relative to T = 1 for a student with equal logits.
        gradient_end: the same for a student close to the teacher, see :mod:`lskd.measure.gradient_size`.
    """

    temperature: float
    entropy: float
    non_target: float
    gradient_start: float
    gradient_end: float

    @property
    def small_steps(self) -> bool:
        """Whether gradients at the start of training are smaller than :data:`SMALL` times those at T = 1."""
        return self.gradient_start < SMALL


def teacher_outputs(
    logits: Logits, labels: np.ndarray | Sequence[int], temperatures: Sequence[float]
) -> list[OutputsAt]:
    """Measure a teacher's outputs at several temperatures.

    Args:
        logits: (N, K) floating, or chunks of them that can be iterated over several times.
        labels: (N,) integers, 0 to K-1.
        temperatures: different ones, finite and above 0.

    Raises:
        ValueError: logits that are not finite, labels that do not fit them, or a temperature that is not valid.

    Example:
        >>> for each in teacher_outputs(np.array([[6.0, 0.0, 0.0], [0.0, 5.0, 1.0]]), [0, 1], [1.0, 64.0]):
        ...     print(f"{each.entropy:.3f} {each.non_target:.3f} {each.gradient_start:.2f} {each.gradient_end:.1f}")
        0.082 0.015 1.00 1.0
        1.098 0.648 1.84 16.3
    """
    entropies = EntropySums(temperatures)
    entropies.update(logits)
    non_target = Predictions.of(logits, labels, temperatures).non_target.mean(1)
    sizes = gradient_sizes(logits, temperatures)
    return [
        OutputsAt(T, entropy, share, sizes[T].start, sizes[T].end)
        for T, entropy, share in zip(temperatures, entropies.mean().tolist(), non_target.tolist(), strict=True)
    ]
