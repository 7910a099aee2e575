import csv
import json
import math

import numpy as np
import pytest
import scipy.special
from helpers.lskd_commands import call, exit_status

from lskd.commands import measure
from lskd.measure.representation_collector import RepresentationCollector
from lskd.measure.representations import write_representations

NAMES = ["cat", "dog", "eel", "fox"]
COUNTS = (40, 30, 20, 10)
ABOUT = {"split": "validation", "data": {"fingerprint": "d"}, "model": "net", "seed": 1}


def logits_of(seed=0):
    """Logits and labels, the label's logit being the largest of about three quarters."""
    labels = np.repeat(np.arange(4), COUNTS)
    return np.random.default_rng(seed).normal(size=(100, 4)) + 2 * np.eye(4)[labels], labels


@pytest.fixture
def write(tmp_path):
    """Write a representation file whose features are the logits, and whose last layer leaves them as they are."""

    def write(name, seed=0, weight=True, about=None, scale=1.0, **keep):
        logits, labels = logits_of(seed)
        collector = RepresentationCollector(NAMES, 4, dtype=np.float64, **keep)
        collector.add(scale * logits, labels)
        path = tmp_path / f"{name}.representations.safetensors"
        layer = np.eye(4, dtype=np.float32) if weight else None
        about = (
            ABOUT | {"configuration": {"label_smoothing": 0.1}, "teacher": None, "fingerprint": name} | (about or {})
        )
        write_representations(path, collector.result(weight=layer, provenance=about))
        return path

    return write


@pytest.fixture
def rows_of(tmp_path):
    """The rows that ``lskd measure`` writes."""

    def rows_of(*words):
        call(measure, *words, "--resamples", 0, "--output", tmp_path / "rows.json")
        return json.loads((tmp_path / "rows.json").read_text())["rows"]

    return rows_of


STUDENT = {"teacher": {"fingerprint": "teacher"}, "configuration": {"temperature": 3.0}}


def test_the_table_holds_what_the_logits_give(write, rows_of, capsys):
    (row,) = rows_of(write("model"), "--temperatures", 1, 3)
    logits, labels = logits_of()
    own = scipy.special.softmax(logits, 1)[np.arange(100), labels]
    at_3 = scipy.special.softmax(logits / 3, 1)[np.arange(100), labels]
    assert row["top1_percent"] == pytest.approx(100 * (logits.argmax(1) == labels).mean())
    assert row["nll_nats"] == pytest.approx(-np.log(own).mean())
    assert row["non_target_percent_T1"] == pytest.approx(100 * (1 - own).mean())
    assert row["non_target_percent_T3"] == pytest.approx(100 * (1 - at_3).mean())
    assert (row["samples"], row["split_samples"], row["classes"], row["split_classes"]) == (100, 100, 4, 4)
    assert row["ece_low_percent"] is None  # without resamples
    assert not capsys.readouterr().err


def test_kept_samples_are_weighted_and_called_a_part(write, rows_of, capsys):
    path = write("part", keep_per_class=10)
    (row,) = rows_of(path)
    logits, labels = logits_of()
    kept = np.concatenate([np.flatnonzero(labels == label)[:10] for label in range(4)])
    nll = -scipy.special.log_softmax(logits, 1)[kept, labels[kept]]
    by_class = nll.reshape(4, 10).mean(1)
    assert row["nll_nats"] == pytest.approx(by_class @ np.array(COUNTS) / 100)
    assert (row["samples"], row["split_samples"]) == (40, 100)
    said = capsys.readouterr().err
    assert (
        f"{path}: measures of outputs are of 40 kept of 100 samples, weighted by the counts of their classes." in said
    )


def test_a_student_stands_beside_its_teacher(write, rows_of, capsys):
    teacher, student = write("teacher"), write("student", seed=1, about=STUDENT)
    of_teacher, of_student = rows_of(teacher, student, "--teacher", teacher)
    one, other = logits_of()[0], logits_of(1)[0]
    p, q = scipy.special.softmax(one, 1), scipy.special.softmax(other, 1)
    assert of_student["agreement_percent"] == pytest.approx(100 * (p.argmax(1) == q.argmax(1)).mean())
    assert of_student["kl_nats"] == pytest.approx((p * np.log(p / q)).sum(1).mean())
    assert of_student["teacher_wrong_samples"] == (p.argmax(1) != logits_of()[1]).sum()
    assert (of_student["label_smoothing"], of_student["temperature"]) == (None, 3.0)
    assert (of_teacher["label_smoothing"], of_teacher["agreement_percent"]) == (0.1, None)
    printed = capsys.readouterr()
    table = printed.out.partition("Fidelity: share of samples with the teacher")[2].partition("Neural collapse")[0]
    assert str(student) in table
    assert str(teacher) not in table  # it has no fidelity to itself
    assert not printed.err


def test_a_student_of_another_teacher_is_named(write, rows_of, capsys):
    student = write("student", seed=1, about=STUDENT | {"teacher": {"fingerprint": "another"}})
    rows_of(student, "--teacher", write("teacher"))
    assert f"{student} was not distilled from" in capsys.readouterr().err


def test_what_a_file_cannot_give_is_a_dash_with_a_reason(write, rows_of, capsys):
    nothing, no_layer = write("nothing", keep_per_class=0), write("no-layer", weight=False)
    first, second = rows_of(nothing, no_layer)
    for row in (first, second):
        assert row["ece_percent"] is row["optimal_temperature"] is row["nc3" if row is second else "nc1"] is None
        assert row["nc1_ratio"] > 0
    printed = capsys.readouterr()
    assert f"{nothing}: measures of outputs are left out, as they need features: none were kept." in printed.err
    assert f"{no_layer}: measures of outputs are left out, as they need the last layer." in printed.err


def test_a_temperature_beyond_the_bounds_is_told(write, rows_of, capsys):
    path = write("flat", scale=1e-5)
    (row,) = rows_of(path)
    assert row["optimal_temperature"] is None
    assert (
        f"{path}: T*: below 0.01, the likelihood still rises as T falls (must be from 0.01 to 100)."
        in capsys.readouterr().err
    )


def test_intervals_hold_their_measure_and_fit_a_csv(write, tmp_path, capsys):
    teacher, student = write("teacher"), write("student", seed=1, about=STUDENT)
    call(measure, student, "--teacher", teacher, "--resamples", 100, "--output", tmp_path / "rows.csv")
    with open(tmp_path / "rows.csv", newline="") as text:
        (row,) = csv.DictReader(text)
    printed = capsys.readouterr().out
    for name in ("aurc", "agreement"):
        low, value, high = (float(row[f"{name}{end}_percent"]) for end in ("_low", "", "_high"))
        assert 0 <= low < value < high <= 100
        assert f"{low:.2f} to {high:.2f}" in printed
    assert all(math.isfinite(float(value)) for name, value in row.items() if name.endswith(("_percent", "_nats")))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("{student} --teacher {train}", "teacher: split train (must be validation, the student's)"),
        ("{student} --teacher {unknown}", "teacher: no data fingerprint in its provenance"),
        ("{student} --teacher {no-layer}", "must hold the last layer, for fidelity"),
        ("{student} --resamples 5", "--resamples: 5 (must be 0, for no intervals, or from 100 to 100000)"),
        ("{student} --seed -1", "--seed: -1 (must be a whole number, 0 or more)"),
        ("{student} --temperatures 0", "--temperatures: 0 (must be a finite number above 0, or a .csv"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(words, message, write, capsys):
    files = {
        "student": write("student", about=STUDENT),
        "train": write("train", about={"split": "train"}),
        "unknown": write("unknown", about={"data": None}),
        "no-layer": write("no-layer", weight=False),
    }
    assert exit_status(measure, *words.format(**files).split()) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert (printed.out, printed.err.count("\n")) == ("", 1)
