"""A redrawn figure of the paper, with its numbers in tables and in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lskd.report.contents import Experiment, RedrawnFigure, Value
from lskd.report.elements import Cell, Drawing, Section, Table
from lskd.report.origins import of_drawing

WIDE = 480  # pixels; wider drawings than this, unlike most of ours, scroll on a small screen instead of being shrunk
LONG = 40  # characters; a longer text may break into lines
ROWS_IN_WORDS = 12  # of a drawing's numbers in its alternative text
COLUMNS = {
    "label_smoothing": "α",
    "temperature": "T",
    "relative_distance": "d",
    "far_below_second": "classes far below",
}

Row = Mapping[str, Value]


@dataclass(frozen=True, kw_only=True)
class ExperimentDrawingSection(Section):
    """A redrawn figure of the paper: its data and models (``origins``), what the paper's shows, and deviations."""

    template = "experiment_drawing.html"
    experiment: Experiment
    origins: str
    drawing: Drawing
    published: str
    notes: Sequence[str]


def experiment_drawing_section(experiment: Experiment, redrawn: RedrawnFigure) -> ExperimentDrawingSection:
    """The drawing, its numbers in tables and in words, and what the paper's figure shows."""
    name = experiment.name
    origins = "; ".join(of_drawing(redrawn.rows))
    drawing = Drawing(
        redrawn.svg,
        f"As the paper's {name}, of {origins}. {_in_words(redrawn.rows)}",
        f"As the paper's {name} ({experiment.title}), of {origins}.",
        _tables(name, redrawn.rows),
        redrawn.files,
        wide=redrawn.svg.width > WIDE,
    )
    return ExperimentDrawingSection(
        title=f"{name}: {experiment.title}",
        experiment=experiment,
        origins=origins,
        drawing=drawing,
        published=redrawn.published,
        notes=list(dict.fromkeys(experiment.notes)),
    )


def _tables(name: str, rows: Sequence[Row]) -> list[Table]:
    """One table for each set of rows with the same columns."""
    alike: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        alike.setdefault(tuple(row), []).append(row)
    tables = []
    for number, part in enumerate(alike.values(), start=1):
        shown = [column for column in part[0] if any(row[column] is not None for row in part)]
        cells: list[list[str | Cell]] = [
            [_written(row[shown[0]]), *(_cell(row[column]) for column in shown[1:])] for row in part
        ]
        which = f", part {number}" if len(alike) > 1 else ""
        caption = f"Numbers of {name}{which} ({'; '.join(of_drawing(part))})"
        tables.append(Table(caption, [list(map(_column, shown))], cells))
    return tables


def _column(name: str) -> str:
    return COLUMNS.get(name, name.replace("_", " "))


def _written(value: Value) -> str:
    if value is None:
        return "–"
    return value if isinstance(value, str) else f"{value:.4g}".replace("-", "−")


def _cell(value: Value) -> Cell:
    text = _written(value)
    return Cell(text, prose=len(text) > LONG)


def _in_words(rows: Sequence[Row]) -> str:
    """The numbers in words: those that `lskd project` and `lskd entropy` write, else each value with its name."""
    chosen = [row for row in rows if "outputs" in row] or list(rows)
    words = "; ".join(map(_row_in_words, chosen[:ROWS_IN_WORDS]))
    more = len(chosen) - ROWS_IN_WORDS
    return f"{words}; {more} more are in the numbers below." if more > 0 else f"{words}."


def _row_in_words(row: Row) -> str:
    known = [f"{_column(name)} = {row[name]:g}" for name in ("label_smoothing", "temperature") if _is_number(row, name)]
    about = ", ".join(str(each) for each in [row.get("model"), *known, row.get("split")] if each)
    if _is_number(row, "relative_distance"):
        return f"{about}: d = {row['relative_distance']:.3f}"
    if "outputs" in row:
        return f"mean output of {row.get('class')}, {about}: {row['outputs']}"
    return ", ".join(f"{_column(name)} {_written(value)}" for name, value in row.items() if value is not None)


def _is_number(row: Row, name: str) -> bool:
    return isinstance(row.get(name), int | float)
