"""Download and read .tgz archives: checked, limited in size, and never unpacked to disk."""

import gzip
import http.client
import tarfile
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Self

from tqdm import tqdm

from lskd.io.errors import InputError, file_error_context, input_error
from lskd.io.files import replacing, sha256

MAX_BYTES = 200 * 10**6
MAX_MEMBERS = 100_000
MAX_HEADER_BYTES = 2**20
TIMEOUT = 60  # seconds without a response


def download(url: str, path: Path, checksum: str | None = None, limit: int | None = None) -> None:
    """Download the .tgz file at ``url`` to ``path``, which appears when it is complete.

    Args:
        url: an https or file address.
        path: the file to make, with its folder.
        checksum: the expected SHA-256, if known.
        limit: the most bytes that it may have, by default :data:`MAX_BYTES`.

    Raises:
        InputError: another kind of address, also by redirection; no response; or not the expected file.
    """
    if urllib.parse.urlsplit(url).scheme not in ("https", "file"):
        raise input_error("--url", url, "must begin with https:// or file://")
    with file_error_context(path):
        try:
            with _opener().open(url, timeout=TIMEOUT) as answer:
                path.parent.mkdir(parents=True, exist_ok=True)
                with replacing(path) as beside:
                    _save(answer, beside, url, MAX_BYTES if limit is None else limit)
                    verify(beside, checksum, url)
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            raise input_error("--url", url, f"cannot be fetched: {error}") from None


def _save(answer: Any, path: Path, url: str, limit: int) -> None:
    size, received = int(answer.headers.get("Content-Length") or 0), 0
    with (
        open(path, "wb") as file,
        tqdm(total=size or None, desc="download", unit="B", unit_scale=True, disable=None) as bar,
    ):
        while received <= limit and (block := answer.read(2**16)):
            if not received and not block.startswith(b"\x1f\x8b"):
                raise input_error("--url", url, "gives something other than a .tgz file")
            received += file.write(block)
            bar.update(len(block))
    if received > limit:
        raise input_error("--url", url, f"gives more than {limit // 10**6} MB")
    if not received or (size and received != size):  # urllib does not report a connection that ends early
        raise input_error("--url", url, f"gave {received} of {size or 'an unknown number of'} bytes; try again")


def verify(path: Path, checksum: str | None, name: object) -> str:
    """The SHA-256 of the file at ``path``, which is called ``name`` in error messages.

    Raises:
        InputError: the file cannot be read, or has another SHA-256 than a given ``checksum``.
    """
    try:
        found = sha256(path)
    except OSError as error:
        raise input_error("--archive", name, f"cannot be read: {error.strerror}") from None
    if checksum not in (None, found):
        raise input_error("--sha256", checksum, f"{name} has {found}")
    return found


def read_tgz(path: Path, folder: str) -> dict[str, bytes]:
    """Read the files directly in ``folder`` of the archive, by name.

    Raises:
        InputError: as :func:`plain_files`, with the limit :data:`MAX_BYTES`.
    """
    inside = plain_files(path, lambda name: name.parts[:-1] == (folder,), MAX_BYTES, MAX_BYTES)
    return {name.name: content for name, content in inside}


def plain_files(
    path: Path, wanted: Callable[[PurePosixPath], bool], limit: int, largest: int
) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Read the wanted files of the archive one by one, as it is decompressed.

    An archive may turn out to be invalid at its last byte: do not use the files before the iteration has ended.

    Args:
        path: the .tgz file.
        wanted: whether to read the file of this name in the archive.
        limit: most bytes of the unpacked archive.
        largest: most bytes of a wanted file.

    Yields:
        Name and content of each wanted file.

    Raises:
        InputError: the archive cannot be read, holds more than ``limit`` or :data:`MAX_MEMBERS`, or has a member,
            wanted or not, that is not a plain file or folder, or whose name points outside.
    """
    try:
        with gzip.open(path) as packed:
            unpacked: Any = _Limited(packed, limit, path)
            try:
                with tarfile.open(fileobj=unpacked, mode="r|", tarinfo=_Header) as archive:
                    yield from _plain_files(archive, wanted, limit, largest, path)
            except InputError:
                unpacked.drain()  # damaged compressed data may be the cause, and is then reported instead
                raise
            unpacked.drain()  # the checksum comes last
    except InputError:
        raise
    except (OSError, EOFError, zlib.error, tarfile.TarError, ValueError) as error:  # ValueError: bad header numbers
        raise input_error("--archive", path, f"cannot be read as a .tgz file: {error}") from None


def _plain_files(
    archive: tarfile.TarFile, wanted: Callable[[PurePosixPath], bool], limit: int, largest: int, path: Path
) -> Iterator[tuple[PurePosixPath, bytes]]:
    total = 0
    try:
        for number, member in enumerate(archive, 1):
            name = PurePosixPath(member.name)
            if number > MAX_MEMBERS:
                raise input_error("--archive", path, f"must not hold more than {MAX_MEMBERS} files and folders")
            if name.is_absolute() or ".." in name.parts or "\0" in member.name:
                raise input_error("--archive", path, f"member {member.name!r} points out of the archive")
            if not member.isfile() and not member.isdir():
                raise input_error("--archive", path, f"member {member.name!r} is neither a plain file nor a folder")
            total += member.size
            if member.size < 0 or total > limit:  # a sparse file claims more than the archive holds of it
                raise input_error(
                    "--archive", path, f"member {member.name!r} has an impossible size, {member.size} bytes"
                )
            if member.isfile() and wanted(name):
                if member.size > largest:
                    raise input_error(
                        "--archive", path, f"member {member.name!r} has {member.size} bytes, above {largest}"
                    )
                file = archive.extractfile(member)
                assert file is not None
                yield name, file.read()
    except _BrokenHeader:
        raise input_error("--archive", path, f"is damaged at byte {archive.offset} of the unpacked archive") from None


class _Limited:
    """A file that can be read only up to a limit."""

    def __init__(self, file: gzip.GzipFile, limit: int, path: Path) -> None:
        self.file, self.left, self.limit, self.path = file, limit, limit, path

    def read(self, size: int) -> bytes:
        block = self.file.read(size)
        self.left -= len(block)
        if self.left < 0:
            raise input_error("--archive", self.path, f"must not hold more than {self.limit // 10**6} MB unpacked")
        return block

    def drain(self) -> None:
        while self.read(2**20):
            pass


class _BrokenHeader(tarfile.TarError):
    pass


class _Header(tarfile.TarInfo):
    """Raises an error for a broken header: tarfile takes it for the end, and would silently skip the rest.

    A header with a long name or attributes, which tarfile reads into memory, must be short.
    """

    @classmethod
    def frombuf(cls, buf: Any, encoding: str, errors: str) -> Self:
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if buf.strip(b"\0"):
                raise _BrokenHeader(str(error)) from None
            raise
        if header.type not in (*tarfile.REGULAR_TYPES, tarfile.DIRTYPE) and not 0 <= header.size <= MAX_HEADER_BYTES:
            raise _BrokenHeader(f"a header of {header.size} bytes")
        return header


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
