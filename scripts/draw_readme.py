"""Draw the README's picture from the committed results on letters: top-1 against T, for a teacher with label smoothing
and one without.

    python scripts/draw_readme.py
"""

import argparse
import csv
import io
from collections import defaultdict
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.style import context
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from lskd.io.errors import OneLineParser, run_command
from lskd.io.files import write_text
from lskd.records.spread import Spread, over_seeds
from lskd.report import drawing_style as style

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results" / "letters" / "students.csv"
PICTURE = ROOT / "docs" / "temperature.svg"
INK = "#768390"  # readable on white and on GitHub's dark background, as the lines' colours are


def main(arguments: argparse.Namespace) -> None:
    """Write the picture."""
    write_text(arguments.output, picture(students(RESULTS)))


def students(path: Path) -> dict[float, dict[float, Spread]]:
    """Top-1 in % over seeds, by α and T."""
    values: dict[float, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    with open(path, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["temperature"]:
                values[float(row["label_smoothing"])][float(row["temperature"])].append(float(row["valid_top1"]))
    return {alpha: {T: over_seeds(each) for T, each in sorted(by_T.items())} for alpha, by_T in sorted(values.items())}


def picture(found: dict[float, dict[float, Spread]]) -> str:
    """The SVG, on a transparent ground; the same input gives the same bytes."""
    settings = {**style.PAGE, "axes.edgecolor": INK, "xtick.color": INK, "ytick.color": INK, "axes.labelcolor": INK}
    with context(settings):
        drawing = Figure(figsize=(6.4, 2.9), layout="constrained")
        axes = drawing.add_subplot()
        for place, (alpha, by_T) in enumerate(found.items()):
            colour = ("#3D9BD9", "#E07B39")[place]
            means, deviations = [each.mean for each in by_T.values()], [each.sd or 0 for each in by_T.values()]
            marker, dashes = style.MARKERS[place], style.DASHES[place]
            axes.errorbar(list(by_T), means, deviations, color=colour, marker=marker, linestyle=dashes, capsize=3)
            label = f"from a teacher\n{'with' if alpha else 'without'} label smoothing"
            axes.annotate(label, (64, means[-1]), (12, 0), textcoords="offset points", color=colour, va="center")
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator([T for T in next(iter(found.values()))]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda T, _: f"{T:g}"))
        axes.set_xlabel("temperature T")
        axes.set_ylabel("student's top-1 in %")
        axes.grid(axis="y", color=INK, alpha=0.25)
        axes.set_axisbelow(True)
        text = io.StringIO()
        drawing.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"


if __name__ == "__main__":
    parser = OneLineParser(
        prog="draw_readme.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=PICTURE, help="(default: docs/temperature.svg)")
    run_command(parser, main)
