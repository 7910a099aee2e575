import base64
import itertools
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from helpers.commands import ROOT, last_line
from helpers.lskd_commands import here
from helpers.small_runs import image_run, translation_run
from scipy.stats import studentized_range
from test_report import HOSTILE, Document

from lskd.io.errors import InputError
from lskd.paper.measured import Measured, measure
from lskd.paper.published import FIELDS, published
from lskd.paper.results import Result, write_result
from lskd.report.claims import adjusted
from lskd.report.contents import read_svg
from lskd.report.experiments_page import experiments_page
from lskd.report.headlines import compared, headline
from lskd.report.plots import bars

SVG = '<?xml version="1.0"?>\n<svg width="720pt" height="360pt" version="1.1"><title>x</title></svg>\n'


def figure(table, metric, mean, sd=None, n=1, unit="%", **others):
    known = {"table": table, "metric": metric, "mean": mean, "standard_deviation": sd, "n": n, "unit": unit}
    return Measured(**(dict.fromkeys(FIELDS) | known | others))


def eta_figures():
    for split, sign in (("train", -1.0), ("val", 1.0)):
        for place, name in enumerate(("Bag", "Coat"), 1):
            about = {"student": "net", "label_smoothing": 0.1, "temperature": 3.0, "reference_temperature": 1.0}
            about |= {"split": split, "target_class": name}
            yield figure("3", "eta_similar", sign * place, sd=0.5, n=2, **about)
            yield figure("3", "eta_dissimilar", 2.0 * place, **about)


def write(place, experiments, **others):
    path = place / "contents.json"
    content = {"title": "Everything", "scale": "mini", "intro": ["One.", "Two."], "experiments": experiments}
    path.write_text(json.dumps(content | others))
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Results of an accuracy table, of one of BLEU and one of η; a drawing with its numbers."""
    place = tmp_path_factory.mktemp("made")
    (place / "results").mkdir()
    for alpha in (0.0, 0.1):
        image_run(place / "runs", alpha, top1=82.0)
        for temperature in (1.0, 3.0):
            for seed, top1 in ((1, 80.0), (2, 81.0)):
                top1 = top1 - temperature * (alpha > 0)
                image_run(place / "runs", alpha, temperature, seed=seed, top1=top1)
    translation_run(place / "runs", 1.0, bleu=16.0)
    translation_run(place / "runs", 3.0, bleu=12.0)
    for table, rows in (
        ("2B", measure("2B", [place / "runs/data"], {"student_net": "ResNet-18"})[0]),
        ("5", measure("5", [place / "runs/en-de"])[0]),
        ("3", list(eta_figures())),
    ):
        made = Result(table, f"What {table} is", "mini", [f"measured {table}"], [f"runs/{table}"], rows)
        write_result(place / f"results/{table}.json", made)
    (place / "results/1.svg").write_text(SVG)
    panel = {"checkpoint": "/somebody/elsewhere.pt", "model": "student net", "label_smoothing": 0.1, "temperature": 3.0}
    panel |= {"split": "train", "samples": 90, "relative_distance": 0.51239, "seed": None}
    (place / "results/1.json").write_text(json.dumps({"classes": ["a"], "rows": [panel]}))
    return place


@pytest.fixture
def results(made, tmp_path):
    """A copy, to write to."""
    return shutil.copytree(made, tmp_path, dirs_exist_ok=True)


TABLES = [
    {"id": name, "title": f"Title {name}", "command": f"lskd reproduce {name}", "result": f"results/{name}.json"}
    for name in ("2B", "5", "3")
]
DRAWING = {"id": "1", "title": "Three classes", "command": "lskd reproduce 1", "figure": "results/1.svg"}
DRAWING |= {"numbers": "results/1.json", "published": "Classes drift.", "notes": ["other classes"]}
STUDY = {"id": "study-step", "title": "Steps", "command": "lskd reproduce study-step", "notes": ["our choice"]}
STUDY |= {"summary": "results/study.json", "page": "study-step.html", "question": "Is it the size?"}


def write_contents(place):
    first = TABLES[0] | {"notes": ["other data"]}
    return write(place, [first, *TABLES[1:], DRAWING], runs=["runs/data", "runs/en-de/student_a0.1_T1_s1"])


@pytest.fixture
def contents(results):
    return write_contents(results)


@pytest.fixture(scope="module")
def html(made):
    return experiments_page(write_contents(made))


@pytest.fixture(scope="module")
def page(html):
    return Document(html)


def test_the_page_goes_from_the_introduction_over_each_experiment_to_the_runs(page):
    assert page.headings == [
        ["h1", "Everything"],
        ["h2", "Contents"],
        ["h2", "Overview"],
        ["h2", "Table 2B: Title 2B"],
        ["h2", "Table 5: Title 5"],
        ["h2", "Table 3: Title 3"],
        ["h2", "Figure 1: Three classes"],
        ["h2", "How each run was made"],
    ]
    assert page.text.index("One.") < page.text.index("Two.") < page.text.index("Overview")
    for words in ("lskd reproduce 2B", "other data", "measured 2B", "In the paper:", "Classes drift.", "other classes"):
        assert words in page.text


def test_the_measured_table_stands_beside_the_published_one(page):
    measured = page.table("Measured, scale mini. clothes, teacher teacher_net")
    assert measured[0] == ["", "top-1 % α = 0", "top-1 % α = 0.1", "top-5 % α = 0", "top-5 % α = 0.1"]
    assert measured[1] == ["teacher teacher_net", "82.00 (1)", "82.00 (1)", "95.00 (1)", "95.00 (1)"]
    # 80 and 81, at α = .1 less T: their standard deviation is 1/√2
    assert measured[2][:3] == ["student_net for ResNet-18, T = 1", "80.50 ± 0.71 (2)", "79.50 ± 0.71 (2)"]
    assert measured[3][:3] == ["student_net for ResNet-18, T = 3", "80.50 ± 0.71 (2)", "77.50 ± 0.71 (2)"]
    printed = page.table("Published. Chandrasegaran et al., ICML 2022: CUB200-2011")
    assert printed[1][:3] == ["teacher ResNet-50", "81.584", "82.068"]
    assert printed[3] == ["ResNet-18, T = 2", "80.808 (3)", "80.428 (3)", "95.593 (3)", "95.518 (3)a"]
    assert "rises from T = 1, against the caption's fall with T" in page.text
    assert page.text.count("Inputs of Table 2B") == 1


def test_the_overview_says_the_same_of_both(page):
    rows = {row[0]: row for row in page.table("The experiments, scale mini")}
    assert rows["Table 2B"][2] == (
        "α = 0: 80.50 ± 0.71 (2) % at T = 1, highest of 2 T, 80.50 ± 0.71 (2) at T = 1, lowest: no test; α = 0.1: "
        "79.50 ± 0.71 (2) % at T = 1, highest of 2 T, 77.50 ± 0.71 (2) at T = 3, lowest: no test"
    )
    assert "ResNet-18, α = 0: 80.808 (3) % at T = 2, highest of 4 T, 73.611 (3) at T = 64" in rows["Table 2B"][3]
    assert rows["Table 5"][2] == "α = 0.1: 16.00 (1) BLEU at T = 1, highest of 2 T, 12.00 (1) at T = 3, lowest: no test"
    assert rows["Table 3"][2] == (
        "train: η(S1) −1.50 %, below 0 for 2 of 2, η(S2) +3.00 %, above 0 for 2 of 2; "
        "val: η(S1) +1.50 %, below 0 for 0 of 2, η(S2) +3.00 %, above 0 for 2 of 2"
    )
    assert rows["Figure 1"][1:] == ["Three classes", "a drawing and its numbers", "Classes drift."]


def test_the_best_temperature_is_claimed_only_where_a_test_of_all_that_are_compared_allows_it(tmp_path):
    experiments = []
    for name, gap in (("D.1", 0.05), ("D.4", 1.2), ("D.2", 9.0)):
        about = {"student": "net", "teacher": "big", "data": "clothes", "label_smoothing": 0.1}
        means = {1.0: 80 + gap, 2.0: 80.0, 3.0: 80.0}
        rows = [figure(name, "top1", mean, 0.2, 3, temperature=T, **about) for T, mean in means.items()]
        write_result(tmp_path / f"{name}.json", Result(name, "x", None, [], [], rows))
        experiments.append({"id": name, "title": "x", "command": "c", "result": f"{name}.json"})
    page = Document(experiments_page(write(tmp_path, experiments)))
    measured = {row[0]: row[2] for row in page.table("The experiments")}
    assert "80.00 ± 0.20 (3) at T = 2, lowest: may be chance, p = " in measured["Table D.1"]
    assert "80.00 ± 0.20 (3) at T = 2, lowest: more than chance, p " in measured["Table D.2"]
    own = studentized_range.sf(2**0.5 * 1.2 / (0.2 * (2 / 3) ** 0.5), 3, 2)
    assert own < 0.05 < 2 * own
    assert f"lowest: may be chance, p = {2 * own:.2g}" in measured["Table D.4"]
    assert "measured 3, published 8)" in page.text


def test_each_experiment_names_the_models_and_data_of_its_numbers(page):
    for origin in (
        "clothes: teacher teacher_net; clothes: teacher_net → student_net",
        "help.en-de: teacher → transformer, 2+1 layers, d = 128",
        "data not recorded: net, train, val",
        "data not recorded: student net, train",
    ):
        assert f"What was measured here is of {origin} . The title is the paper's." in " ".join(page.text.split())


def test_drawings_are_described_with_their_numbers(page):
    alts = [image["alt"].replace("\u00a0", " ") for image in page.images]
    assert len(alts) == 4
    assert "α = 0.1: 79.50 at T = 1, 77.50 at T = 3." in alts[0]
    assert "16.00 at T = 1, 12.00 at T = 3" in alts[1]
    assert "Coat: η(S1), train −2.0, η(S2), train +4.0, η(S1), val +2.0, η(S2), val +4.0." in alts[2]
    assert alts[3] == (
        "As the paper's Figure 1, of data not recorded: student net, train. "
        "student net, α = 0.1, T = 3, train: d = 0.512."
    )
    captions = [text for text in page.texts if text.startswith("Numbers of drawing")]
    assert captions == [f"Numbers of drawing {number}" for number in range(1, 5)]
    assert page.table("Numbers of Figure 1") == [
        ["model", "α", "T", "split", "samples", "d"],
        ["student net", "0.1", "3", "train", "90", "0.5124"],
    ]
    assert "elsewhere" not in page.table("Numbers of Figure 1")[1]
    assert (page.images[3]["width"], page.images[3]["height"]) == ("960", "480")  # 720 × 360 pt
    assert "± σ over seeds" in page.text


def test_the_runs_are_named_as_the_file_names_them(page, made):
    rows = page.table("The runs of this page")
    assert len(rows) == 1 + 10 + 1
    assert rows[-1][0] == "student_a0.1_T1_s1"
    assert "runs/data/student_net_a0.0_T1_s1" in page.text
    assert str(made) not in page.text


def test_a_drawing_holds_at_most_seven_lines_and_each_student_has_its_own(tmp_path):
    rows = [
        figure("4", "top1", 70.0 + T, student=student, label_smoothing=alpha / 20, temperature=T)
        for student in ("one", "two")
        for alpha in range(9)
        for T in (1.0, 3.0)
    ]
    write_result(tmp_path / "4.json", Result("4", "x", None, [], [], rows))
    experiment = {"id": "4", "title": "x", "command": "c", "result": "4.json"}
    page = Document(experiments_page(write(tmp_path, [experiment])))
    assert [image["alt"].count("α\u00a0=") for image in page.images] == [7, 2, 7, 2]
    assert [" of one " in image["alt"] for image in page.images] == [True, True, False, False]


def test_one_temperature_is_no_line(tmp_path):
    rows = [figure("D.4", "top1", 70.0, student="one", label_smoothing=0.1, temperature=1.0)]
    write_result(tmp_path / "4.json", Result("D.4", "x", None, [], [], rows))
    page = Document(
        experiments_page(write(tmp_path, [{"id": "D.4", "title": "x", "command": "c", "result": "4.json"}]))
    )
    assert page.images == []
    assert page.table("Measured. student one, α = 0.1, T = 1, top-1 %") == [
        ["", "top-1 % α = 0.1"],
        ["T = 1", "70.00 (1)"],
    ]


def test_the_standards_of_the_other_page_hold_here(html, page):
    assert len(set(page.ids)) == len(page.ids)
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)
    levels = [int(tag[1]) for tag, _ in page.headings]
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert len(page.captions) == len([tag for tag, _ in page.tags if tag == "table"])
    assert all(each["tabindex"] == "0" and each["aria-label"] for each in page.regions)
    assert {attributes["scope"] for tag, attributes in page.tags if tag == "th"} <= {"col", "row", "colgroup"}
    assert not {"script", "link", "iframe", "object", "base", "form", "svg"} & {tag for tag, _ in page.tags}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on") or name == "style"]
    assert all(image["src"].startswith("data:image/svg+xml;base64,") for image in page.images)
    assert all(len(image["alt"]) > 40 for image in page.images)
    assert "url(" not in html.partition("</style>")[0]
    assert "default-src 'none'" in page.tags[3][1]["content"]


def test_markup_in_any_text_stays_text(results):
    rows = [
        figure("2B", "top1", 70.0, student=HOSTILE, teacher="<u>", data="<s>", stands_for="<q>", flag="<i>",
               label_smoothing=0.1, temperature=T, target_class="<em>")
        for T in (1.0, 3.0)
    ]  # fmt: skip
    write_result(results / "results/2B.json", Result("2B", HOSTILE, "<b>", [HOSTILE], [HOSTILE], rows))
    (results / "results/1.svg").write_text(SVG.replace("<title>x</title>", "<script>alert(1)</script>"))
    panel = {HOSTILE: 1, "outputs": HOSTILE, "class": "<b>", "model": "<b>"}
    (results / "results/1.json").write_text(json.dumps({"rows": [panel]}))
    experiments = [each | {"title": HOSTILE, "command": HOSTILE, "notes": [HOSTILE]} for each in (TABLES[0], DRAWING)]
    experiments[1] |= {"published": HOSTILE, "id": "<b>"}
    path = write(results, experiments, title=HOSTILE, intro=[HOSTILE], scale=HOSTILE)
    page = Document(experiments_page(path))
    assert not {"script", "b", "i", "u", "s", "q", "em", "svg"} & {tag for tag, _ in page.tags}
    assert page.text.count(HOSTILE) >= 10
    assert all(image["src"].startswith("data:image/svg+xml;base64,") for image in page.images)
    held = base64.b64decode(page.images[-1]["src"].partition(",")[2]).decode()
    assert "alert(1)" in held  # within an image, which runs nothing, and only there


def test_a_study_has_its_question_a_table_by_temperature_and_a_link_to_the_page_of_its_runs(results):
    about = {"data": "letters", "teacher": "big", "student": "net", "metric": "top1", "n": 3, "optimiser": "momentum"}
    means = {(None, 0.1, 1.0): 85.0, (None, 0.1, 3.0): 83.0, ("gradient scale = match", None, 3.0): 84.5}
    rows = [
        about | {"settings": settings, "label_smoothing": alpha, "temperature": T, "mean": mean}
        for (settings, alpha, T), mean in means.items()
    ]
    rows[0]["standard_deviation"] = 0.4
    (results / "results/study.json").write_text(json.dumps({"rows": rows}))
    (results / "study-step.html").touch()
    page = Document(experiments_page(write(results, [STUDY | {"title": HOSTILE}])))
    assert page.table("top-1 %, mean ± σ over seeds and teachers (n). letters: big → net") == [
        ["training of the student", "teacher", "T = 1", "T = 3"],
        ["the paper's way", "α = 0.1", "85.00 ± 0.40 (3)", "83.00 (3)"],
        ["gradient scale = match", "α unknown", "–", "84.50 (3)"],
    ]
    assert page.table("The experiments")[1][::2] == ["study-step", "means by T, and a page of its runs"]
    assert "./study-step.html" in page.links
    for words in ("Is it the size?", "lskd reproduce study-step", "our choice", HOSTILE):
        assert words in page.text


@pytest.mark.slow
def test_the_same_files_give_the_same_bytes_in_any_process(contents, html):
    code = "import sys; from lskd.report.experiments_page import experiments_page as page; "
    code += "sys.stdout.buffer.write(page(sys.argv[1]).encode())"
    environment = os.environ | {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    again = subprocess.run(
        [sys.executable, "-c", code, contents], cwd=ROOT, env=environment, capture_output=True, check=True
    )
    assert again.stdout.decode() == html


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"result": "results/9.json"}, "results/9.json (must be a file)"),
        ({"result": 3}, "experiments[0].result (must be text or null, not a whole number)"),
        ({"result": None}, "result, figure, summary (must have one of them)"),
        ({"result": None} | STUDY | {"question": None}, "question (must be there)"),
        ({"result": None} | STUDY | {"page": "none.html"}, "none.html (must be a file)"),
        (
            {"result": None} | STUDY | {"page": "results/1.svg", "summary": "results/1.json"},
            "1.json: rows[0] (must have the field",
        ),
        ({"figure": "results/1.svg"}, "result, figure, summary (must have one of them)"),
        ({"title": None}, "experiments[0].title (must be text, not null)"),
        ({"id": ["x"]}, "experiments[0].id (must be text, not a list)"),
        ({"command": ""}, "experiments[0].command (must be text of length >= 1)"),
        ({"notes": "x"}, "experiments[0].notes (must be a list, not text)"),
        (DRAWING | {"result": None, "figure": "results/2.svg"}, "results/2.svg (must be a file)"),
        (DRAWING | {"result": None, "numbers": "results/2.json"}, "results/2.json (must be a file)"),
        (DRAWING | {"result": None, "numbers": None}, "experiments[0]: numbers = "),
        (DRAWING | {"result": None, "published": None}, "published (must be there"),
        (DRAWING | {"result": None, "figure": "results/1.json"}, "1.json (must be SVG"),
        (DRAWING | {"result": None, "numbers": "results/2B.json", "figure": "results"}, "results (must be a file)"),
    ],
)
def test_an_experiment_that_cannot_be_shown_is_refused_in_one_line(results, change, message):
    path = write(results, [TABLES[0] | change])
    with pytest.raises(InputError) as error:
        experiments_page(path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"rows": []}, "1.json: rows (must be a list of length >= 1)"),
        ({"rows": [{"a": 1}] * 1001}, "1.json: rows (must be a list of length <= 1000)"),
        ({"rows": [{"a": {"b": 1}}]}, "1.json: rows[0].a: {'b': 1} (must be a number, text or null, not an object)"),
        ({"rows": [{"a": [1]}]}, "1.json: rows[0].a: [0] (must be text, not a whole number)"),
        ({"rows": [{"a": 1}, {}]}, "1.json: rows[1]: {} (must have a value beside file, files, checkpoint)"),
        ({"rows": [{"file": "x", "a": None}]}, "1.json: rows[0]: {'file': 'x', 'a': None} (must have a value beside"),
        ({"rows": [{"a": True}]}, "1.json: rows[0].a: True (must be a number, text or null, not true or false)"),
        ([], "1.json: content (must be an object, not a list)"),
    ],
)
def test_numbers_that_are_no_table_are_refused(results, numbers, message):
    (results / "results/1.json").write_text(json.dumps(numbers))
    with pytest.raises(InputError, match=re.escape(message)):
        experiments_page(write(results, [DRAWING]))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<svg>",
        '<svg width="100%" height="5pt">',
        '<svg width="0pt" height="5pt">',
        '<svg width="1.2.3pt" height="5pt">',
        '<svg width="99999999pt" height="5pt">',
        '<svg stroke-width="4pt" height="5pt">',
        "\xff",
    ],
)
def test_a_drawing_without_a_size_is_refused(tmp_path, text):
    (tmp_path / "x.svg").write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=r"x\.svg"):
        read_svg(tmp_path / "x.svg")


def test_runs_that_are_not_there_are_named(results):
    with pytest.raises(InputError, match=r"runs/nowhere \(must be a directory"):
        experiments_page(write(results, [TABLES[0]], runs=["runs/nowhere"]))
    with pytest.raises(InputError, match=r"contents\.json: runs: runs/.*/run\.json \(must be a directory: of a run"):
        experiments_page(write(results, [TABLES[0]], runs=["runs/data/student_net_a0.1_T1_s1/run.json"]))
    with pytest.raises(InputError, match=r"experiments \(must be a list of length >= 1"):
        experiments_page(write(results, []))


def test_every_published_table_has_a_headline():
    tables = ("2A", "3", "5", "D.2", "E", "G.1", "H.1", "H.2", "I.1", "K.1")
    p = adjusted({each: each.p for table in tables for each in compared(published(table))})
    heads = {table: headline(published(table), p, 3) for table in tables}
    assert "–" not in heads.values()
    assert heads["E"] == "α\u00a0=\u00a00.1: standard poodle 976, golden retriever 924, thunder snake 964"
    assert heads["G.1"] == "S1 0.850, S2 0.940"
    assert "val: η(S1) −0.84\u00a0%, below 0 for 9 of 10" in heads["3"]
    assert heads["D.2"].count("more than chance") == 4
    assert "no test" in heads["2A"]  # no standard deviations are printed there
    assert "train: 73.282 at T\u00a0=\u00a01 on average" in heads["I.1"]


def test_the_command_writes_the_page(contents, html, tmp_path):
    done = here("report --contents", contents, "--output", tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == html
    assert done.stdout.startswith(str(tmp_path / "page.html"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("{place}/runs --contents {place}/contents.json", "must be without RUNS"),
        ("", "RUNS: none"),
        ("--contents {place}/contents.json --first 2", "--first: 2.0 (is for RUNS"),
        ("--contents {place}/contents.json --sets {place}/x", "--sets"),
        ("--contents {place}/contents.json --title x", "--title: x (is for RUNS"),
        ("--contents {place}/none.json", "none.json"),
        ("--contents {place}/results/1.svg", "must be JSON"),
    ],
)
def test_a_mistake_is_one_line_and_the_old_page_stays(contents, tmp_path, words, message):
    out = tmp_path / "page.html"
    out.write_text("old")
    done = here("report", words.format(place=tmp_path), "--output", out, status=2)
    assert message in last_line(done)
    assert len(done.stderr.strip().splitlines()) == 1
    assert out.read_text() == "old"


def test_whiskers_are_a_standard_deviation_to_both_sides_where_it_is_known(contents, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "lskd.report.sections.experiment_table.bars", lambda *words: drawn.append(words) or bars(*words)
    )
    experiments_page(contents)
    ((names, groups, _, limits),) = drawn
    assert names == ["Bag", "Coat"]
    assert [(each.label, list(each.values)) for each in groups[:2]] == [
        ("η(S1), train", [-1.0, -2.0]),
        ("η(S2), train", [2.0, 4.0]),
    ]
    assert list(groups[0].intervals) == [(-1.5, -0.5), (-2.5, -1.5)]
    assert list(groups[1].intervals) == [None, None]
    assert limits == pytest.approx((-2.5 - 0.325, 4.0 + 0.325))  # a twentieth of 6.5 on either side
