"""Unfinished translations, in parts that several processes share and a resumed command reuses."""

import contextlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from lskd.io.errors import input_error
from lskd.io.files import remove_partials, write_json
from lskd.io.locks import try_lock
from lskd.io.schema import convert, read_json

PART = 1024  # sentences of a part, which are translated together whatever the number of processes
PLAN = "plan.json"


class Parts:
    """The translations of consecutive sentences, each part a file of JSON, in the order of the data.

    Args:
        directory: where the files are.
        sentences: the number of sentences of the split.
        size: the number of sentences of a part.
    """

    def __init__(self, directory: Path, sentences: int, size: int) -> None:
        self.directory, self.sentences = directory, sentences
        self.ranges = [range(start, min(start + size, sentences)) for start in range(0, sentences, size)]

    def path(self, part: int) -> Path:
        """The file of a part."""
        return self.directory / f"part-{part:06d}.json"

    def missing(self) -> list[int]:
        """The parts that are not translated."""
        return [part for part in range(len(self.ranges)) if not self.path(part).exists()]

    def translated(self) -> int:
        """The number of sentences that are translated."""
        missing = set(self.missing())
        return sum(len(each) for part, each in enumerate(self.ranges) if part not in missing)

    def read(self) -> Iterator[list[int]]:
        """The tokens of each sentence's translation, with the end of the sentence.

        Raises:
            InputError: a file is not what was written.
        """
        for part, numbers in enumerate(self.ranges):
            rows = read_json(self.path(part), list[list[int]])
            if len(rows) != len(numbers):
                raise input_error("--dest", self.path(part), f"must have {len(numbers)} translations; remove it")
            yield from rows


def begun(dest: Path, plan: dict[str, Any]) -> Parts:
    """Open the directory of parts, with the part size that it was begun with, or make it and write its plan.

    Raises:
        InputError: it holds parts of another command.
    """
    directory = dest.with_name(f"{dest.name}.parts")
    directory.mkdir(parents=True, exist_ok=True)
    remove_partials(directory)
    if not (directory / PLAN).exists():
        write_json(directory / PLAN, plan | {"part": PART})
    there = read_json(directory / PLAN, dict[str, Any])
    check_same(plan, there, directory)
    return Parts(directory, plan["sentences"], convert(there, _Begun, str(directory / PLAN)).part)


def check_same(plan: dict[str, Any], there: dict[str, Any], place: Path) -> None:
    """Check that a directory was made, or begun, by this command. Raises InputError."""
    ours, theirs = _identity(plan), _identity(there)
    if different := [name for name in ours if theirs.get(name) != ours[name]]:
        raise input_error("--dest", place, f"is of another {different[0]}; name a new directory, or remove it")


class _Begun(msgspec.Struct):
    """The setting in ``plan.json`` that a resumed command takes over; the others must be equal."""

    part: Annotated[int, Meta(ge=1)]


def _identity(plan: dict[str, Any]) -> dict[str, Any]:
    """What two plans of one command have in common: the paths of data and teacher may change, not their content."""
    return {name: value.get("fingerprint") if isinstance(value, dict) else value for name, value in plan.items()}


@contextlib.contextmanager
def locked(path: Path) -> Generator[bool]:
    """Yield whether this process could lock a file; it holds the lock until the block, or the process, ends."""
    with open(path) as file:
        yield try_lock(file)
