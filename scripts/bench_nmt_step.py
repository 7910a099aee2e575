"""A training step of a distilled Transformer, compared with fairseq's own and with a naive distillation.

    python data_prep/libreoffice_help.py --pair en-de --dest data-bin/v10k --vocab-size 10000
    python scripts/bench_nmt_step.py --data data-bin/v10k --size iwslt

A step is forward, backward and an update by Adam; all ways use the same batches of the validation split and the same
student, each in a process of its own. The ways:

- label-smoothed CE: fairseq's ``label_smoothed_cross_entropy``;
- teacher: only the teacher's forward pass, ``model(**net_input)``;
- naive KD: log_softmax, softmax and kl_div at all positions, including padding;
- lskd: ``--criterion kd --teacher-path``;
- lskd, cached: the same with ``--teacher-cache``, with features in fp16, or the eight largest logits.

Weights are those after one update: they do not matter here. ``--profile`` adds the operators that take most time.
"""

import argparse
import functools
import logging
import statistics
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from fairseq import options, tasks, utils
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from side_by_side import median_ratio, origin, seconds_in_processes, serve, show
from torch import nn
from torch.profiler import ProfilerActivity, profile

import lskd_fairseq  # noqa: F401 (registers the criterion)
from lskd.io.argument_types import positive
from lskd.io.errors import run_command
from lskd_fairseq.teacher import Teacher


def transformer(layers: int, width: int, inner: int, heads: int) -> str:
    """Options of a Transformer of these dimensions on both sides."""
    sides = ("encoder", "decoder")
    dimensions = {"layers": layers, "embed-dim": width, "ffn-embed-dim": inner, "attention-heads": heads}
    return " ".join(f"--{side}-{name} {value}" for side in sides for name, value in dimensions.items())


SIZES = {  # student and teacher
    "small": (transformer(2, 64, 128, 2), transformer(3, 128, 256, 4)),
    "iwslt": ("--arch transformer_iwslt_de_en", "--arch transformer_iwslt_de_en"),
}
COMMON = "--arch transformer --share-all-embeddings --optimizer adam --lr 1e-3 --dropout 0.3 --seed 1 --max-update 1"
NAIVE = "naive KD"
Loss = Callable[[nn.Module, dict[str, Any]], torch.Tensor]


class Bench:
    """The task, the batches, and a student for each way.

    Args:
        arguments: of the command line.
        directory: for the teacher's checkpoint and caches.
    """

    def __init__(self, arguments: argparse.Namespace, directory: Path) -> None:
        self.arguments, self.device = arguments, torch.device(arguments.device)
        self.student, teacher = (f"{COMMON} {size}" for size in SIZES[arguments.size])
        self.teacher_path = directory / "teacher" / "checkpoint_last.pt"
        data = f"{arguments.data} --user-dir lskd_fairseq --max-tokens {arguments.tokens}"
        top = f"top {arguments.topk}"
        caches = {"fp16 features": "", "fp32 features": "--dtype fp32"}
        caches[top] = f"--format topk --topk {arguments.topk} --temperatures {arguments.temperature}"
        self.caches = {name: directory / name.replace(" ", "-") for name in caches}
        if not arguments.way:
            self.run(f"fairseq-train {data} --save-dir {self.teacher_path.parent} {teacher} --disable-validation")
            for name, words in caches.items():
                command = f"python -m lskd_fairseq.cache_teacher --data {arguments.data} --path {self.teacher_path}"
                self.run(f"{command} --dest {self.caches[name]} --split valid {words}")
        cfg = self.configuration("--criterion label_smoothed_cross_entropy")
        self.task = tasks.setup_task(cfg.task)
        self.task.load_dataset("valid")
        self.batches = self.some_batches()

    def run(self, command: str) -> None:
        """Run one of the project's commands."""
        program, *words = command.split()
        words += ["--cpu"] * (self.device.type == "cpu")
        subprocess.run([Path(sys.executable).parent / program, *words], check=True, stdout=subprocess.DEVNULL)

    def configuration(self, words: str) -> Any:
        """fairseq's configuration for the student's options and these."""
        line = f"{self.arguments.data} {self.student} --user-dir lskd_fairseq {words}".split()
        arguments: Any = options.parse_args_and_arch(options.get_training_parser(), line)
        return convert_namespace_to_omegaconf(arguments)

    def some_batches(self) -> list[dict[str, Any]]:
        """Full batches of sentences of similar length, from short to long ones."""
        iterator: Any = self.task.get_batch_iterator(self.task.dataset("valid"), max_tokens=self.arguments.tokens)
        batches = sorted(iterator.next_epoch_itr(shuffle=False), key=lambda batch: batch["target"].size(1))
        full = [batch for batch in batches if batch["ntokens"] > 0.5 * self.arguments.tokens]
        chosen = full[:: max(1, len(full) // self.arguments.batches)][: self.arguments.batches]
        return [utils.move_to_cuda(batch) if self.device.type == "cuda" else batch for batch in chosen]

    def step(self, words: str, loss: Loss | None = None) -> Callable[[], None]:
        """A function that makes a step on each batch, with the criterion of these options or with another loss."""
        cfg = self.configuration(words)
        torch.manual_seed(1)
        model = self.task.build_model(cfg.model).to(self.device).train()
        criterion: Any = self.task.build_criterion(cfg.criterion)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

        def run() -> None:
            for batch in self.batches:
                optimizer.zero_grad()
                total = loss(model, batch) if loss else criterion(model, batch)[0]
                (total / batch["ntokens"]).backward()
                optimizer.step()

        return run

    def ways(self) -> dict[str, Callable[[], Callable[[], None]]]:
        """For each way, a function that returns the function to be timed, which makes a step on each batch."""
        temperature = self.arguments.temperature
        kd = f"--criterion kd --temperature {temperature}"
        online = f"{kd} --teacher-path {self.teacher_path}"
        smoothed = "--criterion label_smoothed_cross_entropy --label-smoothing 0.1"
        ways = {"label-smoothed CE": lambda: self.step(smoothed), "teacher": self.forward}
        ways |= {NAIVE: lambda: self.step(smoothed, self.naive()), "lskd": lambda: self.step(online)}
        for name, cache in self.caches.items():
            ways[f"lskd, cached {name}"] = functools.partial(self.step, f"{kd} --teacher-cache {cache}")
        return ways

    def teacher(self) -> nn.Module:
        """The teacher, as fairseq loads it."""
        return Teacher([str(self.teacher_path)], self.task).models[0].to(self.device)

    def forward(self) -> Callable[[], None]:
        """A function that runs the teacher on each batch."""
        teacher = self.teacher()

        def run() -> None:
            with torch.no_grad():
                for batch in self.batches:
                    teacher(**batch["net_input"])

        return run

    def naive(self) -> Loss:
        """A naive distillation loss, a function of a model and a batch."""
        teacher, temperature = self.teacher(), self.arguments.temperature

        def loss(model: nn.Module, batch: dict[str, Any]) -> torch.Tensor:
            logits = model(**batch["net_input"])[0]
            with torch.no_grad():
                p_t = F.softmax(teacher(**batch["net_input"])[0].float() / temperature, -1)
            log_p = F.log_softmax(logits.float() / temperature, -1)
            padded = batch["target"].eq(self.task.target_dictionary.pad())[..., None]
            divergence = F.kl_div(log_p, p_t, reduction="none").masked_fill(padded, 0.0)
            return divergence.sum() * temperature**2

        return loss


def profiled(run: Callable[[], None]) -> list[str]:
    """The operators that take most of a function's time, with their shares."""
    with profile(activities=[ProfilerActivity.CPU]) as found:
        run()
    events = sorted(found.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    return [f"#   {event.self_cpu_time_total / total:6.1%} {event.key}" for event in events[:12]]


def main(arguments: argparse.Namespace) -> None:
    """Measure and print the table."""
    logging.disable()
    warnings.simplefilter("ignore")
    if arguments.way:
        serve(Bench(arguments, arguments.directory).ways()[arguments.way]())
        return
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(arguments, Path(directory))
        ways = bench.ways()
        again = [sys.executable, *sys.argv, "--directory", directory, "--way"]
        seconds = seconds_in_processes({way: [*again, way] for way in ways}, arguments.rounds, arguments.size)
        tokens = sum(batch["ntokens"] for batch in bench.batches)
        padded = 1 - tokens / sum(batch["target"].numel() for batch in bench.batches)
        sizes = "{} taught by {}".format(*SIZES[arguments.size])
        about = f"{sizes}; {len(bench.task.target_dictionary)} symbols, T = {arguments.temperature:g}; "
        about += (
            f"{len(bench.batches)} batches of {tokens / len(bench.batches):.0f} target tokens, {padded:.0%} padding; "
        )
        about += f"median of {arguments.rounds} rounds, {torch.get_num_threads()} threads, {bench.device}"
        columns = "way,ms a step,ratio to label-smoothed CE,ratio to it and the teacher,ratio to naive KD"
        lines = [*origin(about), columns]
        for way, values in seconds.items():
            ratios = [
                median_ratio(seconds, way, *others)
                for others in (["label-smoothed CE"], ["label-smoothed CE", "teacher"], [NAIVE])
            ]
            milliseconds = 1000 * statistics.median(values) / len(bench.batches)
            lines.append(",".join([f'"{way}"', f"{milliseconds:.1f}", *(f"{ratio:.3f}" for ratio in ratios)]))
        if arguments.profile:
            for way in ("label-smoothed CE", "lskd", "lskd, cached fp16 features"):
                lines += [f"# {way}: shares of operators", *profiled(ways[way]())]
    show(lines, arguments.output)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(prog="bench_nmt_step.py", description=__doc__.split("\n")[0])
    command.add_argument("--data", type=Path, required=True, help="a prepared data directory")
    command.add_argument("--size", choices=SIZES, default="small", help="of student and teacher (default small)")
    command.add_argument("--tokens", type=positive, default=2000, help="of a batch at most (default 2000)")
    command.add_argument("--batches", type=positive, default=4, help="per way and round (default 4)")
    command.add_argument("--temperature", type=float, default=2.0, help="default 2")
    command.add_argument("--topk", type=positive, default=8, help="of the cache of largest logits (default 8)")
    command.add_argument("--rounds", type=positive, default=7, help="default 7")
    command.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cuda or cpu")
    command.add_argument("--profile", action="store_true", help="also show which operators take the time")
    command.add_argument("--way", help=argparse.SUPPRESS)
    command.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    command.add_argument("--output", type=Path, help="also write the table here, as CSV")
    return command


if __name__ == "__main__":
    run_command(parser(), main)
