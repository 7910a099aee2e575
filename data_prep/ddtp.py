"""A medium data set: the sample sentences and Debian's package descriptions, English to German or Russian.

    python data_prep/ddtp.py --pair en-de --dest data-bin/medium.en-de

The descriptions and their translations come from the system's apt sources, fetched with ``apt-get`` to a private
directory, or from two given Translation files. They are split by package, and the help by page, as in
``libreoffice_help.py``: its sentences stay in their splits, and no English sentence of valid or test is in train.

The files on apt's servers change over time. The manifest of DEST records those it was made from; with the same options
DEST stays as it is, whatever the servers have. For their current files, name a new directory.
"""

import argparse
import hashlib
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from archives import already_prepared, parameters_of
from corpus import Pairs, add_options, describe, write_data_bin
from ddtp_packages import Descriptions, Row, align, descriptions, fetch, name_at_origin, read
from libreoffice_help import SAMPLES, read_sample, split_pairs

from lskd.io.errors import OneLineParser, input_error, run_command
from lskd.io.files import sha256

LICENCE = (
    "LibreOffice help: MPL-2.0, parts Apache-2.0. Package descriptions: no licence of their own is stated; each is "
    "under that of the Debian package that it describes, and these differ; the translations are by the translators of "
    "the Debian Description Translation Project"
)


def checksum_of_all(files: Sequence[Mapping[str, str]]) -> str:
    """One SHA-256 over the ``sha256`` of several files, in their order."""
    return hashlib.sha256("".join(file["sha256"] for file in files).encode()).hexdigest()


def made_from_apt(dest: Path) -> str | None:
    """The checksum of the Translation files that ``dest`` was made from, if this command made it with ``apt-get``."""
    parameters = parameters_of(dest) or {}
    return parameters.get("translations_sha256") if parameters.get("translations") == "apt" else None


def read_all(found: Mapping[str, list[Path]]) -> tuple[dict[str, list[bytes]], list[dict[str, str]]]:
    """Read the Translation files of each language; also a ``file`` name and ``sha256`` for each."""
    contents = {language: [read(path) for path in paths] for language, paths in found.items()}
    files = [
        {"file": name_at_origin(path), "sha256": hashlib.sha256(content).hexdigest()}
        for language, paths in found.items()
        for path, content in zip(paths, contents[language], strict=True)
    ]
    return contents, files


def rows_of(found: Mapping[str, list[Path]], contents: Mapping[str, list[bytes]]) -> tuple[list[Row], dict[str, Any]]:
    """The rows and counts of :func:`ddtp_packages.align` for these files.

    Raises:
        InputError: a file is not a Translation file of its language, or the two languages have no usable pair.
    """
    merged: dict[str, Descriptions] = {}
    for language, paths in found.items():
        merged[language] = {}
        for path, content in zip(paths, contents[language], strict=True):
            merged[language] = descriptions(content, language, path) | merged[language]  # the first one counts
    english, translation = found
    rows, counts = align(merged[english], merged[translation], cyrillic=translation == "ru")
    if not rows:
        names = " and ".join(path.name for paths in found.values() for path in paths)
        raise input_error(
            "--translations", names, "no description in one has a translation in the other that can be used"
        )
    return rows, counts


def in_order_of_hash(rows: Sequence[Row]) -> list[Row]:
    """The rows, page by page in a pseudo-random order, so that the first ones are a fair sample of both origins."""
    return sorted(rows, key=lambda row: hashlib.sha256(row[0].encode()).digest())


def count_origins(splits: Mapping[str, Pairs], help_rows: Sequence[Row]) -> dict[str, dict[str, int]]:
    """The number of pairs of each split from the help, and of those that are only in the descriptions."""
    from_help = {(english, translation) for _, english, translation in help_rows}
    counts = {}
    for name, pairs in splits.items():
        helped = sum(pair in from_help for pair in zip(pairs.source, pairs.target, strict=True))
        counts[name] = {"libreoffice_help": helped, "package_descriptions": len(pairs) - helped}
    return counts


def main(arguments: argparse.Namespace) -> None:
    """Make the data directory, unless it is there."""
    sample = SAMPLES / f"lohelp.{arguments.pair}.tsv.xz"
    languages = arguments.pair.split("-")
    parameters: dict[str, Any] = {
        "corpus": "LibreOffice help and Debian package descriptions",
        "sample_sha256": sha256(sample),
        "translations": "files" if arguments.translations else "apt",
        "translations_sha256": None,
        "vocab_size": arguments.vocab_size,
        "max_words": arguments.max_words,
        "max_pairs": arguments.max_pairs,
        "tokenisation": "sentencepiece",
    }
    with tempfile.TemporaryDirectory() as scratch:
        found: dict[str, list[Path]] = {}
        if arguments.translations:
            found = {language: [path] for language, path in zip(languages, arguments.translations, strict=True)}
        contents, files = read_all(found)
        parameters["translations_sha256"] = checksum_of_all(files) if found else made_from_apt(arguments.dest)
        if already_prepared(arguments.dest, parameters):
            return
        if not found:
            found = fetch(languages, Path(scratch))
            contents, files = read_all(found)
            parameters["translations_sha256"] = checksum_of_all(files)
    rows, counts = rows_of(found, contents)
    help_rows = read_sample(sample)
    splits = split_pairs(in_order_of_hash([*help_rows, *rows]), arguments.max_words, arguments.max_pairs)
    origin = {
        "what": "LibreOffice help, the sample that ships, see data_prep/samples/README.md; and the descriptions of "
        "Debian's packages with their translations, from apt's Translation files",
        "licence": LICENCE,
        "translation_files": files,
        "package_descriptions": counts,
        "pairs": count_origins(splits, help_rows),
    }
    manifest = write_data_bin(arguments.dest, arguments.pair, splits, arguments.vocab_size, parameters, origin)
    print(f"{arguments.dest}: {describe(manifest)}")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = OneLineParser(prog=Path(sys.argv[0]).name, description=__doc__.split("\n")[0])
    add_options(options, vocab_size=8000)
    options.add_argument(
        "--translations",
        nargs=2,
        type=Path,
        metavar=("EN_FILE", "TARGET_FILE"),
        help="two Translation files as in Debian's dists/RELEASE/main/i18n, plain, .gz, .xz or .bz2, instead of those "
        "that apt-get fetches",
    )
    return options


if __name__ == "__main__":
    run_command(parser(), main)
