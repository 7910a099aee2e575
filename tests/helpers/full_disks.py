"""Directories in which nothing more can be written, for tests."""

import contextlib
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

KINDS = ("no larger files", "a full disk", "a read-only directory")
REASONS = "File too large|No space left on device|Read-only file system|Permission denied|Not a directory"
REASONS += "|can be written to"
DISK = 32 * 2**20


@contextlib.contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """Let no file of this process and its children grow beyond so many bytes, as on a disk that becomes full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    measured = os.environ.pop("COVERAGE_PROCESS_CONFIG", None)  # which lines are run would be written too
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))  # Python ignores the signal and gets an error
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        if measured is not None:
            os.environ["COVERAGE_PROCESS_CONFIG"] = measured


@contextlib.contextmanager
def mounted(place: Path, *options: str) -> Iterator[None]:
    """Mount something at a directory; the test is skipped where that may not be done."""
    if subprocess.run(["mount", *options, str(place)], capture_output=True).returncode:
        pytest.skip("mounts nothing")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)  # a failed test may hold a file


@contextlib.contextmanager
def a_disk(kind: str, place: Path) -> Iterator[Path]:
    """A new directory, on a small disk of its own for the kind that needs one."""
    place.mkdir()
    with contextlib.ExitStack() as stack:
        if kind == "a full disk":
            stack.enter_context(mounted(place, "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs"))
        yield place


@contextlib.contextmanager
def full(kind: str, place: Path, room: int = 0) -> Iterator[None]:
    """Let nothing more than ``room`` bytes be written in a directory of :func:`a_disk`, in one of the ways of KINDS."""
    if kind == "no larger files":
        with no_file_above(room):
            yield
    elif kind == "a full disk":
        state = os.statvfs(place)
        with open(place / "others", "wb") as file:
            os.posix_fallocate(file.fileno(), 0, state.f_bavail * state.f_bsize - room)
        try:
            yield
        finally:
            (place / "others").unlink()
    elif os.getuid():
        place.chmod(0o555)
        try:
            yield
        finally:
            place.chmod(0o755)
    else:
        with mounted(place, "--bind", str(place)):
            subprocess.run(["mount", "-o", "remount,ro,bind", str(place)], check=True)
            yield
