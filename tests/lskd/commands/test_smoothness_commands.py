import csv
import json
import math

import numpy as np
import pytest
from helpers.commands import run

from lskd.commands.advise import TABLES, TEMPERATURES, disagrees
from lskd.commands.main import parser
from lskd.io.errors import run_command
from lskd.measure.representation_collector import RepresentationCollector
from lskd.measure.representations import read_representations, write_representations
from lskd.measure.smoothing_estimate import SmoothingEstimate
from lskd.measure.smoothness import EntropySums, entropy
from lskd.measure.temperatures import read_temperatures
from lskd.paper.published import published
from lskd.report.soft_output_figure import largest, soft_output_figure

NAMES = ["Shirt", "Coat", "Pullover", "Sandal", "Boot", "Bag"]
TEACHER = {"model": "resnet10t", "split": "train", "teacher": None}


def logits_of(alpha, samples=240, sharpness=1.0):
    """Outputs of a teacher that has learned labels smoothed by α."""
    generator = np.random.default_rng(5)
    labels = np.arange(samples) % len(NAMES)
    guess = np.exp(generator.normal(-10, 2, (samples, len(NAMES))))
    guess[np.arange(samples), labels] = 3
    guess /= guess.sum(1, keepdims=True)
    return sharpness * np.log((1 - alpha) * guess + alpha / len(NAMES)), labels


@pytest.fixture
def teacher(tmp_path):
    """Write a representation file whose features are the logits, and whose last layer leaves them as they are."""

    def teacher(name, alpha=0.1, sharpness=1.0, keep=None, stored=(), weight=True, names=NAMES, samples=240, **about):
        logits, labels = logits_of(alpha, samples, sharpness)
        recorder = RepresentationCollector(names, len(NAMES), keep_per_class=keep, dtype=np.float64)
        recorder.add(logits, labels)
        sums = EntropySums(stored)
        sums.update(logits)
        path = tmp_path / f"{name}.representations.safetensors"
        provenance = TEACHER | {"configuration": {"label_smoothing": alpha, "kd_weight": 0.0}} | about
        layer = np.eye(len(NAMES), dtype=np.float32) if weight else None
        write_representations(path, recorder.result(weight=layer, entropy=sums.rows(), provenance=provenance))
        return path

    return teacher


@pytest.fixture
def lskd(monkeypatch, capsys):
    """``lskd`` in this process, which must succeed: what it printed."""

    def lskd(*words):
        monkeypatch.setattr("sys.argv", ["lskd", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            run_command(parser(), lambda arguments: arguments.run(arguments))
        printed, complaint = capsys.readouterr()
        assert left.value.code == 0, complaint
        return printed

    return lskd


@pytest.fixture
def refused(monkeypatch, capsys, tmp_path):
    """``lskd``, which must answer with status 2 and one line and write nothing: the line."""

    def refused(*words):
        before = sorted(tmp_path.rglob("*"))
        monkeypatch.setattr("sys.argv", ["lskd", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            run_command(parser(), lambda arguments: arguments.run(arguments))
        printed, complaint = capsys.readouterr()
        assert (left.value.code, printed, complaint.count("\n")) == (2, "", 1)
        assert sorted(tmp_path.rglob("*")) == before
        return complaint.strip()

    return refused


# --- entropy ---------------------------------------------------------------------------------------------------------


def test_the_entropies_stand_beside_ln_k(lskd, teacher, tmp_path):
    files = teacher("a"), teacher("b", alpha=0.0)
    printed = lskd("entropy", *files, "--temperatures", 1, 3, "--output", tmp_path / "figures.json")
    expected = [entropy(logits_of(alpha)[0], temperature) for alpha in (0.1, 0.0) for temperature in (1, 3)]
    rows = json.loads((tmp_path / "figures.json").read_text())["rows"]
    assert [row["entropy_nats"] for row in rows] == pytest.approx([each.mean() for each in expected])
    errors = [each.std(ddof=1) / math.sqrt(240) for each in expected]
    assert [row["standard_error_nats"] for row in rows] == pytest.approx(errors)
    assert [(row["file"], row["temperature"], row["label_smoothing"]) for row in rows] == [
        (str(file), temperature, alpha) for file, alpha in zip(files, (0.1, 0.0), strict=True) for temperature in (1, 3)
    ]
    head, first, second, *_ = printed.splitlines()
    assert head.split() == ["file", "model", "α", "split", "samples", "T", "=", "1", "T", "=", "3", "ln", "K"]
    assert first.split()[1:] == ["resnet10t", "0.1", "train", "240"] + [
        f"{value:.4f}" for value in (expected[0].mean(), expected[1].mean(), math.log(6))
    ]
    assert second.split()[2] == "0"


def test_the_temperatures_of_the_paper_are_the_default(lskd, teacher):
    head = lskd("entropy", teacher("a")).splitlines()[0]
    assert " ".join(head.split()).endswith("T = 1 T = 2 T = 3 T = 64 ln K")


def test_stored_sums_are_of_all_samples_also_where_few_features_were_kept(lskd, teacher, tmp_path):
    file = teacher("few", keep=2, stored=(3.0, 1.0))
    lskd("entropy", file, "--temperatures", 1, 3, "--output", tmp_path / "figures.csv")
    with open(tmp_path / "figures.csv", newline="") as text:
        rows = list(csv.DictReader(text))
    expected = [entropy(logits_of(0.1)[0], temperature).mean() for temperature in (1, 3)]
    assert [float(row["entropy_nats"]) for row in rows] == pytest.approx(expected)
    assert [row["samples"] for row in rows] == ["240", "240"]


def test_the_kept_features_alone_do_not_stand_for_all_samples(refused, teacher):
    file = teacher("few", keep=2, stored=(1.0, 64.0))
    said = refused("entropy", file, "--temperatures", 1, 2)
    assert said.endswith("(must hold all features, or the entropy at each T; it has it at 1, 64)")


def test_a_student_s_own_smoothing_is_not_shown_as_a_teacher_s(lskd, teacher):
    file = teacher("student", teacher={"label_smoothing": {"alpha": 0.1}})
    assert lskd("entropy", file).splitlines()[1].split()[2] == "–"


def test_mean_soft_outputs_are_shown_with_the_classes_far_below(lskd, teacher, tmp_path):
    file = teacher("a", alpha=0.0)
    printed = lskd(
        "entropy", file, "--classes", "Boot", "--top", 2, "--temperatures", 1, 2, "--output", tmp_path / "x.json"
    )
    logits, labels = logits_of(0.0)
    rows = json.loads((tmp_path / "x.json").read_text())["rows"][2:]
    for row, temperature in zip(rows, (1, 2), strict=True):
        weights = np.exp(logits[labels == 4] / temperature)
        mean = (weights / weights.sum(1, keepdims=True)).mean(0)
        best, second = sorted(range(6), key=lambda index: -mean[index])[:2]
        assert row["outputs"] == f"{NAMES[best]} {mean[best]:.3g}, {NAMES[second]} {mean[second]:.3g}"
        assert all(entry in printed for entry in row["outputs"].split(", "))
        assert row["far_below_second"] == sum(mean[second] >= 100 * value for value in mean)
        assert (row["class"], row["samples"], row["classes"], row["temperature"]) == ("Boot", 40, 6, temperature)


def test_what_cannot_be_measured_is_refused_in_one_line(refused, teacher, tmp_path):
    file = teacher("a")
    few = teacher("none", keep=0, stored=(1.0,))
    bare = teacher("bare", weight=False)
    assert "--temperatures: 0.0 (must be a finite number above 0)" in refused("entropy", file, "--temperatures", 1, 0)
    assert "--temperatures: 2 2 (must be all different)" in refused("entropy", file, "--temperatures", 2, 2)
    assert "--classes: 'Boat'" in refused("entropy", file, "--classes", "Boat")
    assert "must hold the last layer" in refused("entropy", bare)
    assert "no samples of 'Bag' were kept" in refused("entropy", few, "--temperatures", 1, "--classes", "Bag")
    assert "figures.txt" in refused("entropy", file, "--output", tmp_path / "figures.txt")


def test_a_class_none_of_whose_features_were_kept_is_named(refused, teacher):
    file = teacher("a", samples=5)
    said = refused("entropy", file, "--classes", "Bag")
    assert f"--classes: Bag (must have samples: {file}: no samples of 'Bag' were kept)" in said


def test_a_class_that_one_file_lacks_is_named_and_the_others_are_shown(lskd, teacher, tmp_path):
    whole, lacks = teacher("a"), teacher("b", samples=5)
    output = tmp_path / "figures.json"
    lskd("entropy", whole, lacks, "--classes", "Boot", "Bag", "--temperatures", 1, "--output", output)
    shown = [(row["file"], row["class"]) for row in json.loads(output.read_text())["rows"] if "class" in row]
    assert shown == [(str(whole), "Boot"), (str(whole), "Bag"), (str(lacks), "Boot")]


def test_mean_soft_outputs_are_drawn_with_a_panel_for_each_temperature_the_lowest_first(teacher, tmp_path):
    means = {2.0: np.array([0.2, 0.5, 0.3]), 1.0: np.array([0.1, 0.6, 0.3])}
    shown = largest("Coat", 1, ["Shirt", "Coat", "Bag"], means, 2)
    assert (shown.temperatures, shown.names, shown.own) == ([1.0, 2.0], ["Coat", "Bag"], 0)
    assert shown.means.tolist() == [[0.6, 0.3], [0.5, 0.3]]
    drawing = soft_output_figure([shown])
    first, second = drawing.axes
    assert [axes.get_title() for axes in (first, second)] == ["Coat, T = 1", "Coat, T = 2"]
    assert [bar.get_width() for bar in first.patches] == [0.6, 0.3]
    assert [text.get_text() for text in second.texts] == ["0.5", "0.3"]
    assert [label.get_text() for label in first.get_yticklabels()] == ["Coat", "Bag"]
    assert first.patches[0].get_hatch()
    assert not first.patches[1].get_hatch()
    assert first.get_shared_y_axes().joined(first, second)
    assert first.get_xlim() == second.get_xlim()


def test_a_probability_of_0_has_no_bar_but_its_value():
    shown = largest("Coat", 1, ["Shirt", "Coat"], {1.0: np.array([0.0, 1.0])}, 2)
    (axes,) = soft_output_figure([shown]).axes
    assert axes.patches[1].get_width() == axes.get_xlim()[0]
    assert [text.get_text() for text in axes.texts] == ["1", "0"]


@pytest.mark.slow
def test_the_drawing_of_mean_outputs_is_the_same_for_the_same_files(lskd, refused, teacher, tmp_path):
    files = teacher("a"), teacher("b", alpha=0.0)
    words = ["entropy", *files, "--temperatures", 2, 1, "--classes", "Boot", "--top", 3, "--figure"]
    lskd(*words, tmp_path / "one.svg")
    lskd(*words, tmp_path / "two.svg")
    text = (tmp_path / "one.svg").read_text(encoding="utf-8")
    assert text == (tmp_path / "two.svg").read_text(encoding="utf-8")
    for title in ("Boot, resnet10t α = 0.1, T = 1", "Boot, resnet10t α = 0, T = 2"):
        assert title in text
    assert "must be with --classes" in refused("entropy", *files, "--figure", tmp_path / "x.svg")
    assert "must end in .svg, .png, .pdf" in refused(*words, tmp_path / "x.gif")
    many = [each / 10 for each in range(1, 32)]
    assert "--figure: panels: 62 (must be 1 to 60" in refused(
        "entropy", *files, "--temperatures", *many, "--classes", "Boot", "--figure", tmp_path / "x.svg"
    )


# --- match-temperature -----------------------------------------------------------------------------------------------


def test_a_teacher_of_logits_twice_as_large_needs_twice_the_temperature(lskd, teacher, tmp_path):
    reference, other = teacher("one"), teacher("double", sharpness=2.0)
    words = ["match-temperature", reference, other, "--temperature", 1, 1.5, "--output"]
    printed = lskd(*words, tmp_path / "found.json")
    rows = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert [row["temperature"] for row in rows] == pytest.approx([2.0, 3.0])
    lskd(*words, tmp_path / "found.csv")
    for suffix in ("json", "csv"):  # as `lskd entropy --temperatures` and a training's --kd-temperature read them
        assert read_temperatures(tmp_path / f"found.{suffix}") == [row["temperature"] for row in rows]
    assert [row["reference_temperature"] for row in rows] == [1.0, 1.5]
    logits = logits_of(0.1)[0]
    assert [row["entropy_nats"] for row in rows] == pytest.approx([entropy(logits, each).mean() for each in (1, 1.5)])
    assert printed.splitlines()[-2].split()[:2] == ["1", "2"]


def test_where_some_features_were_kept_the_same_samples_are_compared(lskd, teacher, tmp_path):
    reference, other = teacher("one", keep=3, stored=(1.0,)), teacher("double", keep=3, sharpness=2.0)
    lskd("match-temperature", reference, other, "--output", tmp_path / "found.csv")
    with open(tmp_path / "found.csv", newline="") as text:
        (row,) = csv.DictReader(text)
    kept = read_representations(reference).logits()
    assert row["samples"] == "18"
    assert float(row["temperature"]) == pytest.approx(2.0)
    assert float(row["entropy_nats"]) == pytest.approx(entropy(kept).mean())


def test_stored_sums_of_the_reference_are_enough(lskd, teacher, tmp_path):
    reference, other = teacher("one", keep=0, stored=(1.0,)), teacher("double", sharpness=2.0)
    lskd("match-temperature", reference, other, "--output", tmp_path / "found.json")
    assert json.loads((tmp_path / "found.json").read_text())["rows"][0]["temperature"] == pytest.approx(2.0)


def test_teachers_that_cannot_be_compared_are_refused(refused, teacher):
    reference = teacher("one")
    assert "must have the classes" in refused("match-temperature", reference, teacher("x", names=[*NAMES[:5], "Hat"]))
    assert "is of split valid" in refused("match-temperature", reference, teacher("v", split="valid"))
    assert "must have kept the features" in refused("match-temperature", reference, teacher("f", keep=3))
    assert "must be between" in refused("match-temperature", reference, teacher("flat", sharpness=1e-7))
    assert "all equal" in refused("match-temperature", reference, teacher("zero", sharpness=0))
    assert "--temperature: -1.0" in refused("match-temperature", reference, reference, "--temperature", -1)


# --- advise ----------------------------------------------------------------------------------------------------------


def answer(lskd, file, tmp_path):
    printed = lskd("advise", file, "--output", tmp_path / "answer.json")
    (row,) = json.loads((tmp_path / "answer.json").read_text())["rows"]
    return printed, row


def test_a_smoothed_teacher_is_distilled_at_1(lskd, teacher, tmp_path):
    printed, row = answer(lskd, teacher("a", alpha=0.1), tmp_path)
    assert (row["smoothed"], row["temperatures"], row["label_smoothing"]) == (True, [1], 0.1)
    assert (row["estimated_verdict"], row["disagreement"]) == ("smoothed", None)
    assert row["estimated_low"] < 0.1 < row["estimated_high"]
    assert "recorded   label smoothing α = 0.1 (the model's configuration)" in printed
    assert "rests on   the record" in printed
    assert "advice     T = 1." in printed
    # Table 2B, ResNet-18, α = .1, as the paper prints it
    (line,) = [each for each in printed.splitlines() if each.startswith("2B") and "ResNet-18" in each]
    assert line.split() == ["2B", "CUB200-2011", "ResNet-18", "0.1", "80.95", "80.43", "78.20", "67.16", "1"]


def test_several_teachers_have_an_answer_each(lskd, teacher, tmp_path):
    files = [teacher("a", alpha=0.1), teacher("b", alpha=0.0)]
    printed = lskd("advise", *files, "--output", tmp_path / "answers.json")
    rows = json.loads((tmp_path / "answers.json").read_text())["rows"]
    assert [(row["file"], row["smoothed"]) for row in rows] == [(str(files[0]), True), (str(files[1]), False)]
    assert [line.partition(" ")[2].strip()[:5] for line in printed.splitlines() if line.startswith("advice")] == [
        "T = 1",
        "try T",
    ]
    assert len([line for line in printed.splitlines() if line.startswith("2B")]) == 4  # of both kinds, once


def test_without_smoothing_several_temperatures_are_to_be_tried(lskd, teacher, tmp_path):
    printed, row = answer(lskd, teacher("a", alpha=0.0), tmp_path)
    assert (row["smoothed"], row["temperatures"], row["estimated_verdict"]) == (False, [1, 2, 3, 4], "not smoothed")
    assert "advice     try T in 1, 2, 3, 4" in printed
    lines = [each.split() for each in printed.splitlines() if each.startswith(("2B", "4 "))]
    assert [line[2:4] + line[-1:] for line in lines] == [
        ["ResNet-18", "0", "2"],
        ["ResNet-50", "0", "1"],
        ["MobileNetV2", "0", "2"],
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("alpha", "smoothed"), [(0.1, True), (0.0, False)])
def test_where_nothing_is_recorded_the_outputs_decide(lskd, teacher, tmp_path, alpha, smoothed):
    printed, row = answer(lskd, teacher("a", alpha=alpha, configuration={}), tmp_path)
    assert (row["smoothed"], row["label_smoothing"], row["source"]) == (smoothed, None, "not in the file")
    assert "rests on   the outputs alone" in printed


def test_where_neither_tells_nothing_is_assumed_of_the_teacher(lskd, teacher, tmp_path):
    printed, row = answer(lskd, teacher("a", samples=60, configuration={}), tmp_path)
    assert (row["smoothed"], row["temperatures"], row["estimated_verdict"]) == (None, [1, 2, 3, 4], "cannot tell")
    assert "rests on   the paper's results alone: neither the record nor the outputs show whether" in printed
    assert "advice     start at T = 1 and choose among 1, 2, 3, 4 on validation data" in printed
    assert "60 samples, at least 100 are needed" in printed
    assert len([line for line in printed.splitlines() if line.startswith("2B")]) == 4


def test_a_record_is_enough_where_no_features_were_kept(lskd, teacher, tmp_path):
    printed, row = answer(lskd, teacher("a", keep=0), tmp_path)
    assert (row["smoothed"], row["estimated_verdict"]) == (True, "cannot tell")
    assert "it kept none of them" in printed


def test_a_record_and_outputs_that_disagree_are_told(lskd, teacher, tmp_path):
    file = teacher("a", alpha=0.1, configuration={"label_smoothing": 0.0, "kd_weight": 0.0})
    printed, row = answer(lskd, file, tmp_path)
    assert (row["disagreement"], row["smoothed"]) == ("no smoothing is recorded, and the outputs look smoothed", False)
    assert f"These disagree: {row['disagreement']}. The advice follows the record." in printed


def test_a_distilled_teacher_is_judged_by_its_outputs(lskd, teacher, tmp_path):
    about = {"configuration": {"kd_weight": 1.0, "label_smoothing": 0.0, "temperature": 2.0}}
    file = teacher("a", alpha=0.1, teacher={"label_smoothing": {"alpha": 0.1}}, **about)
    printed, row = answer(lskd, file, tmp_path)
    assert "recorded   trained by distillation from a teacher with α = 0.1 at T = 2" in printed
    assert (row["smoothed"], row["temperatures"]) == (True, [1])


def test_only_some_of_many_samples_are_looked_at(lskd, teacher, tmp_path, monkeypatch):
    monkeypatch.setattr("lskd.commands.advise.SAMPLES", 120)
    assert answer(lskd, teacher("a"), tmp_path)[1]["estimated_verdict"] == "smoothed"
    monkeypatch.setattr("lskd.commands.advise.SAMPLES", 99)
    assert answer(lskd, teacher("a"), tmp_path)[1]["estimated_verdict"] == "cannot tell"


def test_what_the_advice_says_of_the_paper_is_what_its_tables_say():
    for table, metric in TABLES:
        by = {}
        for figure in published(table, metric=metric):
            if figure.student and figure.temperature is not None:
                by.setdefault((figure.student, figure.label_smoothing), {})[figure.temperature] = figure.mean
        for (_, alpha), means in by.items():
            assert set(means) == set(TEMPERATURES)
            assert min(means, key=means.get) == 64
            assert max(means, key=means.get) == 1 or (alpha == 0 and table in ("2B", "4"))
            assert max(means.values()) - means[1] < 1


def test_those_that_are_looked_at_are_evenly_spread(lskd, teacher, monkeypatch):
    seen = []
    monkeypatch.setattr("lskd.commands.advise.SAMPLES", 80)
    monkeypatch.setattr("lskd.commands.advise.estimate_label_smoothing", lambda logits: seen.extend(logits) or UNTOLD)
    lskd("advise", teacher("a"))
    assert np.array_equal(np.concatenate(seen), logits_of(0.1)[0][::3])


SMOOTHED = SmoothingEstimate(0.1, 0.06, 0.16, "smoothed", "")
PLAIN = SmoothingEstimate(0.0, 0.0, 0.01, "not smoothed", "")
UNTOLD = SmoothingEstimate(None, None, None, "cannot tell", "")


@pytest.mark.parametrize(
    ("recorded", "estimate", "said"),
    [
        (0.1, SMOOTHED, None),
        (0.06, SMOOTHED, None),
        (0.0, PLAIN, None),
        (0.009, PLAIN, None),
        (None, SMOOTHED, None),
        (0.1, UNTOLD, None),
        (0.009, SMOOTHED, "α = 0.009 is recorded, and the outputs look smoothed"),
        (0.1, PLAIN, "α = 0.1 is recorded, and the outputs look as without smoothing"),
        (0.2, SMOOTHED, "α = 0.2 is recorded, and the outputs look like 0.06 to 0.16"),
        (0.03, SMOOTHED, "α = 0.03 is recorded, and the outputs look like 0.06 to 0.16"),
    ],
)
def test_a_disagreement_is_one_that_the_interval_does_not_hold(recorded, estimate, said):
    assert disagrees(recorded, estimate) == said


def test_the_answer_fits_a_csv(lskd, teacher, tmp_path):
    lskd("advise", teacher("a", alpha=0.0), "--output", tmp_path / "answer.csv")
    with open(tmp_path / "answer.csv", newline="") as text:
        (row,) = csv.DictReader(text)
    assert row["temperatures"] == "1 2 3 4"


@pytest.mark.slow
def test_trained_teachers_go_through_all_three_commands(images, image_teachers, tmp_path):
    files = []
    for checkpoint in image_teachers:
        files.append(tmp_path / f"{checkpoint.parent.name}.representations.safetensors")
        words = ["python -m lskd_vision.representations", checkpoint, "--data-dir", images, "--output", files[-1]]
        run(*words)
    entropies = run("python -m lskd entropy", *files, "--classes Bag --output", tmp_path / "entropy.json")
    assert entropies.stdout.count("resnet") >= 2
    rows = json.loads((tmp_path / "entropy.json").read_text())["rows"]
    by = {(row["label_smoothing"], row["temperature"]): row["entropy_nats"] for row in rows if "entropy_nats" in row}
    run("python -m lskd match-temperature", files[1], files[0], "--output", tmp_path / "matched.json")
    matched = json.loads((tmp_path / "matched.json").read_text())["rows"][0]
    assert matched["entropy_nats"] == pytest.approx(by[0.1, 1])
    at = EntropySums([matched["temperature"]])
    at.update(read_representations(files[0]).logits())
    assert at.mean()[0] == pytest.approx(by[0.1, 1])
    assert "α = 0.1 (the model's configuration)" in run("python -m lskd advise", files[1]).stdout
