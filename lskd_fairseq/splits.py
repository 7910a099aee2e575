"""Load the splits of binarised data and check that their files are complete: fairseq does not."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from fairseq.data import LanguagePairDataset
from fairseq.data.indexed_dataset import IndexedCachedDataset, MMapIndexedDataset
from fairseq.tasks.translation import TranslationTask

from lskd.io.errors import input_error


def load_split(
    task: TranslationTask, data: str, split: str, combine: bool = False, argument: str = "--split", epoch: int = 1
) -> None:
    """Load a split into a task and check it.

    Args:
        task: the task.
        data: the data directory, for error messages.
        split: such as ``train``.
        combine: also load its continuations (``train1``, …), as training does.
        argument: the split's name in error messages.
        epoch: of several data directories, the one whose training split is loaded.

    Raises:
        InputError: there is no such split, or it is damaged.
    """
    try:
        task.load_dataset(split, epoch, combine)
        for part in cached_parts(task.dataset(split)):
            part.prefetch(range(len(part)))  # it is empty before
        check_tokens(task, split)
    except FileNotFoundError:
        raise input_error(argument, split, f"{data} has no such split") from None
    except Exception as error:  # a damaged file may raise anything inside fairseq
        reason = " ".join(str(error).split()) or "it is cut off"
        raise input_error(argument, split, f"{data} must hold it as fairseq-preprocess wrote it: {reason}") from None


def check_tokens(task: TranslationTask, split: str) -> None:
    """Check that a loaded split has all of its tokens, and that these are in the dictionary: fairseq does not.

    Raises:
        ValueError: a token is missing or not in the dictionary, a sentence is empty, or there are no sentences.
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


def cached_parts(pairs: LanguagePairDataset) -> list[IndexedCachedDataset]:
    """The files of sentence pairs in fairseq's format of before 2019, which its trainer cannot read."""
    return [part for side in (pairs.src, pairs.tgt) for part in _files(side, IndexedCachedDataset)]


def _files(dataset: Any, kind: type[Any]) -> Iterator[Any]:
    """The files of type ``kind`` in a data set, which may be nested."""
    if isinstance(dataset, kind):
        yield dataset
    for inner in getattr(dataset, "datasets", None) or [getattr(dataset, "dataset", None)]:
        if inner is not None:
            yield from _files(inner, kind)
