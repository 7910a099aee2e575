"""Find the inputs of commands: runs, representation files, and directories of either."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lskd.io.errors import input_error, shortened

RECORD = "run.json"
SUFFIX = ".representations.safetensors"
SHOWN = 4  # names in a note


@dataclass
class Inputs:
    """The inputs that were found, in the order given; within a directory in the order of their paths.

    Attributes:
        models: directories with a ``run.json``, and representation files.
        others: other files that the command uses.
        skipped: places that hold none of these.
    """

    models: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    skipped: list[Path] = field(default_factory=list)

    @property
    def runs(self) -> list[Path]:
        """Directories with a ``run.json``."""
        return [path for path in self.models if path.is_dir()]

    @property
    def representations(self) -> list[Path]:
        """Representation files."""
        return [path for path in self.models if not path.is_dir()]


def say_skipped(paths: Sequence[Path], why: str = "neither a run nor representations") -> None:
    """Print a line on standard error that names the skipped paths, if there are any."""
    if paths:
        print(f"skipped, {why}: {shortened(paths, SHOWN)}", file=sys.stderr)


def find_inputs(
    argument: str,
    places: Sequence[str | os.PathLike[str]],
    valid: str,
    is_other: Callable[[Path], bool] = lambda path: False,
) -> Inputs:
    """Find runs and representation files; other files, as in a shell's ``runs/mine/*``, are skipped.

    A directory stands for the runs in and below it, following links, or, if there are none, for the representation
    files there.

    Args:
        argument: the option by which the user gave the places, for error messages.
        places: run directories or their ``run.json``, directories above them, representation files, and other files.
        valid: the error message for a place that does not exist, or if nothing at all is found.
        is_other: whether a file is one of the other files that the command uses.

    Raises:
        InputError: a place does not exist, or nothing was found in any of them.
    """
    found = Inputs()
    for place in map(Path, places):
        if not place.exists():
            raise input_error(argument, place, valid)
        if place.is_dir():
            files = sorted(_files_below(place))
            models = [file.parent for file in files if file.name == RECORD]
            models = models or [file for file in files if file.name.endswith(SUFFIX)]
        else:
            models = [place.parent] if place.name == RECORD else [place] if place.name.endswith(SUFFIX) else []
        found.models += models
        if not models:
            (found.others if place.is_file() and is_other(place) else found.skipped).append(place)
    found.models, found.others = _each_once(found.models), _each_once(found.others)
    if not found.models and not found.others:
        raise input_error(argument, found.skipped[0] if found.skipped else "none", valid)
    return found


def _files_below(place: Path) -> Iterator[Path]:
    """Yield every file in and below a directory, following links, each directory once."""
    seen: set[str] = set()
    starts = [place]
    for start in starts:
        for directory, below, files in os.walk(start):
            if (real := os.path.realpath(directory)) in seen:
                below.clear()
                continue
            seen.add(real)
            starts += [path for name in sorted(below) if (path := Path(directory, name)).is_symlink()]
            yield from (Path(directory, name) for name in files)


def _each_once(paths: Sequence[Path]) -> list[Path]:
    """The paths without repetitions of the same file; the first path of each is kept."""
    once: dict[Path, Path] = {}
    for path in paths:
        once.setdefault(path.resolve(), path)
    return list(once.values())
