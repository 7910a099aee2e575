"""Argument types for argparse for files that several subcommands write: name and directory are checked at once."""

import argparse
from pathlib import Path

from lskd.io.tables import output_file
from lskd.report.projection_figure import FORMATS


def json_file(text: str) -> Path:
    """The path of a JSON file to write."""
    path = output_file(text)
    if path.suffix != ".json":
        raise argparse.ArgumentTypeError(f"{path} (must end in .json)")
    return path


def figure_file(text: str) -> Path:
    """The path of a figure to write."""
    path = Path(text)
    if path.suffix not in FORMATS:
        raise argparse.ArgumentTypeError(f"{path} (must end in {', '.join(FORMATS)})")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{path} (must be in a directory that exists)")
    return path
