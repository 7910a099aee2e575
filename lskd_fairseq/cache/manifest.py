"""``cache.json``: the contents of a cached teacher, with the size and SHA-256 of each of its files.

It may be untrusted: nothing in it is executed, and every field is checked when it is read.
"""

import functools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import numpy as np
from msgspec import Meta
from tqdm import tqdm

from lskd.io.errors import input_error
from lskd.io.files import sha256, write_json
from lskd.io.schema import Count, Name, Positive, Text, Versioned, read_json
from lskd.measure.teacher_smoothing import LabelSmoothing

SCHEMA_VERSION = 1
MANIFEST, PROJECTION = "cache.json", "projection.safetensors"
DTYPES = {"fp16": np.float16, "fp32": np.float32}
Size = Annotated[int, Meta(ge=1, le=2**53)]


@dataclass(frozen=True)
class File:
    """A file of a cache; that of the projection has no ``split`` and no sentences."""

    name: Name
    bytes: Count
    sha256: Name
    split: Name | None = None
    sentences: Count = 0
    tokens: Count = 0

    def __post_init__(self) -> None:
        if self.name != Path(self.name).name or self.name.startswith("."):
            raise ValueError(f"name = {self.name}, must be the name of a file in the directory")


class Teacher(TypedDict):
    """The teacher whose outputs are cached."""

    paths: list[Name]
    weights_fingerprint: Name
    label_smoothing: LabelSmoothing


class Dictionaries(TypedDict):
    """Fingerprints of the dictionaries."""

    source: Name
    target: Name


class Data(TypedDict):
    """The data that the outputs are for."""

    path: Name
    fingerprint: Name
    pair: Name
    dictionaries: Dictionaries


@dataclass(frozen=True)
class Manifest:
    """The content of ``cache.json``.

    Attributes:
        format: ``features`` or ``topk``.
        dtype: ``fp16`` or ``fp32``, of features or values.
        topk: k; 0 in the format ``features``.
        temperatures: those of the normalisers in the format ``topk``.
        vocabulary: V.
        dimension: d.
        teacher: ``paths``, ``weights_fingerprint`` and ``label_smoothing``, as a run record has it.
        data: ``path``, ``fingerprint``, ``pair`` and ``dictionaries``, as a run record has them.
        splits: the number of sentences of each, in the order of writing.
        versions: those of the packages that made it.
        files: in the order of writing.
        finished: whether all files are written.
    """

    format: Literal["features", "topk"]
    dtype: Literal["fp16", "fp32"]
    topk: Count
    temperatures: list[Positive]
    vocabulary: Size
    dimension: Size
    teacher: Teacher
    data: Data
    splits: dict[Name, Count]
    versions: dict[Name, Text | None]
    files: list[File]
    finished: bool = False

    def row_tensors(self) -> dict[str, tuple[np.dtype[Any], int]]:
        """The dtype and width of the tensors of a shard that have a row for each token."""
        dtype = np.dtype(DTYPES[self.dtype])
        if self.format == "features":
            return {"features": (dtype, self.dimension)}
        symbols = np.min_scalar_type(self.vocabulary - 1)
        normalisers = (np.dtype(np.float32), len(self.temperatures))
        return {"values": (dtype, self.topk), "symbols": (symbols, self.topk), "log_normalisers": normalisers}

    def identity(self) -> dict[str, object]:
        """What determines the content, by the option names of the command that makes it."""
        return {
            "format": self.format,
            "dtype": self.dtype,
            "topk": self.topk,
            "temperatures": self.temperatures,
            "teacher": self.teacher["weights_fingerprint"],
            "data": self.data["fingerprint"],
            "splits": self.splits,
        }

    def tokens(self) -> int:
        """The number of target tokens in all splits."""
        return sum(file.tokens for file in self.files)

    def bytes(self) -> int:
        """The size of all files."""
        return sum(file.bytes for file in self.files)

    def done(self, split: str) -> int:
        """The number of a split's sentences that are in files."""
        return sum(file.sentences for file in self.files if file.split == split)


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write ``cache.json`` atomically."""
    write_json(directory / MANIFEST, {"schema_version": SCHEMA_VERSION} | asdict(manifest))


def read_manifest(directory: Path, argument: str = "--teacher-cache") -> Manifest:
    """Read ``cache.json``, finished or not; ``argument`` is the directory's name in error messages.

    Raises:
        InputError: it is missing, of a newer version of the project, or has an invalid field.
    """
    path = Path(directory) / MANIFEST
    if not path.is_file():
        raise input_error(argument, directory, "must be a directory made by `lskd nmt cache`")
    if (version := read_json(path, Versioned).schema_version) > SCHEMA_VERSION:
        raise input_error(argument, directory, f"has schema version {version}; supported up to {SCHEMA_VERSION}")
    manifest = read_json(path, Manifest)
    if not (manifest.topk <= manifest.vocabulary and bool(manifest.topk) == (manifest.format == "topk")):
        raise input_error(str(path), f"topk = {manifest.topk}", "must be at most the vocabulary, and 0 without a top-k")
    if manifest.finished and any(manifest.done(split) != number for split, number in manifest.splits.items()):
        raise input_error(str(path), "files", "must hold the sentences of every split")
    return manifest


def damage(directory: Path, files: Sequence[File]) -> tuple[int, str] | None:
    """The number of the first file that is missing or has changed, and what is wrong with it; None if there is none.

    All files are read, with a progress bar if that takes a while.
    """
    total, title = sum(file.bytes for file in files), f"check {Path(directory).name}"
    with tqdm(total=total, desc=title, unit="B", unit_scale=True, delay=2, leave=False, disable=None) as bar:
        for number, file in enumerate(files):
            path = Path(directory) / file.name
            if not path.is_file():
                return number, "is missing"
            status = path.stat()
            if status.st_size != file.bytes:
                return number, f"has {status.st_size} bytes, must have {file.bytes}"
            if _sha256(path, status.st_size, status.st_mtime_ns) != file.sha256:
                return number, f"has another SHA-256 than {MANIFEST} says"
            bar.update(file.bytes)
    return None


@functools.cache
def _sha256(path: Path, size: int, changed: int) -> str:
    """The SHA-256 of a file, computed once while it does not change: for checking options, then for using the cache."""
    return sha256(path)
