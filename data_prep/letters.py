"""Latin letters with diacritics in many fonts: 32x32 grey images of 185 classes, of which many resemble each other.

    python data_prep/letters.py --dest data-bin/letters
    python data_prep/letters.py --dest data-bin/lower --classes lower

DEST/
  classes.txt, {train,validation}/{images,labels}.npy   what `lskd vision train` reads with --dataset lskd/arrays
  groups.json                                           the classes of each base letter, for `lskd similar --groups`
  fonts.tsv                                             the fonts: family, design, package, licences, split
  contact_sheet.png                                     a part of the images, to look at
  manifest.json                                         what this is made of: counts, classes, checksums

The fonts of validation are of other designs than those of training. Images are in the order of fonts, then of classes.
"""

import argparse
import csv
import hashlib
import io
import lzma
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from archives import already_prepared, building
from numpy.typing import NDArray

from lskd.io.errors import OneLineParser, file_error_context, input_error, positive, run_command
from lskd.io.files import sha256, write_json, write_text

SAMPLES = Path(__file__).resolve().parent / "samples"
ENDS = (".npz.xz", "_classes.tsv", "_fonts.tsv", "_packages.tsv")
SAMPLE, CLASSES, FONTS, PACKAGES = (SAMPLES / f"letters_185{end}" for end in ENDS)
CASES = {"lower": "small_", "upper": "capital_"}  # by the beginning of the classes' names
SPLITS = ("train", "validation")
SIDE, LEVELS = 32, 16  # pixels, and their grey levels
LARGEST = 1 << 28  # bytes of the sample, unpacked; it has 23 MB

Row = dict[str, str]  # of a table, by its header


@dataclass(frozen=True)
class Letters:
    """Images with their labels and fonts.

    Attributes:
        images: uint8, (N, 32, 32), 0 is the background and 255 ink.
        label: (N,), the row of the image's class in the table of classes.
        font: (N,), the row of its font in the table of fonts.
    """

    images: NDArray[np.uint8]
    label: NDArray[np.int64]
    font: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.label)

    def select(self, chosen: NDArray[np.bool_]) -> "Letters":
        """The images where ``chosen`` (N,) is true."""
        return Letters(self.images[chosen], self.label[chosen], self.font[chosen])

    def of(self, class_rows: Sequence[int], font_rows: Sequence[int]) -> "Letters":
        """The images of some classes and fonts, with labels and fonts that count these alone; both ascend."""
        part = self.select(np.isin(self.label, class_rows) & np.isin(self.font, font_rows))
        return Letters(part.images, np.searchsorted(class_rows, part.label), np.searchsorted(font_rows, part.font))


def read_table(path: Path) -> list[Row]:
    """The rows of a table of the sample: tabs between columns, the first line has their names."""
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def unpack(packed: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pixels from 0 to 255 of images (N, H, W / 2) with two pixels of 4 bits a byte, the left one in the high bits.

    >>> unpack(np.array([[[0x0F, 0x10]]], np.uint8))
    array([[[  0, 255,  17,   0]]], dtype=uint8)
    """
    pixels = np.stack([packed >> 4, packed & 15], axis=-1)
    return (pixels * (255 // (LEVELS - 1))).reshape(*packed.shape[:-1], -1)


def read_sample(path: Path, num_classes: int, num_fonts: int) -> Letters:
    """The images of an ``.npz.xz`` file, checked.

    Raises:
        InputError: the file is not one of ours.
    """
    try:
        with lzma.open(path) as file:
            content = io.BytesIO(file.read(LARGEST))
        with np.load(content, allow_pickle=False) as arrays:
            images, label, font = (arrays[name] for name in ("images", "label", "font"))
    except Exception as error:  # numpy has no one kind of error for a file that is not what it should be
        raise input_error("sample", path, f"cannot be read: {error}") from None
    if images.dtype != np.uint8 or images.shape[1:] != (SIDE, SIDE // 2) or not len(images):
        found = f"{images.dtype} {images.shape}"
        raise input_error("sample", path, f"must hold images, uint8 (N, {SIDE}, {SIDE // 2}), not {found}")
    for name, numbers, rows in (("label", label, num_classes), ("font", font, num_fonts)):
        if numbers.dtype.kind not in "iu" or numbers.shape != images.shape[:1] or not 0 <= numbers.max() < rows:
            raise input_error("sample", path, f"must hold {name}, integers ({len(images)},) from 0 to {rows - 1}")
    return Letters(unpack(images), label.astype(np.int64), font.astype(np.int64))


def chosen_classes(value: str, classes: Sequence[Row]) -> list[int]:
    """The rows of the classes of ``--classes``, in the order of the table.

    Raises:
        InputError: a class is unknown, or there are fewer than two, or the file cannot be read.
    """
    names = [row["name"] for row in classes]
    if value == "all":
        return list(range(len(names)))
    if value in CASES:
        return [row for row, name in enumerate(names) if name.startswith(CASES[value])]
    try:
        lines = Path(value).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        valid = f"must be all, lower, upper, or a file of classes, one a line: {reason}"
        raise input_error("--classes", value, valid) from None
    wanted = {line.strip() for line in lines} - {""}
    if unknown := sorted(wanted - set(names)):
        raise input_error("--classes", value, f"names {unknown[0]!r} (must be names of {CLASSES.name})")
    if len(wanted) < 2:
        raise input_error("--classes", value, f"names {len(wanted)} classes (must be at least 2)")
    return [row for row, name in enumerate(names) if name in wanted]


def spread_order(fonts: Sequence[Row]) -> list[int]:
    """The rows of the training fonts in an order of which any beginning is spread over families.

    First one font of each family, then the second of each, and so on; families by a hash of their name.
    """
    seen: dict[str, int] = {}
    keys = []
    for row, font in enumerate(fonts):
        if font["split"] == "train":
            rank = seen[font["family"]] = seen.get(font["family"], -1) + 1
            keys.append((rank, hashlib.sha256(font["family"].encode()).hexdigest(), row))
    return [row for _, _, row in sorted(keys)]


def chosen_fonts(number: int | None, fonts: Sequence[Row]) -> list[int]:
    """The rows of the fonts: the first ``number`` of :func:`spread_order` for training, and all of validation.

    Raises:
        InputError: there are fewer training fonts.
    """
    training = spread_order(fonts)
    if number is not None and number > len(training):
        raise input_error("--fonts", number, f"must be at most {len(training)}, all training fonts")
    return sorted(training[:number] + [row for row, font in enumerate(fonts) if font["split"] == "validation"])


def groups_of(classes: Sequence[Row]) -> dict[str, list[str]]:
    """The names of the classes by group, which has one base letter."""
    groups: dict[str, list[str]] = {}
    for row in classes:
        groups.setdefault(row["group"], []).append(row["name"])
    return groups


def write_split(directory: Path, letters: Letters) -> dict[str, str]:
    """Write ``images.npy`` and ``labels.npy`` of a split, and return their SHA-256 by name."""
    directory.mkdir()
    np.save(directory / "images.npy", letters.images)
    np.save(directory / "labels.npy", letters.label)
    return {f"{directory.name}/{path.name}": sha256(path) for path in sorted(directory.iterdir())}


def write_data(
    dest: Path, splits: dict[str, Letters], classes: list[Row], fonts: list[Row], parameters: dict, origin: dict
) -> None:
    """Make the directory in one step.

    Args:
        dest: the directory to make; it appears when everything in it is whole.
        splits: the images of each split, with labels and fonts that are rows of the next two.
        classes: those that are written.
        fonts: likewise.
        parameters: what decides the outcome, for the manifest and for :func:`archives.already_prepared`.
        origin: where the images come from.
    """
    from letters_contact_sheet import contact_sheet

    with building(dest) as directory:
        digests: dict[str, str] = {}
        for split, letters in splits.items():
            digests |= write_split(directory / split, letters)
        write_text(directory / "classes.txt", "".join(f"{row['name']}\n" for row in classes))
        write_json(directory / "groups.json", groups_of(classes))
        lines = [list(fonts[0]), *(list(row.values()) for row in fonts)]
        write_text(directory / "fonts.tsv", "".join("\t".join(line) + "\n" for line in lines))
        with file_error_context(directory / "contact_sheet.png"):
            contact_sheet(splits, classes, fonts).save(directory / "contact_sheet.png")
        manifest = {
            "parameters": parameters,
            "origin": origin,
            "counts": {split: len(letters) for split, letters in splits.items()},
            "classes": [row["name"] for row in classes],
            "sha256": digests,
        }
        write_json(directory / "manifest.json", manifest)


def description(rows: list[int], classes: Sequence[Row]) -> str | list[str]:
    """Chosen classes as a manifest has them: the word of ``--classes`` where there is one, else their names."""
    words = (word for word in ("all", *CASES) if chosen_classes(word, classes) == rows)
    return next(words, [classes[row]["name"] for row in rows])


def main(arguments: argparse.Namespace) -> None:
    """Make, or recognise, the data directory."""
    classes, fonts = read_table(CLASSES), read_table(FONTS)
    class_rows = chosen_classes(arguments.classes, classes)
    font_rows = chosen_fonts(arguments.fonts, fonts)
    if arguments.rebuild:
        from letters_rebuild import rebuild

        rebuild(classes, fonts, read_table(PACKAGES), SAMPLE)
    parameters = {
        "data_set": "letters",
        "classes": description(class_rows, classes),
        "fonts": arguments.fonts,
        "sample_sha256": sha256(SAMPLE),
    }
    if already_prepared(arguments.dest, parameters):
        print(f"{arguments.dest} is ready")
        return
    letters = read_sample(SAMPLE, len(classes), len(fonts)).of(class_rows, font_rows)
    classes, fonts = [classes[row] for row in class_rows], [fonts[row] for row in font_rows]
    in_split = {split: np.array([font["split"] == split for font in fonts]) for split in SPLITS}
    splits = {split: letters.select(own[letters.font]) for split, own in in_split.items()}
    origin = {
        "what": "letters drawn from fonts of Debian's packages; see data_prep/samples/README.md",
        "licences": sorted({font["licences"] for font in fonts}),
    }
    write_data(arguments.dest, splits, classes, fonts, parameters, origin)
    sizes = " and ".join(f"{len(splits[split])} {split} images ({in_split[split].sum()} fonts)" for split in SPLITS)
    print(f"{arguments.dest}: {sizes} of {len(classes)} classes")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = OneLineParser(prog=Path(sys.argv[0]).name, description=__doc__.split("\n")[0])
    options.add_argument("--dest", type=Path, required=True, help="directory to make; must be new")
    options.add_argument(
        "--classes",
        default="all",
        metavar="WHICH",
        help="all (default), lower, upper, or a file of names of samples/letters_185_classes.tsv, one a line",
    )
    options.add_argument(
        "--fonts", type=positive, metavar="N", help="train on N fonts of many families (190, all, by default)"
    )
    options.add_argument("--rebuild", action="store_true", help="first make the sample afresh from Debian's packages")
    return options


if __name__ == "__main__":
    run_command(parser(), main)
