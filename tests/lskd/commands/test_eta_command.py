import csv
import dataclasses
import json
import math

import numpy as np
import pytest
from helpers.commands import last_line, run
from helpers.lskd_commands import call, exit_status

from lskd.commands import eta as command
from lskd.commands import similar as similar_command
from lskd.commands.eta_table import summary
from lskd.measure.class_sets import ClassSets
from lskd.measure.diffusion import diffusion_indices, permutation_p
from lskd.measure.isotropy import IsotropyTest, isotropy_test
from lskd.measure.representation_collector import RepresentationCollector
from lskd.measure.representations import collect, read_representations, write_representations
from lskd.records.inputs import SUFFIX
from lskd.records.runs import RunRecord, write_run

NAMES = ["Shirt", "Coat", "Pullover", "Sandal", "Boot", "Bag"]
GROUPS = {"tops": ["Shirt", "Coat", "Pullover"], "footwear": ["Sandal", "Boot"]}
SETS = {
    "Shirt": {"similar": ["Coat", "Pullover"], "dissimilar": ["Sandal", "Boot", "Bag"]},
    "Boot": {"similar": ["Sandal"], "dissimilar": ["Shirt", "Bag"]},
}
EXPECTED_SETS = {0: ClassSets([1, 2], [3, 4, 5]), 4: ClassSets([3], [0, 5])}


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
    recorder = RepresentationCollector(names, dimension, keep_per_class=keep)
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
        status = exit_status(command, "--first", *first, "--second", *second, *words)
        return status, *capsys.readouterr()

    return start


@pytest.fixture
def lskd_similar(capsys):
    """``lskd similar`` in this process, with the words of its command line."""

    def start(*words):
        call(similar_command, *words)
        capsys.readouterr()

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
    expected = list(diffusion_indices(*files, EXPECTED_SETS, "centroid", 100, 0.8, 3))
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
    assert " ".join(titles.split()) == "target η(S1) % interval p iso % p iso η(S2) % interval"
    low, high = (100 * bound for bound in expected[0].similar_interval)
    eta = 100 * expected[0].eta_similar
    assert shirt.split()[:6] == ["Shirt", f"{eta:+.2f}", f"{low:+.2f}", "to", f"{high:+.2f}", "0.1"]
    assert eta < -10
    assert boot.split()[0] == "Boot"
    assert mean.split()[:2] == ["mean", f"{50 * (expected[0].eta_similar + expected[1].eta_similar):+.2f}"]
    negative = [sum(getattr(each, kind) < 0 for each in expected) for kind in ("eta_similar", "eta_dissimilar")]
    signs, *together = rest[0].splitlines()
    assert signs == "η(S1) is negative for {} of 2 targets, η(S2) is negative for {} of 2 targets.".format(*negative)
    tested = isotropy_test([tuple(each.moments for each in files)], EXPECTED_SETS, seed=3)
    assert [row["p_isotropic"] for row in written["rows"]] == list(tested.p_values.values())
    assert written["p_isotropic_together"] == tested.p_together
    iso = 100 * tested.expected[0]
    assert written["rows"][0]["eta_similar_isotropic_percent"] == pytest.approx(iso)
    assert shirt.split()[6:8] == [f"{iso:+.2f}", f"{tested.p_values[0]:.3g}"]
    assert together[0].endswith("(p iso at most 0.05, η(S1) below 0 and iso): 1 of 2 targets, at most 0.1 by chance.")
    assert together[1].startswith(f"All targets together: p iso = {tested.p_together:.3g}, ")
    for words in ("sum to 0", "Opposite signs are forced only where", "80 %", "100 resamples", "other seeds"):
        assert words in rest[1]


def test_a_target_that_came_nearer_to_everything_is_not_counted():
    """Its S1 is beyond the line of all classes, but not relative to its own other classes, which is what η is of."""
    rows = [
        {
            "eta_similar_percent": eta,
            "eta_dissimilar_percent": 1.0,
            "p_isotropic": p,
            "eta_similar_isotropic_percent": iso,
        }
        for eta, p, iso in [
            (-9.0, 0.01, -2.0),
            (-9.0, 0.01, None),
            (-1.0, 0.01, -2.0),
            (3.0, 0.01, -4.0),
            (-9.0, 0.2, 1.0),
        ]
    ]
    lines = summary(rows, IsotropyTest({}, {}, 0.04))
    assert "2 of 5 targets, at most 0.25 by chance" in lines[1]
    assert lines[1].endswith("p iso = 0.04, this is more than isotropic change.")


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
    status, out, _ = lskd_eta(*pair, *options)
    assert status == 0
    untested = "Change that is the same in all directions, as noise adds, was not tested: the test is of centroids."
    assert (untested in out) == variant.startswith("pairwise")
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
    write_representations(reference, collect(places, np.arange(6), NAMES))
    options = ["--reference", reference, "--similar", 2, "--dissimilar", 1, "--targets", "Shirt"]
    assert lskd_eta(*pair, "--by", "distance", *options, "--output", tmp_path / "eta.json")[0] == 0
    (row,) = json.loads((tmp_path / "eta.json").read_text())["rows"]
    assert (row["similar"], row["dissimilar"]) == (["Pullover", "Boot"], ["Sandal"])


def test_sets_by_wordnet_name_imagenets_classes(lskd_eta, tmp_path):
    names = ["n02099601", "n02099712", "n01728920", "n02951358"]  # golden retriever, Labrador, ringneck snake, canoe
    first, second = (student(tmp_path, t, names=names) for t in (1.0, 3.0))
    options = ["--by", "wordnet", "--similar", 1, "--targets", "golden_retriever", "--resamples", 20]
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
    assert lskd_eta(first, second, "--sets", sets, "--resamples", 20)[0] == 0


def test_files_that_say_nothing_of_their_origin_can_be_compared(lskd_eta, sets, tmp_path):
    labels = np.repeat(np.arange(6), 5)
    paths = []
    for seed in (1, 2):
        paths.append(tmp_path / f"{seed}.representations.safetensors")
        features = np.random.default_rng(seed).normal(size=(30, 3)) + 5 * np.eye(6)[labels][:, :3]
        write_representations(paths[-1], collect(features, labels, NAMES))
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


def test_one_student_given_twice_is_refused_under_any_name(lskd_eta, pair, sets, tmp_path):
    first, second = pair
    link, copy = tmp_path / f"link{SUFFIX}", tmp_path / f"copy{SUFFIX}"
    link.symlink_to(first)
    copy.write_bytes(first.read_bytes())
    for other in (first, link, copy):
        what = f"{other} (holds the features of {first}, must be another student)"
        assert refused(lskd_eta(first, other, "--sets", sets)) == f"--second: {what}"
        assert refused(lskd_eta([first, other], [second, second], "--sets", sets)) == f"--first: {what}"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--resamples", "-1"], "--resamples: -1 (must be 0, for no intervals, or from 20 to 100000)"),
        (["--resamples", "1"], "--resamples: 1 (must be 0, for no intervals, or from 20 to 100000)"),
        (["--resamples", "1000000000000"], "--resamples: 1000000000000 (must be 0, "),
        (["--seed", "-1"], "--seed: -1 (must be a whole number, 0 or more)"),
        (["--confidence", "100"], "--confidence: '100' (must be in percent, above 0 and below 100, or a fraction)"),
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
        (["--by", "distance"], "--reference: none (must be a representation file, for the distances of its centroids)"),
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


@pytest.mark.parametrize(("written", "meant"), [("0.95", "95"), ("0.8", "80"), ("99.5", "0.995")])
def test_a_confidence_may_be_a_fraction(lskd_eta, pair, sets, written, meant):
    outputs = [lskd_eta(*pair, "--sets", sets, "--resamples", 50, "--confidence", each) for each in (written, meant)]
    assert outputs[0] == outputs[1]
    assert f"Intervals: {written if float(written) > 1 else meant} %" in outputs[0][1]


def without(path, *labels, to="lacks"):
    """The file without the samples of some classes."""
    whole = read_representations(path)
    kept = ~np.isin(whole.labels, labels)
    lacks = path.with_name(f"{to}{SUFFIX}")
    some = collect(np.array(whole.features)[kept], whole.labels[kept], NAMES, provenance=whole.provenance)
    write_representations(lacks, some)
    return lacks


def test_a_class_without_samples_is_named_and_left_out(lskd_eta, pair, sets, tmp_path):
    lacks = without(pair[1], 5)
    output = tmp_path / "eta.json"
    status, _, err = lskd_eta(pair[0], lacks, "--sets", sets, "--resamples", 0, "--output", output)
    assert status == 0
    assert f"warning: 'Bag' is left out: 0 samples in {lacks}." in err.splitlines()[-1]
    rows = json.loads(output.read_text())["rows"]
    assert [(row["similar"], row["dissimilar"]) for row in rows] == [
        (["Coat", "Pullover"], ["Sandal", "Boot"]),
        (["Sandal"], ["Shirt"]),
    ]
    files = read_representations(pair[0]), read_representations(lacks)
    (expected,) = diffusion_indices(*files, {0: ClassSets([1, 2], [3, 4])})
    assert rows[0]["eta_similar_percent"] == pytest.approx(100 * expected.eta_similar)


def test_a_target_without_similar_classes_is_left_out_and_the_others_stay(lskd_eta, pair, sets, tmp_path):
    lacks, output = without(pair[1], 3), tmp_path / "eta.json"
    status, _, err = lskd_eta(pair[0], lacks, "--sets", sets, "--resamples", 0, "--output", output)
    assert status == 0
    assert "'Boot' is left out: no similar class is left." in err
    written = json.loads(output.read_text())
    assert [row["target"] for row in written["rows"]] == ["Shirt"]
    assert len(written["warnings"]) == 3  # of the sets' origin, the class, the target


def test_without_any_target_nothing_is_written(lskd_eta, pair, sets, tmp_path):
    lacks = without(pair[1], 0, 4)
    error = refused(lskd_eta(pair[0], lacks, "--sets", sets, "--output", tmp_path / "eta.csv"))
    assert error == f"sets: no target is left ('Shirt' is left out: 0 samples in {lacks})"
    assert not (tmp_path / "eta.csv").exists()


def test_unequal_numbers_of_samples_are_corrected_for(lskd_eta, sets, tmp_path):
    pair = student(tmp_path, 1.0, samples=10, noise=3), student(tmp_path, 3.0, samples=200, noise=3)
    output = tmp_path / "eta.json"
    options = ["--sets", sets, "--resamples", 0, "--output", output]
    status, _, err = lskd_eta(*pair, *options)
    assert status == 0
    assert "The students have 10 and 200 samples of 'Shirt': distances are corrected for that" in err
    written = json.loads(output.read_text())
    assert written["variant"] == "corrected"
    files = [read_representations(path) for path in pair]
    expected = next(diffusion_indices(*files, EXPECTED_SETS, "corrected"))
    assert written["rows"][0]["eta_similar_percent"] == pytest.approx(100 * expected.eta_similar)
    error = refused(lskd_eta(*pair, *options, "--variant", "centroid"))
    assert error.startswith("--variant: centroid (must be corrected: 10 and 200 samples of 'Shirt'")
    assert lskd_eta(*pair, *options, "--variant", "centroid", "--allow", "counts")[0] == 0
    assert json.loads(output.read_text())["variant"] == "centroid"


TEACHER = {"teacher": None, "configuration": {"label_smoothing": 0.1}}
OF_ONE = {"temperature": 3.0, "label_smoothing": 0.0}


@pytest.mark.parametrize(
    ("word", "about", "message"),
    [
        ("role", TEACHER, "has the role of a teacher, must be student as "),
        ("smoothing", {"teacher": {"label_smoothing": {"alpha": 0.0}}}, "has label smoothing 0.0, must be 0.1 as "),
        ("model", {"model": "resnet50"}, "has model resnet50, must be resnet18 as "),
        ("loss", {"configuration": OF_ONE | {"kd_weight": 0.5}}, "has kd_weight 0.5, must be 1.0 as "),
        (
            "loss",
            {"configuration": OF_ONE | {"student_temperature": 1.0}},
            "has the student's temperature 1.0, must be",
        ),
        ("temperature", {"configuration": OF_ONE | {"temperature": 0.5}}, "is of T = 0.5, must be above T = 1 of "),
    ],
)
def test_students_that_differ_in_more_than_the_temperature_are_refused_unless_allowed(
    lskd_eta, sets, tmp_path, word, about, message
):
    own = {"temperature": 1.0, "student_temperature": 1.0, "kd_weight": 1.0, "label_smoothing": 0.0}
    first, second = student(tmp_path, 1.0, configuration=own), student(tmp_path, 3.0, **about)
    output = tmp_path / "eta.json"
    options = ["--sets", sets, "--resamples", 0, "--output", output]
    error = refused(lskd_eta(first, second, *options))
    assert error.startswith(f"--second: {second} ({message}")
    assert error.endswith(f"--allow {word} accepts it)")
    assert not output.exists()
    status, _, err = lskd_eta(first, second, *options, "--allow", word)
    assert status == 0
    (warning,) = [each for each in json.loads(output.read_text())["warnings"] if each.endswith(", allowed.")]
    assert warning in err
    assert message in warning


def test_students_in_the_wrong_order_are_refused(lskd_eta, pair, sets):
    error = refused(lskd_eta(*pair[::-1], "--sets", sets))
    assert error.startswith(f"--second: {pair[0]} (is of T = 1, must be above T = 3 of {pair[1]};")


def test_two_teachers_are_refused(lskd_eta, sets, tmp_path):
    pair = student(tmp_path, 1.0, **TEACHER), student(tmp_path, 3.0, **TEACHER)
    assert "neither it nor --first was distilled" in refused(lskd_eta(*pair, "--sets", sets))


def test_one_model_under_two_names_is_refused(lskd_eta, sets, tmp_path):
    pair = [student(tmp_path, T, fingerprint="abc") for T in (1.0, 3.0)]
    error = refused(lskd_eta(*pair, "--sets", sets))
    assert error == f"--second: {pair[1]} (has the weights of {pair[0]}, must be another student)"


def test_lesser_differences_are_told_and_kept(lskd_eta, sets, tmp_path):
    """Of the files, and of the run.json beside them."""
    for T, epochs in ((1.0, 3), (3.0, 200)):
        (tmp_path / f"{T}").mkdir()
        host = {"epochs": epochs, "lr": 0.1, "workers": epochs}
        made = RunRecord(
            {"temperature": T, "host": host}, int(T), {}, teacher={"label_smoothing": {"alpha": 0.1}}, command=[]
        )
        write_run(made, tmp_path / f"{T}")
    first, second = (student(tmp_path / f"{T}", T, seed=int(T)) for T in (1.0, 3.0))
    status, _, err = lskd_eta(first, second, "--sets", sets, "--resamples", 0)
    assert status == 0
    assert f"{second} differs from {first} also in seed, epochs, which affects η too." in err


def test_files_that_do_not_say_how_they_were_made_are_named_once(lskd_eta, pair, sets):
    silent = without(pair[1], to="silent")
    write_representations(silent, dataclasses.replace(read_representations(silent), provenance={}))
    err = lskd_eta(pair[0], silent, "--sets", sets, "--resamples", 0)[2]
    assert err.count("not recorded") == 1
    assert f"T or α is not recorded in {silent}: it was not checked that these differ in T alone." in err


@pytest.mark.parametrize("which", [0, 1])
def test_sets_chosen_in_a_student_under_test_are_refused(lskd_eta, lskd_similar, tmp_path, which):
    files = [student(tmp_path, T, fingerprint=f"weights {T}") for T in (1.0, 3.0)]
    chosen = tmp_path / "chosen.json"
    lskd_similar(files[which], "--by", "distance", "--rates", 2, 3, "--output", chosen)
    error = refused(lskd_eta(*files, "--sets", chosen))
    told = f"S1 and S2 were chosen in {files[which]}, a student under test; must be in the teacher or another split"
    assert error == f"--sets: {chosen} ({told}; --allow sets accepts it)"
    error = refused(lskd_eta(*files, "--by", "distance", "--reference", files[which], "--similar", 2))
    assert error.startswith(f"--reference: {files[which]} ({told}")
    status, _, err = lskd_eta(*files, "--sets", chosen, "--allow", "sets", "--resamples", 0)
    assert (status, err.count("S1 and S2 were chosen in")) == (0, 1)


def test_sets_chosen_in_the_teacher_or_on_other_samples_are_taken(lskd_eta, lskd_similar, tmp_path):
    files = [student(tmp_path, T, fingerprint=f"weights {T}") for T in (1.0, 3.0)]
    (tmp_path / "others").mkdir()
    teacher = student(tmp_path / "others", 9.0, **TEACHER)
    training = student(tmp_path / "others", 1.0, seed=2, split="train", fingerprint="weights 1.0")
    chosen = tmp_path / "chosen.json"
    for place, told in ((teacher, False), (training, True)):
        lskd_similar(place, "--by", "distance", "--rates", 2, 3, "--output", chosen)
        status, _, err = lskd_eta(*files, "--sets", chosen, "--resamples", 0)
        assert status == 0
        assert ("were chosen in a student under test" in err) == told
        assert "does not say" not in err


def test_templates_are_of_no_samples(lskd_eta, lskd_similar, tmp_path):
    """The last layer of a student, recorded without images, is that student."""
    files = [student(tmp_path, T, fingerprint=f"weights {T}") for T in (1.0, 3.0)]
    whole = read_representations(files[0])
    layer = tmp_path / f"layer{SUFFIX}"
    empty = RepresentationCollector(NAMES, 8).result(
        weight=whole.weight, provenance=whole.provenance | {"split": "last-layer"}
    )
    write_representations(layer, empty)
    options = ["--by", "distance", "--from", "templates", "--rates", 2, 3, "--output", tmp_path / "chosen.json"]
    lskd_similar(layer, *options)
    assert "a student under test" in refused(lskd_eta(*files, "--sets", tmp_path / "chosen.json"))


def test_sets_of_unknown_origin_are_told(lskd_eta, pair, sets):
    err = lskd_eta(*pair, "--sets", sets, "--resamples", 0)[2]
    assert err.count("\n") == 1
    assert f"{sets} does not say what its classes were chosen by" in err


@pytest.mark.slow
def test_the_installed_command_does_it_and_refuses_in_one_line(pair, sets, tmp_path):
    words = ["python -m lskd eta --first", pair[0], "--second", pair[1], "--resamples 50", "--sets"]
    result = run(*words, sets)
    assert "η(S1) is negative for" in result.stdout
    result = run(*words, tmp_path / "none.json", status=2)
    assert last_line(result).startswith("lskd")
    assert result.stderr.count("\n") == 1
