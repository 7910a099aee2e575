"""What is tortured: trainings, the caching of a teacher, whole experiments; and what has to be the same afterwards.

The words of a command are those that a user types, with ``{dest}`` for where it writes. A subject's outcome is a digest
of each part of what was made, times left out: two outcomes are equal where every weight and every figure is.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from helpers.commands import ROOT, SMALL
from helpers.vision_commands import DROPOUT, SMALL_IMAGES

import lskd_fairseq  # noqa: F401 (names what fairseq stores in checkpoints as safe to load)

# What differs between a run that was killed and one that was not, and may: "together" is of the process.
NO_FIGURES = {"time", "seconds", "together", "started", "updated", "made", "command", "revision"}
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Subject:
    """A command that is killed and resumes.

    Attributes:
        name: of the subject.
        command: words of the command, see :mod:`announced`; the same one resumes.
        outcome: a digest of each part of what a finished command has made.
        files: patterns of the files that the command reads when it resumes; each must be readable at any time.
        moments: the functions of each moment at which to kill; none: at any time.
        stage: without moments: where the command is, from what it has written.
    """

    name: str
    command: list[str]
    outcome: Callable[[Path], dict[str, str]]
    files: tuple[str, ...]
    moments: dict[str, list[str]] = field(default_factory=dict)
    stage: Callable[[Path], str] = lambda dest: ""


def nmt(data: Path, teacher: Path) -> Subject:
    """A student in translation, saved every four updates; a process loads its sentences."""
    words = (
        f"{BIN / 'fairseq-train'} {data} --save-dir {{dest}} {SMALL} --user-dir {ROOT / 'lskd_fairseq'} --criterion kd"
    )
    words += f" --temperature 1 --teacher-path {teacher} --max-epoch 2 --save-interval-updates 4 --num-workers 1"
    words += " --patience 20"
    return Subject(
        name="nmt",
        command=words.split(),
        outcome=nmt_outcome,
        files=("*.pt", "run.json"),
        moments={
            "step": ["fairseq.trainer:Trainer.train_step"],
            "validation": ["fairseq_cli.train:validate"],
            "writing a checkpoint": ["torch:save"],
            "copying a checkpoint": ["shutil:copyfile"],
            "syncing": ["os:fsync"],
            "renaming": ["os:replace"],
            "recording": ["lskd.records.runs:write_run"],
            "between epochs": ["fairseq.trainer:Trainer.get_train_iterator"],
        },
    )


def vision(images: Path, teachers: list[Path]) -> Subject:
    """Four students of images in one process: two teachers, two temperatures; with a moving average of the weights."""
    words = f"-m lskd_vision.train {SMALL_IMAGES} --data-dir {images} --output {{dest}} --resume --model test_resnet"
    words += f" --kd-checkpoint {' '.join(map(str, teachers))} --kd-temperature 1 3 --epochs 3 --model-ema {DROPOUT}"
    return Subject(
        name="vision",
        command=words.split(),
        outcome=vision_outcome,
        files=("*/*/*.pth.tar", "*/*/run.json"),
        moments={
            "step": ["lskd_vision.run:TrainingRun.step"],
            "validation": ["lskd_vision.evaluate:evaluate"],
            "writing a checkpoint": ["torch:save"],
            "syncing": ["os:fsync"],
            "renaming": ["os:replace"],
            "recording": ["lskd.records.runs:write_run"],
            "between epochs": ["lskd_vision.run:TrainingRun.begin_epoch", "lskd_vision.run:TrainingRun.end_epoch"],
        },
    )


def cache(data: Path, teacher: Path) -> Subject:
    """The cache of a teacher, in many small files."""
    words = f"-m lskd_fairseq.cache_teacher --cpu --data {data} --path {teacher} --dest {{dest}}"
    return Subject(
        name="cache",
        command=[*words.split(), "--shard-mb", "0.02", "--max-tokens", "200"],
        outcome=lambda dest: {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in visible(dest)},
        files=("*.safetensors", "cache.json"),
        moments={
            "asking the teacher": ["lskd_fairseq.representations:decoder_features"],
            "writing a file": ["lskd.io.tensor_files:write_tensors"],
            "syncing": ["os:fsync"],
            "renaming": ["os:replace"],
            "listing": ["lskd_fairseq.cache.manifest:write_manifest"],
        },
    )


def reproduce(scale: Path) -> Subject:
    """An experiment from data to the page: teachers, students, temperatures matched by entropy, their comparison."""
    words = f"{BIN / 'lskd'} reproduce H.2 --scale {scale} --output {{dest}} --cores 2"
    return Subject(
        name="reproduce",
        command=words.split(),
        outcome=reproduce_outcome,
        files=("*/*/*.pth.tar", "*/*/run.json", "results/*.json", "plan.json"),
        stage=lambda dest: f"{len(list((dest / 'done').glob('*')))} jobs done",
    )


def visible(dest: Path) -> list[Path]:
    """All files below a directory but hidden ones and locks."""
    paths = [path for path in sorted(dest.rglob("*")) if path.is_file() and path.suffix != ".lock"]
    return [path for path in paths if not any(part.startswith(".") for part in path.relative_to(dest).parts)]


def nmt_outcome(dest: Path) -> dict[str, str]:
    """Every checkpoint's weights, optimiser, place in the data and figures; the record of the run."""
    found = record_outcome(dest, "run.json")
    for path in sorted(dest.glob("*.pt")):
        state = torch.load(path, weights_only=True)
        extra = {name: state["extra_state"][name] for name in ("train_iterator", "val_loss", "best", "lskd_progress")}
        parts = {"model": state["model"], "optimizer": state["last_optimizer_state"], "extra": extra}
        found |= {f"{path.name}: {name}": digest(part, dest) for name, part in parts.items()}
    return found


def vision_outcome(dest: Path) -> dict[str, str]:
    """Every checkpoint, whole, and the record of each run."""
    found = {}
    for path in sorted(dest.glob("*/*/run.json")):
        found |= record_outcome(dest, str(path.relative_to(dest)))
    for path in sorted(dest.glob("*/*/*.pth.tar")):
        state = torch.load(path, weights_only=True)
        found |= {f"{path.parent.name}/{path.name}: {name}": digest(part, dest) for name, part in state.items()}
    return found


def reproduce_outcome(dest: Path) -> dict[str, str]:
    """Every checkpoint, every figure, and which files there are."""
    found = vision_outcome(dest)
    for path in sorted((dest / "results").glob("*.json")):
        found[path.name] = digest(json.loads(path.read_text(encoding="utf-8"))["rows"], dest)
    names = sorted(str(path.relative_to(dest)) for path in visible(dest) if path.suffix != ".log")
    return found | {"files": digest(names, dest)}


def record_outcome(dest: Path, name: str) -> dict[str, str]:
    """The figures of a record below a directory, and the rows of its table."""
    record = json.loads((dest / name).read_text(encoding="utf-8"))
    table = (dest / name).with_name("summary.csv").read_text(encoding="utf-8").splitlines()
    times = [place for place, column in enumerate(table[0].split(",")) if column in NO_FIGURES]
    rows = [[cell for place, cell in enumerate(row.split(",")) if place not in times] for row in table]
    parts = {"history": record["history"], "figures": record["figures"], "teacher": record["teacher"]}
    parts |= {"settings": record["configuration"], "table": rows}
    return {f"{name}: {part}": digest(value, dest) for part, value in parts.items()}


def digest(value: object, dest: Path) -> str:
    """SHA-256 of a value with tensors, to the bit; times, and where it was written to, are left out."""
    sha = hashlib.sha256()
    for piece in _pieces(value):
        sha.update(piece.replace(str(dest).encode(), b"{dest}"))
    return sha.hexdigest()


def _pieces(value: object) -> Iterator[bytes]:
    if isinstance(value, dict):
        for key in sorted(value, key=str):
            if key not in NO_FIGURES:
                yield f"{key}=".encode()
                yield from _pieces(value[key])
    elif isinstance(value, list | tuple):
        yield f"{len(value)}:".encode()
        for each in value:
            yield from _pieces(each)
    elif isinstance(value, torch.Tensor):
        yield f"{value.dtype}{tuple(value.shape)}".encode()
        yield value.reshape(-1).clone().view(torch.uint8).numpy().tobytes()
    else:
        yield repr(value).encode()
