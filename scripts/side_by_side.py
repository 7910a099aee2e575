"""What the benchmarks have in common: several ways to do a thing, timed in turns, and their table with its origin."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from tqdm import tqdm

from lskd.io.files import write_text
from lskd.records.runs import hardware, now, source_revision, versions


def seconds_in_turns(ways: dict[str, Callable[[], object]], rounds: int, name: str = "") -> dict[str, list[float]]:
    """Seconds of each way in each round, after two rounds that are not counted; whatever slows the machine meets all.

    Where there is a GPU, it is waited for.
    """
    seconds = {way: [] for way in ways}
    for number in tqdm(range(-2, rounds), desc=name, unit="round", disable=None):
        for way, run in ways.items():
            begin = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if number >= 0:
                seconds[way].append(time.perf_counter() - begin)
    return seconds


def seconds_in_processes(commands: dict[str, list[str]], rounds: int, name: str = "") -> dict[str, list[float]]:
    """As :func:`seconds_in_turns`, each way in a process of its own, as in use: what one has left in the memory
    allocator is not the next one's.

    Args:
        commands: for each way, what starts a process that calls :func:`serve`.
        rounds: to be counted.
        name: of the bar.
    """
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = {way: subprocess.Popen(command, **pipes) for way, command in commands.items()}
    seconds = {way: [] for way in commands}
    try:
        for number in tqdm(range(-2, rounds), desc=name, unit="round", disable=None):
            for way, process in processes.items():
                process.stdin.write("go\n")
                process.stdin.flush()
                if not (answer := process.stdout.readline()):
                    raise RuntimeError(f"the process of {way!r} has ended: {' '.join(commands[way])}")
                if number >= 0:
                    seconds[way].append(float(answer))
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()
    return seconds


def serve(run: Callable[[], object]) -> None:
    """Run once for each line of standard input, and answer with the seconds."""
    for _ in sys.stdin:
        begin = time.perf_counter()
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        print(time.perf_counter() - begin, flush=True)


def median_ratio(seconds: dict[str, list[float]], way: str, *others: str) -> float:
    """The median over the rounds of the time of one way divided by that of another, or of several together."""
    together = (sum(some) for some in zip(*(seconds[other] for other in others), strict=True))
    return statistics.median(one / other for one, other in zip(seconds[way], together, strict=True))


def origin(about: str) -> list[str]:
    """Lines that say what was measured, when, with which sources, on which hardware, with which versions."""
    return [f"# {line}" for line in (about, f"{now()}, {source_revision()}", hardware(), versions())]


def show(lines: list[str], output: Path | None) -> None:
    """Print a table, and write it where that is asked for."""
    print("\n".join(lines))
    if output is not None:
        write_text(output, "\n".join(lines) + "\n")
