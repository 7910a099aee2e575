import base64
import hashlib
import re
import sys
from html import unescape
from pathlib import Path

import jinja2
import pytest
from test_report import HOSTILE, Document

import lskd.report
from lskd.io.errors import InputError
from lskd.report.claims import Answer
from lskd.report.contents import Experiment, RedrawnFigure, StudySummary
from lskd.report.elements import Cell, Drawing, Head, Missing, Section, Svg, Table
from lskd.report.rendering import render
from lskd.report.sections.accuracy import AccuracySection
from lskd.report.sections.class_accuracy import ClassAccuracySection
from lskd.report.sections.diffusion import DiffusionSection, EtaOfSplit
from lskd.report.sections.entropy import EntropySection
from lskd.report.sections.experiment_drawing import ExperimentDrawingSection
from lskd.report.sections.experiment_table import ExperimentTableSection
from lskd.report.sections.measures import MeasuresSection
from lskd.report.sections.overview import OverviewSection
from lskd.report.sections.projection import ProjectionSection
from lskd.report.sections.runs import RunDetails, RunsSection
from lskd.report.sections.side_by_side import SideBySideSection
from lskd.report.sections.study import StudySection

PACKAGE = Path(lskd.report.__file__).parent
TEMPLATES = PACKAGE / "templates"
X = HOSTILE
TABLE = Table(X, [["", X, Head(X, 2), ""], ["", X, X, X]], [[X, X, Cell(X, [X]), Cell(X, prose=True)]])
DRAWING = Drawing(Svg(X, 5, 4), alt=X, caption=X, tables=[TABLE], files=[X], wide=True)
MISSING = Missing(X, X)
SUMMARY = StudySummary(question=X, page=X, rows=[], file=X)
EXPERIMENT = Experiment(X, X, X, [X], RedrawnFigure(DRAWING.svg, [{X: X}], X, [X]))
SECTIONS = [
    AccuracySection(
        title=X,
        scores=TABLE,
        without_teacher=[X],
        signatures=[X, X],
        score_notes=[X],
        published=TABLE,
        relation=X,
        drawings=[DRAWING, MISSING],
    ),
    ClassAccuracySection(title=X, tables=[TABLE]),
    DiffusionSection(
        title=X, missing=None, sets_file=X, undefined=[X], splits=[EtaOfSplit([X], means=TABLE, drawings=[DRAWING])]
    ),
    DiffusionSection(title=X, missing=MISSING, sets_file=None, undefined=[], splits=[]),
    ProjectionSection(title=X, missing=[MISSING], drawing=DRAWING),
    EntropySection(title=X, drawings=[DRAWING]),
    MeasuresSection(title=X, notes=[X], tables=[TABLE], drawings=[DRAWING]),
    RunsSection(title=X, introduction=X, table=TABLE, runs=[RunDetails(X, X, X, [(X, X)])]),
    OverviewSection(title=X, table=TABLE, explanation=X),
    ExperimentTableSection(
        title=X,
        experiment=EXPERIMENT,
        origins=X,
        measured=TABLE,
        published=TABLE,
        drawings=[DRAWING],
        notes=[X],
        inputs=[X],
    ),
    SideBySideSection(title=X, tables=[TABLE], shared=True),
    StudySection(title=X, experiment=EXPERIMENT, summary=SUMMARY, table=TABLE, notes=[X]),
    ExperimentDrawingSection(title=X, experiment=EXPERIMENT, origins=X, drawing=DRAWING, published=X, notes=[X]),
]
PAGES = {
    "runs_page.html": {"answer": Answer([(X, [X])], X), "introduction": X},
    "experiments_page.html": {"introduction": [X]},
}


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.template)
def test_no_template_lets_markup_through(page, section):
    html = render(page, [section, Section(title=X, parts=[section])], title=X, drawing_word=X, **PAGES[page])
    document = Document(html)
    assert "script" not in {tag for tag, _ in document.tags}
    assert {name for _, attributes in document.tags for name in attributes} <= {
        *("alt", "aria-label", "aria-labelledby", "charset", "class", "colspan", "content", "height", "href"),
        *("http-equiv", "id", "lang", "name", "role", "scope", "src", "tabindex", "width"),
    }
    assert unescape(html).count(X) == html.count("&lt;script&gt;")
    assert document.text.count(X) > 10


def test_every_section_has_a_template_and_every_template_is_used():
    used = {section.template for section in SECTIONS} | {"experiment_head.html", "experiment_notes.html"}
    assert {path.name for path in (TEMPLATES / "sections").iterdir()} == used
    assert {path.name for path in TEMPLATES.glob("*.html")} == {"macros.html", "page.html", *PAGES}


def test_html_is_in_templates_alone_and_only_the_style_is_not_escaped():
    unescaped = [path.name for path in TEMPLATES.rglob("*.html") for _ in re.findall(r"\bsafe\b", path.read_text())]
    assert unescaped == ["page.html"]
    assert "{{ style | safe }}" in (TEMPLATES / "page.html").read_text()
    for path in PACKAGE.rglob("*.py"):
        assert not re.search(r"Markup|</\w", path.read_text()), path


def test_the_policy_names_the_style_by_its_hash():
    html = render("experiments_page.html", [], title="a", introduction=[], drawing_word="Drawing")
    style = re.search("<style>(.*)</style>", html, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in html


def test_a_template_cannot_show_what_it_was_not_given():
    with pytest.raises(jinja2.UndefinedError, match="introduction"):
        render("experiments_page.html", [], title="a", drawing_word="Drawing")


def test_without_jinja_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(InputError, match=r"pip install '\.\[report\]'"):
        render("experiments_page.html", [])


def test_notes_are_lettered_by_text():
    cells = [Cell("x", ["one"]), Cell("x", ["two", "one"]), Cell("x")]
    table = Table("c", [["", "a", "b", "c"]], [["row", *cells], ["other", "x", Cell("x", ["three"]), "x"]])
    assert table.notes == ["one", "two", "three"]
    assert [table.letter(note) for note in ("one", "two", "three")] == ["a", "b", "c"]
    many = [f"note {index}" for index in range(29)]
    assert [Table("c", [], [[Cell("x", many)]]).letter(note) for note in many[-4:]] == ["z", "aa", "ab", "ac"]
