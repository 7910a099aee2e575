"""Fetching and reading .tgz archives: checked, bounded, and never unpacked to disk."""

import gzip
import http.client
import io
import tarfile
import urllib.error
import urllib.parse
import urllib.request
import zlib
from pathlib import Path, PurePosixPath
from typing import IO

from tqdm import tqdm

from lskd.errors import bad
from lskd.files import replacing, sha256

MAX_BYTES = 200 * 10**6
TIMEOUT = 60  # seconds without an answer


def download(url: str, path: Path, checksum: str | None = None) -> None:
    """Fetch the .tgz file at ``url`` to ``path``, which appears when it is whole.

    Args:
        url: an https or file address.
        path: the file to make; its folder is made too.
        checksum: the SHA-256 that it must have, if known.

    Raises:
        InputError: another kind of address, also by redirection; no answer; or not what was asked for.
    """
    if urllib.parse.urlsplit(url).scheme not in ("https", "file"):
        raise bad("--url", url, "must begin with https:// or file://")
    try:
        with _opener().open(url, timeout=TIMEOUT) as answer:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as beside:
                _save(answer, beside, url)
                verify(beside, checksum, url)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        raise bad("--url", url, f"cannot be fetched: {error}") from None


def _save(answer: IO[bytes], path: Path, url: str) -> None:
    size, received = int(answer.headers.get("Content-Length") or 0), 0
    with (
        open(path, "wb") as file,
        tqdm(total=size or None, desc="download", unit="B", unit_scale=True, disable=None) as bar,
    ):
        while received <= MAX_BYTES and (block := answer.read(2**16)):
            if not received and not block.startswith(b"\x1f\x8b"):
                raise bad("--url", url, "gives something other than a .tgz file")
            received += file.write(block)
            bar.update(len(block))
    if received > MAX_BYTES:
        raise bad("--url", url, f"gives more than {MAX_BYTES // 10**6} MB")
    if not received or (size and received != size):  # urllib does not tell when a connection ends early
        raise bad("--url", url, f"gave {received} of {size or 'an unknown number of'} bytes; try again")


def verify(path: Path, checksum: str | None, name: object) -> str:
    """The SHA-256 of the file at ``path``, which an error calls ``name``.

    Raises:
        InputError: the file cannot be read, or a ``checksum`` is given and is another.
    """
    try:
        found = sha256(path)
    except OSError as error:
        raise bad("--archive", name, f"cannot be read: {error.strerror}") from None
    if checksum not in (None, found):
        raise bad("--sha256", checksum, f"{name} has {found}")
    return found


def read_tgz(path: Path, folder: str) -> dict[str, bytes]:
    """The files that are directly in ``folder`` of the archive, by name.

    Raises:
        InputError: the archive cannot be read, holds more than :data:`MAX_BYTES` unpacked, or holds anything but plain
            files and folders with names that stay inside it. One such member is enough, in whichever folder it is.
    """
    files, total = {}, 0
    try:
        with gzip.open(path) as packed:
            content = packed.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise bad("--archive", path, f"must not hold more than {MAX_BYTES // 10**6} MB unpacked")
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            for member in archive:
                name = PurePosixPath(member.name)
                if name.is_absolute() or ".." in name.parts:
                    raise bad("--archive", path, f"member {member.name!r} points out of the archive")
                if not member.isfile() and not member.isdir():
                    raise bad("--archive", path, f"member {member.name!r} is neither a plain file nor a folder")
                total += member.size
                if member.size < 0 or total > MAX_BYTES:  # a sparse file claims more than the archive holds of it
                    raise bad("--archive", path, f"member {member.name!r} has an impossible size, {member.size} bytes")
                if member.isfile() and name.parts[:-1] == (folder,):
                    files[name.name] = archive.extractfile(member).read()
            # tarfile takes a broken header for the end, and what comes after it would be missing without a word.
            if content[archive.offset : archive.offset + tarfile.BLOCKSIZE].strip(b"\0"):
                raise bad("--archive", path, f"is damaged at byte {archive.offset} of the unpacked archive")
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise bad("--archive", path, f"cannot be read as a .tgz file: {error}") from None
    return files


def _opener() -> urllib.request.OpenerDirector:
    # urllib's own opener would follow a redirection to plain http.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.HTTPSHandler,
        urllib.request.FileHandler,
    ):
        opener.add_handler(handler())
    return opener
