"""The last layer of a timm model, and the features that enter it.

A model with two heads, such as distilled DeiT and LeViT models, returns the mean of their logits, W₁x₁ + b₁ and
W₂x₂ + b₂. This is one layer on the concatenated features, ½[W₁ W₂][x₁ x₂] + ½(b₁ + b₂), whose rows are the templates.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lskd.io.errors import input_error
from lskd.measure.representation_command import check_last_layer
from lskd_vision.timm_model import TimmModel


@dataclass(frozen=True)
class LastLayer:
    """The last layer of a model.

    Attributes:
        model: the model.
        heads: its linear layers, or 1×1 convolutions, that compute logits: one, or several that the model averages.
        linear: the equivalent single layer, (d, K), with d features in all.
    """

    model: TimmModel
    heads: list[nn.Linear | nn.Conv2d]
    linear: nn.Linear = field(init=False)

    def __post_init__(self) -> None:
        weights = [head.weight.detach().flatten(1) for head in self.heads]
        biases = [head.bias.detach() for head in self.heads if head.bias is not None]
        layer = nn.Linear(sum(each.shape[1] for each in weights), len(weights[0]), bool(biases))
        layer.requires_grad_(False)
        layer.weight.copy_(torch.cat(weights, 1) / len(weights))
        if biases:
            layer.bias.copy_(torch.stack(biases).sum(0) / len(weights))
        object.__setattr__(self, "linear", layer)

    def run(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, d) that enter the last layer, concatenated over the heads, and logits (N, K)."""
        entered: dict[nn.Module, Tensor] = {}

        def keep(head: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            entered[head] = inputs[0]

        hooks = [head.register_forward_pre_hook(keep) for head in self.heads]
        try:
            logits = self.model(images)
        finally:
            for hook in hooks:
                hook.remove()
        features = [_without_place(entered[head]) for head in self.heads if head in entered]
        return torch.cat(features, 1) if features else logits[:, :0], logits

    def features(self, images: Tensor) -> Tensor:
        """The features (N, d) that enter the last layer."""
        return self.run(images)[0]


def _without_place(features: Tensor) -> Tensor:
    """Flatten (N, d, 1, 1) or (N, 1, 1, d), as pooling may leave them, to (N, d); return others unchanged."""
    return features.flatten(1) if features.dim() == 4 and features[0].numel() == max(features.shape[1:]) else features


@torch.no_grad()
def last_layer(model: TimmModel, input_size: tuple[int, int, int], path: object) -> LastLayer:
    """Find the last layer of a model, and check on random images that it maps its input to the model's logits.

    Args:
        model: the model, on the CPU and in eval mode.
        input_size: channels, height and width of its images.
        path: its checkpoint, for error messages.

    Raises:
        InputError: the last layer is not linear, or does not give the model's logits.
    """
    classifier: Any = model.get_classifier()
    parts = list(classifier) if isinstance(classifier, Iterable) else [classifier]
    heads = [head for part in parts for head in part.modules() if _gives(head, model.num_classes)]
    if not heads or len({type(head) for head in heads}) > 1:
        kind = " and ".join(type(part).__name__ for part in parts)
        raise input_error("checkpoint", path, f"has a last layer that is not linear: {kind}")
    found = LastLayer(model, heads)
    features, logits = found.run(torch.randn(4, *input_size, generator=torch.Generator().manual_seed(0)))
    check_last_layer(found.linear, features, logits, "checkpoint", path)
    return found


def _gives(layer: nn.Module, num_classes: int) -> bool:
    """Whether a module may be a linear layer that computes the logits."""
    if isinstance(layer, nn.Conv2d):
        return layer.out_channels == num_classes and layer.kernel_size == (1, 1) and layer.groups == 1
    return isinstance(layer, nn.Linear) and layer.out_features == num_classes
