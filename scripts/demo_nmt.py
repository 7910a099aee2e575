"""The main job on the sample sentences: a label-smoothed teacher, students at several temperatures, BLEU and η.

    python scripts/demo_nmt.py                       # what `make demo` runs
    python scripts/demo_nmt.py --seeds 1 2 3 --baseline

Every step is an ordinary command, printed before it runs, and leaves files: what is done is not done again, and an
interrupted training goes on from its last checkpoint.
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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lskd.io.errors import InputError, OneLineParser, positive, run_command
from lskd.records.runs import RunRecord, read_run

ROOT = Path(__file__).resolve().parent.parent
ALPHA = 0.1
TEACHER = {"encoder_layers": 2, "decoder_layers": 2, "embed_dim": 192, "ffn_embed_dim": 384, "epochs": 6}
STUDENT = {"encoder_layers": 2, "decoder_layers": 1, "embed_dim": 128, "ffn_embed_dim": 256, "epochs": 5}
CACHE = "teacher-cache"
DATA = ["--pair", "en-de", "--vocab-size", "2000", "--max-words", "10"]
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
running: set[subprocess.Popen] = set()


def train_command(data: Path, save_dir: Path, model: dict[str, Any], seed: int, criterion: list[str]) -> list[str]:
    """The fairseq command that trains one model; ``criterion`` is all that differs between students."""
    shape = []
    for side in ("encoder", "decoder"):
        shape += [f"--{side}-layers", model[f"{side}_layers"], f"--{side}-embed-dim", model["embed_dim"]]
        shape += [f"--{side}-ffn-embed-dim", model["ffn_embed_dim"], f"--{side}-attention-heads", 4]
    command = ["fairseq-train", data, "--user-dir", ROOT / "lskd_fairseq", *criterion]
    command += ["--arch", "transformer", "--share-all-embeddings", *shape, "--dropout", 0.1]
    command += ["--optimizer", "adam", "--adam-betas", "(0.9, 0.98)", "--clip-norm", 1, "--lr", 3e-3]
    command += ["--lr-scheduler", "inverse_sqrt", "--warmup-updates", 300, "--warmup-init-lr", 1e-7]
    command += ["--max-tokens", 1600, "--max-epoch", model["epochs"], "--required-batch-size-multiple", 1]
    command += ["--seed", seed, "--save-dir", save_dir, "--no-epoch-checkpoints", "--cpu", "--num-workers", 0]
    command += ["--log-format", "json", "--log-interval", 5]
    return [sys.executable, "-m", "fairseq_cli.train", *map(str, command[1:])]


def distil(teacher: Path, temperature: float) -> list[str]:
    """The options that make a training a distillation, from what :func:`store` has stored."""
    return ["--criterion", "kd", "--temperature", f"{temperature:g}", "--teacher-cache", str(teacher / CACHE)]


def smooth(alpha: float) -> list[str]:
    """The options that train on the labels alone, smoothed."""
    return ["--criterion", "label_smoothed_cross_entropy", "--label-smoothing", f"{alpha:g}"]


def run(command: list[str], log: Path, threads: int, on_line=lambda line: None) -> None:
    """Run a command with its output in ``log``.

    Raises:
        InputError: it failed; the message has its last line and the log's name.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    environment["OMP_WAIT_POLICY"] = "PASSIVE"  # threads that spin while they wait halve the speed of a shared machine
    last = ""
    with open(log, "a", encoding="utf-8") as file:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, errors="replace"
        )
        running.add(process)
        for line in process.stdout:
            file.write(line)
            file.flush()
            last = line.strip() or last
            on_line(line)
        running.discard(process)
    if process.wait():
        raise InputError(f"{shlex.join(command[:4])} … failed: {last} (all of its output: {log})")


def train(command: list[str], save_dir: Path, epochs: int, threads: int, position: int) -> None:
    """Train unless done, with a progress bar over epochs."""
    if trained_epochs(save_dir) >= epochs:
        tqdm.write(f"{save_dir.name}: trained already")
        return
    tqdm.write(f"$ {shlex.join(command)}")
    with tqdm(total=epochs, desc=save_dir.name, unit="epoch", position=position, bar_format=BAR) as bar:

        def show(line: str) -> None:
            _, brace, rest = line.partition("{")
            if not brace or "| INFO | " not in line:
                return
            try:
                figures = json.loads("{" + rest)
            except ValueError:
                return
            if "update" in figures:
                bar.n = min(round(figures["update"], 2), epochs)
                bar.refresh()
            elif "valid_ppl" in figures:
                bar.set_postfix_str(f"valid perplexity {figures['valid_ppl']}")

        run(command, save_dir / "train.log", threads, show)
        bar.n = epochs
        bar.refresh()
    if trained_epochs(save_dir) < epochs:
        raise InputError(
            f"{save_dir.name}: ended after {trained_epochs(save_dir)} of {epochs} epochs, see its train.log"
        )


BAR = "{desc:<24} {percentage:3.0f}%|{bar:20}| {n:.1f}/{total} epochs [{elapsed}<{remaining}] {postfix}"


def trained_epochs(save_dir: Path) -> int:
    """How many epochs a run has finished, by its record."""
    record = read_run(save_dir)
    return record.history[-1]["epoch"] if record and record.history else 0


def store(data: Path, teacher: Path) -> None:
    """Store what a teacher makes of every token, once for all its students, unless done."""
    manifest = teacher / CACHE / "cache.json"
    if not manifest.exists() or not json.loads(manifest.read_text(encoding="utf-8"))["finished"]:
        command = [sys.executable, "-m", "lskd_fairseq.cache_teacher", "--cpu", "--data", str(data)]
        command += ["--path", str(teacher / "checkpoint_best.pt"), "--dest", str(teacher / CACHE)]
        tqdm.write(f"$ {shlex.join(command)}")
        run(command, teacher / "cache.log", CORES)


def score(data: Path, save_dir: Path, threads: int) -> None:
    """Score on the test split unless done."""
    record = read_run(save_dir)
    if "checkpoint_best.pt" not in record.figures.get("test", {}):
        command = [sys.executable, "-m", "lskd_fairseq.score", "--cpu", "--data", str(data)]
        command += ["--path", str(save_dir / "checkpoint_best.pt")]
        tqdm.write(f"$ {shlex.join(command)}")
        run(command, save_dir / "score.log", threads)


def in_parallel(data: Path, jobs: list[tuple[int, list[str], Path, dict[str, Any]]]) -> None:
    """Train and score models, as many at a time as there are cores: seed, criterion, directory and shape of each."""
    workers = min(CORES, len(jobs))
    places = list(range(workers))
    lock = threading.Lock()

    def one(job: tuple[int, list[str], Path, dict[str, Any]]) -> None:
        seed, criterion, save_dir, shape = job
        with lock:
            position = places.pop(0)
        threads = max(1, CORES // workers)
        train(train_command(data, save_dir, shape, seed, criterion), save_dir, shape["epochs"], threads, position)
        score(data, save_dir, threads)
        with lock:
            places.insert(0, position)

    with ThreadPoolExecutor(workers) as pool:
        try:
            list(pool.map(one, jobs))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(running):
                process.terminate()
            raise


def lskd(*words: object) -> list[str]:
    """An ``lskd`` command."""
    return [sys.executable, "-m", "lskd", *map(str, words)]


def representations(checkpoint: Path, split: str) -> Path:
    """The file that a representations command leaves beside a checkpoint."""
    return checkpoint.with_name(f"{checkpoint.name.split('.')[0]}.{split}.representations.safetensors")


def recorded(checkpoint: Path, *splits: str) -> bool:
    """Whether the files of the splits are there and newer than the checkpoint."""
    files = [representations(checkpoint, split) for split in splits]
    return all(file.exists() and file.stat().st_mtime > checkpoint.stat().st_mtime for file in files)


def measure(data: Path, runs: Path, arguments: argparse.Namespace) -> None:
    """Record the decoder features of every model; print η of the students, lowest → highest T, for each teacher."""
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
        run(command, checkpoint.with_name("representations.log"), CORES)
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
        show = (lambda line: tqdm.write(line.rstrip())) if "eta" in command else (lambda line: None)
        run(command, runs / f"{command[3]}.log", CORES, show)


def table(rows: list[tuple[str, list[RunRecord]]]) -> str:
    """Models down, test BLEU, chrF and training time across; mean ± standard deviation for several seeds."""
    lines = [f"{'model':<38} {'BLEU':>14} {'chrF':>14} {'train time':>11}"]
    for name, records in rows:
        figures = [record.figures["test"]["checkpoint_best.pt"] for record in records]
        seconds = statistics.mean(record.history[-1]["seconds"] for record in records)
        cells = [mean_and_deviation([figure[key] for figure in figures]) for key in ("bleu", "chrf")]
        lines.append(f"{name:<38} {cells[0]:>14} {cells[1]:>14} {int(seconds // 60):>6}:{int(seconds % 60):02d} min")
    figure = rows[0][1][0].figures["test"]["checkpoint_best.pt"]
    lines.append(f"{figure['sentences']} test sentences, beam {figure['beam']}, {figure['bleu_signature']}")
    return "\n".join(
        [*lines, f"train time: wall clock of one process, as many beside each other as there are cores: {CORES}"]
    )


def mean_and_deviation(values: list[float]) -> str:
    """``12.3`` for one value, ``12.3 ± 0.4`` for several (sample standard deviation).

    >>> mean_and_deviation([1.0, 2.0, 3.0])
    '2.0 ± 1.0'
    """
    mean = f"{statistics.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.1f}"


def main(arguments: argparse.Namespace) -> None:
    """Prepare, train the teachers, distil, score, print the table."""
    begin = time.monotonic()
    data = arguments.dest / "data-bin" / "help.en-de"
    runs = arguments.dest / "help.en-de"
    teacher_shape, student_shape = dict(TEACHER), dict(STUDENT)
    size = list(DATA)
    if arguments.quick:
        teacher_shape["epochs"] = student_shape["epochs"] = 1
        size = ["--pair", "en-de", "--vocab-size", "500", "--max-words", "12", "--max-pairs", "600"]
    prepare = [sys.executable, str(ROOT / "data_prep" / "libreoffice_help.py"), *size, "--dest", str(data)]
    tqdm.write(f"$ {shlex.join(prepare)}")
    run(prepare, arguments.dest / "prepare.log", CORES)

    teachers = {alpha: runs / f"teacher_a{alpha:g}_s1" for alpha in arguments.alphas}
    jobs = [(1, smooth(alpha), directory, teacher_shape) for alpha, directory in teachers.items()]
    in_parallel(data, jobs)
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
    if arguments.baseline:
        kinds["student without a teacher"] = (smooth(ALPHA), f"student-alone_a{ALPHA}")
    rows |= {name: [runs / f"{stem}_s{seed}" for seed in arguments.seeds] for name, (_, stem) in kinds.items()}
    jobs = [
        (seed, criterion, runs / f"{stem}_s{seed}", student_shape)
        for seed in arguments.seeds
        for criterion, stem in kinds.values()
    ]
    in_parallel(data, jobs)
    measure(data, runs, arguments)
    records = [(name, [read_run(directory) for directory in directories]) for name, directories in rows.items()]
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
    options.add_argument("--baseline", action="store_true", help="also train the same student without a teacher")
    options.add_argument(
        "--quick", action="store_true", help="600 pairs and one epoch: does it run? The figures mean nothing"
    )
    return options


if __name__ == "__main__":
    run_command(parser(), main)
