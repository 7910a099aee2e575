"""Sum up the committed results for `lskd advise`: lskd/data/measured.csv from the tables in docs/results/*/.

python scripts/evidence.py            # writes the file
python scripts/evidence.py --check    # compares it with what the committed results give
"""

import argparse
import csv
import io
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from computed_files import computed_parser, write_or_compare
from definitions import PLAIN, ROOT, trained_as
from translation_statements import pair_of

from lskd.io.errors import run_command
from lskd.measure.comparisons import LEAST_SEEDS
from lskd.paper.evidence import COLUMNS, MEASURED
from lskd.records.spread import over_seeds

RESULTS = ROOT / "docs" / "results"


# By table: the column of the result, its unit, and the file with a line on the data and on how each variant trains.
TABLES = {
    "students.csv": ("valid_top1", "%", "about.txt"),
    "translations.csv": ("bleu", "BLEU", "about-translations.txt"),
}


def summary() -> str:
    """The contents of the file: of each kind of students the mean, standard deviation and n.

    Of images validation top-1 of the last epoch, of translations test BLEU of the best checkpoint.
    """
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    for name, (result, unit, file) in TABLES.items():
        for path in sorted(RESULTS.glob(f"*/{name}")):
            if (path.parent / file).is_file():  # otherwise not of these data and this training alone
                about = dict(line.split(": ", 1) for line in (path.parent / file).read_text().splitlines())
                writer.writerows(_rows(path, result, unit, about))
    return table.getvalue()


def _rows(path: Path, result: str, unit: str, about: Mapping[str, str]) -> Iterator[list[object]]:
    """The rows of a committed table."""
    cells: dict[tuple[str, str, str, str, float, float], list[float]] = defaultdict(list)
    for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines()):
        data = about["data"] if unit == "%" else about[pair_of(row)]
        if row["temperature"]:
            variant, epochs = _variant(row["variant"]), f"{row['epochs']} epochs" if "epochs" in row else ""
            alpha, T = float(row["label_smoothing"]), float(row["temperature"])
            cells[data, row["model"], variant, epochs, alpha, T].append(float(row[result]))
    _share_the_first(cells)
    for (data, model, variant, epochs, alpha, temperature), values in sorted(cells.items()):
        if len(values) < LEAST_SEEDS:  # of a study that is not complete
            continue
        spread = over_seeds(values)
        sd = "" if spread.sd is None else f"{spread.sd:.3f}"
        # a variant with another training has a line of its own there
        optimiser, *beside = [about[variant], ""] if variant in about else [about["optimiser"], variant]
        training = [", ".join(filter(None, [optimiser, epochs])), *beside]
        known = [path.parent.name, data, unit, *training, about.get("student", model), f"{alpha:g}"]
        yield [*known, f"{temperature:g}", f"{spread.mean:.3f}", sd, spread.n]


def _share_the_first(cells: dict[tuple[str, str, str, str, float, float], list[float]]) -> None:
    """Give variants that equal another at T = 1 its students there."""
    for data, model, variant, epochs, alpha, _ in list(cells):
        first = cells.get((data, model, _variant(trained_as(variant, 1)), epochs, alpha, 1.0))
        if first:
            cells[data, model, variant, epochs, alpha, 1.0] = first


def _variant(name: str) -> str:
    """What distinguishes students beside α and T: nothing for those whose T was found by matching entropies."""
    return "" if name == PLAIN or name.startswith("equal-entropy") else name


def run(arguments: argparse.Namespace) -> None:
    """Write the file, or compare it."""
    write_or_compare(MEASURED, summary(), "evidence.py", arguments.check)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    return computed_parser(__doc__)


if __name__ == "__main__":
    run_command(parser(), run)
