"""Mean soft outputs of classes as bars, a panel for each temperature: the paper's Figure 2."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lskd.io.errors import not_installed
from lskd.report import drawing_style as style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_PANELS = 60  # more would be unreadable, and take minutes to draw


@dataclass(frozen=True)
class SoftOutputs:
    """The mean soft outputs of the samples of one class, for the classes with the largest outputs.

    Attributes:
        title: the class, and the model if there are several.
        temperatures: the temperatures of the outputs, ascending.
        names: names of the classes shown, the largest mean output at the lowest T first.
        means: (temperatures, names) probabilities.
        own: the position of the class itself in ``names``; None if it is not among them.
    """

    title: str
    temperatures: Sequence[float]
    names: Sequence[str]
    means: NDArray[np.float64]
    own: int | None


def largest(
    title: str, label: int, class_names: Sequence[str], means: Mapping[float, NDArray[np.float64]], top: int
) -> SoftOutputs:
    """Select the ``top`` classes by their mean output at the lowest temperature.

    Args:
        title: title of the row of panels.
        label: the index of the class whose samples' outputs these are.
        class_names: the K class names.
        means: (K,) mean probabilities by temperature.
        top: how many classes to show.
    """
    temperatures = sorted(means)
    best = np.argsort(-means[temperatures[0]], kind="stable")[:top].tolist()
    shown = np.stack([means[temperature][best] for temperature in temperatures])
    own = best.index(label) if label in best else None
    return SoftOutputs(title, temperatures, [class_names[index] for index in best], shown, own)


def soft_output_figure(rows: Sequence[SoftOutputs]) -> "Figure":
    """Draw a row of panels for each class, one for each T, lowest first; all panels share one logarithmic axis.

    The scale is logarithmic since probabilities at T = 1 are often less than a hundredth of the largest. The class
    itself is hatched, and each bar is labelled with its value.

    Args:
        rows: at least one, all with the same temperatures.

    Raises:
        ValueError: no rows, or more panels than can be read.
    """
    panels = sum(len(row.temperatures) for row in rows)
    if not 1 <= panels <= MOST_PANELS:
        raise ValueError(f"panels: {panels} (must be 1 to {MOST_PANELS}: a class in a file at a temperature each)")
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise not_installed("matplotlib", "report") from None
    columns = len(rows[0].temperatures)
    positive = np.concatenate([row.means[row.means > 0] for row in rows])
    decades = int(np.floor(np.log10(positive.min())))
    names = max(len(row.names) for row in rows)
    with matplotlib.rc_context(style.FIGURE):
        size = (1.6 + 2.9 * columns, len(rows) * (0.6 + 0.27 * names) + 0.5)
        drawing = Figure(figsize=size, layout="constrained")
        grid = drawing.subplots(len(rows), columns, squeeze=False, sharex=True, sharey="row")
        for line, row in zip(grid, rows, strict=True):
            for axes, temperature, means in zip(line, row.temperatures, row.means, strict=True):
                _panel(axes, row, means, decades)
                axes.set_title(f"{row.title}, T = {temperature:g}", fontsize=style.FONT_SIZE)
        for axes in grid[-1]:
            axes.set_xlabel("mean output (log scale)")
    return drawing


def _panel(axes: "Axes", row: SoftOutputs, means: NDArray[np.float64], decades: int) -> None:
    places, low = range(len(row.names)), 10.0 ** (decades - 0.3)
    # A probability of 0, which rounding can cause, is not on the logarithmic axis: it has no bar, only its value.
    bars = axes.barh(
        places, np.maximum(means, low), color=style.COLOURS[0], height=0.7, edgecolor=style.EDGE_COLOUR, linewidth=0.6
    )
    if row.own is not None:
        bars[row.own].set(facecolor=style.COLOURS[1], hatch=style.OWN_HATCH)
    for place, value in zip(places, means, strict=True):
        axes.annotate(f"{value:.2g}", (max(value, low), place), xytext=(3, 0), textcoords="offset points", va="center",
                      fontsize=8)  # fmt: skip
    axes.set_xscale("log")
    ticks = range(0, decades - 1, -max(1, -decades // 3))
    axes.set_xticks([10.0**tick for tick in ticks], [f"{10.0**tick:g}" for tick in ticks])
    axes.set(xlim=(low, 10 ** (0.4 - 0.35 * decades)), ylim=(len(row.names) - 0.5, -0.5))
    axes.set_yticks(places, row.names)
    axes.tick_params(labelsize=8)
    axes.minorticks_off()
    axes.grid(axis="x", color=style.GRID_COLOUR, linewidth=0.8)
    axes.set_axisbelow(True)
