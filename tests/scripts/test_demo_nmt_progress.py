"""From fairseq's log to the lines of the translation demo."""

import json
import re

import pytest
from demo_nmt_progress import LogReader
from hypothesis import given
from hypothesis import strategies as st

START = [
    "2026-01-01 00:00:00 | INFO | fairseq_cli.train | num. shared model params: 1,584,128 (num. trained: 1,584,128)",
    "2026-01-01 00:00:01 | INFO | fairseq.tasks.translation | /d/help.en-de valid en-de 19 examples",
    "2026-01-01 00:00:01 | INFO | fairseq.tasks.translation | /d/help.en-de train en-de 600 examples",
    "2026-01-01 00:00:02 | INFO | fairseq_cli.train | Start iterating over samples",
]


def logged(kind: str, **values: object) -> str:
    """A line of fairseq's JSON log."""
    return f"2026-01-01 00:00:03 | INFO | {kind} | {json.dumps(values)}\n"


class Watched:
    """A reader of a log, what it has said, and its clock."""

    def __init__(self, epochs: int, done: int = 0, teacher: str = "") -> None:
        self.said: list[str] = []
        self.now = 100.0
        self.reader = LogReader("student_a0.1_T3_s1", epochs, done, teacher, self.said.append, lambda: self.now)
        self.read(*START)

    def read(self, *lines: str) -> None:
        for line in lines:
            self.reader.read(line)

    def epoch(self, number: int, **scores: str) -> None:
        self.read(START[-1]) if number > 1 else None
        valid = {"valid_loss": "3.154", "valid_ppl": "8.9"} | scores
        self.read(logged("valid", epoch=number, **valid))
        self.read(logged("train", epoch=number, train_loss="4.2", train_lr="0.00256174", train_wps="2310.4"))


@pytest.mark.parametrize("teacher", ["", "teacher teacher_a0.1_s1, test BLEU 22.2, chrF 45.2"])
def test_the_start_tells_parameters_data_and_teacher_once(teacher):
    watched = Watched(2, teacher=teacher)
    watched.epoch(1)
    watched.epoch(2)
    end = f"; {teacher}" if teacher else ""
    assert watched.said[0] == f"student_a0.1_T3_s1        1.58 M parameters; 600 train pairs, 19 valid pairs{end}"
    assert len(watched.said) == 3


def test_an_epoch_is_told_in_one_line_with_bleu_where_it_was_measured():
    watched = Watched(12)
    watched.now += 61
    watched.epoch(1)
    watched.epoch(2, valid_bleu="21.5")
    assert watched.said[1] == (
        "student_a0.1_T3_s1        epoch  1/12  loss    4.2  valid loss  3.154  perplexity    8.9  lr 0.00256   "
        "  2310 words/s  11:11 left"
    )
    assert "perplexity    8.9  BLEU   21.5  lr " in watched.said[2]


@given(st.integers(0, 20), st.integers(1, 20), st.integers(0, 50), st.integers(0, 10**5))
def test_the_time_left_is_that_of_the_epochs_of_this_process(done, here, remaining, seconds):
    watched = Watched(done + here + remaining, done)
    watched.now += seconds
    watched.epoch(done + here)
    text = re.search(r" ([\d:]+) left$", watched.said[-1])[1]
    parts = [int(part) for part in text.split(":")]
    found = sum(part * 60**power for power, part in enumerate(reversed(parts)))
    assert found == int(seconds / here * remaining)


def test_the_bar_follows_the_updates_and_no_other_line_is_taken_for_values():
    watched = Watched(4)
    watched.read(logged("train_inner", epoch=2, update=1.25, loss="5"))
    assert watched.reader.progress == 1.25
    watched.read("a {broken} line | INFO | {", "{}", "", "Traceback {", logged("train_inner", epoch=4, update=4.01))
    assert watched.reader.progress == 4
    assert len(watched.said) == 1
