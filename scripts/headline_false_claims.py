"""How often the report claims an effect of temperatures that have none, and of some that have one.

    python scripts/headline_false_claims.py --output docs/benchmarks/headline_claims.csv      # about 10 minutes

Accuracies of simulated students go through the report's own tests. A page has one α or three; for each the best T of 1,
2, 3 and 64 is compared with the worst and T = 1 with the rest, and p is adjusted for the page. With --output, finished
settings are not simulated again.
"""

import argparse
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from side_by_side import origin
from simulation_table import command_line, simulated

from lskd.io.errors import run_command
from lskd.io.tables import Column, show
from lskd.measure.comparisons import LEVEL, Groups, holm
from lskd.records.spread import over_seeds

TEMPERATURES = (1.0, 2.0, 3.0, 64.0)
IMAGES = 2000  # of the binomial noise
SEEDS = (1, 2, 3, 5, 10)
WIDER = 4  # how much wider T = 64 scatters in settings with unequal scatter
EFFECTS = (1, 2, 4, 8, 16)  # of T = 1 above the others, in standard deviations of a student over seeds
FIELDS = ("noise", "seeds_are", "scatter", "effect", "alphas", "seeds")
RATES = ("any_claim_percent", "best_against_worst_percent", "one_against_rest_percent", "above_its_deviation_percent")


def settings() -> Iterator[dict[str, Any]]:
    """The settings: all kinds of noise without an effect, and effects with normal noise and paired seeds."""
    grid = product(("normal", "t, 3 degrees", "binomial"), ("paired", "unpaired"), ("equal", "unequal"), (1, 3), SEEDS)
    for noise, seeds_are, scatter, alphas, seeds in grid:
        yield dict(zip(FIELDS, (noise, seeds_are, scatter, 0, alphas, seeds), strict=True))
    for effect, alphas, seeds in product(EFFECTS, (1, 3), SEEDS):
        yield dict(zip(FIELDS, ("normal", "paired", "equal", effect, alphas, seeds), strict=True))


def accuracies(
    random: np.random.Generator, noise: str, seeds_are: str, scatter: str, effect: float, seeds: int
) -> NDArray[np.float64]:
    """Accuracies (seeds, temperatures) in %, around 80; paired ones share a seed's deviation."""
    shape, sizes = (seeds, len(TEMPERATURES)), np.array([1, 1, 1, WIDER if scatter == "unequal" else 1])
    luck = random.normal(size=(seeds, 1)) if seeds_are == "paired" else np.zeros((seeds, 1))
    if noise == "binomial":
        deviation = 100 * np.sqrt(0.8 * 0.2 / IMAGES)
        true = 80 + deviation * (luck + np.sqrt(sizes**2 - 1) * random.normal(size=shape))
        return 100 * random.binomial(IMAGES, np.clip(true / 100, 0, 1)) / IMAGES
    values = random.normal(size=shape) if noise == "normal" else random.standard_t(3, size=shape)
    return 80 + luck + sizes * values + effect * (np.array(TEMPERATURES) == 1)


def simulate(setting: Mapping[str, Any]) -> dict[str, float]:
    """The share of pages with a claim, in %.

    Returns:
        ``any_claim_percent``: of pages with any claim. Then for the first α: ``best_against_worst_percent``,
        ``one_against_rest_percent``, and for comparison ``above_its_deviation_percent``, the share in which the
        difference between the best and the worst is larger than its standard deviation over seeds.
    """
    pages, named = setting["pages"], {name: setting[name] for name in FIELDS}
    random = np.random.default_rng([setting["seed"], *map(int, repr(named).encode())])
    counts = np.zeros(len(RATES))
    how = {name: setting[name] for name in ("noise", "seeds_are", "scatter", "effect", "seeds")}
    for _ in range(pages):
        claims, names = [], []
        for alpha in range(setting["alphas"]):
            values = accuracies(random, **how)
            columns = dict(zip(TEMPERATURES, values.T.tolist(), strict=True))
            if setting["seeds_are"] == "unpaired":
                groups = Groups({T: over_seeds(column) for T, column in columns.items()})
            else:
                groups = Groups({T: dict(enumerate(column)) for T, column in columns.items()})
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
    return {name: round(100 * count / pages, 2) for name, count in zip(RATES, counts, strict=True)}


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
    about = {"pages": arguments.pages, "seed": arguments.seed}
    head = origin(f"{arguments.pages} pages of each setting: python scripts/headline_false_claims.py")
    given = [setting | about for setting in settings()]
    print(show(simulated(given, simulate, arguments.output, head), COLUMNS))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    return command_line(__file__, __doc__ or "", "pages", number=2000, seed=20261128)


if __name__ == "__main__":
    run_command(parser(), main)
