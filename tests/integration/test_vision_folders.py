"""``lskd_vision.train`` on colour images in a folder per class, with its options in a YAML file; what it refuses."""

import json
import pickle
import shutil
import socket
import sys
from pathlib import Path

import pytest
import torch
from helpers.commands import last_line, run, started_together
from helpers.image_folders import CLASSES, write_folders
from helpers.vision_commands import printed, same_weights, state_of

pytestmark = pytest.mark.slow
CONFIG = """
model: test_resnet
img-size: 32
batch_size: 24
opt: adamw
lr: 2e-3
sched: cosine
warmup-epochs: 0
workers: 2
device: cpu
scale: [0.5, 1]
color-jitter: [0.2, 0.2, 0.2]
reprob: 0.2
drop: 0.1
"""
ORDER = ("Sneaker", "Bag", "Dress")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """``clothes``, images in folders, and ``options.yaml``."""
    place = tmp_path_factory.mktemp("place")
    write_folders(place / "clothes")
    (place / "options.yaml").write_text(f"data-dir: {place / 'clothes'}\noutput: {place / 'runs'}\n{CONFIG}")
    return place


def train(place: Path, *words, **keywords):
    """The command with its YAML file."""
    return run("python -m lskd_vision.train --config", place / "options.yaml", *words, **keywords)


@pytest.fixture(scope="module")
def teacher(place) -> Path:
    train(place, "--smoothing 0.1 --epochs 6 --seed 1")
    return place / "runs" / "clothes" / "test_resnet_a0.1_s1" / "last.pth.tar"


def refused(place: Path, *words) -> str:
    """What a command is refused with: one line, and nothing is written."""
    output = place / "refused"
    result = train(place, "--epochs 1 --output", output, *words, status=2)
    assert "Traceback" not in printed(result)
    assert result.stdout == ""
    assert not output.exists()
    return last_line(result).removeprefix("lskd_vision.train: error: ")


def test_a_teacher_and_a_student_train_on_folders_of_colour_images(place, teacher):
    record = json.loads(teacher.with_name("run.json").read_text())
    assert record["data"]["classes"] == list(CLASSES)
    assert record["data"]["splits"] == {"train": 120, "validation": 24}
    assert record["configuration"]["label_smoothing"] == 0.1
    host = record["configuration"]["host"]
    assert (host["lr"], host["color_jitter"], host["data_config"]["input_size"]) == (2e-3, [0.2] * 3, [3, 32, 32])
    assert record["history"][-1]["valid_top1"] > 50  # bags, dresses and shoes are easily told apart

    result = train(place, "--kd-checkpoint", teacher, "--kd-temperature 1 2 --epochs 1 --batch-size 12")
    for temperature in (1, 2):
        name = f"test_resnet_a0.1_T{temperature}_s42"
        record = json.loads((place / "runs" / "clothes" / name / "run.json").read_text())
        assert record["configuration"]["host"]["batch_size"] == 12  # the command line wins over the file
        assert record["configuration"]["host"]["lr"] == 2e-3
        assert record["teacher"]["label_smoothing"]["alpha"] == 0.1
        assert record["history"][0]["updates"] == 10
        assert name in result.stdout


def test_the_words_of_the_file_train_the_same_model_on_the_command_line(place, teacher, tmp_path):
    words = [f"--{line.replace(':', ' ', 1)}" for line in CONFIG.strip().replace("_", "-", 1).splitlines()]
    words = " ".join(words).translate(str.maketrans("", "", "[],")).replace("batch_size", "batch-size")
    words = words.replace("test-resnet", "test_resnet")
    options = (words, "--smoothing 0.1 --epochs 6 --seed 1 --data-dir", place / "clothes", "--output", tmp_path)
    run("python -m lskd_vision.train", *options)
    assert same_weights(tmp_path / "clothes" / "test_resnet_a0.1_s1" / "last.pth.tar", teacher)


def test_a_teacher_of_classes_in_another_order_is_refused(place, teacher, tmp_path):
    (tmp_path / "classes.txt").write_text("\n".join(ORDER))
    words = ("--kd-checkpoint", teacher, "--class-map", tmp_path / "classes.txt")
    assert refused(place, *words) == f"--kd-checkpoint: {teacher} (has 'Bag' as class 0, the data have 'Sneaker')"


def test_a_teacher_of_other_classes_is_refused(place, teacher, tmp_path):
    two = write_folders(tmp_path / "two", train=12, validation=2, classes=("Bag", "Dress"))
    words = ("--kd-checkpoint", teacher, "--data-dir", two)
    assert refused(place, *words) == f"--kd-checkpoint: {teacher} (has 3 classes, must be the data's 2)"
    coats = write_folders(tmp_path / "coats", train=8, validation=2, classes=("Bag", "Coat", "Sneaker"))
    words = ("--kd-checkpoint", teacher, "--data-dir", coats)
    assert refused(place, *words) == f"--kd-checkpoint: {teacher} (has 'Dress' as class 1, the data have 'Coat')"


def test_a_teacher_of_other_channels_is_refused(place, teacher):
    complaint = refused(place, "--kd-checkpoint", teacher, "--in-chans 1")
    assert complaint == f"--kd-checkpoint: {teacher} (wants 3 input channels, must be the student's 1)"


def test_a_model_that_cannot_take_the_images_is_refused(place):
    complaint = refused(place, "--model test_vit --img-size 28")
    assert complaint.startswith("--model: test_vit (cannot take images of 3x28x28, see --img-size: ")


class Hostile:
    """Makes a directory when it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return Path.mkdir, (self.mark,)


@pytest.mark.parametrize("kind", ["missing", "truncated", "pickle", "beside weights"])
def test_a_file_that_is_no_checkpoint_or_carries_code_is_refused_and_not_run(kind, place, teacher, tmp_path):
    path, mark = tmp_path / "teacher.pth.tar", tmp_path / "was-here"
    if kind == "truncated":
        path.write_bytes(teacher.read_bytes()[:-1000])
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(Hostile(mark)))
    elif kind == "beside weights":
        torch.save(state_of(teacher) | {"extra": Hostile(mark)}, path)
        assert refused(place, "--initial-checkpoint", path).startswith(f"--initial-checkpoint: {path} (")
    assert refused(place, "--kd-checkpoint", path).startswith(f"--kd-checkpoint: {path} (")
    assert not mark.exists()


@pytest.mark.parametrize("split", ["train", "validation"])
def test_training_stops_at_a_damaged_image_names_it_and_goes_on_when_it_is_whole(split, place, teacher, tmp_path):
    copy = shutil.copytree(place / "clothes", tmp_path / "clothes")
    damaged = copy / split / "Dress" / "001.png"
    damaged.write_bytes(damaged.read_bytes()[:200])
    words = ("--smoothing 0.1 --epochs 6 --seed 1 --data-dir", copy, "--output", tmp_path)
    result = train(place, *words, status=2)
    complaint = last_line(result)
    assert complaint.startswith(f"lskd_vision.train: error: --data-dir: {damaged} (cannot be read as RGB: ")
    assert "Traceback" not in printed(result)
    shutil.copyfile(place / "clothes" / split / "Dress" / "001.png", damaged)
    train(place, *words, "--resume")
    assert same_weights(tmp_path / "clothes" / "test_resnet_a0.1_s1" / "last.pth.tar", teacher)


def test_a_checkpoint_remembers_the_order_of_its_classes(place, tmp_path):
    root = write_folders(tmp_path / "clothes")
    for split in ("train", "validation"):
        for old, new in zip(CLASSES, ("1", "2", "10"), strict=True):
            (root / split / old).rename(root / split / new)
    train(place, "--epochs 4 --class-order torchvision --data-dir", root, "--output", tmp_path)
    last = tmp_path / "clothes" / "test_resnet_a0_s42" / "last.pth.tar"
    record = json.loads(last.with_name("run.json").read_text())
    assert record["data"]["classes"] == ["1", "10", "2"]
    score = ("python -m lskd_vision.validate", last, "--data-dir", root, "--workers 0 --device cpu")
    result = run(*score, "--results-file", tmp_path / "figures.json")
    assert result.stderr.startswith("validation: 24 images in 3 classes\n")
    metrics = json.loads((tmp_path / "figures.json").read_text())
    assert metrics["classwise"] == record["figures"]["valid"]["last.pth.tar"]["classwise"]
    (tmp_path / "classes.txt").write_text("1\n2\n10\n")
    for other in ("--class-order natural", f"--class-map {tmp_path / 'classes.txt'}"):  # the command line decides
        complaint = "has '10' as class 1, the data have '2'; --class-order torchvision gives them the model's order"
        assert last_line(run(*score, other, status=2)).endswith(f"({complaint})")


def test_processes_whose_images_differ_are_refused_before_the_first_step(place, tmp_path):
    """As on two machines, each with a copy of the data on a disk of its own."""
    other = shutil.copytree(place / "clothes", tmp_path / "clothes")
    (other / "train" / "Dress" / "001.png").rename(other / "train" / "Bag" / "901.png")
    output, host = tmp_path / "runs", socket.gethostname()
    command = [sys.executable, "-m", "lskd_vision.train", "--config", place / "options.yaml", "--output", output]
    outcomes = started_together([[*command, "--data-dir", path] for path in (place / "clothes", other)])
    found = f"{place / 'clothes'}, split train (must hold the same images and labels in all processes: "
    found += f"process 1 on {host} differs from process 0 on {host})"
    assert outcomes == [(2, f"lskd_vision.train: error: --data-dir: {found}\n"), (2, "")]
    assert not output.exists()


def test_options_in_the_file_that_are_none_are_refused(place, tmp_path):
    path = tmp_path / "options.yaml"
    path.write_text((place / "options.yaml").read_text() + "kd_temprature: 2\n")
    result = run("python -m lskd_vision.train --config", path, status=2)
    expected = "lskd_vision.train: error: --config: kd_temprature: 2 (no such option, perhaps kd-temperature)\n"
    assert (result.stdout, result.stderr) == ("", expected)
