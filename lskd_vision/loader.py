"""Load batches with timm's prefetcher, in a reproducible order and with reproducible augmentation.

Both depend on ``--data-seed``, the epoch and the image alone: the images of an epoch are the same for any number of
loader processes, students and restarts.
"""

import contextlib
import itertools
from collections.abc import Generator, Iterator
from multiprocessing.queues import Queue
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data import ImageDataset
from timm.data.loader import PrefetchLoader
from torch._utils import ExceptionWrapper
from torch.utils.data import DataLoader, Dataset, Sampler

from lskd.io.errors import InputError, file_error_context, input_error
from lskd_vision.augmentation import Transform, train_transform, val_transform
from lskd_vision.augmentation_config import AugmentationConfig
from lskd_vision.batches import collate
from lskd_vision.config import EvaluationConfig, TrainingConfig
from lskd_vision.data import DataConfig, Split, image_samples
from lskd_vision.image_files import FORMATS, WHITE, ImageMode, convert
from lskd_vision.randomness import RandomStream, seed_all

MODES_OF_CHANNELS: dict[int, ImageMode] = {1: "L", 3: "RGB", 4: "RGBA"}
SPREAD = 32  # images that check_white reads


class Images(Dataset[tuple[torch.Tensor, int]]):
    """Inputs and labels of a split; an item depends on ``data_seed``, its epoch and its index alone.

    Keys are pairs of epoch and index, from :class:`Order`. If the transform draws no random numbers, ``seeded`` may
    be False: seeding takes a sixth of the time of loading a small image.
    """

    def __init__(
        self,
        dataset: Split,
        transform: Transform,
        mode: ImageMode,
        data_seed: int,
        white: float | None = None,
        seeded: bool = True,
    ) -> None:
        self.dataset, self.transform, self.mode, self.data_seed = dataset, transform, mode, data_seed
        self.white = white  # the value of white in grey images of more than 8 bits
        self.seeded = seeded

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: tuple[int, int]) -> tuple[torch.Tensor, int]:
        epoch, number = index
        if self.seeded:
            seed_all(self.data_seed, epoch, number)
        with self._error_context(number):
            image, label = self._read(number)
            image = convert(image, self.mode, self.white)
        return self.transform(image), label

    def brightest(self, number: int) -> tuple[float, float] | None:
        """The highest value in a grey image of more than 8 bits, and the default for white; None for other images."""
        with self._error_context(number):
            image, _ = self._read(number)
            return (np.asarray(image).max(), WHITE[image.mode]) if image.mode in WHITE else None

    def _read(self, number: int) -> tuple[Image.Image, int]:
        if not isinstance(self.dataset, ImageDataset):
            return self.dataset[number]
        # timm's data set would replace an image that it cannot read by the next.
        file, label = self.dataset.reader[number]
        return Image.open(file, formats=FORMATS), label

    @contextlib.contextmanager
    def _error_context(self, number: int) -> Generator[None, None, None]:
        try:
            yield
        except Exception as error:  # a damaged file may raise anything inside its decoder
            which = image_samples(self.dataset)[number][0] if image_samples(self.dataset) else f"image {number}"
            raise input_error("--data-dir", which, f"cannot be read as {self.mode}: {error}") from None


class Order(Sampler[tuple[int, int]]):
    """Sample this process's images of an epoch, shuffled by ``--data-seed`` and ``epoch``, which the loader sets.

    Shuffled: batch b of process r of R is the (b·R + r)-th run of B images, so R processes see in one step what one
    process sees in R batches; images that do not fill a batch in every process are left out. Not shuffled: every R-th
    image.
    """

    def __init__(self, images: Images, batch_size: int, shuffle: bool, rank: int = 0, world_size: int = 1) -> None:
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
    """Batches of an epoch on the device: (B, C, H, W) float32, normalised, and (B,) int64 labels.

    Args:
        data: a split.
        data_config: the model's data configuration.
        config: how images are read, loaded, put on the device and divided among processes.
        batch_size: images in a batch of this process.
        augmentation: for training images, which are shuffled; None for every image once, in the split's order.
        data_seed: the seed of order and augmentation.

    Raises:
        InputError: the images do not fit the model, one cannot be read, or there is less than one batch to train on.
    """

    def __init__(
        self,
        data: Split,
        data_config: DataConfig,
        config: EvaluationConfig,
        batch_size: int,
        augmentation: AugmentationConfig | None = None,
        data_seed: int = 0,
    ) -> None:
        channels = data_config["input_size"][0]
        mode = config.input.input_img_mode or MODES_OF_CHANNELS.get(channels)
        if mode is None:
            raise input_error("--input-img-mode", None, f"must be given for {channels} channels")
        transform = train_transform(augmentation, data_config) if augmentation else val_transform(data_config)
        dataset = Images(data, transform, mode, data_seed, config.input.max_pixel_value, augmentation is not None)
        self.order = Order(
            dataset, batch_size, augmentation is not None, config.processes.rank, config.processes.world_size
        )
        if augmentation and not len(self.order):
            most = len(data) // config.processes.world_size
            raise input_error(
                "--batch-size", batch_size, f"must be at most {most}: {len(data)} images shared by all processes"
            )
        check_channels(dataset, channels)
        check_white(dataset)
        batches = DataLoader(
            dataset,
            batch_size,
            sampler=self.order,
            num_workers=config.loader.workers,
            collate_fn=collate,
            worker_init_fn=raise_lost_batches,
            pin_memory=config.loader.pin_mem,
            persistent_workers=config.loader.workers > 0,
            generator=torch.Generator(),  # the global generator is for the models
        )
        erasing: dict[str, Any] = {}
        if augmentation and not augmentation.no_aug:
            erasing = {"re_prob": augmentation.reprob, "re_mode": augmentation.remode, "re_count": augmentation.recount}
        self.prefetcher = PrefetchLoader(
            batches,
            mean=data_config["mean"],
            std=data_config["std"],
            channels=channels,
            device=config.device.torch_device,
            **erasing,
        )
        self.channels_last = config.device.channels_last
        if self.prefetcher.random_erasing is not None:
            self.erasing, self.prefetcher.random_erasing = self.prefetcher.random_erasing, self._erase

    @classmethod
    def for_training(cls, data: Split, data_config: DataConfig, config: TrainingConfig) -> "Loader":
        """Augmented images, shuffled anew in each epoch."""
        batch_size, data_seed = config.optimisation.batch_size, config.run.data_seed
        return cls(data, data_config, config, batch_size, config.augmentation, data_seed)

    @classmethod
    def for_evaluation(cls, data: Split, data_config: DataConfig, config: EvaluationConfig) -> "Loader":
        """Every image once, without augmentation, in the split's order."""
        return cls(data, data_config, config, config.validation_batch_size)

    def __len__(self) -> int:
        return len(self.prefetcher)

    def ids(self, batch: int) -> list[int | str]:
        """The files, or else the indices, of this process's images in a batch of the current epoch."""
        images, size = self.order.images, self.order.batch_size
        numbers = [number for _, number in itertools.islice(self.order, batch * size, (batch + 1) * size)]
        known = image_samples(images.dataset)
        if not known:
            return [*numbers]
        return [str(getattr(known[number][0], "name", known[number][0])) for number in numbers]

    def epoch(self, number: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The batches of epoch ``number``.

        Raises:
            InputError: an image cannot be read, and the message names its file; or a loader process cannot hand its
                batch over.
        """
        self.order.epoch = number
        self.erased = 0
        try:
            with file_error_context("/dev/shm"):  # noqa: S108 (where loader processes put their batches)
                for images, labels in self.prefetcher:
                    if self.channels_last:
                        images = images.contiguous(memory_format=torch.channels_last)
                    yield images, labels
        except InputError as error:  # from a loader process, which prepends its traceback
            error.__traceback__ = None  # it would keep the loader processes alive
            raise InputError(str(error).strip().splitlines()[-1].rpartition("lskd.io.errors.InputError: ")[2]) from None

    def _erase(self, images: torch.Tensor) -> torch.Tensor:
        # On the device, a batch at a time, seeded by the batch's number among those of all processes.
        order = self.order
        batch = self.erased * order.world_size + order.rank
        self.erased += 1
        with RandomStream(images.device, order.images.data_seed, order.epoch, batch):
            return self.erasing(images)


def raise_lost_batches(_: int) -> None:
    """Make a loader process report an error if it cannot hand a batch over, as when shared memory is full.

    By default its traceback is printed, and training waits for the batch for ever.
    """

    def put_error(queue: "Queue[Any]", error: Exception, batch: tuple[Any, ...]) -> None:
        lost = input_error("--workers", "a batch", f"cannot be handed over in shared memory, /dev/shm: {error}")
        queue.put((batch[0], ExceptionWrapper((InputError, lost, None))))

    Queue._on_queue_feeder_error = put_error  # meant to be overridden


def check_channels(images: Images, channels: int) -> None:
    """Read one image and check that it has as many channels as the model expects.

    Raises:
        InputError: the numbers differ, or the image cannot be read.
    """
    image, _ = images[0, 0]
    if len(image) != channels:
        raise input_error("--input-img-mode", images.mode, f"gives {len(image)} channels, the model wants {channels}")


def check_white(images: Images) -> None:
    """Check that grey images of more than 8 bits use more than half of their range, unless white is given.

    12-bit images in 16-bit files would silently become nearly black. :data:`SPREAD` images are checked.

    Raises:
        InputError: they do not, or one of them cannot be read.
    """
    if images.white is not None:
        return
    numbers = sorted({len(images) * part // SPREAD for part in range(SPREAD)})
    found = [each for each in map(images.brightest, numbers) if each]
    if found and all(value <= white / 2 for value, white in found):
        highest, white = max(found)
        seen = f"{len(found)} of {len(numbers)} images that were looked at have more than 8 bits, none a value above"
        raise input_error("--max-pixel-value", None, f"must be given: {seen} {highest:g}; white is {white} by default")
