"""Fingerprints of weights, independent of the file that holds them."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def weights_fingerprint(weights: "Mapping[str, Tensor]") -> str:
    """SHA-256 over the names, dtypes, shapes and bytes of the weights."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return digest.hexdigest()


def joint_fingerprint(fingerprints: Sequence[str]) -> str:
    """One SHA-256 over the fingerprints of several teachers, in their order: translation records that, also for one."""
    return hashlib.sha256("".join(fingerprints).encode()).hexdigest()


def is_of_teacher(recorded: object, weights: str) -> bool:
    """Whether a student's record names a teacher by its weights alone, as image and translation records do.

    Args:
        recorded: the fingerprint that the student's record has of its teacher; anything else is of no teacher.
        weights: of the teacher's weights.

    >>> is_of_teacher("12ab", "12ab"), is_of_teacher(joint_fingerprint(["12ab"]), "12ab"), is_of_teacher(None, "12ab")
    (True, True, False)
    """
    return recorded in (weights, joint_fingerprint([weights]))
