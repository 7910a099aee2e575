"""ImageNet-1K (ILSVRC2012): check a tree of its images, or make the tree from the official archives.

    python data_prep/imagenet.py --check DIR
    python data_prep/imagenet.py --dest DIR --train-tar ILSVRC2012_img_train.tar --val-tar ILSVRC2012_img_val.tar \\
        --devkit ILSVRC2012_devkit_t12.tar.gz

DIR/
  train/n01440764/*.JPEG …   1 281 167 images of 1000 classes, a folder each, named by the class's WordNet ID
  val/n01440764/*.JPEG …     50 images of each class
  class_index.json           {index: [wnid, names]}; the index is the wnid's position in sorted order, as in timm and
                             torchvision, not the ILSVRC2012 ID
  manifest.json              counts, a fingerprint of all names and sizes, and the archives' checksums
"""

import argparse
import hashlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from imagenet_devkit import OFFICIAL, Archive, unpack, val_labels
from imagenet_tree import CLASSES, SPLITS, Expected, Tree, class_names, examine, imagenet_1k

from lskd.io.argument_types import positive
from lskd.io.errors import InputError, OneLineParser, file_error_context, input_error, run_command
from lskd.io.files import write_json
from lskd.io.schema import read_json
from lskd.records.provenance import versions

DATASET = "ILSVRC2012"


def manifest_in(directory: Path) -> dict[str, Any] | None:
    """The manifest that this command wrote to ``directory``; None if there is none.

    Raises:
        InputError: there is a ``manifest.json`` or ``class_index.json`` that is not this command's.
    """
    try:
        manifest = read_json(directory / "manifest.json", dict[str, Any])
        if manifest.get("dataset") == DATASET:
            return manifest
    except (FileNotFoundError, NotADirectoryError):
        if not (directory / "class_index.json").exists():
            return None
    except InputError:
        pass
    mine = "class_index.json and manifest.json"
    raise input_error(
        "--dest", directory, f"has {mine} not written by this command, which are kept; name another directory"
    )


def describe(directory: Path, tree: Tree, archives: dict[str, str] | None = None) -> dict[str, Any]:
    """Write ``class_index.json`` and ``manifest.json``, which is returned, into ``directory``.

    An existing manifest with the tree's fingerprint is kept, with its checksums of the archives.
    """
    manifest = manifest_in(directory)
    if not manifest or manifest.get("fingerprint") != tree.fingerprint:
        counts = {
            split: {"classes": len(images), "images": sum(images.values())} for split, images in tree.images.items()
        }
        manifest = {"dataset": DATASET, "classes": len(tree.wnids), "counts": counts, "fingerprint": tree.fingerprint}
        manifest |= ({"archives_md5": archives} if archives else {}) | {"versions": versions()}
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / "manifest.json", manifest)  # first: it shows that class_index.json is this command's
    write_json(directory / "class_index.json", {i: [wnid, class_names()[wnid]] for i, wnid in enumerate(tree.wnids)})
    return manifest


def check(directory: Path, dest: Path, expected: Expected) -> dict[str, Any]:
    """Examine the tree in ``directory``, describe it in ``dest`` and return the manifest.

    Raises:
        InputError: the tree has problems, or ``dest`` has files of another origin; nothing is written.
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

    It grows in a hidden folder beside ``dest``, class by class, and becomes ``dest`` when it is complete and valid. If
    the command is interrupted, finished classes stay there, and the next run with the same archives resumes. For a
    subset, the training archive determines the classes; validation images of other classes are left out.

    Args:
        train: the archive of the training images.
        val: the archive of the validation images.
        devkit: the archive with the validation labels.
        dest: the directory to make.
        expected: what the tree has to hold.
        md5: the archives' checksums by their official names, for the manifest.

    Raises:
        InputError: an archive is invalid, or ``dest`` holds something else; no tree is left behind.
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
    except InputError:  # resuming with the same archives would fail again
        shutil.rmtree(building, ignore_errors=True)
        raise
    return manifest


def must_be_new(dest: Path) -> None:
    """Raise InputError unless ``dest`` is missing or an empty directory."""
    if dest.exists() and not (dest.is_dir() and not any(dest.iterdir())):
        raise input_error("--dest", dest, "exists and was not made of these archives; name a new directory")
    if os.path.ismount(dest):  # it cannot be replaced, and a directory beside it is on another disk
        raise input_error("--dest", dest, "is a mount point; name a new directory in it")


def must_be_writable(directory: Path) -> None:
    """Raise InputError if ``directory`` cannot be written to: now, rather than after an hour's work."""
    nearest = next(path for path in (directory, *directory.parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise input_error("--dest", nearest, "must be a directory that can be written to")


def main(arguments: argparse.Namespace) -> None:
    """Check a tree, or make one unless it is there."""
    paths = {argument: getattr(arguments, argument[2:].replace("-", "_")) for argument in OFFICIAL}
    expected = imagenet_1k(arguments.classes)
    if arguments.check:
        for argument, path in paths.items():
            if path:
                raise input_error(argument, path, "must be given with --dest alone, to make a tree, not with --check")
        dest = arguments.dest or arguments.check
        must_be_writable(dest.resolve())
        manifest = check(arguments.check, dest, expected)
    else:
        if not arguments.dest:
            raise input_error(
                "--dest", "not given", "must be the directory to make; or give --check, an existing directory"
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
            train, val, devkit = archives
            manifest = build(train, val, devkit, dest, expected, md5)
    images = " and ".join(f"{manifest['counts'][split]['images']} {split}" for split in SPLITS)
    print(f"{arguments.check or dest}: {images} images of {manifest['classes']} classes; see {dest / 'manifest.json'}")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = OneLineParser(prog=Path(sys.argv[0]).name, description=__doc__.split("\n")[0])
    options.set_defaults(resumes=True)
    options.add_argument("--check", type=Path, metavar="DIR", help="an existing tree: DIR/train and DIR/val")
    options.add_argument("--dest", type=Path, help="the directory to make; with --check, for manifest and class index")
    for argument, (official, _) in OFFICIAL.items():
        options.add_argument(argument, type=Path, help=f"the official {official}")
    options.add_argument(
        "--classes", type=positive, default=CLASSES, help="number of classes, for a subset (default 1000)"
    )
    options.add_argument("--any-checksum", action="store_true", help="accept archives other than the official ones")
    return options


if __name__ == "__main__":
    run_command(parser(), main)
