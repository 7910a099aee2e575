import numpy as np
import pytest
import torch
from helpers.vision_commands import configured
from PIL import Image
from timm.data import create_transform
from timm.data.loader import fast_collate
from torch.utils.data import Dataset
from torchvision.transforms.functional import pil_to_tensor

from lskd_vision.augmentation import train_transform, val_transform
from lskd_vision.batches import collate, to_tensor
from lskd_vision.image_files import MODES
from lskd_vision.loader import Images

CONFIG = {"mean": (0.5,), "std": (0.5,), "crop_pct": 0.9, "crop_mode": "center", "interpolation": "bicubic"}


class RandomImages(Dataset):
    """Noise, 40x36, with labels 0, 1, 2, …"""

    def __init__(self, mode: str) -> None:
        self.mode = mode

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        pixels = np.random.default_rng(index).integers(0, 256, (36, 40, 4), np.uint8)
        return Image.fromarray(pixels).convert(self.mode), index


@pytest.mark.parametrize("mode", MODES)
def test_an_image_becomes_torchvisions_tensor(mode):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)).convert(mode)
    assert torch.equal(to_tensor(image), pil_to_tensor(image))


def test_a_batch_is_timms():
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (6, 3, 4, 4), np.uint8))
    items = [(image, label) for image, label in zip(images, [3, np.int64(1), torch.tensor(2), 0, 5, 4], strict=True)]
    ours = collate(items)
    theirs = fast_collate([(image, int(label)) for image, label in items])
    for one, other in zip(ours, theirs, strict=True):
        assert one.dtype == other.dtype
        assert one.is_contiguous()
        assert torch.equal(one, other)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize(
    "words",
    [
        "",
        "--hflip 0",
        "--no-aug",
        "--vflip .5 --scale .8 1 --ratio .9 1.1 --train-interpolation random",
        "--color-jitter .4",
        "--color-jitter 0 .3 0 --grayscale-prob .5",
        "--grayscale-prob .5",
        "--train-crop-mode rkrr --scale .8 1",
        "--aa rand-m9-mstd0.5",
        "--aa 3a --color-jitter 0",
    ],
)
def test_training_images_are_those_of_timms_own_transform(words, mode, tmp_path):
    made = configured(tmp_path, words).augmentation
    config = CONFIG | {"input_size": (len(mode), 24, 24)}
    theirs = create_transform(
        config["input_size"],
        is_training=True,
        use_prefetcher=True,
        no_aug=made.no_aug,
        train_crop_mode=made.train_crop_mode,
        scale=made.scale,
        ratio=made.ratio,
        hflip=made.hflip,
        vflip=made.vflip,
        color_jitter=made.color_jitter if len(made.color_jitter) > 1 else made.color_jitter[0],
        grayscale_prob=made.grayscale_prob,
        auto_augment=made.aa,
        interpolation=made.train_interpolation,
        mean=config["mean"],
        std=config["std"],
    )
    compare(Images(RandomImages(mode), train_transform(made, config), mode, 1), theirs)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_validation_images_are_those_of_timms_own_transform(mode):
    config = CONFIG | {"input_size": (len(mode), 24, 24)}
    theirs = create_transform(
        config["input_size"], use_prefetcher=True, interpolation="bicubic", mean=(0.5,), std=(0.5,), crop_pct=0.9
    )
    compare(Images(RandomImages(mode), val_transform(config), mode, 1), theirs)


def compare(images: Images, theirs) -> None:
    """Check that ``images`` and timm's transform in its place give the same batches in two epochs."""
    others = Images(images.dataset, theirs, images.mode, images.data_seed)
    for epoch in (0, 1):
        ours = collate([images[epoch, number] for number in range(len(images))])
        expected = fast_collate([others[epoch, number] for number in range(len(images))])
        for one, other in zip(ours, expected, strict=True):
            assert one.dtype == other.dtype
            assert torch.equal(one, other)
