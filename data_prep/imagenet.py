"""ImageNet-1K (ILSVRC2012): check a tree of its images, or make the tree from the official archives.

    python data_prep/imagenet.py --check DIR
    python data_prep/imagenet.py --dest DIR --train-tar ILSVRC2012_img_train.tar --val-tar ILSVRC2012_img_val.tar \\
        --devkit ILSVRC2012_devkit_t12.tar.gz

DIR/
  train/n01440764/*.JPEG …   1 281 167 images of 1000 classes, a folder each, named by the class's WordNet ID
  val/n01440764/*.JPEG …     50 images of each class
  class_index.json           {index: [wnid, names]}; the index is the wnid's place in sorted order, as timm and
                             torchvision have it, not the ILSVRC2012 ID
  manifest.json              counts, a fingerprint of all names and sizes, and the archives' checksums
"""

import argparse
import functools
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imagenet_devkit import OFFICIAL, Archive, unpack, val_labels
from tqdm import tqdm

from lskd.io.errors import InputError, OneLineParser, file_error_context, input_error, positive, run_command
from lskd.io.files import parse_json, write_json
from lskd.records.runs import versions
from lskd_vision.image_files import SUFFIXES

DATASET = "ILSVRC2012"
SPLITS = ("train", "val")
CLASSES = 1000
MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")  # n02105855_2933.JPEG really is a PNG
THREADS = 16  # opening a file on a network or a disk is waiting
SHOWN = 5  # problems and names in an error


@dataclass(frozen=True)
class Expected:
    """What a tree has to hold.

    Attributes:
        wnids: the classes that may be there, sorted.
        classes: how many of them are there; the same ones in both splits.
        train_images: number of training images; None where any is right, but none of a class.
        val_images_per_class: number of validation images of each class, or None.
    """

    wnids: tuple[str, ...]
    classes: int
    train_images: int | None = None
    val_images_per_class: int | None = None

    def chosen(self, found: Collection[str]) -> list[str]:
        """The classes that must be there, sorted: all, or for a subset those ``found`` that may be there."""
        return [wnid for wnid in self.wnids if self.classes == len(self.wnids) or wnid in found]


@dataclass
class Tree:
    """What :func:`examine` found: images by split and class, a SHA-256 over all names and sizes, what is wrong."""

    wnids: list[str]
    images: dict[str, dict[str, int]] = field(default_factory=lambda: {split: {} for split in SPLITS})
    fingerprint: str = ""
    problems: list[str] = field(default_factory=list)

    def complaint(self) -> str:
        """The first problems and the number of all, in one line."""
        return f"{len(self.problems)} problem{'s'[: len(self.problems) > 1]}: {_some(self.problems, '; ')}"


@functools.cache
def class_names() -> dict[str, str]:
    """The names of ImageNet-1K's classes by wnid, in the order of the class index, from timm's tables.

    >>> list(class_names().items())[0]
    ('n01440764', 'tench, Tinca tinca')
    """
    from timm.data import ImageNetInfo

    return ImageNetInfo().label_descriptions(as_dict=True)


def imagenet_1k(classes: int = CLASSES) -> Expected:
    """What the whole data set has to hold, or a subset of so many ``classes``."""
    wnids = tuple(class_names())
    if classes > CLASSES:
        raise input_error("--classes", classes, f"must be at most {CLASSES}")
    return Expected(wnids, classes, 1_281_167, 50) if classes == CLASSES else Expected(wnids, classes)


def examine(directory: Path, expected: Expected) -> Tree:
    """Look at every class and every image of ``directory``: its size, and its first bytes, which are JPEG's or PNG's.

    Hidden entries and files whose names are not an image's are left out of account, as a training does.
    """
    folders, problems = {}, []
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
                problems.append(f"{split} {word} {len(wrong)} folder{'s'[: len(wrong) > 1]}: {_some(sorted(wrong))}")
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
    """The images of a class with their sizes, sorted by name, and what is wrong with them."""
    sizes, problems = [], []
    for entry in _entries(directory / split / wnid):
        name = f"{split}/{wnid}/{entry.name}"
        if entry.is_dir():
            problems.append(f"{name} is a folder")
        elif not _is_image(entry.name):
            continue
        elif not entry.is_file():  # a link to nothing; or a pipe, which would never answer
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


def _entries(directory: Path) -> list[os.DirEntry]:
    """What is in ``directory`` and not hidden, sorted by name."""
    return sorted((each for each in os.scandir(directory) if not each.name.startswith(".")), key=lambda each: each.name)


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in SUFFIXES


def _wrong_counts(tree: Tree, expected: Expected) -> Iterable[str]:
    for split, images in tree.images.items():
        right = expected.val_images_per_class if split == "val" else None
        for wnid, count in images.items():
            if count == 0 or right not in (None, count):
                yield f"{split}/{wnid} has {count} images" + (f" instead of {right}" if right else "")
    total = sum(tree.images["train"].values())
    if expected.train_images not in (None, total):
        yield f"train has {total} images instead of {expected.train_images}"


def manifest_in(directory: Path) -> dict[str, Any] | None:
    """The manifest that this command left in ``directory``, or None where there is none.

    Raises:
        InputError: a ``manifest.json`` or ``class_index.json`` is there that is not this command's.
    """
    try:
        manifest = parse_json((directory / "manifest.json").read_text(encoding="utf-8"))
        if manifest["dataset"] == DATASET:
            return manifest
    except (FileNotFoundError, NotADirectoryError):
        if not (directory / "class_index.json").exists():
            return None
    except (ValueError, KeyError, TypeError):
        pass
    mine = "class_index.json and manifest.json"
    raise input_error("--dest", directory, f"has {mine} of another origin, which stay; name another directory")


def describe(directory: Path, tree: Tree, archives: dict[str, str] | None = None) -> dict[str, Any]:
    """Write ``class_index.json`` and ``manifest.json``, which is returned, into ``directory``.

    A manifest that is there and has the tree's fingerprint stays, with what it says of the archives.
    """
    manifest = manifest_in(directory)
    if not manifest or manifest.get("fingerprint") != tree.fingerprint:
        counts = {
            split: {"classes": len(images), "images": sum(images.values())} for split, images in tree.images.items()
        }
        manifest = {"dataset": DATASET, "classes": len(tree.wnids), "counts": counts, "fingerprint": tree.fingerprint}
        manifest |= ({"archives_md5": archives} if archives else {}) | {"versions": versions()}
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / "manifest.json", manifest)  # first: it tells whose class_index.json it is
    write_json(directory / "class_index.json", {i: [wnid, class_names()[wnid]] for i, wnid in enumerate(tree.wnids)})
    return manifest


def check(directory: Path, dest: Path, expected: Expected) -> dict[str, Any]:
    """Examine the tree in ``directory``, describe it in ``dest`` and return the manifest.

    Raises:
        InputError: something is wrong with the tree, or files in ``dest`` are in the way; nothing is written.
    """
    if not directory.is_dir():
        raise input_error("--check", directory, "must be a directory with train and val in it")
    manifest_in(dest)
    tree = examine(directory, expected)
    if tree.problems:
        raise input_error("--check", directory, tree.complaint())
    return describe(dest, tree)


def build(
    train: Archive, val: Archive, devkit: Archive, dest: Path, expected: Expected, md5: dict[str, str]
) -> dict[str, Any]:
    """Make the tree in ``dest`` from the archives, and return its manifest.

    It grows in a hidden folder beside ``dest``, class by class, and becomes ``dest`` when it is whole and right. When
    the command is stopped, the classes that are done stay there, and the next one with the same archives goes on. Of a
    subset, the training archive decides which classes there are; validation images of others are left out.

    Args:
        md5: the archives' checksums by their official names, for the manifest.

    Raises:
        InputError: an archive is not what it should be, or ``dest`` holds something else; no tree is left behind.
    """
    made_of = (md5, expected.classes)
    if (manifest := manifest_in(dest)) and (manifest.get("archives_md5"), manifest.get("classes")) == made_of:
        return manifest
    must_be_new(dest)
    dest = dest.resolve()
    key = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:8]
    building = dest.with_name(f".{dest.name}.{key}.partial")
    try:
        unpack(train, val, val_labels(devkit, class_names()), building, expected.wnids, expected.classes)
        tree = examine(building, expected)
        if tree.problems:
            raise input_error("--dest", dest, f"would not be {DATASET}: {tree.complaint()}")
        manifest = describe(building, tree, md5)
        os.replace(building, dest)  # an empty directory is replaced, anything else is refused by the system
    except InputError:  # with the same archives it would come again
        shutil.rmtree(building, ignore_errors=True)
        raise
    return manifest


def must_be_new(dest: Path) -> None:
    """Raise InputError where ``dest`` is anything but an empty directory or nothing at all."""
    if dest.exists() and not (dest.is_dir() and not any(dest.iterdir())):
        raise input_error("--dest", dest, "exists and was not made of these archives; name a new directory")
    if os.path.ismount(dest):  # it cannot be replaced, and what is beside it is on another disk
        raise input_error("--dest", dest, "is a mount point; name a new directory in it")


def must_be_writable(directory: Path) -> None:
    """Raise InputError where nothing can be written to ``directory``: said now, and not after an hour's work."""
    nearest = next(path for path in (directory, *directory.parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise input_error("--dest", nearest, "must be a directory that can be written to")


def _some(things: list[str], between: str = ", ") -> str:
    more = len(things) - SHOWN
    return between.join(things[:SHOWN]) + (f"{between}and {more} more" if more > 0 else "")


def main(arguments: argparse.Namespace) -> None:
    """Check a tree, or make or recognise one."""
    paths = {argument: getattr(arguments, argument[2:].replace("-", "_")) for argument in OFFICIAL}
    expected = imagenet_1k(arguments.classes)
    if arguments.check:
        for argument, path in paths.items():
            if path:
                raise input_error(argument, path, "goes with --dest alone, to make a tree, not with --check")
        dest = arguments.dest or arguments.check
        must_be_writable(dest.resolve())
        manifest = check(arguments.check, dest, expected)
    else:
        if not arguments.dest:
            raise input_error(
                "--dest", "not given", "must be the directory to make; or --check, a directory that is there"
            )
        for argument, path in paths.items():
            if not path or not path.is_file():
                raise input_error(argument, path or "not given", f"must be the path of {OFFICIAL[argument][0]}")
        dest = arguments.dest
        if not manifest_in(dest):
            must_be_new(dest)
            must_be_writable(dest.resolve().parent)
        archives = [Archive(argument, path) for argument, path in paths.items()]
        md5 = {archive.official: archive.md5(arguments.any_checksum) for archive in reversed(archives)}
        with file_error_context(dest):
            manifest = build(*archives, dest, expected, md5)
    images = " and ".join(f"{manifest['counts'][split]['images']} {split}" for split in SPLITS)
    print(f"{arguments.check or dest}: {images} images of {manifest['classes']} classes; see {dest / 'manifest.json'}")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = OneLineParser(prog=Path(sys.argv[0]).name, description=__doc__.split("\n")[0])
    options.add_argument("--check", type=Path, metavar="DIR", help="a tree that is there: DIR/train and DIR/val")
    options.add_argument("--dest", type=Path, help="the directory to make; with --check, where its description goes")
    for argument, (official, _) in OFFICIAL.items():
        options.add_argument(argument, type=Path, help=f"the official {official}")
    options.add_argument(
        "--classes", type=positive, default=CLASSES, help="of a subset: how many classes it has (default 1000)"
    )
    options.add_argument("--any-checksum", action="store_true", help="take archives that are not the official ones")
    return options


if __name__ == "__main__":
    run_command(parser(), main)
