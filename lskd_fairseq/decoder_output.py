"""Decoder features before the output projection, and logits after it, at the target tokens only.

fairseq's Transformers have the option ``features_only``; lightconv, dynamicconv and transformer_align do not. A hook on
the projection layer works for all of them, also inside a wrapper for distributed training.
"""

import contextlib
from collections.abc import Callable, Generator
from typing import Any

from torch import Tensor, nn

from lskd.io.errors import InputError
from lskd_fairseq.batch import NetInput


def output_projection(decoder: Any) -> nn.Module | None:
    """A decoder's output projection; None for a decoder without such a layer (lstm, fconv).

    Raises:
        InputError: the decoder has an adaptive softmax, which does not compute a logit for every token type.
    """
    if getattr(decoder, "adaptive_softmax", None) is not None:
        raise InputError("--adaptive-softmax-cutoff: set (distillation needs one logit for every token, leave it out)")
    return getattr(decoder, "output_projection", None)


def output_logits(model: nn.Module, net_input: NetInput, keep: Tensor) -> Tensor:
    """A model's logits (N, V) at the kept positions; only these are projected if the decoder has a projection layer.

    Args:
        model: an encoder-decoder model, which may be wrapped for distributed training.
        net_input: the model's inputs in a fairseq batch.
        keep: (batch, length) bool, N of them true.

    Raises:
        InputError: the decoder has an adaptive softmax.
    """
    if (layer := output_projection(model.decoder)) is None:
        return model(**net_input)[0][keep]
    with _before(layer, lambda features: features[keep]):
        return model(**net_input)[0]


def output_features(model: nn.Module, net_input: NetInput, keep: Tensor) -> Tensor | None:
    """The input (N, d) of the output projection at the kept positions; None for a decoder without such a layer.

    Arguments and errors as in :func:`output_logits`. Nothing is projected.
    """
    if (layer := output_projection(model.decoder)) is None:
        return None
    found: list[Tensor] = []

    def take(features: Tensor) -> Tensor:
        found.append(features[keep])
        return found[0][:0]

    with _before(layer, take):
        model(**net_input)
    return found[0]


@contextlib.contextmanager
def _before(layer: nn.Module, change: Callable[[Tensor], Tensor]) -> Generator[None]:
    """Apply a function to a layer's input within the block."""
    hook = layer.register_forward_pre_hook(lambda _, inputs: (change(inputs[0]), *inputs[1:]))
    try:
        yield
    finally:
        hook.remove()
