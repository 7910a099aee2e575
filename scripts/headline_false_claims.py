"""How often the report claims something of temperatures that do nothing, and of some that do something.

    python scripts/headline_false_claims.py --output docs/benchmarks/headline_claims.csv      # about 10 minutes

Accuracies of simulated students go through the report's own tests. A page has one α or three; of each the best T of 1,
2, 3 and 64 is compared with the worst and T = 1 with the rest, and p is adjusted for the page. With --output, what is
there already is not simulated again.
"""

import argparse
import csv
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from side_by_side import origin
from tqdm import tqdm

from lskd.io.errors import positive, run_command
from lskd.io.files import write_text
from lskd.io.tables import Column, show
from lskd.measure.comparisons import LEVEL, Groups, holm
from lskd.records.spread import over_seeds

TEMPERATURES = (1.0, 2.0, 3.0, 64.0)
IMAGES = 2000  # of the binomial noise
SEEDS = (1, 2, 3, 5, 10)
WIDER = 4  # how much more T = 64 scatters, where scatters are unequal
EFFECTS = (1, 2, 4, 8, 16)  # of T = 1 above the others, in standard deviations of a student over seeds
FIELDS = ("noise", "seeds_are", "scatter", "effect", "alphas", "seeds")
RATES = ("any_claim_percent", "best_against_worst_percent", "one_against_rest_percent", "above_its_deviation_percent")


def settings() -> Iterator[dict[str, Any]]:
    """What is simulated: everything without an effect, and effects of normal noise with paired seeds."""
    grid = product(("normal", "t, 3 degrees", "binomial"), ("paired", "unpaired"), ("equal", "unequal"), (1, 3), SEEDS)
    for noise, seeds_are, scatter, alphas, seeds in grid:
        yield dict(zip(FIELDS, (noise, seeds_are, scatter, 0, alphas, seeds), strict=True))
    for effect, alphas, seeds in product(EFFECTS, (1, 3), SEEDS):
        yield dict(zip(FIELDS, ("normal", "paired", "equal", effect, alphas, seeds), strict=True))


def accuracies(random: np.random.Generator, noise: str, seeds_are: str, scatter: str, effect: float, seeds: int):
    """(seeds, temperatures) accuracies in %, around 80; paired ones share a seed's luck."""
    shape, sizes = (seeds, len(TEMPERATURES)), np.array([1, 1, 1, WIDER if scatter == "unequal" else 1])
    luck = random.normal(size=(seeds, 1)) if seeds_are == "paired" else np.zeros((seeds, 1))
    if noise == "binomial":
        deviation = 100 * np.sqrt(0.8 * 0.2 / IMAGES)
        true = 80 + deviation * (luck + np.sqrt(sizes**2 - 1) * random.normal(size=shape))
        return 100 * random.binomial(IMAGES, np.clip(true / 100, 0, 1)) / IMAGES
    values = random.normal(size=shape) if noise == "normal" else random.standard_t(3, size=shape)
    return 80 + luck + sizes * values + effect * (np.array(TEMPERATURES) == 1)


def simulate(setting: dict[str, Any], pages: int, seed: int) -> dict[str, Any]:
    """The share of pages with a claim, in %.

    Returns:
        ``any_claim_percent``: of pages where anything is claimed. Then of the first α: ``best_against_worst_percent``,
        ``one_against_rest_percent``, and as a warning ``above_its_deviation_percent``, where the difference between the
        best and the worst is larger than its standard deviation over seeds.
    """
    random = np.random.default_rng([seed, *map(int, repr(setting).encode())])
    counts = np.zeros(len(RATES))
    how = {name: setting[name] for name in ("noise", "seeds_are", "scatter", "effect", "seeds")}
    for _ in range(pages):
        claims, names = [], []
        for alpha in range(setting["alphas"]):
            values = accuracies(random, **how)
            by_temperature = {T: dict(enumerate(values[:, place])) for place, T in enumerate(TEMPERATURES)}
            if setting["seeds_are"] == "unpaired":
                by_temperature = {T: over_seeds(list(each.values())) for T, each in by_temperature.items()}
            groups = Groups(by_temperature)
            for name, found in (("best", groups.best_against_worst()), ("rest", groups.one_against_rest())):
                if found is not None:
                    claims.append(found.p)
                    names.append((alpha, name))
            if alpha == 0 and setting["seeds"] > 1:
                means = values.mean(0)
                difference = values[:, means.argmax()] - values[:, means.argmin()]
                counts[3] += difference.mean() > difference.std(ddof=1)
        claimed = {name for name, p in zip(names, holm(claims), strict=True) if p <= LEVEL}
        counts[:3] += [bool(claimed), (0, "best") in claimed, (0, "rest") in claimed]
    return setting | {name: round(100 * count / pages, 2) for name, count in zip(RATES, counts, strict=True)}


def known(path: Path | None) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Rows that are there already, by their settings."""
    if path is None or not path.exists():
        return {}
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return {tuple(row[name] for name in (*FIELDS, "pages", "seed")): row for row in csv.DictReader(lines)}


def csv_text(rows: list[dict[str, Any]], head: list[str]) -> str:
    """A table with what is known of its making above."""
    names = [*FIELDS, *RATES, "pages", "seed"]
    lines = [[str(row[name]) for name in names] for row in rows]
    quoted = [[f'"{cell}"' if "," in cell else cell for cell in line] for line in lines]
    return "\n".join([*head, *map(",".join, [names, *quoted])]) + "\n"


COLUMNS = (
    Column("noise", "noise"),
    Column("seeds are", "seeds_are"),
    Column("scatter", "scatter"),
    Column("effect", "effect"),
    Column("α", "alphas"),
    Column("seeds", "seeds"),
    Column("any claim %", "any_claim_percent"),
    Column("best–worst %", "best_against_worst_percent"),
    Column("T = 1–rest %", "one_against_rest_percent"),
    Column("above its σ %", "above_its_deviation_percent"),
)


def main(arguments: argparse.Namespace) -> None:
    """Simulate, write after each setting, print the table."""
    there, rows = known(arguments.output), []
    head = origin(f"{arguments.pages} pages of each setting: python scripts/headline_false_claims.py")
    for setting in tqdm(list(settings()), "settings", disable=None):
        about = {"pages": arguments.pages, "seed": arguments.seed}
        key = tuple(str(each) for each in (*setting.values(), *about.values()))
        rows.append(there.get(key) or simulate(setting, arguments.pages, arguments.seed) | about)
        if arguments.output and key not in there:
            write_text(arguments.output, csv_text(rows, head))
    print(show(rows, COLUMNS))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(prog="scripts/headline_false_claims.py", description=__doc__.split("\n")[0])
    options.add_argument("--pages", type=positive, default=2000, help="of each setting (default 2000)")
    options.add_argument("--seed", type=int, default=20261128, help="of everything that is drawn (default 20261128)")
    options.add_argument("--output", type=Path, metavar="FILE.csv", help="the table, written as it grows")
    return options


if __name__ == "__main__":
    run_command(parser(), main)
