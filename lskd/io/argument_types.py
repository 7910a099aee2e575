"""Argument types for argparse: each converts one value, or says what is valid."""

import argparse
import math
import os
from collections.abc import Callable
from pathlib import Path

RUN_FILES = ("run.json", "summary.csv")  # written by every training beside its checkpoints
MANIFEST = "manifest.json"  # written by every preparation of data, into the directory that it makes


def whole(text: str) -> int:
    """A whole number, 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text or repr(text)} (must be a whole number, 0 or more)")
    return int(text)


def integer(text: str) -> int:
    """A whole number of either sign."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text or repr(text)} (must be a whole number)") from None


def positive(text: str) -> int:
    """A whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} (must be a whole number above 0)")
    return int(text)


def number(minimum: float = -math.inf, maximum: float = math.inf, above: bool = False) -> Callable[[str], float]:
    """The type of a finite number from ``minimum`` (``above``: greater than it) to ``maximum``.

    >>> number(0, above=True)("2.5")
    2.5
    """
    if maximum < math.inf:
        bounds = f"number {f'above {minimum:g}, at most' if above else f'from {minimum:g} to'} {maximum:g}"
    elif minimum > -math.inf:
        bounds = f"finite number above {minimum:g}" if above else f"finite number, {minimum:g} or more"
    else:
        bounds = "finite number"

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and (minimum < value if above else minimum <= value) and value <= maximum):
            raise argparse.ArgumentTypeError(f"{text or repr(text)} (must be a {bounds})")
        return value

    return parse


def percent(text: str) -> float:
    """A percentage above 0 and below 100; a fraction below 1 is converted.

    >>> percent("95"), percent("0.95")
    (95.0, 95.0)
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 100:
        raise argparse.ArgumentTypeError(f"{text!r} (must be in percent, above 0 and below 100, or a fraction)")
    return round(100 * value, 10) if value < 1 else value


def named_path(text: str) -> Path:
    """A path; an empty one would be the working directory."""
    if not text.strip():
        raise argparse.ArgumentTypeError(f"{text!r} (must be a path)")
    return Path(text)


def joinable_path(text: str) -> Path:
    """A path for fairseq, which takes several paths joined by ``:``."""
    if ":" in text:
        raise argparse.ArgumentTypeError(f"{text!r} (must be without ':', at which fairseq would split it)")
    return named_path(text)


def output_file(*suffixes: str) -> Callable[[str], Path]:
    """The type of a file to write, with one of the suffixes, in a directory that exists; no file of a training or
    of prepared data.

    >>> output_file(".csv", ".json")("table.csv").name
    'table.csv'
    """
    *others, last = suffixes
    valid = f"{', '.join(others)} or {last}" if others else last

    def parse(text: str) -> Path:
        path = Path(text)
        if path.suffix not in suffixes:
            raise argparse.ArgumentTypeError(f"{path} (must end in {valid})")
        if not path.parent.is_dir():
            raise argparse.ArgumentTypeError(f"{path} (must be in a directory that exists)")
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise argparse.ArgumentTypeError(f"{path} (must be in a directory that can be written to)")
        if path.is_dir():
            raise argparse.ArgumentTypeError(f"{path} (must be a file)")
        if path.name in RUN_FILES and (path.parent / "run.json").is_file():
            raise argparse.ArgumentTypeError(f"{path} (is a file of a training, must be another)")
        if path.is_file() and (path.parent / MANIFEST).is_file():
            raise argparse.ArgumentTypeError(f"{path} (is a file of prepared data, must be another)")
        return path

    return parse


table_file = output_file(".csv", ".json")
