"""The steps from an archive to a data directory that are the same for every data set."""

import argparse
import hashlib
import re
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from tgz import download

from lskd.io.errors import InputError, input_error
from lskd.io.schema import read_json


class _Manifest(msgspec.Struct):
    parameters: dict[str, Any]


def obtain(arguments: argparse.Namespace, official: str, where: str, limit: int | None = None) -> tuple[Path, str]:
    """The path of the archive, which is downloaded if needed, and its name at its origin.

    Args:
        arguments: with ``archive``, ``url``, ``sha256`` and ``dest``; a download is kept beside ``dest``.
        official: the archive's name, such as ``de-en.tgz``.
        where: its source, for the error message.
        limit: the most bytes that a download may have, by default :data:`tgz.MAX_BYTES`.

    Raises:
        InputError: neither its path nor its address is given, or it cannot be downloaded.
    """
    if arguments.archive:
        return arguments.archive, arguments.archive.name
    if not arguments.url:
        raise input_error("--archive", "not given", f"must be the path of {official}, {where}; or --url, its address")
    # The address is part of the file's name, so that an existing file is known to come from it.
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


def parameters_of(dest: Path) -> dict[str, Any] | None:
    """The parameters in the ``manifest.json`` of a data directory; None if it has none."""
    try:
        return read_json(dest / "manifest.json", _Manifest).parameters
    except (OSError, InputError):
        return None


def already_prepared(dest: Path, parameters: Mapping[str, Any]) -> bool:
    """Whether ``dest`` was made with these ``parameters``, by its ``manifest.json``; if so, print that it is ready.

    Raises:
        InputError: ``dest`` holds something else, which is left as it is.
    """
    if not dest.exists() or (dest.is_dir() and not any(dest.iterdir())):
        return False
    if (found := parameters_of(dest)) is None:
        raise input_error("--dest", dest, "exists and was not made by this command; name a new directory")
    different = sorted(key for key in parameters.keys() | found.keys() if parameters.get(key) != found.get(key))
    if different:
        changes = ", ".join(f"{key} {found.get(key)} instead of {parameters.get(key)}" for key in different)
        raise input_error("--dest", dest, f"was made with {changes}; name a new directory")
    print(f"{dest} is ready")
    return True
