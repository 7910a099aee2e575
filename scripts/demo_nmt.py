"""The translation half of the demo: a label-smoothed teacher, students at several temperatures, BLEU and η.

    python scripts/demo_nmt.py                       # what `make demo` runs
    python scripts/demo_nmt.py --seeds 1 2 3         # mean ± standard deviation

On the sample sentences that ship. Every step is an ordinary command, printed before it runs: finished steps are not
repeated, and an interrupted training resumes from its last checkpoint.
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from demo_nmt_models import CACHE, STUDENT, TEACHER, Training, distil, smooth, train_command
from demo_nmt_progress import LogReader
from demos import CORES, ROOT, lskd, mean_and_deviation, record_of, recorded, representations
from tqdm import tqdm

from lskd.io.errors import InputError, OneLineParser, positive, run_command
from lskd.io.output import say
from lskd.records.runs import RunRecord, read_run

ALPHA = 0.1
DATA = ["--pair", "en-de", "--vocab-size", "2000", "--max-words", "10"]
running: set[subprocess.Popen[str]] = set()


def run(
    command: list[str], log: Path, threads: int = CORES, on_line: Callable[[str], object] = lambda line: None
) -> None:
    """Run a command with its output in ``log``, and call ``on_line`` with each line.

    Raises:
        InputError: it failed; the message has its last line and the log's name.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    environment["OMP_WAIT_POLICY"] = "PASSIVE"  # spinning threads halve the speed of a shared machine
    last = ""
    with open(log, "a", encoding="utf-8") as file:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, errors="replace"
        )
        running.add(process)
        assert process.stdout is not None
        for line in process.stdout:
            file.write(line)
            file.flush()
            last = line.strip() or last
            on_line(line)
        running.discard(process)
    if process.wait():
        raise InputError(f"{shlex.join(command[:4])} … failed: {last} (all of its output: {log})")


def train(data: Path, training: Training, threads: int, position: int) -> None:
    """Train a model unless it is trained, with a line for each epoch and, on a terminal, a progress bar."""
    save_dir, epochs = training.directory, training.shape.epochs
    command = train_command(data, training)
    if (done := trained_epochs(save_dir)) >= epochs:
        tqdm.write(f"{save_dir.name}: trained already")
        return
    tqdm.write(f"$ {shlex.join(command)}")
    reader = LogReader(save_dir.name, epochs, done, teacher_of(training), say)
    with tqdm(
        total=epochs, desc=save_dir.name, unit="epoch", position=position, bar_format=BAR, leave=False, disable=None
    ) as bar:

        def show(line: str) -> None:
            reader.read(line)
            bar.n = round(reader.progress, 2)
            bar.refresh()

        run(command, save_dir / "train.log", threads, show)
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
    """The number of epochs that a run has finished, by its record."""
    record = read_run(save_dir)
    return record.history[-1]["epoch"] if record and record.history else 0


def store(data: Path, teacher: Path) -> None:
    """Cache a teacher's outputs for its students, unless they are cached."""
    manifest = teacher / CACHE / "cache.json"
    if not manifest.exists() or not json.loads(manifest.read_text(encoding="utf-8"))["finished"]:
        command = [sys.executable, "-m", "lskd_fairseq.cache_teacher", "--cpu", "--data", str(data)]
        command += ["--path", str(teacher / "checkpoint_best.pt"), "--dest", str(teacher / CACHE)]
        tqdm.write(f"$ {shlex.join(command)}")
        run(command, teacher / "cache.log")


def score(data: Path, save_dir: Path, threads: int) -> None:
    """Score a model on the test split, unless it is scored."""
    if "checkpoint_best.pt" not in record_of(save_dir).metrics.get("test", {}):
        command = [sys.executable, "-m", "lskd_fairseq.score", "--cpu", "--data", str(data)]
        command += ["--path", str(save_dir / "checkpoint_best.pt")]
        tqdm.write(f"$ {shlex.join(command)}")
        run(command, save_dir / "score.log", threads)


def in_parallel(data: Path, trainings: Sequence[Training]) -> None:
    """Train and score models, as many at a time as there are cores."""
    workers = min(CORES, len(trainings))
    places = list(range(workers))
    lock = threading.Lock()

    def one(training: Training) -> None:
        with lock:
            position = places.pop(0)
        threads = max(1, CORES // workers)
        train(data, training, threads, position)
        score(data, training.directory, threads)
        with lock:
            places.insert(0, position)

    with ThreadPoolExecutor(workers) as pool:
        try:
            list(pool.map(one, trainings))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(running):
                process.terminate()
            raise


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
        [path for path in checkpoints if not recorded(path, "train")], "decoder features", unit="model"
    ):
        command = [sys.executable, "-m", "lskd_fairseq.representations", "--cpu", "--data", str(data)]
        command += ["--path", str(checkpoint), "--split", "train", "--keep-per-class", "100"]
        tqdm.write(f"$ {shlex.join(command)}")
        run(command, checkpoint.with_name("representations.log"))
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
        tqdm.write(f"$ {shlex.join(command)}")
        log = runs / f"{command[3]}.log"
        run(command, log, on_line=lambda line: tqdm.write(line.rstrip())) if "eta" in command else run(command, log)


def table(rows: Sequence[tuple[str, Sequence[RunRecord]]]) -> str:
    """Models down, test BLEU, chrF and training time across; mean ± standard deviation over seeds."""
    lines = [f"{'model':<38} {'BLEU':>14} {'chrF':>14} {'train time':>11}"]
    for name, records in rows:
        metrics = [record.metrics["test"]["checkpoint_best.pt"] for record in records]
        seconds = statistics.mean(record.history[-1]["seconds"] for record in records)
        cells = [mean_and_deviation([figure[key] for figure in metrics]) for key in ("bleu", "chrf")]
        lines.append(f"{name:<38} {cells[0]:>14} {cells[1]:>14} {int(seconds // 60):>6}:{int(seconds % 60):02d} min")
    figure = rows[0][1][0].metrics["test"]["checkpoint_best.pt"]
    lines.append(f"{figure['sentences']} test sentences, beam {figure['beam']}, {figure['bleu_signature']}")
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
    tqdm.write(f"$ {shlex.join(prepare)}")
    run(prepare, arguments.dest / "prepare.log")

    teachers = {alpha: runs / f"teacher_a{alpha:g}_s1" for alpha in arguments.alphas}
    in_parallel(data, [Training(1, smooth(alpha), each, teacher_shape) for alpha, each in teachers.items()])
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
    in_parallel(data, students)
    measure(data, runs, arguments)
    records = [(name, [record_of(directory) for directory in directories]) for name, directories in rows.items()]
    print(f"\n{table(records)}\n{(time.monotonic() - begin) / 60:.1f} minutes; everything is in {arguments.dest}")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = OneLineParser(prog="scripts/demo_nmt.py", description=__doc__.split("\n")[0])
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
