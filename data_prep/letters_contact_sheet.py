"""A contact sheet of the letters: classes of a few groups in some fonts of each split, with their names."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from letters import Letters, Row

GROUPS, OF_A_GROUP = 7, 4  # how many groups are shown, and how many classes of each
COLUMNS = {"train": 14, "validation": 8}  # fonts of each split, spread over the table
CELL, SCALE, GAP = 66, 2, 28  # pixels a cell, an image's magnification, and pixels between groups and splits
LEFT, HEAD = 290, 44  # for the names of classes, and for those of splits
PAPER, TEXT, HEADING = "white", "#1d2433", "#5b6478"


def spread(count: int, wanted: int) -> list[int]:
    """At most ``wanted`` of ``range(count)``, evenly spread.

    >>> spread(10, 4)
    [0, 3, 6, 9]
    """
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, wanted))})


def contact_sheet(splits: Mapping[str, "Letters"], classes: Sequence["Row"], fonts: Sequence["Row"]) -> Image.Image:
    """Rows: :data:`OF_A_GROUP` classes of each of :data:`GROUPS` groups. Columns: fonts, those of the splits apart.

    A cell without an image is a letter that its font does not have.

    Args:
        splits: the images, their labels and fonts being rows of the next two.
        classes: with ``name`` and ``group``.
        fonts: with ``family``, ``style`` and ``split``.
    """
    names = list(dict.fromkeys(row["group"] for row in classes))
    members = {name: [label for label, row in enumerate(classes) if row["group"] == name] for name in names}
    shown = {names[place]: members[names[place]][:OF_A_GROUP] for place in spread(len(names), GROUPS)}
    columns = {}
    for split, most in COLUMNS.items():
        own = [number for number, row in enumerate(fonts) if row["split"] == split]
        columns[split] = [own[place] for place in spread(len(own), most)] if own else []
    small, large = ImageFont.load_default(16), ImageFont.load_default(22)
    captions = [f"{row['family']} {row['style']}" for row in fonts]
    longest = max(int(small.getlength(captions[number])) for own in columns.values() for number in own)
    top_row = HEAD + longest + GAP
    width = LEFT + sum(len(own) * CELL + GAP for own in columns.values())
    sheet = Image.new("RGB", (width, top_row + sum(len(rows) * CELL + GAP for rows in shown.values())), PAPER)
    draw = ImageDraw.Draw(sheet)
    left = LEFT
    for split, own in columns.items():
        draw.text((left, 12), f"{split}: {len(splits[split])} images", font=large, fill=TEXT)
        for column, number in enumerate(own):
            _write_upwards(sheet, captions[number], (left + column * CELL, HEAD), longest, small)
        letters = splits[split]
        places = {
            key: place for place, key in enumerate(zip(letters.label.tolist(), letters.font.tolist(), strict=True))
        }
        top = top_row
        for labels in shown.values():
            for row, label in enumerate(labels):
                for column, number in enumerate(own):
                    if (place := places.get((label, number))) is not None:
                        image = Image.fromarray(letters.images[place])
                        image = image.resize((image.width * SCALE, image.height * SCALE), Image.Resampling.NEAREST)
                        sheet.paste(image, (left + column * CELL + 1, top + row * CELL + 1))
            top += len(labels) * CELL + GAP
        left += len(own) * CELL + GAP
    top = top_row
    for group, labels in shown.items():
        more = len(members[group]) - len(labels)
        draw.text((12, top - 22), group + (f", and {more} more" if more else ""), font=small, fill=HEADING)
        for row, label in enumerate(labels):
            end = (LEFT - 12, top + row * CELL + CELL // 2)
            draw.text(end, classes[label]["name"], font=small, fill=TEXT, anchor="rm")
        top += len(labels) * CELL + GAP
    return sheet


def _write_upwards(
    sheet: Image.Image, text: str, corner: tuple[int, int], length: int, font: ImageFont.FreeTypeFont
) -> None:
    """The name of a column of images, from its images upwards to ``corner``."""
    strip = Image.new("RGB", (length, 22), PAPER)
    ImageDraw.Draw(strip).text((0, 2), text, font=font, fill=TEXT)
    sheet.paste(strip.rotate(90, expand=True), (corner[0] + (CELL - 22) // 2, corner[1]))
