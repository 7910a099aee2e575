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
from lskd_vision import options, train
from lskd_vision.data import data_config, load_data
from lskd_vision.loader import Loader
from lskd_vision.run import Run, Setting
from lskd_vision.teacher import Normalisation, Teacher

TEMPERATURES = (1.0, 2.0, 3.0, 64.0)
Steps = Callable[[int], None]  # makes steps on this number of batches


def shared(arguments: argparse.Namespace, teacher: Teacher, device: torch.device) -> Steps:
    """Steps of four students as in ``lskd_vision.train``."""
    data = load_data(arguments)
    config = data_config(arguments, teacher.model)
    loader = Loader(data.train, config, arguments, device, training=True)
    record = data.record(arguments)
    runs = []
    for temperature in TEMPERATURES:
        run = Run(Setting(arguments.model[0], 1, 0.0, temperature, 0), arguments, teacher, data.name, record, config)
        run.start(device, len(loader))
        runs.append(run)
    normalisation = Normalisation.of(config, device)

    def steps(batches: int) -> None:
        for run in runs:
            run.begin_epoch(0)
        for number, (images, target) in enumerate(itertools.islice(loader.epoch(0), batches)):
            output = teacher(images, normalisation)
            for run in runs:
                run.step(images, target, output, 0, number)

    return steps


def timm_parts(arguments: argparse.Namespace, device: torch.device) -> tuple[Any, nn.Module, torch.optim.Optimizer]:
    """A loader, and a student with its optimiser, made with timm alone."""
    dataset = create_dataset(arguments.dataset, root=str(arguments.data_dir), split="train")
    loader = create_loader(
        dataset,
        (arguments.in_chans, arguments.img_size, arguments.img_size),
        arguments.batch_size,
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
    student: Any = timm.create_model(arguments.model[0], num_classes=10, in_chans=arguments.in_chans).to(device)
    if arguments.channels_last:
        student = student.to(memory_format=torch.channels_last)
    student.pretrained_cfg = dict(student.pretrained_cfg, mean=(0.5,), std=(0.5,))
    optimizer = create_optimizer_v2(student, opt=arguments.opt, lr=arguments.lr, weight_decay=arguments.weight_decay)
    return loader, student, optimizer


def with_timm(arguments: argparse.Namespace, teacher: Teacher, device: torch.device) -> Steps:
    """The same steps with timm's task, one temperature after the other."""
    parts = []
    for temperature in TEMPERATURES:
        loader, student, optimizer = timm_parts(arguments, device)
        task = LogitDistillationTask(
            student,
            teacher_model=copy.deepcopy(teacher.model),
            criterion=torch.nn.CrossEntropyLoss(),
            task_loss_weight=0.0,
            distill_loss_weight=1.0,
            temperature=temperature,
            device=device,
            verbose=False,
        )
        task.train()
        task.teacher.eval()
        parts.append((loader, task, optimizer))

    def steps(batches: int) -> None:
        for loader, task, optimizer in parts:
            for images, target in itertools.islice(loader, batches):
                optimizer.zero_grad()
                task(layout(arguments, images), target)["loss"].backward()
                optimizer.step()

    return steps


def floor(arguments: argparse.Namespace, teacher: Teacher, device: torch.device) -> Steps:
    """Steps of loading, running the teacher once, and training four students on the labels."""
    tasks = []
    for _ in TEMPERATURES:
        loader, student, optimizer = timm_parts(arguments, device)
        task = ClassificationTask(student, criterion=torch.nn.CrossEntropyLoss(), device=device, verbose=False)
        tasks.append((task.train(), optimizer))

    def steps(batches: int) -> None:
        for images, target in itertools.islice(loader, batches):
            images = layout(arguments, images)
            teacher(images)
            for task, optimizer in tasks:
                optimizer.zero_grad()
                task(images, target)["loss"].backward()
                optimizer.step()

    return steps


def layout(arguments: argparse.Namespace, images: torch.Tensor) -> torch.Tensor:
    """The images in the memory layout of the options."""
    return images.contiguous(memory_format=torch.channels_last) if arguments.channels_last else images


def main(arguments: argparse.Namespace) -> None:
    """Measure and print; write the table with ``--output``."""
    words = f"--data-dir {arguments.data_dir} --dataset torch/fashion_mnist --in-chans 1 --img-size 28 --crop-pct 1"
    words += f" --scale 1 1 --ratio 1 1 --batch-size {arguments.batch_size} --workers 0 --opt adamw --lr 1e-3"
    words += f" --model {arguments.model} --kd-model-name {arguments.teacher} --warmup-epochs 0 --mean .5 --std .5"
    words += " --channels-last" * arguments.channels_last + (f" --device {arguments.device}" * bool(arguments.device))
    settings = options.parser().parse_args(words.split())
    device = train.start_processes(settings)
    model = timm.create_model(arguments.teacher, num_classes=10, in_chans=1)
    if arguments.channels_last:
        model = model.to(memory_format=torch.channels_last)
    teacher, faster = (
        Teacher(copy.deepcopy(model), arguments.teacher, mean=(0.5,), std=(0.5,), device=device) for _ in range(2)
    )
    faster.speed_up((1, 28, 28), arguments.channels_last)  # as lskd_vision.train does
    ways = {"shared": (shared, faster), "timm": (with_timm, teacher), "floor": (floor, teacher)}
    steps = {name: way(settings, taught, device) for name, (way, taught) in ways.items()}
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
