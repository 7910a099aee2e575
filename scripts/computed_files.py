"""Files that are computed from the committed results: written, or with ``--check`` compared with what is there."""

import argparse
from pathlib import Path

from lskd.io.errors import input_error
from lskd.io.files import write_text


def computed_parser(description: str | None) -> argparse.ArgumentParser:
    """The command line of a script that computes a file."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--check", action="store_true", help="compare, and write nothing")
    return options


def write_or_compare(path: Path, text: str, script: str, check: bool) -> None:
    """Write a file, or compare it with what is there.

    Args:
        path: of the file.
        text: what the committed results give.
        script: that computes it, for the message.
        check: compare, and write nothing.

    Raises:
        InputError: the file differs or does not exist.
    """
    if not check:
        write_text(path, text)
    elif not path.is_file() or path.read_text(encoding="utf-8") != text:
        raise input_error("--check", path, f"differs from the committed results: run scripts/{script}")
