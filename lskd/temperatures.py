"""Temperatures on command lines: numbers, or the file in which ``lskd match-temperature`` has left what it found."""

import argparse
import math
from collections.abc import Callable
from pathlib import Path

from lskd.files import parse_json


def temperatures(text: str, number: Callable[[str], float] = float) -> list[float]:
    """An argument type: a temperature, or a file of ``lskd match-temperature --output``, whose rows have one each.

    ``number`` reads a single one.
    """
    if not text.endswith(".json"):
        try:
            return [number(text)]
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} (must be a number, or a file of match-temperature)") from None
    try:
        return read_temperatures(Path(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} ({error})") from None


def read_temperatures(path: Path) -> list[float]:
    """The temperatures of OTHER, a row each, in the JSON file that ``--output`` makes.

    Raises:
        ValueError: it cannot be read as such a file; the message says what it must be.
    """
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"must be JSON: {error}") from None
    rows = content.get("rows") if isinstance(content, dict) else None
    known = {"reference_temperature", "temperature"}  # the second alone is in the figures of other commands too
    if not isinstance(rows, list) or not all(isinstance(row, dict) and known <= row.keys() for row in rows):
        raise ValueError("must be what `lskd match-temperature --output FILE.json` writes")
    if not rows:
        raise ValueError("has no rows, must have one for each temperature")
    found = [row["temperature"] for row in rows]
    for value in found:
        if type(value) not in (int, float) or not 0 < value < math.inf:
            raise ValueError(f"has the temperature {value!r}, must be numbers above 0")
    return [float(value) for value in found]
