"""Typed reading of JSON: what does not fit is refused in one line that names its place."""

import json
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lskd.io.errors import InputError
from lskd.io.schema import Count, Name, Number, Text, convert, read_json


class Row(msgspec.Struct):
    metric: Name
    mean: Number
    n: Count | None = None
    note: Text = ""


class Content(msgspec.Struct):
    rows: list[Row]


ROW = {"metric": "bleu", "mean": 20.5, "n": 3}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": "x"}, "rows[0].mean (must be a number, not text)"),
        ({"mean": True}, "rows[0].mean (must be a number, not true or false)"),
        ({"mean": 1e300}, "rows[0].mean (must be a number of at most 1e15)"),
        ({"n": -1}, "rows[0].n (must be a whole number >= 0)"),
        ({"n": 1.5}, "rows[0].n (must be a whole number or null, not a decimal number)"),
        ({"metric": ""}, "rows[0].metric (must be text of length >= 1)"),
        ({"metric": "a\nb"}, "rows[0].metric (must be text without control characters)"),
        ({"note": "gnp.\u202eexe"}, "rows[0].note (must be text without control characters)"),
        ({"note": "\x1b[2J"}, "rows[0].note (must be text without control characters)"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(change, message, tmp_path):
    (tmp_path / "x.json").write_text(json.dumps({"rows": [ROW | change]}))
    with pytest.raises(InputError) as refused:
        read_json(tmp_path / "x.json", Content)
    assert str(refused.value) == f"{tmp_path / 'x.json'}: {message}"


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"rows": [NaN]}', '"\\ud800"', "\xff"])
def test_what_is_not_json_is_refused_in_one_line(text, tmp_path):
    (tmp_path / "x.json").write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=r"^file: \S+x.json \(must be JSON: .+\)$"):
        read_json(tmp_path / "x.json", object)


def test_a_later_versions_fields_are_ignored(tmp_path):
    (tmp_path / "x.json").write_text(json.dumps({"rows": [ROW | {"new": 1}], "newer": []}))
    assert read_json(tmp_path / "x.json", Content).rows == [Row("bleu", 20.5, 3)]


@given(st.floats())
def test_a_number_is_finite(value):
    if math.isfinite(value) and abs(value) <= 1e15:
        assert convert(value, Number, "x") == value
    else:
        with pytest.raises(InputError):
            convert(value, Number, "x")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"metric": "x"}, "x: {'metric': 'x'} (must have the field mean)"),
        ({"metric": "x" * 1000}, "x: content (must have the field mean)"),
    ],
)
def test_a_long_value_is_not_repeated_in_a_message_about_all_of_it(value, message):
    with pytest.raises(InputError) as refused:
        convert(value, Row, "x")
    assert str(refused.value) == message
