"""Draw panels of :mod:`lskd.measure.projection` in a grid like the paper's Figure 1, for the screen and for print."""

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lskd.io.errors import not_installed
from lskd.measure.projection import Panel, distance_to_third
from lskd.report import drawing_style as style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS, MARKERS = style.COLOURS[:3], style.MARKERS[:3]  # of the three classes
CAPTION = (
    "Centroids are numbered. d: distance between centroids 1 and 2 relative to their mean distance to 3.\n"
    "Axes are in units of that mean distance, of the features the plane was fitted on."
)


def figure(panels: Sequence[Panel]) -> "Figure":
    """Draw a grid like Figure 1: a column for each teacher and student × T, a row for each split × α, training first.

    All panels show the same window and are drawn to the same scale, relative to the distance between similar and
    dissimilar classes (the paper scales each panel on its own, so that sizes cannot be compared); the caption says so.

    Args:
        panels: at least one panel, all of the same three classes.

    Raises:
        ValueError: no panel, or panels of different classes.
    """
    if not panels or any(each.class_names != panels[0].class_names for each in panels):
        raise ValueError("panels: none, or of different classes (must be of the same three)")
    try:
        import matplotlib
        from matplotlib.figure import Figure
        from matplotlib.lines import Line2D
        from matplotlib.ticker import MaxNLocator
    except ImportError:
        raise not_installed("matplotlib", "report") from None
    places = _grid(panels)
    rows, columns = (1 + max(place[axis] for place in places) for axis in (0, 1))
    scales = [distance_to_third(each.projection.centroids) for each in panels]
    shown = np.concatenate([each.coordinates / scale for each, scale in zip(panels, scales, strict=True)])
    margin = 0.05 * np.ptp(shown, 0).max()
    low, high = shown.min(0) - margin, shown.max(0) + margin
    several_seeds = len({each.provenance.get("seed") for each in panels}) > 1
    with matplotlib.rc_context(style.FIGURE):
        drawing = Figure(figsize=(max(2.6 * columns, 6.4), 2.8 * rows + 1.0), layout="constrained")
        for panel, (row, column), scale in zip(panels, places, scales, strict=True):
            axes = drawing.add_subplot(rows, columns, row * columns + column + 1, aspect="equal")
            axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
            axes.tick_params(labelsize=style.TICK_SIZE)
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
            seed = f", seed {panel.provenance.get('seed')}" if several_seeds else ""
            axes.set_title(panel.title + seed, fontsize=style.FONT_SIZE)
            _draw_panel(axes, panel, scale)
        key = [Line2D([], [], color=COLOURS[i], marker=MARKERS[i], linestyle="") for i in range(3)]
        names = [f"{i + 1}  {name}" for i, name in enumerate(panels[0].class_names)]
        legend = drawing.legend(key, names, loc="outside lower center", ncols=3, title=CAPTION, frameon=False)
        legend.get_title().set_multialignment("center")
    return drawing


def _grid(panels: Sequence[Panel]) -> list[tuple[int, int]]:
    """Row and column of each panel; panels of the same cell, such as several seeds, get columns side by side."""
    taken: Counter[tuple[Hashable, Hashable]] = Counter()
    rows, columns = [], []
    for panel in panels:
        smoothing = np.inf if panel.label_smoothing is None else panel.label_smoothing
        row = (panel.split != "train", panel.split, smoothing)
        column = (bool(panel.provenance.get("teacher")), panel.model, panel.temperature or 0)
        rows.append(row)
        columns.append((*column, taken[row, column]))
        taken[row, column] += 1
    order = sorted(set(rows)), sorted(set(columns))
    return [(order[0].index(row), order[1].index(column)) for row, column in zip(rows, columns, strict=True)]


def _draw_panel(axes: "Axes", panel: Panel, scale: float) -> None:
    points, centroids = panel.coordinates / scale, panel.centroids / scale
    for i in range(3):
        x, y = points[panel.labels == i].T
        axes.scatter(x, y, s=7, c=COLOURS[i], marker=MARKERS[i], alpha=0.55, linewidths=0)
    axes.plot(*centroids[[0, 2, 1]].T, color=style.HELP_COLOUR, linewidth=0.8)
    axes.plot(*centroids[:2].T, color=style.EDGE_COLOUR, linewidth=1.6)
    for i, size in enumerate((110, 100, 190)):  # a triangle has less space for its number
        x, y = centroids[i]
        axes.scatter(x, y, size, "white", marker=MARKERS[i], edgecolors=COLOURS[i], linewidths=2, zorder=3)
        axes.annotate(str(i + 1), (x, y), ha="center", va="center", weight="bold", fontsize=style.TICK_SIZE, zorder=4)
    axes.annotate(f"d = {panel.relative_distance:.2f}", (0.97, 0.96), xycoords="axes fraction", ha="right", va="top")
