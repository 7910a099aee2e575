"""Check on a GPU what has only been run on a CPU: losses, mixed precision, many students, a cached teacher, NaN.

    python scripts/gpu_check.py                                             # `make gpu-check`: 8 minutes at most
    python scripts/gpu_check.py --device cpu --small --output build/check   # the same parts in seconds, without a GPU

Each part is a process with its own time limit and writes a CSV with the device's name, versions and date: a part that
fails, or ends at its limit, leaves what it has measured, is named at the end, and does not keep the others from
running. Rows with a limit are checks; the others are measurements. Exit status 1 if a check or a part has failed.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import gpu_parts
import torch
from gpu_parts import Row, Size
from side_by_side import origin

from lskd.io.errors import OneLineParser, input_error, run_command
from lskd.io.files import write_text

ROOT = Path(__file__).resolve().parent.parent
SECONDS = {"accuracy": 90, "speed": 130, "images": 120, "translation": 140}  # limits; of all together 8 minutes
HEAD = "check,setting,value,limit,passed"


def main(arguments: argparse.Namespace) -> int:
    """Run a part here, or every part in a process of its own."""
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise input_error("--device", "cuda", "is not there; without a GPU: --device cpu --small --output DIR")
    if arguments.device == "cpu" and not arguments.small:
        raise input_error("--device", "cpu", "needs --small: the full sizes are a GPU's and take a CPU hours")
    if arguments.output is None and arguments.device == "cpu":
        raise input_error("--output", "not given", "must be a directory: what a CPU gives is not kept with the GPU's")
    output = arguments.output or ROOT / "docs" / "benchmarks"
    output.mkdir(parents=True, exist_ok=True)
    if arguments.part:
        return run_part(arguments.part, arguments, output)
    began = time.monotonic()
    failed = [part for part in SECONDS if not run_in_process(part, sys.argv[1:], SECONDS[part])]
    print(f"{len(SECONDS) - len(failed)} of {len(SECONDS)} parts passed in {time.monotonic() - began:.0f} s: {output}")
    if failed:
        print(f"failed: {', '.join(failed)}; see above", file=sys.stderr)
    return 1 if failed else 0


def run_in_process(part: str, words: list[str], limit: float) -> bool:
    """Whether a part, in a process of its own, passes within its limit in seconds."""
    command = [sys.executable, str(Path(__file__).resolve()), *words, "--part", part]
    environment = {"CUDA_VISIBLE_DEVICES": "0"} | os.environ  # one GPU, unless others are chosen
    try:
        status = subprocess.run(command, env=environment, timeout=limit).returncode
    except subprocess.TimeoutExpired:
        print(f"{part}: not finished after {limit} s", file=sys.stderr)
        return False
    return status == 0


def run_part(part: str, arguments: argparse.Namespace, output: Path) -> int:
    """Run a part, and write its rows as they come; 1 if a check has failed."""
    size = Size(arguments.device, arguments.small)
    rows: list[Row] = []
    path = output / f"gpu_{part}_{device_name(arguments.device)}_torch{torch.__version__.partition('+')[0]}.csv"
    about = f"scripts/gpu_check.py, {part}, on {device_name(arguments.device)}" + ", small" * arguments.small
    head = [*origin(about), HEAD]
    try:
        for row in measured(part, size):
            rows.append(row)
            print(row.line(), flush=True)
            write_text(path, "\n".join([*head, *(each.line() for each in rows)]) + "\n")
    except Exception as error:  # a part is anything that a new device may break
        print(f"{part}: {type(error).__name__}: {' '.join(str(error).split())[:400]}", file=sys.stderr)
        if arguments.debug:
            raise
        return 1
    return 0 if all(row.passed for row in rows) else 1


def measured(part: str, size: Size) -> Iterator[Row]:
    """The rows of a part."""
    return getattr(gpu_parts, part)(size)


def device_name(device: str) -> str:
    """The device as part of a file's name: ``nvidia-a100-sxm4-40gb``, or ``cpu``."""
    return re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name().lower()).strip("-") if device == "cuda" else "cpu"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = OneLineParser(prog="scripts/gpu_check.py", description=__doc__.split("\n")[0])
    command.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="default cuda")
    command.add_argument("--small", action="store_true", help="the least of everything: does it run at all?")
    command.add_argument("--output", type=Path, metavar="DIR", help="of the tables (default docs/benchmarks)")
    command.add_argument("--part", choices=list(SECONDS), help="only this one, in this process")
    return command


if __name__ == "__main__":
    run_command(parser(), main)
