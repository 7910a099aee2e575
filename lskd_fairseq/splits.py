"""The splits of binarised data, loaded and found whole: fairseq believes every file."""

from collections.abc import Iterator

import numpy as np
from fairseq.data.indexed_dataset import IndexedCachedDataset, MMapIndexedDataset

from lskd.io.errors import input_error


def load_split(task, data: str, split: str, combine: bool = False, argument: str = "--split", epoch: int = 1) -> None:
    """Load a split into a task; with ``combine`` also what follows it, as ``train1`` does ``train`` in a training.

    ``argument`` is what errors call the split. Of several data directories, ``epoch`` says whose training split.

    Raises:
        InputError: there is no such split, or it is damaged.
    """
    try:
        task.load_dataset(split, epoch, combine)
        for part in cached_parts(task.dataset(split)):
            part.prefetch(range(len(part)))  # nothing is there before
        check_tokens(task, split)
    except FileNotFoundError:
        raise input_error(argument, split, f"{data} has no such split") from None
    except Exception as error:  # a damaged file may raise anything inside fairseq
        reason = " ".join(str(error).split()) or "it is cut off"
        raise input_error(argument, split, f"{data} must hold it as fairseq-preprocess wrote it: {reason}") from None


def check_tokens(task, split: str) -> None:
    """Check that every token of a loaded split is there and a symbol of its dictionary: fairseq does not.

    Raises:
        ValueError: one is not, a sentence has none, or there is no sentence.
    """
    dataset = task.dataset(split)
    if not len(dataset):
        raise ValueError("it has no sentences")
    for side, dictionary in ((dataset.src, task.source_dictionary), (dataset.tgt, task.target_dictionary)):
        for part in _files(side, MMapIndexedDataset):
            index, buffer = part._index, np.frombuffer(part._bin_buffer, np.uint8)
            size = np.dtype(index.dtype).itemsize
            begin, length = index._pointers, index._sizes.astype(np.int64)
            whole = (length > 0) & (begin >= 0) & (begin % size == 0) & (begin <= len(buffer) - size * length)
            tokens = buffer[: len(buffer) // size * size].view(index.dtype)
            if not whole.all() or tokens.dtype.kind not in "iu":
                raise ValueError("the index does not fit the tokens")
            if len(tokens) and not 0 <= tokens.min() <= tokens.max() < len(dictionary):
                raise ValueError(f"tokens from {tokens.min()} to {tokens.max()}, of {len(dictionary)} symbols")


def cached_parts(pairs) -> list[IndexedCachedDataset]:
    """The files of sentence pairs that are in fairseq's format of before 2019, of which its trainer can read none."""
    return [part for side in (pairs.src, pairs.tgt) for part in _files(side, IndexedCachedDataset)]


def _files(dataset, kind: type) -> Iterator:
    """The files of a kind that a data set is made of."""
    if isinstance(dataset, kind):
        yield dataset
    for inner in getattr(dataset, "datasets", None) or [getattr(dataset, "dataset", None)]:
        if inner is not None:
            yield from _files(inner, kind)
