"""Command lines to train more students, made from the command of a run that is there."""

import shlex
from collections.abc import Collection, Sequence
from pathlib import Path

from lskd.records.found_runs import Run, find_runs

# Options that say which run of a command line's many it is.
OF_ONE_RUN = {"--seed", "--resume", "--save-dir", "--restore-file", "--kd-checkpoint", "--kd-model-name"}
OF_ONE_RUN |= {"--kd-temperature", "--temperature", "--teacher-path", "--teacher-cache", "--criterion", "--user-dir"}
OF_DISTILLATION = {"--kd-gradient-scale", "--kd-student-temperature", "--kd-loss", "--kd-nckd-weight"}
OF_DISTILLATION |= {"--kd-temperature-schedule", "--kd-final-temperature", "--student-temperature"}
OF_TEACHERS = {"--smoothing", "--label-smoothing", "--model", "--model-kwargs"}


def images(base: Run | None, checkpoint: str | None, options: Sequence[object], student: str | None = None) -> str:
    """``lskd vision train`` with the options of a run.

    Args:
        base: a student, or a teacher, of which only the options that are not its model's are taken; None: a template.
        checkpoint: the teacher's; None for a model without a teacher.
        options: temperatures, seeds, and others that replace the run's.
        student: the model; None for the base's.
    """
    given = {str(each) for each in options if str(each).startswith("--")}
    given |= OF_ONE_RUN | (OF_DISTILLATION if checkpoint is None else set())
    words = ["--data-dir", "DIR"] if base is None else _without(base, given)
    if student is not None:
        words = [*_without_options(words, OF_TEACHERS), "--model", student]
    taught = [] if checkpoint is None else ["--kd-checkpoint", checkpoint]
    return shlex.join(["lskd", "vision", "train", *words, *taught, *map(str, options)])


def translation(base: Run | None, teacher: str, temperatures: Sequence[float]) -> str:
    """A shell loop over temperatures and three seeds that trains and scores, with the options of a run.

    Args:
        base: a student, or the teacher, of which only the options that are not its model's are taken; None: a template.
        teacher: its checkpoint.
        temperatures: T.
    """
    left_out = OF_ONE_RUN | (OF_TEACHERS if base is not None and base.temperature is None else set())
    words = ["DATA-BIN"] if base is None else _without(base, left_out)
    criterion = ["--user-dir", "lskd_fairseq", "--criterion", "kd", "--teacher-path", teacher]
    command = shlex.join(["fairseq-train", *words, *criterion])
    every = " ".join(f"{T:g}" for T in temperatures)
    data = "DATA-BIN" if words[0].startswith("-") else shlex.quote(words[0])
    train = f"{command} --temperature $T --seed $SEED --save-dir student_T${{T}}_s$SEED"
    score = f"lskd nmt score --data {data} --path student_T${{T}}_s$SEED/checkpoint_best.pt"
    return f"for T in {every}; do for SEED in 1 2 3; do {train} && {score}; done; done"


def _without(base: Run, options: Collection[str]) -> list[str]:
    """The words of a run's command after its program, without some options."""
    words = list(base.record.command[1:])
    if words[:1] in (["vision"], ["nmt"]):
        words = words[2:]
    return _without_options(words, options)


def _without_options(words: Sequence[str], options: Collection[str]) -> list[str]:
    """Without options and their values, which are all words up to the next option.

    >>> _without_options(["data", "--seed", "1", "2", "--lr=.1", "--amp", "--smoothing=0"], {"--seed", "--smoothing"})
    ['data', '--lr=.1', '--amp']
    """
    kept, leave_out = [], False
    for word in words:
        if word.startswith("--"):
            leave_out = word.partition("=")[0] in options
        if not leave_out:
            kept.append(word)
    return kept


def student_of(runs: Sequence[Run]) -> Run | None:
    """The first student; None where there is none."""
    return next((run for run in runs if run.temperature is not None), None)


def run_beside(checkpoint: str | None) -> Run | None:
    """The run of a checkpoint, if its record is still beside it."""
    directory = Path(checkpoint).parent if checkpoint else None
    if directory is None or not (directory / "run.json").is_file():
        return None
    (run,) = find_runs([directory])
    return run
