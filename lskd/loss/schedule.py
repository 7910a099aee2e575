"""A temperature that changes during training, from one value to another."""

import math
from typing import Literal, get_args

from lskd.loss.checks import check_temperature

TemperatureSchedule = Literal["constant", "linear", "cosine"]


def scheduled_temperature(schedule: str, first: float, last: float | None, progress: float) -> float:
    """T at a point of training.

    Args:
        schedule: how T goes from ``first`` to ``last``, a :data:`TemperatureSchedule`; ``cosine`` is slow at both ends.
        first: T at the start.
        last: T at the end; None where T is constant.
        progress: from 0, the start, to 1, the end.

    Example:
        >>> [scheduled_temperature("linear", 3.0, 1.0, progress) for progress in (0.0, 0.5, 1.0)]
        [3.0, 2.0, 1.0]
        >>> round(scheduled_temperature("cosine", 3.0, 1.0, 0.25), 3)
        2.707
    """
    if schedule == "constant" or last is None:
        return first
    share = progress if schedule == "linear" else (1 - math.cos(math.pi * progress)) / 2
    return first + share * (last - first)


def highest_temperature(loss: str, first: float, last: float | None) -> float:
    """The highest T of a run that goes from ``first`` to ``last``; infinity for the loss ``mse``, the limit T → ∞.

    >>> highest_temperature("kl", 3.0, 1.0), highest_temperature("kl", 2.0, None), highest_temperature("mse", 1.0, None)
    (3.0, 2.0, inf)
    """
    return math.inf if loss == "mse" else max(first, last or 0)


def check_schedule(
    temperature: float,
    temperature_schedule: str = "constant",
    final_temperature: float | None = None,
    loss: str = "kl",
) -> None:
    """Validate a temperature schedule. Raises ValueError with one line that begins with the argument's name."""
    if temperature_schedule not in (known := get_args(TemperatureSchedule)):
        raise ValueError(f"temperature_schedule: {temperature_schedule!r} (must be one of {', '.join(known)})")
    if temperature_schedule == "constant":
        if final_temperature is not None:
            raise ValueError(
                f"final_temperature: {final_temperature!r} (must be left out: the temperature is constant)"
            )
        return
    if loss == "mse":
        raise ValueError(f"temperature_schedule: {temperature_schedule!r} (must be constant: the loss mse has no T)")
    check_temperature("final_temperature", final_temperature)
    if final_temperature == temperature:
        raise ValueError(f"final_temperature: {final_temperature!r} (must differ from the T at the start)")
