"""Data sets: timm's, both splits checked, their classes, their fingerprint, and how an image becomes an input."""

import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from timm.data import create_dataset, resolve_data_config
from torch import nn
from torch.utils.data import Dataset, IterableDataset

from lskd.errors import bad

FOLDERS = ("", "torch/image_folder", "torch/folder")
SYNONYMS = (("train", "training"), ("validation", "val", "valid", "eval", "evaluation"))  # to timm


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
            "classes": self.class_names,
            "fingerprint": fingerprint(self.train, self.val),
        }


def load_data(arguments: argparse.Namespace) -> Data:
    """Both splits, checked: they exist, have images, and the same classes under the same labels.

    Raises:
        InputError: they do not.
    """
    train, val = (load_split(arguments, split) for split in (arguments.train_split, arguments.val_split))
    names = class_names(train)
    if names is None or len(names) < 2:
        raise bad("--data-dir", arguments.data_dir, f"has {len(names or ())} classes (must be at least 2)")
    if (others := class_names(val)) != names:
        odd = sorted(set(names).symmetric_difference(others or ()))
        raise bad("--data-dir", arguments.data_dir, f"train and validation differ in their classes: {odd[:3]}")
    name = arguments.dataset.split("/")[-1].replace(":", "-") or arguments.data_dir.resolve().name
    return Data(name, train, val, names)


def load_split(arguments: argparse.Namespace, split: str) -> Dataset:
    """One split as timm's ``create_dataset`` makes it, without a transform.

    Raises:
        InputError: there is no such data set or split.
    """
    if arguments.dataset and "/" not in arguments.dataset:  # timm would read folders
        raise bad("--dataset", arguments.dataset, "must be empty for folders, or with its origin: torch/fashion_mnist")
    # timm would take everything in --data-dir, the other split too, for a split that is not there.
    names = next((names for names in SYNONYMS if split in names), (split,))
    if arguments.dataset in FOLDERS and not any((arguments.data_dir / name).is_dir() for name in names):
        raise bad("--data-dir", arguments.data_dir / split, "must be a directory with a folder for each class")
    if arguments.class_map and (Path(arguments.class_map).suffix != ".txt" or arguments.dataset.startswith("torch/")):
        raise bad("--class-map", arguments.class_map, "must be a .txt file, a class a line; torchvision's take none")
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
        raise bad("--data-dir", arguments.data_dir, f"cannot be read, split {split}: {error}") from None
    if getattr(dataset, "train", None) is False and split not in (*SYNONYMS[1], "test"):
        # torchvision's small data sets have two splits, and timm takes any other word for the second.
        raise bad("--data-dir", arguments.data_dir, f"has no split {split}, only train and validation")
    if size is None:
        raise bad("--dataset", arguments.dataset, "must be one whose images can be had by their number")
    if not size:
        raise bad("--data-dir", arguments.data_dir, f"split {split} has no images")
    return dataset


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
        root = getattr(getattr(dataset, "reader", None), "root", None) or getattr(dataset, "root", "")
        for sample in files(dataset):
            path = Path(str(getattr(sample[0], "name", sample[0])))
            name = path.relative_to(root) if root and path.is_relative_to(root) else path
            digest.update(f"{name.as_posix()} {sample[1]}\n".encode())
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
            raise bad(f"--{name}", " ".join(map(str, means[name])), f"must be one value, or {channels}")
        config[name] = per_channel(means.get(name) or config[name], channels)
    return config


def per_channel(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """A mean or deviation for each channel: the average of all where there are not as many.

    >>> per_channel((0.25, 0.5, 0.75), 1)
    (0.5,)
    """
    values = [float(value) for value in values]
    return tuple(values) if len(values) == channels else (sum(values) / len(values),) * channels
