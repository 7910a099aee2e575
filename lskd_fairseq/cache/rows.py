"""Compute the rows of a cached teacher: its features or top-k logits for the sentences of a split, shard by shard."""

import argparse
import math
from collections.abc import Iterator

import numpy as np
import torch
from fairseq.data import LanguagePairDataset
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import linear
from tqdm import tqdm

from lskd.io.errors import input_error
from lskd.measure.representation_command import CHUNK
from lskd_fairseq import representations
from lskd_fairseq.batch import collate
from lskd_fairseq.cache.cached_teacher import sentence_hashes
from lskd_fairseq.cache.manifest import DTYPES, Manifest
from lskd_fairseq.cache.shards import Array


@torch.inference_mode()
def shards(
    manifest: Manifest,
    split: str,
    model: nn.Module,
    layer: nn.Linear,
    dataset: LanguagePairDataset,
    pad: int,
    arguments: argparse.Namespace,
) -> Iterator[dict[str, Array]]:
    """Compute the tensors of each missing shard of a split.

    Args:
        manifest: the cache's manifest, with the shards written so far.
        split: the name of the split.
        model: the teacher, in eval mode, on the device to use.
        layer: its output projection, on the same device.
        dataset: the split.
        pad: index of the padding token.
        arguments: ``max_tokens`` of a batch, and ``shard_mb``: a shard ends with the window that exceeds this size.
    """
    done, size = manifest.done(split), 0
    found: dict[str, list[Array]] = {}
    with tqdm(total=len(dataset), initial=done, desc=split, unit="sentence", disable=None) as bar:
        for features, _ in representations.windows(model, dataset, pad, arguments.max_tokens, done):
            window = range(done, min(done + representations.WINDOW, len(dataset)))
            done = window.stop
            tensors = index(dataset, window, pad) | stored(features, layer, manifest)
            for name, tensor in tensors.items():
                found.setdefault(name, []).append(tensor)
            size += sum(tensor.nbytes for tensor in tensors.values())
            bar.update(len(window))
            if done == len(dataset) or size > arguments.shard_mb * 1e6:
                shard = {name: np.concatenate(parts) for name, parts in found.items()}
                shard["offsets"] = np.concatenate([[0], np.cumsum(shard.pop("lengths"))])
                found, size = {}, 0
                yield shard


def index(dataset: LanguagePairDataset, window: range, pad: int) -> dict[str, NDArray[np.int64]]:
    """``hashes`` and ``lengths`` (number of target tokens) of the sentences of a window."""
    found = {name: np.empty(len(window), np.int64) for name in ("hashes", "lengths")}
    for numbers in representations.batches(dataset, window, 4000):
        batch = collate(dataset, numbers)
        place = batch["id"].numpy() - window.start
        found["hashes"][place] = sentence_hashes(batch["net_input"]["src_tokens"], batch["target"], pad).numpy()
        found["lengths"][place] = batch["target"].ne(pad).sum(1).numpy()
    return found


def stored(features: Tensor, layer: nn.Linear, manifest: Manifest) -> dict[str, Array]:
    """The tensors that a shard stores for features (N, d), in its dtypes.

    Raises:
        InputError: a feature is not finite, or too large for the dtype.
    """
    features, dtype = features.float(), DTYPES[manifest.dtype]
    largest = features.abs().max().item() if len(features) else 0.0
    if not math.isfinite(largest):
        raise input_error("--path", manifest.teacher["paths"][0], "gives features that are not finite")
    if manifest.format == "features":
        if largest > float(np.finfo(dtype).max):
            raise input_error("--dtype", manifest.dtype, f"must be fp32: a feature is {largest:.3g}")
        return {"features": features.cpu().numpy().astype(dtype)}
    parts = [largest_logits(chunk, layer, manifest) for chunk in features.split(max(1, CHUNK // layer.out_features))]
    values, symbols, normalisers = (torch.cat(each).cpu().numpy() for each in zip(*parts, strict=True))
    types = {name: kind for name, (kind, _) in manifest.row_tensors().items()}
    values = np.maximum(values, np.finfo(dtype).min).astype(dtype)  # clamped logits have no probability anyway
    return {"values": values, "symbols": symbols.astype(types["symbols"]), "log_normalisers": normalisers}


def largest_logits(features: Tensor, layer: nn.Linear, manifest: Manifest) -> tuple[Tensor, Tensor, Tensor]:
    """The k largest logits (N, k) relative to the largest, their indices, and the log-normalisers at each T."""
    logits = linear(features, layer.weight, layer.bias)
    logits -= logits.amax(1, keepdim=True)
    normalisers = [torch.logsumexp(logits / temperature, 1) for temperature in manifest.temperatures]
    return *logits.topk(manifest.topk, 1), torch.stack(normalisers, 1)
