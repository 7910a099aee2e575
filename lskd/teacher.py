"""What both sides say of a teacher: which weights it has, and which temperature its smoothing asks for."""

import hashlib

import torch
from torch import Tensor

RULE_OF_THUMB = (
    "the teacher was trained with label smoothing (α = {alpha:.3g}) and T = {temperature:g} is above 1: the paper "
    "found that high temperatures undo what a smoothed teacher gains; its rule: a smoothed teacher with T = 1"
)


def weights_fingerprint(weights: dict[str, Tensor]) -> str:
    """SHA-256 over the names, dtypes, shapes and bytes of the weights, whatever file they are in."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return digest.hexdigest()


def temperature_warnings(alpha: float | None, temperature: float) -> list[str]:
    """What a reader of a run's figures has to know, for a teacher trained with label smoothing α (None: unknown).

    >>> temperature_warnings(0.1, 1.0), temperature_warnings(0.0, 4.0), len(temperature_warnings(0.1, 4.0))
    ([], [], 1)
    """
    if alpha and temperature > 1:
        return [RULE_OF_THUMB.format(alpha=alpha, temperature=temperature)]
    return []
