"""Fold the batch norms of a frozen model, which are affine, into the convolutions before them."""

import copy
import logging
from typing import Any

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from lskd_vision.models import first_line

logger = logging.getLogger(__name__)
TOLERANCE = 1e-5  # relative to the logits' norm, on random images


def without_batch_norms(model: nn.Module, input_size: tuple[int, int, int]) -> nn.Module:
    """Make a faster copy of a model that computes the same; return the model itself if that fails.

    Args:
        model: in eval mode, without gradients; it is not changed.
        input_size: channels, height and width of its images.

    Returns:
        A copy whose batch norms are folded into the convolutions that they follow; timm's layers of norm and activation
        keep the activation. It gives the same logits for random images, up to rounding. If it does not, torch.fx
        cannot trace the model, or there are no such batch norms: ``model``.
    """
    folded = copy.deepcopy(model)
    try:
        pairs = _pairs(folded)
    except Exception as error:  # a model's code may raise anything when traced without tensors
        logger.info(f"batch norms are not folded: {first_line(error)}")
        return model
    for convolution, name in pairs:
        _fold(folded, convolution, name)
    images = torch.randn(2, *input_size, generator=torch.Generator().manual_seed(0))
    images = images.to(next(model.parameters()).device)
    with torch.no_grad():
        expected, found = model(images), folded(images)
    if not pairs or not (found - expected).norm() <= TOLERANCE * expected.norm():
        return model
    return folded


class _Tracer(fx.Tracer):
    """A tracer that does not trace into convolutions and batch norms, timm's included."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.Conv2d | nn.BatchNorm2d) or super().is_leaf_module(m, module_qualified_name)


def _pairs(model: nn.Module) -> list[tuple[nn.Conv2d, str]]:
    """The convolutions whose only consumer is a batch norm, each with that batch norm's name."""
    modules = dict(model.named_modules())
    found: list[tuple[nn.Conv2d, str]] = []
    nodes = _Tracer().trace(model).nodes
    calls = [node.target for node in nodes if node.op == "call_module"]
    for node in nodes:
        if node.op != "call_module" or not isinstance(modules[node.target], nn.BatchNorm2d):
            continue
        before = node.args[0]
        convolution: Any = modules[before.target] if before.op == "call_module" else None
        once = type(convolution) is nn.Conv2d and calls.count(before.target) == calls.count(node.target) == 1
        if once and len(before.users) == 1 and modules[node.target].track_running_stats:
            found.append((convolution, node.target))
    return found


def _fold(model: nn.Module, convolution: nn.Conv2d, name: str) -> None:
    norm: Any = model.get_submodule(name)
    statistics = norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    weight, bias = fuse_conv_bn_weights(convolution.weight, convolution.bias, *statistics)
    convolution.weight = nn.Parameter(weight, requires_grad=False)
    convolution.bias = nn.Parameter(bias, requires_grad=False)
    rest = [getattr(norm, part) for part in ("drop", "act") if hasattr(norm, part)]
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, nn.Sequential(*rest))
