"""The sample sentences that ship with the project: LibreOffice's help, English to German or Russian.

    python data_prep/libreoffice_help.py --pair en-de --dest data-bin/help.en-de

Sentences are split by page, never by line, because a page repeats itself; a page is in the same split for both pairs.
"""

import argparse
import hashlib
import lzma
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from archives import already_prepared
from corpus import SPLITS, Pairs, add_options, describe, write_data_bin

from lskd.io.errors import OneLineParser, input_error, run_command
from lskd.io.files import sha256

SAMPLES = Path(__file__).resolve().parent / "samples"
PERCENT_HELD_OUT = 4  # of the pages, for valid and for test each


def split_of_page(page: str) -> str:
    """The split of a help page, by a fixed hash of its name: always the same, for all pairs.

    >>> split_of_page("text/swriter/main0000.html")
    'train'
    """
    bucket = int.from_bytes(hashlib.sha256(page.encode()).digest()[:4], "big") % 100
    if bucket < PERCENT_HELD_OUT:
        return "test"
    return "valid" if bucket < 2 * PERCENT_HELD_OUT else "train"


def read_sample(path: Path) -> list[tuple[str, str, str]]:
    """Read the rows (page, English, translation) of a sample file.

    Raises:
        InputError: the file is not such a sample.
    """
    rows: list[Any]
    try:
        with lzma.open(path, "rt", encoding="utf-8", newline="\n") as file:
            rows = [tuple(line.rstrip("\n").split("\t")) for line in file]
    except (OSError, EOFError, lzma.LZMAError, UnicodeDecodeError) as error:
        raise input_error("sample", path, f"cannot be read: {error}") from None
    if not rows or any(len(row) != 3 for row in rows):
        raise input_error("sample", path, "must hold three tab-separated columns: page, English, translation")
    return rows


def split_pairs(
    rows: Sequence[tuple[str, str, str]], max_words: int | None = None, max_pairs: int | None = None
) -> dict[str, Pairs]:
    """Split rows into train, valid and test, each pair once, no English sentence of valid or test in train.

    Args:
        rows: page, English, translation.
        max_words: leave out pairs with more words than this on either side.
        max_pairs: keep the first pairs, at most this many in train, and a proportional share of valid and test.
    """
    held_out = {english for page, english, _ in rows if split_of_page(page) == "test"}
    valid = {english for page, english, _ in rows if split_of_page(page) == "valid"} - held_out
    taken: dict[str, set[str]] = {"test": set(), "valid": held_out, "train": held_out | valid}
    seen: set[tuple[str, str]] = set()
    splits = {name: Pairs([], []) for name in SPLITS}
    for page, english, translation in rows:
        name = split_of_page(page)
        too_long = max_words is not None and max(len(english.split()), len(translation.split())) > max_words
        if too_long or english in taken[name] or (english, translation) in seen:
            continue
        seen.add((english, translation))
        splits[name].source.append(english)
        splits[name].target.append(translation)
    if max_pairs is not None and len(splits["train"]) > max_pairs:
        share = max_pairs / len(splits["train"])
        for pairs in splits.values():
            keep = max(1, round(share * len(pairs)))
            del pairs.source[keep:], pairs.target[keep:]
    return splits


def main(arguments: argparse.Namespace) -> None:
    """Make the data directory, unless it is there."""
    sample = SAMPLES / f"lohelp.{arguments.pair}.tsv.xz"
    if arguments.rebuild:
        from libreoffice_packages import rebuild

        rebuild(arguments.pair, sample)
    parameters = {
        "corpus": "LibreOffice help",
        "sample_sha256": sha256(sample),
        "vocab_size": arguments.vocab_size,
        "max_words": arguments.max_words,
        "max_pairs": arguments.max_pairs,
        "tokenisation": "sentencepiece",
    }
    if already_prepared(arguments.dest, parameters):
        return
    splits = split_pairs(read_sample(sample), arguments.max_words, arguments.max_pairs)
    origin = {
        "what": "LibreOffice help, Debian packages libreoffice-help-en-us, -de, -ru; see data_prep/samples/README.md",
        "licence": "MPL-2.0, parts Apache-2.0",
    }
    manifest = write_data_bin(arguments.dest, arguments.pair, splits, arguments.vocab_size, parameters, origin)
    print(f"{arguments.dest}: {describe(manifest)}")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = OneLineParser(prog=Path(sys.argv[0]).name, description=__doc__.split("\n")[0])
    add_options(options, vocab_size=4000)
    options.add_argument("--rebuild", action="store_true", help="first make the sample again from Debian's packages")
    return options


if __name__ == "__main__":
    run_command(parser(), main)
