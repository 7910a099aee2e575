"""Temperatures on command lines: numbers, or the file in which ``lskd match-temperature`` has left what it found."""

import argparse
import contextlib
import csv
import sys
from collections.abc import Callable
from pathlib import Path

from lskd.io.files import parse_json
from lskd.records.runs import look_up

SUFFIXES = (".csv", ".json")


def temperatures(text: str, number: Callable[[str], float] = float) -> list[float]:
    """An argument type: a temperature, or a file of ``lskd match-temperature --output``, whose rows have one each.

    ``number`` reads a single one.
    """
    if not text.endswith(SUFFIXES):
        try:
            return [number(text)]
        except (ValueError, argparse.ArgumentTypeError) as error:
            valid = "must be a number above 0, or a .csv or .json file of `lskd match-temperature --output`"
            raise argparse.ArgumentTypeError(f"{text} ({valid})") from error
    try:
        return read_temperatures(Path(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} ({error})") from None


def read_temperatures(path: Path) -> list[float]:
    """The temperatures of OTHER, a row each, in the file that ``--output`` makes, .csv or .json.

    Raises:
        ValueError: it cannot be read as such a file, or a temperature is not a finite number above 0; the message says
            what must be.
    """
    kind = path.suffix.removeprefix(".")
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets put a mark before a csv's first name
        rows = _csv_rows(text) if kind == "csv" else look_up(parse_json(text), "rows")
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    except (ValueError, csv.Error) as error:
        raise ValueError(f"must be {'csv' if kind == 'csv' else 'JSON'}: {error}") from None
    known = {"reference_temperature", "temperature"}  # the second alone is in the figures of other commands too
    if not isinstance(rows, list) or not all(isinstance(row, dict) and known <= row.keys() for row in rows):
        raise ValueError(f"must be what `lskd match-temperature --output FILE.{kind}` writes")
    if not rows:
        raise ValueError("has no rows, must have one for each temperature")
    found = [row["temperature"] for row in rows]
    for value in found:
        if type(value) not in (int, float) or not 0 < value <= sys.float_info.max:
            text = ascii(value)
            shown = text if len(text) <= 60 else text[:60] + "…"
            raise ValueError(f"has the temperature {shown}, must be numbers above 0")
    return [float(value) for value in found]


def _csv_rows(text: str) -> list[dict]:
    """The rows of a csv file; what is no number in them stays as it is."""
    rows = list(csv.DictReader(text.splitlines(), strict=True))
    for row in rows:
        with contextlib.suppress(KeyError, TypeError, ValueError):
            row["temperature"] = float(row["temperature"])
    return rows
