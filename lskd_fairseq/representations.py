"""Record a translation model's representations of the target tokens of a split: features, class moments, entropy.

    lskd nmt representations --data data-bin/help.en-de --path runs/student/checkpoint_best.pt \
        --split train valid

The features are the inputs of the output projection with teacher forcing, a vector for each target token, end of
sentence included; a class is a token of the vocabulary. Every sentence is there once, in the order of the data, so two
models have the same labels on a split. The files ``checkpoint_best.train.representations.safetensors`` and
``checkpoint_best.validation.representations.safetensors`` beside the checkpoint are for the ``lskd`` command.

By default the tokens that begin a word (``▁the``) keep their features, or all tokens if none does; ``--keep-classes``
and ``--least`` choose others.
"""

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fairseq.data import LanguagePairDataset
from fairseq.tasks.translation import TranslationTask
from torch import Tensor, nn
from tqdm import tqdm

from lskd.io.argument_types import positive
from lskd.io.errors import InputError, OneLineParser, help_texts, input_error, run_command
from lskd.measure import representation_command
from lskd.records.fingerprints import weights_fingerprint
from lskd_fairseq.batch import Batch, collate
from lskd_fairseq.checkpoints import checkpoint_config, made_with, read_checkpoint, readable, smoothing_of_training
from lskd_fairseq.decoder_output import output_features, output_projection
from lskd_fairseq.run_record import data_fingerprint
from lskd_fairseq.score import load, start_command
from lskd_fairseq.splits import load_split
from lskd_fairseq.translate import validate_limits

WINDOW = 1024  # consecutive sentences that are batched by length, and whose features are in memory together


def decoder_features(model: nn.Module, batch: Batch, pad: int) -> Tensor:
    """Features (N, d) of the N target tokens of a batch, sentence by sentence, without padding.

    Raises:
        InputError: the decoder has no output projection.
    """
    if (features := output_features(model, batch["net_input"], batch["target"].ne(pad))) is None:
        raise InputError(f"{type(model).__name__}: has no output projection")
    return features


def windows(
    model: nn.Module, dataset: LanguagePairDataset, pad: int, max_tokens: int, first: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Features (N, d) and target tokens (N,) of consecutive sentences, a window at a time, in the order of a split.

    Args:
        model: in eval mode, on the device to use.
        dataset: the sentence pairs.
        pad: index of the padding token.
        max_tokens: target or source tokens of a batch, padding included; a longer sentence is a batch of its own.
        first: the sentence to begin with, a multiple of :data:`WINDOW`.
    """
    device = next(model.parameters()).device
    for start in range(first, len(dataset), WINDOW):
        window = range(start, min(start + WINDOW, len(dataset)))
        features: dict[int, Tensor] = {}
        labels: dict[int, Tensor] = {}
        for numbers in batches(dataset, window, max_tokens):
            batch = collate(dataset, numbers, device)
            lengths = batch["target"].ne(pad).sum(1).tolist()
            found = decoder_features(model, batch, pad).split(lengths)
            tokens = batch["target"][batch["target"].ne(pad)].split(lengths)
            order = batch["id"].tolist()  # by length
            features.update(zip(order, found, strict=True))
            labels.update(zip(order, tokens, strict=True))
        yield torch.cat([features[number] for number in window]), torch.cat([labels[number] for number in window])


def batches(dataset: LanguagePairDataset, numbers: range, max_tokens: int) -> Iterator[list[int]]:
    """Group these sentences into batches of similar length, each sentence once."""
    lengths = {number: max(dataset.size(number)) for number in numbers}
    batch: list[int] = []
    for number in sorted(numbers, key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[number] > max_tokens:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


@torch.no_grad()
def check_decoder(model: nn.Module, dataset: LanguagePairDataset, pad: int, path: str) -> nn.Linear:
    """The output projection of a model on the CPU, checked to give the model's logits from its features.

    Raises:
        InputError: it does not, or the decoder has none.
    """
    layer: Any = output_projection(model.decoder)
    if layer is None:
        has = f"has a {type(model.decoder).__name__}"
        raise input_error(
            "--path", path, f"{has}, must have an output projection: transformer, transformer_align or lightconv"
        )
    try:
        batch = collate(dataset, range(min(2, len(dataset))))
        logits = model(**batch["net_input"])[0][batch["target"].ne(pad)]
        features = decoder_features(model, batch, pad)
    except Exception as error:  # an untrusted configuration may make the model raise anything
        raise input_error("--path", path, f"cannot be run on these data: {readable(error)}") from error
    representation_command.check_last_layer(layer, features, logits, "--path", path)  # whether it is linear
    return layer


def kept_classes(
    arguments: argparse.Namespace, symbols: Sequence[str], dataset: LanguagePairDataset
) -> list[int] | None:
    """The tokens whose features are kept, see the top of this file; None means all.

    Raises:
        InputError: ``--keep-classes`` has a name that is not in the vocabulary.
    """
    chosen = representation_command.class_indices(arguments.keep_classes, symbols)
    if arguments.least is None:
        return chosen or [token for token, symbol in enumerate(symbols) if symbol.startswith("▁")] or None
    counts = np.zeros(len(symbols), np.int64)
    targets: Any = dataset.tgt
    for number in range(len(dataset)):
        np.add.at(counts, targets[number].numpy(), 1)
    candidates = range(len(symbols)) if chosen is None else chosen
    return [token for token in candidates if counts[token] >= arguments.least]


def main(arguments: argparse.Namespace) -> None:
    """Record every split."""
    device = start_command(arguments)
    representation_command.check_options(arguments)
    path = arguments.path
    files = representation_command.output_files(arguments, Path(path), arguments.split)
    if not Path(arguments.data).is_dir():
        raise input_error("--data", arguments.data or "''", "must be a directory made by fairseq-preprocess")
    model, task = load(path, arguments.data)
    model.eval().requires_grad_(False)
    dictionary = task.target_dictionary
    for split in arguments.split:
        load_split(task, arguments.data, split)
        validate_limits([model], task, split)
    layer = check_decoder(model, task.dataset(arguments.split[0]), dictionary.pad(), path)
    chosen = {split: kept_classes(arguments, dictionary.symbols, task.dataset(split)) for split in arguments.split}
    origin = origin_of(path, arguments, task)
    model.to(device)
    for split, file in files.items():
        dataset = task.dataset(split)
        found = representation_command.Recording(dictionary.symbols, layer, arguments, chosen[split])
        with torch.inference_mode(), tqdm(total=len(dataset), desc=split, unit="sentence", disable=None) as bar:
            for features, labels in windows(model, dataset, dictionary.pad(), arguments.max_tokens):
                found.add(features, labels)
                bar.update(min(WINDOW, len(dataset) - bar.n))
        found.write(file, representation_command.provenance(**origin, split=split))


def origin_of(path: str, arguments: argparse.Namespace, task: TranslationTask) -> dict[str, Any]:
    """The arguments of :func:`lskd.measure.representation_command.provenance` for a checkpoint."""
    state = read_checkpoint(path)
    cfg = checkpoint_config(state)
    return {
        "made": made_with(state),
        "kind": "translation",
        "layer": "decoder",
        "model": getattr(cfg.model, "arch", None) or getattr(cfg.model, "_name", None),
        "checkpoint": path,
        "moving_average": False,
        "fingerprint": weights_fingerprint(state["model"]),
        "label_smoothing": smoothing_of_training(state, len(task.target_dictionary))["alpha"],
        "seed": getattr(cfg.get("common"), "seed", None),
        "data": {
            "path": os.path.abspath(arguments.data),
            "dataset": f"{task.cfg.source_lang}-{task.cfg.target_lang}",
            "fingerprint": data_fingerprint([arguments.data]),
            "preparation": {},
        },
    }


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = OneLineParser(prog="lskd_fairseq.representations", **help_texts("--data DIR --path CHECKPOINT", __doc__))
    command.add_argument("--data", required=True, help="data directory that the model was trained on")
    command.add_argument("--path", required=True, metavar="CHECKPOINT", help="checkpoint of a Transformer or lightconv")
    command.add_argument("--split", nargs="+", default=["valid"], help="which splits (default valid)")
    command.add_argument("--max-tokens", type=positive, default=4000, help="tokens of a batch (default 4000)")
    command.add_argument("--cpu", action="store_true", help="do not use a GPU")
    representation_command.add_options(command, temperatures=(1,), keep_per_class=200)
    command.add_argument(
        "--least",
        type=positive,
        metavar="N",
        help="keep the features of all classes with at least N samples, not only of tokens that begin a word",
    )
    return command


if __name__ == "__main__":
    run_command(parser(), main)
