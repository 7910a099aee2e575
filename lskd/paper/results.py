"""What `lskd compare` writes and the page of experiments reads: what was measured of one table."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

from lskd.io.errors import input_error
from lskd.io.files import write_json
from lskd.io.json_fields import Fields, read_fields
from lskd.paper.measured import Measured
from lskd.paper.published import NUMBERS, published, tables
from lskd.paper.table_layout import METRICS, grid

UNITS = ("%", "BLEU", "nats", "fraction", "classes")
NEEDED = ("metric", "unit", "mean")


@dataclass(frozen=True)
class Result:
    """What was measured of one table.

    Attributes:
        table: an id of :func:`lskd.paper.published.tables`.
        title: in words.
        scale: at what size this was done, None where nobody said.
        notes: what a reader has to know.
        inputs: the files and directories it was made from.
        rows: the figures, at least one.
    """

    table: str
    title: str
    scale: str | None
    notes: Sequence[str]
    inputs: Sequence[str]
    rows: Sequence[Measured]


def write_result(path: str | os.PathLike, result: Result) -> None:
    """Write a result as JSON, in one step."""
    write_json(path, asdict(result))


def read_result(path: str | os.PathLike) -> Result:
    """Read what :func:`write_result` wrote; the file may come from anyone.

    Raises:
        InputError: not such a file, a field of another type, no rows, or a figure that is there twice.
    """
    content = read_fields(path)
    table = content.needed_text("table")
    if table not in tables():
        raise input_error(content.where, f"table = {table}", "must be a table that `lskd published` lists")
    rows = [_row(table, each) for each in content.objects("rows")]
    if not rows:
        raise input_error(content.where, "rows", "must hold at least one figure")
    try:
        grid(rows, published(table))
    except ValueError as error:
        raise input_error(content.where, "rows", str(error)) from None
    return Result(
        table,
        content.needed_text("title"),
        content.text("scale"),
        content.texts("notes"),
        content.texts("inputs"),
        rows,
    )


def _row(table: str, row: Fields) -> Measured:
    known = {}
    for field in fields(Measured):
        name = field.name
        known[name] = row.number(name) if name in NUMBERS or name == "n" else row.text(name)
    for name in NEEDED:
        if known[name] is None:
            raise input_error(row.where, name, "must be there")
    for name, valid in (("metric", METRICS), ("unit", UNITS)):
        if known[name] not in valid:
            raise input_error(row.where, f"{name} = {known[name]}", f"must be one of {', '.join(valid)}")
    for name in ("temperature", "reference_temperature", "n"):
        if known[name] is not None and known[name] <= 0:
            raise input_error(row.where, f"{name} = {known[name]:g}", "must be above 0")
    if known["n"] is not None:
        known["n"] = int(known["n"])
    return Measured(**(known | {"table": table}))
