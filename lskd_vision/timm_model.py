"""What timm's models have that torch's ``nn.Module`` does not declare."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


class TimmModel(nn.Module):
    """A timm model, as ``timm.create_model`` makes it; for annotations only."""

    pretrained_cfg: dict[str, Any]
    num_classes: int
    in_chans: int
    forward_features: Callable[[Tensor], Tensor]
    forward_head: Callable[..., Tensor]
    get_classifier: Callable[[], nn.Module]
    group_matcher: Callable[..., Any]
    set_grad_checkpointing: Callable[..., None]


def architecture(model: nn.Module) -> str:
    """timm's name of a model's architecture, or the name of its class."""
    config: Any = getattr(model, "pretrained_cfg", {})
    return config.get("architecture") or type(model).__name__
