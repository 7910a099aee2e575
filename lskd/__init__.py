"""Distil a teacher into a student at a temperature, and measure the effect of the temperature.

The names below are imported when they are first used, so that importing the package is cheap.
"""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from lskd.loss.distillation import distillation_loss as distillation_loss
    from lskd.loss.module import DistillationLoss as DistillationLoss
    from lskd.measure.diffusion import diffusion_indices as diffusion_indices
    from lskd.measure.representations import collect as collect
    from lskd.measure.representations import read_representations as read_representations
    from lskd.measure.representations import write_representations as write_representations
    from lskd.measure.smoothing_estimate import estimate_label_smoothing as estimate_label_smoothing

_MODULES = {
    "DistillationLoss": "loss.module",
    "collect": "measure.representations",
    "diffusion_indices": "measure.diffusion",
    "distillation_loss": "loss.distillation",
    "estimate_label_smoothing": "measure.smoothing_estimate",
    "read_representations": "measure.representations",
    "write_representations": "measure.representations",
}
__all__ = [
    "DistillationLoss",
    "collect",
    "diffusion_indices",
    "distillation_loss",
    "estimate_label_smoothing",
    "read_representations",
    "write_representations",
]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'lskd' has no attribute {name!r}")
    return getattr(importlib.import_module(f"lskd.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
