"""The vision half of the demo: teachers with and without label smoothing, students at T = 1, 2, 3, 64, η.

The smoothed teacher has two more students, at T = 3 and 64, whose gradients are as large as those of T = 1: is it the
temperature that costs accuracy, or the size of the steps?

    python scripts/demo_vision.py                    # what `make demo` runs
    python scripts/demo_vision.py --seeds 1 2 3      # mean ± standard deviation; varies --seed and --data-seed

On letters with diacritics: 185 classes, many of them similar. Every step is an ordinary command, printed before it
runs: finished steps are not repeated, and an interrupted training resumes.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from demos import CORES, ROOT, in_parallel, lskd, mean_and_deviation, record_of, recorded, representations, run

from lskd.io.argument_types import positive
from lskd.io.errors import OneLineParser, run_command
from lskd.io.output import say
from lskd.io.schema import read_json
from lskd.records.runs import RunRecord

SMOOTHED = 0.1
ALPHAS = (0.0, SMOOTHED)
TEMPERATURES = (1, 2, 3, 64)
TEACHER, STUDENT = "resnet10t", "test_resnet"
NARROW = ["--model-kwargs", "channels=(32,64,128,256)"]  # half as wide as timm's
MATCHED = (3, 64)  # temperatures of the students with gradients as large as those of T = 1
LOWER, HIGHER = 1, 3  # the temperatures of η
QUICK = [f"small_{letter}{mark}" for letter in "ao" for mark in ("", "_with_acute", "_with_grave", "_with_circumflex")]


def prepare(arguments: argparse.Namespace) -> Path:
    """Make the data, unless they are there, and return their directory."""
    data = arguments.dest / "data" / "letters"
    size: list[object] = ["--fonts", 36, "--validation-fonts", 24]
    if arguments.quick:
        classes = arguments.dest / "quick-classes.txt"
        classes.parent.mkdir(parents=True, exist_ok=True)
        classes.write_text("\n".join(QUICK), encoding="utf-8")
        size = ["--fonts", 20, "--classes", classes]
    run([sys.executable, str(ROOT / "data_prep" / "letters.py"), "--dest", str(data), *map(str, size)])
    return data


def train_command(data: Path, output: Path, epochs: int, seed: int, *options: object) -> list[str]:
    """``lskd vision train`` on the letters; ``options`` are those of the teachers or students.

    The paper's optimiser and its learning rate, which falls to a tenth once, half-way.
    """
    command: list[object] = ["--data-dir", data, "--dataset", "lskd/arrays", "--in-chans", 1, "--img-size", 32]
    command += ["--crop-pct", 1, "--scale", 0.8, 1, "--ratio", 0.9, 1.1, "--hflip", 0, "--color-jitter", 0]
    command += ["--mean", 0.1, "--std", 0.25, "--channels-last", "--workers", 0, "--device", "cpu"]
    command += ["--opt", "momentum", "--lr", 0.1, "--weight-decay", 1e-4, "--batch-size", 128]
    command += ["--sched", "step", "--decay-rate", 0.1, "--decay-epochs", (epochs + 1) // 2, "--warmup-epochs", 0]
    command += ["--epochs", epochs, "--seed", seed, "--data-seed", seed, "--output", output, "--resume", *options]
    return lskd("vision", "train", *command)


def train(data: Path, arguments: argparse.Namespace) -> None:
    """Train the teachers, then their students and the models without a teacher."""
    teacher_epochs, student_epochs = (1, 1) if arguments.quick else (6, 5)
    runs = arguments.dest / data.name
    teachers = [
        train_command(data, arguments.dest, teacher_epochs, seed, "--model", TEACHER, *NARROW, "--smoothing", alpha)
        for seed in arguments.seeds
        for alpha in ALPHAS
    ]
    in_parallel(run, teachers)
    students = []
    for seed in arguments.seeds:
        distil = {
            alpha: ["--model", STUDENT, "--kd-checkpoint", runs / f"{TEACHER}_a{alpha:g}_s{seed}" / "last.pth.tar"]
            for alpha in ALPHAS
        }
        kinds = [[*distil[alpha], "--kd-temperature", *TEMPERATURES] for alpha in ALPHAS]
        kinds.append([*distil[SMOOTHED], "--kd-temperature", *MATCHED, "--kd-gradient-scale", "match"])
        students += [train_command(data, arguments.dest, student_epochs, seed, *options) for options in kinds]
    for seed in arguments.seeds:
        for alpha in ALPHAS:
            options = ["--model", STUDENT, "--smoothing", alpha]
            students.append(train_command(data, arguments.dest, student_epochs, seed, *options))
    in_parallel(run, students)


def models(seeds: Sequence[int]) -> dict[str, list[list[str]]]:
    """The rows of the table: for each α the run directories of all seeds; none if there is no such model."""
    names = {"teacher": TEACHER + "_a{a:g}_s{s}"}
    names |= {f"student, T = {T}": f"{STUDENT}_a{{a:g}}_T{T}_s{{s}}" for T in TEMPERATURES}
    matched = {f"student, T = {T}, steps as at 1": f"{STUDENT}_a{{a:g}}_T{T}_match_s{{s}}" for T in MATCHED}
    names |= matched | {"student without a teacher": STUDENT + "_a{a:g}_s{s}"}
    return {
        title: [
            [name.format(a=alpha, s=seed) for seed in seeds] if title not in matched or alpha == SMOOTHED else []
            for alpha in ALPHAS
        ]
        for title, name in names.items()
    }


def table(directory: Path, seeds: Sequence[int]) -> str:
    """Models down, α across (the teacher's, or the labels' without one): validation top-1 of the last epoch."""
    lines = [f"{'top-1 in %':<28}" + "".join(f"{f'α = {alpha:g}':>16}" for alpha in ALPHAS)]
    for title, columns in models(seeds).items():
        cells = [
            mean_and_deviation([last_accuracy(record_of(directory / name)) for name in names]) if names else "–"
            for names in columns
        ]
        lines.append(f"{title:<28}" + "".join(f"{cell:>16}" for cell in cells))
    images = record_of(directory / f"{TEACHER}_a{ALPHAS[0]:g}_s{seeds[0]}").data["splits"]["validation"]
    return "\n".join(
        [*lines, f"{images} validation images, n = {len(seeds)}; steps as at 1: --kd-gradient-scale match"]
    )


def measure(data: Path, runs: Path, seeds: Sequence[int]) -> None:
    """Record the representations of teachers and students, and print η of the students, T = 1 → 3, for each teacher."""
    shown = models(seeds)
    titles = ("teacher", f"student, T = {LOWER}", f"student, T = {HIGHER}")
    checkpoints = [runs / name / "last.pth.tar" for title in titles for names in shown[title] for name in names]
    options = ["--data-dir", data, "--device", "cpu", "--workers", 0]
    commands = [
        lskd("vision", "representations", checkpoint, *options)
        for checkpoint in checkpoints
        if not recorded(checkpoint, "validation")
    ]
    in_parallel(run, commands)
    reference = representations(runs / f"{TEACHER}_a{ALPHAS[0]:g}_s{seeds[0]}" / "last.pth.tar", "validation")
    sets = runs / "sets.json"
    groups = data / "groups.json"
    plain = read_json(groups, dict[str, list[str]])  # the letters without a mark give the groups their names
    command = lskd("similar", reference, "--by", "groups", "--groups", groups, "--targets", *plain, "--output", sets)
    run(command, on_line=lambda line: None)  # it names all classes of all sets
    commands, said = [], []
    for alpha in ALPHAS:
        students = {
            T: [
                representations(runs / f"{STUDENT}_a{alpha:g}_T{T}_s{seed}" / "last.pth.tar", "validation")
                for seed in seeds
            ]
            for T in (LOWER, HIGHER)
        }
        commands.append(lskd("eta", "--first", *students[LOWER], "--second", *students[HIGHER], "--sets", sets))
        said.append([])

    def one(place: int, threads: int) -> None:
        run(commands[place], threads, on_line=said[place].append)

    in_parallel(one, range(len(commands)))
    for lines in said:
        say("\n".join(["", *lines]))


def last_accuracy(record: RunRecord) -> float:
    """Validation top-1 of the last epoch, in %: the epoch is not chosen by the images it is measured on."""
    return record.history[-1]["valid_top1"]


def main(arguments: argparse.Namespace) -> None:
    """Prepare, train the teachers, distil, measure, print the table."""
    begin = time.monotonic()
    data = prepare(arguments)
    train(data, arguments)
    runs = arguments.dest / data.name
    measure(data, runs, arguments.seeds)
    minutes = (time.monotonic() - begin) / 60
    print(
        f"\n{table(runs, arguments.seeds)}\n{minutes:.1f} minutes on {CORES} cores; everything is in {arguments.dest}"
    )


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = OneLineParser(prog="scripts/demo_vision.py", description=__doc__.split("\n")[0])
    options.set_defaults(resumes=True)
    options.add_argument("--dest", type=Path, default=Path("runs/demo"), help="where everything goes (runs/demo)")
    options.add_argument("--seeds", type=positive, nargs="+", default=[1], help="of weights and data alike (default 1)")
    options.add_argument("--quick", action="store_true", help="eight classes, one epoch: only to see that it runs")
    return options


if __name__ == "__main__":
    run_command(parser(), main)
