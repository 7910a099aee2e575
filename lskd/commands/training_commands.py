"""Command lines to train more students, made from the command of an existing run."""

import math
import re
import shlex
from collections.abc import Collection, Sequence
from pathlib import Path

from lskd.records.found_runs import Run, find_runs

# Options that distinguish the runs of one command line.
OF_ONE_RUN = {"--seed", "--resume", "--save-dir", "--restore-file", "--kd-checkpoint", "--kd-model-name"}
OF_ONE_RUN |= {"--kd-temperature", "--temperature", "--teacher-path", "--teacher-cache", "--criterion", "--user-dir"}
OF_DISTILLATION = ("--kd-", "--task-loss-weight")  # prefixes of the distillation options of image training
OF_TEACHERS = {"--smoothing", "--label-smoothing", "--model", "--model-kwargs"}


def images(base: Run | None, options: Sequence[object], student: str | None = None, distils: bool = True) -> str:
    """The command ``lskd vision train`` with the options of an existing run.

    Args:
        base: the run with the options; None for a template.
        options: the teacher, temperatures, seeds, and other options that replace the run's.
        student: the student's model, which also replaces the model and smoothing options of a teacher's run; None to
            keep the run's.
        distils: False for a model without a teacher.
    """
    given = OF_ONE_RUN | {str(each) for each in options if str(each).startswith("--")}
    words = ["--data-dir", "DIR"] if base is None else _command(base)
    if not distils:
        given |= {each for each in (word.partition("=")[0] for word in words) if each.startswith(OF_DISTILLATION)}
    words = _without_options(words, given)
    if student is not None:
        words = [*_without_options(words, OF_TEACHERS), "--model", student]
    return shlex.join(["lskd", "vision", "train", *words, *map(str, options)])


def translation(base: Run | None, teacher: str, temperatures: Sequence[float]) -> str:
    """A shell loop over temperatures and three seeds that trains and scores students, with the options of a run.

    Args:
        base: a student's run, or the teacher's, without its options for the model and smoothing; None for a template.
        teacher: the teacher's checkpoint.
        temperatures: the T of the students.
    """
    left_out = OF_ONE_RUN | (OF_TEACHERS if base is not None and base.temperature is None else set())
    words = ["DATA-BIN"] if base is None else _without_options(_command(base), left_out, most=1)
    criterion = ["--user-dir", "lskd_fairseq", "--criterion", "kd", "--teacher-path", teacher]
    command = shlex.join(["fairseq-train", *words, *criterion])
    every = " ".join(f"{T:g}" for T in temperatures)
    data = "DATA-BIN" if words[0].startswith("-") else shlex.quote(words[0])
    train = f"{command} --temperature $T --seed $SEED --save-dir student_T${{T}}_s$SEED"
    score = f"lskd nmt score --data {data} --path student_T${{T}}_s$SEED/checkpoint_best.pt"
    return f"for T in {every}; do for SEED in 1 2 3; do {train} && {score}; done; done"


def _command(base: Run) -> list[str]:
    """The arguments of a run's command, after the program and subcommand."""
    words = list(base.record.command[1:])
    return words[2:] if words[:1] in (["vision"], ["nmt"]) else words


def _without_options(words: Sequence[str], options: Collection[str], most: float = math.inf) -> list[str]:
    """Remove options and their values, which are the words up to the next option, but at most ``most``.

    >>> _without_options(["data", "--seed", "1", "-2", "-b", "8", "--amp", "--smoothing=0"], {"--seed", "--smoothing"})
    ['data', '-b', '8', '--amp']
    >>> _without_options(["--user-dir", "lskd_fairseq", "data"], {"--user-dir"}, most=1)
    ['data']
    """
    kept, left = [], 0.0
    for word in words:
        if re.match(r"--?[a-zA-Z]", word):
            name, value, _ = word.partition("=")
            leave_out = name in options
            left = most if leave_out and not value else 0.0
        else:
            leave_out, left = left > 0, left - 1
        if not leave_out:
            kept.append(word)
    return kept


def student_of(runs: Sequence[Run]) -> Run | None:
    """The first run of a student; None if there is none."""
    return next((run for run in runs if run.temperature is not None), None)


def run_beside(checkpoint: str | None) -> Run | None:
    """The run of a checkpoint, if its record is still beside it."""
    directory = Path(checkpoint).parent if checkpoint else None
    if directory is None or not (directory / "run.json").is_file():
        return None
    (run,) = find_runs([directory])
    return run
