"""Transforms of single images: timm's, and an optional rotation."""

from collections.abc import Callable
from typing import Any

from PIL import Image
from timm.data import auto_augment, create_transform
from torch import Tensor
from torchvision import transforms

from lskd.io.errors import input_error
from lskd_vision.augmentation_config import AugmentationConfig
from lskd_vision.batches import to_tensor
from lskd_vision.data import DataConfig

Transform = Callable[[Image.Image], Tensor]  # to uint8, (C, H, W)


def train_transform(config: AugmentationConfig, data_config: DataConfig) -> Transform:
    """Build timm's training transform, with uint8 output and, if configured, a random rotation.

    Raises:
        InputError: ``--aa`` is not one of timm's policies.
    """
    jitter: Any = config.color_jitter  # timm accepts None too
    if not any(jitter) and not config.grayscale_prob:  # jitter by 0 draws random numbers that no later step depends on
        jitter = (None,)
    try:
        transform: Any = create_transform(
            data_config["input_size"],
            is_training=True,
            use_prefetcher=True,
            no_aug=config.no_aug,
            train_crop_mode=config.train_crop_mode,
            scale=config.scale,
            ratio=config.ratio,
            hflip=config.hflip,
            vflip=config.vflip,
            color_jitter=jitter[0] if len(jitter) == 1 else jitter,
            grayscale_prob=config.grayscale_prob,
            auto_augment=config.aa,
            interpolation=config.train_interpolation,
            mean=data_config["mean"],
            std=data_config["std"],
        )
    except (AssertionError, KeyError, ValueError) as error:
        raise input_error("--aa", config.aa, f"must be one of timm's augmentation policies: {error}") from None
    if config.rotation and not config.no_aug:
        # Before the colour transforms, which follow the crop and the flips.
        steps = transform.transforms
        place = 1 + max(i for i, step in enumerate(steps) if "Crop" in str(step) or "Flip" in str(step))
        steps.insert(place, transforms.RandomRotation(config.rotation))
    transform.transforms[-1] = to_tensor
    return transform


def posterize(image: Image.Image, bits_to_keep: int, **_: object) -> Image.Image:
    """timm's posterize; with 0 bits, which RandAugment may draw and Pillow 13 rejects, the image becomes black."""
    return auto_augment.posterize(image, bits_to_keep) if bits_to_keep else Image.new(image.mode, image.size)


OPERATIONS: dict[str, Any] = auto_augment.NAME_TO_OP
OPERATIONS |= dict.fromkeys(("Posterize", "PosterizeIncreasing", "PosterizeOriginal"), posterize)


def val_transform(config: DataConfig) -> Transform:
    """Build timm's evaluation transform, resize and centre crop, with uint8 output."""
    transform: Any = create_transform(
        config["input_size"],
        use_prefetcher=True,
        interpolation=config["interpolation"],
        mean=config["mean"],
        std=config["std"],
        crop_pct=config["crop_pct"],
        crop_mode=config["crop_mode"],
    )
    transform.transforms[-1] = to_tensor
    return transform
