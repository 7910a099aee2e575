"""Start the processes of a training, and check that they agree before the first step."""

import contextlib
import logging
import os
import socket
import sys
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any, TypeVar

import torch
from timm.utils.distributed import init_distributed_device_so
from torch import distributed

from lskd.io.errors import InputError, input_error
from lskd.io.freed_memory import keep_freed_memory
from lskd_vision.config import DeviceConfig, Processes

T = TypeVar("T")


@contextlib.contextmanager
def memory_errors(option: str, batch_size: int) -> Generator[None, None, None]:
    """Turn an out-of-memory error of the device into an InputError that names the option for the batch size.

    >>> with memory_errors("--batch-size", 4096):
    ...     raise torch.OutOfMemoryError("CUDA out of memory")
    Traceback (most recent call last):
    lskd.io.errors.InputError: --batch-size: 4096 (is too large for the memory of the device)
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise input_error(option, batch_size, "is too large for the memory of the device") from None


def start_processes(config: DeviceConfig) -> tuple[DeviceConfig, Processes]:
    """Join the other processes if a launcher has started several; only the first prints. Make the device fast.

    Returns:
        ``config`` with this process's own device, and its place among the processes.

    Raises:
        InputError: there is no such device.
    """
    kind = config.device.split(":")[0]
    if kind not in ("cpu", "cuda") or (kind == "cuda" and not torch.cuda.is_available()):
        raise input_error("--device", config.device, "must be cpu, or cuda where there is a GPU")
    joined = init_distributed_device_so(config.device)
    processes = Processes(joined["distributed"], joined["global_rank"], joined["world_size"], joined["local_rank"])
    if processes.rank:
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
        logging.getLogger("lskd_vision").setLevel(logging.CRITICAL)
    if kind == "cuda":  # pragma: no cover (GPU)
        torch.backends.cudnn.benchmark = True
        torch.backends.cuda.matmul.allow_tf32 = True
    else:
        keep_freed_memory()
    return replace(config, device=joined["device"]), processes


def same_in_all_processes(load: Callable[[], T], fingerprint: Callable[[T], str], value: object) -> T:
    """Load data, and check that all processes have loaded the same: they may run on machines whose disks differ.

    Args:
        load: called once in every process.
        fingerprint: computes a fingerprint of the images and labels that ``load`` returns.
        value: the data's name in error messages.

    Raises:
        InputError: one process cannot load, or has loaded something other than the first; raised in every process.
    """
    if not distributed.is_initialized():
        return load()
    loaded: list[T] = []
    found: str | None = None
    failure: str | None = None
    try:
        loaded.append(load())
        found = fingerprint(loaded[0])
    except (InputError, OSError) as error:
        failure = str(error)
    outcomes: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(outcomes, (socket.gethostname(), found, failure))
    if failure and all(theirs == failure for _, _, theirs in outcomes):
        raise InputError(failure)
    first_host, expected, _ = outcomes[0]
    for rank, (host, theirs, their_failure) in enumerate(outcomes):
        if their_failure:
            raise InputError(f"process {rank} on {host}: {their_failure}")
        if theirs != expected:
            difference = f"process {rank} on {host} differs from process 0 on {first_host}"
            raise input_error(
                "--data-dir", value, f"must hold the same images and labels in all processes: {difference}"
            )
    return loaded[0]
