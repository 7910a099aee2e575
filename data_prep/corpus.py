"""Write split sentence pairs as a directory that fairseq trains on, with raw references for scoring.

DEST/
  train.en-de.{en,de}.{bin,idx} …   for fairseq, with dict.en.txt and dict.de.txt (the same vocabulary)
  sentencepiece.model               the joint subword model, learnt on the train split
  raw/{train,valid,test}.{en,de}    the raw sentences, one per line: references for scoring
  manifest.json                     counts, parameters, origin, checksums, versions
"""

import argparse
import importlib.metadata
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sentencepiece

from lskd.io.argument_types import joinable_path, positive
from lskd.io.errors import InputError, file_error_context, input_error
from lskd.io.files import building, sha256, write_json

PAIRS = ("en-de", "en-ru")
SPLITS = ("train", "valid", "test")
PACKAGES = ("lskd", "sentencepiece", "sacremoses", "fairseq-fixed")


@dataclass(frozen=True)
class Pairs:
    """The sentence pairs of a split: line i of ``target`` is the translation of line i of ``source``."""

    source: list[str]
    target: list[str]

    def __len__(self) -> int:
        return len(self.source)


def write_data_bin(
    dest: Path,
    pair: str,
    splits: Mapping[str, Pairs],
    vocab_size: int,
    parameters: dict[str, Any],
    origin: dict[str, Any],
    tokenise: dict[str, Callable[[str], str]] | None = None,
) -> dict[str, Any]:
    """Learn the subwords, binarise with ``fairseq-preprocess`` and write the directory atomically.

    Args:
        dest: the directory to make; it appears when it is complete.
        pair: ``en-de`` or ``en-ru``, source first.
        splits: the pairs of ``train``, ``valid`` and ``test``, as raw text.
        vocab_size: number of subwords of the joint model.
        parameters: what determines the result, for the manifest and for :func:`archives.already_prepared`.
        origin: the origin of the sentences, with checksums and licence.
        tokenise: a function for each language, applied to a sentence before the subwords; None for raw text.

    Returns:
        The manifest.

    Raises:
        InputError: a split is empty, or the sentences are too few for the vocabulary.
    """
    source_lang, target_lang = pair.split("-")
    for name, pairs in splits.items():
        if not len(pairs):
            raise InputError(f"the {name} split is empty: more sentences are needed")
    with building(dest) as directory, tempfile.TemporaryDirectory() as scratch:
        raw, pieces = directory / "raw", Path(scratch)
        raw.mkdir()
        prepared = {}
        for name, pairs in splits.items():
            for language, lines in ((source_lang, pairs.source), (target_lang, pairs.target)):
                _write_lines(raw / f"{name}.{language}", lines)
                prepared[name, language] = [tokenise[language](line) for line in lines] if tokenise else lines
        model = directory / "sentencepiece.model"
        _learn_subwords([*prepared["train", source_lang], *prepared["train", target_lang]], vocab_size, model)
        processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
        counts: dict[str, dict[str, int]] = {}
        for (name, language), lines in prepared.items():
            encoded = processor.encode(lines, out_type=str)
            _write_lines(pieces / f"{name}.{language}", [" ".join(words) for words in encoded])
            counts.setdefault(name, {"sentences": len(lines)})[f"{language}_subwords"] = sum(map(len, encoded))
        _binarise(pieces, directory, source_lang, target_lang)
        manifest = {
            "pair": pair,
            "parameters": parameters,
            "origin": origin,
            "counts": counts,
            "sha256": {
                str(path.relative_to(directory)): sha256(path)
                for path in sorted(directory.rglob("*"))
                if path.is_file()
            },
            "versions": {"python": sys.version.split()[0]}
            | {package: importlib.metadata.version(package) for package in PACKAGES},
        }
        write_json(directory / "manifest.json", manifest)
    return manifest


def add_options(options: argparse.ArgumentParser, vocab_size: int) -> None:
    """Add the options for preparing a corpus; ``vocab_size`` is the default."""
    options.add_argument("--pair", choices=PAIRS, required=True, help="source and target language")
    options.add_argument("--dest", type=joinable_path, required=True, help="directory to make; must be new")
    options.add_argument(
        "--vocab-size",
        type=positive,
        default=vocab_size,
        help=f"subwords of the joint model (default {vocab_size})",
    )
    options.add_argument("--max-words", type=positive, help="leave out pairs with more words on either side")
    options.add_argument("--max-pairs", type=positive, help="keep this many train pairs, valid and test in proportion")


def describe(manifest: dict[str, Any]) -> str:
    """A summary in one line: the pair, and the number of sentences of each split."""
    counts = ", ".join(f"{count['sentences']} {name}" for name, count in manifest["counts"].items())
    return f"{manifest['pair']}: {counts} sentences, {manifest['parameters']['vocab_size']} subwords"


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    with file_error_context(path):  # some are in a scratch directory, which may be on another disk
        path.write_text("".join(line + "\n" for line in lines), encoding="utf-8", newline="\n")


def _learn_subwords(sentences: Sequence[str], vocab_size: int, path: Path) -> None:
    # One thread and a fixed order: the same sentences give the same model. The text is not normalised, so that decoded
    # text can equal the raw reference.
    sentences = sorted(sentences)
    random.Random(0).shuffle(sentences)
    try:
        with open(path, "wb") as writer:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(sentences),
                model_writer=writer,
                model_type="bpe",
                vocab_size=vocab_size,
                character_coverage=1.0,
                normalization_rule_name="identity",
                num_threads=1,
                minloglevel=2,
            )
    except RuntimeError as error:
        reason = str(error).rsplit("] ", 1)[-1].strip()
        raise input_error("--vocab-size", vocab_size, f"cannot be learnt from these sentences: {reason}") from None


def _binarise(pieces: Path, dest: Path, source_lang: str, target_lang: str) -> None:
    command = [sys.executable, "-m", "fairseq_cli.preprocess", "--joined-dictionary", "--workers", "1"]
    command += ["--source-lang", source_lang, "--target-lang", target_lang, "--destdir", str(dest)]
    for name in SPLITS:
        command += [f"--{name}pref", str(pieces / name)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        *_, last = result.stderr.strip().splitlines() or [""]
        if found := re.match(r"\w+Error: \[Errno (\d+)\] ([^:]+)", last):
            raise OSError(int(found[1]), found[2])
        raise RuntimeError("fairseq-preprocess failed:\n" + result.stderr[-2000:])
    (dest / "preprocess.log").unlink(missing_ok=True)  # it only holds the name of the scratch directory
