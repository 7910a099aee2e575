"""Drawings of a report: figures against T, bars of η. Colours of Okabe and Ito, and never by colour alone.

They are small, since on a phone they are the whole width: text is 11 pt at 4.8 inches.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

from lskd.io.errors import input_error
from lskd.report.projection_figure import COLOURS as FIRST_COLOURS
from lskd.report.projection_figure import MARKERS as FIRST_MARKERS
from lskd.report.projection_figure import STYLE as FIGURE_STYLE

COLOURS = (*FIRST_COLOURS, "#D55E00", "#CC79A7", "#56B4E9", "#000000")
MARKERS = (*FIRST_MARKERS, "D", "v", "P", "X")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (8, 2)))
HATCHES = ("", "////", "....", "xxxx")
# Letters are drawn as outlines: the reader's fonts do not matter, and an image's text cannot be selected anyway.
STYLE = FIGURE_STYLE | {"svg.fonttype": "path", "font.size": 11, "axes.spines.top": False, "axes.spines.right": False}
PIXELS_PER_INCH = 96
ASIDE = 1.05  # how far, as a factor of T, the error bars of one series are from those of the next


@dataclass(frozen=True)
class Series:
    """Points that are joined by a line.

    Attributes:
        label: in the legend.
        x: above 0.
        y: as many.
        error: a half-length for each point's bar, None for none.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    error: Sequence[float | None] = ()


@dataclass(frozen=True)
class Bars:
    """A bar for each name.

    Attributes:
        label: in the legend.
        values: one for each name.
        intervals: low and high ends for each, None for none.
    """

    label: str
    values: Sequence[float]
    intervals: Sequence[tuple[float, float] | None] = ()


def lines(series: Sequence[Series], x_title: str, y_title: str, level: tuple[float, str] | None = None, least_span=0.0):
    """Lines over a logarithmic axis whose ticks are the points'.

    Args:
        series: at most seven, each with a colour, a marker and a dash of its own.
        x_title: of the axis.
        y_title: of the axis, with the unit.
        level: a height to be marked by a thin line, and its name.
        least_span: how much of y there is at least.

    Returns:
        A ``matplotlib.figure.Figure``.

    Raises:
        ValueError: no series, or more than can be told apart.
    """
    if not 1 <= len(series) <= len(COLOURS):
        raise ValueError(f"series: {len(series)} (must be between 1 and {len(COLOURS)})")
    rc_context, drawing = _drawing(4.8, 3.4)
    with rc_context(STYLE):
        axes = drawing.add_subplot()
        axes.set_xscale("log")
        for index, each in enumerate(series):
            errors = [error or 0 for error in each.error] if any(each.error) else None
            apart = ASIDE ** (index - (len(series) - 1) / 2) if errors else 1  # so that bars do not hide each other
            axes.errorbar(
                [x * apart for x in each.x],
                each.y,
                errors,
                label=each.label,
                color=COLOURS[index],
                marker=MARKERS[index],
                linestyle=DASHES[index],
                linewidth=1.8,
                capsize=3,
            )
        if level is not None:
            axes.axhline(level[0], color="0.35", linewidth=1, linestyle=(0, (2, 2)))
            axes.annotate(level[1], (0, level[0]), xycoords=("axes fraction", "data"), xytext=(4, -12),
                          textcoords="offset points", color="0.2")  # fmt: skip
        low, high = axes.get_ylim()
        if high - low < least_span:
            axes.set_ylim((low + high - least_span) / 2, (low + high + least_span) / 2)
        ticks = sorted({x for each in series for x in each.x})
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.set(xlabel=x_title, ylabel=y_title)
        axes.grid(axis="y", color="0.88", linewidth=0.8)
        axes.set_axisbelow(True)
        drawing.legend(loc="outside upper left", ncols=min(3, len(series)), frameon=False, handlelength=3)
    return drawing


def bars(names: Sequence[str], groups: Sequence[Bars], x_title: str, limits: tuple[float, float]):
    """Horizontal bars about 0, a row for each name, the first on top; groups differ in colour and hatching.

    Args:
        names: of the rows.
        groups: at most four.
        x_title: of the axis, with the unit.
        limits: of the axis, so that drawings compare.

    Returns:
        A ``matplotlib.figure.Figure``.

    Raises:
        ValueError: no name, no group, or more groups than can be told apart.
    """
    if not names or not 1 <= len(groups) <= len(HATCHES):
        raise ValueError(f"groups: {len(groups)} of {len(names)} (must be 1 to {len(HATCHES)}, of at least one name)")
    rc_context, drawing = _drawing(4.8, 1.2 + 0.26 * len(names) * (0.6 + len(groups) * 0.7))
    height = 0.8 / len(groups)
    with rc_context(STYLE):
        axes = drawing.add_subplot()
        for index, each in enumerate(groups):
            rows = [row + (index - (len(groups) - 1) / 2) * height for row in range(len(names))]
            axes.barh(
                rows,
                each.values,
                height,
                label=each.label,
                color=COLOURS[index],
                hatch=HATCHES[index],
                edgecolor="black",
                linewidth=0.7,
            )
            for row, interval in zip(rows, each.intervals, strict=False):
                if interval is not None:
                    axes.plot(interval, [row, row], color="black", linewidth=1.3, marker="|", markersize=5)
        axes.axvline(0, color="black", linewidth=0.9)
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel=x_title, xlim=limits, ylim=(len(names) - 0.4, -0.6))
        axes.grid(axis="x", color="0.88", linewidth=0.8)
        axes.set_axisbelow(True)
        drawing.legend(loc="outside upper left", ncols=2, frameon=False)
    return drawing


def svg(drawing) -> tuple[str, int, int]:
    """A matplotlib figure as SVG, the same for the same figure, with its width and height in CSS pixels."""
    import matplotlib

    text = io.StringIO()
    with matplotlib.rc_context(STYLE):
        drawing.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    width, height = drawing.get_size_inches() * PIXELS_PER_INCH
    return text.getvalue(), round(width), round(height)


def _drawing(width: float, height: float):
    """matplotlib's rc_context, and an empty figure of so many inches."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise input_error("matplotlib", "not installed", "figures need it: pip install 'lskd[report]'") from None
    return matplotlib.rc_context, Figure(figsize=(width, height), layout="constrained")
