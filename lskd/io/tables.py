"""Print tables on the terminal, and write them as csv or JSON."""

import csv
import io
import os
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lskd.io.files import write_json, write_text


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: the title with the unit, as in ``η(S1) %``.
        key: the key of the value in a row.
        form: the format of a number, such as ``.1f``.
    """

    title: str
    key: str
    form: str = ""


def show(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> str:
    """Format a text table: the first column left-aligned, the others right-aligned; None is a dash.

    >>> rows = [{"model": "teacher", "bleu": 22.14}, {"model": "student", "bleu": None}]
    >>> print(show(rows, [Column("model", "model"), Column("BLEU", "bleu", ".1f")]))
    model    BLEU
    teacher  22.1
    student     –
    """
    cells = [[column.title for column in columns]]
    cells += [[_format(row.get(column.key), column.form) for column in columns] for row in rows]
    widths = [max(map(width, column)) for column in zip(*cells, strict=True)]
    lines = []
    for line in cells:
        padded = [" " * (wide - width(cell)) for cell, wide in zip(line, widths, strict=True)]
        first, *others = zip(line, padded, strict=True)
        lines.append("  ".join([first[0] + first[1], *(space + cell for cell, space in others)]).rstrip())
    return "\n".join(lines)


def width(text: str) -> int:
    """The number of terminal columns a text takes: East Asian characters take two, combining ones none."""
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def write(
    path: str | os.PathLike[str], rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any] | None = None
) -> None:
    """Write rows, with all their keys, as csv or JSON, depending on the suffix, atomically.

    Args:
        path: ends in .csv or .json.
        rows: values are numbers, strings or None; in JSON also lists and dictionaries.
        about: further values, stored beside ``rows`` in JSON and left out in csv.
    """
    if Path(path).suffix == ".json":
        write_json(path, {**(about or {}), "rows": list(rows)})
        return
    write_text(path, csv_text(rows))


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Format rows, with all their keys, as csv; None is an empty cell.

    >>> csv_text([{"T": 1, "top1": 85.5}, {"T": 3}])
    'T,top1\\n1,85.5\\n3,\\n'
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _format(value: object, form: str) -> str:
    """The text of a cell."""
    if value is None:
        return "–"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return format(value, form)
    return str(value)
