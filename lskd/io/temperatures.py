"""Temperatures on command lines: numbers, or the output file of ``lskd match-temperature``."""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from lskd.io.argument_types import number
from lskd.io.errors import InputError, input_error
from lskd.io.schema import Positive, convert, read_json

SUFFIXES = (".csv", ".json")


def add_temperatures(parser: argparse.ArgumentParser, default: Sequence[float], help: str) -> None:
    """Add ``--temperatures``, whose value is a list of different temperatures; ``help`` is without the default.

    >>> parser = argparse.ArgumentParser()
    >>> add_temperatures(parser, [1, 2], "of the outputs")
    >>> parser.parse_args(["--temperatures", "3", "1.5"]).temperatures
    [3.0, 1.5]
    """
    said = f"{help} (default: {' '.join(f'{each:g}' for each in default)})"
    parser.add_argument(
        "--temperatures", type=temperatures, nargs="+", action=_Temperatures, default=default, metavar="T", help=said
    )


class _Temperatures(argparse.Action):
    """Store the temperatures of several values of :func:`temperatures` in one list."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        every = [temperature for value in values for temperature in value]
        try:
            check_different(self.option_strings[0], every)
        except InputError as error:
            raise argparse.ArgumentError(None, str(error)) from None
        setattr(namespace, self.dest, every)


def check_different(argument: str, temperatures: Sequence[float]) -> None:
    """Raise InputError if a temperature of a command line is given twice."""
    if len(set(temperatures)) < len(temperatures):
        raise input_error(argument, " ".join(f"{each:g}" for each in temperatures), "must be all different")


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
