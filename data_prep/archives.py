"""From an archive to a data directory: the steps that are the same for every data set."""

import argparse
import contextlib
import hashlib
import os
import re
import shutil
import tempfile
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tgz import download

from lskd.io.errors import file_error_context, input_error
from lskd.io.files import parse_json


def obtain(arguments: argparse.Namespace, official: str, where: str, limit: int | None = None) -> tuple[Path, str]:
    """Where the archive lies, downloaded if it has to be, and the name that it has at its origin.

    Args:
        arguments: with ``archive``, ``url``, ``sha256`` and ``dest``; a download is kept beside ``dest``.
        official: the archive's name, such as ``de-en.tgz``.
        where: where people get it from.
        limit: the most bytes that a download may have, :data:`tgz.MAX_BYTES` if not given.

    Raises:
        InputError: neither its path nor its address is given, or the address does not give it.
    """
    if arguments.archive:
        return arguments.archive, arguments.archive.name
    if not arguments.url:
        raise input_error("--archive", "not given", f"must be the path of {official}, {where}; or --url, its address")
    # The address is part of the file's name, so that what is there already is known to come from it.
    address = hashlib.sha256(arguments.url.encode()).hexdigest()[:8]
    path = arguments.dest.parent / f"{official.removesuffix('.tgz')}.{address}.tgz"
    if not path.exists():
        download(arguments.url, path, arguments.sha256, limit)
    return path, Path(urllib.parse.urlsplit(arguments.url).path).name or official


def checksum_argument(text: str) -> str:
    """A SHA-256 in hexadecimal, for argparse."""
    if not re.fullmatch("[0-9a-fA-F]{64}", text):
        raise argparse.ArgumentTypeError(f"{text!r} (must be 64 hexadecimal digits)")
    return text.lower()


def already_prepared(dest: Path, parameters: dict[str, Any]) -> bool:
    """Whether ``dest`` holds the outcome of these ``parameters``, by its ``manifest.json``.

    Raises:
        InputError: ``dest`` holds something else, which is left as it is.
    """
    if not dest.exists() or (dest.is_dir() and not any(dest.iterdir())):
        return False
    try:
        found = dict(parse_json((dest / "manifest.json").read_text(encoding="utf-8"))["parameters"])
    except (OSError, ValueError, KeyError, TypeError):
        raise input_error("--dest", dest, "exists and was not made by this command; name a new directory") from None
    different = sorted(key for key in parameters.keys() | found.keys() if parameters.get(key) != found.get(key))
    if different:
        changes = ", ".join(f"{key} {found.get(key)} instead of {parameters.get(key)}" for key in different)
        raise input_error("--dest", dest, f"was made with {changes}; name a new directory")
    return True


@contextlib.contextmanager
def building(dest: Path) -> Iterator[Path]:
    """A directory beside ``dest`` that takes its place when the block ends well, and is removed when not.

    A kill leaves it behind, hidden, as ``.DEST.*.partial``; ``dest`` is not there then.
    """
    with file_error_context(dest):
        dest.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{dest.name}.", suffix=".partial", dir=dest.parent))
        beside.chmod(0o755)
        try:
            yield beside
            os.replace(beside, dest)  # an empty directory at dest is replaced, anything else is refused by the system
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise
