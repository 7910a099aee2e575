"""Define what a tree of ImageNet-1K's images has to hold, and check a tree for it."""

import functools
import hashlib
import os
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lskd.io.errors import input_error, shortened
from lskd_vision.image_files import SUFFIXES

SPLITS = ("train", "val")
CLASSES = 1000
MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")  # n02105855_2933.JPEG is a PNG file
THREADS = 16  # opening a file on a network or a disk is mostly waiting


@dataclass(frozen=True)
class Expected:
    """What a tree has to hold.

    Attributes:
        wnids: the classes that may be there, sorted.
        classes: how many of them must be there; the same ones in both splits.
        train_images: number of training images; None for any, with at least one of each class.
        val_images_per_class: number of validation images of each class; None for any.
    """

    wnids: tuple[str, ...]
    classes: int
    train_images: int | None = None
    val_images_per_class: int | None = None

    def chosen(self, found: Collection[str]) -> list[str]:
        """The classes that must be there, sorted: all of them, or for a subset the known ones among ``found``."""
        return [wnid for wnid in self.wnids if self.classes == len(self.wnids) or wnid in found]


@dataclass
class Tree:
    """What :func:`examine` found: images by split and class, a SHA-256 over all names and sizes, and problems."""

    wnids: list[str]
    images: dict[str, dict[str, int]] = field(default_factory=lambda: {split: {} for split in SPLITS})
    fingerprint: str = ""
    problems: list[str] = field(default_factory=list)

    def complaint(self) -> str:
        """The first problems and the number of all, in one line."""
        return f"{len(self.problems)} problem{'s'[: len(self.problems) > 1]}: {shortened(self.problems, between='; ')}"


@functools.cache
def class_names() -> dict[str, str]:
    """The names of ImageNet-1K's classes by wnid, in the order of the class index, from timm's tables.

    >>> list(class_names().items())[0]
    ('n01440764', 'tench, Tinca tinca')
    """
    from timm.data import ImageNetInfo

    names: Any = ImageNetInfo().label_descriptions(as_dict=True)
    return names


def imagenet_1k(classes: int = CLASSES) -> Expected:
    """What the whole data set has to hold, or a subset of this many ``classes``."""
    wnids = tuple(class_names())
    if classes > CLASSES:
        raise input_error("--classes", classes, f"must be at most {CLASSES}")
    return Expected(wnids, classes, 1_281_167, 50) if classes == CLASSES else Expected(wnids, classes)


def examine(directory: Path, expected: Expected) -> Tree:
    """Check every class and image in ``directory``: an image must not be empty, and begin like a JPEG or PNG file.

    Hidden entries and files without the suffix of an image are ignored, as in training.
    """
    folders: dict[str, set[str]] = {}
    problems: list[str] = []
    for split in SPLITS:
        try:
            entries = _entries(directory / split)
        except OSError as error:
            entries = []
            problems.append(f"{split} cannot be read: {error.strerror}")
        folders[split] = {entry.name for entry in entries if entry.is_dir()}
        if loose := sum(_is_image(entry.name) for entry in entries if not entry.is_dir()):
            problems.append(f"{split} has {loose} images outside the classes' folders")
    tree = Tree(expected.chosen(set.union(*folders.values())), problems=problems)
    if len(tree.wnids) != expected.classes:
        problems.append(f"{len(tree.wnids)} of ImageNet-1K's classes instead of {expected.classes}")
    for split, names in folders.items():
        for word, wrong in (("lacks", set(tree.wnids) - names), ("has besides", names - set(tree.wnids))):
            if wrong:
                problems.append(
                    f"{split} {word} {len(wrong)} folder{'s'[: len(wrong) > 1]}: {shortened(sorted(wrong))}"
                )
    present = [(split, wnid) for split in SPLITS for wnid in tree.wnids if wnid in folders[split]]
    fingerprint, pool = hashlib.sha256(), ThreadPoolExecutor(THREADS)
    try:
        found = pool.map(lambda both: _examine_class(directory, *both), present)
        for (split, wnid), (sizes, wrong) in zip(
            present, tqdm(found, total=len(present), desc="checking", unit=" classes", disable=None), strict=True
        ):
            tree.images[split][wnid] = len(sizes)
            problems += wrong
            fingerprint.update(os.fsencode("".join(f"{split}/{wnid}/{name}\t{size}\n" for name, size in sizes)))
    finally:
        pool.shutdown(cancel_futures=True)
    tree.fingerprint = fingerprint.hexdigest()
    problems += _wrong_counts(tree, expected)
    return tree


def _examine_class(directory: Path, split: str, wnid: str) -> tuple[list[tuple[str, int]], list[str]]:
    """The images of a class with their sizes, sorted by name, and the problems with them."""
    sizes: list[tuple[str, int]] = []
    problems: list[str] = []
    for entry in _entries(directory / split / wnid):
        name = f"{split}/{wnid}/{entry.name}"
        if entry.is_dir():
            problems.append(f"{name} is a folder")
        elif not _is_image(entry.name):
            continue
        elif not entry.is_file():  # a broken link; or a pipe, reading which would block
            problems.append(f"{name} is not a file")
        else:
            try:
                with open(entry.path, "rb", buffering=0) as file:
                    start, size = file.read(8), os.fstat(file.fileno()).st_size
            except OSError as error:
                problems.append(f"{name} cannot be read: {error.strerror}")
                continue
            sizes.append((entry.name, size))
            if not start.startswith(MAGIC):
                problems.append(f"{name} is {'not a JPEG or PNG file' if size else 'empty'}")
    return sizes, problems


def _entries(directory: Path) -> list[os.DirEntry[str]]:
    """The entries of ``directory`` that are not hidden, sorted by name."""
    return sorted((each for each in os.scandir(directory) if not each.name.startswith(".")), key=lambda each: each.name)


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in SUFFIXES


def _wrong_counts(tree: Tree, expected: Expected) -> Iterator[str]:
    for split, images in tree.images.items():
        right = expected.val_images_per_class if split == "val" else None
        for wnid, count in images.items():
            if count == 0 or right not in (None, count):
                yield f"{split}/{wnid} has {count} images" + (f" instead of {right}" if right else "")
    total = sum(tree.images["train"].values())
    if expected.train_images not in (None, total):
        yield f"train has {total} images instead of {expected.train_images}"
