import csv
import itertools
import json
import math
import re
import statistics
import subprocess
import sys
from collections import Counter
from dataclasses import asdict, replace

import pytest
from helpers.commands import last_line, run
from helpers.lskd_commands import call

from lskd.commands import published as command
from lskd.io.errors import InputError
from lskd.paper import published as module
from lskd.paper.published import FIELDS, Measurement, counterparts, published, tables

ALL = [figure for table in tables() for figure in published(table)]
ACCURACY = ("top1", "top5", "bleu")
WHERE = ("data", "teacher", "student", "distill_type", "label_smoothing", "temperature", "metric")
# Rows and columns of each table, as printed: α × T of how many students, over how many metrics, and teachers.
GRIDS = {
    "2A": (["ResNet-18", "ResNet-50"], [1, 2, 3, 64], [0, 0.1], True),
    "2B": (["ResNet-18", "ResNet-50"], [1, 2, 3, 64], [0, 0.1], True),
    "4": (["MobileNetV2"], [1, 2, 3, 64], [0, 0.1], True),
    "5": (["Transformer"], [1, 2, 3, 64], [0, 0.1], True),
    "B.1": (["ConvNeXt-T"], [1, 3], [0, 0.1], True),
    "B.2": (["Transformer"], [1, 2, 3, 64], [0, 0.1], True),
    "B.3": (["EfficientNet-B0"], [1, 3], [0, 0.1], True),
    "B.5": (["ResNet-50"], [1, 3], [0, 0.1], True),
    "D.1": (["ResNet-18", "ResNet-50"], [1, 2, 3, 64], [0, 0.1], False),
    "D.2": (["ResNet-18", "ResNet-50"], [1, 2, 3, 64], [0, 0.1], False),
    "D.3": (["Transformer"], [1, 2, 3, 64], [0, 0.1], False),
    "D.4": (["MobileNetV2"], [1, 2, 3, 64], [0, 0.1], False),
    "J.1": (["MobileNetV2"], [1, 2, 3, 64], [0, 0.1, 0.2], True),
}
RETRIEVERS = [f"{name} retriever" for name in ("Chesapeake Bay", "curly-coated", "flat-coated", "golden", "Labrador")]
SNAKES = [f"{name} snake" for name in ("thunder", "ringneck", "hognose", "water", "king")]
DEVIATIONS = {"2A": "D.1", "2B": "D.2", "5": "D.3", "4": "D.4"}
ETA = ("3", "B.4", "K.1")
UNITS = {"top1": "%", "top5": "%", "class_accuracy": "%", "bleu": "BLEU", "entropy": "nats", "count": "classes"}
UNITS |= {f"eta{kind}_{which}": "%" for kind in ("", "_pairwise") for which in ("similar", "dissimilar")}
UNITS |= {f"agreement_{which}": "fraction" for which in ("similar", "dissimilar")}
RANGES = {"%": (0, 100), "BLEU": (0, 100), "nats": (0, math.log(200)), "fraction": (0, 1), "classes": (0, 998)}


def where(figure):
    return tuple(getattr(figure, name) for name in WHERE)


# The checks: each takes figures and gives those that are wrong, so that a wrong figure can be tried on it.


def ranges(figures):
    for figure in figures:
        least, largest = RANGES[figure.unit]
        if "eta" in figure.metric:
            least = -100  # a sum of squares does not fall below 0
        whole = figure.unit != "classes" or figure.mean == int(figure.mean)
        rounding = 5e-4
        if UNITS[figure.metric] != figure.unit or not whole or not least <= figure.mean <= largest + rounding:
            yield figure


def repeated_means(figures):
    """Figures of one configuration that differ between tables, unless both are flagged."""
    by_place = {}
    for figure in figures:
        if figure.metric in ACCURACY:
            by_place.setdefault(where(figure), []).append(figure)
    for same in by_place.values():
        differ = len({figure.mean for figure in same}) > 1
        flagged = [figure for figure in same if "gives another mean" in (figure.flag or "")]
        if differ and len(flagged) < len(same):
            yield same
        if not differ and flagged:
            yield same


def averages(figures):
    """Rows ``average`` that are not the mean of the others, to their last digit that is not 0."""
    for average in [figure for figure in figures if figure.target_class == "average"]:
        same = ("table", "split", "temperature", "metric")
        rows = [
            figure.mean
            for figure in figures
            if figure is not average and all(getattr(figure, name) == getattr(average, name) for name in same)
        ]
        digits = {"I.2": 1, "I.3": 2}.get(average.table, 3)  # as many as its last row has before zeros
        if abs(statistics.fmean(rows) - average.mean) > 0.5 * 10**-digits + 1e-9:
            yield average


def signs(figures):
    """η is below 0 for similar classes and above for dissimilar ones, as the text says, where no flag denies it."""
    for figure in figures:
        if figure.table in ETA:
            expected = figure.mean < 0 if figure.metric.endswith("_similar") else figure.mean > 0
            if expected == ("the text has it" in (figure.flag or "")):
                yield figure


def falling(figures):
    """Students of a label-smoothed teacher that do not get worse with T, as the captions say they do."""
    ladders = {}
    for figure in figures:
        if figure.student and figure.metric in ACCURACY and figure.label_smoothing and figure.table in GRIDS:
            ladders.setdefault((figure.table, figure.student, figure.label_smoothing, figure.metric), []).append(figure)
    for ladder in ladders.values():
        ladder.sort(key=lambda figure: figure.temperature)
        for before, after in itertools.pairwise(ladder):
            flagged = any(word in (after.flag or "") for word in ("rises from T = 1", "above top-5 at T = 3"))
            if (after.mean >= before.mean) != flagged:
                yield after


def copied_deviations(figures):
    """Top-5 σ at α = 0 against top-1 σ at α = .1 of the same student and T: equal where and only where flagged."""
    for one in figures:
        if (one.metric, one.label_smoothing) == ("top5", 0) and one.standard_deviation is not None:
            (other,) = [
                figure
                for figure in figures
                if where(figure) == where(replace(one, metric="top1", label_smoothing=0.1))
                and figure.table == one.table
            ]
            equal = one.standard_deviation == other.standard_deviation
            if any(equal != ("σ unusable" in (figure.flag or "")) for figure in (one, other)):
                yield one


def single_runs(figures):
    """Figures said to fit one run that are no whole number of test images."""
    for figure in figures:
        for images in (5794, 50000):
            share = figure.mean * images / 100
            if f"{images} test images" in (figure.flag or "") and abs(share - round(share)) * 100 / images > 0.0011:
                yield figure


def class_shares(figures):
    """Class-wise accuracy that is no whole number of 1300 training or 50 validation images, unless flagged."""
    for figure in figures:
        if figure.metric == "class_accuracy" and figure.target_class != "average":
            images = 50 if figure.split == "val" else 1218 if "1218 images" in (figure.flag or "") else 1300
            share = figure.mean * images / 100
            if abs(share - round(share)) * 100 / images > 0.0005 + 1e-9:
                yield figure


CHECKS = [ranges, repeated_means, averages, signs, falling, copied_deviations, single_runs, class_shares]


@pytest.mark.parametrize("check", CHECKS)
def test_the_figures_pass_each_check_but_where_they_are_flagged(check):
    assert list(check(ALL)) == []


def changed(change, **selection):
    """All figures, with one of those selected changed."""
    figures = list(ALL)
    place = next(i for i, f in enumerate(ALL) if all(getattr(f, name) == value for name, value in selection.items()))
    figures[place] = replace(figures[place], **change)
    return figures


@pytest.mark.parametrize(
    ("check", "change", "selection"),
    [
        (ranges, {"mean": 5.31}, {"metric": "entropy"}),
        (ranges, {"mean": -1.0}, {"metric": "top1"}),
        (ranges, {"unit": "fraction"}, {"metric": "eta_similar"}),
        (ranges, {"mean": 976.5}, {"metric": "count"}),
        (repeated_means, {"mean": 80.947}, {"table": "2B", "label_smoothing": 0.1, "temperature": 1.0}),
        (repeated_means, {"mean": 81.585}, {"table": "B.1", "student": None}),
        (repeated_means, {"flag": None}, {"table": "2A", "flag": "Table D.1 gives another mean"}),
        (repeated_means, {"flag": "Table D.1 gives another mean"}, {"table": "2B", "temperature": 1.0}),
        (averages, {"mean": 0.856}, {"table": "G.1", "target_class": "average"}),
        (averages, {"mean": 82.2}, {"table": "I.2", "split": "train", "target_class": "flat-coated retriever"}),
        (averages, {"mean": 66.002}, {"table": "I.1", "target_class": "average", "mean": 66.0}),
        (signs, {"mean": 0.392}, {"table": "3"}),
        (signs, {"flag": None}, {"table": "3", "mean": 0.956}),
        (falling, {"mean": 70.0}, {"table": "B.3", "label_smoothing": 0.1, "temperature": 3.0, "metric": "top1"}),
        (falling, {"flag": None}, {"table": "2B", "mean": 95.518}),
        (copied_deviations, {"standard_deviation": 0.031}, {"table": "D.2", "metric": "top5"}),
        (copied_deviations, {"flag": None}, {"table": "D.2", "metric": "top5"}),
        (single_runs, {"mean": 86.63}, {"table": "B.1", "student": "ConvNeXt-T"}),
        (class_shares, {"mean": 47.0}, {"table": "I.1", "split": "val"}),
        (class_shares, {"flag": None}, {"table": "I.2", "mean": 83.826}),
    ],
)  # fmt: skip
def test_each_check_notices_a_wrong_figure_and_a_missing_flag(check, change, selection):
    assert list(check(changed(change, **selection)))


@pytest.mark.parametrize("table", GRIDS)
def test_every_table_of_alpha_by_temperature_is_complete(table):
    students, temperatures, alphas, with_teacher = GRIDS[table]
    metrics = ["bleu"] if table in ("5", "B.2", "D.3") else ["top1", "top5"]
    cells = {(s, float(t), a, m) for s in students for t in temperatures for a in alphas for m in metrics}
    cells |= {(None, None, a, m) for a in alphas for m in metrics if with_teacher}
    found = [(f.student, f.temperature, f.label_smoothing, f.metric) for f in published(table)]
    assert len(found) == len(cells)
    assert set(found) == cells


@pytest.mark.parametrize(
    ("table", "students"), [("3", ["ResNet-18", "ResNet-50"]), ("B.4", ["EfficientNet-B0"]), ("K.1", ["not stated"])]
)
def test_every_table_of_eta_is_complete(table, students):
    found = [(f.student, f.target_class, f.split, f.metric.rpartition("_")[2]) for f in published(table)]
    cells = itertools.product(students, RETRIEVERS + SNAKES, ("train", "val"), ("similar", "dissimilar"))
    assert sorted(found) == sorted(cells)
    assert {(f.label_smoothing, f.reference_temperature, f.temperature) for f in published(table)} == {(0.1, 1, 3)}


@pytest.mark.parametrize(
    ("table", "classes"),
    [("I.1", ["miniature poodle", "standard poodle", "submarine"]), ("I.2", RETRIEVERS), ("I.3", SNAKES)],
)
def test_every_table_of_classes_is_complete(table, classes):
    found = [(f.target_class, f.temperature, f.split) for f in published(table)]
    rows = [*classes, "average"]
    assert sorted(found) == sorted((name, t, split) for name in rows for t in (1, 2, 3) for split in ("train", "val"))


def test_the_tables_of_smoothness_are_complete():
    temperatures = [1, 1.481375, 2, 3, 5.638, 64]
    assert [(f.temperature, f.label_smoothing) for f in published("H.1")] == [
        (t, a) for t in temperatures for a in (0, 0.1)
    ]
    for table, pair, students in (
        ("H.2", {(0.1, 1), (0, 1.481375)}, {"ResNet-50", "ResNet-18"}),
        ("H.3", {(0.1, 3), (0, 5.638)}, {"ResNet-18", "MobileNetV2"}),
        ("H.4", {(0.1, 64), (0, 64)}, {"ResNet-18", "ResNet-50", "MobileNetV2"}),
    ):
        found = [(f.student, (f.label_smoothing, f.temperature), f.metric) for f in published(table)]
        assert sorted(found) == sorted(itertools.product(students, pair, ("entropy", "top1", "top5")))


def test_targets_get_smoother_with_temperature_and_with_label_smoothing():
    for alpha in (0, 0.1):
        entropies = [figure.mean for figure in published("H.1", label_smoothing=alpha)]
        assert entropies == sorted(entropies)
        assert entropies[-1] == round(math.log(200), 3)
    pairs = zip(published("H.1", label_smoothing=0), published("H.1", label_smoothing=0.1), strict=True)
    assert all(normal.mean <= smoothed.mean for normal, smoothed in pairs)


def test_the_case_studies_compare_students_at_the_entropies_of_h1():
    entropies = {(f.label_smoothing, f.temperature): f.mean for f in published("H.1")}
    for table in ("H.2", "H.3", "H.4"):
        for figure in published(table, metric="entropy"):
            assert figure.mean == entropies[figure.label_smoothing, figure.temperature]


def test_shares_of_4_similar_and_20_dissimilar_classes_are_quarters_and_twentieths():
    rows = [figure for figure in published("G.1") if figure.target_class != "average"]
    assert len(rows) == 20
    for figure in rows:
        of = 4 if figure.metric == "agreement_similar" else 20
        assert figure.mean * of == pytest.approx(round(figure.mean * of), abs=1e-9)


def test_the_counts_of_appendix_e_are_there():
    found = {figure.target_class: figure.mean for figure in published("E")}
    assert found == {"standard poodle": 976, "golden retriever": 924, "thunder snake": 964}


def test_34_students_of_a_smoothed_teacher_are_those_the_captions_count():
    main = ("2A", "2B", "4", "5", "B.1", "B.2", "B.3", "B.5")
    students = [
        f for t in main for f in published(t, label_smoothing=0.1) if f.student and f.metric in ("top1", "bleu")
    ]
    assert len(students) == 34


@pytest.mark.parametrize(("table", "with_deviations"), DEVIATIONS.items())
def test_standard_deviations_are_of_the_students_of_the_main_tables(table, with_deviations):
    students = {where(figure): figure for figure in published(table) if figure.student}
    others = {where(figure): figure for figure in published(with_deviations)}
    assert students.keys() == others.keys()
    for place, figure in others.items():
        assert figure.standard_deviation is not None
        assert figure.n == students[place].n == (2 if table == "4" else 3)
    assert all(figure.standard_deviation is None for figure in students.values())


def test_the_drops_that_the_text_names_are_those_of_table_2a_and_not_of_d1():
    def drop(table, student):
        one, three = published(table, student=student, label_smoothing=0.1, metric="top1")[0:3:2]
        assert (one.temperature, three.temperature) == (1, 3)
        assert ("drop of 5.05" in (three.flag or "")) == (student == "ResNet-18")
        return round(one.mean - three.mean, 2)

    assert (drop("2A", "ResNet-18"), drop("2A", "ResNet-50")) == (5.05, 1.21)
    assert (drop("D.1", "ResNet-18"), drop("D.1", "ResNet-50")) == (3.92, 1.21)


@pytest.mark.parametrize(
    ("table", "words", "count"),
    [
        ("2A", "Table D.1 gives another mean", 6),
        ("D.1", "Table 2A gives another mean", 6),
        ("D.4", "the row label says ResNet-18", 16),
        ("D.4", "n = 2 by the caption", 16),
        ("4", "n = 2 by Table D.4's caption", 16),
        ("D.1", "σ unusable", 8),
        ("D.2", "σ unusable", 16),
        ("H.3", "the caption says 5.188", 4),
        ("3", "the text has it", 2),
        ("K.1", "names no student", 40),
        ("I.3", "may be permuted", 5),
        ("H.2", "same top-1 as at T = 2", 1),
        ("J.1", "the digits fit one run", 8),
    ],
)
def test_each_slip_is_flagged(table, words, count):
    assert sum(words in (figure.flag or "") for figure in published(table)) == count


def test_the_snakes_training_accuracy_at_t1_is_in_line_with_the_others_in_another_order():
    def column(temperature):
        rows = published("I.3", split="train", temperature=temperature)
        return [figure.mean for figure in rows if figure.target_class != "average"]

    first, second = column(1), column(2)
    assert max(b - a for a, b in zip(first, second, strict=True)) > 20
    assert max(b - a for a, b in zip(sorted(first), sorted(second), strict=True)) < 3


def test_figures_are_selected_by_their_fields():
    (figure,) = published("D.2", student="ResNet-50", temperature=2, label_smoothing=0.1, metric="top1")
    assert asdict(figure) == dict.fromkeys(FIELDS) | {
        "table": "D.2",
        "data": "CUB200-2011",
        "teacher": "ResNet-50",
        "student": "ResNet-50",
        "distill_type": "logit",
        "label_smoothing": 0.1,
        "temperature": 2.0,
        "metric": "top1",
        "unit": "%",
        "mean": 83.379,
        "standard_deviation": 0.105,
        "n": 3,
        "flag": "σ unusable: top-5 at α = 0 and top-1 at α = 0.1 carry the same one, a copying slip",
    }
    assert published("D.2", student="ResNet-34") == []
    assert [f.mean for f in published("2B", student=None, metric="top1")] == [81.584, 82.068]


@pytest.mark.parametrize(
    ("table", "near"),
    [
        ("2", "2A, 2B"),
        ("d.1", "D.1"),
        ("Table 3", "3"),
        ("B1", "B.1"),
        ("I", "I.1, I.2, I.3"),
        ("zz", ", ".join(tables())),
    ],
)
def test_an_unknown_table_is_answered_with_those_near(table, near):
    with pytest.raises(InputError) as error:
        published(table)
    assert str(error.value) == f"table: {table} (must be one of {near})"


def test_an_unknown_field_is_named():
    with pytest.raises(InputError, match=r"^selection: alpha \(must be one of table, data, "):
        published("2A", alpha=0.1)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("top1", "imagenet", "resnet50", "resnet18", 0.1, 3), [("2A", 66.57), ("D.1", 67.699)]),
        (("top1", "cub200", "resnet50.tv_in1k", "mobilenetv2_100", 0.2, 64), [("J.1", 63.738)]),
        (("top5", "CUB200-2011", "ResNet-50", "ConvNeXt-T", 0, 1), [("B.1", 97.221)]),
        (("top5", "cub200", "resnet50", "convnext_tiny.fb_in1k", 0, 1), [("B.1", 97.221)]),
        (("bleu", "iwslt14.en-ru", "transformer_iwslt_de_en", "transformer", 0.10001, 1.0), [("B.2", 16.197)]),
        (("bleu", "iwslt14.en-de", "transformer", None, 0, None), [("5", 26.461)]),
        (("entropy", "cub200", "resnet50", None, 0, 1.481375), [("H.1", 0.888)]),
        (("top1", "cub200", "resnet50", "resnet50", 0.1, 1, "overhaul"), [("B.5", 83.794)]),
        (("top1", "cub200", "resnet50", "resnet50", 0.1, 1), [("2B", 83.742), ("D.2", 83.742), ("H.2", 83.742)]),
        (("top1", "cub200", "resnet50", "resnet50", 0.1, 1.5), []),
        (("top1", "cub200", "resnet50", "resnet50", 0.101, 1), []),
        (("top1", "cub200", "resnet50", "resnet34", 0.1, 1), []),
        (("top1", "fashion_mnist", "resnet50", "resnet18", 0.1, 1), []),
        (("top1", "cub200", "resnet10t", None, 0.1, None), []),
        (("top1", "cub200", "resnet50", None, None, None), []),
        (("class_accuracy", "imagenet", "resnet50", "resnet18", 0.1, 1), []),
    ],
)
def test_a_run_finds_the_published_figures_of_exactly_its_configuration(arguments, expected):
    assert [(figure.table, figure.mean) for figure in counterparts(*arguments)] == expected


def test_every_figure_over_the_whole_data_is_its_own_counterpart():
    whole = [figure for figure in ALL if figure.target_class is None]
    assert len(whole) > 300
    for f in whole:
        setting = (f.metric, f.data, f.teacher, f.student, f.label_smoothing, f.temperature)
        assert f in counterparts(*setting, distill_type=f.distill_type or "logit")


def test_the_file_holds_each_figure_once_of_known_tables_only():
    assert len(ALL) == len(module._measurements()) == 601
    assert len({(figure.table, figure.target_class, figure.split, *where(figure)) for figure in ALL}) == len(ALL)


def test_figures_cannot_be_changed_by_who_reads_them():
    with pytest.raises(AttributeError):
        published("2A")[0].mean = 0
    tables().clear()
    assert tables()
    assert isinstance(published("2A")[0], Measurement)


def test_the_standard_library_is_enough():
    code = (
        "import sys; import lskd.paper.published as p; p.published('2A'); print({'numpy', 'torch'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


# The command


@pytest.fixture
def lskd_published(capsys):
    """``lskd published`` with these arguments, in this process: what it prints."""

    def start(*words):
        call(command, *words)
        return capsys.readouterr().out

    return start


def test_the_command_lists_the_tables(lskd_published):
    lines = lskd_published().splitlines()
    assert [line.split()[0] for line in lines] == list(tables())
    assert lines[-1].split(maxsplit=1) == ["K.1", tables()["K.1"]]


@pytest.mark.parametrize("table", tables())
def test_the_command_prints_every_figure_of_a_table_and_all_its_flags(lskd_published, table):
    printed = lskd_published(table)
    head, body = printed.split("\n\n")[:2]
    assert head.startswith(f"{table}: {tables()[table]}")
    cells = [cell.partition(" ")[0] for line in body.splitlines()[1:] for cell in re.split(r"  +", line)[1:]]
    figures = Counter(f"{f.mean:.0f}" if table == "E" else f"{f.mean:.3f}" for f in published(table))
    assert not figures - Counter(cells)
    for figure in published(table):
        for flag in (figure.flag or "").split(" | "):
            assert flag in printed
    assert "|" not in printed
    assert max(map(len, printed.splitlines())) < 160


def test_alpha_stands_across_and_temperature_down_with_footnotes(lskd_published):
    lines = lskd_published("D.2").splitlines()
    assert lines[1:3] == ["CUB200-2011, teacher ResNet-50", ""]
    assert [re.split(r"  +", line) for line in lines[3:6]] == [
        ["student", "T", "top-1 % α = 0", "top-1 % α = 0.1", "top-5 % α = 0", "top-5 % α = 0.1"],
        [
            "ResNet-18",
            "1",
            "80.169 ± 0.336 (3)",
            "80.946 ± 0.030 (3) [1]",
            "95.392 ± 0.030 (3) [1]",
            "95.312 ± 0.180 (3)",
        ],
        [
            "ResNet-18",
            "2",
            "80.808 ± 0.314 (3)",
            "80.428 ± 0.053 (3) [1]",
            "95.593 ± 0.053 (3) [1]",
            "95.518 ± 0.108 (3) [2]",
        ],
    ]
    assert lines[-2:] == [
        "[1] σ unusable: top-5 at α = 0 and top-1 at α = 0.1 carry the same one, a copying slip",
        "[2] rises from T = 1, against the caption's fall with T",
    ]


def test_the_teacher_has_a_row_of_its_own_and_alpha_ascends(lskd_published):
    assert lskd_published("J.1").splitlines()[4].split()[:5] == ["teacher", "ResNet-50", "–", "81.584", "82.068"]
    row = lskd_published("H.4").splitlines()[4]  # printed with the smoothed teacher first
    assert row.split() == ["ResNet-18", "5.298", "5.298", "73.611", "67.161", "94.529", "93.062"]


def test_a_flag_of_the_whole_table_is_said_once(lskd_published):
    printed = lskd_published("D.4")
    assert "[1]" not in printed
    assert printed.count("all: the row label says ResNet-18") == 1


def test_alpha_goes_down_where_it_goes_with_the_temperature(lskd_published):
    lines = lskd_published("H.2").splitlines()
    assert lines[3].split() == ["student", "α", "T", "train", "entropy", "(nats)", "top-1", "%", "top-5", "%"]
    assert lines[5].split()[:4] == ["ResNet-50", "0", "1.481375", "0.888"]


def test_temperature_goes_across_where_alpha_is_one(lskd_published):
    lines = lskd_published("I.1").splitlines()
    titles = ["class", *(f"T = {t} {split}" for t in (1, 2, 3) for split in ("train", "val"))]
    assert re.split(r"  +", lines[3]) == titles
    assert re.split(r"  +", lines[4])[:3] == ["miniature poodle", "58.077", "46.000"]


def test_the_command_writes_the_figures(lskd_published, tmp_path):
    lskd_published("H.1", "--output", tmp_path / "h1.json")
    content = json.loads((tmp_path / "h1.json").read_text())
    assert content["source"].endswith("ICML 2022")
    assert content["rows"] == [asdict(figure) for figure in published("H.1")]
    lskd_published("--output", tmp_path / "all.csv")
    with open(tmp_path / "all.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["table"] for row in rows] == [figure.table for figure in ALL]
    assert [float(row["mean"]) for row in rows] == [figure.mean for figure in ALL]


def test_a_table_that_is_not_there_is_refused_and_nothing_written(lskd_published, tmp_path):
    with pytest.raises(InputError, match=r"^table: 2 \(must be one of 2A, 2B\)$"):
        lskd_published("2", "--output", tmp_path / "two.csv")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_command_of_a_user():
    assert run("python -m lskd published E").stdout.splitlines()[-1].split() == [
        "thunder",
        "snake",
        "964",
    ]
    assert last_line(run("python -m lskd published Z.9", status=2)).startswith(
        "lskd published: error: table: Z.9 (must be one"
    )
