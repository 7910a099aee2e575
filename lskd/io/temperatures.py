"""Temperatures on command lines: numbers, or the output file of ``lskd match-temperature``."""

import argparse
import csv
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from lskd.io.argument_types import number
from lskd.io.errors import InputError, input_error
from lskd.io.schema import Positive, convert, read_json

SUFFIXES = (".csv", ".json")


def temperatures(text: str) -> list[float]:
    """Parse a temperature, or a file of ``lskd match-temperature --output`` with one in each row; for argparse."""
    if not text.endswith(SUFFIXES):
        try:
            return [number(0, above=True)(text)]
        except argparse.ArgumentTypeError as error:
            valid = "must be a finite number above 0, or a .csv or .json file of `lskd match-temperature --output`"
            raise argparse.ArgumentTypeError(f"{text} ({valid})") from error
    try:
        return read_temperatures(Path(text))
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text} (cannot be read: {error.strerror})") from None
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def read_temperatures(path: Path) -> list[float]:
    """Read the matched temperatures, one per row, from a .csv or .json file that ``--output`` wrote.

    Raises:
        InputError: the file is not valid, or a temperature is not a finite number above 0.
        OSError: it cannot be read.
    """
    if path.suffix == ".json":
        return [row.temperature for row in read_json(path, _Matched).rows]
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets write a byte-order mark
        rows = list(csv.DictReader(text.splitlines(), strict=True, skipinitialspace=True))
    except (ValueError, csv.Error) as error:
        raise input_error("file", path, f"must be csv: {error}") from None
    return [row.temperature for row in convert({"rows": rows}, _Matched, str(path), strict=False).rows]


class _Row(msgspec.Struct):
    """A row of ``lskd match-temperature``."""

    reference_temperature: Positive  # tells the file from those of other commands, which have `temperature` too
    temperature: Positive


class _Matched(msgspec.Struct):
    """The output of ``lskd match-temperature``."""

    rows: Annotated[list[_Row], Meta(min_length=1)]
