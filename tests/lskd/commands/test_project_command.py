import csv
import dataclasses
import json
import shutil

import numpy as np
import pytest
from helpers.commands import last_line, run
from helpers.lskd_commands import exit_status

from lskd.commands import project as command
from lskd.io.errors import OneLineParser
from lskd.measure.projection import project
from lskd.measure.representations import collect, read_representations, write_representations

NAMES = ["Pullover", "Coat", "Bag"]
KNOWN = ["Sandal", *NAMES, "Shirt"]


def write(folder, split="train", temperature=None, smoothing=0.1, seed=1, **provenance):
    """A representation file, named after its configuration."""
    random = np.random.default_rng(round(10 * (temperature or 0) + 100 * smoothing + 1000 * seed))
    weight, bias = random.normal(size=(5, 6)), random.normal(size=5)
    labels = np.tile(np.arange(5), 60)
    random = np.random.default_rng({"train": 1, "valid": 2}.get(split, 3))
    features = (2 * weight[labels] + random.normal(size=(300, 6))).astype(np.float32)
    name = f"{'student' if temperature else 'teacher'}_a{smoothing:g}_T{temperature or 0:g}_s{seed}"
    about = {
        "checkpoint": f"{name}/last.pth.tar",
        "model": "resnet10t",
        "split": split,
        "seed": seed,
        "configuration": {"temperature": temperature, "label_smoothing": 0.0 if temperature else smoothing},
        "teacher": {"label_smoothing": {"alpha": smoothing}} if temperature else None,
    }
    path = folder / f"{name}.{split}.representations.safetensors"
    about = {key: value for key, value in (about | provenance).items() if value != "absent"}
    write_representations(path, collect(features, labels, KNOWN, weight=weight, bias=bias, provenance=about))
    return path


@pytest.fixture
def lskd_project(monkeypatch, capsys):
    """``lskd project`` in this process: its exit status and what it printed."""

    def start(*words):
        return exit_status(command, *words), *capsys.readouterr()

    return start


def rows_of(printed):
    """The table as lists of words, without its head and the note below."""
    return [line.split() for line in printed.split("\n\n")[0].splitlines()[1:]]


def refused(result):
    status, out, err = result
    assert (status, out, err.count("\n")) == (2, "", 1)
    return err.removeprefix("lskd project: error: ").strip()


@pytest.mark.slow
def test_the_command_line_draws_and_tells_and_writes(tmp_path):
    files = [write(tmp_path), write(tmp_path, "valid"), write(tmp_path, temperature=3.0)]
    printed = run(
        "python -m lskd project", *files, "--classes", *NAMES,
        "--output", tmp_path / "figure.svg", "--coordinates", tmp_path / "places.csv",
    )  # fmt: skip
    assert len(rows_of(printed.stdout)) == 3
    assert (tmp_path / "figure.svg").read_text(encoding="utf-8").count("d = ") == 3
    assert len((tmp_path / "places.csv").read_text().splitlines()) == 1 + 3 * (60 + 50 + 60)
    wrong = run("python -m lskd project", files[0], "--classes", "Coat", "Bag", "Hat", status=2)
    assert last_line(wrong).endswith("class: 'Hat' (must be one of the 5 classes, such as Sandal, Pullover, Coat)")
    assert "Traceback" not in wrong.stderr


def test_the_table_has_the_figures_of_each_panel(tmp_path, lskd_project):
    train, valid = write(tmp_path), write(tmp_path, "valid")
    status, out, err = lskd_project(valid, train, "--classes", *NAMES)
    panels = project(read_representations(train), [read_representations(valid)], NAMES)
    assert (status, err) == (0, "")
    assert rows_of(out) == [
        ["teacher", "resnet10t", "0.1", "–", "1", panel.split, "train", str(n)]
        + [f"{panel.relative_distance:.3f}"]
        + [f"{100 * share:.1f}" for share in (panel.projection.explained, panel.projection.kept)]
        for panel, n in zip(panels, (180, 150), strict=True)
    ]
    assert "centroids of Pullover and Coat in the plane, relative to their mean distance to Bag" in out


def test_files_of_one_checkpoint_belong_together(tmp_path, lskd_project):
    files = [
        write(tmp_path, split, temperature, smoothing, seed)
        for split in ("valid", "train")
        for temperature, smoothing, seed in [(None, 0.1, 1), (3.0, 0.1, 1), (3.0, 0.0, 1), (3.0, 0.0, 2)]
    ]
    _, out, _ = lskd_project(*files, "--classes", *NAMES)
    rows = rows_of(out)
    assert [row[5:7] for row in rows] == [["train", "train"], ["valid", "train"]] * 4
    assert [row[2:5] for row in rows[::2]] == [
        ["0.1", "–", "1"],
        ["0.1", "3", "1"],
        ["0", "3", "1"],
        ["0", "3", "2"],
    ]


@pytest.mark.slow
def test_the_order_of_files_changes_no_figure(tmp_path, lskd_project):
    files = [write(tmp_path, split, temperature) for split in ("train", "valid") for temperature in (None, 2.0)]
    results = []
    for number, order in enumerate((files, files[::-1])):
        places, drawn = tmp_path / f"{number}.csv", tmp_path / f"{number}.svg"
        lskd_project(*order, "--classes", *NAMES, "--coordinates", places, "--output", drawn)
        results.append((sorted(places.read_text().splitlines()), drawn.read_text(encoding="utf-8").count("d = ")))
    assert results[0] == results[1]
    assert results[0][1] == 4


def test_a_model_with_one_split_is_fitted_on_it_and_the_table_and_panel_say_so(tmp_path, lskd_project):
    files = [write(tmp_path, "valid"), write(tmp_path, temperature=2.0)]
    _, out, _ = lskd_project(*files, "--classes", *NAMES, "--output", tmp_path / "figure.svg")
    assert [row[5:8] for row in rows_of(out)] == [["valid", "valid", "180"], ["train", "train", "180"]]
    assert (tmp_path / "figure.svg").read_text(encoding="utf-8").count("valid, fitted on it") == 1


def test_a_validation_file_is_never_fitted_on(tmp_path, lskd_project):
    train, test, valid = (write(tmp_path, split) for split in ("train", "test", "valid"))
    _, out, _ = lskd_project(test, "--validation", train, valid, "--classes", *NAMES)
    assert [row[5:8] for row in rows_of(out)] == [
        ["test"] * 2 + ["180"],
        ["train", "test", "150"],
        ["valid", "test", "150"],
    ]


def test_the_coordinates_are_those_of_the_plane(tmp_path, lskd_project):
    train = write(tmp_path)
    lskd_project(train, "--classes", *NAMES, "--coordinates", tmp_path / "places.csv", "--samples", 7, "--seed", 3)
    (panel,) = project(read_representations(train), [], NAMES, 7, seed=3)
    with open(tmp_path / "places.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["sample"]) for row in rows] == panel.index.tolist()
    assert [row["class"] for row in rows] == [NAMES[label] for label in panel.labels]
    assert [[float(row["x"]), float(row["y"])] for row in rows] == panel.coordinates.tolist()
    about = {"checkpoint": "teacher_a0.1_T0_s1/last.pth.tar", "model": "teacher resnet10t", "label_smoothing": "0.1"}
    about |= {"temperature": "", "seed": "1", "split": "train", "fitted_on": "train"}
    assert all(about.items() <= row.items() for row in rows)


@pytest.mark.slow
def test_the_same_command_writes_the_same_files(tmp_path, lskd_project):
    files = [write(tmp_path), write(tmp_path, "valid")]
    written = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        output = folder / "figure.svg", folder / "places.csv"
        lskd_project(*files, "--classes", *NAMES, "--output", output[0], "--coordinates", output[1])
        written.append([path.read_bytes() for path in output])
    assert written[0] == written[1]


def test_all_samples_are_shown_where_asked(tmp_path, lskd_project):
    files = [write(tmp_path), write(tmp_path, "valid")]
    _, out, _ = lskd_project(*files, "--classes", *NAMES, "--samples", 5, "--validation-samples", "all")
    assert [row[7] for row in rows_of(out)] == ["15", "180"]


def test_a_file_without_a_checkpoint_stands_alone(tmp_path, lskd_project):
    files = [write(tmp_path, split, checkpoint="absent") for split in ("train", "valid")]
    _, out, _ = lskd_project(*files, "--classes", *NAMES)
    assert [row[5:7] for row in rows_of(out)] == [["train"] * 2, ["valid"] * 2]


def test_a_model_without_one_of_the_classes_is_named_and_the_others_are_shown(tmp_path, lskd_project):
    whole, lacks = write(tmp_path, seed=1), write(tmp_path, seed=2)
    read = read_representations(lacks)
    kept = read.labels != KNOWN.index(NAMES[1])
    some = collect(np.array(read.features)[kept], read.labels[kept], KNOWN, weight=read.weight, bias=read.bias)
    write_representations(lacks, dataclasses.replace(some, provenance=read.provenance))
    status, out, err = lskd_project(whole, lacks, "--classes", *NAMES)
    assert status == 0
    assert len(rows_of(out)) == 1
    assert err == (
        f"lskd project: warning: not shown: {lacks}: features: none of class {NAMES[1]!r} on train "
        "(some must have been kept)\n"
    )


def test_what_cannot_be_projected_is_one_line_that_names_the_file_and_nothing_is_written(tmp_path, lskd_project):
    output, places = tmp_path / "figure.svg", tmp_path / "places.csv"
    output.write_text("old")
    train, valid, other = write(tmp_path), write(tmp_path, "valid"), write(tmp_path, "valid", seed=2)
    shutil.copy(train, tmp_path / "copy.representations.safetensors")
    words = ["--output", output, "--coordinates", places]
    for files, classes, message in [
        (
            [train],
            ["Pullover", "Coats", "Bag"],
            f"{train}: class: 'Coats' (must be one of the 5 classes, such as Coat)",
        ),
        ([train], ["Pullover", "Coat", "Coat"], "--classes: Pullover Coat Coat (must be three different classes)"),
        ([train, tmp_path / "copy.representations.safetensors"], NAMES, f"FILE: {tmp_path / 'copy'}"),
        ([train, "--validation", other], NAMES, f"--validation: {other} (must be of a checkpoint that a FILE is of"),
        ([train, "--validation", valid, valid], NAMES, f"FILE: {valid} (must be the only one of split valid"),
        ([tmp_path / "none"], NAMES, f"representations: {tmp_path / 'none'} (must be a file"),
        ([train, "--seed", "-1"], NAMES, "--seed: -1 (must be a whole number, 0 or more)"),
    ]:
        assert refused(lskd_project(*files, "--classes", *classes, *words)).startswith(message)
    assert output.read_text() == "old"
    assert not places.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--output", "figure.gif"], "--output: figure.gif (must end in .svg, .png or .pdf)"),
        (["--output", "none/figure.svg"], "--output: none/figure.svg (must be in a directory that exists)"),
        (["--coordinates", "places.txt"], "--coordinates: places.txt (must end in .csv or .json)"),
        (["--samples", "0"], "--samples: '0' (must be a whole number above 0)"),
        (["--validation-samples", "many"], "--validation-samples: 'many' (must be a whole number above 0)"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_before_anything_is_read(lskd_project, words, message):
    assert refused(lskd_project("none", "--classes", *NAMES, *words)) == message


def test_the_example_is_one_the_command_understands():
    parser = OneLineParser(prog="lskd project")
    command.add_arguments(parser)
    words = command.EXAMPLE.split()
    assert words[:2] == ["lskd", "project"]
    assert parser.parse_args(words[2:]).classes == NAMES


def test_the_table_is_written_with_a_row_for_each_panel(tmp_path, lskd_project):
    train, valid = write(tmp_path), write(tmp_path, "valid")
    table = tmp_path / "table.json"
    status, out, _ = lskd_project(train, valid, "--classes", *NAMES, "--table", table)
    panels = project(read_representations(train), [read_representations(valid)], NAMES)
    content = json.loads(table.read_text())
    assert status == 0
    assert content["classes"] == NAMES
    assert [row["split"] for row in content["rows"]] == [row[5] for row in rows_of(out)] == ["train", "valid"]
    assert [row["relative_distance"] for row in content["rows"]] == [panel.relative_distance for panel in panels]
    assert content["rows"][0]["samples"] == 180
    assert "must end in .csv or .json" in refused(lskd_project(train, "--classes", *NAMES, "--table", tmp_path / "t"))
