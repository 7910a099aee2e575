"""The vision half of the demo: teachers with and without label smoothing, students at T = 1, 2, 3, 64, η.

    python scripts/demo_vision.py                    # what `make demo` runs
    python scripts/demo_vision.py --seeds 1 2 3      # mean ± standard deviation; varies --seed and --data-seed

On the 12 000 images of Fashion-MNIST that ship. Every step is an ordinary command, printed before it runs: finished
steps are not repeated, and an interrupted training resumes.
"""

import argparse
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from demos import CORES, ROOT, lskd, mean_and_deviation, record_of, recorded, representations

from lskd.io.errors import InputError, OneLineParser, positive, run_command
from lskd.records.runs import RunRecord

ALPHAS = (0.0, 0.1)
TEMPERATURES = (1, 2, 3, 64)
TEACHER, STUDENT = "resnet10t", "test_resnet"
LOWER, HIGHER = 1, 3  # the temperatures of η
GROUPS = ROOT / "data_prep" / "samples" / "fashion_mnist_groups.json"  # tops, footwear


def train_command(data: Path, output: Path, epochs: int, seed: int, *options: str) -> list[str]:
    """``lskd_vision.train`` for grey 28×28 images; ``options`` are those of the teachers or students."""
    command = ["--data-dir", data, "--dataset", "torch/fashion_mnist"]
    command += ["--in-chans", 1, "--img-size", 28, "--crop-pct", 1, "--scale", 1, 1, "--ratio", 1, 1, "--channels-last"]
    command += ["--batch-size", 128, "--opt", "adamw", "--lr", 5e-3, "--sched", "cosine", "--warmup-epochs", 0]
    command += ["--epochs", epochs, "--seed", seed, "--data-seed", seed, "--workers", 0, "--device", "cpu"]
    command += ["--output", output, "--resume", *options]
    return lskd_vision("train", *command)


def lskd_vision(module: str, *words: object) -> list[str]:
    """A command of the vision side."""
    return [sys.executable, "-m", f"lskd_vision.{module}", *map(str, words)]


def run(command: list[str]) -> None:
    """Print and run a command, with its output on the terminal.

    Raises:
        InputError: it failed; its output has the reason.
    """
    print(f"$ {shlex.join(['python', *command[1:]])}", flush=True)
    environment = os.environ | {"OMP_NUM_THREADS": str(CORES), "OMP_WAIT_POLICY": "PASSIVE"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    status = subprocess.run(command, env=environment).returncode
    if status == 130:
        raise KeyboardInterrupt
    if status:
        raise InputError(f"{shlex.join(command[1:3])} … failed with exit status {status}, see above")


def table(directory: Path, seeds: Sequence[int]) -> str:
    """Models down, α of the teacher across: validation top-1 after the last epoch, in %."""
    lines = [f"{'top-1 in %':<16}" + "".join(f"{f'α = {alpha:g}':>16}" for alpha in ALPHAS)]
    names = {"teacher": TEACHER + "_a{a:g}_s{s}"}
    names |= {f"student, T = {t}": f"{STUDENT}_a{{a:g}}_T{t}_s{{s}}" for t in TEMPERATURES}
    for title, name in names.items():
        cells = []
        for alpha in ALPHAS:
            runs = [directory / name.format(a=alpha, s=seed) for seed in seeds]
            cells.append(mean_and_deviation([last_accuracy(record_of(run)) for run in runs]))
        lines.append(f"{title:<16}" + "".join(f"{cell:>16}" for cell in cells))
    images = record_of(directory / f"{TEACHER}_a{ALPHAS[0]:g}_s{seeds[0]}").data["splits"]["validation"]
    return "\n".join([*lines, f"{images} validation images, n = {len(seeds)}"])


def measure(data: Path, runs: Path, seeds: Sequence[int]) -> None:
    """Record the representations of every model, and print η of the students, T = 1 → 3, for each teacher."""
    names = [f"{TEACHER}_a{alpha:g}" for alpha in ALPHAS]
    names += [f"{STUDENT}_a{alpha:g}_T{t}" for alpha in ALPHAS for t in TEMPERATURES]
    for name in [f"{name}_s{seed}" for name in names for seed in seeds]:
        checkpoint = runs / name / "last.pth.tar"
        if not recorded(checkpoint, "train", "validation"):
            options = ["--split", "train", "validation", "--keep-per-class", "200", "--device", "cpu", "--workers", "0"]
            run(lskd_vision("representations", checkpoint, "--data-dir", data, *options))
    reference = representations(runs / f"{TEACHER}_a{ALPHAS[0]:g}_s{seeds[0]}" / "last.pth.tar", "validation")
    sets = runs / "sets.json"
    run(lskd("similar", reference, "--by", "groups", "--groups", GROUPS, "--output", sets))
    for alpha in ALPHAS:
        students = {
            t: [
                representations(runs / f"{STUDENT}_a{alpha:g}_T{t}_s{seed}" / "last.pth.tar", "validation")
                for seed in seeds
            ]
            for t in (LOWER, HIGHER)
        }
        run(lskd("eta", "--first", *students[LOWER], "--second", *students[HIGHER], "--sets", sets))


def last_accuracy(record: RunRecord) -> float:
    """Validation top-1 of the last epoch, in %: the epoch is not chosen by the images it is measured on."""
    return record.history[-1]["valid_top1"]


def main(arguments: argparse.Namespace) -> None:
    """Prepare, train the teachers, distil, measure, print the table."""
    begin = time.monotonic()
    data, runs = arguments.dest / "fashion-mnist", arguments.dest / "fashion_mnist"
    teacher_epochs, student_epochs = (1, 1) if arguments.quick else (2, 3)
    few = ["--max-images", "640"] if arguments.quick else []
    run([sys.executable, str(ROOT / "data_prep" / "fashion_mnist.py"), "--dest", str(data), *few])
    for seed in arguments.seeds:
        smoothing = ["--model", TEACHER, "--smoothing", *map(str, ALPHAS)]
        run(train_command(data, arguments.dest, teacher_epochs, seed, *smoothing))
        teachers = [str(runs / f"{TEACHER}_a{alpha:g}_s{seed}" / "last.pth.tar") for alpha in ALPHAS]
        temperatures = ["--kd-temperature", *map(str, TEMPERATURES)]
        students = ["--model", STUDENT, "--kd-checkpoint", *teachers, *temperatures]
        run(train_command(data, arguments.dest, student_epochs, seed, *students))
    measure(data, runs, arguments.seeds)
    minutes = (time.monotonic() - begin) / 60
    print(f"\n{table(runs, arguments.seeds)}\n{minutes:.1f} minutes; everything is in {arguments.dest}")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = OneLineParser(prog="scripts/demo_vision.py", description=__doc__.split("\n")[0])
    options.add_argument("--dest", type=Path, default=Path("runs/demo"), help="where everything goes (runs/demo)")
    options.add_argument("--seeds", type=positive, nargs="+", default=[1], help="of weights and data alike (default 1)")
    options.add_argument("--quick", action="store_true", help="640 images, one epoch: only to see that it runs")
    return options


if __name__ == "__main__":
    run_command(parser(), main)
