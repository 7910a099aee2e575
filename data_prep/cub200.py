"""CUB-200-2011, photographs of 200 bird species, from the official archive CUB_200_2011.tgz.

    python data_prep/cub200.py --archive CUB_200_2011.tgz --dest data-bin/cub200

DEST/
  train/001.Black_footed_Albatross/*.jpg …   5994 images, the official train split
  val/001.Black_footed_Albatross/*.jpg …     5794 images, the official test split
  groups.json                                the classes of each kind of bird, for `lskd similar --groups`
  manifest.json                              counts, classes, checksum of the archive

timm and torchvision's ImageFolder read this layout; the labels are the official class numbers minus 1.
"""

import argparse
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from pathlib import Path, PurePosixPath
from typing import Any

from archives import already_prepared, checksum_argument, obtain
from tgz import plain_files, verify
from tqdm import tqdm

from lskd.io.errors import OneLineParser, input_error, run_command
from lskd.io.files import building, write_json

OFFICIAL = "CUB_200_2011.tgz"
OFFICIAL_COUNTS = {"classes": 200, "train": 5994, "val": 5794}
WHERE = "from CaltechDATA, record 65de6-vp158"

FOLDER = "CUB_200_2011"
LISTS = ("classes.txt", "images.txt", "image_class_labels.txt", "train_test_split.txt")
MAX_BYTES = 2 * 10**9  # of the archive, packed and unpacked; the official one has 1.2e9 and somewhat more
MAX_FILE_BYTES = 10**7  # of an image or list; the largest have less than 1e6
SPLIT_OF_FLAG = {"1": "train", "0": "val"}


def wanted(name: PurePosixPath) -> bool:
    """Whether the file of this name in the archive is an image or one of the lists of images.

    >>> wanted(PurePosixPath("CUB_200_2011/images/001.Black_footed_Albatross/Black_Footed_Albatross_0001_796111.jpg"))
    True
    >>> wanted(PurePosixPath("CUB_200_2011/bounding_boxes.txt"))
    False
    """
    folder, *inside = name.parts or [""]
    is_image = len(inside) == 3 and inside[0] == "images" and name.suffix == ".jpg"
    return folder == FOLDER and (is_image or (len(inside) == 1 and inside[0] in LISTS))


def unpack(path: Path, directory: Path) -> tuple[dict[str, bytes], set[str]]:
    """Unpack the archive's images to ``directory``, as ``<class>/<file>``; nothing else is unpacked to disk.

    Returns:
        The lists by name, and the names ``<class>/<file>`` of the images.

    Raises:
        InputError: the archive cannot be used (see :func:`tgz.plain_files`), or has an image or list twice.
    """
    lists: dict[str, bytes] = {}
    images: set[str] = set()
    files = plain_files(path, wanted, MAX_BYTES, MAX_FILE_BYTES)
    for name, content in tqdm(files, desc="unpacking", unit=" files", disable=None):
        image = "/".join(name.parts[2:])
        if name.name in lists or image in images:
            raise input_error("--archive", path, f"has {name} twice")
        if not image:
            lists[name.name] = content
            continue
        images.add(image)
        (directory / image).parent.mkdir(exist_ok=True)
        (directory / image).write_bytes(content)
    return lists, images


def read_list(lists: Mapping[str, bytes], name: str, path: Path) -> dict[int, str]:
    """The values of a list by their number: line ``7 007.Parakeet_Auklet`` of classes.txt is class 7.

    Raises:
        InputError: the list is missing, empty, not UTF-8, has a number twice or a line that is not a number and a word.
    """
    if name not in lists:
        raise input_error("--archive", path, f"has no {FOLDER}/{name}, as the official {OFFICIAL} has")
    try:
        lines = lists[name].decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise input_error("--archive", path, f"{name} is not UTF-8 text: {error.reason}, byte {error.start}") from None
    values = {}
    for position, line in enumerate(lines, 1):
        match = re.fullmatch(r"([0-9]{1,9}) (\S+)\s*", line)
        if not match:
            raise input_error(
                "--archive", path, f"line {position} of {name} must be a number and a word: {line[:80]!r}"
            )
        if int(match[1]) in values:
            raise input_error("--archive", path, f"{name} has number {int(match[1])} twice")
        values[int(match[1])] = match[2]
    if not values:
        raise input_error("--archive", path, f"{name} is empty")
    return values


def read_classes(lists: Mapping[str, bytes], path: Path) -> list[str]:
    """The names of the classes in the order of their numbers, which is also the order of their folders.

    Raises:
        InputError: the list cannot be read, or is not ``1 001.…``, ``2 002.…`` and so on.
    """
    classes = sorted(read_list(lists, "classes.txt", path).items())
    for number, (found, name) in enumerate(classes, 1):
        # Readers of image folders number classes by the order of names, which must be that of the official numbers.
        if found != number or not name.startswith(f"{number:03d}.") or "/" in name:
            line = f"'{found} {name}', not '{number} {number:03d}.…'"
            raise input_error("--archive", path, f"class {number} of classes.txt is {line}")
    return [name for _, name in classes]


def read_split(lists: Mapping[str, bytes], images: Set[str], path: Path) -> tuple[list[str], dict[str, list[str]]]:
    """Read the classes and the official split, and check them against the ``images`` of the archive.

    Args:
        lists: the four lists by name.
        images: ``<class>/<file>`` of each image of the archive. Those that are not in images.txt are not used.
        path: the archive, for error messages.

    Returns:
        The names of the classes in order, and the images of ``train`` and ``val`` in the order of images.txt.

    Raises:
        InputError: a list cannot be read, lists do not agree, an image is missing, or a class has no image in one of
            the splits.
    """
    classes = read_classes(lists, path)
    names, labels, flags = (read_list(lists, name, path) for name in LISTS[1:])
    for name, values in (("image_class_labels.txt", labels), ("train_test_split.txt", flags)):
        if different := sorted(names.keys() ^ values.keys()):
            where = "images.txt" if different[0] in names else name
            raise input_error(
                "--archive", path, f"only {where} has image {different[0]}; images.txt and {name} must agree"
            )
    split: dict[str, list[str]] = {"train": [], "val": []}
    counts: Counter[tuple[str, str]] = Counter()
    seen: set[str] = set()
    for number, name in names.items():
        if name in seen:
            raise input_error("--archive", path, f"images.txt has {name} twice")
        seen.add(name)
        if name not in images:
            raise input_error("--archive", path, f"has no {FOLDER}/images/{name}, image {number} of images.txt")
        label = int(labels[number]) if re.fullmatch("[0-9]{1,9}", labels[number]) else 0
        if not 1 <= label <= len(classes) or classes[label - 1] != name.split("/")[0]:
            raise input_error(
                "--archive", path, f"class {labels[number]} of image {number} is not that of its folder, {name}"
            )
        if flags[number] not in SPLIT_OF_FLAG:
            raise input_error(
                "--archive", path, f"train_test_split.txt has {flags[number]!r} for image {number}, not 0 or 1"
            )
        split[SPLIT_OF_FLAG[flags[number]]].append(name)
        counts[SPLIT_OF_FLAG[flags[number]], classes[label - 1]] += 1
    for part in split:  # a missing folder would shift the labels of the classes after it
        for name in classes:
            if not counts[part, name]:
                raise input_error("--archive", path, f"class {name} has no {part} image")
    return classes, split


def groups_of(classes: Sequence[str]) -> dict[str, list[str]]:
    """The classes of each kind of bird, which is the last word of a species' name.

    >>> groups_of(["001.Black_footed_Albatross", "002.Laysan_Albatross", "004.Groove_billed_Ani"])
    {'Albatross': ['001.Black_footed_Albatross', '002.Laysan_Albatross'], 'Ani': ['004.Groove_billed_Ani']}
    """
    groups: dict[str, list[str]] = {}
    for name in classes:
        groups.setdefault(name.partition(".")[2].rpartition("_")[2], []).append(name)
    return groups


def write_tree(path: Path, parameters: dict[str, Any], origin: dict[str, Any], dest: Path) -> dict[str, Any]:
    """Make the directory from the archive at ``path`` atomically, and return its manifest.

    Args:
        path: the archive.
        parameters: what determines the result, for the manifest and for :func:`archives.already_prepared`.
        origin: the origin of the images, with checksum and terms.
        dest: the directory to make; it appears when it is complete.

    Raises:
        InputError: the archive cannot be used; no ``dest`` is made.
    """
    with building(dest) as directory:
        unpacked = directory / "unpacked"
        unpacked.mkdir()
        classes, split = read_split(*unpack(path, unpacked), path)
        for part, names in split.items():
            for name in classes:
                (directory / part / name).mkdir(parents=True)
            for name in names:
                os.replace(unpacked / name, directory / part / name)
        shutil.rmtree(unpacked)
        write_json(directory / "groups.json", groups_of(classes))
        manifest = {
            "parameters": parameters,
            "origin": origin,
            "counts": {"classes": len(classes)} | {part: len(names) for part, names in split.items()},
            "classes": classes,
        }
        write_json(directory / "manifest.json", manifest)
    return manifest


def main(arguments: argparse.Namespace) -> None:
    """Make the data directory, unless it is there."""
    path, name = obtain(arguments, OFFICIAL, WHERE, MAX_BYTES)
    checksum = verify(path, arguments.sha256, path)
    parameters = {"data_set": "CUB-200-2011", "archive_sha256": checksum}
    if already_prepared(arguments.dest, parameters):
        return
    origin = {
        "what": f"CUB-200-2011, Caltech-UCSD Birds, {WHERE}",
        "archive": name,
        "sha256": checksum,
        "terms": "for non-commercial research and education; the images belong to their photographers",
    }
    if arguments.url:
        origin["url"] = arguments.url
    counts = write_tree(path, parameters, origin, arguments.dest)["counts"]
    print(f"{arguments.dest}: " + "{classes} classes, {train} train and {val} val images".format(**counts))
    print(f"archive: {checksum}  {name}")
    if counts != OFFICIAL_COUNTS:
        official = "{classes} classes, {train} train and {val} val images".format(**OFFICIAL_COUNTS)
        print(f"this is not the official archive, which has {official}")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = OneLineParser(prog=Path(sys.argv[0]).name, description=__doc__.split("\n")[0])
    options.add_argument("--dest", type=Path, required=True, help="directory to make; must be new")
    source = options.add_mutually_exclusive_group()
    source.add_argument("--archive", type=Path, help=f"the official {OFFICIAL}, {WHERE}")
    source.add_argument("--url", help="https or file address to download the archive from, to a file beside --dest")
    options.add_argument("--sha256", type=checksum_argument, metavar="HEX", help="the archive's expected checksum")
    return options


if __name__ == "__main__":
    run_command(parser(), main)
