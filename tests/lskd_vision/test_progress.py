"""The lines that tell how a training is doing."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lskd.records.runs import RunRecord
from lskd_vision.progress import data_line, epoch_line, log_text, seconds_per_epoch, teacher_line

DATA = {"dataset": "torch/fashion_mnist", "path": "/data", "splits": {"train": 320, "validation": 50}, "classes": "abc"}
TEACHER = {
    "paths": ["/runs/a/last.pth.tar"],
    "model": "resnet50",
    "label_smoothing": {"alpha": 0.1, "source": "the teacher's configuration"},
    "valid": {"top1": 93.256, "top5": 99.0, "nll_loss": 0.3},
}


def row(epoch: int, seconds: float, **scores: float) -> dict:
    """A row of ``summary.csv``, as far as it is read."""
    scores = {"valid_top1": 93.8, "valid_top5": 99.1} | scores
    return {"epoch": epoch, "seconds": seconds, "train_loss": 0.4119, "lr": 0.08536, **scores}


def rows(durations: list[float]) -> list[dict]:
    """A history whose epochs took that many seconds."""
    return [row(number + 1, sum(durations[: number + 1])) for number in range(len(durations))]


def interval(text: str) -> int:
    """The seconds of ``MM:SS`` or ``H:MM:SS``."""
    seconds = 0
    for part in text.split(":"):
        seconds = 60 * seconds + int(part)
    return seconds


def test_an_epoch_is_told_in_one_line_whose_columns_are_found_by_their_names():
    assert epoch_line(rows([130.0, 130.0, 130.0]), epochs=10, images=60000) == (
        "epoch  3/10  loss 0.4119     top-1  93.80 %  top-5  99.10 %  lr 0.0854        462 images/s  15:10 left"
    )


def test_an_epoch_without_validation_says_so_in_columns_as_wide():
    validated = rows([1.0])
    others = [{key: value for key, value in validated[0].items() if not key.startswith("valid")}]
    lines = [epoch_line(history, 2, 100) for history in (validated, others)]
    assert "  not validated  " in lines[1]
    assert lines[0].index("lr ") == lines[1].index("lr ")


def test_the_scores_are_those_of_the_moving_average_where_there_is_one():
    history = [row(1, 1.0, valid_top1_ema=12.5, valid_top5_ema=50.0)]
    assert "top-1  12.50 %  top-5  50.00 % (EMA)  lr " in epoch_line(history, 2, 100)


EPOCHS = st.lists(st.integers(1, 10**5), min_size=1, max_size=12)


@given(EPOCHS, st.integers(0, 300), st.integers(1, 10**7))
def test_the_time_left_is_that_of_the_last_five_epochs_and_the_speed_that_of_the_last(durations, remaining, images):
    line = epoch_line(rows([float(each) for each in durations]), len(durations) + remaining, images)
    recent = durations[-5:]
    assert interval(re.search(r"([\d:]+) left$", line)[1]) == pytest.approx(
        remaining * sum(recent) / len(recent), abs=1
    )
    speed = float(re.search(r"([\d.]+) images/s", line)[1])
    assert speed == pytest.approx(images / durations[-1], abs=0.51 if speed >= 10 else 0.0051)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=12), st.integers(1, 20))
def test_the_mean_duration_of_no_more_epochs_than_there_are(durations, recent):
    expected = sum(durations[-recent:]) / len(durations[-recent:])
    assert seconds_per_epoch(rows(durations), recent) == pytest.approx(expected, abs=1e-6)


def test_an_epoch_that_took_no_measurable_time_has_a_line_too():
    assert "6400 images/s  00:00 left" in epoch_line([row(1, 0.0)], epochs=2, images=320)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "/runs/a/last.pth.tar (resnet50, 25.56 M parameters): α = 0.1 (the teacher's configuration)"),
        (
            {"paths": [], "label_smoothing": {"alpha": None, "source": "unknown: timm's pretrained weights"}},
            "resnet50, 25.56 M parameters: α unknown: timm's pretrained weights",
        ),
    ],
)
def test_a_teacher_is_told_with_its_smoothing_how_that_is_known_and_its_score(changes, expected):
    score = "; validation top-1 93.26 %, top-5 99.00 %"
    assert teacher_line(TEACHER | changes, 25_557_032) == f"teacher  {expected}{score}"


@pytest.mark.parametrize("teacher", [None, TEACHER])
def test_a_log_has_what_is_trained_and_then_each_epoch_after_the_name_of_the_run(teacher):
    record = RunRecord({"model": "resnet18", "host": {"epochs": 3}}, seed=1, data=DATA, teacher=teacher)
    record.history = rows([2.0, 3.0])
    lines = log_text("run", record, 11_689_512, 25_557_032, 320).splitlines()
    assert lines[:2] == [data_line(DATA), "model    resnet18: 11.69 M parameters"]
    assert lines[2:-2] == ([teacher_line(TEACHER, 25_557_032)] if teacher else [])
    assert lines[-2:] == [f"run  {epoch_line(record.history[:number], 3, 320)}" for number in (1, 2)]
    assert data_line(DATA) == "data     fashion_mnist: 320 images in train, 50 in validation, 3 classes; /data"
