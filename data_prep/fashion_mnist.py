"""Fashion-MNIST, 28x28 grey images of ten kinds of clothes: the sample that ships with the project, or all of it.

    python data_prep/fashion_mnist.py --dest data-bin/fashion_mnist
    python data_prep/fashion_mnist.py --dest data-bin/tops --classes T-shirt/top Pullover Coat Shirt

DEST/
  FashionMNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte   for torchvision's FashionMNIST, and for timm with
                                                                  --dataset torch/fashion_mnist --data-dir DEST
  manifest.json                                                   counts, classes, checksums, origin

With --classes, {train,validation}/CLASS/00001.png and so on instead of the first, for timm with an empty --dataset; the
labels are in the alphabetical order of the folders. T-shirt/top has the folder T-shirt-top.
"""

import argparse
import hashlib
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from archives import already_prepared
from fashion_mnist_sources import (
    CLASSES,
    FILES,
    PACKAGE,
    RAW,
    Arrays,
    fetch_from_debian,
    fetch_with_torchvision,
    idx_files,
    read_files,
    read_sample,
)
from idx import write_idx
from numpy.typing import NDArray

from lskd.io.argument_types import positive
from lskd.io.errors import OneLineParser, input_error, run_command
from lskd.io.files import building, sha256, write_json

SAMPLE = Path(__file__).resolve().parent / "samples" / "fashion_mnist_12k.npz"
LICENCE = "MIT, Copyright (c) 2017 Zalando SE, https://tech.zalando.com"
FETCH = {"debian": fetch_from_debian, "torchvision": fetch_with_torchvision}


def first_of_each_class(labels: NDArray[np.uint8], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The positions of the first ``counts[c]`` labels c of each class c, in order.

    Args:
        labels: uint8, (N,), from 0 to 9.
        counts: whole numbers, (10,), at least 0.

    >>> first_of_each_class(np.array([1, 0, 1, 1, 0]), np.array([1, 2]))
    array([0, 1, 2])
    """
    return np.sort(np.concatenate([np.flatnonzero(labels == c)[:count] for c, count in enumerate(counts)]))


def of_classes(arrays: Arrays, names: Sequence[str]) -> Arrays:
    """The images of these classes only, with unchanged labels.

    Raises:
        InputError: a split has no image of one of them.
    """
    kept = {}
    for split in ("train", "test"):
        labels = arrays[f"y_{split}"]
        for name in names:
            if CLASSES.index(name) not in labels:
                raise input_error("--classes", name, f"has no {split} images in this source")
        chosen = np.isin(labels, [CLASSES.index(name) for name in names])
        kept |= {f"{kind}_{split}": arrays[f"{kind}_{split}"][chosen] for kind in "xy"}
    return kept


def subset(arrays: Arrays, max_images: int, classes: int = len(CLASSES)) -> Arrays:
    """The first ``max_images`` train images, equally many of each class, and the same share of its test images.

    Args:
        arrays: checked (see :func:`fashion_mnist_sources.check`).
        max_images: a multiple of ``classes``. A class with fewer images is kept entirely.
        classes: the number of classes of the images.
    """
    sizes = {split: np.bincount(arrays[f"y_{split}"], minlength=len(CLASSES)) for split in ("train", "test")}
    train = np.minimum(sizes["train"], max_images // classes)
    share = train.sum() / sizes["train"].sum()
    test = np.minimum(sizes["test"], np.maximum(1, np.rint(share * sizes["test"]).astype(int)))
    kept = {}
    for split, counts in (("train", train), ("test", test)):
        places = first_of_each_class(arrays[f"y_{split}"], counts)
        kept |= {f"{kind}_{split}": arrays[f"{kind}_{split}"][places] for kind in "xy"}
    return kept


def write_raw(arrays: Arrays, parameters: dict[str, Any], origin: dict[str, Any], dest: Path) -> None:
    """Make the directory atomically.

    Args:
        arrays: checked (see :func:`fashion_mnist_sources.check`).
        parameters: what determines the result, for the manifest and for :func:`archives.already_prepared`.
        origin: the origin of the images.
        dest: the directory to make; it appears when it is complete.
    """
    with building(dest) as directory:
        (directory / RAW).mkdir(parents=True)
        for name, file in FILES.items():
            write_idx(directory / RAW / file, arrays[name])
        manifest = {
            "parameters": parameters,
            "origin": origin,
            "counts": {split: len(arrays[f"y_{split}"]) for split in ("train", "test")},
            "classes": list(CLASSES),
            "sha256": {str(RAW / file): sha256(directory / RAW / file) for file in FILES.values()},
        }
        write_json(directory / "manifest.json", manifest)


def chosen_classes(names: Sequence[str]) -> list[str]:
    """The classes of ``--classes`` in the order of timm's labels.

    Raises:
        InputError: a class is unknown or given twice, or there is only one.
    """
    for name in names:
        if name not in CLASSES:
            raise input_error("--classes", name, f"must be of {', '.join(CLASSES)}")
    if len(set(names)) < max(2, len(names)):
        raise input_error("--classes", " ".join(names), "must be at least two, all different")
    return sorted(names)  # as timm sorts their folders


def tree_writer(names: Sequence[str]) -> Callable[..., None]:
    """Import and return :func:`image_tree.write_trees`.

    Raises:
        InputError: Pillow is not installed, which only ``--classes`` needs.
    """
    try:
        from image_tree import write_trees
    except ImportError as error:
        raise input_error("--classes", " ".join(names), f"needs the package Pillow: {error}") from None
    return write_trees


def main(arguments: argparse.Namespace) -> None:
    """Make the data directory, unless it is there."""
    source, max_images = arguments.source, arguments.max_images
    names = None if arguments.classes is None else chosen_classes(arguments.classes)
    number = len(names or CLASSES)
    if max_images is not None and max_images % number:
        raise input_error("--max-images", max_images, f"must be a multiple of {number}: as many of each class")
    parameters = {"data_set": "Fashion-MNIST", "source": source, "max_images": max_images}
    write_trees = tree_writer(names) if names else None
    if names:
        parameters["classes"] = names
    if source == "sample":
        parameters["source_sha256"] = sha256(SAMPLE)
    elif source not in FETCH:
        checksums = [sha256(path) for path in idx_files(Path(source), source).values()]
        parameters |= {"source": "files", "source_sha256": hashlib.sha256("".join(checksums).encode()).hexdigest()}
    if already_prepared(arguments.dest, parameters):
        return
    origin = {"what": "Fashion-MNIST", "licence": LICENCE, "source": parameters["source"]}
    if source == "sample":
        origin["what"] += ", a part of it; see data_prep/samples/README.md"
        arrays = read_sample(SAMPLE)
    elif source in FETCH:
        with tempfile.TemporaryDirectory() as scratch:
            origin |= FETCH[source](Path(scratch))
            arrays = read_files(Path(scratch), source)
    else:
        arrays = read_files(Path(source), source)
    if names:
        arrays = of_classes(arrays, names)
    if max_images is not None:
        arrays = subset(arrays, max_images, number)
    if names and write_trees:
        splits = {"train": (arrays["x_train"], arrays["y_train"]), "validation": (arrays["x_test"], arrays["y_test"])}
        labels = {CLASSES.index(name): name for name in names}
        write_trees(arguments.dest, splits, labels, parameters, origin)
    else:
        write_raw(arrays, parameters, origin, arguments.dest)
    sizes = {split: len(arrays[f"y_{split}"]) for split in ("train", "test")}
    print(f"{arguments.dest}: {sizes['train']} train and {sizes['test']} test images of {number} classes")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = OneLineParser(prog=Path(sys.argv[0]).name, description=__doc__.split("\n")[0])
    options.add_argument("--dest", type=Path, required=True, help="directory to make; must be new")
    options.add_argument(
        "--source",
        default="sample",
        help="sample (default), 12 000 and 2 000 images that ship with the project; or all 60 000 and 10 000 of them: "
        f"debian, from Debian's package {PACKAGE} with apt-get; torchvision, which downloads them; or a directory "
        "with the four IDX files, plain or .gz",
    )
    options.add_argument(
        "--max-images", type=positive, help="keep only this many train images, and test images in proportion"
    )
    options.add_argument(
        "--classes", nargs="+", metavar="NAME", help="only images of these classes, in a folder per class"
    )
    return options


if __name__ == "__main__":
    run_command(parser(), main)
