"""Translate a split with a model: every sentence, in the order of the data."""

from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from fairseq import utils
from fairseq.data import LanguagePairDataset
from fairseq.data.data_utils import batch_by_size
from fairseq.models import BaseFairseqModel
from fairseq.tasks.translation import TranslationTask
from tqdm import tqdm

from lskd.io.errors import InputError
from lskd_fairseq.batch import Batch, collate
from lskd_fairseq.text import Decode


def translate(
    models: Sequence[BaseFairseqModel],
    task: TranslationTask,
    split: str,
    detokenise: Decode,
    beam: int = 5,
    lenpen: float = 1.0,
    max_tokens: int = 8000,
) -> list[str]:
    """Translate every sentence of a loaded split by beam search.

    Args:
        models: an ensemble, on the device to use, whose probabilities are averaged.
        task: the translation task whose ``split`` is loaded.
        detokenise: turns tokens into text.
        beam: width of the beam.
        lenpen: exponent of the length by which a translation's log-probability is divided.
        max_tokens: source tokens of a batch, padding included.

    Returns:
        One line of text for each sentence, in the order of the split.

    Raises:
        InputError: sentences would be left out, for example because they are longer than the model's maximum.
    """
    validate_limits(models, task, split)
    for model in models:
        model.eval()
    sentences = range(len(task.dataset(split)))
    found = hypotheses(models, task, split, sentences, Search(beam, lenpen, max_tokens))
    bar = tqdm(found, desc=f"translate {split}", total=len(sentences), unit="sentence", disable=None)
    lines = {number: detokenise(best["tokens"]) for number, (best, *_) in bar}
    return [lines[number] for number in sentences]


@dataclass(frozen=True)
class Search:
    """A beam search: its width, the exponent of the length penalty, and the source tokens of a batch with padding."""

    beam: int = 5
    lenpen: float = 1.0
    max_tokens: int = 8000


@torch.no_grad()
def hypotheses(
    models: Sequence[BaseFairseqModel], task: TranslationTask, split: str, numbers: Sequence[int], search: Search
) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Translate some sentences of a loaded split, the longest last.

    Args:
        models: an ensemble in eval mode, on the device to use, whose probabilities are averaged.
        task: the translation task.
        split: the split that has the sentences.
        numbers: the indices of the sentences, from 0.
        search: the settings of the search.

    Yields:
        The index of each sentence, and its hypotheses as fairseq returns them, the best first.
    """
    dataset = task.dataset(split)
    settings = Namespace(beam=search.beam, lenpen=search.lenpen, max_len_a=1.2, max_len_b=10)
    generator = task.build_generator(models, settings)
    lengths = {number: max(dataset.size(number)) for number in numbers}
    ordered = np.array(sorted(numbers, key=lambda number: (lengths[number], number)), np.int64)
    limit = max(search.max_tokens, *lengths.values())
    device = next(models[0].parameters()).device
    for chosen in batch_by_size(ordered, num_tokens_fn=lengths.__getitem__, max_tokens=limit):
        batch = collate(dataset, chosen, device)
        yield from zip(batch["id"].tolist(), task.inference_step(generator, models, batch), strict=True)


def every_batch(
    models: Sequence[BaseFairseqModel], task: TranslationTask, split: str, max_tokens: int
) -> Iterable[Batch]:
    """The batches of a split, without leaving out any sentence.

    fairseq's default, batches of a multiple of eight sentences, silently leaves out the last few.

    Raises:
        InputError: sentences are longer than the model's maximum.
    """
    dataset = task.dataset(split)
    limits = validate_limits(models, task, split)
    longest = max((max(dataset.size(index)) for index in range(len(dataset))), default=1)
    iterator: Any = task.get_batch_iterator(
        dataset=dataset,
        max_tokens=max(max_tokens, longest),
        max_positions=limits,
        required_batch_size_multiple=1,
        disable_iterator_cache=True,
    )
    return iterator.next_epoch_itr(shuffle=False)


def validate_limits(models: Sequence[BaseFairseqModel], task: TranslationTask, split: str) -> tuple[int, int]:
    """The most source and target tokens that the models take, after checking that every sentence of a split fits.

    Raises:
        InputError: sentences are longer.
    """
    limits = utils.resolve_max_positions(task.max_positions(), *(model.max_positions() for model in models))
    check_lengths(task.dataset(split), split, limits)
    return limits


def check_lengths(
    dataset: LanguagePairDataset, split: str, limits: tuple[int, int] | Sequence[int], way_out: str = ""
) -> None:
    """Check that no sentence has more source or target tokens than ``limits``; ``way_out`` ends the message.

    Raises:
        InputError: a sentence has more.
    """
    _, too_long = dataset.filter_indices_by_size(np.arange(len(dataset)), limits)
    if len(too_long):
        raise InputError(
            f"{split}: {len(too_long)} sentences are longer than the model's {tuple(limits)} tokens (first: number "
            f"{too_long[0]}); none may be left out{way_out}"
        )
