"""IWSLT'14 TED talks, English to German or Russian, from an archive of WIT3's 2014-01 release (de-en.tgz, ru-en.tgz).

    python data_prep/iwslt14.py --pair en-de --archive de-en.tgz --dest data-bin/iwslt14.en-de

The splits are made as in fairseq's IWSLT'14 example: of the clean training pairs every 23rd is for validation, and the
test split is all test sets of the archive.
"""

import argparse
import functools
import html
import html.entities
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archives import already_prepared, checksum_argument, obtain
from corpus import PAIRS, Pairs, describe, write_data_bin
from sacremoses import MosesTokenizer
from tgz import read_tgz, verify
from tqdm import tqdm

from lskd.io.argument_types import joinable_path, positive
from lskd.io.errors import OneLineParser, input_error, run_command

WHERE = "officially from WIT3, the site of FBK, release 2014-01"
MAX_TOKENS = 175
MAX_RATIO = 1.5
HELD_OUT_EVERY = 23

# A talk's metadata in its header. Its title and description are sentences and are kept.
HEADER_LINE = re.compile(r"\s*</?(?:url|keywords|speaker|talkid|reviewer|translator|doc)\b[^>]*>")
SENTENCE_TAG = re.compile(r"</?(?:title|description)>")
SEGMENT = re.compile(r"<seg\b[^>]*>((?:(?!<seg\b).)*?)</seg>", re.DOTALL)
# Only entities with a semicolon: html.unescape alone would read "R&para" as "R¶".
ENTITY = re.compile(r"&(#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]*);")


@dataclass(frozen=True)
class Archive:
    """The files of one language pair, by name without the folder."""

    path: Path
    pair: str
    files: dict[str, bytes]

    @property
    def folder(self) -> str:
        """The folder in the archive, after which the archive is named too."""
        return folder_of(self.pair)

    def text(self, name: str) -> str:
        """The text of a file.

        Raises:
            InputError: it is missing, or not UTF-8.
        """
        if name not in self.files:
            raise input_error(
                "--archive", self.path, f"has no {self.folder}/{name}, as the official {self.folder}.tgz has"
            )
        try:
            return self.files[name].decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise input_error(
                "--archive", self.path, f"{name} is not UTF-8 text: {error.reason}, byte {error.start}"
            ) from None

    def pairs(self, names: Sequence[str], sentences_of: Callable[[str], list[str]]) -> Pairs:
        """The sentences that ``sentences_of(text)`` finds in two files, the source's and the target's.

        Raises:
            InputError: a file is missing or not UTF-8, or their numbers of sentences differ.
        """
        source, target = (sentences_of(self.text(name)) for name in names)
        if len(source) != len(target):
            counts = f"{names[0]} has {len(source)} sentences and {names[1]} has {len(target)}"
            raise input_error("--archive", self.path, f"{counts}; must have the same number")
        return Pairs(source, target)


@dataclass(frozen=True)
class EvaluationSet:
    """A test set without pairs that have an empty side; ``empty`` is the number of these."""

    name: str
    members: list[str]
    pairs: Pairs
    empty: int


def folder_of(pair: str) -> str:
    """The folder of a pair, which the release names from the other language to English.

    >>> folder_of("en-ru")
    'ru-en'
    """
    return "-".join(reversed(pair.split("-")))


def plain(text: str) -> str:
    """A sentence in plain text: entities decoded once, ’ written as ', single spaces.

    >>> plain(" That&#39;s  R&amp;D, isn’t it? ")
    "That's R&D, isn't it?"
    """
    return " ".join(ENTITY.sub(_character, text).replace("’", "'").split())


def _character(entity: re.Match[str]) -> str:
    if entity[1].startswith("#"):
        return html.unescape(entity[0])
    return html.entities.html5.get(entity[1] + ";", entity[0])


def train_sentences(text: str) -> list[str]:
    """The sentences of a train.tags file, with titles and descriptions, without other header lines."""
    lines = text.removesuffix("\n").split("\n")
    return [plain(SENTENCE_TAG.sub("", line)) for line in lines if not HEADER_LINE.match(line)]


def train_pairs(archive: Archive) -> Pairs:
    """All training pairs of the archive, before cleaning.

    Raises:
        InputError: a file is missing or not UTF-8, or their numbers of sentences differ.
    """
    names = [f"train.tags.{archive.folder}.{language}" for language in archive.pair.split("-")]
    return archive.pairs(names, train_sentences)


def segments(text: str) -> list[str]:
    """The sentences of a test set's XML file, including empty ones."""
    return [plain(segment) for segment in SEGMENT.findall(text)]


def evaluation_sets(archive: Archive) -> list[EvaluationSet]:
    """The test sets of the archive, sorted by name.

    Raises:
        InputError: there is none, or a file is missing or not UTF-8, or the numbers of sentences of two sides differ.
    """
    languages = archive.pair.split("-")
    named = re.compile(rf"(IWSLT14\.TED.*\.{archive.folder})\.(?:{'|'.join(languages)})\.xml")
    names = sorted({match[1] for match in map(named.fullmatch, archive.files) if match})
    if not names:
        raise input_error("--archive", archive.path, f"has no test set, {archive.folder}/IWSLT14.TED*.xml")
    found = []
    for name in names:
        members = [f"{name}.{language}.xml" for language in languages]
        pairs = archive.pairs(members, segments)
        full = [both for both in zip(pairs.source, pairs.target, strict=True) if all(both)]
        whole = Pairs([source for source, _ in full], [target for _, target in full])
        found.append(EvaluationSet(name, members, whole, len(pairs) - len(whole)))
    return found


def moses_tokeniser(language: str) -> Callable[[str], str]:
    """A cached function from a sentence to its Moses tokens, joined by spaces."""
    tokeniser: Any = MosesTokenizer(lang=language)

    @functools.cache
    def tokenise(sentence: str) -> str:
        return " ".join(tokeniser.tokenize(sentence, escape=False))

    return tokenise


def lower_cased(tokenise: Mapping[str, Callable[[str], str]]) -> dict[str, Callable[[str], str]]:
    """The same functions with their results in lower case."""

    def lower(cased: Callable[[str], str]) -> Callable[[str], str]:
        return lambda sentence: cased(sentence).lower()

    return {name: lower(cased) for name, cased in tokenise.items()}


def reason_to_drop(source_tokens: int, target_tokens: int) -> str | None:
    """Why a training pair with these numbers of tokens is not used: ``empty``, ``length`` or ``ratio``; None if it is.

    >>> reason_to_drop(10, 15), reason_to_drop(10, 16)
    (None, 'ratio')
    """
    shorter, longer = sorted((source_tokens, target_tokens))
    if not shorter:
        return "empty"
    if longer > MAX_TOKENS:
        return "length"
    return "ratio" if longer > MAX_RATIO * shorter else None


def clean(
    pairs: Pairs, tokenise_source: Callable[[str], str], tokenise_target: Callable[[str], str]
) -> tuple[Pairs, dict[str, Any]]:
    """The usable training pairs, and the numbers of pairs read, kept, and dropped by reason."""
    kept = Pairs([], [])
    reasons: Counter[str | None] = Counter()
    both = zip(pairs.source, pairs.target, strict=True)
    for source, target in tqdm(both, total=len(pairs), desc="cleaning", unit=" pairs", disable=None):
        reason = reason_to_drop(len(tokenise_source(source).split()), len(tokenise_target(target).split()))
        reasons[reason] += 1
        if reason is None:
            kept.source.append(source)
            kept.target.append(target)
    dropped = {reason: reasons[reason] for reason in ("empty", "length", "ratio")}
    return kept, {"read": len(pairs), "kept": len(kept), "dropped": dropped}


def hold_out(pairs: Pairs) -> dict[str, Pairs]:
    """Split pairs into ``train`` and ``valid``: every 23rd pair is in valid, the 23rd being the first of them."""
    train, valid = Pairs(pairs.source[:], pairs.target[:]), slice(HELD_OUT_EVERY - 1, None, HELD_OUT_EVERY)
    del train.source[valid], train.target[valid]
    return {"train": train, "valid": Pairs(pairs.source[valid], pairs.target[valid])}


def main(arguments: argparse.Namespace) -> None:
    """Make the data directory, unless it is there."""
    path, name = obtain(arguments, folder_of(arguments.pair) + ".tgz", WHERE)
    checksum = verify(path, arguments.sha256, path)
    parameters = {
        "corpus": "IWSLT'14",
        "pair": arguments.pair,
        "archive_sha256": checksum,
        "vocab_size": arguments.vocab_size,
        "tokenisation": arguments.tokenisation,
    }
    if already_prepared(arguments.dest, parameters):
        return
    archive = Archive(path, arguments.pair, read_tgz(path, folder_of(arguments.pair)))
    test = evaluation_sets(archive)
    tokens = {language: moses_tokeniser(language) for language in arguments.pair.split("-")}
    kept, cleaning = clean(train_pairs(archive), *tokens.values())
    splits = hold_out(kept) | {"test": Pairs([], [])}
    for one in test:
        splits["test"].source.extend(one.pairs.source)
        splits["test"].target.extend(one.pairs.target)
    origin = {
        "what": "IWSLT'14, TED talks of WIT3's 2014-01 release",
        "archive": name,
        "sha256": checksum,
        "licence": "TED talks, CC BY-NC-ND",
        "test_sets": [
            {"name": one.name, "sentences": len(one.pairs), "dropped_empty": one.empty, "members": one.members}
            for one in test
        ],
        "cleaning": cleaning,
    }
    if arguments.url:
        origin["url"] = arguments.url
    manifest = write_data_bin(
        arguments.dest,
        arguments.pair,
        splits,
        arguments.vocab_size,
        parameters,
        origin,
        tokenise=lower_cased(tokens) if arguments.tokenisation == "moses" else None,
    )
    print(f"{arguments.dest}: {describe(manifest)}; {cleaning['kept']} of {cleaning['read']} training pairs were clean")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = OneLineParser(prog=Path(sys.argv[0]).name, description=__doc__.split("\n")[0])
    options.add_argument("--pair", choices=PAIRS, required=True, help="source and target language")
    options.add_argument("--dest", type=joinable_path, required=True, help="directory to make; must be new")
    origin = options.add_mutually_exclusive_group()
    origin.add_argument("--archive", type=Path, help="the official de-en.tgz (for en-de) or ru-en.tgz (for en-ru)")
    origin.add_argument("--url", help="https or file address to download the archive from, to a file beside --dest")
    options.add_argument("--sha256", type=checksum_argument, metavar="HEX", help="the archive's expected checksum")
    options.add_argument(
        "--tokenisation",
        choices=("sentencepiece", "moses"),
        default="sentencepiece",
        help="subwords of raw text (default), or of Moses-tokenised, lower-cased text as in published results",
    )
    options.add_argument(
        "--vocab-size", type=positive, default=10000, help="subwords of the joint model (default 10000)"
    )
    return options


if __name__ == "__main__":
    run_command(parser(), main)
