"""Class centroids of features on disk, compared with only reading the file, both from a cold cache.

    python scripts/bench_moments.py --dest /scratch          # ImageNet's size: writes and removes 5.2 GB there

In turns: half-precision features are read and discarded; and ``ClassMoments.update`` processes them, with labels of
1000 classes in the order of folders, class by class, and in random order. The file's pages are dropped from the
system's cache before each. Processor time is that of both threads, one of which reads ahead.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from side_by_side import median_ratio, origin, seconds_in_turns, show
from tqdm import tqdm

from lskd.io.argument_types import positive
from lskd.io.errors import run_command
from lskd.measure.moments import ClassMoments

CLASSES = 1000


def make(path: Path, samples: int, dimension: int) -> None:
    """Write a file of random half-precision features."""
    block = np.random.default_rng(1).standard_normal((4096, dimension), dtype=np.float32).astype(np.float16)
    features = np.lib.format.open_memmap(path, "w+", np.float16, (samples, dimension))
    for start in tqdm(range(0, samples, len(block)), desc="writing", unit="block", disable=None):
        features[start : start + len(block)] = np.roll(block, start // len(block), 1)[: samples - start]
    features.flush()
    os.sync()


def forget(path: Path) -> None:
    """Drop the file's pages from the system's cache."""
    with open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read(path: Path) -> None:
    """Read the file and discard its content."""
    forget(path)
    with open(path, "rb", buffering=0) as file:
        buffer = bytearray(2**22)
        while file.readinto(buffer):
            pass


def moments(path: Path, labels: NDArray[np.int64]) -> None:
    """Compute the moments of each class."""
    forget(path)
    features = np.load(path, mmap_mode="r")
    found = ClassMoments(CLASSES, features.shape[1])
    found.update(features, labels)
    assert found.counts.sum() == len(labels)


def processor_seconds(run: Callable[[], None]) -> float:
    """Processor time in seconds."""
    before = time.process_time()
    run()
    return time.process_time() - before


def main(arguments: argparse.Namespace) -> None:
    """Measure and print the table."""
    path = arguments.dest / "bench-moments.npy"
    labels = np.random.default_rng(2).integers(0, CLASSES, arguments.samples)
    try:
        make(path, arguments.samples, arguments.dimension)
        ways = {
            "read": lambda: read(path),
            "class by class": lambda: moments(path, np.sort(labels)),
            "random order": lambda: moments(path, labels),
        }
        used: dict[str, list[float]] = {way: [] for way in ways}

        def timed(way: str) -> None:
            used[way].append(processor_seconds(ways[way]))

        seconds = seconds_in_turns({way: partial(timed, way) for way in ways}, arguments.rounds, "measuring")
    finally:
        path.unlink(missing_ok=True)
    gigabytes = arguments.samples * arguments.dimension * 2 / 1e9
    about = f"{arguments.samples} x {arguments.dimension} float16 ({gigabytes:.2f} GB), {CLASSES} classes, cold, "
    about += f"median of {arguments.rounds} rounds"
    lines = [*origin(about), "way,seconds,processor seconds,GB a second,ratio to read"]
    for way, values in seconds.items():
        middle = statistics.median(values)
        processor = statistics.median(used[way][-arguments.rounds :])
        ratio = median_ratio(seconds, way, "read")
        lines.append(f"{way},{middle:.2f},{processor:.2f},{gigabytes / middle:.2f},{ratio:.2f}")
    show(lines, arguments.output)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(prog="scripts/bench_moments.py", description=__doc__.split("\n")[0])
    options.add_argument("--dest", type=Path, required=True, help="a directory with space for the features")
    options.add_argument("--samples", type=positive, default=1_281_167, help="default: ImageNet's training images")
    options.add_argument("--dimension", type=positive, default=2048, help="of ResNet-50's features by default")
    options.add_argument("--rounds", type=positive, default=3, help="default 3")
    options.add_argument("--output", type=Path, help="also write the table to this file")
    return options


if __name__ == "__main__":
    run_command(parser(), main)
