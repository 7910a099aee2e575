import csv
import json

import pytest
from helpers.small_runs import image_run, translation_run

SGD = {"opt": "momentum", "lr": 0.1}
VALUES = {1: [85.0, 85.4, 85.2], 3: [83.0, 83.5, 83.1]}


def students(place, by_temperature, alpha=0.1, **host):
    for T, values in by_temperature.items():
        for seed, top1 in enumerate(values, 1):
            image_run(place, alpha, float(T), seed, top1=top1, host=host)


def test_students_are_summed_up_by_setting_alpha_and_temperature(lskd, tmp_path):
    runs = tmp_path / "runs"
    students(runs, VALUES, **SGD)
    students(runs, {1: [86.0, 86.2, 86.4]}, alpha=0.0, **SGD)
    text = lskd("summarise", runs, "--output", tmp_path / "summary.csv")
    with open(tmp_path / "summary.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["label_smoothing"], row["temperature"], row["n"]) for row in rows] == [
        ("0.1", "1.0", "3"),
        ("0.1", "3.0", "3"),
        ("0.0", "1.0", "3"),
    ]
    assert (float(rows[1]["mean"]), rows[1]["metric"], rows[1]["optimiser"]) == (83.2, "top1", "momentum")
    assert "85.20 ± 0.20 (3)" in text
    assert "1 − 3" in text
    assert "+2.00 (+" in text
    assert "control" not in text.partition("\n\n")[2]


def test_what_a_control_removes_stands_in_a_table_of_its_own(lskd, tmp_path):
    students(tmp_path, VALUES, **SGD)
    students(tmp_path / "match", {3: [84.9, 85.2, 85.3]}, **SGD, kd_gradient_scale="match")
    text = lskd("summarise", tmp_path)
    table = text.partition("Cost of T")[2]
    assert "match" in table
    assert "removed, within chance" in table


def test_controls_of_several_studies_say_of_which_they_are(lskd, tmp_path):
    for lr in (0.1, 0.3):
        students(tmp_path / f"lr{lr}", VALUES, opt="momentum", lr=lr)
        students(tmp_path / f"match{lr}", {3: [84.9, 85.2, 85.3]}, opt="momentum", lr=lr, kd_gradient_scale="match")
    table = lskd("summarise", tmp_path).partition("Cost of T")[2]
    assert "study" in table.splitlines()[2]
    assert all(f"learning rate = {lr}" in table for lr in (0.1, 0.3))


def test_translations_are_summed_up_by_bleu(lskd, tmp_path):
    runs = tmp_path / "runs"
    translation_run(runs, 1.0, 16.86)
    text = lskd("summarise", runs, "--output", tmp_path / "summary.json")
    assert "BLEU, mean ± standard deviation" in text
    (row,) = json.loads((tmp_path / "summary.json").read_text())["rows"]
    assert (row["metric"], row["mean"], row["standard_deviation"], row["n"]) == ("bleu", 16.86, None, 1)


@pytest.mark.parametrize("kind", [{"kd_distill_type": "feature"}, {"kd_token_distill_type": "hard"}])
def test_students_that_learn_no_probabilities_have_no_temperature_and_are_left_out(lskd, refused, tmp_path, kind):
    students(tmp_path / "feature", {1: [89.0, 89.4, 89.2]}, **SGD, **kind)
    assert "must hold students" in refused("summarise", tmp_path)
    students(tmp_path, VALUES, **SGD)
    text = lskd("summarise", tmp_path)
    assert "89.2" not in text
    assert "85.20 ± 0.20 (3)" in text
    assert "Left out: 3 students that learn features, or the class alone, and have no T." in text


def test_runs_without_students_are_refused_in_one_line(refused, tmp_path):
    image_run(tmp_path, 0.1)
    assert "must hold students" in refused("summarise", tmp_path)
    assert "must be a directory" in refused("summarise", tmp_path / "nothing")
