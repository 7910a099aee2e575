"""The provenance of a run: time, versions, hardware and source revision, as its record keeps them."""

import contextlib
import datetime
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

PACKAGES = ("lskd", "torch", "fairseq-fixed", "timm", "torchvision", "sacrebleu", "sentencepiece", "numpy")


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


def hardware() -> dict[str, Any]:
    """The processor, the cores this process may use, and torch's threads and GPUs where torch is loaded."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found: dict[str, Any] = {"processor": _processor(), "cores": cores}
    if torch := sys.modules.get("torch"):
        found["threads"] = torch.get_num_threads()
        found["gpus"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        if found["gpus"]:
            found["tf32"] = torch.backends.cuda.matmul.allow_tf32  # it rounds factors to 11 bits
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
