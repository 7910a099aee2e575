"""The commands of the experiments as jobs: what each reads and writes.

A job's command is what a user would type in the checkout, word by word. Files are relative to the checkout. For
an installed package that is the directory of the workflow, and everything outside it is named by its full path.
"""

import importlib.util
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from definitions import ROOT

SOURCE = "SOURCE"  # in a scale's settings: the archive or directory that the user gives


@dataclass
class Job:
    """A job of a plan.

    Attributes:
        name: unique; also the name of its log and its mark.
        kind: ``prepare``, ``teacher``, ``cache``, ``student``, ``score``, ``representations``, ``measure``, ``report``.
        command: the words of the command line.
        after: names of the jobs whose outputs it needs.
        files: that it writes atomically; empty for a job that resumes, or that makes a directory: these write a mark
            when they are done.
        runs: the run directories of a training; if its temperature is found later, the directory above, with a /.
        trains: of a training: the study and the model, ``letters/test_resnet``.
        epochs: of a training.
        seconds: of a training, by the speeds that the scale gives; 0 where it gives none.
        directory: in which it resumes; the jobs after it need its files, and later ones do not.
        gpu: number of GPUs, 0 or 1.
        threads: of the processor.
        minutes: limit on a cluster.
        memory_gb: limit on a cluster.
        priority: of snakemake's scheduler, by :func:`first_seeds_first`.
    """

    name: str
    kind: str
    command: list[str]
    after: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    trains: str = ""
    epochs: int = 0
    seconds: float = 0.0
    directory: str = ""
    gpu: int = 0
    threads: int = 1
    minutes: int = 60
    memory_gb: int = 4
    priority: int = 1


class Output(NamedTuple):
    """A file or directory that a job makes.

    Attributes:
        path: as in the job's ``files``, ``runs`` or ``directory``.
        job: the job's name.
    """

    path: str
    job: str


def first_seeds_first(jobs: Iterable[Job]) -> None:
    """Set the priority of jobs, so that a study that is interrupted has some seeds whole, with their teachers.

    The seed is in a job's name; what is for all seeds comes before them.

    >>> jobs = [Job(name, "student", []) for name in ("data", "resnet_a0_s11", "resnet_a0_s12.students")]
    >>> first_seeds_first(jobs)
    >>> [job.priority for job in jobs]
    [13, 2, 1]
    """
    jobs = list(jobs)
    seeds = [int(found[1]) if (found := re.search(r"_s(\d+)(\.|$)", job.name)) else 0 for job in jobs]
    for job, seed in zip(jobs, seeds, strict=True):
        job.priority = 1 + max(seeds) - seed


def word(value: object) -> str:
    """A value as a word of a command line.

    >>> word(5.0e-4), word(3.0), word("en-de")
    ('0.0005', '3', 'en-de')
    """
    return f"{value:g}" if isinstance(value, float) else str(value)


def flags(settings: dict[str, Any], *leave_out: str) -> list[str]:
    """Settings as options: ``{"lr": 0.1, "amp": True, "scale": [1, 1]}`` is ``--lr 0.1 --amp --scale 1 1``.

    >>> flags({"lr": 0.1, "amp": True, "scale": [1, 1], "cpu": False, "model": "resnet18"}, "model")
    ['--lr', '0.1', '--amp', '--scale', '1', '1']
    """
    words = []
    for name, value in settings.items():
        if name in leave_out or value is None or value is False:
            continue
        words.append(f"--{name}")
        if value is not True:
            words += map(word, value if isinstance(value, (list, tuple)) else [value])
    return words


def train_images(
    settings: dict[str, Any], role: dict[str, Any], model: str, data_dir: str, output: str, seed: int
) -> list[str]:
    """``lskd_vision.train`` for a model, without the options of a teacher or a student.

    Args:
        settings: of the data set in a scale.
        role: the settings of teachers, or of students.
        model: timm's name.
        data_dir: of the prepared data.
        output: the directory of all studies, and the study.
        seed: of weights and data.
    """
    place, _, study = output.rpartition("/")
    command = ["python", "-m", "lskd_vision.train", "--data-dir", data_dir, "--model", model]
    command += flags(settings["images"]) + flags(
        settings["train"] | role, "model", "starts_from", "torchvision_weights"
    )
    command += ["--seed", str(seed), "--data-seed", str(seed), "--output", place, "--experiment", study, "--resume"]
    return command


def record_images(
    settings: dict[str, Any], keep: dict[str, Any], checkpoint: str, data_dir: str, splits: Iterable[str]
) -> list[str]:
    """``lskd_vision.representations`` for a checkpoint, which stores how its images are prepared."""
    command = ["python", "-m", "lskd_vision.representations", checkpoint, "--data-dir", data_dir, "--split", *splits]
    same = {name: settings["images"][name] for name in ("workers", "device") if name in settings["images"]}
    return command + flags(same) + flags(keep)


def user_dir() -> str:
    """The package for fairseq's ``--user-dir``: in a checkout by its name."""
    name = "lskd_fairseq"
    found = None if (ROOT / name).is_dir() else importlib.util.find_spec(name)
    return str(Path(found.origin).parent) if found and found.origin else name


def train_translation(
    settings: dict[str, Any], shape: dict[str, Any], data: str, save_dir: str, seed: int
) -> list[str]:
    """``fairseq-train`` for a Transformer, without its criterion.

    Args:
        settings: of the data set in a scale.
        shape: ``layers`` of encoder and decoder each, ``dim``, ``ffn`` and ``heads``.
        data: of the prepared data.
        save_dir: the run's directory.
        seed: of everything.
    """
    command = ["fairseq-train", data, "--user-dir", user_dir(), "--save-dir", save_dir, "--seed", str(seed)]
    for side in ("encoder", "decoder"):
        command += [f"--{side}-layers", word(shape["layers"]), f"--{side}-embed-dim", word(shape["dim"])]
        command += [f"--{side}-ffn-embed-dim", word(shape["ffn"]), f"--{side}-attention-heads", word(shape["heads"])]
    command += flags(settings["train"])
    # All sentences are trained on and scored; the last and the best checkpoint are kept.
    command += ["--required-batch-size-multiple", "1", "--no-epoch-checkpoints", "--log-format", "json"]
    return command


def translation_command(module: str, settings: dict[str, Any], data: str, checkpoint: str, *options: str) -> list[str]:
    """A command of ``lskd_fairseq`` for a checkpoint, on the CPU where the scale trains on it.

    Args:
        module: its name in ``lskd_fairseq``.
        settings: of the data set in a scale.
        data: of the prepared data.
        checkpoint: the file.
        options: of this command alone.
    """
    cpu = ["--cpu"] if settings["train"].get("cpu") else []
    return ["python", "-m", f"lskd_fairseq.{module}", "--data", data, "--path", checkpoint, *options, *cpu]


def lskd(command: str, *words: object) -> list[str]:
    """An ``lskd`` command."""
    return ["lskd", command, *map(word, words)]
