"""A page in HTML that needs nothing but itself: elements, tables, figures, and how they look.

Everything that is not :class:`Markup` is escaped. Drawings are SVG in ``<img>`` as data: several of matplotlib's in one
document would share ids and a global style, an image is a document of its own, runs nothing whatever it holds, and its
``alt`` is read everywhere. The page's policy forbids scripts and every request.
"""

import base64
import hashlib
import html
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

VOID = {"img", "meta"}
STYLE = """
:root { color-scheme: light dark; --text: #1b1b1b; --faint: #555; --ground: #fff; --card: #f5f6f8; --line: #c9ccd1;
  --link: #0b5394; --warn: #fff3d6; --warn-line: #b36b00; }
@media (prefers-color-scheme: dark) { :root { --text: #e8e8e8; --faint: #b4b8bf; --ground: #15171a; --card: #1f2226;
  --line: #454a52; --link: #8ec5ff; --warn: #3a2d10; --warn-line: #e0a030; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: auto; }
body { margin: 0; background: var(--ground); color: var(--text); font: 1rem/1.55 system-ui, sans-serif;
  overflow-wrap: anywhere; }
header, nav, main, footer { max-width: 74rem; margin: 0 auto; padding: 0 1rem; }
header { padding-top: 1.5rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .75rem; }
h2 { font-size: 1.4rem; line-height: 1.25; margin: 3rem 0 .75rem; padding-top: .75rem;
  border-top: 2px solid var(--line); }
h3 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p, ul, ol, dl { margin: .5rem 0 .9rem; max-width: 44rem; }
a { color: var(--link); }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
.skip { position: absolute; left: -100vw; background: var(--ground); padding: .5rem 1rem; }
.skip:focus { left: 0; top: 0; z-index: 1; }
.answer { border-left: 4px solid var(--link); padding: .25rem 0 .25rem 1rem; font-size: 1.1rem; }
.answer p { margin: .35rem 0; }
.faint, figcaption { color: var(--faint); font-size: .9rem; }
.warning { background: var(--warn); border-left: 4px solid var(--warn-line); padding: .5rem .75rem; max-width: 44rem;
  font-size: .95rem; }
.absent { background: var(--card); border: 1px dashed var(--line); padding: .6rem .8rem; max-width: 44rem; }
nav ul { padding-left: 1.1rem; }
nav li { padding: .15rem 0; }
.beside { display: grid; gap: 1.25rem 2rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr));
  align-items: start; margin: 1rem 0; }
.beside > *, figure { min-width: 0; }
.scroll { overflow-x: auto; margin: .75rem 0; max-width: 100%; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; overflow-wrap: normal; font-size: .9rem; }
caption { text-align: left; font-weight: 600; padding-bottom: .4rem; overflow-wrap: anywhere; }
.scroll { container-type: inline-size; }
caption span { display: inline-block; position: sticky; left: 0; max-width: min(44rem, 100cqw); }
th, td { padding: .3rem .45rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; }
td { white-space: nowrap; }
td.text { white-space: normal; text-align: left; min-width: 12rem; }
th[scope=row], tr > :first-child { text-align: left; }
th[scope=row] { font-weight: 400; }
thead th { font-weight: 600; border-bottom: 2px solid var(--line); }
th[scope=colgroup] { text-align: center; }
sup { line-height: 0; }
figure { margin: 1rem 0; }
figure img { display: block; max-width: 100%; height: auto; background: #fff; border: 1px solid var(--line);
  border-radius: 4px; }
.scroll img { max-width: none; width: max(100%, 58rem); }
figcaption { margin: .4rem 0; max-width: 44rem; }
details { margin: .4rem 0; max-width: 100%; }
summary { cursor: pointer; padding: .25rem 0; color: var(--link); }
code, pre { font: .875rem/1.5 ui-monospace, monospace; }
pre { white-space: pre-wrap; background: var(--card); padding: .6rem .8rem; margin: .4rem 0; }
dt { font-weight: 600; }
dd { margin: 0 0 .5rem; }
ol.notes { list-style: lower-alpha; padding-left: 1.4rem; font-size: .9rem; }
footer { margin-top: 3rem; padding-bottom: 2rem; }
@page { margin: 15mm; }
@media print {
  :root { color-scheme: light; --text: #000; --faint: #333; --ground: #fff; --card: #f3f3f3; --line: #999;
    --link: #000; --warn: #fff; --warn-line: #000; }
  body { font-size: 10pt; }
  header, nav, main, footer { max-width: none; padding: 0; }
  nav, .skip { display: none; }
  h2, h3, caption, summary { break-after: avoid; }
  figure, tr, .beside table, .answer, .warning { break-inside: avoid; }
  .beside { grid-template-columns: 1fr 1fr; }
  details:not([open]) { display: none; }
  .scroll { overflow: visible; }
  .scroll img { width: 100%; max-width: 100%; }
  figure img { max-height: 230mm; object-fit: contain; }
  table { font-size: 8.5pt; }
  td, th { padding: .15rem .35rem; }
}
"""


class Markup(str):
    """Text that is HTML already."""


def element(tag: str, *children: str, **attributes: str | int | None) -> Markup:
    """An element; children and attributes are escaped, save Markup. ``class_`` is class, ``aria_label`` aria-label.

    >>> element("p", "a < b, ", element("b", "c"), class_="faint", id=None)
    '<p class="faint">a &lt; b, <b>c</b></p>'
    """
    written = "".join(
        f' {name.strip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{tag}{written}>" if tag in VOID else f"<{tag}{written}>{join(children)}</{tag}>")


def join(children: Iterable[str]) -> Markup:
    """Children one after another, those that are not Markup escaped.

    >>> join(["<", Markup("<i></i>")])
    '&lt;<i></i>'
    """
    return Markup("".join(each if isinstance(each, Markup) else html.escape(str(each)) for each in children))


def paragraph(*children: str, class_: str | None = None) -> Markup:
    """A paragraph."""
    return element("p", *children, class_=class_)


def code(text: str) -> Markup:
    """A command or a name of a file, in a line."""
    return element("code", text)


def absent(what: str, command: str) -> Markup:
    """In the place of a section that has no data: what is missing, and the command that would make it."""
    return paragraph(what, " ", code(command), class_="absent")


def region(content: str, label: str) -> Markup:
    """Wide content that scrolls by itself, also with the keyboard."""
    return element("div", content, class_="scroll", role="region", aria_label=label, tabindex="0")


@dataclass(frozen=True)
class Head:
    """A cell of a table's head that stands over several columns."""

    text: str
    span: int = 1


def table(caption: str, heads: Sequence[Sequence[str | Head]], rows: Sequence[Sequence[str]]) -> Markup:
    """A table whose first column names the row, in a region that scrolls.

    Args:
        caption: in words.
        heads: rows of the head; a :class:`Head` is over several columns.
        rows: text or Markup; a cell of Markup that is a ``td`` already stays as it is.
    """

    def head(cell):
        if isinstance(cell, Head) and cell.span > 1:
            return element("th", cell.text, scope="colgroup", colspan=cell.span)
        if not (text := cell.text if isinstance(cell, Head) else cell):
            return element("td")
        return element("th", text, scope="col")

    def body(cell):
        return cell if isinstance(cell, Markup) and cell.startswith("<td") else element("td", cell)

    content = join(
        [
            element("caption", element("span", caption)),
            element("thead", *(element("tr", *map(head, row)) for row in heads)),
            element("tbody", *(element("tr", element("th", row[0], scope="row"), *map(body, row[1:])) for row in rows)),
        ]
    )
    return region(element("table", content), caption)


def text_cell(*children: str) -> Markup:
    """A cell of words, to the left and with line breaks."""
    return element("td", *children, class_="text")


def facts(pairs: Iterable[tuple[str, str]]) -> Markup:
    """Terms and what they are."""
    return element("dl", *(join([element("dt", term), element("dd", value)]) for term, value in pairs))


def details(summary: str, *children: str) -> Markup:
    """What is shown on demand."""
    return element("details", element("summary", summary), *children)


class Notes:
    """Footnotes of one table: a letter for each different text."""

    def __init__(self):
        self.texts: dict[str, str] = {}

    def mark(self, text: str | None) -> Markup:
        """The letter of a text, raised; nothing without a text."""
        if not text:
            return Markup("")
        return element("sup", self.texts.setdefault(text, _letters(len(self.texts))))

    def markup(self) -> Markup:
        """The texts, or nothing."""
        return element("ol", *(element("li", text) for text in self.texts), class_="notes") if self.texts else Markup()


@dataclass
class Page:
    """A page that is being written: sections with their headings, figures with their numbers.

    Attributes:
        title: of the page.
        answer: what stands first.
        drawing: what a drawing is called, followed by its number.
    """

    title: str
    answer: Markup
    contents: list[tuple[int, str, str]] = field(default_factory=list)
    body: list[str] = field(default_factory=list)
    figures: itertools.count = field(default_factory=lambda: itertools.count(1))
    drawing: str = "Figure"

    def heading(self, text: str, level: int = 2) -> None:
        """Begin a section (2) or a part of one (3)."""
        name = f"section-{len(self.contents) + 1}"
        self.contents.append((level, text, name))
        self.body.append(element(f"h{level}", text, id=name))

    def add(self, *content: str) -> None:
        """Add content."""
        self.body.extend(content)

    def figure(
        self, drawing: tuple[str, int, int], alt: str, caption: str, numbers: str, files: Sequence[str], wide=False
    ) -> Markup:
        """A drawing with its caption, its figures as tables and the files it was made from.

        Args:
            drawing: of :func:`lskd.report.plots.svg`: the SVG, its width and height in pixels.
            alt: what is seen, in words.
            caption: what it is.
            numbers: tables, or what there is to say instead.
            files: that it was made from.
            wide: it is not shrunk to the width of a small screen but scrolls.
        """
        name = f"{self.drawing} {next(self.figures)}"
        below = name[0].lower() + name[1:]
        svg, width, height = drawing
        source = "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
        image = element("img", src=source, alt=alt, width=width, height=height)
        return element(
            "figure",
            region(image, f"{name}, which may be wider than the window") if wide else image,
            element("figcaption", element("strong", f"{name}. "), caption),
            details(f"Numbers of {below}", numbers),
            details(f"Files of {below}", element("ul", *(element("li", code(file)) for file in files))),
        )

    def html(self) -> str:
        """The whole document."""
        policy = (
            "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
            f"style-src 'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'"
        )
        head = element(
            "head",
            element("meta", charset="utf-8"),
            element("meta", http_equiv="Content-Security-Policy", content=policy),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("title", self.title),
            element("style", Markup(STYLE)),
        )
        body = element(
            "body",
            element("a", "Skip to the content", href="#content", class_="skip"),
            element("header", element("h1", self.title), element("div", self.answer, class_="answer")),
            element("nav", element("h2", "Contents", id="contents"), self._contents(), aria_labelledby="contents"),
            element("main", *(join([Markup("\n"), each]) for each in self.body), id="content", tabindex="-1"),
            element("footer", paragraph("Made by lskd report. The page holds all it shows.", class_="faint")),
        )
        return f'<!DOCTYPE html>\n<html lang="en">\n{head}\n{body}\n</html>\n'

    def _contents(self) -> Markup:
        """A list of the sections, each with a list of its parts."""
        sections: list[tuple[Markup, list[Markup]]] = []
        for level, text, name in self.contents:
            link = element("a", text, href=f"#{name}")
            if level == 2:
                sections.append((link, []))
            else:
                sections[-1][1].append(element("li", link))
        return element(
            "ul", *(element("li", link, element("ul", *parts) if parts else Markup()) for link, parts in sections)
        )


def _letters(index: int) -> str:
    """a, b, … z, aa, ab, …"""
    return (_letters(index // 26 - 1) if index >= 26 else "") + chr(ord("a") + index % 26)
