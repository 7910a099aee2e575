"""What commands find in the places that they are given, and what they say of the rest."""

import json
import re

import numpy as np
import pytest
from helpers.commands import run
from helpers.lskd_commands import call
from helpers.small_runs import image_run, translation_run

from lskd.commands import accuracy
from lskd.io.errors import InputError
from lskd.measure.representations import collect, write_representations
from lskd.paper.measured import measure
from lskd.records.found_runs import find_runs
from lskd.records.inputs import find_inputs


@pytest.fixture
def place(tmp_path):
    """What the demo leaves: runs of images and of translations, and files of other kinds beside them."""
    for temperature in (None, 1.0, 3.0):
        image_run(tmp_path, 0.1, temperature, top1=80.0 - (temperature or 0))
    translation_run(tmp_path, 1.0)
    (tmp_path / "data" / "sets.json").write_text('{"Bag": {"similar": ["Coat"], "dissimilar": ["Trouser"]}}')
    (tmp_path / "data" / "projection.svg").write_text("<svg/>")
    (tmp_path / "data" / "images").mkdir()
    return tmp_path


def representations(path, top1, temperature=None, split="validation", seed=1, correct=True):
    """A file of 8 samples of two classes, ``top1`` % of them right."""
    right = round(8 * top1 / 100 / 2)
    about = {"model": "student_net" if temperature else "teacher_net", "split": split, "seed": seed}
    about |= {"configuration": {"temperature": temperature, "label_smoothing": 0.0 if temperature else 0.1}}
    about |= {"data": {"dataset": "torch/clothes"}}
    about |= {"teacher": {"model": "teacher_net", "label_smoothing": {"alpha": 0.1}}} if temperature else {}
    counts = np.array([[right, right], [4, 4]]) if correct else None
    made = collect(np.ones((8, 1)), [0, 1] * 4, ["cat", "dog"], correct=counts, provenance=about)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_representations(path, made)
    return path


def measured(capsys, *words):
    call(accuracy, *words)
    return capsys.readouterr()


def test_accuracy_of_everything_in_a_directory_skips_what_is_no_run_and_says_so(place, capsys):
    said = measured(capsys, *sorted((place / "data").iterdir()))
    lines = [re.split(r"  +", line)[0] for line in said.out.splitlines()[1:]]
    assert lines == ["#1 student student_net", "#2 student student_net", "#3 teacher teacher_net"]
    skipped = ", ".join(str(place / "data" / name) for name in ("images", "projection.svg", "sets.json"))
    assert said.err == f"skipped, neither a run nor representations: {skipped}\n"


def test_a_directory_of_runs_is_the_runs_below_it_and_translations_have_no_accuracy(place, capsys):
    from_directory = measured(capsys, place)
    assert from_directory.err.startswith("skipped, without the accuracy of images: ")
    one_by_one = measured(capsys, *sorted(each for each in (place / "data").iterdir() if (each / "run.json").is_file()))
    assert from_directory.out == one_by_one.out
    assert "en-de/student_a0.1_T1_s1" in from_directory.err


def test_accuracy_and_compare_take_the_same_places(place, capsys):
    for given in ([place / "data"], sorted((place / "data").iterdir()), sorted(place.glob("data/*/run.json"))):
        said = measured(capsys, *given)
        top1 = [re.split(r"  +", line)[6] for line in said.out.splitlines()[1:]]
        metrics, _ = measure("2A", given)
        assert sorted(top1) == sorted(f"{figure.mean:.2f}" for figure in metrics if figure.metric == "top1")
        assert len(top1) == 3


def test_compare_takes_representation_files_as_it_takes_runs(tmp_path):
    for seed, top1 in ((1, 75.0), (2, 50.0)):
        representations(tmp_path / f"s{seed}.representations.safetensors", top1, 1.0, seed=seed)
        representations(tmp_path / f"train{seed}.representations.safetensors", 100.0, 1.0, "train", seed)
    representations(tmp_path / "t.representations.safetensors", 100.0)
    for given in ([tmp_path], sorted(tmp_path.iterdir())):
        metrics = measure("D.1", [each for each in given if each.is_dir() or not each.name.startswith("train")])[0]
        students = [figure for figure in metrics if figure.student and figure.metric == "top1"]
        assert [(each.mean, each.n, each.student, each.temperature) for each in students] == [
            (62.5, 2, "student_net", 1)
        ]
    classes, _ = measure("I.1", [tmp_path])
    values = {(each.target_class, each.split): each.mean for each in classes if each.student}
    assert values[("cat", "val")] == 62.5
    assert values[("dog", "train")] == 100.0


def test_what_is_in_one_place_twice_counts_once(place):
    found = find_inputs("PATH", [place, place / "data", *sorted((place / "data").glob("*/run.json"))], "must be a run")
    assert len(found.models) == 4
    assert found.skipped == []


def test_links_to_runs_are_followed_and_no_run_is_found_twice(place, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    moved = image_run(elsewhere, 0.1, 64.0)
    (place / "data" / "a_link").symlink_to(moved)
    (place / "data" / "again").symlink_to(place / "data" / "teacher_net_a0.1_s1")
    (place / "data" / "round").symlink_to(place)
    names = [path.name for path in find_inputs("PATH", [place], "must be a run").runs]
    assert len(names) == 5
    assert "a_link" in names
    assert "teacher_net_a0.1_s1" in names


def test_a_run_s_representation_files_are_the_run(place, tmp_path):
    representations(place / "data" / "teacher_net_a0.1_s1" / "last.validation.representations.safetensors", 100.0)
    assert find_inputs("PATH", [place], "must be a run").representations == []
    assert len(find_runs([place])) == 4


def test_the_runs_of_a_report_may_stand_among_other_files(place):
    assert len(find_runs(sorted((place / "data").iterdir()))) == 3


@pytest.mark.parametrize("name", ["nowhere", "data/sets.json", "data/images"])
def test_a_place_that_is_not_there_or_holds_nothing_by_itself_is_refused(place, name, capsys):
    with pytest.raises(InputError, match=rf"^PATH: .*{name} \(must be a "):
        measured(capsys, place / name)
    with pytest.raises(InputError, match=rf"{name}"):
        measure("2A", [place / name])
    with pytest.raises(InputError, match=rf"^runs: .*{name} \(must be a directory"):
        find_runs([place / name])
    with pytest.raises(InputError, match="nowhere"):
        measured(capsys, place, place / "nowhere")


@pytest.mark.slow
def test_results_of_commands_among_runs_are_used_and_other_json_is_skipped(place):
    rows = [
        {"number": 1, "role": "student", "model": "student_net", "top1": 70.0, "top1_sd": None, "class": "Bag", "n": 1}
    ]
    rows[0] |= {"temperature": 1.0, "label_smoothing": 0.1, "split": "valid"}
    (place / "classes.json").write_text(json.dumps({"rows": rows}))
    given = [place / "classes.json", place / "data" / "sets.json"]
    said = run("python -m lskd compare I.1", *given)
    assert "70.000" in said.stdout
    assert said.stderr == f"skipped, neither a run nor representations: {given[1]}\n"
    given = sorted((place / "data").iterdir())
    said = run("python -m lskd report", *given, "--output", place / "page.html")
    assert said.stderr.startswith("skipped, not a run: ")
    assert "sets.json" in said.stderr
