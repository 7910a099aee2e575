"""Make the sample files: sentence pairs from the LibreOffice help that Debian packages, aligned by paragraph id.

The packages hold the same HTML pages for each language, and a paragraph has the same id in all of them. A paragraph is
split into sentences if both sides have the same number of them, and otherwise kept as a whole; pairs that are not clean
prose are left out (:func:`usable`), and so are repetitions of an English sentence. From the packages named in
samples/README.md these rules give exactly the bytes of the shipped files.
"""

import html
import lzma
import re
import tempfile
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path

from debian import download, files_in_package, run_program

from lskd.io.errors import input_error
from lskd.io.files import replacing, sha256

PACKAGES = {"en": "libreoffice-help-en-us", "de": "libreoffice-help-de", "ru": "libreoffice-help-ru"}
FOLDERS = {"en": "en-US", "de": "de", "ru": "ru"}  # below usr/share/libreoffice/help/

MIN_TOKENS, MAX_TOKENS = 3, 50
LEAST_PROSE = 0.75  # share of letters and spaces; with less a line is a formula, a table of numbers or a path

_PARAGRAPH_TAGS = {"p", "h1", "h2", "h3", "h4", "h5", "h6"}
_VOID_TAGS = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"}
# The ids of translated text. Others are names of filters and languages, bookmarks and parts of the layout.
_TEXT_ID = re.compile(r"par_|hd_|N")
# A sentence ends with a punctuation mark, perhaps inside quotation marks or brackets, and the next one starts with a
# capital or a digit, perhaps after an opening mark. A single capital ("Ctrl+V.") or an abbreviation does not end one.
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
    """Download the pair's two packages with ``apt-get``, write their sentence pairs to ``path``, and print the origin.

    The same packages give the same bytes.

    Args:
        pair: ``en-de`` or ``en-ru``.
        path: the sample file to write; it is replaced atomically.

    Raises:
        InputError: ``apt-get`` or ``dpkg-deb`` is missing or fails, or the packages hold something else.
    """
    languages = pair.split("-")
    with tempfile.TemporaryDirectory() as scratch:
        archives = download([PACKAGES[language] for language in languages], Path(scratch))
        fields = [run_program("dpkg-deb", "--field", str(each), "Version") for each in archives]
        versions = [field.stdout.strip() for field in fields]
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


def pages(archive: Path, folder: str) -> dict[str, dict[str, str]]:
    """Read the paragraphs of a package's help pages by id; nothing is unpacked to disk.

    Args:
        archive: the ``.deb`` file.
        folder: the name of the language's directory in it, such as ``en-US``.

    Returns:
        The :func:`paragraphs` by the page's name, such as ``text/swriter/main0000.html``.

    Raises:
        InputError: the file cannot be read.
    """
    top = f"usr/share/libreoffice/help/{folder}/"
    try:
        files = files_in_package(archive, re.compile(rf"{re.escape(top)}text/.+\.html"))
        return {path.removeprefix(top): paragraphs(content.decode("utf-8")) for path, content in files}
    except UnicodeDecodeError as error:
        raise input_error("--rebuild", archive.name, f"cannot be read: {error}") from None


def paragraphs(page: str) -> dict[str, str]:
    """The text of a page's paragraphs and headings by id; if an id occurs twice, the first one counts.

    >>> paragraphs('<p id="par_1">Choose <span class="emph">File</span><br>- Save &amp;\\n Close.</p>')
    {'par_1': 'Choose File - Save & Close.'}
    """
    reader = _Reader()
    reader.feed(page)
    reader.close()
    return reader.paragraphs


def align(
    english: Mapping[str, Mapping[str, str]], translation: Mapping[str, Mapping[str, str]], cyrillic: bool = False
) -> list[tuple[str, str, str]]:
    """The rows (page, English, translation) of the two languages' pages, by page and by paragraph id.

    Each English sentence occurs once, ignoring case, with the first usable translation: stock phrases recur by the
    hundred, with different translations.

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
    """Split at sentence ends, by the same rules for the three languages.

    >>> sentences("Click Edit, e.g. with Ctrl+E. The editor opens.")
    ['Click Edit, e.g. with Ctrl+E. The editor opens.']
    >>> sentences('Choose "Help." Done (1.5 times)! "Yes" closes it.')
    ['Choose "Help."', 'Done (1.5 times)!', '"Yes" closes it.']
    """
    return _SENTENCE_END.split(text)


def usable(english: str, translation: str, cyrillic: bool = False) -> bool:
    """Whether two strings are a clean pair of prose, without a :func:`fault`.

    >>> usable("Click Edit.", "Klicken Sie auf Bearbeiten.")
    True
    >>> usable("Edit Menu", "Menü Bearbeiten")
    False
    """
    return fault(english, translation, cyrillic) is None


def fault(english: str, translation: str, cyrillic: bool = False) -> str | None:
    """Why two strings are not a clean pair of prose; None if they are.

    Left out are pairs that are

    - identical: not translated;
    - shorter than 3 or longer than 50 words and punctuation marks on either side: single menu names and list items
      without context, and paragraphs that could not be split;
    - too different in length, by more than 1.8 times and 2 words: paragraphs with different contents;
    - code: formulas, markup, calls such as ``Str()`` and names such as ``com::sun::star``;
    - mostly digits and symbols on either side;
    - mostly in Latin letters although Cyrillic is wanted: the Russian help is only partly translated.

    >>> fault("Edit Menu", "Menü Bearbeiten")
    'too short'
    """
    sides = (english, translation)
    shorter, longer = sorted(len(_TOKEN.findall(side)) for side in sides)
    if english == translation:
        return "untranslated"
    if shorter < MIN_TOKENS:
        return "too short"
    if longer > MAX_TOKENS:
        return "too long"
    if longer > 1.8 * shorter + 2:
        return "of too different length"
    if any(_CODE.search(side) for side in sides):
        return "code"
    if any(_letters(side) + side.count(" ") < LEAST_PROSE * len(side) for side in sides):
        return "mostly digits and symbols"
    if cyrillic and 2 * len(_CYRILLIC.findall(translation)) < _letters(translation):
        return "not Cyrillic"
    return None


def _letters(text: str) -> int:
    return sum(map(str.isalpha, text))


class _Reader(HTMLParser):
    """Collects the text of the paragraphs of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.paragraphs: dict[str, str] = {}
        self._open: list[tuple[str, str | None, list[str] | None, bool]] = []  # tag, id, text, macOS only

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag in _VOID_TAGS:
            self.handle_data(" ")  # a line break or a picture separates words
            return
        name = attributes.get("id") if tag in _PARAGRAPH_TAGS else None
        name = name if name and _TEXT_ID.match(name) else None
        # A key or a menu that differs by system is given for macOS and for the others, side by side.
        macos = tag == "span" and "hidden" in attributes and attributes.get("class") == "MAC"
        self._open.append((tag, name, [] if name else None, macos))

    def handle_endtag(self, tag: str) -> None:
        if not any(opened == tag for opened, *_ in self._open):
            return
        while self._open:
            opened, name, text, _ = self._open.pop()
            if name and text is not None:
                # Characters that the help shows as code are escaped twice: "&amp;eacute;". Soft hyphens are layout.
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
