"""A student of a plan, and how its training names its run directory."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from definitions import PLAIN
from jobs import word


@dataclass(frozen=True)
class Student:
    """One student to be trained.

    Attributes:
        data: the data set, as printed.
        model: as printed.
        label_smoothing: α of the teacher; without one, of the labels.
        temperature: T; if ``equal_entropy``, of the smoothed teacher with the same entropy; None without a teacher.
        seed: of the student.
        recipe: of translation.
        distill_type: of images.
        equal_entropy: whether the temperature is found by matching entropies.
        variant: of a study: the scale's name for other options of the training.
    """

    data: str
    model: str
    label_smoothing: float
    temperature: float | None
    seed: int
    recipe: str = "paper"
    distill_type: str = "logit"
    equal_entropy: bool = False
    variant: str = PLAIN


def loss_in_name(options: Mapping[str, Any]) -> str:
    """What image training adds to T in the name of a run: loss, its weight and gradient scale if not the paper's.

    >>> loss_in_name({"kd-loss": "decoupled", "kd-nckd-weight": 2.0, "lr": 0.1}), loss_in_name({"lr": 0.1})
    ('_decoupled2', '')
    """
    loss, scale = options.get("kd-loss", "kl"), options.get("kd-gradient-scale", "t2")
    weight = options.get("kd-nckd-weight")
    name = "" if loss == "kl" else f"_{loss}" + ("" if weight is None else word(float(weight)))
    return name if scale == "t2" else f"{name}_{scale}"
