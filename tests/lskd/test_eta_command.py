import csv
import json
import math

import numpy as np
import pytest
from commands import last_line, run

from lskd.class_sets import ClassSets
from lskd.commands import eta as command
from lskd.diffusion import diffusion_indices, permutation_p
from lskd.errors import OneLineParser, run_command
from lskd.recorder import Recorder
from lskd.representations import read_representations, record, write_representations

NAMES = ["Shirt", "Coat", "Pullover", "Sandal", "Boot", "Bag"]
GROUPS = {"tops": ["Shirt", "Coat", "Pullover"], "footwear": ["Sandal", "Boot"]}
SETS = {
    "Shirt": {"similar": ["Coat", "Pullover"], "dissimilar": ["Sandal", "Boot", "Bag"]},
    "Boot": {"similar": ["Sandal"], "dissimilar": ["Shirt", "Bag"]},
}


def student(folder, temperature, seed=1, samples=30, keep=None, names=NAMES, dimension=8, noise=1.0, **about):
    """A representation file of a student: at a higher temperature tops are nearer to each other."""
    generator = np.random.default_rng([seed, int(10 * temperature)])
    places = 3 * np.random.default_rng(1).normal(size=(len(names), dimension))
    places[1:3] = places[0] + (places[1:3] - places[0]) / math.sqrt(temperature)
    labels = np.random.default_rng(2).permutation(np.repeat(np.arange(len(names)), samples))
    features = (places[labels] + noise * generator.normal(size=(len(labels), dimension))).astype(np.float32)
    provenance = {
        "model": "resnet18",
        "checkpoint": f"T{temperature}_s{seed}/last.pth.tar",
        "split": "valid",
        "seed": seed,
        "data": {"path": "fashion", "fingerprint": "abc"},
        "configuration": {"temperature": temperature, "label_smoothing": 0.0},
        "teacher": {"label_smoothing": {"alpha": 0.1}},
    }
    provenance = {key: value for key, value in (provenance | about).items() if value != "absent"}
    recorder = Recorder(names, dimension, keep_per_class=keep)
    recorder.add(features, labels)
    weight = generator.normal(size=(len(names), dimension)).astype(np.float32)
    path = folder / f"T{temperature:g}_s{seed}.representations.safetensors"
    write_representations(path, recorder.result(weight=weight, provenance=provenance))
    return path


@pytest.fixture
def sets(tmp_path):
    path = tmp_path / "sets.json"
    path.write_text(json.dumps(SETS))
    return path


@pytest.fixture
def pair(tmp_path):
    return student(tmp_path, 1.0), student(tmp_path, 3.0)


@pytest.fixture
def lskd_eta(monkeypatch, capsys):
    """``lskd eta`` in this process: its exit status, what it printed, and its message."""

    def start(first, second, *words):
        first, second = ([each] if not isinstance(each, list) else each for each in (first, second))
        monkeypatch.setattr("sys.argv", ["lskd", *map(str, ["--first", *first, "--second", *second, *words])])
        parser = OneLineParser(prog="lskd eta")
        command.add_arguments(parser)
        with pytest.raises(SystemExit) as left:
            run_command(parser, command.run)
        return left.value.code, *capsys.readouterr()

    return start


def refused(result):
    """The message of a refusal: one line, and nothing printed."""
    status, out, err = result
    assert (status, out) == (2, ""), err
    assert err.count("\n") == 1
    return err.strip().removeprefix("lskd eta: error: ")


def test_the_table_is_the_papers_in_percent_with_intervals_and_p(lskd_eta, pair, sets, tmp_path):
    output = tmp_path / "eta.json"
    options = ["--resamples", 100, "--seed", 3, "--confidence", 80]
    status, out, _ = lskd_eta(*pair, "--sets", sets, "--output", output, *options)
    assert status == 0
    files = [read_representations(path) for path in pair]
    expected = list(
        diffusion_indices(*files, {0: ClassSets([1, 2], [3, 4, 5]), 4: ClassSets([3], [0, 5])}, "centroid", 100, 0.8, 3)
    )
    written = json.loads(output.read_text())
    assert [row["target"] for row in written["rows"]] == ["Shirt", "Boot"]
    for row, index in zip(written["rows"], expected, strict=True):
        assert row["eta_similar_percent"] == pytest.approx(100 * index.eta_similar)
        assert row["eta_dissimilar_percent"] == pytest.approx(100 * index.eta_dissimilar)
        interval = row["eta_similar_low_percent"], row["eta_similar_high_percent"]
        assert interval == pytest.approx([100 * bound for bound in index.similar_interval])
        interval = row["eta_dissimilar_low_percent"], row["eta_dissimilar_high_percent"]
        assert interval == pytest.approx([100 * bound for bound in index.dissimilar_interval])
        assert row["p_value"] == index.p_value
        assert (row["n"], row["eta_similar_sd_percent"]) == (1, None)
    assert written["rows"][0]["similar"] == ["Coat", "Pullover"]
    assert (written["variant"], written["resamples"], written["seed"]) == ("centroid", 100, 3)
    assert written["first"] == [{"file": str(pair[0]), "provenance": files[0].provenance}]
    head, table, *rest = out.split("\n\n")
    assert head.splitlines() == [
        f"first   student resnet18, T = 1, α = 0.1, split valid, seed 1: {pair[0]}",
        f"second  student resnet18, T = 3, α = 0.1, split valid, seed 1: {pair[1]}",
    ]
    titles, shirt, boot, mean = table.splitlines()
    assert titles.split() == ["target", "η(S1)", "%", "interval", "p", "η(S2)", "%", "interval"]
    low, high = (100 * bound for bound in expected[0].similar_interval)
    eta = 100 * expected[0].eta_similar
    assert shirt.split()[:6] == ["Shirt", f"{eta:+.2f}", f"{low:+.2f}", "to", f"{high:+.2f}", "0.1"]
    assert eta < -10
    assert boot.split()[0] == "Boot"
    assert mean.split()[:2] == ["mean", f"{50 * (expected[0].eta_similar + expected[1].eta_similar):+.2f}"]
    negative = [sum(getattr(each, kind) < 0 for each in expected) for kind in ("eta_similar", "eta_dissimilar")]
    assert rest[0] == "η(S1) is negative for {} of 2 targets, η(S2) is negative for {} of 2 targets.".format(*negative)
    for words in ("sum to 0", "Opposite signs are forced only where", "80 %", "100 resamples", "other seeds"):
        assert words in rest[1]


def test_csv_has_a_line_for_each_target(lskd_eta, pair, sets, tmp_path):
    assert lskd_eta(*pair, "--sets", sets, "--output", tmp_path / "eta.csv", "--resamples", 0)[0] == 0
    with open(tmp_path / "eta.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["target"], row["similar"], row["eta_similar_low_percent"]) for row in rows] == [
        ("Shirt", "Coat; Pullover", ""),
        ("Boot", "Sandal", ""),
    ]


def test_several_seeds_give_mean_and_standard_deviation(lskd_eta, sets, tmp_path):
    first, second = ([student(tmp_path, t, seed, noise=8) for seed in (1, 2, 3)] for t in (1.0, 3.0))
    status, out, _ = lskd_eta(first, second, "--sets", sets, "--targets", "Shirt", "--output", tmp_path / "eta.json")
    assert status == 0
    indices = [
        next(
            diffusion_indices(
                read_representations(a), read_representations(b), {0: ClassSets([1, 2], [3, 4, 5])}, seed=1
            )
        )
        for a, b in zip(first, second, strict=True)
    ]
    etas = [100 * each.eta_similar for each in indices]
    (row,) = json.loads((tmp_path / "eta.json").read_text())["rows"]
    assert row["eta_similar_percent"] == pytest.approx(np.mean(etas))
    assert row["eta_similar_sd_percent"] == pytest.approx(np.std(etas, ddof=1))
    assert row["n"] == 3
    assert row["p_value"] != indices[0].p_value
    assert row["p_value"] == permutation_p(np.mean([each.changes for each in indices], axis=0), 2)
    assert row["eta_similar_low_percent"] is None
    table = out.split("\n\n")[1].splitlines()
    assert table[0].split()[3] == "±"
    assert table[1].split()[:3] == ["Shirt", f"{np.mean(etas):+.2f}", f"{np.std(etas, ddof=1):.2f}"]
    assert len(table) == 2
    assert "standard deviation over 3 pairs of students" in out
    assert "Intervals" not in out


@pytest.mark.parametrize("variant", ["corrected", "pairwise", "pairwise-squared"])
def test_other_distances_can_be_asked_for(lskd_eta, pair, sets, tmp_path, variant):
    options = ["--sets", sets, "--variant", variant, "--output", tmp_path / "eta.json", "--resamples", 20]
    assert lskd_eta(*pair, *options)[0] == 0
    written = json.loads((tmp_path / "eta.json").read_text())
    files = [read_representations(path) for path in pair]
    expected = next(diffusion_indices(*files, {0: ClassSets([1, 2], [3, 4, 5])}, variant=variant))
    assert written["rows"][0]["eta_similar_percent"] == pytest.approx(100 * expected.eta_similar)
    assert written["variant"] == variant


def test_sets_by_groups_are_those_that_share_none(lskd_eta, pair, tmp_path):
    groups = tmp_path / "groups.json"
    groups.write_text(json.dumps(GROUPS))
    options = ["--groups", groups, "--output", tmp_path / "eta.json", "--resamples", 0]
    assert lskd_eta(*pair, "--by", "groups", *options)[0] == 0
    rows = {row["target"]: row for row in json.loads((tmp_path / "eta.json").read_text())["rows"]}
    assert sorted(rows) == sorted(NAMES[:5])
    assert rows["Coat"]["similar"] == ["Shirt", "Pullover"]
    assert rows["Coat"]["dissimilar"] == ["Sandal", "Boot", "Bag"]


def test_sets_by_distance_are_of_the_reference(lskd_eta, pair, tmp_path):
    places = np.array([[0.0], [5.0], [1.0], [9.0], [2.0], [8.0]])
    reference = tmp_path / "teacher.representations.safetensors"
    write_representations(reference, record(places, np.arange(6), NAMES))
    options = ["--reference", reference, "--similar", 2, "--dissimilar", 1, "--targets", "Shirt"]
    assert lskd_eta(*pair, "--by", "distance", *options, "--output", tmp_path / "eta.json")[0] == 0
    (row,) = json.loads((tmp_path / "eta.json").read_text())["rows"]
    assert (row["similar"], row["dissimilar"]) == (["Pullover", "Boot"], ["Sandal"])


def test_sets_by_wordnet_name_imagenets_classes(lskd_eta, tmp_path):
    names = ["n02099601", "n02099712", "n01728920", "n02951358"]  # golden retriever, Labrador, ringneck snake, canoe
    first, second = (student(tmp_path, t, names=names) for t in (1.0, 3.0))
    options = ["--by", "wordnet", "--similar", 1, "--targets", "golden_retriever", "--resamples", 10]
    status, out, err = lskd_eta(first, second, *options, "--output", tmp_path / "eta.json")
    assert status == 0, err
    (row,) = json.loads((tmp_path / "eta.json").read_text())["rows"]
    assert (row["target"], row["similar"]) == ("n02099601", ["n02099712"])
    assert "\ngolden retriever" in out


@pytest.mark.parametrize("kept", [0, 1])
def test_without_features_intervals_are_left_out_and_it_says_why(lskd_eta, sets, tmp_path, kept):
    first, second = student(tmp_path, 1.0), student(tmp_path, 3.0, keep=kept)
    status, out, _ = lskd_eta(first, second, "--sets", sets, "--output", tmp_path / "eta.json")
    assert status == 0
    assert f"No intervals: {second} holds the features of {kept} samples of Shirt, at least 2 are needed." in out
    assert "Intervals:" not in out
    assert json.loads((tmp_path / "eta.json").read_text())["rows"][0]["eta_similar_low_percent"] is None
    assert out.split("\n\n")[1].splitlines()[1].split()[2] == "–"


def test_some_features_are_said_to_stand_for_all(lskd_eta, sets, tmp_path):
    first, second = (student(tmp_path, t, keep=10) for t in (1.0, 3.0))
    out = lskd_eta(first, second, "--sets", sets, "--resamples", 20)[1]
    assert "(20 resamples within each class, the kept features standing for all)" in out
    out = lskd_eta(first, second, "--sets", sets, "--resamples", 20, "--variant", "pairwise")[1]
    assert "Pairwise distances are of the samples whose features were kept." in out


def test_too_few_samples_for_an_interval_are_said_to_be(lskd_eta, sets, tmp_path):
    first, second = (student(tmp_path, t, samples=5, noise=10) for t in (1.0, 3.0))
    status, out, _ = lskd_eta(first, second, "--sets", sets, "--resamples", 200, "--output", tmp_path / "eta.json")
    assert status == 0
    assert "No interval (–): with so few samples a resampled distance can be 0." in out
    assert json.loads((tmp_path / "eta.json").read_text())["rows"][0]["eta_similar_low_percent"] is None


def test_students_of_other_dimensions_can_be_compared(lskd_eta, sets, tmp_path):
    first, second = student(tmp_path, 1.0), student(tmp_path, 3.0, dimension=5)
    assert lskd_eta(first, second, "--sets", sets, "--resamples", 10)[0] == 0


def test_files_that_say_nothing_of_their_origin_can_be_compared(lskd_eta, sets, tmp_path):
    labels = np.repeat(np.arange(6), 5)
    paths = []
    for seed in (1, 2):
        paths.append(tmp_path / f"{seed}.representations.safetensors")
        features = np.random.default_rng(seed).normal(size=(30, 3)) + 5 * np.eye(6)[labels][:, :3]
        write_representations(paths[-1], record(features, labels, NAMES))
    status, out, _ = lskd_eta(*paths, "--sets", sets, "--resamples", 0)
    assert status == 0
    assert f"first   model, α unknown, split unknown, seed unknown: {paths[0]}" in out


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"names": NAMES[::-1]}, "must have the classes of "),
        ({"split": "train"}, "is of split train, must be of valid as "),
        ({"data": {"path": "fashion", "fingerprint": "xyz"}}, "is of data xyz, must be of abc as "),
    ],
)
def test_files_that_do_not_belong_together_are_refused(lskd_eta, sets, tmp_path, about, message):
    first, second = student(tmp_path, 1.0), student(tmp_path, 3.0, **about)
    output = tmp_path / "eta.csv"
    error = refused(lskd_eta(first, second, "--sets", sets, "--output", output))
    assert error.startswith(f"--second: {second} ({message}")
    assert str(first) in error
    assert not output.exists()


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"model": "resnet50"}, "has model resnet50, must be resnet18 as "),
        ({"teacher": {"label_smoothing": {"alpha": 0.2}}}, "has label smoothing 0.2, must be 0.1 as "),
        ({"configuration": {"temperature": 2.0}}, "has temperature 2.0, must be 1.0 as "),
    ],
)
def test_seeds_of_another_configuration_are_refused(lskd_eta, sets, tmp_path, about, message):
    first = [student(tmp_path, 1.0, 1), student(tmp_path, 1.0, 2, **about)]
    second = [student(tmp_path, 3.0, seed) for seed in (1, 2)]
    assert refused(lskd_eta(first, second, "--sets", sets)).startswith(f"--first: {first[1]} ({message}")


def test_seeds_in_another_order_are_refused(lskd_eta, sets, tmp_path):
    first, second = ([student(tmp_path, t, seed) for seed in (1, 2)] for t in (1.0, 3.0))
    error = refused(lskd_eta(first, second[::-1], "--sets", sets))
    assert error == "--second: seeds [2, 1] (must be in the order of --first: [1, 2])"


def test_lists_of_files_that_do_not_fit_are_refused(lskd_eta, pair, sets):
    first, second = pair
    assert refused(lskd_eta([first, second], second, "--sets", sets)) == (
        "--second: 1 files (must be 2, one for each --first)"
    )
    assert (
        refused(lskd_eta([first, first], [second, second], "--sets", sets)) == f"--first: {first} (must be given once)"
    )
    assert refused(lskd_eta(first, first, "--sets", sets)) == f"--second: {first} (must be another file than --first)"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--resamples", "-1"], "--resamples: -1 (must be 0 or above)"),
        (["--seed", "-1"], "--seed: -1 (must be 0 or above)"),
        (["--confidence", "100"], "--confidence: 100.0 (must be above 0 and below 100)"),
        (["--targets", "Bag"], "--targets: Bag (must have its sets in "),
        (["--targets", "Hat"], "--targets: 'Hat' (must be a class"),
    ],
)
def test_options_out_of_range_are_refused(lskd_eta, pair, sets, options, message):
    assert refused(lskd_eta(*pair, "--sets", sets, *options)).startswith(message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--by", "groups"], "--groups: none (must be a file of groups)"),
        (["--by", "distance"], "--reference: none (must be a representation file, whose centroids say what is near)"),
        ([], "one of the arguments --sets --by is required"),
    ],
)
def test_where_sets_come_from_must_be_said(lskd_eta, pair, options, message):
    assert refused(lskd_eta(*pair, *options)) == message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sets", "s.json", "--similar", "2"], "--similar: 2 (is for --by wordnet or distance, not for --sets)"),
        (["--by", "groups", "--similar", "2"], "--similar: 2 (is for --by wordnet or distance, not for --by groups)"),
        (["--by", "wordnet", "--groups", "g.json"], "--groups: g.json (is for --by groups, not for --by wordnet)"),
        (["--by", "groups", "--reference", "r"], "--reference: r (is for --by distance, not for --by groups)"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(lskd_eta, pair, options, message):
    assert refused(lskd_eta(*pair, *options)) == message


def test_no_targets_are_refused(lskd_eta, pair, tmp_path):
    empty = tmp_path / "empty.json"
    empty.write_text("{}")
    assert refused(lskd_eta(*pair, "--sets", empty)) == f"--sets: {empty} (must hold at least one target)"


def test_a_reference_of_other_classes_is_refused(lskd_eta, pair, tmp_path):
    reference = student(tmp_path, 9.0, names=NAMES[::-1])
    error = refused(lskd_eta(*pair, "--by", "distance", "--reference", reference))
    assert error == f"--reference: {reference} (must have the classes of {pair[0]}, in their order)"


def test_a_class_without_samples_is_named_with_its_file(lskd_eta, pair, sets, tmp_path):
    lacks = tmp_path / "lacks.representations.safetensors"
    write_representations(lacks, record(np.eye(6)[:5], np.arange(5), NAMES))
    error = refused(lskd_eta(pair[0], lacks, "--sets", sets))
    assert error == f"{lacks}: 0 samples of 'Bag' (must be at least 1)"


@pytest.mark.slow
def test_the_installed_command_does_it_and_refuses_in_one_line(pair, sets, tmp_path):
    words = ["python -m lskd.cli eta --first", pair[0], "--second", pair[1], "--resamples 50", "--sets"]
    result = run(*words, sets)
    assert "η(S1) is negative for" in result.stdout
    result = run(*words, tmp_path / "none.json", status=2)
    assert last_line(result).startswith("lskd")
    assert result.stderr.count("\n") == 1
