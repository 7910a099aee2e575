"""Data sets: timm's, both splits checked, their classes, their fingerprint, and how an image becomes an input."""

import argparse
import functools
import hashlib
import logging
import os
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from timm.data import ImageDataset, create_dataset, resolve_data_config
from torch import nn
from torch.utils.data import Dataset, IterableDataset

from lskd.io.errors import input_error
from lskd_vision.class_order import torchvision_order
from lskd_vision.image_arrays import NAME as ARRAYS
from lskd_vision.image_arrays import ImageArrays
from lskd_vision.image_folders import ImageFolders, read_class_map, shortened
from lskd_vision.processes import same_in_all_processes

logger = logging.getLogger(__name__)
# A folder for each class, and the order of the classes; without --dataset another may be asked for.
FOLDERS = {"": "natural", "torch/image_folder": "torchvision", "torch/folder": "torchvision"}
SYNONYMS = (("train", "training"), ("val", "valid", "validation", "eval", "evaluation"))  # to timm, in its order


@dataclass
class Data:
    """The train and validation split.

    Attributes:
        name: of the data set, for directories.
        train: a map-style data set of PIL images and integer labels.
        val: likewise.
        class_names: K names in the order of their labels.
    """

    name: str
    train: Dataset
    val: Dataset
    class_names: list[str]

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    def record(self, arguments: argparse.Namespace) -> dict:
        """What a run record says of the data."""
        return {
            "path": str(arguments.data_dir.resolve()),
            "dataset": arguments.dataset or "folders",
            "splits": {arguments.train_split: len(self.train), arguments.val_split: len(self.val)},
            "split_fingerprints": {
                arguments.train_split: fingerprint(self.train),
                arguments.val_split: fingerprint(self.val),
            },
            "classes": self.class_names,
            "fingerprint": fingerprint(self.train, self.val),
        }


def load_data(arguments: argparse.Namespace) -> Data:
    """Both splits, checked: they exist, have images, and the same classes under the same labels.

    Raises:
        InputError: they do not.
    """
    train, val = (load_split(arguments, split) for split in (arguments.train_split, arguments.val_split))
    for source in map(source_of, (train, val)):
        if isinstance(source, ImageFolders | ImageArrays) and source.missing:
            what = "that are not in" if isinstance(source, ImageArrays) else "without a folder in"
            raise input_error(
                "--class-map", arguments.class_map, f"has names {what} {source.root}: {shortened(source.missing)}"
            )
    names = class_names(train)
    if names is None or len(names) < 2:
        raise input_error("--data-dir", arguments.data_dir, f"has {len(names or ())} classes (must be at least 2)")
    if (others := class_names(val)) != names:
        odd = sorted(set(names).symmetric_difference(others or ()))
        # Composed and decomposed characters, as of a Mac's archive, look alike.
        alike = len({unicodedata.normalize("NFC", name) for name in odd}) < len(odd)
        shown = ascii(odd[:3]) if alike else odd[:3]
        raise input_error("--data-dir", arguments.data_dir, f"train and validation differ in their classes: {shown}")
    roots = [each.root for each in map(source_of, (train, val)) if isinstance(each, ImageFolders | ImageArrays)]
    if roots and os.path.samefile(*roots):
        logger.warning(f"train and validation are the same images: {roots[1]}")
    dataset = "" if arguments.dataset == ARRAYS else arguments.dataset  # named by its directory, as folders are
    name = dataset.split("/")[-1].replace(":", "-") or arguments.data_dir.resolve().name
    return Data(name, train, val, names)


def load_split(arguments: argparse.Namespace, split: str) -> Dataset:
    """One split without a transform, the same in all processes; a line on standard error says what is in it.

    Raises:
        InputError: there is no such data set or split, or not the same in all processes.
    """
    load = functools.partial(read_split, arguments, split)
    dataset = same_in_all_processes(load, fingerprint, f"{arguments.data_dir}, split {split}")
    print(f"{split}: {summary(dataset, arguments)}", file=sys.stderr)
    return dataset


def read_split(arguments: argparse.Namespace, split: str) -> Dataset:
    """One split: our reader's of folders, else as timm's ``create_dataset`` makes it.

    Raises:
        InputError: there is no such data set or split.
    """
    if arguments.dataset and "/" not in arguments.dataset:  # timm would read folders
        raise input_error(
            "--dataset", arguments.dataset, "must be empty for folders, or with its origin: torch/fashion_mnist"
        )
    if arguments.class_map and (Path(arguments.class_map).suffix != ".txt" or arguments.dataset.startswith("torch/")):
        raise input_error(
            "--class-map", arguments.class_map, "must be a .txt file, a class a line; torchvision's take none"
        )
    if arguments.class_order and arguments.dataset:
        raise input_error(
            "--class-order", arguments.class_order, f"is of folders, {arguments.dataset} has an order of its own"
        )
    if arguments.dataset in (*FOLDERS, ARRAYS):
        return read_directory(arguments, split)
    if arguments.dataset.startswith("lskd/"):
        raise input_error("--dataset", arguments.dataset, f"must be {ARRAYS}, the one of this project")
    try:
        dataset = create_dataset(
            arguments.dataset,
            root=str(arguments.data_dir),
            split=split,
            class_map=arguments.class_map,
            download=arguments.dataset_download,
        )
        size = None if isinstance(dataset, IterableDataset) else len(dataset)
    except (AssertionError, OSError, RuntimeError, ValueError, KeyError, ImportError) as error:
        raise input_error("--data-dir", arguments.data_dir, f"cannot be read, split {split}: {error}") from None
    if getattr(dataset, "train", None) is False and split not in (*SYNONYMS[1], "test"):
        # torchvision's small data sets have two splits, and timm takes any other word for the second.
        raise input_error("--data-dir", arguments.data_dir, f"has no split {split}, only train and validation")
    if size is None:
        raise input_error("--dataset", arguments.dataset, "must be one whose images can be had by their number")
    if not size:
        raise input_error("--data-dir", arguments.data_dir, f"split {split} has no images")
    return dataset


def read_directory(arguments: argparse.Namespace, split: str) -> ImageDataset | ImageArrays:
    """A split that is a directory: of a folder for each class, or of arrays; timm's other words for a split are tried.

    Raises:
        InputError: there is no such directory; or as :class:`lskd_vision.image_folders.ImageFolders` and
            :class:`lskd_vision.image_arrays.ImageArrays` say.
    """
    names = (split, *next((names for names in SYNONYMS if split in names), ()))
    root = next((root for name in names if (root := arguments.data_dir / name).is_dir()), None)
    if root is None:
        what = "images.npy and labels.npy" if arguments.dataset == ARRAYS else "a folder for each class"
        raise input_error("--data-dir", arguments.data_dir / split, f"must be a directory with {what}")
    class_map = None
    if given := arguments.class_map:  # timm finds it in the split's directory too
        class_map = read_class_map(given if Path(given).exists() or not (root / given).exists() else root / given)
    if arguments.dataset == ARRAYS:
        return ImageArrays(root, class_map)
    reader = ImageFolders(root, arguments.class_order or FOLDERS[arguments.dataset], class_map)
    return ImageDataset(reader.root, reader)


def source_of(dataset: Dataset) -> object:
    """What reads the images: timm's reader where there is one, else the data set itself."""
    return getattr(dataset, "reader", dataset)


def summary(dataset: Dataset, arguments: argparse.Namespace) -> str:
    """What a split holds, and what of it is not read, in a line."""
    names, source = class_names(dataset) or [], source_of(dataset)
    text = f"{len(dataset)} images" + (f" in {len(names)} classes" if names else "")
    if not isinstance(source, ImageFolders | ImageArrays):
        return text
    if isinstance(source, ImageFolders) and not (arguments.class_map or arguments.class_order or arguments.dataset):
        # A checkpoint of others does not say which of the two orders its classes have.
        pairs = enumerate(zip(names, torchvision_order(names), strict=True))
        if difference := next(((number, *pair) for number, pair in pairs if pair[0] != pair[1]), None):
            number, ours, theirs = difference
            text += f", class {number} is {ours} (torchvision's would be {theirs}: --class-order torchvision)"
    if source.missing:
        what = "folder for" if isinstance(source, ImageFolders) else "images of"
        text += f"; no {what} {shortened(source.missing)} of --class-map"
    return text + source.left_out_text()


def class_names(dataset: Dataset) -> list[str] | None:
    """The classes in the order of their labels; None where the data set does not tell."""
    mapping = getattr(getattr(dataset, "reader", None), "class_to_idx", None) or getattr(dataset, "class_to_idx", None)
    if mapping:
        return [str(name) for name, _ in sorted(mapping.items(), key=lambda item: item[1])]
    names = getattr(dataset, "classes", None)
    return [str(name) for name in names] if names is not None else None


def files(dataset: Dataset) -> Sequence[tuple]:
    """The file and the label of every image; empty where images are not in files of their own."""
    return getattr(getattr(dataset, "reader", None), "samples", None) or getattr(dataset, "samples", None) or ()


def fingerprint(*splits: Dataset) -> str:
    """One SHA-256 over the data: pixels and labels where they are in memory, else file names and labels."""
    digest = hashlib.sha256()
    for dataset in splits:
        if isinstance(pixels := getattr(dataset, "data", None), torch.Tensor | np.ndarray):
            digest.update(np.ascontiguousarray(pixels).data)
            digest.update(np.asarray(dataset.targets, dtype=np.int64).data)
            continue
        root = str(getattr(getattr(dataset, "reader", None), "root", None) or getattr(dataset, "root", ""))
        prefix = os.path.join(root, "") if root else ""
        for sample in files(dataset):
            name = str(getattr(sample[0], "name", sample[0])).removeprefix(prefix).replace(os.sep, "/")
            digest.update(os.fsencode(f"{name} {sample[1]}\n"))
        digest.update(f"{len(dataset)}\n".encode())
    return digest.hexdigest()


def data_config(arguments: argparse.Namespace, model: nn.Module) -> dict:
    """How an image becomes an input of ``model``: timm's ``input_size``, ``mean``, ``std``, ``interpolation``, …

    What the command line leaves open, the model decides. Models with equal configurations can share their batches.

    Raises:
        InputError: ``--mean`` or ``--std`` has not one value, or one for each channel.
    """
    wanted = {name: getattr(arguments, name) for name in ("img_size", "input_size", "mean", "std")}
    wanted |= {"in_chans": arguments.in_chans, "interpolation": arguments.interpolation, "crop_pct": arguments.crop_pct}
    wanted = {name: value for name, value in wanted.items() if value is not None}
    means = {name: wanted.pop(name) for name in ("mean", "std") if name in wanted}
    config = resolve_data_config(wanted, model=model)
    made_for = arguments.in_chans or getattr(model, "in_chans", None)
    if made_for and not arguments.input_size:  # timm knows the channels of the pretrained model alone
        config["input_size"] = (made_for, *config["input_size"][1:])
    channels = config["input_size"][0]
    for name in ("mean", "std"):
        if name in means and len(means[name]) not in (1, channels):
            raise input_error(f"--{name}", " ".join(map(str, means[name])), f"must be one value, or {channels}")
        config[name] = per_channel(means.get(name) or config[name], channels)
    return config


def per_channel(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """A mean or deviation for each channel: the average of all where there are not as many.

    >>> per_channel((0.25, 0.5, 0.75), 1)
    (0.5,)
    """
    values = [float(value) for value in values]
    return tuple(values) if len(values) == channels else (sum(values) / len(values),) * channels
