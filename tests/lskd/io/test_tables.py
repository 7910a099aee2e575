"""Tables in the terminal and in files."""

import argparse
import csv
import json

import pytest

from lskd.io.tables import Column, output_file, show, width, write

ROWS = [{"model": "teacher", "bleu": 22.14}, {"model": "студент", "bleu": None}, {"model": "模型"}]
COLUMNS = [Column("model", "model"), Column("BLEU", "bleu", ".1f")]


def test_columns_line_up_whatever_the_script():
    lines = show(ROWS, COLUMNS).split("\n")
    assert lines[1] == "teacher  22.1"
    assert len({width(line) for line in lines}) == 1
    assert lines[2].endswith("–")
    assert lines[3].endswith("–")


def test_a_flag_is_no_number():
    assert "True" in show([{"a": True}], [Column("a", "a", ".1f")])


def test_combining_marks_take_no_width():
    assert width("e\u0301") == 1


def test_csv_holds_every_key_of_every_row(tmp_path):
    write(tmp_path / "table.csv", [{"a": 1, "b": 0.1 + 0.2}, {"a": 2, "c": "x,y"}])
    with open(tmp_path / "table.csv", newline="", encoding="utf-8") as file:
        assert list(csv.DictReader(file)) == [
            {"a": "1", "b": "0.30000000000000004", "c": ""},
            {"a": "2", "b": "", "c": "x,y"},
        ]


def test_json_holds_rows_and_what_is_said_once(tmp_path):
    write(tmp_path / "table.json", ROWS, {"unit": "%"})
    assert json.loads((tmp_path / "table.json").read_text(encoding="utf-8")) == {"unit": "%", "rows": ROWS}


@pytest.mark.parametrize("name", ["table.txt", "table", "missing/table.csv"])
def test_a_file_that_cannot_be_written_is_refused_at_once(tmp_path, name):
    with pytest.raises(argparse.ArgumentTypeError, match="must"):
        output_file(str(tmp_path / name))


def test_a_file_that_can_be_written_is_taken(tmp_path):
    assert output_file(str(tmp_path / "table.json")) == tmp_path / "table.json"
