"""The sample files afresh: sentence pairs from the LibreOffice help that Debian packages, aligned by paragraph id.

The packages hold the same HTML pages for each language, and a paragraph has the same id in all of them. A paragraph
is split into sentences where both sides have the same number of them and stays whole where they have not; what is no
clean pair of prose is left out (:func:`usable`), and so is English that came before. These rules give the shipped files
to the byte from the packages that samples/README.md names.
"""

import html
import lzma
import os
import re
import subprocess
import tarfile
import tempfile
from html.parser import HTMLParser
from pathlib import Path

from lskd.io.errors import InputError, input_error
from lskd.io.files import replacing, sha256

PACKAGES = {"en": "libreoffice-help-en-us", "de": "libreoffice-help-de", "ru": "libreoffice-help-ru"}
FOLDERS = {"en": "en-US", "de": "de", "ru": "ru"}  # below usr/share/libreoffice/help/

MIN_TOKENS, MAX_TOKENS = 3, 50
LEAST_PROSE = 0.75  # share of letters and spaces, below it a line is a formula, a table of numbers or a path

_PARAGRAPH_TAGS = {"p", "h1", "h2", "h3", "h4", "h5", "h6"}
_VOID_TAGS = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"}
# The ids of translated text. Others are names of filters and languages, bookmarks and the page's own furniture.
_TEXT_ID = re.compile(r"par_|hd_|N")
# A sentence ends with a mark, perhaps inside a quotation or brackets, and the next one starts with a capital or a
# digit, perhaps after an opening mark. A single capital ("Ctrl+V.") or an abbreviation ends none.
_ABBREVIATIONS = ("e.g.", "i.e.", "etc.", "bzw.", "ca.", "usw.", "см.", "т.д.", "т.е.")
_SENTENCE_END = re.compile(
    r'(?:(?<=[.!?…])|(?<=[.!?…][")]))(?<!\b[A-ZА-Я]\.)'
    + "".join(rf"(?<!\b{re.escape(abbreviation)})" for abbreviation in _ABBREVIATIONS)
    + ' (?=["„“«(]*[A-ZÄÖÜА-ЯЁ0-9])'
)
_TOKEN = re.compile(r"\w+(?:[-'’]\w+)*|[^\w\s]")
_CODE = re.compile(r"[=<>{}|\\]|\(\)|::")
_CYRILLIC = re.compile("[А-Яа-яЁё]")


def rebuild(pair: str, path: Path) -> None:
    """Download the pair's two packages with ``apt-get``, write their sentence pairs to ``path``, and say so.

    The same packages give the same bytes.

    Args:
        pair: ``en-de`` or ``en-ru``.
        path: the sample file to write; it is replaced in one step.

    Raises:
        InputError: ``apt-get`` or ``dpkg-deb`` is missing or fails, or the packages hold something else.
    """
    languages = pair.split("-")
    with tempfile.TemporaryDirectory() as scratch:
        archives = download([PACKAGES[language] for language in languages], Path(scratch))
        versions = [run_program("dpkg-deb", "--field", str(archive), "Version").stdout.strip() for archive in archives]
        checksums = [sha256(archive) for archive in archives]
        english, translation = map(pages, archives, [FOLDERS[language] for language in languages])
    rows = align(english, translation, cyrillic=pair == "en-ru")
    if not rows:
        names = " and ".join(archive.name for archive in archives)
        raise input_error("--rebuild", names, "no page of one has a sentence that the other translates")
    with replacing(path) as beside, lzma.open(beside, "wt", preset=9, encoding="utf-8", newline="\n") as file:
        file.writelines("\t".join(row) + "\n" for row in rows)
    origin = [f"{PACKAGES[language]} {version}" for language, version in zip(languages, versions, strict=True)]
    print(f"{path}: {len(rows)} pairs from {' and '.join(origin)}")
    for checksum, archive in zip(checksums, archives, strict=True):
        print(f"{checksum}  {archive.name}")


def download(packages: list[str], directory: Path) -> list[Path]:
    """Fetch the newest version of each of the Debian ``packages`` that ``apt-get`` knows into ``directory``.

    Raises:
        InputError: ``apt-get`` is missing, or does not know or reach them.
    """
    run_program("apt-get", "download", *packages, directory=directory)
    found = {package: sorted(directory.glob(f"{package}_*.deb")) for package in packages}
    for package, archives in found.items():
        if len(archives) != 1:
            raise input_error("--rebuild", package, "apt-get download left no such .deb file")
    return [archives[0] for archives in found.values()]


def pages(archive: Path, folder: str) -> dict[str, dict[str, str]]:
    """The help pages of a package, each with its paragraphs by id; nothing is unpacked to disk.

    Args:
        archive: the ``.deb`` file.
        folder: the name of the language's directory in it, such as ``en-US``.

    Returns:
        What :func:`paragraphs` finds, by the page's name, such as ``text/swriter/main0000.html``.

    Raises:
        InputError: the file cannot be read.
    """
    wanted = re.compile(rf"(?:\./)?usr/share/libreoffice/help/{re.escape(folder)}/(text/.+\.html)")
    command, found = ["dpkg-deb", "--fsys-tarfile", str(archive)], {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as tar:
                for member in tar:
                    if member.isfile() and (match := wanted.fullmatch(member.name)):
                        found[match[1]] = paragraphs(tar.extractfile(member).read().decode("utf-8"))
            while process.stdout.read(1 << 20):  # the padding after the last file: dpkg-deb must end by itself
                pass
        except (tarfile.TarError, EOFError, UnicodeDecodeError) as error:
            raise input_error("--rebuild", archive.name, f"cannot be read: {error}") from None
    if process.returncode:
        raise input_error("--rebuild", archive.name, "cannot be read: dpkg-deb found it broken")
    return found


def paragraphs(page: str) -> dict[str, str]:
    """The text of a page's paragraphs and headings by id; where an id comes twice, the first one counts.

    >>> paragraphs('<p id="par_1">Choose <span class="emph">File</span><br>- Save &amp;\\n Close.</p>')
    {'par_1': 'Choose File - Save & Close.'}
    """
    reader = _Reader()
    reader.feed(page)
    reader.close()
    return reader.paragraphs


def align(
    english: dict[str, dict[str, str]], translation: dict[str, dict[str, str]], cyrillic: bool = False
) -> list[tuple[str, str, str]]:
    """The rows (page, English, translation) of the two languages' pages, by page and by paragraph id.

    Each English sentence is there once, whatever its capitals, with the first usable translation: stock phrases recur
    by the hundred, and would come with several translations.

    Args:
        english: paragraphs by page and id.
        translation: the same pages in the other language.
        cyrillic: whether the translation must be written in Cyrillic.
    """
    rows, seen = [], set()
    for page in sorted(english.keys() & translation.keys()):
        for name in sorted(english[page].keys() & translation[page].keys()):
            ours, theirs = sentences(english[page][name]), sentences(translation[page][name])
            if len(ours) != len(theirs):
                ours, theirs = [english[page][name]], [translation[page][name]]
            for source, target in zip(ours, theirs, strict=True):
                if source.lower() not in seen and usable(source, target, cyrillic):
                    seen.add(source.lower())
                    rows.append((page, source, target))
    return rows


def sentences(text: str) -> list[str]:
    """Split at sentence ends, by rules that are the same for the three languages.

    >>> sentences("Click Edit, e.g. with Ctrl+E. The editor opens.")
    ['Click Edit, e.g. with Ctrl+E. The editor opens.']
    >>> sentences('Choose "Help." Done (1.5 times)! "Yes" closes it.')
    ['Choose "Help."', 'Done (1.5 times)!', '"Yes" closes it.']
    """
    return _SENTENCE_END.split(text)


def usable(english: str, translation: str, cyrillic: bool = False) -> bool:
    """Whether two texts are a clean pair of prose: one that :func:`fault` finds nothing wrong with.

    >>> usable("Click Edit.", "Klicken Sie auf Bearbeiten.")
    True
    >>> usable("Edit Menu", "Menü Bearbeiten")
    False
    """
    return fault(english, translation, cyrillic) is None


def fault(english: str, translation: str, cyrillic: bool = False) -> str | None:
    """Why two texts are no clean pair of prose, or nothing if they are one.

    Left out are pairs that are

    - identical: not translated;
    - shorter than 3 or longer than 50 words and punctuation marks on either side: single menu names and list items
      without context, and paragraphs that could not be split;
    - of too different length, more than 1.8 times and 2 words: paragraphs that say different things;
    - code: formulas, markup, calls such as ``Str()`` and names such as ``com::sun::star``;
    - mostly figures and signs on either side;
    - written in Latin letters for the most part although Cyrillic is wanted: the Russian help is translated in part.

    >>> fault("Edit Menu", "Menü Bearbeiten")
    'too short'
    """
    texts = (english, translation)
    shorter, longer = sorted(len(_TOKEN.findall(text)) for text in texts)
    if english == translation:
        return "untranslated"
    if shorter < MIN_TOKENS:
        return "too short"
    if longer > MAX_TOKENS:
        return "too long"
    if longer > 1.8 * shorter + 2:
        return "of too different length"
    if any(_CODE.search(text) for text in texts):
        return "code"
    if any(_letters(text) + text.count(" ") < LEAST_PROSE * len(text) for text in texts):
        return "mostly figures and signs"
    if cyrillic and 2 * len(_CYRILLIC.findall(translation)) < _letters(translation):
        return "not Cyrillic"
    return None


def _letters(text: str) -> int:
    return sum(map(str.isalpha, text))


class _Reader(HTMLParser):
    """Collects the text of the paragraphs of one page."""

    def __init__(self) -> None:
        super().__init__()
        self.paragraphs: dict[str, str] = {}
        self._open: list[tuple[str, str | None, list[str] | None, bool]] = []  # tag, id, text, macOS only

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag in _VOID_TAGS:
            self.handle_data(" ")  # a line break or a picture stands between words
            return
        name = attributes.get("id") if tag in _PARAGRAPH_TAGS else None
        name = name if name and _TEXT_ID.match(name) else None
        # A key or a menu that differs by system comes once for macOS and once for the others, side by side.
        macos = tag == "span" and "hidden" in attributes and attributes.get("class") == "MAC"
        self._open.append((tag, name, [] if name else None, macos))

    def handle_endtag(self, tag: str) -> None:
        if not any(opened == tag for opened, *_ in self._open):
            return
        while self._open:
            opened, name, text, _ = self._open.pop()
            if name:
                # A character that the help shows as code is escaped twice: "&amp;eacute;". Soft hyphens are layout.
                plain = html.unescape("".join(text)).replace("\N{SOFT HYPHEN}", "")
                self.paragraphs.setdefault(name, " ".join(plain.split()))
            if opened == tag:
                return

    def handle_data(self, data: str) -> None:
        for _, _, text, macos in reversed(self._open):
            if macos:
                return
            if text is not None:
                text.append(data)


def run_program(
    program: str,
    *arguments: str,
    directory: Path | None = None,
    option: str = "--rebuild",
    missing: str = "a rebuild needs Debian's or Ubuntu's apt and dpkg",
) -> subprocess.CompletedProcess:
    """Run a program to its end and keep what it prints; its failure is one line.

    Args:
        program: its name.
        arguments: the words after it.
        directory: where it runs.
        option: the option of our command that asks for it, which a failure names.
        missing: what to say, after "is not installed", where there is no such program.

    Raises:
        InputError: it is missing or fails.
    """
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    try:
        result = subprocess.run(
            [program, *arguments],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
    except FileNotFoundError:
        raise input_error(option, program, f"is not installed; {missing}") from None
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
        advice = "; run `apt-get update`, as root, and try again" if arguments[0] == "download" else ""
        raise InputError(f"{option}: {program} {arguments[0]} failed: {reason}{advice}")
    return result
