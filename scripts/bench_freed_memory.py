"""What it saves on a CPU to keep freed memory: a training step of an image model with and without it.

    python scripts/bench_freed_memory.py

Two processes take turns, so that each has a memory allocator of its own; seconds are of processor time.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from side_by_side import median_ratio, origin, seconds_in_processes, serve, show

from lskd.io.argument_types import positive
from lskd.io.errors import run_command
from lskd.io.freed_memory import keep_freed_memory

# The model, its options, the shape of an image, the batch size.
SIZES: dict[str, tuple[str, dict[str, Any], tuple[int, int, int], int]] = {
    "letters, teacher": ("resnet10t", {"channels": (32, 64, 128, 256)}, (1, 32, 32), 128),
    "letters, student": ("test_resnet", {}, (1, 32, 32), 128),
    "photographs": ("resnet18", {}, (3, 160, 160), 32),
}
WAYS = ("as it is", "kept")


def step_of(size: str) -> Callable[[], None]:
    """A training step of SGD, in channels_last."""
    name, options, shape, batch_size = SIZES[size]
    torch.manual_seed(1)
    model = timm.create_model(name, num_classes=185, in_chans=shape[0], **options).to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    images = torch.randn(batch_size, *shape).to(memory_format=torch.channels_last)
    labels = torch.arange(batch_size) % 185

    def step() -> None:
        optimiser.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimiser.step()

    return step


def run(arguments: argparse.Namespace) -> None:
    """Serve one way, or print the table."""
    if arguments.way:
        if arguments.way == "kept":
            keep_freed_memory()
        serve(step_of(arguments.size), time.process_time)
        return
    about = f"median of {arguments.rounds} rounds, {torch.get_num_threads()} threads, processor time"
    lines = [*origin(about), "model,batch,way,ms a step,ratio"]
    for size, (name, _, shape, batch_size) in SIZES.items():
        again = [sys.executable, *sys.argv, "--size", size, "--way"]
        seconds = seconds_in_processes({way: [*again, way] for way in WAYS}, arguments.rounds, size)
        for way, values in seconds.items():
            milliseconds = 1000 * sorted(values)[len(values) // 2]
            ratio = median_ratio(seconds, way, WAYS[0])
            images = "x".join(map(str, (batch_size, *shape)))
            lines.append(f"{name},{images},{way},{milliseconds:.1f},{ratio:.2f}")
    show(lines, arguments.output)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=positive, default=30, help="timed steps of each way")
    parser.add_argument("--output", type=Path, help="also write the table to this file")
    parser.add_argument("--size", choices=tuple(SIZES), help=argparse.SUPPRESS)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    run_command(parser(), run)
