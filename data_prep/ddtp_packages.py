"""Fetch, read and align Debian's package descriptions and their translations.

A Translation file, one for each language, has a stanza for each description:

    Package: 2ping
    Description-md5: 2543c220a763445976d1348c5b593743
    Description-de: Ping-Hilfswerkzeug, um gerichteten Paketverlust zu bestimmen
     2ping ist ein bidirektionales Ping-Hilfswerkzeug. …
     .
      * ein Punkt einer Liste

The checksum is that of the English description: the translation is of exactly this text. The first line is short; the
lines after it are paragraphs and list items, which may be reflowed, and verbatim lines.
"""

import bz2
import gzip
import lzma
import re
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from debian import run_program
from libreoffice_packages import fault, sentences

from lskd.io.errors import input_error

OPEN: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
MAX_BYTES = 1 << 28  # of one Translation file, decompressed; Debian 12's English one has 33 million

Row = tuple[str, str, str]  # page, English, translation
Block = tuple[str, str]  # its kind, "short", "paragraph", "item" or "verbatim", and its text
Descriptions = dict[tuple[str, str], list[Block]]  # by package and checksum

# Only the Translation files of the system's sources are fetched, and none of the system's hooks is run, which would use
# the system's own lists and caches.
_APT_CONFIGURATION = """
#clear APT::Update;
#clear Acquire::IndexTargets;
#clear Acquire::Languages;
Acquire::IndexTargets::deb::Translations {
  MetaKey "$(COMPONENT)/i18n/Translation-$(LANGUAGE)";
  ShortDescription "Translation-$(LANGUAGE)";
  Description "$(RELEASE)/$(COMPONENT) Translation-$(LANGUAGE)";
};
Acquire::Languages { "%s"; "%s"; };
Acquire::GzipIndexes "false";
"""
_FIELD = re.compile(r"([!-,.-9;-~][!-9;-~]*):(.*)")
_ITEM = re.compile(r"( +)(?:[*+•·-]|o|\d{1,2}[.)])\s+(?=\S)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# After a hyphen a word continues in the next line ("command-" "line"), unless its end is shared with another word
# ("Ein-" "und Ausgabe", "client-" "and server-side").
_HYPHEN = re.compile(r"(?<=\w)-\s*\n\s*(?!(?:and|or|to|und|oder|bzw|sowie|и|или)\b)(?=[^\W\d_])")


def fetch(languages: Sequence[str], scratch: Path) -> dict[str, list[Path]]:
    """Let ``apt-get`` fetch the Translation files of the system's sources to ``scratch``; root is not needed.

    Lists, caches and hooks are private: of the system only its sources and keys are read, and nothing is changed.

    Args:
        languages: two of them, such as ``en`` and ``de``.
        scratch: an empty directory.

    Returns:
        The files of each language, decompressed, by name; unreachable sources are left out.

    Raises:
        InputError: ``apt-get`` is missing or fails, or has no file for a language.
    """
    for directory in ("lists/partial", "cache/archives/partial"):
        (scratch / directory).mkdir(parents=True)
    scratch.chmod(0o755)  # run as root, apt downloads as another user, who needs access
    (scratch / "apt.conf").write_text(_APT_CONFIGURATION % tuple(languages))
    result = run_program(
        "apt-get",
        "update",
        f"--config-file={scratch / 'apt.conf'}",
        f"--option=Dir::State::Lists={scratch / 'lists'}",
        f"--option=Dir::Cache={scratch / 'cache'}",
        option="--translations",
        missing="name two Translation files, English and translated, instead",
    )
    found = {language: sorted((scratch / "lists").glob(f"*_Translation-{language}")) for language in languages}
    for language, paths in found.items():
        if not paths:
            reason = (result.stderr.strip().splitlines() or ["its sources offer none"])[0]
            raise input_error("--translations", "not given", f"apt-get gave no Translation-{language}: {reason}")
    return found


def name_at_origin(path: Path) -> str:
    """The name of a Translation file without its host.

    >>> name_at_origin(Path("mirror.example.org_debian_dists_bookworm_main_i18n_Translation-de"))
    'dists_bookworm_main_i18n_Translation-de'
    """
    return re.sub(r".*?_(?=dists_)", "", path.name, count=1)


def read(path: Path) -> bytes:
    """Read a Translation file, plain, ``.gz``, ``.xz`` or ``.bz2``.

    Raises:
        InputError: it cannot be read, or is too large.
    """
    try:
        with OPEN.get(path.suffix, open)(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise input_error("--translations", path, f"cannot be read: {error}") from None
    if len(content) > MAX_BYTES:
        raise input_error("--translations", path, f"must hold at most {MAX_BYTES} bytes")
    return content


def descriptions(content: bytes, language: str, path: Path) -> Descriptions:
    """Parse the descriptions in a Translation file into blocks; of repeated ones the first counts.

    Args:
        content: the file's content.
        language: the language of its translations, such as ``en``.
        path: the file, for error messages.

    Raises:
        InputError: it is not a Translation file of this language.
    """
    try:
        lines = content.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise input_error(
            "--translations", path, f"must be a Translation file, plain, .gz, .xz or .bz2: {error}"
        ) from None
    found: Descriptions = {}
    stanza: dict[str, list[str]] = {}
    field: str | None = None
    wanted = ("Package", "Description-md5", f"Description-{language}")
    for number, line in enumerate([*lines, ""], 1):
        if not line.strip():
            if stanza:
                if any(name not in stanza for name in wanted):
                    raise input_error("--translations", path, f"must have {', '.join(wanted)} before line {number}")
                package, checksum = (stanza[name][0].strip() for name in wanted[:2])
                found.setdefault((package, checksum), blocks(stanza[wanted[2]]))
            stanza, field = {}, None
        elif line[0] == " " and field:
            stanza[field].append(line)
        elif match := _FIELD.fullmatch(line.rstrip("\r")):
            field = match[1]
            stanza[field] = [match[2]]
        else:
            raise input_error("--translations", path, f"must be a Translation file: line {number} is not part of one")
    if not found:
        raise input_error("--translations", path, "must be a Translation file: it holds no description")
    return found


def blocks(lines: Sequence[str]) -> list[Block]:
    """Split a description into blocks, with their lines joined and list marks removed.

    A line that is indented by one space belongs to a paragraph, one with a list mark starts an item, lines that are
    indented more than the mark continue the item, and other indented lines are verbatim.

    >>> blocks(["a game", " It is a", " game.", " .", " It has", "  * red and", "    blue."])
    [('short', 'a game'), ('paragraph', 'It is a game.'), ('paragraph', 'It has'), ('item', 'red and blue.')]
    """
    found: list[tuple[str, list[str]]] = [("short", [lines[0]])]
    kind, depth = "short", 0
    for line in lines[1:]:
        indent = len(line) - len(line.lstrip(" "))
        if line.strip() == ".":
            kind = ""  # the next line starts a new block
        elif match := _ITEM.match(line):
            kind, depth = "item", len(match[1])
            found.append((kind, [line[match.end() :]]))
        elif kind == "item" and indent > depth:
            found[-1][1].append(line)
        else:
            here = "paragraph" if indent == 1 else "verbatim"
            if here != kind:
                found.append((here, []))
            kind = here
            found[-1][1].append(line)
    return [(kind, _clean("\n".join(parts))) for kind, parts in found]


def align(english: Descriptions, translation: Descriptions, cyrillic: bool = False) -> tuple[list[Row], dict[str, Any]]:
    """The rows (page, English, translation) of the translated descriptions, and counts of pairs kept and dropped.

    The short lines are a pair. The other blocks are pairs if both descriptions have the same kinds of blocks in the
    same order; verbatim ones are left out. A block is split into sentences if both sides have the same number of them.
    Each English sentence occurs once, ignoring case, with the first usable translation.

    Args:
        english: the English descriptions.
        translation: those in the other language.
        cyrillic: whether the translation must be written in Cyrillic.

    Returns:
        The rows by package, with the page ``ddtp/PACKAGE``; and counts: translated ``descriptions``,
        ``descriptions_built_differently``, of which only the short line is used, pairs ``read`` and ``kept``, and
        those ``dropped``, by reason.
    """
    rows: list[Row] = []
    seen: set[str] = set()
    dropped: Counter[str] = Counter()
    differently = 0
    common = sorted(english.keys() & translation.keys())
    for key in common:
        ours, theirs = english[key], translation[key]
        if [kind for kind, _ in ours] != [kind for kind, _ in theirs]:
            differently += 1
            ours, theirs = ours[:1], theirs[:1]
        for (kind, source_text), (_, target_text) in zip(ours, theirs, strict=True):
            if kind == "verbatim":
                continue
            sources, targets = sentences(source_text), sentences(target_text)
            if len(sources) != len(targets):
                sources, targets = [source_text], [target_text]
            for source, target in zip(sources, targets, strict=True):
                reason = "repeated" if source.lower() in seen else fault(source, target, cyrillic)
                if reason:
                    dropped[reason] += 1
                    continue
                seen.add(source.lower())
                rows.append((f"ddtp/{key[0]}", source, target))
    counts = {
        "descriptions": len(common),
        "descriptions_built_differently": differently,
        "read": len(rows) + dropped.total(),
        "kept": len(rows),
        "dropped": dict(sorted(dropped.items())),
    }
    return rows, counts


def _clean(text: str) -> str:
    plain = _CONTROL.sub(" ", _HYPHEN.sub("-", text)).replace("\N{SOFT HYPHEN}", "")
    return " ".join(plain.split())
