import base64
import itertools
import json
import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import scipy.special
import scipy.stats
from helpers.commands import ROOT, run
from helpers.lskd_commands import here
from helpers.small_runs import CLASSES, add_representations, image_run, translation_run, write_runs

from lskd.io.errors import InputError
from lskd.measure.calibration import expected_calibration_error
from lskd.measure.class_sets import ClassSets, write_sets
from lskd.measure.diffusion import DiffusionIndex
from lskd.measure.eta import EtaMeasurement
from lskd.measure.isotropy import isotropy_test
from lskd.measure.neural_collapse import neural_collapse
from lskd.measure.representation_collector import RepresentationCollector
from lskd.measure.representations import read_representations, write_representations
from lskd.measure.similar_classes import sets_by_distance
from lskd.measure.student_pairs import identity
from lskd.paper.measured import measure
from lskd.records.found_runs import find_runs
from lskd.records.runs import read_run, write_run
from lskd.records.studies import group
from lskd.report.claims import Claims
from lskd.report.measured_eta import Diffusion, MeanEta, MeasuredEta, TargetEta
from lskd.report.options import Options
from lskd.report.runs_page import runs_page
from lskd.report.sections.accuracy import neighbours

VOID = {"meta", "img"}
HOSTILE = "<script>alert(\"1\")</script> & 'x'"


class Document(HTMLParser):
    """What a page holds; every element must be closed where it should be."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.ids, self.images, self.headings, self.links, self.texts = [], [], [], [], [], []
        self.tables, self.regions, self.tags, self.captions = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        assert len(dict(attributes)) == len(attributes)
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.images += [attributes] if tag == "img" else []
        self.links += [attributes["href"]] if tag == "a" else []
        self.regions += [attributes] if attributes.get("role") == "region" else []
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag == "table":
            self.rows = []
        elif tag in ("h1", "h2", "h3", "h4"):
            self.headings.append([tag, ""])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == "table":
            self.tables.append((self.captions[-1], self.rows))

    def handle_data(self, data):
        if "style" in self.open:
            return
        data = data.replace("\u00a0", " ")
        self.texts.append(data)
        if "caption" in self.open:
            self.captions.append(data)
        elif "table" in self.open and ({"td", "th"} & set(self.open)):
            self.rows[-1][-1] += data
        if self.open and self.open[-1] in ("h1", "h2", "h3", "h4"):
            self.headings[-1][1] += data

    @property
    def text(self) -> str:
        return " ".join(self.texts)

    def table(self, beginning: str) -> list[list[str]]:
        """The rows of the table whose caption begins so, the head's too."""
        (found,) = [rows for caption, rows in self.tables if caption.startswith(beginning)]
        return found


def page_of(*places, **options) -> Document:
    return Document(runs_page(places, Options(**options)))


def said(place: Path) -> str:
    """What the page says first, without η."""
    studies = [(study, Diffusion()) for study in group(find_runs([place]))]
    answer = Claims(studies, "T = 1 → 3").answer()
    texts = [text for title, sentences in answer.studies for text in (title, *sentences)]
    return " ".join(filter(None, [*texts, answer.explanation])).replace("\u00a0", " ")


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("runs")
    write_runs(place)
    return place


@pytest.fixture(scope="module")
def html(runs) -> str:
    return runs_page([runs])


@pytest.fixture(scope="module")
def page(html) -> Document:
    return Document(html)


def test_ids_are_unique_and_links_lead_to_them(page):
    assert len(set(page.ids)) == len(page.ids) > 5
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)


def test_headings_go_down_one_step_at_a_time(page):
    levels = [int(tag[1]) for tag, _ in page.headings]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_tables_have_captions_scopes_and_a_region_that_can_be_reached(page):
    heads = [attributes for tag, attributes in page.tags if tag == "th"]
    assert {each["scope"] for each in heads} == {"col", "row", "colgroup"}
    assert len(page.captions) == len([tag for tag, _ in page.tags if tag == "table"]) > 5
    assert all(each["tabindex"] == "0" and each["aria-label"] for each in page.regions)
    assert len(page.regions) >= len(page.captions)


def test_figures_are_described_with_their_numbers(page):
    assert len(page.images) >= 8
    assert all(len(image["alt"]) > 40 for image in page.images)
    captions = [text for text in page.texts if text.startswith("Numbers of figure")]
    assert captions == [f"Numbers of figure {number}" for number in range(1, len(page.images) + 1)]
    assert "α = 0.1: 80.90 at T = 1, 80.70 at T = 3" in page.images[0]["alt"].replace("\u00a0", " ")


def test_more_teachers_than_a_drawing_can_tell_apart_are_in_two(tmp_path):
    smoothings = [place / 10 for place in range(8)]
    for alpha in smoothings:
        for T in (None, 1.0, 3.0):
            add_representations(image_run(tmp_path, alpha, T), alpha, T)
    alts = [image["alt"].replace("\u00a0", " ") for image in page_of(tmp_path).images]
    for what in (": top-1 % against temperature", "mean entropy of the teachers' outputs", "ECE of the students"):
        first, second = (alt for alt in alts if what in alt)
        assert [f"α = {alpha:g}: " in first for alpha in smoothings] == [True] * 7 + [False], what
        assert [f"α = {alpha:g}: " in second for alpha in smoothings] == [False] * 7 + [True], what


def test_nothing_is_fetched_and_nothing_runs(html, page):
    assert not {"script", "link", "iframe", "object", "base", "form"} & {tag for tag, _ in page.tags}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on") or name == "style"]
    assert all(image["src"].startswith("data:image/svg+xml;base64,") for image in page.images)
    assert "@import" not in html
    assert "url(" not in html.partition("</style>")[0]
    assert "default-src 'none'" in page.tags[3][1]["content"]
    for image in page.images:
        svg = base64.b64decode(image["src"].partition(",")[2]).decode()
        assert not re.findall(r'(?:href|src)="(?!#)', svg)
        assert "<script" not in svg


@pytest.mark.slow
def test_the_same_runs_give_the_same_bytes_in_any_process_and_order(runs, html):
    parts = [runs / "en-de", runs / "data"]
    code = "import sys; from lskd.report.runs_page import runs_page as page; "
    code += "sys.stdout.buffer.write(page(sys.argv[1:]).encode())"
    environment = os.environ | {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    again = subprocess.run(
        [sys.executable, "-c", code, *parts], cwd=ROOT, env=environment, capture_output=True, check=True
    )
    assert again.stdout.decode() == html


def test_the_table_holds_the_records_figures_of_the_last_epoch(runs, page):
    rows = page.table("These runs. Accuracy")
    assert rows[0] == ["", "α = 0", "α = 0.1"]
    assert rows[1] == ["", "top-1 %", "top-5 %", "top-1 %", "top-5 %"]
    for row, name in zip(
        rows[2:], ["teacher_net_a{}_s1", "student_net_a{}_T1_s1", "student_net_a{}_T3_s1"], strict=True
    ):
        expected = []
        for alpha in ("0.0", "0.1"):
            record = json.loads((runs / "data" / name.format(alpha) / "run.json").read_text())
            figures = record["figures"]["valid"]["last.pth.tar"]
            expected += [f"{figures['top1']:.2f}", f"{figures['top5']:.2f}"]
        assert [re.sub("[a-z]$", "", cell) for cell in row[1:]] == expected
    assert "99.99" not in page.text  # the best checkpoint's


def test_the_table_of_translations_holds_bleu_and_its_signature(page):
    rows = page.table("These runs. BLEU")
    assert rows[0] == ["", "α = 0.1"]  # fairseq's .10005
    assert [row[0] for row in rows[2:]] == ["teacher", "student, T = 1", "student, T = 3"]
    assert [re.sub("[a-z]$", "", row[1]) for row in rows[2:]] == ["22.05", "16.86", "12.17"]
    assert [row[2] for row in rows[2:]] == ["23.05", "17.86", "13.17"]
    assert "nrefs:1|case:mixed" in page.text


@pytest.mark.slow
def test_the_page_says_of_which_text_bleu_is(tmp_path):
    for temperature, text in ((1.0, "tokenised text"), (3.0, "detokenised text")):
        run = translation_run(tmp_path, temperature)
        record = read_run(run)
        record.metrics["test"]["checkpoint_best.pt"]["of"] = f"of {text}, against the raw references"
        write_run(record, run)
        assert f"BLEU is of {text}, against the raw references." in page_of(tmp_path).text
    assert "Scores of different texts do not compare." in page_of(tmp_path).text


def test_runs_that_are_not_at_their_end_are_named(tmp_path):
    unfinished = image_run(tmp_path, 0.1, 3.0)
    image_run(tmp_path, 0.1, 1.0)
    assert "epochs" not in page_of(tmp_path).text.partition("How each result")[0]
    record = read_run(unfinished)
    record.history[-1]["epoch"] = 2
    write_run(record, unfinished)
    text = page_of(tmp_path).text
    assert f"Not at the end of their training, but counted: data/{unfinished.name}." in text
    assert f"data/{unfinished.name} ended after 2 of 3 epochs." in text
    assert measure("2A", [tmp_path])[1] == [f"data/{unfinished.name} ended after 2 of 3 epochs."]
    said = run("python -m lskd accuracy", unfinished).stderr
    assert said == f"lskd accuracy: warning: {unfinished} ended after 2 of 3 epochs.\n"


def test_seeds_are_summed_up_as_mean_and_sample_standard_deviation(tmp_path):
    for seed, top1 in enumerate([80.0, 81.0, 83.0], 1):
        image_run(tmp_path, temperature=1, seed=seed, top1=top1)
    image_run(tmp_path, temperature=3, seed=1, top1=79.0)
    rows = page_of(tmp_path).table("These runs")
    assert rows[2] == ["teacher", "70.00 (1)", "90.00 (1)"]  # from the students' records
    assert rows[3] == ["student, T = 1", "81.33 ± 1.53 (3)", "95.00 ± 0.00 (3)"]
    assert rows[4][1] == "79.00 (1)a"


def test_teachers_that_were_not_given_count_once_each_by_their_students_records(tmp_path):
    for seed, (name, top1) in enumerate([("one", 80.0), ("one", 80.0), ("other", 86.0)], 1):
        image_run(tmp_path, temperature=1, seed=seed, fingerprint=name, valid={"top1": top1})
    assert page_of(tmp_path).table("These runs")[2] == ["teacher", "83.00 ± 4.24 (2)", "–"]


def test_a_warning_of_several_seeds_is_marked_once(tmp_path):
    for seed in (1, 2):
        image_run(tmp_path, temperature=3, seed=seed)
    assert page_of(tmp_path).table("These runs")[3][1] == "80.00 ± 0.00 (2)a"


def test_equal_numbers_of_seeds_are_said_once(page):
    (caption,) = [caption for caption, _ in page.tables if caption.startswith("These runs. Accuracy")]
    assert "mean ± σ over seeds, n = 1 each. " in caption


def test_warnings_of_a_run_are_a_footnote_of_its_figure(page):
    rows = page.table("These runs. Accuracy")
    assert rows[4] == ["student, T = 3", "79.70", "95.00", "80.70a", "95.00"]
    assert (
        page.text.count("Warning of the training: the teacher was trained with label smoothing (α = 0.1) and this T is")
        == 1
    )


def test_of_one_seed_nothing_is_claimed(tmp_path):
    image_run(tmp_path, temperature=1, top1=85.0)
    image_run(tmp_path, temperature=3, top1=84.0)
    assert said(tmp_path) == (
        "clothes: teacher_net → student_net Teacher with α = 0.1: 85.00 % at T = 1, the highest of 2 temperatures, "
        "84.00 % at T = 3, the lowest. One seed each: no test there, so nothing is claimed of T; the 2000 images alone "
        "leave the difference of two such accuracies a standard error of up to 1.1 points. η, T = 1 → 3, was "
        "not measured."
    )


def accuracies(place: Path, by_temperature: dict, **options) -> None:
    """Students of the same seeds at each T."""
    for temperature, values in by_temperature.items():
        for seed, top1 in enumerate(values, 1):
            image_run(place, temperature=temperature, seed=seed, top1=top1, **options)


def test_two_seeds_are_too_few_for_a_claim(tmp_path):
    accuracies(tmp_path, {1: [85.0, 85.1], 3: [70.0, 70.1]})
    assert "Fewer than 3 seeds somewhere: no test there, so nothing is claimed of T" in said(tmp_path)


@pytest.mark.parametrize(
    ("second", "verdict"),
    [
        # t-tests of two temperatures: 2 ± .1/√3, and 1 ± 2.65/√3, with 2 degrees of freedom
        ([82.9, 84.0, 85.1], "+2.00 points, more than chance (3 seeds, 95 % interval +1.75 to +2.25, p < 0.001)"),
        ([83.0, 88.0, 84.0], "+1.00 points, may be chance (3 seeds, 95 % interval −5.57 to +7.57, p = 0.58)"),
    ],
)
def test_a_difference_is_tested_over_seeds(tmp_path, second, verdict):
    accuracies(tmp_path, {1: [85.0, 86.0, 87.0], 3: second})
    assert f"T = 1 less T = 3: {verdict}." in said(tmp_path)


def test_the_best_of_four_temperatures_is_tested_as_the_best_of_four(tmp_path):
    values = {1: [84.9, 84.3, 84.6], 2: [84.1, 84.2, 84.0], 3: [84.3, 84.0, 84.5], 64: [83.9, 84.1, 83.2]}
    accuracies(tmp_path, values)
    text = said(tmp_path)
    alone = scipy.stats.ttest_rel(values[1], values[64])
    blocks = np.array(list(values.values())).T
    residual = np.mean(
        [np.var(blocks[:, i] - blocks[:, j], ddof=1) / 2 for i, j in itertools.combinations(range(4), 2)]
    )
    pooled = scipy.stats.studentized_range.sf(float(np.ptp(blocks.mean(0))) / np.sqrt(residual / 3), 4, 6)
    own = scipy.stats.studentized_range.sf(2**0.5 * alone.statistic, 4, 2)
    shown = float(re.search(r"T = 1 less T = 64: .*?p = ([0-9.]+)\)", text)[1])
    assert shown == pytest.approx(max(own, pooled), abs=0.006)  # the larger of the page's two: not adjusted
    assert shown > 2 * alone.pvalue
    rest = scipy.stats.ttest_1samp(blocks[:, 0] - blocks[:, 1:].mean(1), 0).pvalue
    assert "T = 1 less the mean of the other T: +0.57 points, may be chance (3 seeds, 95 % interval" in text
    assert f"p = {2 * rest:.2g})" in text
    assert "adjusted for the 2 tests of this page (Holm)" in text


def test_claims_are_adjusted_for_all_of_the_page(tmp_path):
    for place, alpha in enumerate((0.0, 0.1, 0.2)):
        accuracies(tmp_path, {1: [85.0, 86.0, 87.0], 3: [84.0 + place, 84.0 + 2 * place, 85.0]}, alpha=alpha)
    text = said(tmp_path)
    assert "for the 3 tests of this page" in text
    p = scipy.stats.ttest_rel([85.0, 86.0, 87.0], [84.0, 84.0, 85.0]).pvalue
    assert p < 0.05 < 3 * p
    assert f"may be chance (3 seeds, 95 % interval +0.23 to +3.10, p = {3 * p:.2g})" in text


def test_whether_to_smooth_is_claimed_over_teachers_and_of_one_of_each_kind_nothing_is(tmp_path):
    for alpha, mean in ((0.0, 88.0), (0.1, 85.0)):
        accuracies(tmp_path / "one", {1: [mean, mean + 1.0, mean + 2.2]}, alpha=alpha)
        for seed in (1, 2, 3):
            about = {"fingerprint": f"weights of {alpha}, {seed}", "top1": mean + seed + alpha * seed**2}
            image_run(tmp_path / "three", alpha, 1.0, seed, **about)
    few = "86.07 %; 1 and 1 teachers are too few to claim anything of smoothing. η, T = 1 → 3, was not measured."
    assert few in said(tmp_path / "one")
    words = (
        "Smoothed or not: the best students are those of α = 0, at T = 1, 90.00 ± 1.00 %; the best of α = 0.1, at T = 1"
    )
    assert f"{words}, 87.47 ± 1.40 %: +2.53 points, more than chance (3 teachers, 95 % " in said(tmp_path / "three")


def test_equally_good_students_of_differently_smoothed_teachers_are_called_so(tmp_path):
    for alpha in (0.0, 0.1):
        for seed in (1, 2, 3):
            about = {"fingerprint": f"weights of {alpha}, {seed}", "top1": 85.0 + (seed if alpha else 4 - seed)}
            image_run(tmp_path, alpha, 1.0, seed, **about)
    words = "the best students of α = 0.1, at T = 1, 87.00 ± 1.00 %, are as good as those of α = 0, at T = 1, 87.00"
    assert f"Smoothed or not: {words} ± 1.00 %." in said(tmp_path)


def test_students_of_other_seeds_are_compared_without_pairs(tmp_path):
    for seed, top1 in enumerate([85.0, 86.0, 87.0, 82.0, 83.0, 84.0], 1):
        image_run(tmp_path, temperature=1 if seed <= 3 else 3, seed=seed, top1=top1)
    shown = float(re.search(r"T = 1 less T = 3: .*?p = ([0-9.]+)\)", said(tmp_path))[1])
    welch = 2 * scipy.stats.t.sf(3 / np.sqrt(2 / 3), 2)  # with the fewest degrees of freedom
    assert shown == pytest.approx(welch, abs=0.0006)


def test_temperatures_that_tie_are_all_named(tmp_path):
    for temperature, top1 in [(1, 85.0), (2, 84.0), (64, 85.0)]:
        image_run(tmp_path, temperature=temperature, top1=top1)
    assert "85.00 % at T = 1 or 64, the highest of 3 temperatures, 84.00 % at T = 2, the lowest" in said(tmp_path)


def test_equal_accuracies_are_called_alike(tmp_path):
    for temperature in (1, 2):
        image_run(tmp_path, temperature=temperature, top1=85.0)
    assert "85.00 % at T = 1 or 2, the same at both temperatures." in said(tmp_path)


def test_two_seeds_of_equal_accuracy_are_not_called_one(tmp_path):
    accuracies(tmp_path, {1.0: [85.0, 85.0], 2.0: [84.0, 84.0]})
    html = runs_page([tmp_path])
    assert "Bars: ± σ over seeds" in html
    assert "one seed each" not in html


def test_a_single_temperature_is_compared_with_nothing(tmp_path):
    image_run(tmp_path, temperature=1)
    assert "no students at two temperatures" in said(tmp_path)


@pytest.mark.parametrize(
    ("dataset", "teacher", "student", "table", "relation"),
    [
        ("cub200", "resnet50", "resnet18.tv_in1k", "2B", "The paper has these data"),
        ("imagenet", "resnet50", "resnet50", "2A", "The paper has these data"),
        ("cub200", "resnet50", "mobilenetv2_100", "4", "The paper has these data"),
        ("cub200", "resnet50", "convnext_tiny", "B.1", "The paper has these data"),
        ("cub200", "resnet34", "resnet18", "2B", "Nearest in kind"),
        ("torch/clothes", "resnet50", "resnet18", "2B", "Nearest in kind"),
    ],
)
def test_the_published_neighbour_is_the_same_experiment_or_called_another(
    tmp_path, dataset, teacher, student, table, relation
):
    image_run(tmp_path, temperature=1, model=student, teacher=teacher, dataset=dataset)
    (study,) = group(find_runs([tmp_path]))
    figures, words = neighbours(study)
    assert {each.table for each in figures} == {table}
    assert relation in words
    assert {each.data for each in figures} == {"ImageNet-1K" if table == "2A" else "CUB200-2011"}
    assert len({each.student for each in figures}) == 2  # the teacher's, and one student's


def test_data_of_many_classes_have_imagenet_for_a_neighbour(tmp_path):
    image_run(tmp_path, temperature=1, classes=[f"class {index}" for index in range(600)])
    figures, words = neighbours(*group(find_runs([tmp_path])))
    assert figures[0].table == "2A"
    assert "ImageNet-1K, ResNet-50 → ResNet-18" in words


def test_published_figures_and_their_flags_stand_beside(page):
    rows = page.table("Published. Table 2B: CUB200-2011, ResNet-50 → ResNet-18")
    assert rows[2] == ["teacher", "81.58", "95.93", "82.07", "96.17"]
    assert rows[6] == ["student, T = 64", "73.61", "94.53", "67.16", "93.06"]
    assert "rises from T = 1" in page.text
    rows = page.table("Published. Table 5: IWSLT En-De")
    assert rows[1:3] == [["teacher", "26.46", "26.75"], ["student, T = 1", "24.91", "25.09"]]


def eta_by_loops(first: Path, second: Path, sets: dict) -> dict:
    """Eq. 1, transcribed, in %: of the similar classes and of the dissimilar ones."""
    found = {}
    centroids = []
    for path in (first, second):
        each = read_representations(path)
        features = np.asarray(each.features, np.float64)
        centroids.append({name: features[each.labels == index].mean(0) for index, name in enumerate(each.class_names)})
    for target, (similar, dissimilar) in sets.items():
        d = []
        for c in centroids:
            distances = {name: ((c[target] - c[name]) ** 2).sum() for name in (*similar, *dissimilar)}
            d.append({name: distance / sum(distances.values()) for name, distance in distances.items()})
        found[target] = [
            100 * np.mean([(d[1][name] - d[0][name]) / d[0][name] for name in names]) for names in (similar, dissimilar)
        ]
    return found


def sets_by_loops(teacher: Path) -> dict:
    """The closest of the others, and all the rest: of four, 1 % are one at least, and 90 % all that this leaves."""
    sets, centroids = {}, read_representations(teacher).moments.centroids()
    for index, name in enumerate(CLASSES):
        others = sorted((np.linalg.norm(centroids[index] - centroids[k]), CLASSES[k]) for k in range(5) if k != index)
        sets[name] = [others[0][1]], [other for _, other in others[1:]]
    return sets


def isotropic_p(first: Path, second: Path, sets: dict) -> dict:
    """The p of the test against isotropic change, by target, as the page writes it."""
    files = [read_representations(path) for path in (first, second)]
    place = files[0].class_names.index
    by_place = {place(name): ClassSets(*(list(map(place, part)) for part in each)) for name, each in sets.items()}
    found = isotropy_test([(files[0].moments, files[1].moments)], by_place, seed=1).p_values
    return {files[0].class_names[target]: "–" if p is None else f"{p:.3f}" for target, p in found.items()}


def test_eta_is_that_of_the_papers_formula(runs, page):
    sets = sets_by_loops(runs / "data/teacher_net_a0.0_s1/last.train.representations.safetensors")
    for alpha, words in (("0.0", "α = 0"), ("0.1", "α = 0.1")):
        for split in ("train", "validation"):
            paths = [
                runs / f"data/student_net_a{alpha}_T{T}_s1/last.{split}.representations.safetensors" for T in (1, 3)
            ]
            expected = eta_by_loops(*paths, sets)
            (rows,) = [
                rows for caption, rows in page.tables
                if caption.startswith("η in %") and f"{split} split" in caption and f"with {words}. " in caption
            ]  # fmt: skip
            for name, close, similar, interval, dissimilar, _, p, p_isotropic in rows[1:]:
                assert close == sets[name][0][0]
                for shown, value in zip((similar, dissimilar), expected[name], strict=True):
                    assert float(shown.replace("−", "-")) == pytest.approx(value, abs=0.051)
                low, high = (float(end.replace("−", "-")) for end in interval.split(" to "))
                assert low < expected[name][0] < high
                assert float(p) in (0.25, 0.5, 0.75, 1.0)
                assert p_isotropic == isotropic_p(*paths, sets)[name]


def test_the_headline_has_eta_with_signs_and_a_verdict(runs, page):
    sets = sets_by_loops(runs / "data/teacher_net_a0.0_s1/last.train.representations.safetensors")
    paths = [runs / f"data/student_net_a0.1_T{T}_s1/last.validation.representations.safetensors" for T in (1, 3)]
    values = np.array(list(eta_by_loops(*paths, sets).values()))
    similar, dissimilar = values.mean(0)
    text = re.sub(r"\s+", " ", page.text[: page.text.index("Contents")])
    assert (
        "η, T = 1 → 3, teacher with α = 0.1, validation split, mean of 5 targets: "
        f"η(S1) = {similar:+.1f} % (below 0 for {(values[:, 0] < 0).sum()}); "
        f"η(S2) = {dissimilar:+.1f} % (above 0 for {(values[:, 1] > 0).sum()}). "
        "One pair of students: nothing is claimed of T."
    ).replace("-", "−") in text
    rows = page.table("η in % for each target class, validation split, teacher with α = 0.1")[1:]
    ends = [[float(end.replace("−", "-")) for end in row[3].split(" to ")] for row in rows]
    excluding = sum(low > 0 or high < 0 for low, high in ends)
    assert f"the interval over samples leaves out 0 for {excluding} targets of η(S1)" in text
    shown = page.table("η on the validation split, mean over target classes. clothes")[2][4]
    if shown != "–":
        assert "How near similar classes came may be isotropic change of these students (p =" in text


@pytest.mark.parametrize(("shift", "verdict"), [(-6.0, "is below 0"), (6.0, "is not below 0 beyond chance")])
def test_eta_over_seeds_is_claimed_where_it_is_below_0(shift, verdict):
    values = [[shift - 1, 0.3], [shift + 1, 0.1], [shift + 0.5, 0.1]]  # in %: η(S1), η(S2)
    sets = {target: ClassSets([2], [3]) for target in range(2)}
    targets = [
        tuple(DiffusionIndex(target, (2, 3), np.zeros(2), (one + target) / 100, two / 100, 0.5) for one, two in values)
        for target in sets
    ]
    measured = EtaMeasurement(targets, sets, "centroid", 0, None, [], None)
    rows = [TargetEta.of(["a", "b", "c", "d"], measured, each) for each in targets]
    eta = MeanEta.of("validation", MeasuredEta(rows, 0.2, [], []))
    assert eta.similar == pytest.approx([shift - 0.5, shift + 1.5, shift + 1.0])
    below = scipy.stats.ttest_1samp(eta.similar, 0, alternative="less")
    assert eta.p == pytest.approx(below.pvalue, abs=1e-5)
    claims = Claims([], "T = 1 → 3")
    claims.adjusted = {(eta, "over seeds"): eta.p, (eta, "isotropic"): 0.4}
    words = claims._eta(0.1, eta).replace("\u00a0", " ")
    assert f"Over 3 pairs of seeds η(S1) {verdict} (p" in words
    assert "How near similar classes came may be isotropic change of these students (p = 0.4)." in words
    low, high = scipy.stats.t.interval(0.95, 2, np.mean(eta.similar), np.std(eta.similar, ddof=1) / 3**0.5)
    assert f"95 % interval {low:+.1f} to {high:+.1f}".replace("-", "−") in words


@pytest.mark.slow
def test_eta_over_several_seeds_is_a_mean_with_a_deviation(tmp_path):
    add_representations(teacher := image_run(tmp_path, 0.1), 0.1)
    name, expected = "last.validation.representations.safetensors", []
    sets = sets_by_loops(teacher / "last.train.representations.safetensors")
    for seed in (1, 2):
        students = [image_run(tmp_path, 0.1, temperature, seed) for temperature in (1, 3)]
        for temperature, student in zip((1, 3), students, strict=True):
            add_representations(student, 0.1, temperature, seed)
        expected.append(eta_by_loops(students[0] / name, students[1] / name, sets))
    rows = page_of(tmp_path).table("η in % for each target class, validation split")
    assert rows[0][2:] == ["η(S1) %", "± σ over seeds", "η(S2) %", "± σ over seeds", "p", "p iso"]
    for row in rows[1:]:
        values = [each[row[0]][0] for each in expected]
        assert float(row[2].replace("−", "-")) == pytest.approx(np.mean(values), abs=0.051)
        low, high = (float(end.replace("−", "-")) for end in row[3].split(" to "))
        assert (high - low) / 2 == pytest.approx(np.std(values, ddof=1), abs=0.051)
        assert len(row[6].split(", ")) == 2


@pytest.mark.slow
def test_given_sets_are_used(runs, tmp_path):
    sets = {"Trouser": {"similar": ["Bag"], "dissimilar": ["Coat"]}}
    (tmp_path / "sets.json").write_text(json.dumps(sets))
    page = page_of(runs, sets=[tmp_path / "sets.json"])
    assert "Features of Trouser and Bag, which are similar, and of Coat," in page.text
    rows = page.table("η in % for each target class, train split, teacher with α = 0.1")
    assert [row[:2] for row in rows[1:]] == [["Trouser", "Bag"]]
    paths = [runs / f"data/student_net_a0.1_T{T}_s1/last.train.representations.safetensors" for T in (1, 3)]
    expected = eta_by_loops(*paths, {"Trouser": (["Bag"], ["Coat"])})["Trouser"]
    assert [float(rows[1][place].replace("−", "-")) for place in (2, 4)] == pytest.approx(expected, abs=0.051)
    assert f"{tmp_path / 'sets.json'} does not say what its classes were chosen by" in page.text


@pytest.mark.slow
def test_sets_that_were_chosen_in_a_student_of_the_page_are_refused(runs, tmp_path):
    student = runs / "data/student_net_a0.1_T3_s1/last.train.representations.safetensors"
    read = read_representations(student)
    sets = sets_by_distance(read.moments.centroids(), None, 1, 2)
    write_sets(tmp_path / "sets.json", sets, read.class_names, {"by": "distance", "from": "centroids"} | identity(read))
    page = page_of(runs, sets=[tmp_path / "sets.json"])
    assert f"S1 and S2 were chosen in {student}, a student under test" in page.text
    shown = [caption for caption, _ in page.tables if caption.startswith("η in %") and "train split" in caption]
    assert [caption.rpartition("with ")[2].partition(". ")[0] for caption in shown] == ["α = 0"]


@pytest.mark.slow
def test_other_temperatures_of_eta_can_be_chosen(runs):
    assert "others are compared by" in page_of(runs, first=2.0).text
    assert "Diffusion index η, T = 1 → 64" in page_of(runs, second=64.0).text


@pytest.mark.slow
def test_the_projection_shows_the_classes_asked_for(runs, page):
    rows = page.table("Distance d between")
    assert len(rows) == 1 + 6 * 2  # two teachers and four students, on two splits
    chosen = page_of(runs, classes=["Bag", "Coat", "Trouser"])
    assert "Features of Bag and Coat, which are similar, and of Trouser" in chosen.text


def test_entropies_are_those_of_the_teachers_outputs(runs, page):
    rows = page.table("Mean entropy in nats")
    for alpha in ("0", "0.1"):
        name = f"teacher_net_a{float(alpha)}_s1/last.train.representations.safetensors"
        each = read_representations(runs / "data" / name)
        for T in (0.5, 3.0, 64.0):
            total = 0.0
            for logits in each.logits() / T:
                p = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
                total -= sum(float(value) * math.log(value) for value in p if value > 0)
            (shown,) = [row for row in rows[1:] if row[:2] == [f"α = {alpha}", f"{T:g}"]]
            assert float(shown[2]) == pytest.approx(total / len(each.labels), abs=6e-5)
            assert shown[4] == "all 150 samples of train"
    assert f"{math.log(5):.2f} nats is the maximum." in page.text


def test_teachers_and_students_are_measured_side_by_side(runs, page):
    rows = page.table("Measures on the validation split")
    assert [row[0] for row in rows[1:]] == [
        f"{role}, α = {alpha}{at}" for alpha in ("0", "0.1") for role, at in ROLES
    ]  # fmt: skip
    column = rows[0].index
    for alpha in ("0", "0.1"):
        teacher, student = (
            read_representations(runs / f"data/{name}_s1/last.validation.representations.safetensors")
            for name in (f"teacher_net_a{float(alpha)}", f"student_net_a{float(alpha)}_T3")
        )
        (shown,) = [row for row in rows if row[0] == f"student, α = {alpha}, T = 3"]
        same = teacher.logits().argmax(1) == student.logits().argmax(1)
        p, q = (scipy.special.softmax(each.logits(), 1) for each in (teacher, student))
        assert float(shown[column("agreement %")]) == pytest.approx(100 * same.mean(), abs=0.006)
        assert float(shown[column("KL")]) == pytest.approx((p * np.log(p / q)).sum(1).mean(), abs=6e-5)
        ece = expected_calibration_error(q.max(1), q.argmax(1) == student.labels)
        assert float(shown[column("ECE %")].rstrip("a")) == pytest.approx(100 * ece, abs=0.006)
        assert float(shown[column("NC1")]) == pytest.approx(neural_collapse(student).nc1, abs=6e-4)
        (shares,) = [row for row in page.table(NON_TARGET) if row[0] == f"teacher, α = {alpha}"]
        own = scipy.special.softmax(teacher.logits() / 3, 1)[np.arange(150), teacher.labels]
        assert float(shares[2]) == pytest.approx(100 * (1 - own).mean(), abs=0.006)
    (teacher,) = [row for row in rows if row[0] == "teacher, α = 0"]
    assert teacher[column("KL")] == "–"
    assert "Measures of outputs are of all 150 samples." in page.text


ROLES = (("teacher", ""), ("student", ", T = 1"), ("student", ", T = 3"))
NON_TARGET = "Probability of all classes but the label in the teachers' outputs on the validation split"


def test_files_that_do_not_say_of_which_data_they_are_have_no_fidelity(tmp_path):
    with_students(tmp_path, keep=5)
    for path in tmp_path.glob("data/teacher*/*.safetensors"):
        file = read_representations(path)
        write_representations(path, replace(file, provenance=file.provenance | {"data": None}))
    page = page_of(tmp_path)
    why = "no data fingerprint in its provenance (must have it, to show that samples are the same)"
    assert f"No fidelity on train: teacher: {why}." in page.text
    assert {row[-1] for row in page.table("Measures on the train split")[1:]} == {"–"}
    assert "of 25 kept of 150 samples, weighted by the counts of their classes." in page.text


def test_changes_of_classes_are_differences_of_means(tmp_path):
    for seed in (1, 2):
        image_run(tmp_path, temperature=1, seed=seed, classwise={"cat": 80.0 + seed, "dog": 70.0})
        image_run(tmp_path, temperature=3, seed=seed, classwise={"cat": 78.5, "dog": 71.0 + seed})
    rows = page_of(tmp_path).table("Teacher with α = 0.1: accuracy at T = 1")
    assert rows == [["class", "T = 1", "T = 3"], ["cat", "81.50 ± 0.71", "−3.00"], ["dog", "70.00 ± 0.00", "+2.50"]]


def test_a_student_that_was_never_validated_does_not_hide_the_classes_of_the_others(tmp_path):
    image_run(tmp_path, temperature=1, classwise={"cat": 80.0})
    for seed in (1, 2, 3):
        run = image_run(tmp_path, temperature=3, seed=seed, classwise={"cat": 78.0 + seed})
    record = read_run(run)  # of the third, interrupted before its first validation
    record.metrics = {}
    write_run(record, run)
    page = page_of(tmp_path)
    assert page.table("Teacher with α = 0.1: accuracy at T = 1")[1] == ["cat", "80.00", "−0.50"]
    assert "changes in points (n = 1 to 2)" in page.text


def test_of_many_classes_those_that_change_most_are_shown(tmp_path):
    names = [f"class {index}" for index in range(50)]
    image_run(tmp_path, temperature=1, classwise=dict.fromkeys(names, 50.0))
    image_run(tmp_path, temperature=3, classwise={name: 50.0 - place for place, name in enumerate(names)})
    rows = page_of(tmp_path).table("Teacher with α = 0.1")
    assert [row[0] for row in rows[1:]] == names[20:]


def test_names_that_are_markup_stay_text(tmp_path):
    classes = [HOSTILE, "b<i>", "c"]
    for temperature in (1.0, 3.0):
        image_run(tmp_path, 0.1, temperature, model=HOSTILE.replace("/", ""), dataset="x/<img src=x>", classes=classes,
                  warnings=[f"<b>{HOSTILE}"], teacher="<u>")  # fmt: skip
    text = runs_page([tmp_path])
    page = Document(text)
    assert not {"script", "b", "i", "u"} & {tag for tag, _ in page.tags}
    assert all(image["src"].startswith("data:") for image in page.images)
    assert HOSTILE in page.text  # in the table of classes, as it is
    assert f"Warning of the training: <b>{HOSTILE}" in page.text


@pytest.mark.slow
def test_markup_in_class_names_of_figures_stays_text(tmp_path, monkeypatch):
    monkeypatch.setattr("helpers.small_runs.CLASSES", [HOSTILE, "$x_1$", "c", "d", "e"])
    add_representations(image_run(tmp_path, 0.1), 0.1)
    for temperature in (1.0, 3.0):
        add_representations(image_run(tmp_path, 0.1, temperature), 0.1, temperature)
    page = page_of(tmp_path)
    assert not {"script"} & {tag for tag, _ in page.tags}
    assert any(HOSTILE in image["alt"] for image in page.images)
    for image in page.images:
        svg = base64.b64decode(image["src"].partition(",")[2]).decode()
        assert "<script" not in svg


def test_what_is_missing_is_said_with_the_command_that_makes_it(tmp_path):
    image_run(tmp_path, temperature=1.0)
    image_run(tmp_path, temperature=3.0)
    page = page_of(tmp_path)
    run = tmp_path / "data/student_net_a0.1_T1_s1/last.pth.tar"
    command = f"lskd vision representations {run} --data-dir /data --split train validation"
    assert page.text.count(command) == 3  # η, projection, entropy
    assert len(page.images) == 2  # lines, and the paper's


def test_missing_representations_of_translations_are_said_too(tmp_path):
    for temperature in (1.0, 3.0):
        translation_run(tmp_path, temperature)
    page = page_of(tmp_path)
    run = tmp_path / "en-de/student_a0.1_T1_s1/checkpoint_best.pt"
    assert f"lskd nmt representations --data /bin/help.en-de --path {run}" in page.text
    assert "Accuracy by class" not in page.text


def with_students(place: Path, keep: int | None = None) -> Path:
    """Two students and their teacher with representations of which so many features a class are kept."""
    for temperature in (None, 1.0, 3.0):
        add_representations(image_run(place, 0.1, temperature), 0.1, temperature, keep=keep)
    return place


@pytest.mark.slow
def test_without_features_eta_has_no_intervals_and_entropies_are_the_stored_ones(tmp_path):
    page = page_of(with_students(tmp_path, keep=0))
    assert "No intervals: too few features were kept." in page.text
    assert {row[3] for row in page.table("η in % for each target class, train split")[1:]} == {"–"}
    assert "Not shown: teacher_net_a0.1_s1, student_net_a0.1_T1_s1, student_net_a0.1_T3_s1: features: none" in page.text
    assert page.table("Mean entropy")[1:] == [
        ["α = 0.1", "1", "0.2000", "0.0082", "all 150 samples of train"],
        ["α = 0.1", "3", "0.6000", "0.0082", "all 150 samples of train"],
    ]


@pytest.mark.slow
def test_features_of_some_samples_are_called_that(tmp_path):
    page = page_of(with_students(tmp_path, keep=5))
    assert "Over 25 of 150 samples of train, whose features were kept." in page.text


@pytest.mark.slow
def test_without_the_teachers_files_classes_have_to_be_said(tmp_path):
    for path in with_students(tmp_path).glob("data/teacher*/*.safetensors"):
        path.unlink()
    text = page_of(tmp_path).text
    assert "Which classes are similar is taken from a teacher's representation file, or given:" in text
    assert "Choose the classes to show" in text
    assert "Features of Coat and Bag" in page_of(tmp_path, classes=["Coat", "Bag", "Trouser"]).text


def test_where_eta_is_not_defined_the_page_says_why_and_shows_the_other_split(tmp_path):
    with_students(tmp_path, keep=0)
    path = tmp_path / "data/student_net_a0.1_T1_s1/last.train.representations.safetensors"
    collected = RepresentationCollector(CLASSES, 8, keep_per_class=0)
    collected.add(np.zeros((30, 8), np.float32), np.repeat(np.arange(5), 6))  # every class in one point
    was = read_representations(path)
    write_representations(path, collected.result(weight=was.weight, bias=was.bias, provenance=was.provenance))
    page = page_of(tmp_path)
    assert "η on train, α = 0.1, is not defined: sets: no target is left ('" in page.text
    assert f"' is left out for 'T-shirt/top': its distance in {path} is 0)" in page.text
    tables = [caption for caption, _ in page.tables if caption.startswith("η on the ")]
    assert [caption.split(",")[0] for caption in tables] == ["η on the validation split"]


def test_sets_of_words_have_to_be_made_by_the_command_that_is_named(tmp_path):
    for temperature in (None, 1.0, 3.0):
        add_representations(translation_run(tmp_path, temperature), 0.1, temperature)
    text = page_of(tmp_path).text
    teacher = tmp_path / "en-de/teacher_a0.1_s1/last.train.representations.safetensors"
    assert f"lskd similar {teacher} --by distance --words --least 50 --targets … --output sets.json" in text


@pytest.mark.slow
def test_runs_without_figures_are_dashes_with_a_note(tmp_path):
    for temperature in (1.0, 3.0):
        path = translation_run(tmp_path, temperature) / "run.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"figures": {}, "history": []}))
    page = page_of(tmp_path)
    assert page.table("These runs")[3][1] == "–a"
    assert "lskd nmt score makes BLEU" in page.text
    assert "No results to draw." in page.text


def test_an_unknown_smoothing_is_called_unknown(tmp_path):
    image_run(tmp_path, None, 1.0)
    image_run(tmp_path, 0.1, 1.0)
    assert page_of(tmp_path).table("These runs")[0] == ["", "α = 0.1", "α unknown"]


@pytest.mark.parametrize(
    ("causes", "told"),
    [
        (None, "not recorded"),
        ([], "nothing, on the same processor with the same number of threads"),
        (["cuDNN may <choose>.", "NCCL chooses."], "cuDNN may &lt;choose&gt;. NCCL chooses."),
    ],
)
def test_a_run_says_what_is_not_repeatable(causes, told, tmp_path):
    directory = image_run(tmp_path)
    content = json.loads((directory / "run.json").read_text())
    (directory / "run.json").write_text(json.dumps(content | {"nondeterminism": causes}))
    assert f"<dt>Not repeatable</dt><dd>{told}</dd>" in runs_page([tmp_path], Options())


def test_every_run_says_how_it_was_made(page, runs):
    for words in (
        "train.py --data-dir 'a b'",
        "python 3.11.0, lskd 0.1.0",
        "a processor, cores: 2, gpus: none",
        "0123abc",
    ):
        assert page.text.count(words) == 9
    assert "weights' SHA-256 weights of 0.1, α = 0.1, source: the teacher's configuration" in page.text
    assert len(page.table("The runs of this page")) == 1 + 9


def test_students_that_learn_features_stand_among_the_runs_alone(tmp_path):
    image_run(tmp_path, 0.1, 1.0)
    image_run(tmp_path / "feature", 0.1, 1.0, top1=89.2, host={"kd_distill_type": "feature"})
    page = page_of(tmp_path)
    rows = page.table("The runs of this page")[1:]
    assert sorted((row[3], row[5], row[7]) for row in rows) == [
        ("a teacher", "1", "80.00 %"),
        ("a teacher", "–", "89.20 %"),
    ]
    assert page.text.count("89.20") == 1


def test_runs_of_other_settings_are_another_study(tmp_path):
    image_run(tmp_path / "a", temperature=1.0, host={"epochs": 3})
    image_run(tmp_path / "b", temperature=3.0, host={"epochs": 90})
    same = {"epochs": 3, "workers": 8, "new_option": None, "criterion": {"teacher_cache": "/elsewhere"}}
    image_run(tmp_path / "c", temperature=2.0, host=same)
    studies = group(find_runs([tmp_path]))
    assert [study.temperatures for study in studies] == [[1.0, 2.0], [3.0]]
    page = page_of(tmp_path)
    assert "epochs = 3" in page.text
    assert "epochs = 90" in page.text


def test_students_of_different_settings_are_side_by_side(tmp_path):
    for T, top1 in ((1.0, 80.0), (3.0, 76.0)):
        for seed in (1, 2):
            image_run(tmp_path / "a", temperature=T, seed=seed, top1=top1 + seed, host={"opt": "momentum"})
            image_run(tmp_path / "b", temperature=T, seed=seed, top1=top1 - seed, alpha=0.0, host={"opt": "adamw"})
    page = page_of(tmp_path)
    assert page.headings[2] == ["h2", "Students side by side"]
    assert page.table("clothes: teacher_net → student_net: top-1 % of the students") == [
        ["training of the student", "teacher", "T = 1", "T = 3"],
        ["optimiser = momentum", "α = 0.1", "81.50 ± 0.71 (2)", "77.50 ± 0.71 (2)"],
        ["optimiser = adamw", "α = 0", "78.50 ± 0.71 (2)", "74.50 ± 0.71 (2)"],
    ]
    assert "Students side by side" not in page_of(tmp_path / "a").text
    assert "change nothing at T = 1" not in page.text
    matched = {"opt": "momentum", "kd_gradient_scale": "match"}
    image_run(tmp_path / "c", temperature=3.0, top1=79.0, host=matched)
    page = page_of(tmp_path / "a", tmp_path / "c")
    assert page.table("clothes: teacher_net → student_net: top-1 % of the students")[1:] == [
        ["gradient scale = t2", "α = 0.1", "81.50 ± 0.71 (2)", "77.50 ± 0.71 (2)"],
        ["gradient scale = match", "α = 0.1", "81.50 ± 0.71 (2)", "79.00 (1)"],
    ]
    assert "change nothing at T = 1" in page.text


def test_a_page_may_have_a_title_and_an_introduction_of_its_own(tmp_path):
    image_run(tmp_path, temperature=1.0)
    page = page_of(tmp_path, title=HOSTILE, introduction="Is it the <b>size</b>?")
    assert page.headings[0] == ["h1", HOSTILE]
    assert "Is it the <b>size</b>?" in page.text
    assert page_of(tmp_path).headings[0] == ["h1", "Label smoothing and distillation: what these runs gave"]


def test_a_student_without_a_teacher_stands_apart(tmp_path):
    image_run(tmp_path, temperature=1.0)
    image_run(tmp_path, alpha=0.0, model="student_net", top1=77.0)
    page = page_of(tmp_path)
    assert "student_net without a teacher, labels of α = 0: top-1 % 77.00 (1)" in page.text
    assert page.table("These runs")[0] == ["", "α = 0.1"]


def test_every_table_and_figure_names_the_data_and_the_models(page):
    models = ("clothes: teacher_net → student_net", "help.en-de: transformer, 2+2 layers", "ResNet-50 → ResNet-18")
    models += ("IWSLT En-De, Transformer → Transformer", "IWSLT En-De: Transformer → Transformer", "Transformer → ")
    captions = [caption for caption, _ in page.tables if caption != "The runs of this page"]
    for text in [*captions, *(image["alt"] for image in page.images)]:
        assert any(each in text for each in models), text


def test_the_minutes_of_students_trained_together_are_those_of_their_process_and_a_part_of_them(tmp_path):
    def history(*rows):
        return [{"epoch": place, "updates": 10 * place} | row for place, row in enumerate(rows, 1)]

    for seed, rows in enumerate(
        [
            history({"seconds": 1800.0, "together": 8}, {"seconds": 3720.0, "together": 8}),
            history({"seconds": 600.0, "together": 1}),
            history({"seconds": 600.0, "together": 4}, {"seconds": 1200.0, "together": 2}),
            history({"seconds": 600.0}),
        ],
        1,
    ):
        path = image_run(tmp_path, temperature=1, seed=seed) / "run.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"history": rows}))
    translation_run(tmp_path)
    rows = page_of(tmp_path).table("The runs of this page")
    assert rows[0][-1] == "training, minutes"
    assert [row[-1] for row in rows[1:]] == [
        "62.0 for 8 together, 7.8 each",
        "10.0",
        "20.0 for 2 together, 7.5 each",
        "10.0, perhaps for several together",
        "1.5",
    ]


def test_teachers_alone_are_shown_without_temperatures(tmp_path):
    image_run(tmp_path, alpha=0.1)
    page = page_of(tmp_path)
    assert "clothes: teacher_net, without a teacher" in page.text
    assert "No students" in page.text


def test_directories_that_overlap_give_each_run_once(tmp_path):
    run = image_run(tmp_path, temperature=1.0)
    assert len(find_runs([tmp_path, run, tmp_path / "data"])) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "must be JSON"),
        ("[]", "content (must be an object, not a list)"),
        ('{"schema_version": 99}', "has schema version 99"),
        ('{"schema_version": 1, "configuration": {}, "seed": 1, "data": []}', "data (must be an object, not a list)"),
        (
            '{"schema_version": 1, "configuration": {}, "seed": 1, "data": {}, "teacher": 3}',
            "teacher (must be an object or null, not a whole number)",
        ),
        ('{"schema_version": 1, "configuration": {}, "seed": 1, "data": {}, "teacher": {"a": 1}}', "the temperature"),
        (
            '{"schema_version": 1, "configuration": {}, "seed": 1, "data": {}, "figures": {"valid": 3}}',
            "figures[...] (must be an object, not a whole number)",
        ),
        (
            '{"schema_version": 1, "configuration": {}, "seed": 1, "data": {}, "figures": {"v": {"a": {"top1": "9"}}}}',
            "figures of v: top1 (must be a number or null, not text)",
        ),
        (
            '{"schema_version": 1, "configuration": {"label_smoothing": "a"}, "seed": 1, "data": {}}',
            "configuration.label_smoothing (must be a number",
        ),
        (
            '{"schema_version": 1, "configuration": {"model": 3}, "seed": 1, "data": {}}',
            "configuration.model (must be text or null, not a whole number)",
        ),
        (
            '{"schema_version": 1, "configuration": {"host": 3}, "seed": 1, "data": {}}',
            "configuration.host (must be an object or null, not a whole number)",
        ),
        (
            '{"schema_version": 1, "configuration": {}, "seed": 1, "data": {"path": {}}}',
            "data.path (must be text or null, not an object)",
        ),
        ('{"schema_version": 1, "configuration": {}, "seed": 1e999, "data": {}}', "number out of range"),
        (
            '{"schema_version": 1, "configuration": {}, "seed": 1, "data": {}, "history": [3]}',
            "history[0] (must be an object, not a whole number)",
        ),
        (
            '{"schema_version": 1, "configuration": {}, "seed": 1, "data": {}, "history": [{"seconds": "a"}]}',
            "history[0].seconds (must be a number or null, not text)",
        ),
        (
            '{"schema_version": 1, "configuration": {}, "seed": 1, "data": {}, "warnings": [3]}',
            "warnings[0] (must be text, not a whole number)",
        ),
    ],
)
def test_an_unreadable_record_among_good_ones_is_refused_by_name(tmp_path, content, message):
    image_run(tmp_path, temperature=1.0)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/run.json").write_text(content)
    with pytest.raises(InputError, match=re.escape(str(tmp_path / "bad/run.json"))) as error:
        runs_page([tmp_path])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_run_that_is_there_twice_is_refused(tmp_path):
    first, second = image_run(tmp_path / "a", temperature=1.0), image_run(tmp_path / "b", temperature=1.0)
    with pytest.raises(InputError, match="is the same run as") as error:
        runs_page([tmp_path])
    assert str(first) in str(error.value)
    assert str(second) in str(error.value)


def test_a_broken_representation_file_is_refused_by_name(tmp_path):
    run = image_run(tmp_path, temperature=1.0)
    path = run / "last.train.representations.safetensors"
    path.write_bytes(b"not that")
    with pytest.raises(InputError, match=re.escape(str(path))):
        runs_page([tmp_path])


def test_representations_of_another_temperature_than_the_run_are_refused(tmp_path):
    add_representations(image_run(tmp_path, temperature=1.0), 0.1, 3.0)
    with pytest.raises(InputError, match=r"is of T = 3, which the run\.json beside it is not"):
        runs_page([tmp_path])


@pytest.mark.slow
def test_the_command_writes_the_page(tmp_path, runs, html):
    done = run("python -m lskd report", runs, "--output", tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == html
    assert done.stdout.startswith(str(tmp_path / "report.html"))
    assert len(html) < 3e6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{empty}", "--output", "{out}"], "must hold run.json files"),
        (["{empty}/nowhere", "--output", "{out}"], "must be a directory"),
        (["{runs}", "--output", "{empty}"], "must end in .html"),
        (["{runs}", "--output", "{empty}/directory.html"], "must be a file"),
        (["{runs}", "--output", "{empty}/no/report.html"], "must be in a directory that exists"),
        (["{runs}", "--output", "{out}", "--first", "0"], "must be a finite number above 0"),
        (["{runs}", "--output", "{out}", "--first", "3"], "--second: 3 (must be above --first, 3)"),
        (["{runs}", "--output", "{out}", "--first", "3", "--second", "1"], "--second: 1 (must be above --first, 3)"),
        (["{runs}", "--output", "{out}", "--classes", "Bag", "Coat", "Hat"], "must be a class"),
        (["{runs}", "--output", "{out}", "--sets", "{empty}/sets.json"], "must be a class"),
        (
            ["{runs}", "--output", "{out}", "--sets", "{empty}/none.json"],
            "none.json (must be a file, as `lskd similar --output` writes it",
        ),
        (["{runs}/en-de", "--output", "{out}", "--classes", "Bag", "Coat", "Hat"], "must have representation files"),
    ],
)
def test_input_that_cannot_be_used_is_one_line_and_writes_nothing(tmp_path, runs, arguments, message):
    empty = tmp_path / "empty"
    (empty / "directory.html").mkdir(parents=True)
    (empty / "sets.json").write_text('{"Hat": {"similar": ["Bag"], "dissimilar": ["Coat"]}}')
    out = tmp_path / "out.html"
    out.write_text("old")
    done = here("report", *(Path(word.format(empty=empty, runs=runs, out=out)) for word in arguments), status=2)
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert out.read_text() == "old"
