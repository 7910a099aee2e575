"""Tables for people, in the terminal, and for programs, as csv or JSON."""

import argparse
import csv
import io
import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lskd.io.files import write_json, write_text

RUN_FILES = ("run.json", "summary.csv")  # which every training leaves beside its checkpoints


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: with the unit, as in ``η(S1) %``.
        key: of the row's value.
        form: how a number is written, as in ``.1f``.
    """

    title: str
    key: str
    form: str = ""


def show(rows: Sequence[dict], columns: Sequence[Column]) -> str:
    """A text table, one line a row, the first column to the left and all others to the right; None is a dash.

    >>> rows = [{"model": "teacher", "bleu": 22.14}, {"model": "student", "bleu": None}]
    >>> print(show(rows, [Column("model", "model"), Column("BLEU", "bleu", ".1f")]))
    model    BLEU
    teacher  22.1
    student     –
    """
    cells = [[column.title for column in columns]]
    cells += [[_written(row.get(column.key), column.form) for column in columns] for row in rows]
    widths = [max(map(width, column)) for column in zip(*cells, strict=True)]
    lines = []
    for line in cells:
        padded = [" " * (wide - width(cell)) for cell, wide in zip(line, widths, strict=True)]
        first, *others = zip(line, padded, strict=True)
        lines.append("  ".join([first[0] + first[1], *(space + cell for cell, space in others)]).rstrip())
    return "\n".join(lines)


def width(text: str) -> int:
    """How many columns of a terminal a text takes: characters of East Asian scripts take two, combining ones none."""
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def output_file(text: str) -> Path:
    """A file for :func:`write`, as an argument type for argparse: its name and directory are checked at once."""
    path = Path(text)
    if path.suffix not in (".csv", ".json"):
        raise argparse.ArgumentTypeError(f"{path} (must end in .csv or .json)")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{path} (must be in a directory that exists)")
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} (must be a file)")
    if path.name in RUN_FILES and (path.parent / "run.json").is_file():
        raise argparse.ArgumentTypeError(f"{path} (is a file of a training, must be another)")
    return path


def write(path: str | os.PathLike, rows: Sequence[dict], about: dict | None = None) -> None:
    """Write rows, with all their keys, as csv or as JSON, by the suffix, in one step.

    Args:
        path: ends in .csv or .json.
        rows: values are numbers, text or None; in JSON also lists and dictionaries.
        about: what is said once; JSON holds it beside ``rows``, csv leaves it out.
    """
    if Path(path).suffix == ".json":
        write_json(path, {**(about or {}), "rows": list(rows)})
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def _written(value: object, form: str) -> str:
    if value is None:
        return "–"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return format(value, form)
    return str(value)
