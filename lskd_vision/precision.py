"""Mixed precision, in one place for training and validation."""

import argparse
import contextlib

import torch


def autocast(arguments: argparse.Namespace, device: torch.device):
    """A context in which models compute as ``--amp`` and ``--amp-dtype`` say; losses take care of themselves."""
    if not arguments.amp:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, arguments.amp_dtype))
