"""A medium data set: the sample sentences and Debian's package descriptions, English to German or Russian.

    python data_prep/ddtp.py --pair en-de --dest data-bin/medium.en-de

The descriptions and their translations come from the system's own apt sources, fetched with ``apt-get`` into a private
directory, or from two Translation files that are given. They are split by package, the help by page, as
``libreoffice_help.py`` does: its sentences stay in their splits, and no English sentence of valid or test is in train.

What apt offers changes over time. DEST says what it was made from, and stays: with the same options it is ready,
whatever apt offers by then. To have what it offers now, name a new directory.
"""

import argparse
import hashlib
import sys
import tempfile
from pathlib import Path
from typing import Any

from archives import already_prepared
from corpus import Pairs, add_options, describe, write_data_bin
from ddtp_packages import align, descriptions, fetch, name_at_origin, read
from libreoffice_help import SAMPLES, read_sample, split_pairs

from lskd.io.errors import OneLineParser, input_error, run_command
from lskd.io.files import parse_json, sha256

LICENCE = (
    "LibreOffice help: MPL-2.0, parts Apache-2.0. Package descriptions: no licence of their own is stated; each is "
    "under that of the Debian package that it describes, and these differ; the translations are by the translators of "
    "the Debian Description Translation Project"
)
Row = tuple[str, str, str]  # page, English, translation


def checksum_of_all(files: list[dict[str, str]]) -> str:
    """One SHA-256 for the contents of several files, in their order, from their ``sha256``."""
    return hashlib.sha256("".join(file["sha256"] for file in files).encode()).hexdigest()


def made_from_apt(dest: Path) -> str | None:
    """The checksum of the Translation files that ``dest`` was made from, if this command made it with ``apt-get``."""
    try:
        parameters = dict(parse_json((dest / "manifest.json").read_text(encoding="utf-8"))["parameters"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return parameters.get("translations_sha256") if parameters.get("translations") == "apt" else None


def read_all(found: dict[str, list[Path]]) -> tuple[dict[str, list[bytes]], list[dict[str, str]]]:
    """The contents of the Translation files of each language, and a ``file`` name and ``sha256`` for each."""
    contents = {language: [read(path) for path in paths] for language, paths in found.items()}
    files = [
        {"file": name_at_origin(path), "sha256": hashlib.sha256(content).hexdigest()}
        for language, paths in found.items()
        for path, content in zip(paths, contents[language], strict=True)
    ]
    return contents, files


def rows_of(found: dict[str, list[Path]], contents: dict[str, list[bytes]]) -> tuple[list[Row], dict[str, Any]]:
    """The rows and counts that :func:`ddtp_packages.align` gives for these files.

    Raises:
        InputError: a file is no Translation file of its language, or the two languages have nothing in common.
    """
    merged = {}
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


def in_order_of_hash(rows: list[Row]) -> list[Row]:
    """The rows, page by page in an order without meaning, so that the first ones are a fair sample of both origins."""
    return sorted(rows, key=lambda row: hashlib.sha256(row[0].encode()).digest())


def count_origins(splits: dict[str, Pairs], help_rows: list[Row]) -> dict[str, dict[str, int]]:
    """How many pairs of each split are from the help, and how many from the descriptions; of both is from the help."""
    from_help = {(english, translation) for _, english, translation in help_rows}
    counts = {}
    for name, pairs in splits.items():
        helped = sum(pair in from_help for pair in zip(pairs.source, pairs.target, strict=True))
        counts[name] = {"libreoffice_help": helped, "package_descriptions": len(pairs) - helped}
    return counts


def main(arguments: argparse.Namespace) -> None:
    """Make, or recognise, the data directory."""
    sample = SAMPLES / f"lohelp.{arguments.pair}.tsv.xz"
    languages = arguments.pair.split("-")
    parameters = {
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
        if arguments.translations:
            found = {language: [path] for language, path in zip(languages, arguments.translations, strict=True)}
            contents, files = read_all(found)
            parameters["translations_sha256"] = checksum_of_all(files)
        else:
            parameters["translations_sha256"] = made_from_apt(arguments.dest)
        if already_prepared(arguments.dest, parameters):
            print(f"{arguments.dest} is ready")
            return
        if not arguments.translations:
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
        help="two Translation files, as Debian has them in dists/RELEASE/main/i18n, plain, .gz, .xz or .bz2, in place "
        "of what apt-get fetches",
    )
    return options


if __name__ == "__main__":
    run_command(parser(), main)
