"""What a page of experiments shows: its FILE.json, and the files that this names, all checked as they are read."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lskd.io.errors import input_error
from lskd.io.json_fields import Fields, read_fields
from lskd.paper.results import Result, read_result
from lskd.records.found_runs import Run, find_runs
from lskd.report.plots import PIXELS_PER_INCH

POINTS_PER_INCH = 72
MOST_PIXELS = 20_000  # of a drawing's side
MOST_ROWS = 1000  # of a drawing's numbers: more is no table for readers
NOT_SHOWN = ("file", "files", "checkpoint")  # paths of the machine that made the numbers


@dataclass(frozen=True)
class Drawing:
    """A figure of the paper, drawn anew.

    Attributes:
        svg: its text, width and height in pixels, as :func:`lskd.report.plots.svg` has them.
        rows: its numbers, by name: numbers, text or None.
        published: what the paper's shows, in words.
        files: the drawing's and its numbers', as FILE.json names them.
    """

    svg: tuple[str, int, int]
    rows: Sequence[dict]
    published: str
    files: Sequence[str]


@dataclass(frozen=True)
class Experiment:
    """A table or a figure of the paper.

    Attributes:
        id: such as ``2A``, or ``1`` of a figure.
        title: in words.
        command: that makes it.
        notes: where it deviates from the paper.
        result: of a table.
        drawing: of a figure.
    """

    id: str
    title: str
    command: str
    notes: Sequence[str]
    result: Result | None
    drawing: Drawing | None

    @property
    def name(self) -> str:
        """What the paper calls it."""
        if self.drawing is not None:
            return f"Figure {self.id}"
        return f"Appendix {self.id}" if self.result.table == "E" else f"Table {self.id}"


@dataclass(frozen=True)
class Contents:
    """A whole page.

    Attributes:
        title: of the page.
        scale: at what size everything was done, None where nobody said.
        intro: paragraphs.
        experiments: at least one.
        runs: their directories as FILE.json names them.
    """

    title: str
    scale: str | None
    intro: Sequence[str]
    experiments: Sequence[Experiment]
    runs: Sequence[Run]


def read_contents(path: str | os.PathLike) -> Contents:
    """Read FILE.json and all that it names; paths are relative to its directory.

    Raises:
        InputError: a field that is missing or of another type, a file that is not there or not what it should be.
    """
    content, place = read_fields(path), Path(path).parent
    experiments = [_experiment(each, place) for each in content.objects("experiments")]
    if not experiments:
        raise input_error(content.where, "experiments", "must hold at least one")
    return Contents(
        content.needed_text("title"),
        content.text("scale"),
        content.texts("intro"),
        experiments,
        _runs(content, place),
    )


def _experiment(content: Fields, place: Path) -> Experiment:
    if ("result" in content) == ("figure" in content):
        raise input_error(content.where, "result, figure", "must have the one or the other")
    return Experiment(
        content.needed_text("id"),
        content.needed_text("title"),
        content.needed_text("command"),
        content.texts("notes"),
        read_result(_file(content, "result", place)) if "result" in content else None,
        _drawing(content, place) if "figure" in content else None,
    )


def _file(content: Fields, name: str, place: Path) -> Path:
    path = place / content.needed_text(name)
    if not path.is_file():
        raise input_error(content.where, f"{name} = {path}", "must be a file")
    return path


def _drawing(content: Fields, place: Path) -> Drawing:
    numbers = read_fields(_file(content, "numbers", place))
    rows = numbers.objects("rows")
    if not 1 <= len(rows) <= MOST_ROWS:
        raise input_error(numbers.where, f"{len(rows)} rows", f"must be 1 to {MOST_ROWS}")
    return Drawing(
        read_svg(_file(content, "figure", place)),
        [{name: _value(row, name) for name in row.content if name not in NOT_SHOWN} for row in rows],
        content.needed_text("published"),
        [content.needed_text("figure"), content.needed_text("numbers")],
    )


def _value(row: Fields, name: str) -> str | float | None:
    """A number or a text, of a list of texts one text."""
    value = row.content[name]
    if isinstance(value, list):
        return ", ".join(row.texts(name))
    return row.text(name) if isinstance(value, str) else row.number(name)


def read_svg(path: str | os.PathLike) -> tuple[str, int, int]:
    """An SVG's text, with its width and height in CSS pixels.

    Raises:
        InputError: it is none, or does not say how large it is in pt or px.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise input_error("figure", path, "must be SVG, which is UTF-8") from None
    root = re.search(r"<svg\b[^>]*>", text[:10_000])
    sides = root and [re.search(rf'\s{side}="([0-9.]{{1,12}})(pt|px|)"', root[0]) for side in ("width", "height")]
    if not sides or None in sides:
        raise input_error("figure", path, "must be SVG with width and height in pt or px")
    pixels = []
    for side in sides:
        try:
            pixels.append(round(float(side[1]) * (PIXELS_PER_INCH / POINTS_PER_INCH if side[2] == "pt" else 1)))
        except ValueError:
            raise input_error("figure", path, f"must have sides that are numbers, not {side[1]}") from None
    if not all(1 <= side <= MOST_PIXELS for side in pixels):
        raise input_error(
            "figure", path, f"must have sides of 1 to {MOST_PIXELS} pixels, not {pixels[0]} and {pixels[1]}"
        )
    return text, *pixels


def _runs(content: Fields, place: Path) -> list[Run]:
    """The runs, in the order of FILE.json, each once, under the names that it has for them."""
    runs: dict[Path, Run] = {}
    for name in content.texts("runs"):
        for run in find_runs([place / name]):
            named = Path(name) / run.directory.relative_to(place / name)
            runs.setdefault(run.directory.resolve(), replace(run, directory=named))
    return list(runs.values())
