"""The vision commands as a user types them, on images few enough for seconds on one core."""

import subprocess
from dataclasses import replace
from pathlib import Path

import torch

from helpers.commands import run
from lskd_vision import options
from lskd_vision.command_line import training_configs
from lskd_vision.config import Processes, TrainingConfig

# Everything that draws random numbers is on: dropout and stochastic depth, crops, flips, random erasing.
SMALL_IMAGES = "--dataset torch/fashion_mnist --in-chans 1 --img-size 28 --crop-pct 1 --workers 0 --device cpu"
SMALL_IMAGES += " --scale 0.6 1 --reprob 0.3 --batch-size 64 --opt adamw --lr 2e-3 --sched cosine --warmup-epochs 0"
DROPOUT = "--drop 0.2 --drop-path 0.1"


def train_images(images: Path, output: Path, *options, launcher: str = "python -m", **keywords):
    """``python -m lskd_vision.train`` with small settings."""
    words = ("lskd_vision.train", SMALL_IMAGES, "--data-dir", images, "--output", output, *options)
    return run(launcher, *words, **keywords)


def configured(where: Path, *words: str, rank: int = 0, world_size: int = 1) -> TrainingConfig:
    """The configuration of a command line's one training, in this process of several, on the CPU."""
    line = ["--data-dir", str(where), "--workers", "0", "--device", "cpu", *" ".join(words).split()]
    (config,) = training_configs(options.parser().parse_args(line))
    return replace(config, processes=Processes(world_size > 1, rank, world_size, rank))


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
