"""Does the input keep up? Images per second of the loader, of a training step, and of both together.

    python data_prep/fashion_mnist.py --dest data/fashion-mnist
    python scripts/bench_vision_input.py --data-dir data/fashion-mnist

Two inputs: Fashion-MNIST, 28 pixels, with a student ``test_resnet``, as in the demo; and JPEG files of 500 × 375 pixels
in a directory per class, which are made here and cropped to 224 pixels with timm's usual augmentation, with a student
``resnet18``. timm's ``create_loader`` reads the same files with the same transforms.
"""

import argparse
import itertools
import statistics
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from side_by_side import origin, seconds_in_turns, show
from timm.data import create_dataset, create_loader

from lskd.io.argument_types import positive
from lskd.io.errors import run_command
from lskd_vision import options
from lskd_vision.command_line import training_configs
from lskd_vision.config import TrainingConfig
from lskd_vision.data import DataConfig, data_config, load_data
from lskd_vision.loader import Loader
from lskd_vision.processes import start_processes

DEMO = (
    "--dataset torch/fashion_mnist --in-chans 1 --img-size 28 --crop-pct 1 --scale 1 1 --ratio 1 1 --mean .5 --std .5"
)
JPEG = "--img-size 224 --color-jitter .4"
INPUTS = {"fashion-mnist 28": (DEMO, "test_resnet", 10, 128), "jpeg 224": (JPEG, "resnet18", 4, 16)}


def make_jpegs(directory: Path, number: int) -> None:
    """Write smooth random images of four classes: noise would take longer to decode than photographs."""
    random = np.random.default_rng(1)
    for index in range(number):
        for split in ("train", "validation"):
            if split == "validation" and index >= 8:
                continue
            folder = directory / split / f"class{index % 4}"
            folder.mkdir(parents=True, exist_ok=True)
            small = Image.fromarray(random.integers(0, 256, (24, 32, 3), dtype=np.uint8))
            small.resize((500, 375), Image.Resampling.BICUBIC).save(folder / f"{index}.jpg", quality=90)


def settings(words: str, model: str, data_dir: Path, batch_size: int, workers: int) -> TrainingConfig:
    """The settings of ``lskd_vision.train``, ready for loading data."""
    line = f"--data-dir {data_dir} {words} --model {model} --batch-size {batch_size} --workers {workers}"
    (config,) = training_configs(options.parser().parse_args(line.split()))
    device, processes = start_processes(config.device)
    return replace(config, device=device, processes=processes)


def timms(config: TrainingConfig, inputs: DataConfig) -> Iterable[tuple[torch.Tensor, torch.Tensor]]:
    """timm's loader with the same transforms."""
    split, how = config.dataset, config.augmentation
    return create_loader(
        create_dataset(split.dataset, root=str(split.data_dir), split=split.train_split),
        inputs["input_size"],
        config.optimisation.batch_size,
        is_training=True,
        scale=how.scale,
        ratio=how.ratio,
        hflip=how.hflip,
        color_jitter=how.color_jitter[0],
        interpolation=how.train_interpolation,
        mean=inputs["mean"],
        std=inputs["std"],
        num_workers=config.loader.workers,
        device=config.device.torch_device,
    )


def step_of(
    model: str, classes: int, channels: int, device: torch.device
) -> Callable[[torch.Tensor, torch.Tensor], None]:
    """A training step of a model: forward, backward, update."""
    student = timm.create_model(model, num_classes=classes, in_chans=channels).to(device)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.01, momentum=0.9)

    def step(images: torch.Tensor, target: torch.Tensor) -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(student(images), target).backward()
        optimizer.step()

    return step


def measure(name: str, data_dir: Path, workers: int, arguments: argparse.Namespace) -> list[str]:
    """The lines of the table for an input."""
    words, model, classes, batch_size = INPUTS[name]
    chosen = settings(f"{words} --device {arguments.device}", model, data_dir, batch_size, workers)
    device = torch.device(arguments.device)
    data = load_data(chosen.dataset)
    channels = chosen.input.in_chans or 3
    network: Any = timm.create_model(model, num_classes=classes, in_chans=channels)
    inputs = data_config(chosen.input, network)
    ours = Loader.for_training(data.train, inputs, chosen)
    theirs, step, epochs = timms(chosen, inputs), step_of(model, classes, channels, device), itertools.count()

    def some(batches: Iterable[Any]) -> Iterator[Any]:
        return itertools.islice(batches, arguments.batches)

    kept = list(some(ours.epoch(0)))[:2]
    ways = {
        "lskd loader": lambda: [None for _ in some(ours.epoch(next(epochs)))],
        "timm loader": lambda: [None for _ in some(theirs)],
        "step": lambda: [step(*kept[number % len(kept)]) for number in range(arguments.batches)],
        "lskd loader and step": lambda: [step(*batch) for batch in some(ours.epoch(next(epochs)))],
    }
    seconds = seconds_in_turns(ways, arguments.rounds, f"{name}, {workers} workers")
    images = arguments.batches * batch_size
    return [f"{name},{workers},{way},{images / statistics.median(some):.0f}" for way, some in seconds.items()]


def main(arguments: argparse.Namespace) -> None:
    """Measure and print the table."""
    about = f"images a second, median of {arguments.rounds} rounds of {arguments.batches} batches, {arguments.device}, "
    about += f"{torch.get_num_threads()} threads"
    lines = [*origin(about), "input,loader processes,way,images a second"]
    with tempfile.TemporaryDirectory() as directory:
        make_jpegs(Path(directory), 16 * (arguments.batches + 1))
        for name, workers in itertools.product(INPUTS, arguments.workers):
            data_dir = arguments.data_dir if name.startswith("fashion") else Path(directory)
            lines += measure(name, data_dir, workers, arguments)
    show(lines, arguments.output)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(prog="bench_vision_input.py", description=__doc__.split("\n")[0])
    command.add_argument("--data-dir", type=Path, required=True, help="made by data_prep/fashion_mnist.py")
    command.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="loader processes (default 0 1 2)")
    command.add_argument("--batches", type=positive, default=6, help="per way and round (default 6)")
    command.add_argument("--rounds", type=positive, default=5, help="default 5")
    command.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cuda or cpu")
    command.add_argument("--output", type=Path, help="also write the table here, as CSV")
    return command


if __name__ == "__main__":
    run_command(parser(), main)
