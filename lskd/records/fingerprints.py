"""Fingerprints of weights, which do not depend on the file that holds them."""

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
    """One SHA-256 over the fingerprints of several teachers, in order; translation records it even for one teacher."""
    return hashlib.sha256("".join(fingerprints).encode()).hexdigest()


def is_of_teacher(recorded: object, weights: str) -> bool:
    """Whether a student's record, of images or translations, has this teacher as its only one.

    Args:
        recorded: the teacher's fingerprint in the student's record; other values match no teacher.
        weights: fingerprint of the teacher's weights.

    >>> is_of_teacher("12ab", "12ab"), is_of_teacher(joint_fingerprint(["12ab"]), "12ab"), is_of_teacher(None, "12ab")
    (True, True, False)
    """
    return recorded in (weights, joint_fingerprint([weights]))
