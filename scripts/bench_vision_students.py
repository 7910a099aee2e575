"""The cost of training eight students under two teachers, compared with its least work and with timm's distillation.

    python data_prep/letters.py --dest letters
    python scripts/bench_vision_students.py --data-dir letters

Three ways are timed in turns on the same images and compared by the median of their ratios:

- whole: ``lskd vision train`` from its parsed options to the last checkpoint: start, scores of the teachers, loading,
  training, validation after each epoch (or every ``--val-interval`` epochs), checkpoints and records;
- floor: batches that are in memory, normalised; each teacher forward once, its batch norms folded as the whole's are;
  eight times forward, loss, backward and update; nothing else;
- timm: ``timm.task.LogitDistillationTask`` eight times, each with its own loaders and teacher, and validation after
  each epoch, without checkpoints.

One in every ``--part`` images of both splits is used. With all of them and more epochs, start and checkpoints matter
less.
"""

import argparse
import contextlib
import io
import logging
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from side_by_side import origin, seconds_in_turns, show
from timm.data import create_loader
from timm.optim import create_optimizer_v2
from timm.task import LogitDistillationTask
from timm.utils import AverageMeter, accuracy
from torch import Tensor, nn

from lskd.io.argument_types import positive, whole
from lskd.io.errors import input_error, run_command
from lskd_vision import options, train
from lskd_vision.command_line import training_configs
from lskd_vision.config import TrainingConfig
from lskd_vision.data import data_config, load_data
from lskd_vision.image_arrays import CLASSES, IMAGES, LABELS, ImageArrays
from lskd_vision.image_folders import read_class_map
from lskd_vision.loader import Loader
from lskd_vision.run_directories import CHECKPOINTS
from lskd_vision.teacher import Teacher

TEMPERATURES = (1.0, 2.0, 3.0, 64.0)
SMOOTHING = (0.0, 0.1)  # of the teachers
SIZE, MEAN, STD, SCALE, RATIO = (1, 32, 32), (0.1,), (0.25,), (0.8, 1.0), (0.9, 1.1)
LR, MOMENTUM, WEIGHT_DECAY = 0.1, 0.9, 1e-4


class TimmImages(ImageArrays):
    """A split as timm's loader wants it, which sets ``transform``."""

    transform: Any = None

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image, label = super().__getitem__(index)
        return self.transform(image), label


class Bench:
    """A part of the images, two teachers with random weights, and the ways to train students under them.

    Args:
        arguments: of the command line.
        directory: for images, teachers and runs.
    """

    def __init__(self, arguments: argparse.Namespace, directory: Path) -> None:
        self.arguments, self.directory, self.data = arguments, directory, directory / "images"
        self.num_classes = len(read_class_map(arguments.data_dir / CLASSES, "--data-dir"))
        self.images = {}
        for split in ("train", "validation"):
            (self.data / split).mkdir(parents=True)
            for name in (IMAGES, LABELS):
                every = np.load(arguments.data_dir / split / name, mmap_mode="r")
                np.save(self.data / split / name, every[:: arguments.part])
            labels = np.load(self.data / split / LABELS)
            if (left := len(np.unique(labels))) < self.num_classes:
                raise input_error("--part", arguments.part, f"leaves {left} of {self.num_classes} classes in {split}")
            self.images[split] = len(labels)
        (self.data / CLASSES).write_bytes((arguments.data_dir / CLASSES).read_bytes())
        self.teachers = [directory / f"teacher_{alpha}.pth.tar" for alpha in SMOOTHING]
        for path, alpha in zip(self.teachers, SMOOTHING, strict=True):
            args = {"smoothing": alpha, "mean": MEAN, "std": STD}
            weights = self.build(arguments.teacher).state_dict()
            torch.save({"arch": arguments.teacher, "state_dict": weights, "args": args}, path)
        with contextlib.redirect_stderr(io.StringIO()):
            self.prepare_floor(training_configs(self.options("unused"))[0])

    def options(self, output: str) -> argparse.Namespace:
        """The parsed options of ``lskd vision train``."""
        words = f"--data-dir {self.data} --dataset lskd/arrays --in-chans 1 --img-size 32 --crop-pct 1"
        words += f" --scale {SCALE[0]} {SCALE[1]} --ratio {RATIO[0]} {RATIO[1]} --hflip 0 --color-jitter 0"
        words += f" --mean {MEAN[0]} --std {STD[0]} --channels-last --opt sgd --lr {LR} --momentum {MOMENTUM}"
        words += f" --weight-decay {WEIGHT_DECAY} --seed 1 --kd-temperature {' '.join(map(str, TEMPERATURES))}"
        words += f" --kd-checkpoint {' '.join(map(str, self.teachers))} --model {self.arguments.model}"
        words += f" --batch-size {self.arguments.batch_size} --epochs {self.arguments.epochs}"
        words += f" --val-interval {self.arguments.val_interval}"
        words += f" --workers {self.arguments.workers} --output {self.directory / output}"
        words += f" --device {self.arguments.device}" if self.arguments.device else ""
        return options.parser().parse_args(words.split())

    def whole(self) -> None:
        """The command."""
        with tempfile.TemporaryDirectory(dir=self.directory) as output:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                train.main(self.options(output))
            for name in CHECKPOINTS:
                assert len(list(Path(output).rglob(name))) == len(SMOOTHING) * len(TEMPERATURES)

    def prepare_floor(self, config: TrainingConfig) -> None:
        """Load everything that the floor has in memory."""
        self.device = config.device.torch_device
        inputs = data_config(config.input, self.build(self.arguments.model))
        self.batches = list(Loader.for_training(load_data(config.dataset).train, inputs, config).epoch(0))
        self.folded: list[Teacher] = []
        for path in self.teachers:
            teacher = Teacher(self.build(self.arguments.teacher, path), mean=MEAN, std=STD, device=self.device)
            teacher.speed_up(SIZE, channels_last=True)  # as the command does
            self.folded.append(teacher)
        self.students = [self.student() for _ in SMOOTHING for _ in TEMPERATURES]

    def floor(self) -> None:
        """Forward, loss, backward and update."""
        for _ in range(self.arguments.epochs):
            for images, _ in self.batches:
                outputs = [output for teacher in self.folded for output in [teacher.logits(images)] * len(TEMPERATURES)]
                for (model, optimizer), logits, temperature in zip(
                    self.students, outputs, len(SMOOTHING) * TEMPERATURES, strict=True
                ):
                    softened = F.log_softmax(logits / temperature, 1)
                    log_p = F.log_softmax(model(images) / temperature, 1)
                    loss = temperature**2 * F.kl_div(log_p, softened, reduction="batchmean", log_target=True)
                    loss.backward()
                    optimizer.step()
                    optimizer.zero_grad()

    def with_timm(self) -> None:
        """timm's task, one student after another."""
        for path in self.teachers:
            for temperature in TEMPERATURES:
                self.one_with_timm(path, temperature)

    def one_with_timm(self, path: Path, temperature: float) -> None:
        """A student as a user of timm alone trains it."""
        shared: dict[str, Any] = {
            "mean": MEAN,
            "std": STD,
            "num_workers": self.arguments.workers,
            "persistent_workers": False,
        }
        shared |= {"batch_size": self.arguments.batch_size, "device": self.device}
        splits: dict[str, Any] = {split: TimmImages(self.data / split) for split in self.images}
        batches = create_loader(
            splits["train"],
            SIZE,
            is_training=True,
            scale=SCALE,
            ratio=RATIO,
            hflip=0.0,
            color_jitter=0.0,
            interpolation="bilinear",
            **shared,
        )
        validation = create_loader(splits["validation"], SIZE, crop_pct=1.0, **shared)
        student, optimizer = self.student()
        task = LogitDistillationTask(
            student,
            teacher_model=self.build(self.arguments.teacher, path).requires_grad_(False),
            criterion=nn.CrossEntropyLoss(),
            task_loss_weight=0.0,
            distill_loss_weight=1.0,
            temperature=temperature,
            device=self.device,
            verbose=False,
        )
        for _ in range(self.arguments.epochs):
            task.train()
            task.teacher.eval()
            losses, top1, top5, nll = (AverageMeter() for _ in range(4))
            for images, target in batches:
                loss = task(channels_last(images), target)["loss"]
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                losses.update(loss.item(), len(target))
            student.eval()
            with torch.inference_mode():
                for images, target in validation:
                    logits = student(channels_last(images))
                    nll.update(F.cross_entropy(logits, target).item(), len(target))
                    for meter, share in zip((top1, top5), accuracy(logits, target, (1, 5)), strict=True):
                        meter.update(share.item(), len(target))

    def build(self, name: str, path: Path | None = None) -> Any:
        """A model, with the weights of a checkpoint if one is given."""
        model: Any = timm.create_model(name, num_classes=self.num_classes, in_chans=1)
        model.pretrained_cfg = dict(model.pretrained_cfg, mean=MEAN, std=STD)
        if path is not None:
            model.load_state_dict(torch.load(path, weights_only=True)["state_dict"])
            model = model.to(self.device)
        return model.to(memory_format=torch.channels_last)

    def student(self) -> tuple[Any, torch.optim.Optimizer]:
        """A new student and its optimiser."""
        model = self.build(self.arguments.model).to(self.device).train()
        return model, create_optimizer_v2(model, opt="sgd", lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)


def channels_last(images: Tensor) -> Tensor:
    """Images in the memory layout of the models."""
    return images.contiguous(memory_format=torch.channels_last)


def main(arguments: argparse.Namespace) -> None:
    """Measure and print; write the table with ``--output``."""
    logging.disable()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(arguments, Path(directory))
        ways = {"whole": bench.whole, "floor": bench.floor, "timm": bench.with_timm}
        clock = time.process_time if arguments.processor_time else time.perf_counter
        seconds = seconds_in_turns(ways, arguments.rounds, "measuring", warm_up=0, clock=clock)
    about = f"eight {arguments.model} under two {arguments.teacher} (T = {TEMPERATURES}), "
    about += ", ".join(f"{number} images in {split}" for split, number in bench.images.items())
    about += f", {arguments.epochs} epochs, the whole validated every {arguments.val_interval}"
    about += f", batch {arguments.batch_size}, {arguments.workers} loader processes, "
    about += f"channels_last, {torch.get_num_threads()} threads, {bench.device}; "
    about += f"{'processor' if arguments.processor_time else 'wall-clock'} time of {arguments.rounds} rounds"
    lines = [*origin(about), "way,median seconds"]
    lines += [f"{name},{statistics.median(values):.2f}" for name, values in seconds.items()]
    lines.append("ratio,median of rounds,least,largest")
    for other in ("floor", "timm"):
        ratios = [a / b for a, b in zip(seconds["whole"], seconds[other], strict=True)]
        lines.append(f"whole / {other},{statistics.median(ratios):.3f},{min(ratios):.3f},{max(ratios):.3f}")
    show(lines, arguments.output)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(prog="bench_vision_students.py", description=__doc__.split("\n")[0])
    command.add_argument("--data-dir", type=Path, required=True, help="made by data_prep/letters.py")
    command.add_argument("--part", type=positive, default=8, help="use one in so many images (default 8)")
    command.add_argument("--model", default="test_resnet", help="of the students (test_resnet)")
    command.add_argument("--teacher", default="resnet10t", help="its weights do not matter here (resnet10t)")
    command.add_argument("--epochs", type=positive, default=2, help="default 2")
    command.add_argument("--val-interval", type=positive, default=1, help="of the whole (default 1)")
    command.add_argument("--batch-size", type=positive, default=128, help="default 128")
    command.add_argument(
        "--workers", type=whole, default=0, help="loader processes of the whole and of timm (default 0)"
    )
    command.add_argument("--rounds", type=positive, default=5, help="default 5")
    command.add_argument("--device", help="cuda or cpu; by default a GPU if there is one")
    command.add_argument(
        "--processor-time",
        action="store_true",
        help="time of the main process on the processor, for a busy machine; without waits for the disk",
    )
    command.add_argument("--output", type=Path, help="also write the table here, as CSV")
    return command


if __name__ == "__main__":
    run_command(parser(), main)
