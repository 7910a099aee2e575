"""Read a split from memory-mapped NumPy files, for many small images: ``--dataset lskd/arrays``.

    DIR/classes.txt                     one class per line, in UTF-8, in the order of their labels
    DIR/train/images.npy                uint8, (N, H, W) for grey images, (N, H, W, 3) for RGB
    DIR/train/labels.npy                integers, (N,), from 0 to K - 1
    DIR/validation/{images,labels}.npy  likewise

A file is opened and mapped once; with a folder per class, every image is opened and decoded in every epoch.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset

from lskd.io.errors import input_error, shortened
from lskd_vision.image_files import ARRAY_FILE
from lskd_vision.image_folders import read_class_map

NAME = "lskd/arrays"
IMAGES, LABELS, CLASSES = ARRAY_FILE, "labels.npy", "classes.txt"


class ImageArrays(Dataset[tuple[Image.Image, int]]):
    """The images and labels of a split as PIL images and integers.

    Args:
        root: the directory of the split, with ``images.npy`` and ``labels.npy``; ``classes.txt`` is beside it.
        class_map: class names in the order of their labels, instead of those in ``classes.txt``. Images of other
            classes are left out, and the others are then copied to memory.

    Attributes:
        data: (N, H, W) or (N, H, W, 3), uint8, read-only.
        targets: (N,), int64.
        class_to_idx: the label of each class.
        missing: names of ``class_map`` that ``classes.txt`` does not have.

    Raises:
        InputError: a file is missing, damaged or does not fit the others; or a class has no images.
    """

    def __init__(self, root: Path, class_map: Sequence[str] | None = None) -> None:
        self.root = str(root)
        known = read_class_map(root.parent / CLASSES, "--data-dir")
        images, labels = _load(root / IMAGES), _load(root / LABELS)
        _check(images, labels, len(known), root)
        counts = np.bincount(labels, minlength=len(known))
        names = known if class_map is None else list(class_map)
        self.missing = [name for name in names if name not in known]
        self.left_out = {name: int(count) for name, count in zip(known, counts, strict=True) if name not in set(names)}
        if empty := [name for name, count in zip(known, counts, strict=True) if name in names and not count]:
            raise input_error("--data-dir", root, f"has no images of {shortened(empty)}")
        if len(self.missing) == len(names):
            raise input_error("--class-map", names[0], f"must name a class in {root.parent / CLASSES}")
        self.class_to_idx = {name: label for label, name in enumerate(names)}
        new_labels = np.array([self.class_to_idx.get(name, -1) for name in known])[labels]
        kept = new_labels >= 0
        self.data: NDArray[np.uint8] = images if kept.all() else images[kept]
        self.targets: NDArray[np.int64] = new_labels[kept]

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.data[index]), int(self.targets[index])

    def left_out_text(self) -> str:
        """Text about the images that ``class_map`` leaves out, to end a line with; empty if there are none."""
        if not self.left_out:
            return ""
        return f"; not read: {sum(self.left_out.values())} images of {shortened(self.left_out)}, not in --class-map"


def _load(path: Path) -> np.ndarray:
    """Map the array in a ``.npy`` file, read-only; nothing in it is executed. Raises InputError."""
    try:
        # A plain view: indexing numpy's memmap class takes four times as long.
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except OSError as error:
        raise input_error("--data-dir", path, f"cannot be read: {error.strerror or error}") from None
    except Exception as error:  # numpy raises many kinds of errors for damaged files
        raise input_error("--data-dir", path, f"must be a .npy file: {error}") from None


def _check(images: np.ndarray, labels: np.ndarray, num_classes: int, root: Path) -> None:
    """Check that images and labels fit each other and the classes. Raises InputError."""
    grey_or_rgb = images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)
    if images.dtype != np.uint8 or not grey_or_rgb or not images.size:
        found = f"{images.dtype} {images.shape}"
        raise input_error("--data-dir", root / IMAGES, f"must be uint8, (N, H, W) or (N, H, W, 3), not {found}")
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        found = f"{labels.dtype} {labels.shape}"
        raise input_error("--data-dir", root / LABELS, f"must be integers, ({len(images)},), not {found}")
    if labels.min() < 0 or labels.max() >= num_classes:
        found = f"has labels from {labels.min()} to {labels.max()}"
        raise input_error("--data-dir", root / LABELS, f"{found}, must be from 0 to {num_classes - 1}")
