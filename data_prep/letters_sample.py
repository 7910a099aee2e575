"""The sample letters that ship with the project: their images and tables."""

import csv
import io
import lzma
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lskd.io.errors import input_error

SAMPLES = Path(__file__).resolve().parent / "samples"
SAMPLE, CLASSES, FONTS, PACKAGES = (
    SAMPLES / f"letters_185{end}" for end in (".npz.xz", "_classes.tsv", "_fonts.tsv", "_packages.tsv")
)
SIDE, LEVELS = 32, 16  # pixels of an image, and their grey levels
STEP = 255 // (LEVELS - 1)  # between two grey levels
LARGEST = 1 << 28  # bytes to unpack at most; the sample has 23 MB

Row = dict[str, str]  # of a table, by column


@dataclass(frozen=True)
class Letters:
    """Images with their labels and fonts.

    Attributes:
        images: uint8, (N, 32, 32), from 0 for the background to 255 for ink.
        label: (N,), the row of the image's class in the table of classes.
        font: (N,), the row of the image's font in the table of fonts.
    """

    images: NDArray[np.uint8]
    label: NDArray[np.int64]
    font: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.label)

    def select(self, mask: NDArray[np.bool_]) -> Self:
        """The images where ``mask`` (N,) is true."""
        return type(self)(self.images[mask], self.label[mask], self.font[mask])

    def subset(self, class_rows: Sequence[int], font_rows: Sequence[int]) -> Self:
        """The images of these classes and fonts, renumbered from 0; both sequences ascend."""
        part = self.select(np.isin(self.label, class_rows) & np.isin(self.font, font_rows))
        label, font = np.searchsorted(class_rows, part.label), np.searchsorted(font_rows, part.font)
        return type(self)(part.images, label, font)


def read_table(path: Path) -> list[Row]:
    """Read the rows of a table of the sample: tab-separated, with the columns' names in the first line."""
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def unpack(packed: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Unpack images (N, H, W / 2) with two 4-bit pixels per byte, the left one in the high nibble, to 0 … 255.

    >>> unpack(np.array([[[0x0F, 0x10]]], np.uint8))
    array([[[  0, 255,  17,   0]]], dtype=uint8)
    """
    levels = np.stack([packed >> 4, packed & 15], axis=-1).reshape(*packed.shape[:-1], -1)
    return (levels * STEP).astype(np.uint8)


def read_sample(path: Path, num_classes: int, num_fonts: int) -> Letters:
    """Read and validate the images of an ``.npz.xz`` file.

    Raises:
        InputError: the file is damaged or has other arrays.
    """
    try:
        with lzma.open(path) as file:
            content = io.BytesIO(file.read(LARGEST))
        with np.load(content, allow_pickle=False) as arrays:
            images, label, font = (arrays[name] for name in ("images", "label", "font"))
    except Exception as error:  # numpy raises many kinds for damaged files
        raise input_error("sample", path, f"cannot be read: {error}") from None
    if images.dtype != np.uint8 or images.shape[1:] != (SIDE, SIDE // 2) or not len(images):
        found = f"{images.dtype} {images.shape}"
        raise input_error("sample", path, f"must hold images, uint8 (N, {SIDE}, {SIDE // 2}), not {found}")
    for name, numbers, rows in (("label", label, num_classes), ("font", font, num_fonts)):
        if numbers.dtype.kind not in "iu" or numbers.shape != images.shape[:1] or not 0 <= numbers.max() < rows:
            raise input_error("sample", path, f"must hold {name}, integers ({len(images)},) from 0 to {rows - 1}")
    return Letters(unpack(images), label.astype(np.int64), font.astype(np.int64))
