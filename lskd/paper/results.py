"""The measured results of one table: the file that `lskd compare` writes and the page of experiments reads."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from lskd.io.errors import InputError, input_error
from lskd.io.files import write_json
from lskd.io.schema import Name, Text, read_json
from lskd.paper.measured import Measured
from lskd.paper.published import published, tables
from lskd.paper.table_layout import METRIC_TITLES, grid

UNITS = ("%", "BLEU", "nats", "fraction", "classes")


@dataclass(frozen=True)
class Result:
    """The measured results of one table.

    Attributes:
        table: an id of :func:`lskd.paper.published.tables`.
        title: the table's title.
        scale: the scale of the experiments; None if it was not given.
        notes: notes for readers.
        inputs: the files and directories with the results.
        rows: the measurements, at least one.
    """

    table: Name
    title: Name
    scale: Text | None = None
    notes: Sequence[Text] = ()
    inputs: Sequence[Text] = ()
    rows: Sequence[Measured] = ()


def write_result(path: str | os.PathLike[str], result: Result) -> None:
    """Write a result as JSON, atomically."""
    write_json(path, asdict(result))


def read_result(path: str | os.PathLike[str]) -> Result:
    """Read a file of :func:`write_result`, which may be untrusted.

    Raises:
        InputError: the file is not valid, a field has a wrong type, there are no rows, or a measurement occurs twice.
    """
    result = read_json(path, Result)
    if result.table not in tables():
        raise input_error(str(path), f"table = {result.table}", "must be a table that `lskd published` lists")
    if not result.rows:
        raise input_error(str(path), "rows", "must hold at least one measurement")
    for number, row in enumerate(result.rows):
        for name, valid in (("metric", METRIC_TITLES), ("unit", UNITS)):
            if (value := getattr(row, name)) not in valid:
                raise input_error(f"{path}: rows[{number}].{name}", value, f"must be one of {', '.join(valid)}")
    result = replace(result, rows=[replace(row, table=result.table) for row in result.rows])
    try:
        grid(result.rows, published(result.table))
    except InputError as error:
        raise InputError(f"{path}: rows: {error}") from None
    return result
