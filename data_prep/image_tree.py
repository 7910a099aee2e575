"""Images as a tree of one folder per class and split, which timm reads with an empty ``--dataset``."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lskd.io.files import building, write_json


def folder_of(name: str) -> str:
    """The folder of a class: its name, with hyphens for slashes.

    >>> folder_of("T-shirt/top")
    'T-shirt-top'
    """
    return name.replace("/", "-")


def write_trees(
    dest: Path,
    splits: Mapping[str, tuple[NDArray[np.uint8], NDArray[np.integer[Any]]]],
    names: Mapping[int, str],
    parameters: dict[str, Any],
    origin: dict[str, Any],
) -> None:
    """Make ``dest`` atomically: the tree of each split, and ``manifest.json``.

    Args:
        dest: the directory to make; it appears when it is complete.
        splits: images and labels by split, as for :func:`write_tree`.
        names: of the classes, by label, in the order of their folders.
        parameters: what determines the result, for the manifest and for :func:`archives.already_prepared`.
        origin: the origin of the images.
    """
    with building(dest) as directory:
        digests = {split: write_tree(directory / split, *arrays, names) for split, arrays in splits.items()}
        manifest = {
            "parameters": parameters,
            "origin": origin,
            "counts": {split: len(labels) for split, (_, labels) in splits.items()},
            "classes": list(names.values()),
            "sha256": digests,
        }
        write_json(directory / "manifest.json", manifest)


def write_tree(
    directory: Path, images: NDArray[np.uint8], labels: NDArray[np.integer[Any]], names: Mapping[int, str]
) -> str:
    """Write ``directory/CLASS/00001.png`` and so on, the images of each class numbered in their order.

    Args:
        directory: the split's directory; made here.
        images: uint8, (N, H, W) for grey ones, (N, H, W, 3) for colour.
        labels: whole numbers, (N,), all of them keys of ``names``.
        names: of the classes, by label.

    Returns:
        A SHA-256 of the whole tree: of the output of ``sha256sum``, the lines "SHA-256 of the file, two spaces,
        CLASS/NUMBER.png" in the order of their paths. Another version of Pillow may compress the same pixels to other
        bytes.
    """
    lines = {}
    for label, name in names.items():
        folder = directory / folder_of(name)
        folder.mkdir(parents=True)
        for number, image in enumerate(images[labels == label], 1):
            path = folder / f"{number:05}.png"
            Image.fromarray(image).save(path)
            inside = f"{folder.name}/{path.name}"
            lines[inside] = f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {inside}\n"
    return hashlib.sha256("".join(lines[inside] for inside in sorted(lines)).encode()).hexdigest()
