"""Check that a checkpoint fits the data it is to be used on: one check for all commands.

A teacher with another vocabulary, another pair of languages or the reverse direction still runs, with wrong outputs. So
it is compared with the data before anything is built.
"""

import functools
import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from fairseq import utils
from fairseq.data import Dictionary, data_utils

from lskd.io.errors import InputError, input_error
from lskd.records.runs import look_up
from lskd_fairseq.checkpoints import State, check_finite, checkpoint_config, made_with, readable, setting
from lskd_fairseq.text import load_dictionary

logger = logging.getLogger(__name__)
SIDES = {"source": "encoder", "target": "decoder"}


@dataclass(frozen=True)
class PairedData:
    """A data directory, read in one direction.

    Attributes:
        directory: the first one of several.
        pair: ``en-de``; None for a task of several pairs.
        dictionaries: those of ``source`` and ``target``.
    """

    directory: Path
    pair: str | None
    dictionaries: dict[str, Dictionary]

    @classmethod
    def of(cls, task: Any) -> "PairedData":
        """The data that a task of fairseq reads."""
        cfg = task.cfg or task.args  # some of fairseq's tasks have no structured configuration
        source, target = setting(cfg, "source_lang"), setting(cfg, "target_lang")
        dictionaries = {"source": task.source_dictionary, "target": task.target_dictionary}
        directory = Path(utils.split_paths(cfg.data)[0])
        return cls(directory, f"{source}-{target}" if source and target else None, dictionaries)


def read_paired_data(directory: str, source: str | None, target: str | None) -> PairedData:
    """Read a data directory for these languages; a language that is None is taken from the file names, as in fairseq.

    Raises:
        InputError: not a directory made by fairseq-preprocess, or one without a dictionary of one of the languages.
    """
    if not directory or not Path(directory).is_dir():
        raise input_error("data", directory or "''", "must be a directory made by fairseq-preprocess")
    if source is None or target is None:
        source, target = data_utils.infer_language_pair(directory)
        if source is None or target is None:
            valid = "has no files of a language pair, such as train.en-de.en.bin; must be made by fairseq-preprocess"
            raise input_error("data", directory, valid)
    dictionaries = {}
    for side, language in (("source", source), ("target", target)):
        path = Path(directory) / f"dict.{language}.txt"
        if not path.is_file():
            raise input_error("data", directory, f"has no {path.name}; must be made by fairseq-preprocess")
        dictionaries[side] = load_dictionary(path)
    return PairedData(Path(directory), f"{source}-{target}", dictionaries)


@dataclass(frozen=True)
class TrainingData:
    """What is known about the data that a checkpoint was trained on.

    Attributes:
        named: their directory, as stored in the checkpoint.
        found: the data themselves; None if they are gone or have changed.
        pair: ``en-de``; None if unknown.
        fingerprints: those of the ``source`` and ``target`` dictionaries; None if unknown.
        rows: the sizes of the ``source`` and ``target`` vocabularies, from the embeddings; None if unknown.
    """

    named: str
    found: PairedData | None
    pair: str | None
    fingerprints: dict[str, str | None]
    rows: dict[str, int | None]


def training_data(path: str, state: State, argument: str) -> TrainingData:
    """What is known about a checkpoint's training data, from the checkpoint and from their directory.

    A relative directory is looked up in the parents of the checkpoint, where its training may have been started, and
    never in the working directory of this command, which may have another directory of the same name.

    Raises:
        InputError: the checkpoint's configuration is incomplete.
    """
    made = made_with(state).get("data")
    try:
        task = checkpoint_config(state).task
        named, *_ = utils.split_paths(str(setting(task, "data")))
        languages = [each and str(each) for each in (setting(task, "source_lang"), setting(task, "target_lang"))]
    except Exception as error:  # OmegaConf and fairseq may raise anything
        raise input_error(argument, path, f"has an incomplete configuration: {readable(error)}") from None
    rows: dict[str, int | None] = {}
    fingerprints: dict[str, str | None] = {}
    for side, module in SIDES.items():
        embedding = state["model"].get(f"{module}.embed_tokens.weight")
        rows[side] = None if embedding is None else len(embedding)
        fingerprint = look_up(made, "dictionaries", side)
        fingerprints[side] = None if fingerprint is None else str(fingerprint)
    places = [Path(named)] if Path(named).is_absolute() else [above / named for above in Path(path).resolve().parents]
    if isinstance(absolute := look_up(made, "path"), str):
        places = [Path(absolute)]
    found = next(filter(None, (_same_data(place, languages, rows, fingerprints) for place in places)), None)
    source, target = languages
    pair = look_up(made, "pair") or (f"{source}-{target}" if source and target else None)
    if pair is None and found is not None:
        pair = found.pair
    return TrainingData(named, found, None if pair is None else str(pair), fingerprints, rows)


def _same_data(
    place: Path,
    languages: Sequence[str | None],
    rows: Mapping[str, int | None],
    fingerprints: Mapping[str, str | None],
) -> PairedData | None:
    """The data in a directory, if they may be those of a training with these embeddings and dictionaries."""
    try:
        data = read_paired_data(str(place), *languages)
    except (InputError, OSError):
        return None
    for side, dictionary in data.dictionaries.items():
        if rows[side] not in (None, len(dictionary)):
            return None
        if fingerprints[side] not in (None, dictionary_fingerprint(dictionary)):  # prepared again since
            return None
    return data


def check_fit(path: str, state: State, data: PairedData, argument: str) -> str | None:
    """Check that a checkpoint has the languages, direction and vocabulary of the data, and finite weights.

    Args:
        path: the checkpoint.
        state: its content.
        data: the data that it is to be used on.
        argument: the checkpoint's name in error messages.

    Returns:
        A line on what could not be compared, or was compared with data that may not be its own; None if all was.

    Raises:
        InputError: it does not fit.
    """
    theirs = training_data(path, state, argument)
    if theirs.pair and data.pair and theirs.pair != data.pair:
        raise input_error(argument, path, f"translates {theirs.pair}, must translate {data.pair}")
    for side, dictionary in data.dictionaries.items():
        if theirs.rows[side] not in (None, len(dictionary)):
            rows = f"{theirs.rows[side]} symbols in its {side} embedding"
            raise input_error(
                argument, path, f"has {rows}, must have the {len(dictionary)} of the data's {side} dictionary"
            )
        if theirs.found is not None:
            _check_symbols(theirs.found, side, dictionary.symbols, path, argument)
        elif theirs.fingerprints[side] not in (None, dictionary_fingerprint(dictionary)):
            raise input_error(
                argument, path, f"has other symbols than the data's {side} dictionary, or in another order"
            )
    check_finite(path, state, argument)
    return _doubt(path, theirs)


def _check_symbols(theirs: PairedData, side: str, ours: Sequence[str], path: str, argument: str) -> None:
    symbols, its = theirs.dictionaries[side].symbols, f"its {side} dictionary in {theirs.directory}"
    for index, (their_symbol, our_symbol) in enumerate(zip(symbols, ours, strict=False)):
        if their_symbol != our_symbol:
            found = f"has {their_symbol!r} as symbol {index} of {its}"
            raise input_error(argument, path, f"{found}, the data have {our_symbol!r}")
    if len(symbols) != len(ours):
        raise input_error(argument, path, f"has {len(symbols)} symbols in {its}, must have the {len(ours)} of the data")


def _doubt(path: str, theirs: TrainingData) -> str | None:
    """One line on what :func:`check_fit` could not compare, or not with certainty; None if it could compare all."""
    known = None not in theirs.fingerprints.values()
    if theirs.found is None:
        unknown = ([] if known else ["symbols beyond their number"]) + ([] if theirs.pair else ["languages"])
        if unknown:
            return f"{path}: trained on {theirs.named}, which is not there; not compared: {', '.join(unknown)}"
    elif not known and not Path(theirs.named).is_absolute():
        return f"{path}: trained on {theirs.named}, a relative path; compared with {theirs.found.directory}"
    return None


@functools.cache
def say_once(line: str) -> None:
    """Log a warning once, and with several processes only in the first."""
    several = torch.distributed.is_available() and torch.distributed.is_initialized()
    if not several or not torch.distributed.get_rank():
        logger.warning(line)


def dictionary_fingerprint(dictionary: Dictionary) -> str:
    """SHA-256 over a dictionary's symbols in their order."""
    return hashlib.sha256("\n".join(dictionary.symbols).encode()).hexdigest()
