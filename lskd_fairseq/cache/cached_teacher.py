"""A cached teacher, which is not run: it uses stored decoder features or top-k logits.

    lskd nmt cache --data DATA-BIN --path teacher.pt --dest DIR
    fairseq-train DATA-BIN --user-dir lskd_fairseq --criterion kd --temperature 1 --teacher-cache DIR …

Sentences are not augmented, so a teacher's outputs for their target tokens are the same in every epoch. The features
reproduce the logits of the whole vocabulary at any temperature, exact up to the stored precision. A sentence is found
by its content, so shuffling, loader workers, several processes and other splits need no bookkeeping.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fairseq.models import BaseFairseqModel
from numpy.typing import NDArray
from torch import Tensor

from lskd.io.errors import input_error
from lskd.loss.distillation import ProjectedLogits, TopkLogits
from lskd.measure.teacher_smoothing import of_several
from lskd.records.fingerprints import joint_fingerprint, weights_fingerprint
from lskd_fairseq.batch import Batch
from lskd_fairseq.cache.manifest import Manifest
from lskd_fairseq.cache.shards import Shards, open_cache
from lskd_fairseq.checkpoints import read_checkpoint
from lskd_fairseq.run_record import data_fingerprint
from lskd_fairseq.teacher_checks import PairedData, dictionary_fingerprint

# Odd constants of splitmix64 (Steele, Lea, Flood 2014), as int64.
STEP, FIRST, SECOND = -7046029254386353131, -4658895280553007687, -7723592293110705685


class CachedTeacher:
    """Cached teachers that give logits for the student's target positions, like :class:`lskd_fairseq.teacher.Teacher`.

    Args:
        directories: the caches; the probabilities of several are averaged.
        data: the student's data.
        temperature: T at which the logits will be used.
        teacher_topk: how many logits of each row will be used; 0 for all.

    Attributes:
        models: always empty.
        paths: the checkpoints that the caches were made from.
        fingerprints: a SHA-256 over the weights of each teacher.
        fingerprint: a joint fingerprint of all teachers.
        label_smoothing: the label smoothing they were trained with.

    Raises:
        InputError: a directory is not a complete cache, is for other dictionaries or languages, or lacks what T and k
            need.
    """

    def __init__(self, directories: Sequence[str], data: PairedData, temperature: float, teacher_topk: int) -> None:
        self.directories, target = directories, data.dictionaries["target"]
        self.caches = [open_cache(directory) for directory in directories]
        manifests = [cache.manifest for cache in self.caches]
        for directory, manifest in zip(directories, manifests, strict=True):
            if data.pair and manifest.data["pair"] != data.pair:
                found = f"is of a teacher that translates {manifest.data['pair']}"
                raise input_error("--teacher-cache", directory, f"{found}, must translate {data.pair}")
            fingerprints = manifest.data["dictionaries"]
            expected = {"source": fingerprints["source"], "target": fingerprints["target"]}
            for side, dictionary in data.dictionaries.items():
                if expected[side] != dictionary_fingerprint(dictionary):
                    raise input_error("--teacher-cache", directory, f"must be of the student's {side} dictionary")
            if manifest.vocabulary != len(target):
                raise input_error(
                    "--teacher-cache",
                    directory,
                    f"must be of the vocabulary of the student's data, {len(target)} entries",
                )
            _check_topk(directory, manifest, temperature, teacher_topk)
        if len(manifests) > 1 and any(manifest.format == "topk" for manifest in manifests):
            raise input_error("--teacher-cache", ":".join(directories), "must be one where it has the format topk")
        self.models: list[BaseFairseqModel] = []
        self.paths = [path for manifest in manifests for path in manifest.teacher["paths"]]
        self.fingerprints = [manifest.teacher["weights_fingerprint"] for manifest in manifests]
        self.fingerprint = joint_fingerprint(self.fingerprints)
        smoothing = [manifest.teacher["label_smoothing"] for manifest in manifests]
        self.label_smoothing: dict[str, Any] = of_several(smoothing)
        self.temperature, self.teacher_topk, self.pad = temperature, teacher_topk, target.pad()
        self._projections: dict[tuple[Path, torch.device, torch.dtype], dict[str, Tensor]] = {}

    def record(self) -> dict[str, Any]:
        """The teacher's entry in a run record."""
        caches = [
            {"path": directory, "format": cache.manifest.format, "dtype": cache.manifest.dtype}
            for directory, cache in zip(self.directories, self.caches, strict=True)
        ]
        return {
            "paths": self.paths,
            "fingerprint": self.fingerprint,
            "label_smoothing": self.label_smoothing,
            "cache": caches,
        }

    def check_training(self, data: Sequence[str], splits: Sequence[str], paths: Sequence[str]) -> None:
        """Check that a training can use the caches.

        Args:
            data: its data directories.
            splits: the splits that it reads.
            paths: the teacher's checkpoints, if they are given beside the cache.

        Raises:
            InputError: the caches are for other data, another teacher, or lack a split.
        """
        fingerprint = data_fingerprint(data)
        for directory, cache in zip(self.directories, self.caches, strict=True):
            manifest = cache.manifest
            if manifest.data["fingerprint"] != fingerprint:
                made = f"it was made from {manifest.data['path']}, and that differs"
                raise input_error("--teacher-cache", directory, f"must be of the data {':'.join(data)}: {made}")
            if missing := [split for split in splits if split not in manifest.splits]:
                has = ", ".join(manifest.splits)
                raise input_error("--teacher-cache", directory, f"must hold the split {missing[0]}, was made of {has}")
        if paths:
            weights = [read_checkpoint(path, "--teacher-path")["model"] for path in paths]
            theirs = joint_fingerprint([weights_fingerprint(each) for each in weights])
            if theirs != self.fingerprint:
                raise input_error(
                    "--teacher-cache", ":".join(self.directories), f"must be of the weights of {':'.join(paths)}"
                )

    @torch.no_grad()
    def logits(self, sample: Batch, keep: Tensor, like: Tensor) -> list[Tensor | ProjectedLogits] | TopkLogits:
        """The logits of each teacher at the kept positions.

        Args:
            sample: a fairseq batch.
            keep: (batch, length) bool, the target positions that are not padding, N in all.
            like: the student's output; the logits have its device and dtype.

        Returns:
            For each teacher, (N, V); in the format ``topk`` the k largest of each row.

        Raises:
            InputError: a sentence of the batch is not in the cache.
        """
        hashes = sentence_hashes(sample["net_input"]["src_tokens"], sample["target"], self.pad)
        hashes, lengths = torch.stack([hashes, keep.sum(1)]).cpu().numpy()
        found = []
        for directory, cache in zip(self.directories, self.caches, strict=True):
            if (sentences := cache.find(hashes, lengths)) is None:
                why = "are they of another split, truncated, or prepared otherwise?"
                has = ", ".join(cache.manifest.splits)
                raise input_error(
                    "--teacher-cache", directory, f"must hold the sentences of this batch, has {has}: {why}"
                )
            found.append((cache, sentences))
        if found[0][0].manifest.format == "topk":
            return self._topk(*found[0], like)
        return [self._projected(*each, like) for each in found]

    def _projected(self, cache: Shards, sentences: NDArray[np.int64], like: Tensor) -> ProjectedLogits:
        place = (cache.directory, like.device, like.dtype)
        if place not in self._projections:
            layer = {name: torch.from_numpy(tensor).to(like) for name, tensor in cache.projection.items()}
            self._projections[place] = layer
        features = torch.from_numpy(cache.take("features", sentences)).to(like.device).to(like.dtype)
        return ProjectedLogits(features, **self._projections[place])

    def _topk(self, cache: Shards, sentences: NDArray[np.int64], like: Tensor) -> TopkLogits:
        def rows(name: str, dtype: type[np.generic]) -> Tensor:
            return torch.from_numpy(cache.take(name, sentences).astype(dtype)).to(like.device)

        normaliser = None  # with --teacher-topk the kept logits are normalised again
        if not self.teacher_topk:
            column = cache.manifest.temperatures.index(self.temperature)
            normaliser = rows("log_normalisers", np.float32)[:, column]
        return TopkLogits(rows("values", np.float32), rows("symbols", np.int64), normaliser)


def _check_topk(directory: str, manifest: Manifest, temperature: float, teacher_topk: int) -> None:
    if manifest.format != "topk":
        return
    if teacher_topk > manifest.topk:
        raise input_error("--teacher-topk", teacher_topk, f"must be at most {manifest.topk}, of {directory}")
    if not teacher_topk and temperature not in manifest.temperatures:
        known = ", ".join(f"{each:g}" for each in manifest.temperatures)
        raise input_error("--temperature", temperature, f"must be of {known} with {directory}, or --teacher-topk given")


def sentence_hashes(source: Tensor, target: Tensor, pad: int) -> Tensor:
    """A hash (B,) int64 of each sentence pair, independent of padding; computed on the device of the tokens.

    Every token is mixed with its position and side, and the results are added: two different pairs have the same hash
    with a probability of 2⁻⁶⁴.

    Args:
        source: (B, length) tokens.
        target: (B, length) tokens.
        pad: index of the padding token.

    >>> one = sentence_hashes(torch.tensor([[1, 5, 6]]), torch.tensor([[7, 2]]), pad=1)
    >>> other = sentence_hashes(torch.tensor([[5, 6]]), torch.tensor([[7, 2, 1]]), pad=1)
    >>> torch.equal(one, other)
    True
    """
    total = torch.zeros(len(source), dtype=torch.int64, device=source.device)
    for side, tokens in enumerate((source, target)):
        kept = tokens.ne(pad)
        mixed = tokens.long() + (2 * kept.cumsum(1) + side) * STEP
        for shift, factor in ((30, FIRST), (27, SECOND), (31, 1)):
            mixed = (
                mixed ^ ((mixed >> shift) & (2 ** (64 - shift) - 1))
            ) * factor  # int64 shifts in copies of its sign bit
        total += (mixed * kept).sum(1)
    return total
