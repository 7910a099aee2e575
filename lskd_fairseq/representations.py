"""Record what a translation model makes of the target tokens of a split: decoder features, class moments, entropy.

    lskd nmt representations --data data-bin/help.en-de --path runs/student/checkpoint_best.pt \
        --split train valid

The features are what enters the output projection, teacher-forced, one vector for each target token, end of sentence
included; a class is a token of the vocabulary. Every sentence is there once, in the order of the data, so two models
on one split have the same labels. Beside the checkpoint it leaves ``checkpoint_best.train.representations.safetensors``
and ``checkpoint_best.validation.representations.safetensors``, for the ``lskd`` command.

Unless ``--keep-classes`` or ``--least`` says which classes keep their features, those are the tokens that begin a word
(``▁the``); a data set without such tokens keeps all.
"""

import argparse
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from fairseq import utils
from torch import Tensor, nn
from tqdm import tqdm

from lskd.io.errors import OneLineParser, input_error, positive, run_command
from lskd.measure import recording
from lskd.records.fingerprints import weights_fingerprint
from lskd_fairseq.checkpoints import checkpoint_config, made_with, read_checkpoint, readable, smoothing_of_training
from lskd_fairseq.decoder_output import output_features, output_projection
from lskd_fairseq.records import data_fingerprint
from lskd_fairseq.score import load
from lskd_fairseq.splits import load_split
from lskd_fairseq.translate import checked_limits

WINDOW = 1024  # consecutive sentences that are sorted by length, and whose features are in memory together


def decoder_features(model: nn.Module, batch: dict, pad: int) -> Tensor:
    """(N, d) features of the N target tokens of a batch, sentence by sentence, without padding."""
    return output_features(model, batch["net_input"], batch["target"].ne(pad))


def windows(model: nn.Module, dataset, pad: int, max_tokens: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """Features (N, d) and target tokens (N,) of consecutive sentences, all of a split in its order.

    Args:
        model: in eval mode, on the device to use.
        dataset: fairseq's, of sentence pairs.
        pad: the symbol for padding.
        max_tokens: target or source tokens of a batch, padding included; a longer sentence is a batch of its own.
        first: the sentence to begin with, a multiple of :data:`WINDOW`.
    """
    device = next(model.parameters()).device
    for start in range(first, len(dataset), WINDOW):
        window = range(start, min(start + WINDOW, len(dataset)))
        features: dict[int, Tensor] = {}
        labels: dict[int, Tensor] = {}
        for numbers in batches(dataset, window, max_tokens):
            batch = dataset.collater([dataset[number] for number in numbers])
            batch = utils.move_to_cuda(batch) if device.type == "cuda" else batch
            lengths = batch["target"].ne(pad).sum(1).tolist()
            found = decoder_features(model, batch, pad).split(lengths)
            tokens = batch["target"][batch["target"].ne(pad)].split(lengths)
            numbers = batch["id"].tolist()  # fairseq has sorted them by length
            features.update(zip(numbers, found, strict=True))
            labels.update(zip(numbers, tokens, strict=True))
        yield torch.cat([features[number] for number in window]), torch.cat([labels[number] for number in window])


def batches(dataset, numbers: range, max_tokens: int) -> Iterator[list[int]]:
    """These sentences in batches of like length, every one once."""
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
def check_decoder(model: nn.Module, dataset, pad: int, path: str) -> nn.Linear:
    """The output projection of a model on the CPU, which must give the model's logits from its features.

    Raises:
        InputError: it does not, or the decoder has none.
    """
    if (layer := output_projection(model.decoder)) is None:
        has = f"has a {type(model.decoder).__name__}"
        raise input_error(
            "--path", path, f"{has}, must have an output projection: transformer, transformer_align or lightconv"
        )
    try:
        batch = dataset.collater([dataset[number] for number in range(min(2, len(dataset)))])
        logits = model(**batch["net_input"])[0][batch["target"].ne(pad)]
        features = decoder_features(model, batch, pad)
    except Exception as error:  # whatever a configuration makes of a model
        raise input_error("--path", path, f"cannot be run on these data: {readable(error)}") from error
    recording.check_last_layer(layer, features, logits, "--path", path)
    return layer


def kept_classes(arguments: argparse.Namespace, symbols: list[str], dataset) -> list[int] | None:
    """The tokens whose features are kept, see the top of this file; None: all.

    Raises:
        InputError: ``--keep-classes`` names none.
    """
    chosen = recording.class_indices(arguments.keep_classes, symbols)
    if arguments.least is None:
        return chosen or [token for token, symbol in enumerate(symbols) if symbol.startswith("▁")] or None
    counts = np.zeros(len(symbols), np.int64)
    for number in range(len(dataset)):
        np.add.at(counts, dataset.tgt[number].numpy(), 1)
    chosen = range(len(symbols)) if chosen is None else chosen
    return [token for token in chosen if counts[token] >= arguments.least]


def main(arguments: argparse.Namespace) -> None:
    """Record every split."""
    logging.getLogger("fairseq").setLevel(logging.WARNING)
    recording.check_options(arguments)
    path = arguments.path
    files = recording.output_files(arguments, Path(path), arguments.split)
    if not Path(arguments.data).is_dir():
        raise input_error("--data", arguments.data or "''", "must be a directory made by fairseq-preprocess")
    if not Path(arguments.data).is_dir():
        raise input_error("--data", arguments.data or "''", "must be a directory made by fairseq-preprocess")
    model, task = load(path, arguments.data)
    model.eval().requires_grad_(False)
    dictionary = task.target_dictionary
    for split in arguments.split:
        load_split(task, arguments.data, split)
        checked_limits([model], task, split)
    layer = check_decoder(model, task.dataset(arguments.split[0]), dictionary.pad(), path)
    chosen = {split: kept_classes(arguments, dictionary.symbols, task.dataset(split)) for split in arguments.split}
    origin = origin_of(path, arguments, task)
    model.to("cuda" if torch.cuda.is_available() and not arguments.cpu else "cpu")
    for split, file in files.items():
        dataset = task.dataset(split)
        found = recording.Recording(dictionary.symbols, layer, arguments, chosen[split])
        with torch.inference_mode(), tqdm(total=len(dataset), desc=split, unit="sentence", disable=None) as bar:
            for features, labels in windows(model, dataset, dictionary.pad(), arguments.max_tokens):
                found.add(features, labels)
                bar.update(min(WINDOW, len(dataset) - bar.n))
        found.write(file, recording.provenance(**origin, split=split))


def origin_of(path: str, arguments: argparse.Namespace, task) -> dict:
    """What the checkpoint tells of the model, in the words of :func:`lskd.measure.recording.provenance`."""
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
    command = OneLineParser(prog="lskd_fairseq.representations", description=__doc__.split("\n")[0])
    command.add_argument("--data", required=True, help="data directory that the model was trained on")
    command.add_argument("--path", required=True, metavar="CHECKPOINT", help="checkpoint of a Transformer or lightconv")
    command.add_argument("--split", nargs="+", default=["valid"], help="which splits (default valid)")
    command.add_argument("--max-tokens", type=positive, default=4000, help="tokens of a batch (default 4000)")
    command.add_argument("--cpu", action="store_true", help="do not use a GPU")
    recording.add_options(command, temperatures=(1,), keep_per_class=200)
    command.add_argument(
        "--least",
        type=positive,
        metavar="N",
        help="keep features of all classes with at least N samples, not of beginnings of words alone",
    )
    return command


if __name__ == "__main__":
    run_command(parser(), main)
