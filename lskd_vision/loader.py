"""Batches: timm's transforms and prefetcher, with an order and an augmentation that depend on three things alone, the
``--data-seed``, the epoch and the image.

Whatever the number of loader processes, of students and of restarts, the images of an epoch are the same.
"""

import argparse
import contextlib
import itertools
from collections.abc import Iterator
from multiprocessing.queues import Queue

import numpy as np
import torch
from PIL import Image
from timm.data import ImageDataset, auto_augment, create_transform
from timm.data.loader import PrefetchLoader
from torch._utils import ExceptionWrapper
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision import transforms

from lskd.io.errors import InputError, file_error_context, input_error
from lskd_vision.batches import collate, to_tensor
from lskd_vision.data import files
from lskd_vision.image_files import FORMATS, WHITE, convert
from lskd_vision.randomness import RandomStream, seed_all

SPREAD = 32  # images that say what white may be


class Images(Dataset):
    """Inputs and labels of a split; an item depends on ``data_seed``, its epoch and its number alone.

    Keys are pairs of epoch and number, from :class:`Order`.
    """

    def __init__(self, dataset: Dataset, transform, mode: str, data_seed: int, white: float | None = None):
        self.dataset, self.transform, self.mode, self.data_seed = dataset, transform, mode, data_seed
        self.white = white  # of grey images of more than 8 bits

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int]):
        epoch, number = key
        seed_all(self.data_seed, epoch, number)
        with self._naming(number):
            image, label = self._read(number)
            image = convert(image, self.mode, self.white)
        return self.transform(image), label

    def brightest(self, number: int) -> tuple[float, float] | None:
        """The highest value in a grey image of more than 8 bits, and what is white by default; None for others."""
        with self._naming(number):
            image, _ = self._read(number)
            return (np.asarray(image).max(), WHITE[image.mode]) if image.mode in WHITE else None

    def _read(self, number: int) -> tuple[Image.Image, int]:
        if not isinstance(self.dataset, ImageDataset):
            return self.dataset[number]
        # timm's data set would put the next image in the place of one that it cannot read.
        file, label = self.dataset.reader[number]
        return Image.open(file, formats=FORMATS), label

    @contextlib.contextmanager
    def _naming(self, number: int) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # a damaged file may raise anything inside its decoder
            which = files(self.dataset)[number][0] if files(self.dataset) else f"image {number}"
            raise input_error("--data-dir", which, f"cannot be read as {self.mode}: {error}") from None


class Order(Sampler):
    """The images of an epoch in the order of ``--data-seed``, this process's part of it; ``epoch`` is set from outside.

    Shuffled: batch b of process r of R is the (b·R + r)-th run of B images, so R processes see in one step what one
    process sees in R batches; what does not fill a batch in all of them is left out. Not shuffled: every R-th image.
    """

    def __init__(self, images: Images, batch_size: int, shuffle: bool, rank: int = 0, world_size: int = 1):
        self.images, self.batch_size, self.shuffle = images, batch_size, shuffle
        self.rank, self.world_size, self.epoch = rank, world_size, 0

    def __len__(self) -> int:
        total = len(self.images)
        if self.shuffle:
            return total // (self.batch_size * self.world_size) * self.batch_size
        return len(range(self.rank, total, self.world_size))

    def __iter__(self) -> Iterator[tuple[int, int]]:
        numbers = np.arange(len(self.images))
        if self.shuffle:
            numbers = np.random.default_rng([self.images.data_seed, self.epoch]).permutation(numbers)
            whole = numbers[: len(self) * self.world_size].reshape(-1, self.world_size, self.batch_size)
            numbers = whole[:, self.rank].ravel()
        else:
            numbers = numbers[self.rank :: self.world_size]
        return ((self.epoch, int(number)) for number in numbers)


class Loader:
    """Batches of an epoch on the device: (B, C, H, W) float32, normalised, and (B,) int64 labels."""

    def __init__(
        self, data: Dataset, config: dict, arguments: argparse.Namespace, device: torch.device, training: bool
    ):
        channels = config["input_size"][0]
        mode = arguments.input_img_mode or {1: "L", 3: "RGB", 4: "RGBA"}.get(channels)
        if mode is None:
            raise input_error("--input-img-mode", None, f"must be given for {channels} channels")
        transform = train_transform(arguments, config) if training else val_transform(config)
        batch_size = arguments.batch_size if training else arguments.validation_batch_size or arguments.batch_size
        images = Images(data, transform, mode, getattr(arguments, "data_seed", 0), arguments.max_pixel_value)
        self.order = Order(images, batch_size, training, arguments.rank, arguments.world_size)
        if training and not len(self.order):
            most = len(data) // arguments.world_size
            raise input_error("--batch-size", batch_size, f"must be at most {most}: {len(data)} images, all processes")
        check_channels(images, channels)
        check_white(images)
        batches = DataLoader(
            images,
            batch_size,
            sampler=self.order,
            num_workers=arguments.workers,
            collate_fn=collate,
            worker_init_fn=tell_of_lost_batches,
            pin_memory=arguments.pin_mem,
            persistent_workers=arguments.workers > 0,
            generator=torch.Generator(),  # the global one belongs to the models
        )
        erasing = {}
        if training and not arguments.no_aug:
            erasing = {"re_prob": arguments.reprob, "re_mode": arguments.remode, "re_count": arguments.recount}
        self.prefetcher = PrefetchLoader(
            batches, mean=config["mean"], std=config["std"], channels=channels, device=device, **erasing
        )
        self.channels_last = arguments.channels_last
        if self.prefetcher.random_erasing is not None:
            self.erasing, self.prefetcher.random_erasing = self.prefetcher.random_erasing, self._erase

    def __len__(self) -> int:
        return len(self.prefetcher)

    def ids(self, batch: int) -> list[int | str]:
        """The images of a batch of the epoch that has begun last, of this process: their files, or their numbers."""
        images, size = self.order.images, self.prefetcher.loader.batch_size
        numbers = [number for _, number in itertools.islice(self.order, batch * size, (batch + 1) * size)]
        known = files(images.dataset)
        return [str(getattr(known[number][0], "name", known[number][0])) for number in numbers] if known else numbers

    def epoch(self, number: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The batches of epoch ``number``.

        Raises:
            InputError: an image cannot be read, its file is named; or a loader process cannot hand its batch over.
        """
        self.order.epoch = number
        self.erased = 0
        try:
            with file_error_context("/dev/shm"):  # noqa: S108 (what loader processes hand over lies there)
                for images, labels in self.prefetcher:
                    if self.channels_last:
                        images = images.contiguous(memory_format=torch.channels_last)
                    yield images, labels
        except InputError as error:  # from a loader process, which puts its traceback before it
            error.__traceback__ = None  # it would keep the loader processes alive
            raise InputError(str(error).strip().splitlines()[-1].rpartition("lskd.io.errors.InputError: ")[2]) from None

    def _erase(self, images: torch.Tensor) -> torch.Tensor:
        # On the device, a batch at a time, by the batch's number among those of all processes.
        order = self.order
        batch = self.erased * order.world_size + order.rank
        self.erased += 1
        with RandomStream(images.device, order.images.data_seed, order.epoch, batch):
            return self.erasing(images)


def tell_of_lost_batches(_: int) -> None:
    """In a loader process, let a batch that cannot be handed over, as where shared memory is full, be an error.

    By default its traceback is printed, and the training waits for the batch for ever.
    """

    def put_error(queue: Queue, error: Exception, batch: tuple) -> None:
        told = input_error("--workers", "a batch", f"cannot be handed over in shared memory, /dev/shm: {error}")
        queue.put((batch[0], ExceptionWrapper((InputError, told, None))))

    Queue._on_queue_feeder_error = put_error  # made for overriding


def train_transform(arguments: argparse.Namespace, config: dict):
    """timm's training transform for one image, to uint8, and a rotation where one is asked for."""
    jitter = tuple(arguments.color_jitter)
    if not (any(jitter) or arguments.grayscale_prob):  # it would draw random numbers, and nothing after it needs them
        jitter = (None,)
    try:
        transform = create_transform(
            config["input_size"],
            is_training=True,
            use_prefetcher=True,
            no_aug=arguments.no_aug,
            train_crop_mode=arguments.train_crop_mode,
            scale=arguments.scale,
            ratio=arguments.ratio,
            hflip=arguments.hflip,
            vflip=arguments.vflip,
            color_jitter=jitter[0] if len(jitter) == 1 else jitter,
            grayscale_prob=arguments.grayscale_prob,
            auto_augment=arguments.aa,
            interpolation=arguments.train_interpolation,
            mean=config["mean"],
            std=config["std"],
        )
    except (AssertionError, KeyError, ValueError) as error:
        raise input_error("--aa", arguments.aa, f"must be a policy in timm's words: {error}") from None
    if arguments.rotation and not arguments.no_aug:
        # Before the colours, which follow the crop and the flips.
        steps = transform.transforms
        place = 1 + max(i for i, step in enumerate(steps) if "Crop" in str(step) or "Flip" in str(step))
        steps.insert(place, transforms.RandomRotation(arguments.rotation))
    transform.transforms[-1] = to_tensor
    return transform


def posterize(image: Image.Image, bits_to_keep: int, **_) -> Image.Image:
    """timm's operation; with 0 bits, to which RandAugment comes and which Pillow 13 refuses, the image is black."""
    return auto_augment.posterize(image, bits_to_keep) if bits_to_keep else Image.new(image.mode, image.size)


auto_augment.NAME_TO_OP |= dict.fromkeys(("Posterize", "PosterizeIncreasing", "PosterizeOriginal"), posterize)


def val_transform(config: dict):
    """timm's evaluation transform for one image, to uint8: resize and centre crop."""
    transform = create_transform(
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


def check_channels(images: Images, channels: int) -> None:
    """Read one image and check that it has the channels that the model wants.

    Raises:
        InputError: it has not, or it cannot be read.
    """
    image, _ = images[0, 0]
    if len(image) != channels:
        raise input_error("--input-img-mode", images.mode, f"gives {len(image)} channels, the model wants {channels}")


def check_white(images: Images) -> None:
    """Check that grey images of more than 8 bits use more than half of their range, unless white is given.

    Images of 12 bits in files of 16 would be nearly black, without a word. :data:`SPREAD` images are asked.

    Raises:
        InputError: they do not, or one of them cannot be read.
    """
    if images.white is not None or images.brightest(0) is None:
        return
    numbers = sorted({len(images) * part // SPREAD for part in range(SPREAD)})
    found = [each for each in map(images.brightest, numbers) if each]
    highest, white = max(found)
    if all(value <= white / 2 for value, white in found):
        valid = f"must be given: {len(found)} images spread over the split have no value above {highest:g}"
        raise input_error("--max-pixel-value", None, f"{valid}, white is {white} by default")
