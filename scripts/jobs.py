"""The ordinary commands that the experiments are made of, as jobs: what each reads, what it leaves.

A job's command is what a user would type in the checkout, word by word. The files are relative to the checkout.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

SOURCE = "SOURCE"  # in a scale's settings: the archive or directory that the user names


@dataclass
class Job:
    """A step.

    Attributes:
        name: unique; of its log, and of its mark.
        kind: ``prepare``, ``teacher``, ``cache``, ``student``, ``score``, ``representations``, ``measure``, ``report``.
        command: the words of the command line.
        after: names of the jobs whose outcome it needs.
        files: what it writes in one step; none for a job that goes on where it was, or whose outcome is a directory:
            that leaves a mark when it has ended.
        runs: the run directories of a training; of one whose temperature is found later the directory above, with /.
        trains: of a training, the study and the model, ``fashion-mnist/test_resnet``.
        epochs: of a training.
        directory: what it goes on in, of which the jobs after it need the files, and later ones do not.
        gpu: GPUs, 0 or 1.
        threads: of the processor.
        minutes: the most that a cluster should give it.
        memory_gb: likewise.
    """

    name: str
    kind: str
    command: list[str]
    after: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    trains: str = ""
    epochs: int = 0
    directory: str = ""
    gpu: int = 0
    threads: int = 1
    minutes: int = 60
    memory_gb: int = 4


def word(value: object) -> str:
    """A value as it stands on a command line.

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
            words += map(word, value if isinstance(value, list[Any] | tuple[Any, ...]) else [value])
    return words


def train_images(
    settings: dict[str, Any], role: dict[str, Any], model: str, data_dir: str, output: str, seed: int
) -> list[str]:
    """``lskd_vision.train`` of one model, without what makes it a teacher or a student.

    Args:
        settings: of the data set in a scale.
        role: what is a teacher's or a student's own.
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
    """``lskd_vision.representations`` of a checkpoint; how its images are prepared it knows from its training."""
    command = ["python", "-m", "lskd_vision.representations", checkpoint, "--data-dir", data_dir, "--split", *splits]
    same = {name: settings["images"][name] for name in ("workers", "device") if name in settings["images"]}
    return command + flags(same) + flags(keep)


def train_translation(
    settings: dict[str, Any], shape: dict[str, Any], data: str, save_dir: str, seed: int
) -> list[str]:
    """``fairseq-train`` of one Transformer, without its criterion.

    Args:
        settings: of the data set in a scale.
        shape: ``layers`` of encoder and decoder each, ``dim``, ``ffn`` and ``heads``.
        data: of the prepared data.
        save_dir: the run's directory.
        seed: of everything.
    """
    command = ["fairseq-train", data, "--user-dir", "lskd_fairseq", "--save-dir", save_dir, "--seed", str(seed)]
    for side in ("encoder", "decoder"):
        command += [f"--{side}-layers", word(shape["layers"]), f"--{side}-embed-dim", word(shape["dim"])]
        command += [f"--{side}-ffn-embed-dim", word(shape["ffn"]), f"--{side}-attention-heads", word(shape["heads"])]
    command += flags(settings["train"])
    # No sentence is left out of a batch or of a score; checkpoints are the last and the best.
    command += ["--required-batch-size-multiple", "1", "--no-epoch-checkpoints", "--log-format", "json"]
    return command


def score_translation(settings: dict[str, Any], data: str, checkpoint: str) -> list[str]:
    """``lskd_fairseq.score`` of a checkpoint on the test split."""
    cpu = ["--cpu"] if settings["train"].get("cpu") else []
    return ["python", "-m", "lskd_fairseq.score", "--data", data, "--path", checkpoint, *cpu]


def cache_translation(settings: dict[str, Any], data: str, checkpoint: str, dest: str) -> list[str]:
    """``lskd_fairseq.cache_teacher`` of a checkpoint: its features in fp16, from which students have all logits."""
    cpu = ["--cpu"] if settings["train"].get("cpu") else []
    return ["python", "-m", "lskd_fairseq.cache_teacher", "--data", data, "--path", checkpoint, "--dest", dest, *cpu]


def lskd(command: str, *words: object) -> list[str]:
    """An ``lskd`` command."""
    return ["lskd", command, *map(word, words)]
