"""Recognise image files, and convert images of any depth to 8 bits per channel.

Grey images of more bits are scaled by the value of white. Pillow's own conversion clips them at 255.
"""

from typing import Literal, get_args

import numpy as np
from PIL import Image

# Formats that Pillow recognises but cannot decode, and PostScript, which is a program.
NOT_READ = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}

Image.preinit()  # formats are tried in this order: the usual ones first
Image.init()
FORMATS = [name for name in Image.ID if name not in NOT_READ]
SUFFIXES = {suffix for suffix, name in Image.registered_extensions().items() if name in {*FORMATS, "MPO"}}

WHITE = dict.fromkeys(("I;16", "I;16L", "I;16B", "I;16N", "I"), 65535) | {"F": 1}
"""The value of white for each of Pillow's modes; mode I has the 16 bits of PGM and of signed TIFF files."""

ARRAY_FILE = "images.npy"  # of a split in NumPy arrays, in place of images

ImageMode = Literal["L", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB"]
MODES: tuple[ImageMode, ...] = get_args(ImageMode)
"""Modes with 8 bits per channel."""


def convert(image: Image.Image, mode: str, white: float | None = None) -> Image.Image:
    """Convert an image to one of :data:`MODES`.

    Args:
        image: an image of any mode.
        mode: as for ``Image.convert``.
        white: the value of white in a grey image of more than 8 bits; that of :data:`WHITE` if None.

    Raises:
        ValueError: an image of more than 8 bits has values below 0 or above white; or Pillow has no such conversion.
    """
    if image.mode in WHITE:
        image = to_grey(image, white or WHITE[image.mode])
    elif image.mode == "P" and mode in ("L", "RGB"):
        image.info.pop("transparency", None)  # Pillow would drop it with a warning
    return image.convert(mode)


def to_grey(image: Image.Image, white: float) -> Image.Image:
    """Convert a grey image of more than 8 bits to mode L, with ``white`` mapped to 255.

    Raises:
        ValueError: it has values below 0, above ``white`` or NaN.
    """
    pixels = np.asarray(image).astype(np.float64)
    low, high = pixels.min(), pixels.max()
    if not 0 <= low <= high <= white:
        raise ValueError(f"values from {low:g} to {high:g} are not within 0 and {white:g}, see --max-pixel-value")
    return Image.fromarray(np.rint(pixels * 255 / white).astype(np.uint8))
