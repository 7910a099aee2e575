"""The translation half of the demo: a label-smoothed teacher, students at several temperatures, BLEU and η.

    python scripts/demo_nmt.py                       # what `make demo` runs
    python scripts/demo_nmt.py --seeds 1 2 3         # mean ± standard deviation

On the sample sentences that ship. Every step is an ordinary command, printed before it runs: finished steps are not
repeated, and an interrupted training resumes from its last checkpoint.
"""

import argparse
import json
import queue
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from demo_nmt_models import CACHE, STUDENT, TEACHER, Training, distil, smooth, train_command
from demo_nmt_progress import LogReader
from demos import CORES, ROOT, in_parallel, lskd, mean_and_deviation, record_of, recorded, representations, run
from tqdm import tqdm

from lskd.io.argument_types import positive
from lskd.io.errors import InputError, OneLineParser, run_command
from lskd.io.output import say
from lskd.records.runs import RunRecord, read_run

ALPHA = 0.1
DATA = ["--pair", "en-de", "--vocab-size", "2000", "--max-words", "10"]


def train(data: Path, training: Training, threads: int, position: int) -> None:
    """Train a model unless it is already trained, with a line for each epoch and, on a terminal, a progress bar."""
    save_dir, epochs = training.directory, training.shape.epochs
    command = train_command(data, training)
    if (done := trained_epochs(save_dir)) >= epochs:
        say(f"{save_dir.name}: trained already")
        return
    reader = LogReader(save_dir.name, epochs, done, teacher_of(training), say)
    with tqdm(
        total=epochs, desc=save_dir.name, unit="epoch", position=position, bar_format=BAR, leave=False, disable=None
    ) as bar:

        def show(line: str) -> None:
            reader.read(line)
            bar.n = round(reader.progress, 2)
            bar.refresh()

        run(command, threads, save_dir / "train.log", show)
    if trained_epochs(save_dir) < epochs:
        raise InputError(
            f"{save_dir.name}: ended after {trained_epochs(save_dir)} of {epochs} epochs, see its train.log"
        )


def teacher_of(training: Training) -> str:
    """A student's teacher and its test scores; empty for a model without a teacher."""
    if "--teacher-cache" not in training.criterion:
        return ""
    teacher = Path(training.criterion[-1]).parent  # of its cache
    scores = record_of(teacher).metrics["test"]["checkpoint_best.pt"]
    return f"teacher {teacher.name}, test BLEU {scores['bleu']:.1f}, chrF {scores['chrf']:.1f}"


BAR = "{desc:<24} {percentage:3.0f}%|{bar:20}| {n:.1f}/{total} epochs [{elapsed}<{remaining}]"


def trained_epochs(save_dir: Path) -> int:
    """The number of epochs that a run has finished, according to its record."""
    record = read_run(save_dir)
    return record.history[-1]["epoch"] if record and record.history else 0


def store(data: Path, teacher: Path) -> None:
    """Cache a teacher's outputs for its students, unless they are already cached."""
    manifest = teacher / CACHE / "cache.json"
    if not manifest.exists() or not json.loads(manifest.read_text(encoding="utf-8"))["finished"]:
        command = [sys.executable, "-m", "lskd_fairseq.cache_teacher", "--cpu", "--data", str(data)]
        command += ["--path", str(teacher / "checkpoint_best.pt"), "--dest", str(teacher / CACHE)]
        run(command, log=teacher / "cache.log")


def score(data: Path, save_dir: Path, threads: int) -> None:
    """Score a model on the test split, unless it is already scored."""
    if "checkpoint_best.pt" not in record_of(save_dir).metrics.get("test", {}):
        command = [sys.executable, "-m", "lskd_fairseq.score", "--cpu", "--data", str(data)]
        command += ["--path", str(save_dir / "checkpoint_best.pt")]
        run(command, threads, save_dir / "score.log")


def train_and_score(data: Path, trainings: Sequence[Training]) -> None:
    """Train and score models, as many at a time as there are cores."""
    places: queue.LifoQueue[int] = queue.LifoQueue()  # of progress bars, the first on top
    for place in reversed(range(len(trainings))):
        places.put(place)

    def one(training: Training, threads: int) -> None:
        place = places.get()
        train(data, training, threads, place)
        score(data, training.directory, threads)
        places.put(place)

    in_parallel(one, trainings)


def measure(data: Path, runs: Path, arguments: argparse.Namespace) -> None:
    """Record the representations of every model; print η of the students, lowest → highest T, for each teacher."""
    teachers = [runs / f"teacher_a{alpha:g}_s1" / "checkpoint_best.pt" for alpha in arguments.alphas]
    temperatures = min(arguments.temperatures), max(arguments.temperatures)
    students = {
        (alpha, t): [runs / f"student_a{alpha:g}_T{t:g}_s{seed}" / "checkpoint_best.pt" for seed in arguments.seeds]
        for alpha in arguments.alphas
        for t in temperatures
    }
    checkpoints = [*teachers, *(path for paths in students.values() for path in paths)]
    for checkpoint in tqdm(
        [path for path in checkpoints if not recorded(path, "train")], "decoder features", unit="model", disable=None
    ):
        command = [sys.executable, "-m", "lskd_fairseq.representations", "--cpu", "--data", str(data)]
        command += ["--path", str(checkpoint), "--split", "train", "--keep-per-class", "100"]
        run(command, log=checkpoint.with_name("representations.log"))
    if len(set(temperatures)) == 1:
        return
    sets = runs / "sets.json"
    reference = representations(teachers[0], "train")
    few = ["--least", 20 if arguments.quick else 500, "--rates", 4, 20]
    commands = [lskd("similar", reference, "--by", "distance", "--words", *few, "--output", sets)]
    for alpha in arguments.alphas:
        first, second = ([representations(path, "train") for path in students[alpha, t]] for t in temperatures)
        commands.append(lskd("eta", "--first", *first, "--second", *second, "--sets", sets))
    for command in commands:
        run(command, log=runs / f"{command[3]}.log", on_line=say if "eta" in command else None)


def table(rows: Sequence[tuple[str, Sequence[RunRecord]]]) -> str:
    """Models down, test BLEU, chrF and training time across; mean ± standard deviation over seeds."""
    lines = [f"{'model':<38} {'BLEU':>14} {'chrF':>14} {'train time':>11}"]
    for name, records in rows:
        metrics = [record.metrics["test"]["checkpoint_best.pt"] for record in records]
        seconds = statistics.mean(record.history[-1]["seconds"] for record in records)
        cells = [mean_and_deviation([each[key] for each in metrics]) for key in ("bleu", "chrf")]
        lines.append(f"{name:<38} {cells[0]:>14} {cells[1]:>14} {int(seconds // 60):>6}:{int(seconds % 60):02d} min")
    scores = rows[0][1][0].metrics["test"]["checkpoint_best.pt"]
    lines.append(f"{scores['sentences']} test sentences, beam {scores['beam']}, {scores['bleu_signature']}")
    return "\n".join(
        [*lines, f"train time: wall clock of one process, as many beside each other as there are cores: {CORES}"]
    )


def main(arguments: argparse.Namespace) -> None:
    """Prepare, train the teachers, distil, score, print the table."""
    begin = time.monotonic()
    data = arguments.dest / "data-bin" / "help.en-de"
    runs = arguments.dest / "help.en-de"
    teacher_shape, student_shape, size = TEACHER, STUDENT, DATA
    if arguments.quick:
        teacher_shape, student_shape = replace(TEACHER, epochs=1), replace(STUDENT, epochs=1)
        size = ["--pair", "en-de", "--vocab-size", "500", "--max-words", "12", "--max-pairs", "600"]
    prepare = [sys.executable, str(ROOT / "data_prep" / "libreoffice_help.py"), *size, "--dest", str(data)]
    run(prepare, log=arguments.dest / "prepare.log")

    teachers = {alpha: runs / f"teacher_a{alpha:g}_s1" for alpha in arguments.alphas}
    train_and_score(data, [Training(1, smooth(alpha), each, teacher_shape) for alpha, each in teachers.items()])
    for directory in teachers.values():
        store(data, directory)
    rows = {f"teacher, α = {alpha:g}": [directory] for alpha, directory in teachers.items()}
    kinds = {
        f"student of α = {alpha:g}, T = {t:g}": (
            distil(directory, t),
            f"student_a{alpha:g}_T{t:g}",
        )
        for alpha, directory in teachers.items()
        for t in arguments.temperatures
    }
    kinds["student without a teacher"] = (smooth(ALPHA), f"student-alone_a{ALPHA}")
    rows |= {name: [runs / f"{stem}_s{seed}" for seed in arguments.seeds] for name, (_, stem) in kinds.items()}
    students = [
        Training(seed, criterion, runs / f"{stem}_s{seed}", student_shape)
        for seed in arguments.seeds
        for criterion, stem in kinds.values()
    ]
    train_and_score(data, students)
    measure(data, runs, arguments)
    records = [(name, [record_of(directory) for directory in directories]) for name, directories in rows.items()]
    print(f"\n{table(records)}\n{(time.monotonic() - begin) / 60:.1f} minutes; everything is in {arguments.dest}")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = OneLineParser(prog="scripts/demo_nmt.py", description=__doc__.split("\n")[0])
    options.set_defaults(resumes=True)
    options.add_argument(
        "--dest", type=Path, default=Path("runs/demo"), help="where everything goes (default runs/demo)"
    )
    options.add_argument(
        "--temperatures", type=float, nargs="+", default=[1.0, 3.0], help="of the students (default 1 3)"
    )
    options.add_argument(
        "--alphas", type=float, nargs="+", default=[ALPHA], help=f"of the teachers' label smoothing (default {ALPHA})"
    )
    options.add_argument("--seeds", type=positive, nargs="+", default=[1], help="of the students (default 1)")
    options.add_argument("--quick", action="store_true", help="600 pairs and one epoch: only to see that it runs")
    return options


if __name__ == "__main__":
    run_command(parser(), main)
