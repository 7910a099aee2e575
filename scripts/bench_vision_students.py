"""The cost of four students under one teacher, compared with timm's own distillation.

    python scripts/bench_vision_students.py --data-dir runs/demo/fashion-mnist

Three ways are timed in turns on the same images, and compared by the median of their ratios:

- shared: ``lskd_vision.train``'s own step, four temperatures: images loaded once, the teacher run once, four students;
- timm: ``timm.task.LogitDistillationTask`` four times, each with its own loader and teacher;
- floor: images loaded once, the teacher run once, four steps of ``timm.task.ClassificationTask`` on the labels.
"""

import argparse
import copy
import itertools
import statistics
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from side_by_side import origin, seconds_in_turns, show
from timm.data import create_dataset, create_loader
from timm.optim import create_optimizer_v2
from timm.task import ClassificationTask, LogitDistillationTask
from torch import nn

from lskd.io.errors import positive, run_command
from lskd_vision import options
from lskd_vision.command_line import training_configs
from lskd_vision.config import TrainingConfig
from lskd_vision.data import data_config, load_data
from lskd_vision.loader import Loader
from lskd_vision.processes import start_processes
from lskd_vision.run import Run
from lskd_vision.teacher import Normalisation, Teacher

TEMPERATURES = (1.0, 2.0, 3.0, 64.0)
Steps = Callable[[int], None]  # takes so many steps


def shared(configs: list[TrainingConfig], teacher: Teacher) -> Steps:
    """A function that takes ``batches`` steps of four students as ``lskd_vision.train`` does."""
    first, device = configs[0], configs[0].device.torch_device
    data = load_data(first.dataset)
    inputs = data_config(first.input, teacher.model)
    loader = Loader.for_training(data.train, inputs, first)
    record = data.record(first.dataset)
    runs = [Run(config, teacher, data.name, record, inputs) for config in configs]
    for run in runs:
        run.start(len(loader))
    normalisation = Normalisation.of(inputs, device)

    def steps(batches: int) -> None:
        for run in runs:
            run.begin_epoch(0)
        for number, (images, target) in enumerate(itertools.islice(loader.epoch(0), batches)):
            output = teacher(images, normalisation)
            for run in runs:
                run.step(images, target, output, 0, number)

    return steps


def timm_parts(config: TrainingConfig) -> tuple[Any, nn.Module, torch.optim.Optimizer]:
    """A loader and a student with its optimiser, as a user of timm alone makes them."""
    device = config.device.torch_device
    loader = create_loader(
        create_dataset(config.dataset.dataset, root=str(config.dataset.data_dir), split="train"),
        (1, 28, 28),
        config.optimisation.batch_size,
        is_training=True,
        scale=(1.0, 1.0),
        ratio=(1.0, 1.0),
        color_jitter=0.0,
        mean=(0.5,),
        std=(0.5,),
        num_workers=0,
        persistent_workers=False,
        device=device,
    )
    student: Any = timm.create_model(config.model.model, num_classes=10, in_chans=config.input.in_chans).to(device)
    if config.device.channels_last:
        student = student.to(memory_format=torch.channels_last)
    student.pretrained_cfg = dict(student.pretrained_cfg, mean=(0.5,), std=(0.5,))
    how = config.optimisation
    return loader, student, create_optimizer_v2(student, opt=how.opt, lr=how.lr, weight_decay=how.weight_decay)


def with_timm(configs: list[TrainingConfig], teacher: Teacher) -> Steps:
    """The same steps by timm's task, a temperature after the other."""
    parts = []
    for config in configs:
        loader, student, optimizer = timm_parts(config)
        task = LogitDistillationTask(
            student,
            teacher_model=copy.deepcopy(teacher.model),
            criterion=torch.nn.CrossEntropyLoss(),
            task_loss_weight=0.0,
            distill_loss_weight=1.0,
            temperature=config.distillation.kd_temperature,
            device=config.device.torch_device,
            verbose=False,
        )
        task.train()
        task.teacher.eval()
        parts.append((loader, task, optimizer))

    def steps(batches: int) -> None:
        for loader, task, optimizer in parts:
            for images, target in itertools.islice(loader, batches):
                optimizer.zero_grad()
                task(layout(configs[0], images), target)["loss"].backward()
                optimizer.step()

    return steps


def floor(configs: list[TrainingConfig], teacher: Teacher) -> Steps:
    """Loading, one teacher forward and four students that learn the labels."""
    tasks = []
    for config in configs:
        loader, student, optimizer = timm_parts(config)
        device = config.device.torch_device
        task = ClassificationTask(student, criterion=torch.nn.CrossEntropyLoss(), device=device, verbose=False)
        tasks.append((task.train(), optimizer))

    def steps(batches: int) -> None:
        for images, target in itertools.islice(loader, batches):
            images = layout(configs[0], images)
            teacher(images)
            for task, optimizer in tasks:
                optimizer.zero_grad()
                task(images, target)["loss"].backward()
                optimizer.step()

    return steps


def layout(config: TrainingConfig, images: torch.Tensor) -> torch.Tensor:
    """Images in the configured memory layout."""
    return images.contiguous(memory_format=torch.channels_last) if config.device.channels_last else images


def main(arguments: argparse.Namespace) -> None:
    """Measure and print; write the table with ``--output``."""
    words = f"--data-dir {arguments.data_dir} --dataset torch/fashion_mnist --in-chans 1 --img-size 28 --crop-pct 1"
    words += f" --scale 1 1 --ratio 1 1 --batch-size {arguments.batch_size} --workers 0 --opt adamw --lr 1e-3"
    words += f" --model {arguments.model} --kd-model-name {arguments.teacher} --warmup-epochs 0 --mean .5 --std .5"
    words += " --channels-last" * arguments.channels_last + (f" --device {arguments.device}" * bool(arguments.device))
    words += f" --seed 1 --kd-temperature {' '.join(map(str, TEMPERATURES))}"
    configs = training_configs(options.parser().parse_args(words.split()))
    where, processes = start_processes(configs[0].device)
    configs = [replace(config, device=where, processes=processes) for config in configs]
    device = where.torch_device
    model: Any = timm.create_model(arguments.teacher, num_classes=10, in_chans=1)
    if arguments.channels_last:
        model = model.to(memory_format=torch.channels_last)
    teacher, faster = (
        Teacher(copy.deepcopy(model), arguments.teacher, mean=(0.5,), std=(0.5,), device=device) for _ in range(2)
    )
    faster.speed_up((1, 28, 28), arguments.channels_last)  # as lskd_vision.train does
    ways = {"shared": (shared, faster), "timm": (with_timm, teacher), "floor": (floor, teacher)}
    steps = {name: way(configs, taught) for name, (way, taught) in ways.items()}
    runs = {name: partial(each, arguments.batches) for name, each in steps.items()}
    seconds = seconds_in_turns(runs, arguments.rounds, "measuring")
    about = f"{arguments.model} under {arguments.teacher}, batch {arguments.batch_size}, {arguments.batches} batches, "
    about += f"channels_last {arguments.channels_last}, T = {TEMPERATURES}"
    lines = [*origin(about), "way,median ms per batch of four students"]
    for name, values in seconds.items():
        lines.append(f"{name},{1000 * statistics.median(values) / arguments.batches:.1f}")
    lines.append("ratio,median of rounds,least,largest")
    for other in ("timm", "floor"):
        ratios = [a / b for a, b in zip(seconds["shared"], seconds[other], strict=True)]
        lines.append(f"shared / {other},{statistics.median(ratios):.3f},{min(ratios):.3f},{max(ratios):.3f}")
    show(lines, arguments.output)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(prog="bench_vision_students.py", description=__doc__.split("\n")[0])
    command.add_argument("--data-dir", type=Path, required=True, help="made by data_prep/fashion_mnist.py")
    command.add_argument("--model", default="test_resnet", help="of the students (test_resnet)")
    command.add_argument("--teacher", default="resnet10t", help="its weights do not matter here (resnet10t)")
    command.add_argument("--batch-size", type=positive, default=128, help="default 128")
    command.add_argument("--batches", type=positive, default=6, help="per way and round (default 6)")
    command.add_argument("--rounds", type=positive, default=9, help="default 9")
    command.add_argument("--channels-last", action="store_true", help="memory layout of all three")
    command.add_argument("--device", help="cuda or cpu; by default a GPU if there is one")
    command.add_argument("--output", type=Path, help="also write the table here, as CSV")
    return command


if __name__ == "__main__":
    run_command(parser(), main)
