"""Configuration of data augmentation.

Fields have the names of the flags in :mod:`lskd_vision.training_options`.
"""

from dataclasses import dataclass, fields
from typing import Literal

from lskd.io.errors import input_error
from lskd_vision.config_values import check_ascending, flag, spaced

Interpolation = Literal["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"]


@dataclass(frozen=True)
class AugmentationConfig:
    """timm's augmentation of training images, and rotation. Raises InputError: a value is not valid."""

    no_aug: bool = False
    train_crop_mode: Literal["rrc", "rkrc", "rkrr"] | None = None
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    hflip: float = 0.5
    vflip: float = 0.0
    rotation: float = 0.0
    color_jitter: tuple[float, ...] = (0.0,)
    grayscale_prob: float = 0.0
    aa: str | None = None
    reprob: float = 0.0
    remode: Literal["const", "rand", "pixel"] = "pixel"
    recount: int = 1
    train_interpolation: Interpolation | Literal["random"] = "bilinear"

    def __post_init__(self) -> None:
        check_ascending("--scale", self.scale)
        check_ascending("--ratio", self.ratio)
        if len(self.color_jitter) not in (1, 3, 4):
            raise input_error("--color-jitter", spaced(self.color_jitter), "must be one value, 3 or 4")


@dataclass(frozen=True)
class MixingConfig:
    """timm's mixup and cutmix of a batch. Raises InputError: values do not fit together."""

    mixup: float = 0.0
    cutmix: float = 0.0
    cutmix_minmax: tuple[float, float] | None = None
    mixup_prob: float = 1.0
    mixup_switch_prob: float = 0.5
    mixup_mode: Literal["batch", "pair", "elem"] = "batch"
    mixup_off_epoch: int = 0

    def __post_init__(self) -> None:
        cuts = bool(self.cutmix or self.cutmix_minmax)
        for each in fields(self):
            if not self.mixes and (value := getattr(self, each.name)) != each.default:
                raise input_error(flag(each.name), value, "needs --mixup, --cutmix or --cutmix-minmax")
        if self.mixup_switch_prob != MixingConfig.mixup_switch_prob and not (self.mixup and cuts):
            raise input_error("--mixup-switch-prob", self.mixup_switch_prob, "needs --mixup and --cutmix, to switch")
        check_ascending("--cutmix-minmax", self.cutmix_minmax or ())

    @property
    def mixes(self) -> bool:
        """Whether mixup or cutmix is enabled."""
        return bool(self.mixup or self.cutmix or self.cutmix_minmax)
