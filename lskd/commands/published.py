"""Show the paper's tables as printed, with notes on their inconsistencies.

Without a table, lists them. α goes across, T down; a mean is followed by ± its standard deviation and, in brackets, the
number of runs if the paper gives it. Footnotes say where a table disagrees with another one, with the text or with
itself.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict

from lskd.io.argument_types import table_file
from lskd.io.output import shown_anyway
from lskd.io.tables import Column, show, write
from lskd.paper.published import SOURCE, Measurement, published, tables
from lskd.paper.table_layout import FIELD_FORMATS, HEADS, cell, constants, flags, grid

EXAMPLE = "lskd published D.1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``lskd published``."""
    parser.add_argument("table", nargs="?", metavar="TABLE", help="such as 2A, D.1 or I.3")
    parser.add_argument(
        "--output", type=table_file, help="the results of the table, or of all tables, one per row, .csv or .json"
    )


def run(arguments: argparse.Namespace) -> None:
    """Print the list of tables, or one table; write the results."""
    names = [arguments.table] if arguments.table is not None else list(tables())
    measurements = [measurement for name in names for measurement in published(name)]
    shown = ["\n".join(f"{name:<5}  {content}" for name, content in tables().items())]
    if arguments.table is not None:
        title = f"{arguments.table}: {tables()[arguments.table]} ({SOURCE})"
        shown = [f"{title}\n{constants(measurements)}", text_grid(measurements)]
    with shown_anyway(*shown):
        if arguments.output:
            write(arguments.output, [asdict(measurement) for measurement in measurements], {"source": SOURCE})


def text_grid(measurements: Sequence[Measurement], like: Sequence[Measurement] = ()) -> str:
    """A text table laid out by :func:`lskd.paper.table_layout.grid`, with flags as footnotes."""
    layout = grid(measurements, like)
    found = list(dict.fromkeys(flag for measurement in measurements for flag in flags(measurement)))
    marked = [flag for flag in found if any(flag not in flags(measurement) for measurement in measurements)]
    rows = []
    for names, cells in layout.rows:
        row = dict(zip(layout.down, names, strict=True))
        for title, measurement in zip(layout.titles, cells, strict=True):
            if measurement is not None:
                marks = [str(number) for number, flag in enumerate(marked, start=1) if flag in flags(measurement)]
                row[title] = cell(measurement) + (f" [{','.join(marks)}]" if marks else "")
        rows.append(row)
    columns = [Column(HEADS[name], name, ".10g" if name in FIELD_FORMATS else "") for name in layout.down]
    columns += [Column(title, title) for title in layout.titles]
    notes = [f"[{number}] {flag}" for number, flag in enumerate(marked, start=1)]
    notes += [f"all: {flag}" for flag in found if flag not in marked]
    return "\n".join([show(rows, columns), *([""] if notes else []), *notes])
