"""Atomic writing, parsing of untrusted JSON and YAML, and checksums."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

from lskd.io.errors import file_error_context, input_error

LARGEST_YAML = 100_000  # values


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Generator[Path]:
    """Yield a temporary path beside ``path`` to write to; when the block succeeds, it atomically replaces ``path``.

    The file is synced to disk before it is renamed, so after a kill or a power cut ``path`` holds either the old
    content or the new one. When the block raises, ``path`` is left unchanged. A kill leaves a hidden file beside it:
    see :func:`remove_partials`.

    Raises:
        OSError: ``path`` cannot be written; the error names ``path``, not the temporary file.

    >>> target = Path(tempfile.mkdtemp()) / "metrics.json"
    >>> with replacing(target) as beside:
    ...     _ = beside.write_text("{}")
    >>> target.read_text()
    '{}'
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.partial")
    try:
        with file_error_context(path):
            yield beside
            with open(beside, "rb") as file:
                os.fsync(file.fileno())
            os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):  # for example if the directory is a file: report the first error instead
            beside.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def building(dest: Path) -> Generator[Path]:
    """Make a directory beside ``dest`` that becomes ``dest`` at the end of the block, and is removed on an error.

    If the process is killed, the hidden directory ``.DEST.*.partial`` is left behind, and ``dest`` does not exist.

    Raises:
        OSError: it cannot be written, or ``dest`` exists and is not an empty directory; the error names ``dest``.

    >>> dest = Path(tempfile.mkdtemp()) / "letters"
    >>> with building(dest) as beside:
    ...     _ = (beside / "classes.txt").write_text("a")
    >>> [path.name for path in dest.iterdir()], [path.name for path in dest.parent.iterdir()]
    (['classes.txt'], ['letters'])
    """
    with file_error_context(dest):
        dest.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{dest.name}.", suffix=".partial", dir=dest.parent))
        beside.chmod(0o755)
        try:
            yield beside
            os.replace(beside, dest)  # replaces an empty directory, and fails for anything else
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise


def remove_partials(directory: str | os.PathLike[str]) -> None:
    """Remove temporary files that killed processes on this machine left in a directory, see :func:`replacing`."""
    for path in Path(directory).glob(".*.partial"):
        left = re.search(r"\.([^/]+)-(\d+)\.partial$", path.name)
        if left and left[1].endswith(f".{socket.gethostname()}") and not _is_running(int(left[2])):
            path.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    """Whether a process with this id runs on this machine."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return True


def check_writable(argument: str, directory: Path) -> None:
    """Check that a directory can be written to, or created, without creating it.

    Raises:
        InputError: it cannot.
    """
    whole = directory.absolute()
    there = next(place for place in (whole, *whole.parents) if os.path.lexists(place))
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise input_error(argument, directory, f"must be a directory that can be written to; {there} is not")


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` as UTF-8 in one step (see :func:`replacing`)."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: str | os.PathLike[str], value: object) -> None:
    """Write ``value`` as readable JSON in one step (see :func:`replacing`). NaN and infinity are an error."""
    write_text(path, json_text(value))


def json_text(value: object) -> str:
    """``value`` as readable JSON. Raises ValueError for NaN and infinity."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def parse_json(text: str | bytes) -> Any:
    """Parse untrusted JSON.

    Raises:
        ValueError: not JSON, nested too deeply, or with an unpaired surrogate, which UTF-8 cannot encode.

    >>> parse_json('{"T": 1}')
    {'T': 1}
    """
    try:
        content = json.loads(text)
        json.dumps(content, ensure_ascii=False).encode()  # check that it can be written again
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("it holds an unpaired surrogate, such as \\ud800") from None
    return content


def parse_yaml(text: str) -> Any:
    """Parse untrusted YAML.

    Raises:
        ValueError: not YAML, or more than :data:`LARGEST_YAML` values, counting each value as often as aliases repeat
            it; the message is one line.

    >>> parse_yaml("T: 1")
    {'T': 1}
    """
    import yaml

    try:
        content = yaml.safe_load(text)
        size = _size(content, {})
    except RecursionError:
        raise ValueError("it is nested too deeply, or in itself") from None
    except Exception as error:  # PyYAML's own, and Python's for an invalid number or date
        raise ValueError(" ".join(str(error).split())) from None
    if size > LARGEST_YAML:
        raise ValueError(f"it holds {size:.2g} values by its aliases, at most {LARGEST_YAML} are read")
    return content


def _size(content: object, known: dict[int, int]) -> int:
    """The number of values in nested lists and dictionaries; shared ones are counted each time."""
    if not isinstance(content, (list, dict)):
        return 1
    if id(content) not in known:
        parts = content.values() if isinstance(content, dict) else content
        known[id(content)] = 1 + sum(_size(each, known) for each in parts)
    return known[id(content)]


def sha256(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
