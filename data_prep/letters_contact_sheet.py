"""Draw a contact sheet of the letters: some classes of a few groups, in some fonts of each split."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from letters_sample import SIDE, Letters, Row
from PIL import Image, ImageDraw, ImageFont

T = TypeVar("T")
GROUPS, OF_A_GROUP = 7, 4  # groups, and classes of each
COLUMNS = {"train": 14, "validation": 8}  # fonts of each split
SCALE, GAP = 2, 28  # magnification of an image, and pixels between groups and between splits
CELL = SIDE * SCALE + 2  # with a line between images
LEFT, HEAD = 290, 44  # for the names of classes, and for those of splits
PAPER, TEXT, HEADING = "white", "#1d2433", "#5b6478"


def contact_sheet(splits: Mapping[str, Letters], classes: Sequence[Row], fonts: Sequence[Row]) -> Image.Image:
    """Rows: :data:`OF_A_GROUP` classes of each of :data:`GROUPS` groups. Columns: fonts, by split.

    Args:
        splits: the images of each split; their labels and fonts are rows of the next two tables.
        classes: with ``name`` and ``group``.
        fonts: with ``family``, ``style`` and ``split``.
    """
    groups: dict[str, list[int]] = {}
    for label, row in enumerate(classes):
        groups.setdefault(row["group"], []).append(label)
    shown = {group: groups[group][:OF_A_GROUP] for group in spread(list(groups), GROUPS)}
    columns = {
        split: spread([number for number, row in enumerate(fonts) if row["split"] == split], most)
        for split, most in COLUMNS.items()
    }
    small, large = ImageFont.load_default(16), ImageFont.load_default(22)
    captions = [f"{row['family']} {row['style']}" for row in fonts]
    longest = max(int(small.getlength(captions[number])) for own in columns.values() for number in own)
    *across, width = starts(LEFT, columns.values())
    *down, height = starts(HEAD + longest + GAP, shown.values())
    lefts, tops = dict(zip(columns, across, strict=True)), dict(zip(shown, down, strict=True))
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    for split, own in columns.items():
        draw.text((lefts[split], 12), f"{split}: {len(splits[split])} images", font=large, fill=TEXT)
        for column, number in enumerate(own):
            caption = Image.new("RGB", (longest, 22), PAPER)
            ImageDraw.Draw(caption).text((0, 2), captions[number], font=small, fill=TEXT)
            sheet.paste(caption.rotate(90, expand=True), (lefts[split] + column * CELL + (CELL - 22) // 2, HEAD))
        for group, labels in shown.items():
            sheet.paste(montage(splits[split], labels, own), (lefts[split], tops[group]))
    for group, labels in shown.items():
        more = len(groups[group]) - len(labels)
        draw.text((12, tops[group] - 22), group + (f", and {more} more" if more else ""), font=small, fill=HEADING)
        for row, label in enumerate(labels):
            end = LEFT - 12, tops[group] + row * CELL + CELL // 2
            draw.text(end, classes[label]["name"], font=small, fill=TEXT, anchor="rm")
    return sheet


def spread(values: Sequence[T], number: int) -> list[T]:
    """At most ``number`` of ``values``, evenly spread.

    >>> spread("abcdefghij", 4)
    ['a', 'd', 'g', 'j']
    """
    return [values[round(place)] for place in np.linspace(0, len(values) - 1, min(len(values), number))]


def starts(first: int, blocks: Iterable[Sequence[int]]) -> list[int]:
    """The position of each block of cells, the first at ``first``, and that of a block after the last."""
    return list(itertools.accumulate((len(block) * CELL + GAP for block in blocks), initial=first))


def montage(letters: Letters, labels: Sequence[int], fonts: Sequence[int]) -> Image.Image:
    """Tile images, with a row per label and a column per font; white if a font lacks the letter."""
    cells = np.full((len(labels), len(fonts), CELL, CELL), 255, np.uint8)
    for row, label in enumerate(labels):
        for column, font in enumerate(fonts):
            for image in letters.images[(letters.label == label) & (letters.font == font)]:
                cells[row, column, 1:-1, 1:-1] = image.repeat(SCALE, axis=0).repeat(SCALE, axis=1)
    return Image.fromarray(cells.transpose(0, 2, 1, 3).reshape(len(labels) * CELL, len(fonts) * CELL))
