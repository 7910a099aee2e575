"""The provenance of a run: time, versions, hardware and source revision, as stored in its record."""

import contextlib
import datetime
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from lskd.io.schema import convert

PACKAGES = ("lskd", "torch", "fairseq-fixed", "timm", "torchvision", "sacrebleu", "sentencepiece", "numpy")
Finite = Annotated[float, Meta(ge=-1e300, le=1e300)]


def now() -> str:
    """The current time in ISO 8601, UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """The versions of Python and of the installed packages that affect results."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    if torch := sys.modules.get("torch"):
        found["torch"] = str(torch.__version__)  # with the build, such as 2.15.0+cpu
    return found


def usable_cores() -> int | None:
    """The number of cores this process may use; None if unknown."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def hardware() -> dict[str, Any]:
    """The processor, the cores this process may use, and torch's threads and GPUs if torch is loaded."""
    found: dict[str, Any] = {"processor": _processor(), "cores": usable_cores()}
    if torch := sys.modules.get("torch"):
        found["threads"] = torch.get_num_threads()
        found["gpus"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        if found["gpus"]:
            found["tf32"] = torch.backends.cuda.matmul.allow_tf32  # TF32 rounds factors to 11 bits
    return found


def source_revision() -> str | None:
    """The git commit of the source, with ``+changes`` if tracked files differ from it; None outside a checkout."""
    here = Path(__file__).resolve().parents[2]
    git = ["git", "-C", str(here)]
    try:
        found = subprocess.run(
            [*git, "rev-parse", "--show-toplevel", "HEAD"], capture_output=True, text=True, check=True
        )
        changes = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    top, revision = found.stdout.splitlines()
    if Path(top).resolve() != here:  # installed below the checkout of another project
        return None
    tracked = [line for line in changes.stdout.splitlines() if not line.startswith("??")]
    return revision + ("+changes" if tracked else "")


def _processor() -> str:
    """The name of the CPU."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


class _Smoothing(msgspec.Struct):
    alpha: Finite | None = None


class _Teacher(msgspec.Struct):
    model: str | None = None
    label_smoothing: _Smoothing | None = None


class _Configuration(msgspec.Struct):
    temperature: Finite | None = None
    label_smoothing: Finite | None = None


class _Provenance(msgspec.Struct):
    """The fields of a representation file's provenance that are read; it may have any others."""

    model: str | None = None
    split: str | None = None
    checkpoint: str | None = None
    kind: str | None = None
    seed: Finite | None = None
    configuration: _Configuration | None = None
    teacher: _Teacher | None = None
    data: dict[str, Any] | None = None


def validate_provenance(provenance: Any) -> dict[str, Any]:
    """Validate the types of the provenance fields that are read, and return the provenance; {} for None.

    Raises:
        InputError: a value of a wrong type, or a number that is not finite.
    """
    plain = msgspec.to_builtins(provenance, str_keys=True, enc_hook=_plain)
    convert(plain, _Provenance | None, "provenance")
    return provenance or {}


def _plain(value: object) -> object:
    """Convert a value that JSON lacks: NumPy's float64 becomes a float; others are rejected when a file is written."""
    return float(value) if isinstance(value, float) else repr(value)
