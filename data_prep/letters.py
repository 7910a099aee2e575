"""Latin letters with diacritics in many fonts: 32x32 grey images of 185 classes, many of them similar.

    python data_prep/letters.py --dest data-bin/letters
    python data_prep/letters.py --dest data-bin/lower --classes lower

DEST/
  classes.txt, {train,validation}/{images,labels}.npy   for `lskd vision train` with --dataset lskd/arrays
  groups.json                                           the classes of each base letter, for `lskd similar --groups`
  fonts.tsv                                             the fonts: family, design, package, licences, split
  contact_sheet.png                                     some of the images
  manifest.json                                         counts, classes, checksums, origin

Validation fonts have different designs from the training fonts. Images are sorted by font, then by class.
"""

import argparse
import hashlib
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from archives import already_prepared
from letters_contact_sheet import contact_sheet
from letters_rebuild import rebuild
from letters_sample import CLASSES, FONTS, PACKAGES, SAMPLE, Letters, Row, read_sample, read_table

from lskd.io.argument_types import positive
from lskd.io.errors import OneLineParser, file_error_context, input_error, run_command
from lskd.io.files import building, sha256, write_json, write_text

CASES = {"lower": "small_", "upper": "capital_"}  # values of --classes: how the classes' names begin
SPLITS = ("train", "validation")
FONTS_OF = {"train": "--fonts", "validation": "--validation-fonts"}


def chosen_classes(value: str, classes: Sequence[Row]) -> list[int]:
    """The rows of the classes that ``--classes`` selects, in the order of the table.

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
        valid = f"must be all, lower, upper, or a file of classes, one per line: {reason}"
        raise input_error("--classes", value, valid) from None
    wanted = {line.strip() for line in lines} - {""}
    if unknown := sorted(wanted - set(names)):
        raise input_error("--classes", value, f"names {unknown[0]!r}, must be names of {CLASSES.name}")
    if len(wanted) < 2:
        raise input_error("--classes", value, f"names {len(wanted)} classes, must be at least 2")
    return [row for row, name in enumerate(names) if name in wanted]


def spread_order(fonts: Sequence[Row], split: str = "train") -> list[int]:
    """The rows of a split's fonts, ordered so that the first N come from as many families as possible.

    First one font of each family, then a second of each, and so on; families are sorted by a hash of their name.
    """
    seen: dict[str, int] = {}
    keys = []
    for row, font in enumerate(fonts):
        if font["split"] == split:
            rank = seen[font["family"]] = seen.get(font["family"], -1) + 1
            keys.append((rank, hashlib.sha256(font["family"].encode()).hexdigest(), row))
    return [row for _, _, row in sorted(keys)]


def chosen_fonts(numbers: Mapping[str, int | None], fonts: Sequence[Row], others: bool = False) -> list[int]:
    """The rows of the selected fonts: of each split the first ones of :func:`spread_order`, all of them for None.

    Args:
        numbers: how many, by split.
        fonts: the table of fonts.
        others: choose the fonts that follow these first ones instead.

    Raises:
        InputError: a split has fewer fonts.
    """
    rows = []
    for split, option in FONTS_OF.items():
        order, number = spread_order(fonts, split), numbers[split]
        if others and (number is None or 2 * number > len(order)):
            valid = f"must be at most {len(order) // 2}, half of the {split} fonts, for --other-fonts"
            raise input_error(option, "not given" if number is None else number, valid)
        if number is not None and number > len(order):
            raise input_error(option, number, f"must be at most {len(order)}, all {split} fonts")
        rows += order[number : 2 * number] if others and number else order[:number]
    return sorted(rows)


def groups_of(classes: Sequence[Row]) -> dict[str, list[str]]:
    """The names of the classes by group: the letters with the same base letter."""
    groups: dict[str, list[str]] = {}
    for row in classes:
        groups.setdefault(row["group"], []).append(row["name"])
    return groups


def write_split(directory: Path, letters: Letters) -> dict[str, str]:
    """Write ``images.npy`` and ``labels.npy`` of a split, and return the SHA-256 of each file."""
    directory.mkdir()
    for name, array in (("images", letters.images), ("labels", letters.label)):
        buffer = io.BytesIO()  # np.save to a file does not say why it fails, as when the disk is full
        np.save(buffer, array)
        (directory / f"{name}.npy").write_bytes(buffer.getbuffer())
    return {f"{directory.name}/{path.name}": sha256(path) for path in sorted(directory.iterdir())}


def write_data(
    dest: Path,
    splits: Mapping[str, Letters],
    classes: Sequence[Row],
    fonts: Sequence[Row],
    parameters: Mapping[str, Any],
) -> None:
    """Write the data directory atomically.

    Args:
        dest: the directory to make.
        splits: the images of each split; their labels and fonts are rows of the next two tables.
        classes: the selected classes.
        fonts: the selected fonts.
        parameters: for the manifest, where :func:`archives.already_prepared` looks for them.
    """
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
            "origin": {
                "what": "letters drawn from fonts of Debian's packages; see data_prep/samples/README.md",
                "licences": sorted({font["licences"] for font in fonts}),
            },
            "counts": {split: len(letters) for split, letters in splits.items()},
            "classes": [row["name"] for row in classes],
            "sha256": digests,
        }
        write_json(directory / "manifest.json", manifest)


def description(rows: Sequence[int], classes: Sequence[Row]) -> str | list[str]:
    """The selected classes for the manifest: the value of ``--classes`` that selects them, or their names."""
    words = (word for word in ("all", *CASES) if chosen_classes(word, classes) == rows)
    return next(words, [classes[row]["name"] for row in rows])


def main(arguments: argparse.Namespace) -> None:
    """Make the data directory, unless it is there already."""
    classes, fonts = read_table(CLASSES), read_table(FONTS)
    class_rows = chosen_classes(arguments.classes, classes)
    numbers = {"train": arguments.fonts, "validation": arguments.validation_fonts}
    font_rows = chosen_fonts(numbers, fonts, arguments.other_fonts)
    if arguments.rebuild:
        rebuild(classes, fonts, read_table(PACKAGES), SAMPLE)
    parameters: dict[str, Any] = {
        "data_set": "letters",
        "classes": description(class_rows, classes),
        "fonts": arguments.fonts,
        "sample_sha256": sha256(SAMPLE),
    }
    if arguments.validation_fonts is not None:  # older manifests do not have it
        parameters["validation_fonts"] = arguments.validation_fonts
    if arguments.other_fonts:
        parameters["other_fonts"] = True
    if already_prepared(arguments.dest, parameters):
        return
    letters = read_sample(SAMPLE, len(classes), len(fonts)).subset(class_rows, font_rows)
    classes, fonts = [classes[row] for row in class_rows], [fonts[row] for row in font_rows]
    in_split = {split: np.array([font["split"] == split for font in fonts]) for split in SPLITS}
    splits = {split: letters.select(mask[letters.font]) for split, mask in in_split.items()}
    write_data(arguments.dest, splits, classes, fonts, parameters)
    numbers = {split: int(in_split[split].sum()) for split in SPLITS}
    sizes = " and ".join(
        f"{len(splits[split])} {split} images ({number} font{'s' * (number > 1)})" for split, number in numbers.items()
    )
    print(f"{arguments.dest}: {sizes} of {len(classes)} classes")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = OneLineParser(prog=Path(sys.argv[0]).name, description=__doc__.split("\n")[0])
    options.add_argument("--dest", type=Path, required=True, help="directory to make; must be new")
    options.add_argument(
        "--classes",
        default="all",
        metavar="WHICH",
        help="all (default), lower, upper, or a file of names in samples/letters_185_classes.tsv, one per line",
    )
    options.add_argument(
        "--fonts",
        type=positive,
        metavar="N",
        help="train on N fonts, of as many families as possible (default 190, all)",
    )
    options.add_argument(
        "--validation-fonts", type=positive, metavar="N", help="validate on N fonts, likewise (default 48, all)"
    )
    options.add_argument(
        "--other-fonts", action="store_true", help="as many fonts again, none of them among the first: of other designs"
    )
    options.add_argument("--rebuild", action="store_true", help="first rebuild the sample from Debian's packages")
    return options


if __name__ == "__main__":
    run_command(parser(), main)
