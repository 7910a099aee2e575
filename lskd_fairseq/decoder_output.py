"""What enters a decoder's output projection, and the logits that leave it, at the target tokens alone.

fairseq's Transformers take ``features_only``; lightconv, dynamicconv and transformer_align do not, and project inside.
A hook on the projection itself works for all of them, and below a wrapper for distributed training.
"""

import contextlib
from collections.abc import Callable, Iterator

from torch import Tensor, nn

from lskd.io.errors import InputError


def output_projection(decoder: nn.Module) -> nn.Module | None:
    """The layer that gives a decoder's logits; None of a decoder that has none of that name (lstm, fconv).

    Raises:
        InputError: an adaptive softmax, which has no logit for every symbol.
    """
    if getattr(decoder, "adaptive_softmax", None) is not None:
        raise InputError("--adaptive-softmax-cutoff: set (distillation needs one logit for every symbol, leave it out)")
    return getattr(decoder, "output_projection", None)


def output_logits(model: nn.Module, net_input: dict, keep: Tensor) -> Tensor:
    """The logits (N, V) of a model at the kept positions; where its decoder allows it, only these are projected.

    Args:
        model: an encoder-decoder model, which may be wrapped for distributed training.
        net_input: of a fairseq batch.
        keep: (batch, length) bool, N of them true.

    Raises:
        InputError: an adaptive softmax.
    """
    if (layer := output_projection(model.decoder)) is None:
        return model(**net_input)[0][keep]
    with _before(layer, lambda features: features[keep]):
        return model(**net_input)[0]


def output_features(model: nn.Module, net_input: dict, keep: Tensor) -> Tensor | None:
    """What enters the output projection (N, d) at the kept positions; None of a decoder without such a layer.

    Arguments and errors as of :func:`output_logits`. Nothing is projected.
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
def _before(layer: nn.Module, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Change what enters a layer within the block."""
    hook = layer.register_forward_pre_hook(lambda _, inputs: (change(inputs[0]), *inputs[1:]))
    try:
        yield
    finally:
        hook.remove()
