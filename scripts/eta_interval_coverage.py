"""How often the intervals of η hold the true one: simulated students whose class means and covariances are known.

    python scripts/eta_interval_coverage.py                    # 18 settings, about 10 minutes

Nine classes, two of them similar to the target. The second student is like the first, larger by 1.3, with the similar
classes 5 % nearer; its features correlate with the first's, as those of two models of the same images do.
"""

import argparse
from itertools import product
from typing import Any

import numpy as np
from tqdm import tqdm

from lskd.io.errors import positive, run_command
from lskd.io.tables import Column, output_file, show, write
from lskd.measure.class_sets import ClassSets
from lskd.measure.diffusion import diffusion_indices, relative_changes
from lskd.measure.representations import record

CLASSES, SCALE = 9, 1.3
SETS = {0: ClassSets([1, 2], list(range(3, CLASSES)))}
SETTINGS = (  # samples a class, dimension, how far classes are apart, correlation, exponential noise
    (50, 32, 12, 0.9, False),
    (20, 32, 12, 0.9, False),
    (150, 32, 6, 0.5, False),
    (50, 128, 8, 0.0, False),
    (50, 128, 8, 0.7, False),
    (50, 128, 16, 0.7, True),
)


def coverage(variant: str, setting: tuple[Any, ...], simulations: int, seed: int) -> dict[str, Any]:
    """The share of 95 % intervals that hold the true η(S1) and η(S2), in %."""
    samples, dimension, apart, correlation, exponential = setting
    random = np.random.default_rng(seed)
    means = random.normal(size=(CLASSES, dimension)) * apart / np.sqrt(2 * dimension)
    means[1:3] = (means[0] + means[1:3]) / 2
    later = means.copy()
    later[1:3] = later[0] + 0.95 * (later[1:3] - later[0])
    later *= SCALE
    shape = random.normal(size=(CLASSES, dimension, dimension)) / np.sqrt(dimension)
    shape *= np.linspace(2, 0.1, dimension)[:, None]
    traces = (shape**2).sum((1, 2))
    share = {"corrected": 0, "centroid": 1 / samples, "pairwise-squared": 1}[variant]
    distances = [
        ((mean[1:] - mean[0]) ** 2).sum(1) + share * factor * (traces[1:] + traces[0])
        for mean, factor in ((means, 1), (later, SCALE**2))
    ]
    changes = relative_changes(*distances)
    truth = changes[:2].mean(), changes[2:].mean()
    labels, names = np.repeat(np.arange(CLASSES), samples), [str(label) for label in range(CLASSES)]

    def noise() -> np.ndarray:
        size = (CLASSES, samples, dimension)
        return random.exponential(size=size) - 1 if exponential else random.normal(size=size)

    held = np.zeros(2)
    for simulation in tqdm(range(simulations), f"{variant} {setting}", leave=False, disable=None):
        first = noise()
        second = correlation * first + np.sqrt(1 - correlation**2) * noise()
        students = [
            record((mean[:, None] + size * each @ shape).reshape(-1, dimension), labels, names)
            for mean, size, each in ((means, 1, first), (later, SCALE, second))
        ]
        (found,) = diffusion_indices(*students, SETS, variant, resamples=500, seed=simulation)
        intervals = found.similar_interval, found.dissimilar_interval
        held += [low <= true <= high for true, (low, high) in zip(truth, intervals, strict=True)]
    ratio = ((means[1] - means[0]) ** 2).sum() / ((traces[0] + traces[1]) / samples)
    row = {"variant": variant, "samples": samples, "dimension": dimension, "ratio": ratio, "correlation": correlation}
    row |= {"noise": "exponential" if exponential else "normal", "true_eta_percent": 100 * truth[0]}
    return row | {"similar_percent": 100 * held[0] / simulations, "dissimilar_percent": 100 * held[1] / simulations}


COLUMNS = (
    Column("variant", "variant"),
    Column("n", "samples"),
    Column("d", "dimension"),
    Column("distance ÷ noise", "ratio", ".1f"),
    Column("correlation", "correlation"),
    Column("noise", "noise"),
    Column("true η(S1) %", "true_eta_percent", ".1f"),
    Column("η(S1) held %", "similar_percent", ".1f"),
    Column("η(S2) held %", "dissimilar_percent", ".1f"),
)


def main(arguments: argparse.Namespace) -> None:
    """Print the table."""
    grid = list(product(("corrected", "centroid", "pairwise-squared"), SETTINGS))
    rows = [coverage(*each, arguments.simulations, arguments.seed) for each in tqdm(grid, "settings", disable=None)]
    if arguments.output:
        write(arguments.output, rows)
    print(show(rows, COLUMNS))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(prog="scripts/eta_interval_coverage.py", description=__doc__.split("\n")[0])
    options.add_argument("--simulations", type=positive, default=400, help="of each setting (default 400)")
    options.add_argument("--seed", type=int, default=20261123, help="of everything that is drawn (default 20261123)")
    options.add_argument("--output", type=output_file, metavar="FILE", help="the table, .csv or .json")
    return options


if __name__ == "__main__":
    run_command(parser(), main)
