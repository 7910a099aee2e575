"""Convert images to tensors and collate them, with less work per image than torchvision's and timm's functions.

For small images this work is most of the loading time.
"""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def to_tensor(image: Image.Image) -> Tensor:
    """Convert an image with 8 bits per channel to uint8 (C, H, W), as torchvision's ``pil_to_tensor`` does.

    >>> to_tensor(Image.new("RGB", (4, 2))).shape
    torch.Size([3, 2, 4])
    """
    pixels = torch.from_numpy(np.array(image))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)


def collate(items: Sequence[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
    """Collate images to (N, C, H, W), uint8, and labels to (N,), int64, as timm's ``fast_collate`` does."""
    images, labels = zip(*items, strict=True)
    return torch.stack(images), torch.tensor([int(label) for label in labels])
