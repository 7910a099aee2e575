"""From split sentence pairs to a directory that fairseq trains on and the scorer can score on.

DEST/
  train.en-de.{en,de}.{bin,idx} …   what fairseq reads, with dict.en.txt and dict.de.txt (the same symbols)
  sentencepiece.model               the joint subword model, learnt on the train split
  raw/{train,valid,test}.{en,de}    the sentences as they were, one a line: what hypotheses are scored against
  manifest.json                     what this is made of: counts, parameters, checksums, versions
"""

import contextlib
import importlib.metadata
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import sentencepiece

from lskd.errors import InputError, bad
from lskd.files import sha256, write_json

PAIRS = ("en-de", "en-ru")
SPLITS = ("train", "valid", "test")
PACKAGES = ("lskd", "sentencepiece", "sacremoses", "fairseq-fixed")


@dataclass(frozen=True)
class Pairs:
    """The sentence pairs of one split: line i of ``source`` is translated by line i of ``target``."""

    source: list[str]
    target: list[str]

    def __len__(self) -> int:
        return len(self.source)


def already_prepared(dest: Path, parameters: dict) -> bool:
    """Whether ``dest`` holds the outcome of these ``parameters``.

    Raises:
        InputError: ``dest`` holds something else, which is left as it is.
    """
    if not dest.exists() or (dest.is_dir() and not any(dest.iterdir())):
        return False
    try:
        found = json.loads((dest / "manifest.json").read_text(encoding="utf-8"))["parameters"]
    except (OSError, ValueError, KeyError, TypeError):
        raise bad("--dest", dest, "exists and was not made by this command; name a new directory") from None
    different = sorted(key for key in parameters.keys() | found.keys() if parameters.get(key) != found.get(key))
    if different:
        changes = ", ".join(f"{key} {found.get(key)} instead of {parameters.get(key)}" for key in different)
        raise bad("--dest", dest, f"was made with {changes}; name a new directory")
    return True


def write_data_bin(
    dest: Path,
    pair: str,
    splits: dict[str, Pairs],
    vocab_size: int,
    parameters: dict,
    origin: dict,
    tokenise: dict[str, Callable[[str], str]] | None = None,
) -> dict:
    """Learn the subwords, binarise with ``fairseq-preprocess`` and write the directory in one step.

    Args:
        dest: the directory to make; it appears when everything in it is whole.
        pair: ``en-de`` or ``en-ru``, source first.
        splits: the pairs of ``train``, ``valid`` and ``test``, as raw text.
        vocab_size: number of subwords of the joint model.
        parameters: what decides the outcome, for the manifest and for :func:`already_prepared`.
        origin: where the sentences come from, with checksums and licence.
        tokenise: per language, what is done to a sentence before the subwords; raw text without it.

    Returns:
        The manifest.

    Raises:
        InputError: an empty split, or a vocabulary that these sentences cannot give.
    """
    source_lang, target_lang = pair.split("-")
    for name, pairs in splits.items():
        if not len(pairs):
            raise InputError(f"the {name} split is empty: more sentences are needed")
    with _building(dest) as building, tempfile.TemporaryDirectory() as scratch:
        raw, pieces = building / "raw", Path(scratch)
        raw.mkdir()
        prepared = {}
        for name, pairs in splits.items():
            for language, lines in ((source_lang, pairs.source), (target_lang, pairs.target)):
                _write_lines(raw / f"{name}.{language}", lines)
                prepared[name, language] = [tokenise[language](line) for line in lines] if tokenise else lines
        model = building / "sentencepiece.model"
        _learn_subwords([*prepared["train", source_lang], *prepared["train", target_lang]], vocab_size, model)
        processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
        counts = {}
        for (name, language), lines in prepared.items():
            encoded = processor.encode(lines, out_type=str)
            _write_lines(pieces / f"{name}.{language}", [" ".join(words) for words in encoded])
            counts.setdefault(name, {"sentences": len(lines)})[f"{language}_subwords"] = sum(map(len, encoded))
        _binarise(pieces, building, source_lang, target_lang)
        manifest = {
            "pair": pair,
            "parameters": parameters,
            "origin": origin,
            "counts": counts,
            "sha256": {
                str(path.relative_to(building)): sha256(path) for path in sorted(building.rglob("*")) if path.is_file()
            },
            "versions": {"python": sys.version.split()[0]}
            | {package: importlib.metadata.version(package) for package in PACKAGES},
        }
        write_json(building / "manifest.json", manifest)
    return manifest


def describe(manifest: dict) -> str:
    """One line for people: the pair and the number of sentences of each split."""
    counts = ", ".join(f"{count['sentences']} {name}" for name, count in manifest["counts"].items())
    return f"{manifest['pair']}: {counts} sentences, {manifest['parameters']['vocab_size']} subwords"


@contextlib.contextmanager
def _building(dest: Path) -> Iterator[Path]:
    """A directory beside ``dest`` that takes its place when the block ends well, and is removed when not."""
    dest.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{dest.name}.", suffix=".partial", dir=dest.parent))
    building.chmod(0o755)
    try:
        yield building
        os.replace(building, dest)  # an empty directory at dest is replaced, anything else is refused by the system
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8", newline="\n")


def _learn_subwords(sentences: list[str], vocab_size: int, path: Path) -> None:
    # One thread and a fixed order: the same sentences give the same model. The text is not normalised, so that what is
    # decoded can equal the raw reference.
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
        raise bad("--vocab-size", vocab_size, f"cannot be learnt from these sentences: {reason}") from None


def _binarise(pieces: Path, dest: Path, source_lang: str, target_lang: str) -> None:
    command = [sys.executable, "-m", "fairseq_cli.preprocess", "--joined-dictionary", "--workers", "1"]
    command += ["--source-lang", source_lang, "--target-lang", target_lang, "--destdir", str(dest)]
    for name in SPLITS:
        command += [f"--{name}pref", str(pieces / name)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError("fairseq-preprocess failed:\n" + result.stderr[-2000:])
    (dest / "preprocess.log").unlink(missing_ok=True)  # it holds the scratch directory's name, nothing anyone needs
