"""Speeding up a vision teacher's forward pass: how much, and the errors in the loss and its gradient.

    python scripts/bench_vision_teacher.py

The ways: float32; in channels_last; with batch norms folded, as in ``lskd_vision.train``; both, also compiled; and in
bfloat16, as with ``--amp --amp-dtype bfloat16``. For each, the relative error of the logits, and that of the loss and
its gradient at T = 1, 4, 64, for a student whose logits differ by a tenth of a standard deviation.
"""

import argparse
import copy
import statistics
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from side_by_side import median_ratio, origin, seconds_in_turns, show
from torch import Tensor, nn

from lskd.io.argument_types import positive
from lskd.io.errors import run_command
from lskd.loss.distillation import distillation_loss
from lskd_vision.folding import without_batch_norms

TEMPERATURES = (1.0, 4.0, 64.0)
SIZES = {"resnet10t 28": ("resnet10t", 10, (1, 28, 28), 128), "resnet50 224": ("resnet50", 1000, (3, 224, 224), 16)}


def make(name: str, classes: int, channels: int) -> Any:
    """A frozen timm model with random weights, whose batch norms are not the identity."""
    torch.manual_seed(1)
    model = timm.create_model(name, num_classes=classes, in_chans=channels).eval().requires_grad_(False)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
    return model


def loss_and_gradient(student: Tensor, teacher: Tensor, temperature: float) -> tuple[float, Tensor]:
    """The loss of these logits, and its gradient with respect to the student's."""
    leaf = student.clone().requires_grad_()
    target = torch.zeros(len(leaf), dtype=torch.long, device=leaf.device)
    loss = distillation_loss(leaf, teacher, target, temperature=temperature, compiled=False).loss
    loss.backward()
    assert leaf.grad is not None
    return float(loss.item()), leaf.grad


def measure(size: str, arguments: argparse.Namespace) -> list[str]:
    """The lines of the table for a teacher."""
    name, classes, shape, batch_size = SIZES[size]
    device = torch.device(arguments.device)
    plain = make(name, classes, shape[0]).to(device)
    images = torch.randn(batch_size, *shape, generator=torch.Generator().manual_seed(2)).to(device)
    with torch.no_grad():
        deviation = plain(images).std().item()
        plain.get_classifier().weight.mul_(3 / deviation)  # logits of deviation 3
    folded = without_batch_norms(plain, shape)
    last, rows = torch.channels_last, images.contiguous(memory_format=torch.channels_last)

    def in_rows(model: nn.Module) -> nn.Module:
        return copy.deepcopy(model).to(memory_format=last)

    ways: dict[str, tuple[Any, Tensor]] = {
        "float32": (plain, images),
        "channels_last": (in_rows(plain), rows),
        "folded": (folded, images),
        "folded, channels_last": (in_rows(folded), rows),
        "bfloat16, folded, channels_last": (in_rows(folded).bfloat16(), rows.bfloat16()),
    }
    if not arguments.no_compile:
        ways["compiled, folded, channels_last"] = torch.compile(in_rows(folded)), rows
    with torch.inference_mode():
        runs = {way: partial(model, batch) for way, (model, batch) in ways.items()}
        seconds = seconds_in_turns(runs, arguments.rounds, size)
        logits = {way: run().float() for way, run in runs.items()}
    expected = logits["float32"].clone()
    student = expected + 0.3 * torch.randn(expected.shape, generator=torch.Generator().manual_seed(3)).to(device)
    lines = []
    for way, values in seconds.items():
        found = logits[way].clone()
        errors = [((found - expected).norm() / expected.norm()).item()]
        for temperature in TEMPERATURES:
            loss, gradient = loss_and_gradient(student, expected, temperature)
            other_loss, other = loss_and_gradient(student, found, temperature)
            errors += [abs(other_loss / loss - 1), ((other - gradient).norm() / gradient.norm()).item()]
        numbers = [f"{1000 * statistics.median(values):.1f}", f"{median_ratio(seconds, way, 'float32'):.3f}"]
        lines.append(",".join([size, f'"{way}"', *numbers, *(f"{error:.1e}" for error in errors)]))
    return lines


def main(arguments: argparse.Namespace) -> None:
    """Measure and print the table."""
    about = f"a teacher's forward pass, median of {arguments.rounds} rounds, {arguments.device}, "
    about += f"{torch.get_num_threads()} threads; batches of {', '.join(str(size[3]) for size in SIZES.values())}"
    columns = ["teacher", "way", "ms", "ratio to float32", "error of logits"]
    columns += [f"of {what} at T = {T:g}" for T in TEMPERATURES for what in ("loss", "gradient")]
    lines = [*origin(about), ",".join(columns)]
    for size in SIZES:
        lines += measure(size, arguments)
    show(lines, arguments.output)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(prog="bench_vision_teacher.py", description=__doc__.split("\n")[0])
    command.add_argument("--rounds", type=positive, default=7, help="default 7")
    command.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cuda or cpu")
    command.add_argument("--no-compile", action="store_true", help="leave out the compiled one")
    command.add_argument("--output", type=Path, help="also write the table here, as CSV")
    return command


if __name__ == "__main__":
    run_command(parser(), main)
