"""The content of a page of experiments: FILE.json and the files that it names, validated when they are read."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from lskd.io.errors import input_error
from lskd.io.schema import Integer, Name, Number, Text, convert, read_json
from lskd.paper.results import Result, read_result
from lskd.records.found_runs import Run, find_runs
from lskd.report.drawing_style import PIXELS_PER_INCH
from lskd.report.elements import Svg

POINTS_PER_INCH = 72
MOST_PIXELS = 20_000  # in the width or height of a drawing
MOST_ROWS = 1000  # in the table of a drawing's numbers, which readers should be able to read
NOT_SHOWN = ("file", "files", "checkpoint")  # paths on the machine that made the numbers

Value = str | float | None  # a cell in the table of a drawing's numbers


@dataclass(frozen=True)
class RedrawnFigure:
    """A figure of the paper, redrawn from our own results.

    Attributes:
        svg: the drawing.
        rows: its numbers, by name.
        published: what the paper's figure shows, in words.
        files: the files of the drawing and of its numbers, as named in FILE.json.
    """

    svg: Svg
    rows: Sequence[Mapping[str, Value]]
    published: str
    files: Sequence[str]


class StudyRow(msgspec.Struct):
    """The students of one teacher's α and one T, as `lskd summarise --output` writes them."""

    label_smoothing: Number | None
    temperature: Number
    metric: Name
    mean: Number
    n: Integer
    data: Text | None = None
    teacher: Text | None = None
    student: Text | None = None
    settings: Text | None = None
    standard_deviation: Number | None = None


@dataclass(frozen=True)
class StudySummary:
    """The results of a study of our own.

    Attributes:
        question: the question that it answers.
        page: the page of its runs, as named in FILE.json.
        rows: at least one row.
        file: the file of the rows, as named in FILE.json.
    """

    question: str
    page: str
    rows: Sequence[StudyRow]
    file: str


@dataclass(frozen=True)
class Experiment:
    """A table or a figure of the paper, or a study of our own.

    Attributes:
        id: such as ``2A``, ``1`` for a figure, or ``study-losses``.
        title: its title.
        command: the command that makes it.
        notes: how it deviates from the paper.
        outcome: the measured results of a table, the drawing of a figure, or the means of a study.
    """

    id: str
    title: str
    command: str
    notes: Sequence[str]
    outcome: Result | RedrawnFigure | StudySummary

    @property
    def name(self) -> str:
        """The paper's name for it; for a study its id."""
        if isinstance(self.outcome, StudySummary):
            return self.id
        if isinstance(self.outcome, RedrawnFigure):
            return f"Figure {self.id}"
        return f"Appendix {self.id}" if self.outcome.table == "E" else f"Table {self.id}"


@dataclass(frozen=True)
class Contents:
    """A whole page.

    Attributes:
        title: title of the page.
        scale: the scale of the experiments; None if it was not given.
        intro: introductory paragraphs.
        experiments: at least one experiment.
        runs: the runs, with directories as named in FILE.json.
    """

    title: str
    scale: str | None
    intro: Sequence[str]
    experiments: Sequence[Experiment]
    runs: Sequence[Run]


def read_contents(path: str | os.PathLike[str]) -> Contents:
    """Read FILE.json and all files that it names; paths are relative to its directory.

    Raises:
        InputError: a field is missing or has a wrong type, or a file is missing or not valid.
    """
    content, place = read_json(path, _Page), Path(path).parent
    experiments = [_experiment(each, f"{path}: experiments[{i}]", place) for i, each in enumerate(content.experiments)]
    return Contents(
        content.title, content.scale, content.intro, experiments, _runs(content.runs, f"{path}: runs", place)
    )


class _Experiment(msgspec.Struct):
    """An experiment in FILE.json: a table, a figure or a study.

    A table has a ``result``; a figure has a ``figure``, its ``numbers`` and what is ``published``; a study has a
    ``summary``, its ``question`` and its ``page``. All but ``published`` and ``question`` are paths of files.
    """

    id: Name
    title: Name
    command: Name
    notes: list[Text] = []
    result: Name | None = None
    figure: Name | None = None
    numbers: Name | None = None
    published: Text | None = None
    summary: Name | None = None
    question: Text | None = None
    page: Name | None = None


class _Page(msgspec.Struct):
    """FILE.json; ``runs`` are directories."""

    title: Name
    experiments: Annotated[list[_Experiment], Meta(min_length=1)]
    scale: Text | None = None
    intro: list[Text] = []
    runs: list[Name] = []


class _Summary(msgspec.Struct):
    """What `lskd summarise --output` writes."""

    rows: Annotated[list[StudyRow], Meta(min_length=1, max_length=MOST_ROWS)]


class _Numbers(msgspec.Struct):
    """The numbers of a drawing."""

    rows: Annotated[list[dict[Name, object]], Meta(min_length=1, max_length=MOST_ROWS)]


def _experiment(content: _Experiment, where: str, place: Path) -> Experiment:
    if [content.result, content.figure, content.summary].count(None) != 2:
        raise input_error(where, "result, figure, summary", "must have one of them")
    outcome: Result | RedrawnFigure | StudySummary
    if content.result:
        outcome = read_result(_file(content, "result", where, place))
    else:
        outcome = _redrawn(content, where, place) if content.figure else _study(content, where, place)
    return Experiment(content.id, content.title, content.command, content.notes, outcome)


def _study(content: _Experiment, where: str, place: Path) -> StudySummary:
    if not content.question:
        raise input_error(where, "question", "must be there")
    _file(content, "page", where, place)
    rows = read_json(_file(content, "summary", where, place), _Summary).rows
    return StudySummary(content.question, str(content.page), rows, str(content.summary))


def _redrawn(content: _Experiment, where: str, place: Path) -> RedrawnFigure:
    if not content.published:
        raise input_error(where, "published", "must be there")
    numbers = _file(content, "numbers", where, place)
    rows = []
    for i, row in enumerate(read_json(numbers, _Numbers).rows):
        at = f"{numbers}: rows[{i}]"
        rows.append({name: _shown(value, f"{at}.{name}") for name, value in row.items() if name not in NOT_SHOWN})
        if all(value is None for value in rows[-1].values()):
            raise input_error(at, row, f"must have a value beside {', '.join(NOT_SHOWN)}")
    svg = read_svg(_file(content, "figure", where, place))
    return RedrawnFigure(svg, rows, content.published, [str(content.figure), str(content.numbers)])


def _file(content: _Experiment, name: str, where: str, place: Path) -> Path:
    path = place / (getattr(content, name) or "")
    if not path.is_file():
        raise input_error(where, f"{name} = {path}", "must be a file")
    return path


def _shown(value: object, where: str) -> Value:
    """A number or a string; several strings are joined."""
    if isinstance(value, list):
        return ", ".join(convert(value, list[Text], where))
    return convert(value, Integer | Number | Text | None, where)


def read_svg(path: str | os.PathLike[str]) -> Svg:
    """Read an SVG.

    Raises:
        InputError: it is not SVG, or does not state its width and height in pt or px.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise input_error("figure", path, "must be SVG, which is UTF-8") from None
    root = re.search(r"<svg\b[^>]*>", text[:10_000])
    width, height = (_pixels(root[0] if root else "", side, path) for side in ("width", "height"))
    if not 1 <= min(width, height) <= max(width, height) <= MOST_PIXELS:
        raise input_error("figure", path, f"must have sides of 1 to {MOST_PIXELS} pixels, not {width} and {height}")
    return Svg(text, width, height)


def _pixels(root: str, side: str, path: str | os.PathLike[str]) -> int:
    found = re.search(rf'\s{side}="([0-9.]{{1,12}})(pt|px|)"', root)
    if found is None:
        raise input_error("figure", path, "must be SVG with width and height in pt or px")
    try:
        return round(float(found[1]) * (PIXELS_PER_INCH / POINTS_PER_INCH if found[2] == "pt" else 1))
    except ValueError:
        raise input_error("figure", path, f"must have sides that are numbers, not {found[1]}") from None


def _runs(names: Sequence[str], where: str, place: Path) -> list[Run]:
    """The runs in the order of FILE.json, each once, with directories as named there."""
    runs: dict[Path, Run] = {}
    for name in names:
        if (place / name).is_file():
            raise input_error(where, name, "must be a directory: of a run, or above runs")
        for run in find_runs([place / name]):
            named = Path(name) / run.directory.relative_to(place / name)
            runs.setdefault(run.directory.resolve(), replace(run, directory=named))
    return list(runs.values())
