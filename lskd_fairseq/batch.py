"""Batches of sentence pairs, as fairseq's collater makes them."""

from collections.abc import Iterable
from typing import Any, TypedDict

import torch
from fairseq import utils
from fairseq.data import LanguagePairDataset
from torch import Tensor


class NetInput(TypedDict):
    """The model's inputs in a batch.

    Attributes:
        src_tokens: (batch, length) source tokens, padded.
        src_lengths: (batch,) source tokens of each sentence.
        prev_output_tokens: (batch, length) target tokens, shifted right for teacher forcing.
    """

    src_tokens: Tensor
    src_lengths: Tensor
    prev_output_tokens: Tensor


class Batch(TypedDict):
    """A batch of sentence pairs.

    Attributes:
        id: (batch,) positions in the data set.
        nsentences: number of sentences.
        ntokens: number of target tokens.
        net_input: arguments of the model.
        target: (batch, length) target tokens, padded.
    """

    id: Tensor
    nsentences: int
    ntokens: int
    net_input: NetInput
    target: Tensor


def collate(dataset: LanguagePairDataset, numbers: Iterable[int], device: torch.device | None = None) -> Batch:
    """Collate the sentences with these indices, which fairseq sorts by length; on the CPU if no device is given."""
    batch: Any = dataset.collater([dataset[number] for number in numbers])
    return batch if device is None else to_device(batch, device)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Move a batch to the current GPU, if the device is one; fairseq makes batches on the CPU."""
    move: Any = utils.move_to_cuda
    return move(batch) if device.type == "cuda" else batch
