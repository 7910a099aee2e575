"""Check the files that a subcommand will write: none may also be an input, or be written twice."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from lskd.io.errors import input_error

OUTPUTS = ("output", "table", "coordinates", "agreement")  # options that name a file to write


def check_outputs(arguments: argparse.Namespace) -> None:
    """Check that no output is also an input, or another output.

    Raises:
        InputError: one is.
    """
    given = [
        (name, os.path.realpath(each))
        for name, value in vars(arguments).items()
        for each in (value if isinstance(value, Sequence) and not isinstance(value, str) else [value])
        if isinstance(each, str | Path)
    ]
    for output in OUTPUTS:
        if not isinstance(path := getattr(arguments, output, None), Path):
            continue
        for name, other in given:
            if name != output and other == os.path.realpath(path) and (name in OUTPUTS or path.is_file()):
                raise input_error(
                    f"--{output}", path, f"is given as {name.replace('_', '-')} too, must be another file"
                )
