"""What the demos of both sides share: commands of the checkout, representation files, means over seeds."""

import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from lskd.io.errors import InputError
from lskd.records.runs import RunRecord, read_run

ROOT = Path(__file__).resolve().parent.parent
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def lskd(*words: object) -> list[str]:
    """An ``lskd`` command."""
    return [sys.executable, "-m", "lskd", *map(str, words)]


def representations(checkpoint: Path, split: str) -> Path:
    """The file that a representations command writes beside a checkpoint."""
    return checkpoint.with_name(f"{checkpoint.name.split('.')[0]}.{split}.representations.safetensors")


def recorded(checkpoint: Path, *splits: str) -> bool:
    """Whether the representation files of the splits exist and are newer than the checkpoint."""
    files = [representations(checkpoint, split) for split in splits]
    return all(file.exists() and file.stat().st_mtime > checkpoint.stat().st_mtime for file in files)


def record_of(directory: Path) -> RunRecord:
    """The record of a run that has been trained."""
    if (record := read_run(directory)) is None:
        raise InputError(f"{directory}: must have the run.json of its training")
    return record


def mean_and_deviation(values: Sequence[float]) -> str:
    """``12.3`` for one value, ``12.3 ± 0.4`` for several (sample standard deviation).

    >>> mean_and_deviation([1.0, 2.0, 3.0])
    '2.0 ± 1.0'
    """
    mean = f"{statistics.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.1f}"
