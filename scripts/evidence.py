"""Sum up the committed results for `lskd advise`: lskd/data/measured.csv from docs/results/*/students.csv.

python scripts/evidence.py            # writes the file
python scripts/evidence.py --check    # compares it with what the committed results give
"""

import argparse
import csv
import io
from collections import defaultdict

from computed_files import computed_parser, write_or_compare
from definitions import PLAIN, ROOT
from image_statements import PAPERS_AT_ONE

from lskd.io.errors import run_command
from lskd.measure.comparisons import LEAST_SEEDS
from lskd.paper.evidence import COLUMNS, MEASURED
from lskd.records.spread import over_seeds

RESULTS = ROOT / "docs" / "results"


def summary() -> str:
    """The contents of the file: mean validation top-1 of the last epoch, standard deviation and n of each kind."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    for path in sorted(RESULTS.glob("*/students.csv")):
        if not (path.parent / "about.txt").is_file():  # not of these data and this training alone
            continue
        about = dict(line.split(": ", 1) for line in (path.parent / "about.txt").read_text().splitlines())
        cells: dict[tuple[str, str, int, float, float], list[float]] = defaultdict(list)
        for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines()):
            if row["temperature"]:
                variant = _variant(row["variant"])
                alpha, T = float(row["label_smoothing"]), float(row["temperature"])
                cells[row["model"], variant, int(row["epochs"]), alpha, T].append(float(row["valid_top1"]))
        _share_the_first(cells)
        for (model, variant, epochs, alpha, temperature), values in sorted(cells.items()):
            if len(values) < LEAST_SEEDS:  # of a study that has not ended
                continue
            spread = over_seeds(values)
            sd = "" if spread.sd is None else f"{spread.sd:.3f}"
            # a variant that trains in another way has a line of its own there
            optimiser, *beside = [about[variant], ""] if variant in about else [about["optimiser"], variant]
            training = [f"{optimiser}, {epochs} epochs", *beside]
            known = [path.parent.name, about["data"], *training, model, f"{alpha:g}"]
            writer.writerow([*known, f"{temperature:g}", f"{spread.mean:.3f}", sd, spread.n])
    return table.getvalue()


def _share_the_first(cells: dict[tuple[str, str, int, float, float], list[float]]) -> None:
    """Give losses that are the paper's at T = 1 its students there."""
    for model, variant, epochs, alpha, _ in list(cells):
        plain = cells.get((model, "", epochs, alpha, 1.0))
        if variant in PAPERS_AT_ONE and plain:
            cells[model, variant, epochs, alpha, 1.0] = plain


def _variant(name: str) -> str:
    """What distinguishes students beside α and T: nothing of those whose T was found by matching entropies."""
    return "" if name == PLAIN or name.startswith("equal-entropy") else name


def run(arguments: argparse.Namespace) -> None:
    """Write the file, or compare it."""
    write_or_compare(MEASURED, summary(), "evidence.py", arguments.check)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    return computed_parser(__doc__)


if __name__ == "__main__":
    run_command(parser(), run)
