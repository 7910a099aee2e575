"""Rebuild the sample letters: draw them with Pillow from the fonts in Debian's packages that the table names.

A letter is drawn at 96 pixels; then the font's full extent, from the highest to the lowest point of all its letters
plus a margin, is scaled to 32 pixels, so that case and accents stay visible. Fonts and classes are those of the tables;
samples/README.md says how they were chosen. From the packages in letters_185_packages.tsv this gives exactly the bytes
of the shipped file; another version of FreeType, which Pillow's wheels include, may draw other pixels.
"""

import io
import lzma
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from debian import download, files_in_package, run_program
from letters_sample import SIDE, STEP, Row
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, features

from lskd.io.errors import input_error
from lskd.io.files import replacing, sha256

SIZE, MARGIN = 96, 4  # pixels of the font as it is drawn, and around its extent


def rebuild(classes: Sequence[Row], fonts: Sequence[Row], packages: Sequence[Row], path: Path) -> None:
    """Download the fonts' packages with ``apt-get``, write the sample to ``path``, and print what differs.

    Args:
        classes: the table of classes: their ``character``.
        fonts: the table of fonts: their ``package``, ``file`` and ``split``.
        packages: the table of packages: ``package``, ``version`` and ``sha256``.
        path: the sample file to write; it is replaced atomically.

    Raises:
        InputError: ``apt-get``, ``dpkg-deb`` or Raqm is missing or fails, or a package lacks a font of the table.
    """
    if not features.check("raqm"):  # the basic layout draws some letters of 15 fonts differently
        raise input_error("--rebuild", f"Pillow {Image.__version__}", "must have Raqm: install the library FriBiDi")
    with tempfile.TemporaryDirectory() as scratch:
        archives = download([row["package"] for row in packages], Path(scratch))
        for archive, row in zip(archives, packages, strict=True):
            if sha256(archive) != row["sha256"]:
                version = run_program("dpkg-deb", "--field", str(archive), "Version").stdout.strip()
                print(f"{row['package']}: version {version}, the sample's is {row['version']}")
        contents = {row["package"]: archive for archive, row in zip(archives, packages, strict=True)}
        drawn = draw_all([row["character"] for row in classes], fonts, contents)
    before = sha256(path) if path.exists() else None
    write_sample(path, drawn, np.array([row["split"] == "validation" for row in fonts]))
    same = "unchanged" if sha256(path) == before else "changed"
    drawer = f"Pillow {Image.__version__}, FreeType {features.version('freetype2')}"
    print(f"{path}: {sum(len(labels) for _, labels in drawn)} images from {len(packages)} packages, {drawer}; {same}")


def draw_all(
    characters: Sequence[str], fonts: Sequence[Row], archives: Mapping[str, Path]
) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Draw the letters of all fonts; see :func:`draw`.

    Args:
        characters: those of the classes, in the order of their labels.
        fonts: their ``package`` and ``file``.
        archives: the ``.deb`` file of each package.

    Raises:
        InputError: a package is damaged, or a font is missing or cannot be drawn.
    """
    found: dict[tuple[str, str], bytes] = {}
    for package, archive in archives.items():
        names = "|".join(re.escape(row["file"]) for row in fonts if row["package"] == package)
        for name, content in files_in_package(archive, re.compile(f".*/({names})")):
            found.setdefault((package, Path(name).name), content)
    drawn = []
    for row in fonts:
        content = found.get((row["package"], row["file"]))
        if content is None:
            raise input_error("--rebuild", archives[row["package"]].name, f"has no file {row['file']}")
        try:
            drawn.append(draw(content, characters))
        except OSError as error:
            raise input_error("--rebuild", row["file"], f"cannot be drawn: {error}") from None
    return drawn


def draw(content: bytes, characters: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw the letters of a font; an image that repeats an earlier one is left out.

    Args:
        content: the font's file.
        characters: those of the classes, in the order of their labels.

    Returns:
        Images, uint8 (N, 32, 32) from 0 to 15, and labels, uint8 (N,).
    """
    font = ImageFont.truetype(io.BytesIO(content), SIZE, layout_engine=ImageFont.Layout.RAQM)
    boxes = [font.getbbox(character, anchor="ls") for character in characters]
    top, bottom = min(box[1] for box in boxes), max(box[3] for box in boxes)
    images: dict[bytes, tuple[NDArray[np.uint8], int]] = {}
    for label, (character, (left, _, right, _)) in enumerate(zip(characters, boxes, strict=True)):
        side = int(max(bottom - top, right - left)) + 2 * MARGIN  # a letter wider than the extent is scaled down more
        canvas = Image.new("L", (side, side))
        corner = ((side - int(right - left)) // 2 - left, (side - int(bottom - top)) // 2 - top)
        ImageDraw.Draw(canvas).text(corner, character, fill=255, font=font, anchor="ls")
        small = np.asarray(canvas.resize((SIDE, SIDE), Image.Resampling.LANCZOS)).astype(np.int64)
        image = ((small + STEP // 2) // STEP).astype(np.uint8)
        images.setdefault(image.tobytes(), (image, label))
    return np.stack([image for image, _ in images.values()]), np.array([n for _, n in images.values()], np.uint8)


def write_sample(
    path: Path, drawn: Sequence[tuple[NDArray[np.uint8], NDArray[np.uint8]]], validation: NDArray[np.bool_]
) -> None:
    """Write the ``.npz.xz`` file atomically.

    Args:
        path: the file to write.
        drawn: images and labels of each font.
        validation: (fonts,), whether a font is in the validation split.
    """
    images = np.concatenate([images for images, _ in drawn])
    font = np.repeat(np.arange(len(drawn), dtype=np.uint16), [len(labels) for _, labels in drawn])
    content = io.BytesIO()
    np.savez(
        content,
        images=images[:, :, 0::2] << 4 | images[:, :, 1::2],
        label=np.concatenate([labels for _, labels in drawn]),
        font=font,
        validation=validation[font],
    )
    with replacing(path) as beside:
        beside.write_bytes(lzma.compress(content.getvalue(), preset=9))
