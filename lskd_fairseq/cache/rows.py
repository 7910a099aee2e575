"""The rows of a cached teacher: what a model makes of the sentences of a split, shard by shard."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from tqdm import tqdm

from lskd.io.errors import input_error
from lskd.measure.recording import CHUNK
from lskd_fairseq import representations
from lskd_fairseq.cache.manifest import DTYPES, Manifest
from lskd_fairseq.cache.teacher import sentence_hashes


@torch.inference_mode()
def shards(
    there: Manifest, split: str, model: nn.Module, layer: nn.Linear, dataset, pad: int, arguments
) -> Iterator[dict[str, np.ndarray]]:
    """The tensors of each shard of a split that is not there yet.

    Args:
        there: the cache, with the shards that are.
        split: its name.
        model: the teacher, in eval mode, on the device to use.
        layer: its output projection, there.
        dataset: of the split.
        pad: the symbol for padding.
        arguments: ``max_tokens`` of a batch, and ``shard_mb``: a shard ends with the window that brings it above that.
    """
    done, size = there.done(split), 0
    found: dict[str, list[np.ndarray]] = {}
    with tqdm(total=len(dataset), initial=done, desc=split, unit="sentence", disable=None) as bar:
        for features, _ in representations.windows(model, dataset, pad, arguments.max_tokens, done):
            window = range(done, min(done + representations.WINDOW, len(dataset)))
            done = window.stop
            tensors = index(dataset, window, pad) | stored(features, layer, there)
            for name, tensor in tensors.items():
                found.setdefault(name, []).append(tensor)
            size += sum(tensor.nbytes for tensor in tensors.values())
            bar.update(len(window))
            if done == len(dataset) or size > arguments.shard_mb * 1e6:
                shard = {name: np.concatenate(parts) for name, parts in found.items()}
                shard["offsets"] = np.concatenate([[0], np.cumsum(shard.pop("lengths"))])
                found, size = {}, 0
                yield shard


def index(dataset, window: range, pad: int) -> dict[str, np.ndarray]:
    """``hashes`` and ``lengths`` (target tokens) of the sentences of a window, int64."""
    found = {name: np.empty(len(window), np.int64) for name in ("hashes", "lengths")}
    for numbers in representations.batches(dataset, window, 4000):
        batch = dataset.collater([dataset[number] for number in numbers])
        place = batch["id"].numpy() - window.start
        found["hashes"][place] = sentence_hashes(batch["net_input"]["src_tokens"], batch["target"], pad).numpy()
        found["lengths"][place] = batch["target"].ne(pad).sum(1).numpy()
    return found


def stored(features: Tensor, layer: nn.Linear, there: Manifest) -> dict[str, np.ndarray]:
    """What a shard holds of features (N, d), with the types that it has.

    Raises:
        InputError: a feature that is not finite, or too large for the type.
    """
    features, dtype = features.float(), DTYPES[there.dtype]
    largest = features.abs().max().item() if len(features) else 0.0
    if not math.isfinite(largest):
        raise input_error("--path", there.teacher["paths"][0], "gives features that are not finite")
    if there.format == "features":
        if largest > float(np.finfo(dtype).max):
            raise input_error("--dtype", there.dtype, f"must be fp32: a feature is {largest:.3g}")
        return {"features": features.cpu().numpy().astype(dtype)}
    parts = [largest_logits(chunk, layer, there) for chunk in features.split(max(1, CHUNK // layer.out_features))]
    values, symbols, normalisers = (torch.cat(each).cpu().numpy() for each in zip(*parts, strict=True))
    types = {name: kind for name, (kind, _) in there.row_tensors().items()}
    values = np.maximum(values, np.finfo(dtype).min).astype(dtype)  # so far down they have no probability
    return {"values": values, "symbols": symbols.astype(types["symbols"]), "log_normalisers": normalisers}


def largest_logits(features: Tensor, layer: nn.Linear, there: Manifest) -> tuple[Tensor, Tensor, Tensor]:
    """The k largest logits (N, k) below the largest, their symbols, and the log-normalisers at each temperature."""
    logits = linear(features, layer.weight, layer.bias)
    logits -= logits.amax(1, keepdim=True)
    normalisers = [torch.logsumexp(logits / temperature, 1) for temperature in there.temperatures]
    return *logits.topk(there.topk, 1), torch.stack(normalisers, 1)
