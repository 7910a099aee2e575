"""What the demos of both sides share: running commands, representation files, means over seeds."""

import contextlib
import os
import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from lskd.io.errors import InputError
from lskd.io.output import say
from lskd.records.runs import RunRecord, read_run

ROOT = Path(__file__).resolve().parent.parent
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def lskd(*words: object) -> list[str]:
    """An ``lskd`` command."""
    return [sys.executable, "-m", "lskd", *map(str, words)]


Item = TypeVar("Item")
running: set[subprocess.Popen[str]] = set()


def run(
    command: Sequence[str],
    threads: int = CORES,
    log: Path | None = None,
    on_line: Callable[[str], object] | None = None,
) -> None:
    """Print a command and run it.

    Args:
        command: its words.
        threads: of the processor.
        log: appends its output to this file; None prints it.
        on_line: called with each line of its output, instead of printing it.

    Raises:
        InputError: it failed; the message has its last line.
    """
    say(f"$ {shlex.join(['python' if word == sys.executable else word for word in command])}")
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONWARNINGS": "ignore"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    environment["OMP_WAIT_POLICY"] = "PASSIVE"  # spinning threads halve the speed of a shared machine
    show = on_line or (say if log is None else lambda line: None)
    last = ""
    with contextlib.ExitStack() as stack:
        file = None
        if log is not None:
            log.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(open(log, "a", encoding="utf-8"))
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, errors="replace"
        )
        running.add(stack.enter_context(process))
        assert process.stdout is not None
        for line in process.stdout:
            if file is not None:
                file.write(line)
                file.flush()
            last = line.strip() or last
            show(line.rstrip("\n"))
    running.discard(process)
    if process.returncode:
        where = f" (all of its output: {log})" if log else ""
        raise InputError(f"{shlex.join(command[:4])} … failed: {last}{where}")


def in_parallel(function: Callable[[Item, int], object], items: Sequence[Item]) -> None:
    """Call ``function(item, threads)`` for every item, as many at a time as there are cores.

    If one fails, or at Ctrl-C, the running commands are ended.
    """
    if not items:
        return
    workers = min(CORES, len(items))
    with ThreadPoolExecutor(workers) as pool:
        try:
            list(pool.map(lambda item: function(item, CORES // workers), items))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(running):
                process.terminate()
            raise


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
