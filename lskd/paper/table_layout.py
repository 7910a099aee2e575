"""Lay out the measurements of a table as the paper does: which fields make rows, which columns, and how cells look.

The same layout is used for the paper's results and for measured ones, in the terminal and on a page.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lskd.io.errors import input_error
from lskd.paper.published import Measurement
from lskd.records.found_runs import TITLES

METRIC_TITLES = TITLES | {
    "eta_similar": "η(S1) %",
    "eta_dissimilar": "η(S2) %",
    "eta_pairwise_similar": "η(S1) %",
    "eta_pairwise_dissimilar": "η(S2) %",
    "agreement_similar": "S1",
    "agreement_dissimilar": "S2",
    "entropy": "entropy (nats)",
    "class_accuracy": TITLES["top1"],
    "count": "classes",
}
FIELD_FORMATS = {"label_smoothing": "α = {:.10g}", "temperature": "T = {:.10g}", "metric": "{}", "split": "{}"}
HEADS = {"student": "student", "target_class": "class", "label_smoothing": "α", "temperature": "T", "split": "split"}
DOWN = ("student", "target_class", "label_smoothing", "temperature")


@dataclass(frozen=True)
class Grid:
    """Measurements by row and column.

    Attributes:
        down: the fields that identify a row, from :data:`HEADS`.
        titles: titles of the columns.
        rows: for each row, the values of ``down`` and the measurements, None for an empty cell.
    """

    down: list[str]
    titles: list[str]
    rows: list[tuple[list[str | float | None], list[Measurement | None]]]


def grid(measurements: Sequence[Measurement], like: Sequence[Measurement] = ()) -> Grid:
    """Lay out the measurements of a table.

    Args:
        measurements: measurements of one table, at least one.
        like: measurements of the table whose layout to use; if empty, ``measurements`` themselves. Fields that vary in
            ``measurements`` but not in these identify rows as well.

    Raises:
        InputError: two measurements belong in the same cell.
    """
    down, across = axes(like or measurements)
    down += [name for name in HEADS if name not in (*down, *across) and varies(measurements, name)]
    if "metric" not in across and varies(measurements, "metric"):
        across.append("metric")
    titles = _titles(measurements, across)
    rows: dict[tuple[object, ...], tuple[list[str | float | None], list[Measurement | None]]] = {}
    for measurement in measurements:
        key = tuple(getattr(measurement, name) for name in down)
        empty: list[Measurement | None] = [None] * len(titles)
        _, cells = rows.setdefault(key, ([shown(measurement, name) for name in down], empty))
        place = titles.index(_title(measurement, across))
        if cells[place] is not None:
            named = ", ".join(str(shown(measurement, name)) for name in (*down, *across))
            raise input_error("measurements", named, "must occur once")
        cells[place] = measurement
    return Grid(down, titles, list(rows.values()))


def axes(measurements: Sequence[Measurement]) -> tuple[list[str], list[str]]:
    """The fields of rows and of columns: T makes rows if α makes columns; α does so only if every row has every α."""
    varying = [name for name in DOWN if varies(measurements, name)]
    others = [name for name in ("split", "metric") if varies(measurements, name)] or ["metric"]
    if "label_smoothing" not in varying:
        across = [name for name in varying if name == "temperature"] + others
        return [name for name in varying if name != "temperature"], across
    down, across = [name for name in varying if name != "label_smoothing"], [*others, "label_smoothing"]
    rows, columns = ({tuple(getattr(f, name) for name in names) for f in measurements} for names in (down, across))
    return (down, across) if len(rows) * len(columns) == len(measurements) else (varying, others)


def constants(measurements: Sequence[Measurement]) -> str:
    """The fields that all measurements of a table have in common, in words."""
    words = {"data": "{}", "teacher": "teacher {}", "student": "student {}", "distill_type": "{}"}
    words |= {"split": "{}", "label_smoothing": "α = {:.10g}", "temperature": "T = {:.10g}"}
    words |= {"reference_temperature": "against T = {:g}", "metric": "{}"}
    common = measurements[0]
    same = [name for name in words if not varies(measurements, name) and getattr(common, name) is not None]
    return ", ".join(words[name].format(shown(common, name)) for name in same if getattr(common, name) != "logit")


def cell(measurement: Measurement, digits: int = 3) -> str:
    """Format a measurement, with its standard deviation and, in brackets, n, if these are known.

    Args:
        measurement: the measurement.
        digits: digits after the point; whole counts of classes have none.
    """
    if measurement.unit == "classes":
        digits = 0 if measurement.mean == int(measurement.mean) else 1
    text = f"{measurement.mean:.{digits}f}"
    if measurement.standard_deviation is not None:
        text += f" ± {measurement.standard_deviation:.{digits or 1}f}"
    return text if measurement.n is None else f"{text} ({measurement.n})"


def flags(measurement: Measurement) -> list[str]:
    """The notes on a measurement's inconsistencies."""
    return measurement.flag.split(" | ") if measurement.flag else []


def shown(measurement: Measurement, name: str) -> str | float | None:
    """The value of a measurement's field, as shown to readers."""
    if name == "metric":
        return METRIC_TITLES[measurement.metric]
    if name != "student":
        return getattr(measurement, name)
    if measurement.student is None:
        return f"teacher {measurement.teacher}"
    stands_for = getattr(measurement, "stands_for", None)  # only measured results have it
    return f"{measurement.student} for {stands_for}" if stands_for else measurement.student


def varies(measurements: Sequence[Measurement], name: str) -> bool:
    """Whether measurements differ in a field."""
    return len({getattr(measurement, name) for measurement in measurements}) > 1


def _titles(measurements: Sequence[Measurement], across: Sequence[str]) -> list[str]:
    """The columns' titles: α and T ascending, other fields in the order of the table."""
    orders = {name: list(dict.fromkeys(getattr(measurement, name) for measurement in measurements)) for name in across}
    for name in {"label_smoothing", "temperature"} & set(across):
        orders[name].sort(key=lambda value: (value is None, value or 0))
    ordered = sorted(
        measurements, key=lambda measurement: [orders[name].index(getattr(measurement, name)) for name in across]
    )
    return list(dict.fromkeys(_title(measurement, across) for measurement in ordered))


def _title(measurement: Measurement, across: Sequence[str]) -> str:
    known = [name for name in across if getattr(measurement, name) is not None]
    return " ".join(FIELD_FORMATS[name].format(shown(measurement, name)) for name in known)
