"""Group models to train at once, which share their batches and fit in memory."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from lskd_vision.run import TrainingRun

COPIES = 5  # of the weights: weights, gradients, two optimiser states, a moving average
SHARE = 0.5  # of free memory, for copies of weights; activations, which one model has at a time, take the rest


def groups_of(
    runs: Sequence[TrainingRun], sizes: Mapping[str, int], free: int | None, limit: int | None
) -> list[list[TrainingRun]]:
    """Split runs into groups that are trained one after the other.

    Args:
        runs: in order; runs whose data configurations differ cannot share batches.
        sizes: bytes of weights, by model.
        free: bytes of free memory; None if unknown.
        limit: the maximum size of a group; None for as many as fit.
    """
    groups: list[list[TrainingRun]] = []
    for _, same in itertools.groupby(sorted(runs, key=data_key), key=data_key):
        group: list[TrainingRun] = []
        bytes_taken = 0
        for run in same:
            needed = COPIES * sizes[run.config.model.model]
            full = limit is not None and len(group) == limit
            if group and (full or (limit is None and free is not None and bytes_taken + needed > SHARE * free)):
                groups.append(group)
                group, bytes_taken = [], 0
            group.append(run)
            bytes_taken += needed
        groups.append(group)
    return groups


def data_key(run: TrainingRun) -> str:
    """A key that is equal for runs that can share their batches."""
    return repr(sorted(run.data_config.items()))


def image_key(run: TrainingRun) -> str:
    """A key that is equal for runs that see the same images up to normalisation, which a teacher replaces."""
    return repr(sorted((name, value) for name, value in run.data_config.items() if name not in ("mean", "std")))


def free_memory(device: torch.device) -> int | None:
    """Free memory of the device in bytes, within the limit of a container; None if unknown."""
    if device.type == "cuda":  # pragma: no cover (GPU)
        return torch.cuda.mem_get_info(device)[0]
    found: list[int] = []
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")]
    except OSError:
        pass
    try:
        group = Path("/sys/fs/cgroup")
        limit = (group / "memory.max").read_text().strip()
        if limit.isdecimal():
            found.append(int(limit) - int((group / "memory.current").read_text()))
    except OSError:
        pass
    return min(found, default=None)
