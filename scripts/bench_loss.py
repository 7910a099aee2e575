"""Time and memory of the distillation loss, value and gradient, compared with other implementations.

    python scripts/bench_loss.py --output docs/benchmarks/loss_HARDWARE_torchVERSION.csv
    python scripts/bench_loss.py --of losses --shape 4096x10000 --output docs/benchmarks/kd_losses_….csv

The implementations that are compared by default, on the same logits:

- naive: log_softmax, softmax and kl_div, as in a first implementation of a fairseq criterion;
- timm: ``timm.task.LogitDistillationTask``, with models that return the given logits;
- torchdistill: its ``KDLoss``, if it is installed;
- lskd, and lskd compiled: ``lskd.loss.distillation.distillation_loss`` without and with ``compiled=True``;
- lskd top 8: the same with the teacher's eight largest logits and their normaliser, which are precomputed.

With ``--of losses``, each ``--kd-loss``, and ``kl`` with what may be added to it, compared with ``kl``: the gradient's
size measured for the log in some rows, as every training does, and ``--kd-gradient-scale match``.

Ours also compute the sums for the log (nll, teacher's entropy, agreement). Memory is the peak allocation beside the
logits, including the gradient, in units of the student's logits.
"""

import argparse
import itertools
import re
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

import torch
import torch.nn.functional as F
from side_by_side import median_ratio, origin, seconds_in_turns, show
from timm.task import LogitDistillationTask
from torch import nn
from torch.profiler import ProfilerActivity, profile

from lskd.io.argument_types import positive
from lskd.io.errors import run_command
from lskd.loss.distillation import TopkLogits, distillation_loss
from lskd.loss.types import LossType

SHAPES = ("4096x10000", "4096x32000", "256x1000")
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


class Inputs(NamedTuple):
    """Logits of student and teacher, (N, V) of normal numbers with deviation 3, and N targets."""

    student: torch.Tensor
    teacher: torch.Tensor
    target: torch.Tensor


def make_inputs(shape: str, dtype: torch.dtype, device: torch.device) -> Inputs:
    """The inputs of a shape such as ``4096x10000``."""
    count, vocabulary = map(int, shape.split("x"))
    generator = torch.Generator(device).manual_seed(1)

    def logits() -> torch.Tensor:
        return (3 * torch.randn(count, vocabulary, generator=generator, device=device)).to(dtype)

    student, teacher = logits().requires_grad_(), logits()
    return Inputs(student, teacher, torch.randint(vocabulary, (count,), generator=generator, device=device))


def naive_loss(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """The distillation loss as one would first write it down."""
    log_p, p_t = F.log_softmax(student / temperature, 1), F.softmax(teacher / temperature, 1)
    return F.kl_div(log_p, p_t, reduction="sum") * temperature**2


def implementations(inputs: Inputs, temperature: float) -> dict[str, Loss]:
    """The paper's loss by each implementation, ``naive`` first."""
    student, teacher, target = inputs
    normaliser = torch.cat([torch.logsumexp(part.float() / temperature, 1) for part in teacher.split(64)])
    topk = TopkLogits(*teacher.topk(KEPT, 1), normaliser)
    losses = {"naive": lambda: naive_loss(student, teacher, temperature)}
    losses["timm"] = timm_task(student, teacher, target, temperature)
    if (task := torchdistill_loss(student, teacher, target, temperature)) is not None:
        losses["torchdistill"] = task
    losses["lskd"] = ours(inputs, temperature, compiled=False)
    losses["lskd compiled"] = ours(inputs, temperature, compiled=True)
    return losses | {"lskd top 8": ours((student, topk, target), temperature)}


def kd_losses(inputs: Inputs, temperature: float) -> dict[str, Loss]:
    """Each of our losses, ``kl`` first, and ``kl`` with what may be added."""
    own = {"mse": 1.0}  # which has no temperature
    losses = {loss: ours(inputs, own.get(loss, temperature), loss=loss) for loss in get_args(LossType)}
    losses["kl with the gradient's size logged"] = ours(inputs, temperature, measure_gradient=True)
    return losses | {"kl with match": ours(inputs, temperature, gradient_scale="match")}


def ours(inputs: Any, temperature: float, **options: Any) -> Loss:
    """Our loss with these options."""
    return lambda: distillation_loss(*inputs, temperature=temperature, **options).loss


def with_gradient(loss: Loss, student: torch.Tensor) -> Callable[[], None]:
    """A function that computes a loss and its gradient."""

    def run() -> None:
        loss().backward()
        student.grad = None

    return run


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
    """The peak of bytes allocated while it runs, beyond those allocated before."""
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


def table(
    shape: str, of: Callable[[Inputs, float], Mapping[str, Loss]], arguments: argparse.Namespace, rounds: int
) -> list[str]:
    """A line for each way: its time, the ratio to the first way's, and its memory."""
    device, dtype = torch.device(arguments.device), getattr(torch, arguments.dtype)
    inputs = make_inputs(shape, dtype, device)
    runs = {way: with_gradient(loss, inputs.student) for way, loss in of(inputs, arguments.temperature).items()}
    clock = time.process_time if arguments.processor_time else time.perf_counter
    seconds, lines = seconds_in_turns(runs, rounds, shape, clock=clock), []
    for way, values in seconds.items():
        memory = extra_memory(runs[way], device) / (inputs.student.numel() * dtype.itemsize)
        ratio = median_ratio(seconds, way, next(iter(runs)))
        lines.append(f"{shape},{way},{1000 * statistics.median(values):.2f},{ratio:.3f},{memory:.2f}")
    return lines


def main(arguments: argparse.Namespace) -> None:
    """Measure and print the table."""
    of, first = {"implementations": (implementations, "naive"), "losses": (kd_losses, "kl")}[arguments.of]
    about = f"loss and gradient, {arguments.dtype} logits on {arguments.device}, T = {arguments.temperature:g}, "
    about += f"median of {arguments.rounds} rounds, {torch.get_num_threads()} threads"
    about += ", time on the processor" * arguments.processor_time
    lines = [*origin(about), f"tokens x vocabulary,way,ms,ratio to {first},extra memory over the student's logits"]
    for shape in [arguments.shape] if arguments.shape else SHAPES:
        lines += table(shape, of, arguments, arguments.rounds * (10 if shape.endswith("x1000") else 1))
    show(lines, arguments.output)


def shape_argument(text: str) -> str:
    """A shape such as ``4096x10000``, for argparse."""
    if not re.fullmatch(r"[1-9]\d*x[1-9]\d*", text):
        raise argparse.ArgumentTypeError(f"{text!r} (must be tokens x vocabulary, such as {SHAPES[0]})")
    return text


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(prog="bench_loss.py", description=__doc__.split("\n")[0])
    of = ("implementations", "losses")
    command.add_argument("--of", choices=of, default=of[0], help="what is compared (default: implementations)")
    command.add_argument("--shape", type=shape_argument, help=f"default: {', '.join(SHAPES)}")
    command.add_argument("--temperature", type=float, default=2.0, help="default 2")
    command.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32", help="of the logits")
    command.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cuda or cpu")
    command.add_argument("--rounds", type=positive, default=7, help="default 7; ten times as many of the small one")
    command.add_argument(
        "--processor-time", action="store_true", help="measure that of this process, for a busy machine"
    )
    command.add_argument("--output", type=Path, help="also write the table here, as CSV")
    return command


if __name__ == "__main__":
    run_command(parser(), main)
