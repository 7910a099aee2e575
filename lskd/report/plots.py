"""Drawings of a page: lines against T, and bars about 0."""

import io
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from lskd.io.errors import not_installed
from lskd.report import drawing_style as style
from lskd.report.elements import Svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Line = TypeVar("Line")
ASIDE = 1.05  # the factor of T by which the error bars of one series are shifted from those of the next


@dataclass(frozen=True)
class Series:
    """Points joined by a line.

    Attributes:
        label: label in the legend.
        x: values above 0.
        y: as many values.
        error: half the length of each point's error bar, None for no bar.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    error: Sequence[float | None] = ()


@dataclass(frozen=True)
class Bars:
    """A bar for each name.

    Attributes:
        label: label in the legend.
        values: one for each name.
        intervals: low and high ends for each, None for no interval.
    """

    label: str
    values: Sequence[float]
    intervals: Sequence[tuple[float, float] | None] = ()


def in_drawings(every: Sequence[Line]) -> list[Sequence[Line]]:
    """Split series, or the data for them, into drawings of :func:`lines` in which all lines can be told apart."""
    most = len(style.COLOURS)
    return [every[start : start + most] for start in range(0, len(every), most)]


def lines(
    series: Sequence[Series],
    x_title: str,
    y_title: str,
    level: tuple[float, str] | None = None,
    least_span: float = 0.0,
) -> "Figure":
    """Draw lines over a logarithmic x axis with a tick at each point.

    Args:
        series: at most seven, each with its own colour, marker and dash.
        x_title: title of the x axis.
        y_title: title of the y axis, with the unit.
        level: a y value to be marked by a thin line, and its name.
        least_span: the least range of the y axis.

    Raises:
        ValueError: no series, or more than can be told apart.
    """
    if not 1 <= len(series) <= len(style.COLOURS):
        raise ValueError(f"series: {len(series)} (must be between 1 and {len(style.COLOURS)})")
    drawing = _new_drawing(3.4)
    with _page_style():
        axes = drawing.add_subplot()
        axes.set_xscale("log")
        for index, each in enumerate(series):
            errors = [error or 0 for error in each.error] if any(each.error) else None
            apart = ASIDE ** (index - (len(series) - 1) / 2) if errors else 1  # so that error bars do not overlap
            axes.errorbar(
                [x * apart for x in each.x],
                each.y,
                errors,
                label=each.label,
                color=style.COLOURS[index],
                marker=style.MARKERS[index],
                linestyle=style.DASHES[index],
                linewidth=1.8,
                capsize=3,
            )
        if level is not None:
            axes.axhline(level[0], color=style.HELP_COLOUR, linewidth=1, linestyle=(0, (2, 2)))
            axes.annotate(level[1], (0, level[0]), xycoords=("axes fraction", "data"), xytext=(4, -12),
                          textcoords="offset points", color=style.LABEL_COLOUR)  # fmt: skip
        low, high = axes.get_ylim()
        if high - low < least_span:
            axes.set_ylim((low + high - least_span) / 2, (low + high + least_span) / 2)
        ticks = sorted({x for each in series for x in each.x})
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.set(xlabel=x_title, ylabel=y_title)
        axes.grid(axis="y", color=style.GRID_COLOUR, linewidth=0.8)
        axes.set_axisbelow(True)
        drawing.legend(loc="outside upper left", ncols=min(3, len(series)), frameon=False, handlelength=3)
    return drawing


def bars(names: Sequence[str], groups: Sequence[Bars], x_title: str, limits: tuple[float, float]) -> "Figure":
    """Draw horizontal bars about 0, a row for each name, the first on top; groups differ in colour and hatching.

    Args:
        names: names of the rows.
        groups: at most four.
        x_title: title of the x axis, with the unit.
        limits: limits of the x axis, so that drawings can be compared.

    Raises:
        ValueError: no name, no group, or more groups than can be told apart.
    """
    if not names or not 1 <= len(groups) <= len(style.HATCHES):
        raise ValueError(
            f"groups: {len(groups)} of {len(names)} (must be 1 to {len(style.HATCHES)}, of at least one name)"
        )
    drawing = _new_drawing(1.2 + 0.26 * len(names) * (0.6 + len(groups) * 0.7))
    height = 0.8 / len(groups)
    with _page_style():
        axes = drawing.add_subplot()
        for index, each in enumerate(groups):
            rows = [row + (index - (len(groups) - 1) / 2) * height for row in range(len(names))]
            axes.barh(
                rows,
                each.values,
                height,
                label=each.label,
                color=style.COLOURS[index],
                hatch=style.HATCHES[index],
                edgecolor=style.EDGE_COLOUR,
                linewidth=0.7,
            )
            for row, interval in zip(rows, each.intervals, strict=False):
                if interval is not None:
                    axes.plot(interval, [row, row], color=style.EDGE_COLOUR, linewidth=1.3, marker="|", markersize=5)
        axes.axvline(0, color=style.EDGE_COLOUR, linewidth=0.9)
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel=x_title, xlim=limits, ylim=(len(names) - 0.4, -0.6))
        axes.grid(axis="x", color=style.GRID_COLOUR, linewidth=0.8)
        axes.set_axisbelow(True)
        drawing.legend(loc="outside upper left", ncols=2, frameon=False)
    return drawing


def svg(drawing: "Figure") -> Svg:
    """Render a matplotlib figure as SVG; the same figure gives the same text."""
    text = io.StringIO()
    with _page_style():
        drawing.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    width, height = drawing.get_size_inches() * style.PIXELS_PER_INCH
    return Svg(text.getvalue(), round(width), round(height))


def _new_drawing(height: float) -> "Figure":
    """An empty figure of the width of all drawings on a page, ``height`` inches high."""
    try:
        import matplotlib.figure
    except ImportError:
        raise not_installed("matplotlib", "report") from None
    return matplotlib.figure.Figure(figsize=(style.PAGE_WIDTH, height), layout="constrained")


def _page_style() -> AbstractContextManager[None]:
    import matplotlib

    return matplotlib.rc_context(style.PAGE)
