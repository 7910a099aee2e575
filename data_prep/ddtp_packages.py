"""Debian's package descriptions and their translations: fetching, reading and aligning them.

A Translation file, one for each language, has a stanza for each description:

    Package: 2ping
    Description-md5: 2543c220a763445976d1348c5b593743
    Description-de: Ping-Hilfswerkzeug, um gerichteten Paketverlust zu bestimmen
     2ping ist ein bidirektionales Ping-Hilfswerkzeug. …
     .
      * ein Punkt einer Liste

The checksum is that of the English description, so that a translation is one of exactly this text. Its first line is
short; the lines after it, reflowed at will, are paragraphs, items of lists, and lines that must stay as they are.
"""

import bz2
import gzip
import lzma
import re
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

from libreoffice_packages import fault, run_program, sentences

from lskd.io.errors import input_error

OPEN = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
MAX_BYTES = 1 << 28  # of one Translation file, decompressed; Debian 12's English one has 33 million

Block = tuple[str, str]  # what it is, "short", "paragraph", "item" or "verbatim", and its text
Descriptions = dict[tuple[str, str], list[Block]]  # by package and checksum

# We want the Translation files and nothing else of the system's sources, and run none of the system's hooks, which
# would work on the system's own lists and caches.
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
# A word goes on in the next line after a hyphen ("command-" "line"), unless its end is only left out there ("Ein-"
# "und Ausgabe", "client-" "and server-side").
_HYPHEN = re.compile(r"(?<=\w)-\s*\n\s*(?!(?:and|or|to|und|oder|bzw|sowie|и|или)\b)(?=[^\W\d_])")


def fetch(languages: list[str], scratch: Path) -> dict[str, list[Path]]:
    """Let ``apt-get`` fetch the Translation files of the system's sources into ``scratch``; no root is needed.

    Lists, caches and hooks are private ones: nothing of the system's is read but its sources and keys, or changed.

    Args:
        languages: two of them, such as ``en`` and ``de``.
        scratch: an empty directory.

    Returns:
        The files of each language, decompressed, by name; sources that cannot be reached are left out.

    Raises:
        InputError: ``apt-get`` is missing or fails, or has no file for a language.
    """
    for directory in ("lists/partial", "cache/archives/partial"):
        (scratch / directory).mkdir(parents=True)
    scratch.chmod(0o755)  # where root runs it, apt downloads as a user of its own, who must get there
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
    """The name of a Translation file without the host that it came from.

    >>> name_at_origin(Path("mirror.example.org_debian_dists_bookworm_main_i18n_Translation-de"))
    'dists_bookworm_main_i18n_Translation-de'
    """
    return re.sub(r".*?_(?=dists_)", "", path.name, count=1)


def read(path: Path) -> bytes:
    """The content of a Translation file, plain or with ``.gz``, ``.xz`` or ``.bz2`` at its end.

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
    """The descriptions in a Translation file, each as its blocks; of the same one twice, the first.

    Args:
        content: what is in the file.
        language: which translations it must hold, such as ``en``.
        path: the file, for the error.

    Raises:
        InputError: it is no Translation file of this language.
    """
    try:
        lines = content.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise input_error(
            "--translations", path, f"must be a Translation file, plain, .gz, .xz or .bz2: {error}"
        ) from None
    found, stanza, field = {}, {}, None
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


def blocks(lines: list[str]) -> list[Block]:
    """The parts of a description, whose lines are joined and whose list marks are dropped.

    A line that is indented by one space belongs to a paragraph, one with a list mark starts an item, what is indented
    more than the item's mark goes on with it, and other indented lines are verbatim.

    >>> blocks(["a game", " It is a", " game.", " .", " It has", "  * red and", "    blue."])
    [('short', 'a game'), ('paragraph', 'It is a game.'), ('paragraph', 'It has'), ('item', 'red and blue.')]
    """
    found, depth = [("short", [lines[0]])], 0
    kind = "short"
    for line in lines[1:]:
        indent = len(line) - len(line.lstrip(" "))
        if line.strip() == ".":
            kind = None  # whatever comes next is a new block
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
    return [(kind, _clean("\n".join(texts))) for kind, texts in found]


def align(
    english: Descriptions, translation: Descriptions, cyrillic: bool = False
) -> tuple[list[tuple[Any, ...]], dict[str, Any]]:
    """The rows (page, English, translation) of the descriptions that are translated, and what became of the others.

    The short lines are a pair. The other blocks are, one by one, where both descriptions have the same kinds of blocks
    in the same order; what is verbatim is left out. A block is split into sentences where both sides have the same
    number of them. Each English sentence is there once, whatever its capitals, with the first usable translation.

    Args:
        english: the English descriptions.
        translation: those in the other language.
        cyrillic: whether the translation must be written in Cyrillic.

    Returns:
        The rows, by package, page being ``ddtp/PACKAGE``; and counts: ``descriptions`` that are translated,
        ``descriptions_built_differently``, of which only the short line counts, ``read`` pairs, ``kept`` ones, and
        those ``dropped``, by reason.
    """
    rows, seen, dropped, differently = [], set(), Counter(), 0
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
