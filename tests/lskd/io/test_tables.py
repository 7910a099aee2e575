"""Tables in the terminal and in files."""

import csv
import json

from lskd.io.tables import Column, show, width, write

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
