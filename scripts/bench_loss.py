"""Time and memory of the distillation loss, value and gradient, compared with other implementations.

    python scripts/bench_loss.py --output docs/benchmarks/loss_HARDWARE_torchVERSION.csv

The ways, on the same logits:

- naive: log_softmax, softmax and kl_div, as in a first implementation of a fairseq criterion;
- timm: ``timm.task.LogitDistillationTask``, with models that return the given logits;
- torchdistill: its ``KDLoss``, if it is installed;
- lskd, and lskd compiled: ``lskd.loss.distillation.distillation_loss`` without and with ``compiled=True``;
- lskd top 8: the same with the teacher's eight largest logits and their normaliser, which are precomputed.

Ours also compute the sums for the log (nll, teacher's entropy, agreement). Memory is the peak allocation beside the
logits, including the gradient, in units of the student's logits.
"""

import argparse
import itertools
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from side_by_side import median_ratio, origin, seconds_in_turns, show
from timm.task import LogitDistillationTask
from torch import nn
from torch.profiler import ProfilerActivity, profile

from lskd.io.errors import positive, run_command
from lskd.loss.distillation import TopkLogits, distillation_loss

SHAPES = {"4096x10000": (4096, 10000), "4096x32000": (4096, 32000), "256x1000": (256, 1000)}
KEPT = 8
Loss = Callable[[], torch.Tensor]


class Given(nn.Module):
    """A model, or a teacher for timm's task, that returns given logits."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits, self.num_classes, self.in_chans = logits, logits.size(1), 1
        self.pretrained_cfg = {"mean": (0.5,), "std": (0.5,)}

    def forward(self, images: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        """The logits, whatever the images."""
        return self.logits

    def normalize_input(self, images: torch.Tensor, mean: object, std: object) -> torch.Tensor:
        """The unchanged images."""
        return images


class NoLoss(nn.Module):
    """A criterion that is zero."""

    def forward(self, logits: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        """Zero."""
        return logits.new_zeros(())


def ways(shape: str, temperature: float, dtype: torch.dtype, device: torch.device) -> dict[str, Callable[[], None]]:
    """A function for each way that computes the loss and its gradient."""
    count, vocabulary = SHAPES[shape]
    generator = torch.Generator(device).manual_seed(1)

    def logits() -> torch.Tensor:
        return (3 * torch.randn(count, vocabulary, generator=generator, device=device)).to(dtype)

    student, teacher = logits().requires_grad_(), logits()
    target = torch.randint(vocabulary, (count,), generator=generator, device=device)
    normaliser = torch.cat([torch.logsumexp(part.float() / temperature, 1) for part in teacher.split(64)])
    topk = TopkLogits(*teacher.topk(KEPT, 1), normaliser)

    def naive() -> torch.Tensor:
        log_p, p_t = F.log_softmax(student / temperature, 1), F.softmax(teacher / temperature, 1)
        return F.kl_div(log_p, p_t, reduction="sum") * temperature**2

    def ours(targets: torch.Tensor | TopkLogits, **options: Any) -> Loss:
        return lambda: distillation_loss(student, targets, target, temperature=temperature, **options).loss

    losses = {"naive": naive, "timm": timm_task(student, teacher, target, temperature)}
    if (task := torchdistill_loss(student, teacher, target, temperature)) is not None:
        losses["torchdistill"] = task
    losses |= {"lskd": ours(teacher, compiled=False), "lskd compiled": ours(teacher, compiled=True)}
    losses |= {"lskd top 8": ours(topk)}

    def with_gradient(loss: Loss) -> Callable[[], None]:
        def run() -> None:
            loss().backward()
            student.grad = None

        return run

    return {way: with_gradient(loss) for way, loss in losses.items()}


def timm_task(student: torch.Tensor, teacher: torch.Tensor, target: torch.Tensor, temperature: float) -> Loss:
    """timm's task with only its distillation loss, of models that give these logits."""
    task = LogitDistillationTask(
        Given(student),
        teacher_model=Given(teacher),
        criterion=NoLoss(),
        task_loss_weight=0.0,
        distill_loss_weight=1.0,
        temperature=temperature,
        device=student.device,
        verbose=False,
    )
    given: Any = Given(teacher)
    task.teacher = given
    return lambda: task(teacher, target)["loss"]


def torchdistill_loss(
    student: torch.Tensor, teacher: torch.Tensor, target: torch.Tensor, temperature: float
) -> Loss | None:
    """torchdistill's loss without its cross entropy; None where it is not installed."""
    try:
        from torchdistill.losses.mid_level import KDLoss
    except ModuleNotFoundError:
        return None
    loss = KDLoss("model", "output", "model", "output", temperature, alpha=0.0)
    given, taught = {"model": {"output": student}}, {"model": {"output": teacher}}
    return lambda: loss(given, taught, target)


def extra_memory(run: Callable[[], object], device: torch.device) -> int:
    """The most bytes that are allocated at once while it runs, beside those before."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        run()
    profiler: Any = profiled.profiler
    events = [event for event in profiler.kineto_results.events() if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return max(itertools.accumulate(event.nbytes() for event in events))


def main(arguments: argparse.Namespace) -> None:
    """Measure and print the table."""
    device, dtype = torch.device(arguments.device), getattr(torch, arguments.dtype)
    about = f"loss and gradient, {arguments.dtype} logits on {device}, T = {arguments.temperature:g}, "
    about += f"median of {arguments.rounds} rounds, {torch.get_num_threads()} threads"
    lines = [*origin(about), "tokens x vocabulary,way,ms,ratio to naive,extra memory over the student's logits"]
    for shape in [arguments.shape] if arguments.shape else SHAPES:
        rounds = arguments.rounds * (10 if SHAPES[shape][1] == 1000 else 1)
        runs = ways(shape, arguments.temperature, dtype, device)
        seconds = seconds_in_turns(runs, rounds, shape)
        count, vocabulary = SHAPES[shape]
        for way, values in seconds.items():
            memory = extra_memory(runs[way], device) / (count * vocabulary * dtype.itemsize)
            ratio = median_ratio(seconds, way, "naive")
            lines.append(f"{shape},{way},{1000 * statistics.median(values):.2f},{ratio:.3f},{memory:.2f}")
    show(lines, arguments.output)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(prog="bench_loss.py", description=__doc__.split("\n")[0])
    command.add_argument("--shape", choices=SHAPES, help="default: all of them")
    command.add_argument("--temperature", type=float, default=2.0, help="default 2")
    command.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32", help="of the logits")
    command.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cuda or cpu")
    command.add_argument("--rounds", type=positive, default=7, help="default 7; ten times as many of the small one")
    command.add_argument("--output", type=Path, help="also write the table here, as CSV")
    return command


if __name__ == "__main__":
    run_command(parser(), main)
