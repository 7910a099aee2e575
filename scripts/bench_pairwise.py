"""The mean distance of all pairs of two classes' samples, of which pairwise η consists: time and memory.

    python scripts/bench_pairwise.py

``lskd.measure.class_distances.mean_distances`` is compared with scipy's ``cdist(...).mean()`` and scikit-learn's
``pairwise_distances(...).mean()``, which hold all distances at once. Memory is the peak allocation.
"""

import argparse
import statistics
import tracemalloc
from pathlib import Path

import numpy as np
from scipy.spatial.distance import cdist
from side_by_side import median_ratio, origin, seconds_in_turns, show
from sklearn.metrics import pairwise_distances

from lskd.io.argument_types import positive
from lskd.io.errors import run_command
from lskd.measure.class_distances import mean_distances


def main(arguments: argparse.Namespace) -> None:
    """Measure and print the table."""
    random = np.random.default_rng(1)
    one, other = (random.standard_normal((arguments.samples, arguments.dimension)) + shift for shift in (0, 1))
    weights = np.full((1, arguments.samples), 1 / arguments.samples)
    ways = {
        "lskd": lambda: mean_distances(one, other, weights, weights)[0],
        "scipy cdist": lambda: cdist(one, other).mean(),
        "scikit-learn": lambda: pairwise_distances(one, other).mean(),
    }
    seconds = seconds_in_turns(ways, arguments.rounds)
    about = f"two classes of {arguments.samples} samples of {arguments.dimension} dimensions, float64; "
    about += f"median of {arguments.rounds} rounds"
    lines = [*origin(about), "way,seconds,ratio to scipy,memory in MiB,mean distance"]
    for way, run in ways.items():
        tracemalloc.start()
        mean = run()
        memory = tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()
        numbers = [f"{statistics.median(seconds[way]):.3f}", f"{median_ratio(seconds, way, 'scipy cdist'):.3f}"]
        lines.append(",".join([way, *numbers, f"{memory:.0f}", f"{mean:.9f}"]))
    show(lines, arguments.output)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(prog="bench_pairwise.py", description=__doc__.split("\n")[0])
    command.add_argument("--samples", type=positive, default=5000, help="of each class (default 5000)")
    command.add_argument("--dimension", type=positive, default=20, help="of the templates' span (default 20)")
    command.add_argument("--rounds", type=positive, default=5, help="default 5")
    command.add_argument("--output", type=Path, help="also write the table here, as CSV")
    return command


if __name__ == "__main__":
    run_command(parser(), main)
