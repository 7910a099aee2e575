"""The elements of a page, as data; ``templates/macros.html`` has the HTML of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple


@dataclass(frozen=True, kw_only=True)
class Section:
    """A section of a page; each kind is a subclass with the data that its template shows.

    Attributes:
        template: its template in ``templates/sections``; None for a section that has only parts.
        title: its heading.
        parts: its subsections.
    """

    template: ClassVar[str | None] = None
    title: str
    parts: Sequence["Section"] = ()


@dataclass(frozen=True)
class Head:
    """A cell of a table's head that spans several columns."""

    text: str
    span: int = 1


@dataclass(frozen=True)
class Cell:
    """A cell of a table's body.

    Attributes:
        text: text of the cell.
        notes: footnotes to it.
        prose: whether it is prose, which is left-aligned and breaks into lines.
    """

    text: str
    notes: Sequence[str] = ()
    prose: bool = False


@dataclass(frozen=True)
class Table:
    """A table whose first column names the row.

    Attributes:
        caption: caption of the table.
        heads: rows of the head.
        rows: rows of the body; a plain string is a cell without notes.
    """

    caption: str
    heads: Sequence[Sequence[str | Head]]
    rows: Sequence[Sequence[str | Cell]]

    @property
    def notes(self) -> list[str]:
        """The footnotes of its cells in reading order, each once."""
        cells = (cell for row in self.rows for cell in row if isinstance(cell, Cell))
        return list(dict.fromkeys(note for cell in cells for note in cell.notes))

    def letter(self, note: str) -> str:
        """The letter that marks a footnote: a, b, … z, aa, ab, …"""
        return _letters(self.notes.index(note))


class Svg(NamedTuple):
    """The text of an SVG, with its width and height in CSS pixels."""

    text: str
    width: int
    height: int


@dataclass(frozen=True)
class Drawing:
    """A drawing with its caption, the numbers it shows and the files it was made from.

    Attributes:
        svg: the image.
        alt: its alternative text.
        caption: its caption.
        tables: its numbers.
        files: the files it was made from.
        wide: whether it scrolls on a small screen instead of being shrunk.
    """

    svg: Svg
    alt: str
    caption: str
    tables: Sequence[Table]
    files: Sequence[str]
    wide: bool = False


@dataclass(frozen=True)
class Missing:
    """A placeholder for content that cannot be shown: the reason, and the command or options that would provide it."""

    reason: str
    command: str | None = None


def _letters(index: int) -> str:
    return (_letters(index // 26 - 1) if index >= 26 else "") + chr(ord("a") + index % 26)
