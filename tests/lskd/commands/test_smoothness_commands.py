import csv
import json
import math

import numpy as np
import pytest
from helpers.commands import run
from helpers.known_teachers import NAMES, logits_of

from lskd.io.temperatures import read_temperatures
from lskd.measure.representations import read_representations
from lskd.measure.smoothness import EntropySums, entropy
from lskd.report.soft_output_figure import largest, soft_output_figure

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
    assert "--temperatures: 0 (must be a finite number above 0, or " in refused("entropy", file, "--temperatures", 1, 0)
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
    assert "must end in .svg, .png or .pdf" in refused(*words, tmp_path / "x.gif")
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
    assert "--temperature: -1 (must be a finite number above 0)" in refused(
        "match-temperature", reference, reference, "--temperature", -1
    )


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
