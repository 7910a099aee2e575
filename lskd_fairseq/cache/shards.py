"""The files of a cached teacher, which :mod:`lskd_fairseq.cache_teacher` writes and students read.

    DIR/cache.json                the manifest, with the SHA-256 of every file
    DIR/projection.safetensors    of the format ``features``: ``weight`` (V, d), perhaps ``bias`` (V,), float32
    DIR/00000-train.safetensors   consecutive sentences of a split, and a row for each of their target tokens

A shard holds ``hashes`` (S,) and ``offsets`` (S + 1,), int64: a hash of each sentence pair, by which it is found
whatever batch it is in, and its first row. The rows are ``features`` (N, d); in the format ``topk`` they are ``values``
(N, k) relative to the row's largest logit, their indices ``symbols`` (N, k), and ``log_normalisers`` (N, number of
temperatures), float32: log Σ_v exp((z_v - max z)/T) over the whole vocabulary.

The files may be untrusted: everything is checked before it is used.
"""

import functools
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lskd.io.errors import InputError, error_context, input_error
from lskd.io.tensor_files import mapped_tensors
from lskd_fairseq.cache.manifest import MANIFEST, PROJECTION, File, damage, read_manifest

Array = NDArray[Any]
ARGUMENT = "--teacher-cache"


class Shards:
    """The sentences of a finished cache; their rows stay on disk until they are used.

    Args:
        directory: the cache's directory.

    Attributes:
        manifest: its contents.
        projection: of the format ``features``: ``weight`` (V, d) and perhaps ``bias`` (V,), float32.

    Raises:
        InputError: not a cache, not finished, or a file has changed; the message names it.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory)
        self.manifest = read_manifest(self.directory, ARGUMENT)
        if not self.manifest.finished:
            raise input_error(ARGUMENT, directory, "must be finished; the command that makes it resumes")
        if found := damage(self.directory, self.manifest.files):
            path = self.directory / self.manifest.files[found[0]].name
            raise input_error(ARGUMENT, path, f"{found[1]}; the command that made the cache makes it again")
        shards = [file for file in self.manifest.files if file.split is not None]
        tensors = [self._shard(file) for file in shards]
        self.projection = self._projection()
        self._rows = {name: [each[name] for each in tensors] for name in self.manifest.row_tensors()}
        self._shard_of = np.repeat(np.arange(len(shards)), [file.sentences for file in shards])
        none = np.empty(0, np.int64)
        self._first = np.concatenate([none, *(each["offsets"][:-1] for each in tensors)])
        self._length = np.concatenate([none, *(np.diff(each["offsets"]) for each in tensors)])
        hashes = np.concatenate([none, *(each["hashes"] for each in tensors)])
        self._order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._order]

    def find(self, hashes: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """The positions (B,) of sentences in the cache, by hash (B,) and number of target tokens (B,).

        None if one of them is missing. Two sentences with the same hash are equal, source and target.
        """
        place = np.searchsorted(self._hashes, hashes)
        if (place == len(self._hashes)).any() or (self._hashes[place] != hashes).any():
            return None
        sentences = self._order[place]
        return sentences if (self._length[sentences] == lengths).all() else None

    def take(self, name: str, sentences: NDArray[np.int64]) -> Array:
        """The rows (N, …) of sentences, concatenated, from one of the tensors that have a row for each token."""
        shards, lengths = self._rows[name], self._length[sentences]
        taken = np.empty((lengths.sum(), *shards[0].shape[1:]), shards[0].dtype)
        begin = 0
        places = zip(self._shard_of[sentences].tolist(), self._first[sentences].tolist(), lengths.tolist(), strict=True)
        for shard, first, length in places:
            taken[begin : begin + length] = shards[shard][first : first + length]
            begin += length
        return taken

    def _projection(self) -> dict[str, Array]:
        if self.manifest.format != "features":
            return {}
        path = self.directory / PROJECTION
        if all(file.name != PROJECTION for file in self.manifest.files):
            raise input_error(str(self.directory / MANIFEST), "files", f"must hold {PROJECTION}")
        expected = {"weight": (self.manifest.vocabulary, self.manifest.dimension), "bias": (self.manifest.vocabulary,)}
        with error_context(path):
            tensors = mapped_tensors(path)
            if "weight" not in tensors:
                raise ValueError("has no weight")
            for name, tensor in tensors.items():
                if tensor.shape != expected.get(name) or tensor.dtype != np.float32:
                    raise ValueError(f"{name}: {tensor.dtype} {tensor.shape} (must be float32 {expected.get(name)})")
        return {name: np.array(tensor) for name, tensor in tensors.items()}

    def _shard(self, file: File) -> dict[str, Array]:
        path, int64 = self.directory / file.name, np.dtype(np.int64)
        expected: dict[str, tuple[np.dtype[Any], tuple[int, ...]]]
        expected = {"hashes": (int64, (file.sentences,)), "offsets": (int64, (file.sentences + 1,))}
        for name, (dtype, width) in self.manifest.row_tensors().items():
            expected[name] = (dtype, (file.tokens, width))
        with error_context(path):
            tensors = {name: np.asarray(tensor) for name, tensor in mapped_tensors(path).items()}
            if missing := expected.keys() - tensors.keys():
                raise ValueError(f"has no {min(missing)}")
            for name, (dtype, shape) in expected.items():
                if tensors[name].dtype != dtype or tensors[name].shape != shape:
                    found = f"{tensors[name].dtype} {tensors[name].shape}"
                    raise ValueError(f"{name}: {found} (must be {dtype} {shape})")
            offsets = tensors["offsets"]
            if offsets[0] != 0 or offsets[-1] != file.tokens or (np.diff(offsets) < 0).any():
                raise ValueError(f"offsets: must rise from 0 to {file.tokens}")
            largest = tensors["symbols"].max(initial=0) if "symbols" in tensors else 0
            if largest >= self.manifest.vocabulary:
                raise ValueError(f"symbols: {largest} (must be below {self.manifest.vocabulary})")
        return tensors


def open_cache(directory: str | os.PathLike[str]) -> Shards:
    """Open the cache in a directory; one that has not changed since this process opened it is not read again.

    Raises:
        InputError: as for :class:`Shards`.
    """
    path = Path(directory)
    try:
        files = tuple((each.name, each.stat().st_size, each.stat().st_mtime_ns) for each in sorted(path.iterdir()))
    except OSError as error:
        made = "must be a directory made by `lskd nmt cache`"
        raise input_error("--teacher-cache", directory, f"{made}: {error.strerror}") from None
    return _opened(path, files)


@functools.lru_cache(maxsize=8)
def _opened(path: Path, _: tuple[tuple[str, int, int], ...]) -> Shards:
    try:
        return Shards(path)
    except OSError as error:
        raise InputError(f"--teacher-cache: {path} ({error})") from None
