"""The attributes of timm's models that torch's ``nn.Module`` does not declare, for annotations."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


class TimmModel(nn.Module):
    """A timm model, as ``timm.create_model`` makes it."""

    pretrained_cfg: dict[str, Any]
    num_classes: int
    in_chans: int
    forward_features: Callable[[Tensor], Tensor]
    forward_head: Callable[..., Tensor]
    get_classifier: Callable[[], nn.Module]
    group_matcher: Callable[..., Any]
    set_grad_checkpointing: Callable[..., None]
