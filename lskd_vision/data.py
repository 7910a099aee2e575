"""Read and check data sets: their splits, classes, fingerprints and the preprocessing of their images.

To support another kind of data set, add a case to :func:`read_split`.
"""

import functools
import hashlib
import logging
import os
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypedDict

import numpy as np
import torch
from timm.data import ImageDataset, create_dataset, resolve_data_config

from lskd.io.errors import input_error, shortened
from lskd_vision.class_order import ClassOrder, torchvision_order
from lskd_vision.config import DatasetConfig, InputConfig
from lskd_vision.config_values import spaced
from lskd_vision.image_arrays import NAME as ARRAYS
from lskd_vision.image_arrays import ImageArrays
from lskd_vision.image_folders import ImageFolders, read_class_map
from lskd_vision.processes import same_in_all_processes
from lskd_vision.timm_model import TimmModel

logger = logging.getLogger(__name__)
# Data sets with a folder for each class, and the order of their classes; --class-order may change the first's.
FOLDERS: dict[str, ClassOrder] = {"": "natural", "torch/image_folder": "torchvision", "torch/folder": "torchvision"}
# torchvision's data sets that say which classes they have, by timm's names; ImageNet is read as folders. To timm any
# other origin means folders too, read in its own way.
TORCHVISION = ("cifar10", "cifar100", "mnist", "kmnist", "fashion_mnist", "qmnist", "places365")
# timm's kinds of data sets whose images have no index or may change, with the reason to reject them.
NOT_REPEATABLE = dict.fromkeys(("hfids", "tfds", "wds"), "is a stream whose order cannot be repeated")
NOT_REPEATABLE["hfds"] = "is fetched from a hub, where it may change"
SYNONYMS = (("train", "training"), ("val", "valid", "validation", "eval", "evaluation"))  # for timm, in its order


class DataConfig(TypedDict):
    """timm's data configuration of a model: how images are preprocessed.

    Attributes:
        input_size: channels, height and width.
        interpolation: for validation images.
        mean: per channel, for pixels from 0 to 1.
        std: likewise.
        crop_pct: the fraction of a validation image that is kept.
        crop_mode: how a validation image is cropped.
    """

    input_size: tuple[int, int, int]
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_pct: float
    crop_mode: str


class Split(Protocol):
    """A split: a map-style data set of PIL images and integer labels."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[Any, Any]: ...


@dataclass(frozen=True)
class Data:
    """The training and validation splits of a data set.

    Attributes:
        name: the data set's name, for directories.
        train: the training split.
        val: the validation split.
        class_names: K names in the order of their labels.
    """

    name: str
    train: Split
    val: Split
    class_names: list[str]

    @property
    def num_classes(self) -> int:
        """The number of classes, K."""
        return len(self.class_names)

    def record(self, config: DatasetConfig) -> dict[str, Any]:
        """The description of the data in a run record."""
        return {
            "path": str(config.data_dir.resolve()),
            "dataset": config.dataset or "folders",
            "splits": {config.train_split: len(self.train), config.val_split: len(self.val)},
            "split_fingerprints": {
                config.train_split: fingerprint(self.train),
                config.val_split: fingerprint(self.val),
            },
            "classes": self.class_names,
            "fingerprint": fingerprint(self.train, self.val),
        }


def load_data(config: DatasetConfig) -> Data:
    """Load both splits, and check that they exist, have images, and have the same classes with the same labels.

    Raises:
        InputError: a check fails.
    """
    train, val = (load_split(config, split) for split in (config.train_split, config.val_split))
    sources = [own for split in (train, val) if (own := own_source(split))]
    for source in sources:
        if source.missing:
            what = "without a folder" if isinstance(source, ImageFolders) else "of no class"
            found = f"has names {what} in {source.root}: {shortened(source.missing)}"
            raise input_error("--class-map", config.class_map, found)
    names = class_names(train)
    if names is None or len(names) < 2:
        raise input_error("--data-dir", config.data_dir, f"has {len(names or ())} classes, must be at least 2")
    if (others := class_names(val)) != names:
        odd = sorted(set(names).symmetric_difference(others or ()))
        # Composed and decomposed characters, as in archives made on a Mac, look alike.
        alike = len({unicodedata.normalize("NFC", name) for name in odd}) < len(odd)
        shown = ascii(odd[:3]) if alike else odd[:3]
        raise input_error("--data-dir", config.data_dir, f"train and validation differ in their classes: {shown}")
    if sources and os.path.samefile(*(source.root for source in sources)):
        logger.warning(f"train and validation are the same images: {sources[1].root}")
    origin = "" if config.dataset == ARRAYS else config.dataset  # arrays are named by their directory, as folders are
    name = origin.split("/")[-1].replace(":", "-") or config.data_dir.resolve().name
    return Data(name, train, val, names)


def load_split(config: DatasetConfig, split: str) -> Split:
    """Load a split without a transform, check that it is the same in all processes, and print a line to stderr.

    Raises:
        InputError: there is no such data set or split, or it is not the same in all processes.
    """
    load = functools.partial(read_split, config, split)
    dataset = same_in_all_processes(load, fingerprint, f"{config.data_dir}, split {split}")
    print(f"{split}: {summary(dataset, config)}", file=sys.stderr)
    return dataset


def read_split(config: DatasetConfig, split: str) -> Split:
    """Read a split: folders and arrays with this project's readers, torchvision's data sets by way of timm.

    Raises:
        InputError: there is no such data set or split.
    """
    origin, _, name = config.dataset.partition("/")
    if reason := NOT_REPEATABLE.get(origin.lower()):
        raise input_error("--dataset", config.dataset, f"{reason}: save its images as a folder for each class")
    if config.dataset not in (*FOLDERS, ARRAYS) and (origin != "torch" or name.lower() not in TORCHVISION):
        named = f"{ARRAYS}, torch/image_folder, or torch/ and one of {', '.join(TORCHVISION)}"
        raise input_error("--dataset", config.dataset, f"must be empty for folders, {named}")
    if config.class_map and (Path(config.class_map).suffix != ".txt" or config.dataset.startswith("torch/")):
        raise input_error(
            "--class-map", config.class_map, "must be a .txt file, a class a line; torchvision's take none"
        )
    if config.class_order and config.dataset:
        raise input_error(
            "--class-order",
            config.class_order,
            f"applies to image folders only; {config.dataset} has its own class order",
        )
    if config.dataset in (*FOLDERS, ARRAYS):
        return read_directory(config, split)
    try:
        dataset: Any = create_dataset(
            config.dataset, root=str(config.data_dir), split=split, download=config.dataset_download
        )
        size = len(dataset)
    except (AssertionError, OSError, RuntimeError, ValueError, KeyError, ImportError) as error:
        raise input_error("--data-dir", config.data_dir, f"cannot be read, split {split}: {error}") from None
    if getattr(dataset, "train", None) is False and split not in (*SYNONYMS[1], "test"):
        # torchvision's small data sets have two splits, and timm takes any other word to mean the second.
        raise input_error("--data-dir", config.data_dir, f"has no split {split}, only train and validation")
    if not size:
        raise input_error("--data-dir", config.data_dir, f"split {split} has no images")
    return dataset


def read_directory(config: DatasetConfig, split: str) -> ImageDataset | ImageArrays:
    """Read a split from its directory, which may have any of timm's names for it.

    Raises:
        InputError: there is no such directory; or see :class:`lskd_vision.image_folders.ImageFolders` and
            :class:`lskd_vision.image_arrays.ImageArrays`.
    """
    names = (split, *next((names for names in SYNONYMS if split in names), ()))
    root = next((root for name in names if (root := config.data_dir / name).is_dir()), None)
    if root is None:
        content = "images.npy and labels.npy" if config.dataset == ARRAYS else "a folder for each class"
        raise input_error("--data-dir", config.data_dir / split, f"must be a directory with {content}")
    class_map = None
    if given := config.class_map:  # timm finds it in the split's directory too
        class_map = read_class_map(given if Path(given).exists() or not (root / given).exists() else root / given)
    if config.dataset == ARRAYS:
        return ImageArrays(root, class_map)
    reader = ImageFolders(root, config.class_order or FOLDERS[config.dataset], class_map)
    return ImageDataset(reader.root, reader)


def own_source(split: Split) -> ImageFolders | ImageArrays | None:
    """The source of a split's images if it is one of this project's; None for torchvision's."""
    source = getattr(split, "reader", split)
    return source if isinstance(source, ImageFolders | ImageArrays) else None


def summary(dataset: Split, config: DatasetConfig) -> str:
    """Describe a split in one line: its numbers of images and classes, and what is not read."""
    names, source = class_names(dataset) or [], own_source(dataset)
    text = f"{len(dataset)} images" + (f" in {len(names)} classes" if names else "")
    if source is None:
        return text
    if isinstance(source, ImageFolders) and not (config.class_map or config.class_order or config.dataset):
        # Another project's checkpoint does not say which of the two orders its classes have.
        pairs = enumerate(zip(names, torchvision_order(names), strict=True))
        if difference := next(((number, *pair) for number, pair in pairs if pair[0] != pair[1]), None):
            number, ours, theirs = difference
            text += f", class {number} is {ours} (torchvision's would be {theirs}: --class-order torchvision)"
    if source.missing:
        what = "folder for" if isinstance(source, ImageFolders) else "images of"
        text += f"; no {what} {shortened(source.missing)} of --class-map"
    return text + source.left_out_text()


def class_names(dataset: Split) -> list[str] | None:
    """The class names in the order of their labels; None if the data set has none."""
    if mapping := _attribute(dataset, "class_to_idx"):
        return [str(name) for name, _ in sorted(mapping.items(), key=lambda item: item[1])]
    names = getattr(dataset, "classes", None)
    return [str(name) for name in names] if names is not None else None


def image_samples(dataset: Split) -> Sequence[tuple[Any, ...]]:
    """The file and the label of every image; empty if the images are not separate files."""
    return _attribute(dataset, "samples") or getattr(dataset, "imgs", ())


def _attribute(dataset: Split, name: str) -> Any:
    """An attribute of a data set, which those of timm have at their reader; None if there is none."""
    return getattr(getattr(dataset, "reader", None), name, None) or getattr(dataset, name, None)


def fingerprint(*splits: Split) -> str:
    """Compute one SHA-256 over splits: of pixels and labels if in memory, else of file names and labels."""
    digest = hashlib.sha256()
    for dataset in splits:
        if isinstance(pixels := getattr(dataset, "data", None), torch.Tensor | np.ndarray):
            digest.update(np.ascontiguousarray(pixels).data)
            digest.update(np.asarray(getattr(dataset, "targets"), dtype=np.int64).data)  # noqa: B009
            continue
        root = str(_attribute(dataset, "root") or "")
        prefix = os.path.join(root, "") if root else ""
        for sample in image_samples(dataset):
            name = str(getattr(sample[0], "name", sample[0])).removeprefix(prefix).replace(os.sep, "/")
            digest.update(os.fsencode(f"{name} {sample[1]}\n"))
        digest.update(f"{len(dataset)}\n".encode())
    return digest.hexdigest()


def data_config(config: InputConfig, model: TimmModel) -> DataConfig:
    """Determine how images are preprocessed for ``model``.

    What ``config`` leaves open, the model decides. Models with equal configurations can share their batches.

    Raises:
        InputError: ``--mean`` or ``--std`` has neither one value nor one for each channel.
    """
    names = ("img_size", "input_size", "in_chans", "interpolation", "crop_pct")
    wanted = {name: value for name in names if (value := getattr(config, name)) is not None}
    found: Any = resolve_data_config(wanted, model=model)
    made_for = config.in_chans or getattr(model, "in_chans", None)
    if made_for and not config.input_size:  # timm only knows the channels of the pretrained model
        found["input_size"] = (made_for, *found["input_size"][1:])
    channels = found["input_size"][0]
    for name, given in (("mean", config.mean), ("std", config.std)):
        if given is not None and len(given) not in (1, channels):
            raise input_error(f"--{name}", spaced(given), f"must be one value, or {channels}")
        found[name] = per_channel(given or found[name], channels)
    return found


def per_channel(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """A mean or standard deviation for each channel: the average of the values if their number differs.

    >>> per_channel((0.25, 0.5, 0.75), 1)
    (0.5,)
    """
    values = [float(value) for value in values]
    return tuple(values) if len(values) == channels else (sum(values) / len(values),) * channels
