"""The vision commands as a user types them, on images few enough for seconds on one core."""

import subprocess
from pathlib import Path

import torch

from helpers.commands import run
from lskd_vision import options

# Everything that draws random numbers is on: dropout and stochastic depth, crops, flips, random erasing.
SMALL_IMAGES = "--dataset torch/fashion_mnist --in-chans 1 --img-size 28 --crop-pct 1 --workers 0 --device cpu"
SMALL_IMAGES += " --scale 0.6 1 --reprob 0.3 --batch-size 64 --opt adamw --lr 2e-3 --sched cosine --warmup-epochs 0"
DROPOUT = "--drop 0.2 --drop-path 0.1"


def train_images(images: Path, output: Path, *options, launcher: str = "python -m", **keywords):
    """``python -m lskd_vision.train`` with small settings."""
    words = ("lskd_vision.train", SMALL_IMAGES, "--data-dir", images, "--output", output, *options)
    return run(launcher, *words, **keywords)


def arguments(where: Path, *words: str, rank: int = 0, world_size: int = 1):
    """The options of a command line, and this process's place among the others."""
    made = options.parser().parse_args(["--data-dir", str(where), "--workers", "0", *" ".join(words).split()])
    made.rank, made.world_size = rank, world_size
    return made


def state_of(checkpoint: Path) -> dict:
    """All that a checkpoint holds; the loading is torch's safe one."""
    return torch.load(checkpoint, weights_only=True)


def same_weights(first: Path, second: Path, key: str = "state_dict") -> bool:
    """Whether two checkpoints hold the same weights, to the bit."""
    one, other = state_of(first)[key], state_of(second)[key]
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def printed(result: subprocess.CompletedProcess) -> str:
    """What a command said, errors last."""
    return result.stdout + result.stderr
