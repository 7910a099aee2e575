"""How often the intervals of η contain the true value, for simulated students with known class means and covariances.

    python scripts/eta_interval_coverage.py                    # 18 settings, about 10 minutes

Nine classes, two of them similar to the target. The second student equals the first, scaled by 1.3, with the similar
classes 5 % nearer; its features are correlated with the first's, as those of two models of the same images are.
"""

import argparse
from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from simulation_table import command_line, simulated
from tqdm import tqdm

from lskd.io.errors import run_command
from lskd.io.tables import Column, show
from lskd.measure.class_sets import ClassSets
from lskd.measure.diffusion import diffusion_indices, relative_changes
from lskd.measure.representations import collect

CLASSES, SCALE = 9, 1.3
SETS = {0: ClassSets([1, 2], list(range(3, CLASSES)))}
VARIANTS = ("corrected", "centroid", "pairwise-squared")
FIELDS = ("samples", "dimension", "distance", "correlation", "noise")  # samples of a class, distance of classes
SETTINGS = (
    (50, 32, 12, 0.9, "normal"),
    (20, 32, 12, 0.9, "normal"),
    (150, 32, 6, 0.5, "normal"),
    (50, 128, 8, 0.0, "normal"),
    (50, 128, 8, 0.7, "normal"),
    (50, 128, 16, 0.7, "exponential"),
)


def coverage(setting: Mapping[str, Any]) -> dict[str, float]:
    """The share of 95 % intervals that contain the true η(S1) and η(S2), in %."""
    samples, dimension, apart, correlation, distribution = (setting[name] for name in FIELDS)
    variant, simulations, seed = setting["variant"], setting["simulations"], setting["seed"]
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

    def noise() -> NDArray[np.float64]:
        size = (CLASSES, samples, dimension)
        return random.exponential(size=size) - 1 if distribution == "exponential" else random.normal(size=size)

    held = np.zeros(2)
    for simulation in tqdm(range(simulations), f"{variant}, {dimension} dimensions", leave=False, disable=None):
        first = noise()
        second = correlation * first + np.sqrt(1 - correlation**2) * noise()
        before, after = (
            collect((mean[:, None] + size * each @ shape).reshape(-1, dimension), labels, names)
            for mean, size, each in ((means, 1, first), (later, SCALE, second))
        )
        (found,) = diffusion_indices(before, after, SETS, variant, resamples=500, seed=simulation)
        assert found.similar_interval is not None
        assert found.dissimilar_interval is not None
        intervals = found.similar_interval, found.dissimilar_interval
        held += [low <= true <= high for true, (low, high) in zip(truth, intervals, strict=True)]
    ratio = ((means[1] - means[0]) ** 2).sum() / ((traces[0] + traces[1]) / samples)
    return {
        "ratio": float(ratio),
        "true_eta_percent": 100 * float(truth[0]),
        "similar_percent": 100 * float(held[0]) / simulations,
        "dissimilar_percent": 100 * float(held[1]) / simulations,
    }


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
    """Simulate, write after each setting, print the table."""
    about = {"simulations": arguments.simulations, "seed": arguments.seed}
    given = [
        {"variant": variant, **dict(zip(FIELDS, setting, strict=True)), **about}
        for variant, setting in product(VARIANTS, SETTINGS)
    ]
    print(show(simulated(given, coverage, arguments.output), COLUMNS))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    return command_line(__file__, __doc__ or "", "simulations", number=400, seed=20261123)


if __name__ == "__main__":
    run_command(parser(), main)
