"""Fashion-MNIST, 28x28 grey pictures of ten kinds of clothes: the sample that ships with the project, or all of it.

    python data_prep/fashion_mnist.py --dest data-bin/fashion_mnist
    python data_prep/fashion_mnist.py --dest data-bin/tops --classes T-shirt/top Pullover Coat Shirt

DEST/
  FashionMNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte   what torchvision's FashionMNIST reads, and timm with
                                                                  --dataset torch/fashion_mnist --data-dir DEST
  manifest.json                                                   what this is made of: counts, classes, checksums

With --classes, instead of the first, {train,validation}/CLASS/00001.png and so on: what timm reads with an empty
--dataset, the labels in the alphabetical order of the folders. T-shirt/top has the folder T-shirt-top.
"""

import argparse
import hashlib
import http.client
import re
import subprocess
import sys
import tarfile
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from archives import already_prepared, building
from idx import SIDE, read_idx, write_idx

from lskd.io.errors import InputError, OneLineParser, file_error_context, input_error, positive, run_command
from lskd.io.files import sha256, write_json

SAMPLE = Path(__file__).resolve().parent / "samples" / "fashion_mnist_12k.npz"
CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
RAW = Path("FashionMNIST") / "raw"
FILES = {  # by the names that the sample has for what is in them
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}
PACKAGE = "dataset-fashion-mnist"
LICENCE = "MIT, Copyright (c) 2017 Zalando SE, https://tech.zalando.com"

Arrays = dict[str, np.ndarray]


def check(arrays: Arrays, argument: str, value: object) -> Arrays:
    """The same arrays, if they are ``x_train``, ``y_train``, ``x_test`` and ``y_test`` of this data set.

    Images are uint8, (N, 28, 28); labels are uint8, (N,), from 0 to 9; N is at least 1.

    Raises:
        InputError: they are not; it names ``argument`` and its ``value``.
    """
    for split in ("train", "test"):
        images, labels = (arrays.get(f"{kind}_{split}") for kind in "xy")
        if not isinstance(images, np.ndarray) or not isinstance(labels, np.ndarray):  # numpy gives others as bytes
            raise input_error(argument, value, f"must hold the arrays {', '.join(FILES)}")
        if images.dtype != np.uint8 or images.shape[1:] != (SIDE, SIDE):
            found = f"{split} images are {images.dtype} {images.shape}"
            raise input_error(argument, value, f"{found}, not uint8 (N, {SIDE}, {SIDE})")
        if labels.dtype != np.uint8 or labels.shape != images.shape[:1] or not len(labels):
            found = f"{split} labels are {labels.dtype} {labels.shape}"
            raise input_error(argument, value, f"{found}, not uint8, one for each of {len(images)} images, above 0")
        if labels.max() >= len(CLASSES):
            raise input_error(argument, value, f"{split} labels go up to {labels.max()}, above {len(CLASSES) - 1}")
    return arrays


def read_sample(path: Path) -> Arrays:
    """The arrays of an ``.npz`` file, checked (see :func:`check`).

    Raises:
        InputError: the file is not one of ours.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in FILES if name in file}
    except Exception as error:  # numpy has no one kind of error for a file that is not what it should be
        raise input_error("sample", path, f"cannot be read: {error}") from None
    return check(arrays, "sample", path)


def idx_files(directory: Path, source: str) -> dict[str, Path]:
    """The four IDX files in ``directory``, each plain or with ``.gz`` at its end, by the names of their arrays.

    Raises:
        InputError: one is missing; it names the ``source``.
    """
    found = {}
    for name, file in FILES.items():
        paths = [path for path in (directory / file, directory / f"{file}.gz") if path.is_file()]
        if not paths:
            options = "sample, debian, torchvision, or a directory with the four IDX files, plain or .gz"
            raise input_error("--source", source, f"has no {file}; must be {options}")
        found[name] = paths[0]
    return found


def read_files(directory: Path, source: str) -> Arrays:
    """The arrays of the four IDX files in ``directory``, checked (see :func:`check`).

    Raises:
        InputError: a file is missing or is not what it should be; it names the ``source``.
    """
    arrays = {}
    for name, path in idx_files(directory, source).items():
        try:
            arrays[name] = read_idx(path, 3 if name.startswith("x") else 1)
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise input_error("--source", source, f"{path.name} cannot be read: {error}") from None
    return check(arrays, "--source", source)


def fetch_from_debian(scratch: Path) -> dict[str, str]:
    """Download Debian's package with ``apt-get`` and put its four IDX files, and nothing else of it, into ``scratch``.

    Returns:
        The ``package``, as its file is named, and its ``sha256``.

    Raises:
        InputError: ``apt-get`` or ``dpkg-deb`` is missing or fails, or the package is damaged.
    """
    from libreoffice_packages import download

    try:
        (package,) = download([PACKAGE], scratch)
    except InputError as error:  # it speaks of the option of its own command
        raise InputError(str(error).replace("--rebuild", "--source debian", 1)) from None
    wanted = re.compile(rf"(?:\./)?usr/share/datasets/fashion-mnist/((?:{'|'.join(FILES.values())})(?:\.gz)?)")
    command = ["dpkg-deb", "--fsys-tarfile", str(package)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as tar:
                for member in tar:
                    if member.isfile() and (match := wanted.fullmatch(member.name)):
                        with file_error_context(scratch / match[1]):
                            (scratch / match[1]).write_bytes(tar.extractfile(member).read())
            while process.stdout.read(1 << 20):  # the padding after the last file: dpkg-deb must end by itself
                pass
        except (tarfile.TarError, EOFError) as error:
            raise input_error("--source", "debian", f"{package.name} cannot be read: {error}") from None
    if process.returncode:
        raise input_error("--source", "debian", f"{package.name} cannot be read: dpkg-deb found it broken")
    return {"package": package.name, "sha256": sha256(package)}


def fetch_with_torchvision(scratch: Path) -> dict[str, str]:
    """Let torchvision download the four IDX files, whose MD5 sums it checks, into ``scratch``.

    Returns:
        The version of ``torchvision``.

    Raises:
        InputError: torchvision is not installed, or cannot download them.
    """
    try:
        import torchvision
    except ImportError as error:
        raise input_error("--source", "torchvision", f"needs the package torchvision: {error}") from None
    try:
        torchvision.datasets.FashionMNIST(scratch, download=True)
    except (OSError, RuntimeError, ValueError, http.client.HTTPException) as error:
        raise input_error("--source", "torchvision", f"cannot be downloaded: {error}") from None
    for path in (scratch / RAW).iterdir():
        path.rename(scratch / path.name)
    return {"torchvision": torchvision.__version__}


FETCH = {"debian": fetch_from_debian, "torchvision": fetch_with_torchvision}


def first_of_each_class(labels: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Where the first ``counts[c]`` of the labels c are, in order, for each class c.

    Args:
        labels: uint8, (N,), from 0 to 9.
        counts: whole numbers, (10,), at least 0.

    >>> first_of_each_class(np.array([1, 0, 1, 1, 0]), np.array([1, 2]))
    array([0, 1, 2])
    """
    return np.sort(np.concatenate([np.flatnonzero(labels == c)[:count] for c, count in enumerate(counts)]))


def of_classes(arrays: Arrays, names: list[str]) -> Arrays:
    """The images of these classes alone, with their labels as they are.

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
    """The first ``max_images`` train images, as many of each class, and the same share of each class's test images.

    Args:
        arrays: checked ones (see :func:`check`).
        max_images: a multiple of ``classes``. A class that has too few images stays whole.
        classes: how many classes the images are of.
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
    """Make the directory in one step.

    Args:
        arrays: checked ones (see :func:`check`).
        parameters: what decides the outcome, for the manifest and for :func:`archives.already_prepared`.
        origin: where the images come from.
        dest: the directory to make; it appears when everything in it is whole.
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


def chosen_classes(names: list[str]) -> list[str]:
    """The classes of ``--classes`` in the order of timm's labels.

    Raises:
        InputError: one is unknown or given twice, or it is only one.
    """
    for name in names:
        if name not in CLASSES:
            raise input_error("--classes", name, f"must be of {', '.join(CLASSES)}")
    if len(set(names)) < max(2, len(names)):
        raise input_error("--classes", " ".join(names), "must be at least two, all different")
    return sorted(names)  # as timm sorts their folders


def main(arguments: argparse.Namespace) -> None:
    """Make, or recognise, the data directory."""
    source, max_images = arguments.source, arguments.max_images
    names = None if arguments.classes is None else chosen_classes(arguments.classes)
    number = len(names or CLASSES)
    if max_images is not None and max_images % number:
        raise input_error("--max-images", max_images, f"must be a multiple of {number}: as many of each class")
    parameters = {"data_set": "Fashion-MNIST", "source": source, "max_images": max_images}
    if names:
        parameters["classes"] = names
        try:
            from image_tree import write_trees
        except ImportError as error:
            raise input_error("--classes", " ".join(names), f"needs the package Pillow: {error}") from None
    if source == "sample":
        parameters["source_sha256"] = sha256(SAMPLE)
    elif source not in FETCH:
        checksums = [sha256(path) for path in idx_files(Path(source), source).values()]
        parameters |= {"source": "files", "source_sha256": hashlib.sha256("".join(checksums).encode()).hexdigest()}
    if already_prepared(arguments.dest, parameters):
        print(f"{arguments.dest} is ready")
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
    if names:
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
        "--max-images", type=positive, help="keep the first so many train images, test images in proportion"
    )
    options.add_argument(
        "--classes", nargs="+", metavar="NAME", help="only images of these classes, as a tree of a folder per class"
    )
    return options


if __name__ == "__main__":
    run_command(parser(), main)
