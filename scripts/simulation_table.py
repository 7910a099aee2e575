"""The table of a simulation study: a row for each setting, written as it grows and resumed after an interruption."""

import argparse
import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lskd.io.argument_types import output_file, positive
from lskd.io.files import write_text


def simulated(
    settings: Sequence[dict[str, Any]],
    simulate: Callable[[dict[str, Any]], Mapping[str, float]],
    output: Path | None,
    head: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """A row for each setting: its items, then its results.

    Args:
        settings: with the number of simulations and the seed, all with the same keys.
        simulate: gives the results of a setting.
        output: a CSV file, from which finished rows are read, and to which each new one is written.
        head: comment lines above the table in the file.
    """
    names = list(settings[0])
    done = {tuple(row[name] for name in names): row for row in _read(output)}
    rows: list[dict[str, Any]] = []
    for setting in tqdm(settings, "settings", disable=None):
        key = tuple(str(value) for value in setting.values())
        if key in done:
            rows.append(setting | {name: float(done[key][name]) for name in done[key] if name not in names})
            continue
        rows.append(setting | dict(simulate(setting)))
        if output is not None:
            write_text(output, _csv_text(rows, head))
    return rows


def _read(path: Path | None) -> list[dict[str, str]]:
    if path is None or not path.exists():
        return []
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return list(csv.DictReader(lines))


def _csv_text(rows: Sequence[dict[str, Any]], head: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return "".join(line + "\n" for line in head) + text.getvalue()


def command_line(program: str, doc: str, counted: str, number: int, seed: int) -> argparse.ArgumentParser:
    """The options of a study.

    Args:
        program: its file.
        doc: its docstring.
        counted: what ``number`` of are simulated for each setting, the name of the option.
        number: by default.
        seed: by default.
    """
    options = argparse.ArgumentParser(prog=f"scripts/{Path(program).name}", description=doc.split("\n")[0])
    options.add_argument(f"--{counted}", type=positive, default=number, help=f"of each setting (default {number})")
    options.add_argument("--seed", type=int, default=seed, help=f"of all random draws (default {seed})")
    options.add_argument(
        "--output",
        type=output_file(".csv"),
        metavar="FILE.csv",
        help="the table, written as it grows, and resumed",
    )
    return options
