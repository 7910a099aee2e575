import csv
import json
import re
import statistics

import numpy as np
import pytest
from helpers.commands import last_line, run
from helpers.lskd_commands import call

from lskd.commands import accuracy as command
from lskd.io.errors import InputError
from lskd.measure.representations import Representations, collect, write_representations
from lskd.paper.published import published
from lskd.records.runs import RunRecord, write_run

NAMES = ["cat", "dog", "cow", "owl", "ant", "bee", "fox"]


@pytest.fixture
def lskd_accuracy(capsys):
    """``lskd accuracy`` with these arguments, in this process: the cells of what it prints, line by line."""

    def start(*words):
        call(command, *words)
        return [re.split(r"  +", line) for line in capsys.readouterr().out.splitlines()]

    return start


def write_features(path, samples=40, seed=0, labels=None, **others):
    """A file of random features and a random last layer."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(samples, 3))
    labels = random.integers(0, len(NAMES), samples) if labels is None else labels
    layer = {"weight": random.normal(size=(len(NAMES), 3)), "bias": random.normal(size=len(NAMES))} | others
    layer = {name: value for name, value in layer.items() if value is not None}
    write_representations(path, collect(features, labels, NAMES, **layer))
    return path, features, labels, layer


def write_record(folder, top1=80.0, seed=1, temperature=1.0, alpha=0.1, classwise=None, host=None, **others):
    """A student's run directory, as the training of images leaves it."""
    folder.mkdir(parents=True)
    figures = {"top1": top1, "top5": top1 + 10, "nll_loss": 0.5, "samples": 200}
    figures["classwise"] = classwise or dict.fromkeys(NAMES, top1)
    settings = {"temperature": temperature, "label_smoothing": 0.0, "model": "resnet18", "host": host or {"lr": 0.1}}
    teacher = {"model": "resnet50", "label_smoothing": {"alpha": alpha}, "fingerprint": f"of seed {seed}"}
    values = {"metrics": {"valid": {"last.pth.tar": figures}}, "teacher": teacher, "data": {"fingerprint": "birds"}}
    write_run(RunRecord(**({"configuration": settings, "seed": seed} | values | others)), folder)
    return folder


def test_accuracy_of_features_is_that_of_their_logits(tmp_path, lskd_accuracy, monkeypatch):
    path, features, labels, layer = write_features(tmp_path / "a.representations.safetensors")
    whole = Representations.logit_chunks
    monkeypatch.setattr(Representations, "logit_chunks", lambda self: whole(self, elements=50))
    rank = np.argsort(np.argsort(-(features @ layer["weight"].T + layer["bias"]), axis=1), axis=1)
    rank = rank[np.arange(len(labels)), labels]
    table = lskd_accuracy(path, "--classes")
    top1, top5 = 100 * np.mean(rank < 1), 100 * np.mean(rank < 5)
    assert 0 < top1 < top5 < 100
    assert table[1] == ["#1 " + path.name, "–", "–", "–", "40", "1", f"{top1:.2f}", "–", "–", f"{top5:.2f}", "–"]
    by_class = [100 * np.mean(rank[labels == label] < 1) for label in range(len(NAMES))]
    assert table[4:] == [[name, f"{value:.2f}"] for name, value in zip(NAMES, by_class, strict=True)] + [
        ["average", f"{np.mean(by_class):.2f}"]
    ]


def test_stored_counts_are_taken_as_they_are(tmp_path, lskd_accuracy):
    correct = np.array([[1, 0, 0, 0, 0, 0, 0], [2, 1, 0, 0, 0, 0, 0]])
    labels = np.array([0, 0, 0, 1, 2])
    path, *_ = write_features(tmp_path / "a.representations.safetensors", 5, labels=labels, correct=correct)
    table = lskd_accuracy(path, "--classes", "cat", "dog", "bee")
    assert table[1][4:] == ["5", "1", "20.00", "–", "–", "60.00", "–"]
    assert table[4:] == [["cat", "33.33"], ["dog", "0.00"], ["bee", "–"], ["average", "16.67"]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": None, "bias": None}, "must hold counts of correct samples, or all features and the last layer"),
        ({"samples": 0, "labels": np.empty(0, np.int64)}, "must hold samples"),
    ],
)
def test_a_file_that_does_not_give_accuracy_is_refused(tmp_path, lskd_accuracy, options, message):
    path, *_ = write_features(tmp_path / "a.representations.safetensors", **options)
    with pytest.raises(InputError, match=message):
        lskd_accuracy(path)


def test_features_of_some_samples_do_not_stand_for_all(tmp_path, lskd_accuracy):
    path = tmp_path / "a.representations.safetensors"
    whole = collect(np.ones((4, 2)), np.array([0, 1, 0, 1]), NAMES, weight=np.ones((len(NAMES), 2)))
    whole.features, whole.labels, whole.index = whole.features[:2], whole.labels[:2], whole.index[:2]
    write_representations(path, whole)
    with pytest.raises(InputError, match="or all features"):
        lskd_accuracy(path)


def test_runs_that_differ_in_their_seed_are_one_line_with_mean_and_standard_deviation(tmp_path, lskd_accuracy):
    values = {1: [80.0, 81.0, 84.0], 3: [78.0, 77.0]}
    paths = [
        write_record(tmp_path / f"T{t}_s{seed}", top1, seed, float(t), host={"seed": seed, "output": f"{t}", "lr": 0.1})
        for t, tops in values.items()
        for seed, top1 in enumerate(tops)
    ]
    one, three = (statistics.fmean(values[t]) for t in values)
    of_one, of_three = (statistics.stdev(values[t]) for t in values)
    head, *lines = lskd_accuracy(*paths)
    assert head == ["model", "α", "T", "split", "samples", "n", "top-1 %", "σ", "change", "top-5 %", "σ"]
    facts = ["0.1", "1", "valid", "200", "3"]
    assert lines == [
        ["#1 student resnet18", *facts, f"{one:.2f}", f"{of_one:.2f}", "–", f"{one + 10:.2f}", f"{of_one:.2f}"],
        ["#2 student resnet18", "0.1", "3", "valid", "200", "2"]
        + [f"{three:.2f}", f"{of_three:.2f}", f"{three - one:+.2f}", f"{three + 10:.2f}", f"{of_three:.2f}"],
    ]


@pytest.mark.parametrize(
    ("others", "note"),
    [
        ({"seed": 1}, "#2 has a seed of #1"),
        ({"host": {"lr": 0.2}}, "#2 differs from #1 in lr"),
        ({"host": {"optimization": {"lr": 0.1, "max_epoch": 3}}}, "#2 differs from #1 in max_epoch"),
        ({"data": {"fingerprint": "fish"}}, "#2 differs from #1 in data"),
        ({"classwise": {"cat": 80.0}}, "#2 differs from #1 in classes"),
    ],
)
def test_runs_that_look_alike_but_are_no_seeds_of_one_another_are_two_lines(tmp_path, lskd_accuracy, others, note):
    first = write_record(tmp_path / "1")
    second = write_record(tmp_path / "2", **({"seed": 2} | others))
    lines = lskd_accuracy(first, second)
    assert [line[5] for line in lines[1:3]] == ["1", "1"]
    assert lines[3:] == [[note]]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {}),
        ({"seed": 1}, {"seed": 2}),
        ({"configuration": {"temperature": 1.0}}, {"configuration": {"temperature": 1.0}, "seed": 1}),
        ({"configuration": {"temperature": 1.0}, "seed": 1}, {"configuration": {"temperature": 1.0}}),
        *[
            ({"configuration": {"temperature": 1.0}, "seed": 1, name: "a"},
             {"configuration": {"temperature": 1.0}, "seed": 2, name: "b"})
            for name in ("split", "model", "checkpoint", "moving_average")
        ],
    ],
)  # fmt: skip
def test_files_that_are_not_known_to_be_seeds_of_one_another_are_two_lines(tmp_path, lskd_accuracy, first, second):
    paths = [
        write_features(tmp_path / f"{seed}.representations.safetensors", seed=seed, provenance=provenance)[0]
        for seed, provenance in enumerate((first, second))
    ]
    table = lskd_accuracy(*paths)
    assert [line[5] for line in table[1:3]] == ["1", "1"]


def test_files_of_two_seeds_are_one_line(tmp_path, lskd_accuracy):
    about = {"configuration": {"temperature": 1.0, "label_smoothing": 0.1}, "model": "resnet18", "split": "val"}
    paths = [
        write_features(
            tmp_path / f"{seed}.representations.safetensors",
            seed=seed,
            provenance=about | {"seed": seed, "checkpoint": f"runs/s{seed}/last.pth.tar"},
        )[0]
        for seed in (1, 2)
    ]
    assert [line[:6] for line in lskd_accuracy(*paths)[1:]] == [["#1 teacher resnet18", "0.1", "1", "val", "40", "2"]]


def test_the_machine_and_the_place_do_not_separate_seeds(tmp_path, lskd_accuracy):
    first = write_record(tmp_path / "1", host={"device": "cpu", "kd_checkpoint": "a", "lr": 1})
    second = write_record(tmp_path / "2", seed=2, host={"device": "cuda", "kd_checkpoint": "b", "lr": 1, "workers": 3})
    assert [line[5] for line in lskd_accuracy(first, second)[1:]] == ["2"]


def test_a_record_of_a_version_with_one_loss_is_a_seed_of_one_with_the_papers_and_of_no_other(tmp_path, lskd_accuracy):
    first = write_record(tmp_path / "1", host={"lr": 1})
    second = write_record(tmp_path / "2", seed=2, host={"lr": 1, "kd_loss": "kl", "kd_nckd_weight": None})
    other = write_record(tmp_path / "3", seed=3, host={"lr": 1, "kd_loss": "mse"})
    assert [line[5] for line in lskd_accuracy(first, second)[1:]] == ["2"]
    assert lskd_accuracy(first, other)[3:] == [["#2 differs from #1 in kd_loss"]]


def test_teachers_and_their_smoothing_are_lines_of_their_own(tmp_path, lskd_accuracy):
    settings = {"temperature": None, "label_smoothing": 0.1, "model": "resnet50"}
    teacher = write_record(tmp_path / "t", configuration=settings, teacher=None)
    paths = [teacher, write_record(tmp_path / "1"), write_record(tmp_path / "2", alpha=0.0, seed=2)]
    assert [line[:3] for line in lskd_accuracy(*paths)[1:]] == [
        ["#1 teacher resnet50", "0.1", "–"],
        ["#2 student resnet18", "0.1", "1"],
        ["#3 student resnet18", "0", "1"],
    ]


def test_classes_are_compared_as_in_the_papers_tables(tmp_path, lskd_accuracy):
    def of(temperature, split):
        return {f.target_class: f.mean for f in published("I.1", temperature=temperature, split=split)}

    paths = []
    for t in (1, 2, 3):
        classes = of(t, "train")
        average = classes.pop("average")
        paths.append(write_record(tmp_path / f"T{t}", average, temperature=float(t), classwise=classes))
    lines = lskd_accuracy(*paths, "--classes")[5:]
    assert lines[0] == ["top-1 %", "#1", "#2", "change", "#3", "change"]
    for line in lines[1:]:
        one, two, three = (of(t, "train")[line[0]] for t in (1, 2, 3))
        printed = [float(cell) for cell in line[1:]]
        assert printed == pytest.approx([one, two, two - one, three, three - one], abs=0.0051)
        assert line[3].startswith("-")
    assert [line[0] for line in lines[1:]] == ["miniature poodle", "standard poodle", "submarine", "average"]


def test_class_wise_means_are_over_the_seeds_that_have_the_class(tmp_path, lskd_accuracy):
    first = write_record(tmp_path / "1", classwise={"cat": 50.0, "dog": None, "cow": None})
    second = write_record(tmp_path / "2", seed=2, classwise={"cat": 60.0, "dog": 20.0, "cow": None})
    other = write_record(tmp_path / "3", temperature=2.0, classwise={"cat": 40.0, "dog": 10.0, "cow": 5.0})
    lines = lskd_accuracy(first, second, other, "--classes")[4:]
    assert lines[1:] == [
        ["cat", "55.00", "40.00", "-15.00"],
        ["dog", "20.00", "10.00", "-10.00"],
        ["cow", "–", "5.00", "–"],
        ["average", "37.50", "18.33", "-12.50"],
    ]


def test_changes_are_from_the_first_of_the_same_split(tmp_path, lskd_accuracy):
    def features(name, split, seed):
        about = {"provenance": {"split": split}}
        return write_features(tmp_path / f"{name}.representations.safetensors", 200, seed, **about)[0]

    paths = [features(*each) for each in (("a", "train", 1), ("b", "val", 2), ("c", "train", 3), ("d", "val", 4))]
    lines = lskd_accuracy(*paths, "--classes", "0")
    top1, change = ([line[place] for line in lines[1:5]] for place in (6, 8))
    assert change[:2] == ["–", "–"]
    for later in (2, 3):
        assert float(change[later]) == pytest.approx(float(top1[later]) - float(top1[later - 2]), abs=0.011)
    (cat,) = [line for line in lines if line[0] == "cat"]
    assert float(cat[4]) == pytest.approx(float(cat[3]) - float(cat[1]), abs=0.011)
    assert float(cat[6]) == pytest.approx(float(cat[5]) - float(cat[2]), abs=0.011)


def test_a_split_and_a_checkpoint_are_chosen(tmp_path, lskd_accuracy):
    def figures(top1):
        return {"top1": top1, "top5": 99.0, "samples": 9, "classwise": {"cat": top1}}

    names = {"last.pth.tar": figures(1.0), "model_best.pth.tar": figures(2.0), "best.pth.tar": figures(3.0)}
    path = write_record(tmp_path / "1", metrics={"valid": names, "test": {"last.pth.tar": figures(4.0)}})

    def top1(*options):
        return lskd_accuracy(path / "run.json", *options)[1][6]

    assert top1() == "1.00"
    assert top1("--checkpoint", "model") == "2.00"
    assert top1("--checkpoint", "best.pth.tar") == "3.00"
    assert top1("--split", "test") == "4.00"
    with pytest.raises(
        InputError, match=r"^--checkpoint: best \(must be one that .* has results of: last.pth.tar, model"
    ):
        top1("--checkpoint", "best")
    with pytest.raises(InputError, match=r"^--split: train \(must be one that .* has results of: valid, test\)$"):
        top1("--split", "train")


def test_what_holds_no_accuracy_is_refused_and_nothing_written(tmp_path, lskd_accuracy):
    translation = write_record(tmp_path / "nmt", metrics={"valid": {"checkpoint_last.pt": {"ppl": 10.6}}})
    good = write_record(tmp_path / "1")
    options = (good, "--output", tmp_path / "out.json")
    with pytest.raises(
        InputError, match=r"has no classwise, samples, top1, top5 of checkpoint_last.pt, must be a run of"
    ):
        lskd_accuracy(translation, *options[1:])
    with pytest.raises(
        InputError, match=r"^PATH: .*nowhere \(must be a \*.representations.safetensors file, a run, or"
    ):
        lskd_accuracy(tmp_path / "nowhere", *options)
    with pytest.raises(InputError, match=r"^--classes: 'lion' \(must be "):
        lskd_accuracy(*options, "--classes", "lion")
    other = write_record(tmp_path / "2", classwise={"dog": 1.0})
    with pytest.raises(
        InputError, match=r"^PATH: .*2 \(must have the classes of .*1, in their order, for --classes\)$"
    ):
        lskd_accuracy(*options[:1], other, "--classes")
    assert not (tmp_path / "out.json").exists()


def test_the_figures_are_written_unrounded(tmp_path, lskd_accuracy):
    paths = [
        write_record(tmp_path / f"{t}_{seed}", 80 + seed / 3 - t, seed, float(t)) for t in (1, 2) for seed in (1, 2)
    ]
    lskd_accuracy(*paths, "--classes", "cow", "--output", tmp_path / "out.json")
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert [(row["temperature"], row["class"]) for row in rows] == [(1, None), (1, "cow"), (2, None), (2, "cow")]
    assert rows[3] == {
        "number": 2,
        "role": "student",
        "model": "resnet18",
        "data": None,
        "teacher": "resnet50",
        "label_smoothing": 0.1,
        "temperature": 2.0,
        "split": "valid",
        "class": "cow",
        "samples": None,
        "n": 2,
        "top1": pytest.approx(78.5),
        "top1_sd": pytest.approx(statistics.stdev([1 / 3, 2 / 3])),
        "top1_change": pytest.approx(-1),
        "top5": None,
        "top5_sd": None,
        "files": f"{paths[2]} {paths[3]}",
    }
    lskd_accuracy(*paths, "--output", tmp_path / "out.csv")
    with open(tmp_path / "out.csv", encoding="utf-8") as file:
        assert [float(row["top1"]) for row in csv.DictReader(file)] == pytest.approx([79.5, 78.5])


@pytest.mark.slow
def test_the_command_of_a_user(tmp_path):
    path = write_record(tmp_path / "1")
    assert run("python -m lskd accuracy", path).stdout.splitlines()[1].split()[:3] == [
        "#1",
        "student",
        "resnet18",
    ]
    (tmp_path / "empty").mkdir()
    refused = run("python -m lskd accuracy", tmp_path / "empty", status=2)
    assert "must be a *.representations" in last_line(refused)
