"""What the benchmarks share: timing several ways in turns, and writing a table with its origin."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from lskd.io.files import write_text
from lskd.records.provenance import hardware, now, source_revision, versions


def seconds_in_turns(
    ways: Mapping[str, Callable[[], object]],
    rounds: int,
    name: str = "",
    warm_up: int = 2,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each way in each round, after the warm-up rounds; other load on the machine affects all ways.

    A GPU is synchronised.
    """
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for number in tqdm(range(-warm_up, rounds), desc=name, unit="round", disable=None):
        for way, run in ways.items():
            begin = clock()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if number >= 0:
                seconds[way].append(clock() - begin)
    return seconds


def seconds_in_processes(commands: Mapping[str, Sequence[str]], rounds: int, name: str = "") -> dict[str, list[float]]:
    """As :func:`seconds_in_turns`, with each way in a process of its own, so that they share no memory allocator.

    Args:
        commands: for each way, the command of a process that calls :func:`serve`.
        rounds: number of timed rounds.
        name: of the bar.
    """
    processes = {
        way: subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for way, command in commands.items()
    }
    seconds: dict[str, list[float]] = {way: [] for way in commands}
    try:
        for number in tqdm(range(-2, rounds), desc=name, unit="round", disable=None):
            for way, process in processes.items():
                assert process.stdin is not None
                assert process.stdout is not None
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


def serve(run: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> None:
    """Run once for each line of standard input, and answer with the seconds."""
    for _ in sys.stdin:
        begin = clock()
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        print(clock() - begin, flush=True)


def median_ratio(seconds: Mapping[str, Sequence[float]], way: str, *others: str) -> float:
    """The median over rounds of the time of a way divided by that of another, or by the sum of several others."""
    together = (sum(times) for times in zip(*(seconds[other] for other in others), strict=True))
    return statistics.median(one / other for one, other in zip(seconds[way], together, strict=True))


def origin(about: str) -> list[str]:
    """Comment lines on what was measured, when, with which sources, on which hardware, with which versions."""
    return [f"# {line}" for line in (about, f"{now()}, {source_revision()}", hardware(), versions())]


def show(lines: Sequence[str], output: Path | None) -> None:
    """Print a table, and write it to a file if one is given."""
    print("\n".join(lines))
    if output is not None:
        write_text(output, "\n".join(lines) + "\n")
