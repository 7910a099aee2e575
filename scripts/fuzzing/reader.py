"""What a reader is, and what those that follow share."""

import importlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lskd import cli
from lskd.errors import InputError


@dataclass(frozen=True)
class Reader:
    """A reader of files.

    Attributes:
        make: whole files in a directory; gives those that are to be damaged.
        read: reads one of them; gets the directory too, which may be written to below ``out``.
        refusals: the errors that are a proper answer.
    """

    make: Callable[[Path], Sequence[Path]]
    read: Callable[[Path, Path], object]
    refusals: tuple[type[Exception], ...] = (InputError, OSError)


def lskd(*words: object) -> None:
    """Run ``lskd`` in this process."""
    arguments = cli.parser().parse_args(list(map(str, words)))
    arguments.run(arguments)


def command(module: str, *words: object) -> None:
    """Run a command of another module in this process."""
    found = importlib.import_module(module)
    found.main(found.parser().parse_args(list(map(str, words))))


def below(place: Path, pattern: str) -> list[Path]:
    """The files of that name below a directory, in order."""
    return sorted(path for path in place.rglob(pattern) if path.is_file())


def written(place: Path, **contents: object) -> list[Path]:
    """Files of JSON in a directory."""
    for name, content in contents.items():
        (place / f"{name}.json").write_text(json.dumps(content))
    return below(place, "*.json")
