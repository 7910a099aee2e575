"""From the images of a batch to its tensor, with less work per image than torchvision's and timm's functions.

For small images that work is most of the loading.
"""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def to_tensor(image: Image.Image) -> Tensor:
    """The pixels of an image of 8 bits a channel, (C, H, W), uint8, as torchvision's ``pil_to_tensor`` gives them.

    >>> to_tensor(Image.new("RGB", (4, 2))).shape
    torch.Size([3, 2, 4])
    """
    pixels = torch.from_numpy(np.array(image))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)


def collate(items: Sequence[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
    """Images (N, C, H, W), uint8, and labels (N,), int64, as timm's ``fast_collate`` gives them."""
    images, labels = zip(*items, strict=True)
    return torch.stack(images), torch.tensor([int(label) for label in labels])
