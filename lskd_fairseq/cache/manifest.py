"""``cache.json``: what a cached teacher is of, and the size and SHA-256 of every file of it.

It may come from anyone: nothing in it is run, and every field is checked as it is taken.
"""

import functools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lskd.io.errors import input_error
from lskd.io.files import sha256, write_json
from lskd.io.json_fields import LARGEST, Fields, read_fields

SCHEMA_VERSION = 1
MANIFEST, PROJECTION = "cache.json", "projection.safetensors"
FORMATS = ("features", "topk")
DTYPES = {"fp16": np.float16, "fp32": np.float32}
ESTIMATE = {"alpha": Fields.number, "low": Fields.number, "high": Fields.number, "revision": Fields.number}
ESTIMATE |= {"verdict": Fields.needed_text, "reason": Fields.needed_text}


@dataclass(frozen=True)
class File:
    """A file of a cache; ``split`` is None, and there are no sentences, in the projection's."""

    name: str
    bytes: int
    sha256: str
    split: str | None = None
    sentences: int = 0
    tokens: int = 0


@dataclass(frozen=True)
class Manifest:
    """What ``cache.json`` holds.

    Attributes:
        format: ``features`` or ``topk``.
        dtype: ``fp16`` or ``fp32``, of features or values.
        topk: k; 0 in the format ``features``.
        temperatures: of the normalisers of the format ``topk``.
        vocabulary: V.
        dimension: d.
        teacher: ``paths``, ``weights_fingerprint`` and ``label_smoothing``, as a run record has it.
        data: ``path``, ``fingerprint``, ``pair`` and ``dictionaries``, as a run record has them.
        splits: the number of sentences of each, in the order in which they are written.
        versions: of the packages that made it.
        files: in the order in which they are written.
        finished: whether all of them are there.
    """

    format: str
    dtype: str
    topk: int
    temperatures: list[float]
    vocabulary: int
    dimension: int
    teacher: dict
    data: dict
    splits: dict[str, int]
    versions: dict
    files: list[File]
    finished: bool = False

    def row_tensors(self) -> dict[str, tuple[np.dtype, int]]:
        """The tensors of a shard that have a row for each token: type and width of each."""
        dtype = np.dtype(DTYPES[self.dtype])
        if self.format == "features":
            return {"features": (dtype, self.dimension)}
        symbols = np.min_scalar_type(self.vocabulary - 1)
        normalisers = (np.dtype(np.float32), len(self.temperatures))
        return {"values": (dtype, self.topk), "symbols": (symbols, self.topk), "log_normalisers": normalisers}

    def identity(self) -> dict:
        """What decides the content, in the words of the command that makes it."""
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
        """Target tokens of all splits."""
        return sum(file.tokens for file in self.files)

    def bytes(self) -> int:
        """Of all files."""
        return sum(file.bytes for file in self.files)

    def done(self, split: str) -> int:
        """Sentences of a split that are in files."""
        return sum(file.sentences for file in self.files if file.split == split)


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write ``cache.json`` in one step."""
    write_json(directory / MANIFEST, {"schema_version": SCHEMA_VERSION} | asdict(manifest))


def read_manifest(directory: Path, argument: str = "--teacher-cache") -> Manifest:
    """Read ``cache.json``, finished or not, field by field; ``argument`` is what errors call the directory.

    Raises:
        InputError: there is none, it is of a newer version of the project, or a field is not as it should be.
    """
    path = Path(directory) / MANIFEST
    if not path.is_file():
        raise input_error(argument, directory, "must be a directory made by `python -m lskd_fairseq.cache_teacher`")
    fields = read_fields(path)
    if (version := _whole(fields, "schema_version", 1)) > SCHEMA_VERSION:
        raise input_error(argument, directory, f"has schema version {version}, read is up to {SCHEMA_VERSION}")
    manifest = Manifest(
        format=_one_of(fields, "format", FORMATS),
        dtype=_one_of(fields, "dtype", DTYPES),
        topk=_whole(fields, "topk"),
        temperatures=_temperatures(fields),
        vocabulary=_whole(fields, "vocabulary", 1),
        dimension=_whole(fields, "dimension", 1),
        teacher=_teacher(fields.object("teacher")),
        data=_data(fields.object("data")),
        splits={name: _whole(fields.object("splits"), name) for name in fields.object("splits").content},
        versions={name: fields.object("versions").text(name) for name in fields.object("versions").content},
        files=[_file(each) for each in fields.objects("files")],
        finished=fields.content.get("finished") is True,
    )
    if not (manifest.topk <= manifest.vocabulary and bool(manifest.topk) == (manifest.format == "topk")):
        raise input_error(str(path), f"topk = {manifest.topk}", "must be at most the vocabulary, and 0 without a top-k")
    if manifest.finished and any(manifest.done(split) != number for split, number in manifest.splits.items()):
        raise input_error(str(path), "files", "must hold the sentences of every split")
    return manifest


def _teacher(fields: Fields) -> dict:
    smoothing = fields.object("label_smoothing")
    known = {"alpha": smoothing.number("alpha"), "epsilon": smoothing.number("epsilon")}
    known["source"] = smoothing.needed_text("source")
    if "estimate" in smoothing:
        estimate = smoothing.object("estimate")
        known["estimate"] = {name: read(estimate, name) for name, read in ESTIMATE.items()}
    fingerprint = fields.needed_text("weights_fingerprint")
    return {"paths": fields.texts("paths"), "weights_fingerprint": fingerprint, "label_smoothing": known}


def _data(fields: Fields) -> dict:
    dictionaries = {side: fields.object("dictionaries").needed_text(side) for side in ("source", "target")}
    return {name: fields.needed_text(name) for name in ("path", "fingerprint", "pair")} | {"dictionaries": dictionaries}


def _file(fields: Fields) -> File:
    name = fields.needed_text("name")
    if name != Path(name).name or name.startswith("."):
        raise input_error(fields.where, f"name = {name}", "must be the name of a file in the directory")
    numbers = {each: _whole(fields, each) for each in ("bytes", "sentences", "tokens")}
    return File(name, sha256=fields.needed_text("sha256"), split=fields.text("split"), **numbers)


def _temperatures(fields: Fields) -> list[float]:
    found = fields.content.get("temperatures")
    numbers = found if isinstance(found, list) else [None]
    if not all(isinstance(each, int | float) and 0 < each <= LARGEST for each in numbers):
        raise input_error(fields.where, "temperatures", "must be a list of numbers above 0")
    return [float(each) for each in numbers]


def _whole(fields: Fields, name: str, least: int = 0) -> int:
    value = fields.needed_number(name)
    if value != int(value) or value < least:
        raise input_error(fields.where, f"{name} = {value}", f"must be a whole number, at least {least}")
    return int(value)


def _one_of(fields: Fields, name: str, known: Sequence[str]) -> str:
    if (value := fields.needed_text(name)) not in known:
        raise input_error(fields.where, f"{name} = {value}", f"must be {' or '.join(known)}")
    return value


def damage(directory: Path, files: Sequence[File]) -> tuple[int, str] | None:
    """The number of the first file that is not as it was written, and what is wrong with it; None where all are.

    All of them are read, with a progress bar where that takes a while.
    """
    total = sum(file.bytes for file in files)
    about = {"desc": f"check {Path(directory).name}", "unit": "B", "unit_scale": True, "delay": 2, "disable": None}
    with tqdm(total=total, leave=False, **about) as bar:
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
    """Computed once for a file that has not changed since: options are checked first, then the cache is used."""
    return sha256(path)
