"""Argument types: what they accept, and what they say of the rest."""

import argparse

import pytest
from helpers.full_disks import a_disk, full
from hypothesis import given, settings
from hypothesis import strategies as st

from lskd.io.argument_types import integer, number, output_file, percent, positive, whole


@pytest.mark.parametrize("text", ["1", "007", "123456789"])
def test_positive_takes_whole_numbers_above_zero(text):
    assert positive(text) == int(text)


@pytest.mark.parametrize("text", ["0", "00", "-1", "+1", "1.0", "1e3", "", " 1", "1_000", "²", "ten", "nan"])
def test_positive_refuses_everything_else_and_says_what_was_given(text):
    with pytest.raises(argparse.ArgumentTypeError) as error:
        positive(text)
    assert str(error.value) == f"{text!r} (must be a whole number above 0)"


@given(st.floats())
@settings(deadline=None, max_examples=200)
def test_a_number_is_taken_exactly_where_it_is_in_its_range(value):
    for minimum, maximum, above in ((0.0, 1.0, False), (0.0, float("inf"), True)):
        valid = (value > minimum if above else value >= minimum) and value <= maximum and value != float("inf")
        parse = number(minimum, maximum, above)
        if valid:
            assert parse(repr(value)) == value
        else:
            with pytest.raises(argparse.ArgumentTypeError):
                parse(repr(value))


def test_a_number_without_bounds_must_only_be_finite():
    assert number()("-2.5") == -2.5
    for text in ("nan", "-inf", "much", ""):
        with pytest.raises(argparse.ArgumentTypeError) as error:
            number()(text)
        assert str(error.value) == f"{text or repr('')} (must be a finite number)"


def test_a_whole_number_may_be_zero_and_not_negative():
    assert (whole("0"), whole("12")) == (0, 12)
    with pytest.raises(argparse.ArgumentTypeError, match=r"^-1 \(must be a whole number, 0 or more\)$"):
        whole("-1")


def test_a_whole_number_of_either_sign_is_no_other_number():
    assert (integer("-3"), integer("0"), integer("12")) == (-3, 0, 12)
    for text in ("1.5", "1e3", "many", ""):
        with pytest.raises(argparse.ArgumentTypeError) as error:
            integer(text)
        assert str(error.value) == f"{text or repr('')} (must be a whole number)"


@pytest.mark.parametrize("text", ["0", "100", "-5", "nan", "most"])
def test_a_percentage_is_above_0_and_below_100(text):
    with pytest.raises(argparse.ArgumentTypeError, match="must be in percent"):
        percent(text)


@pytest.mark.parametrize(
    ("name", "suffixes", "words"),
    [
        ("table.txt", (".csv", ".json"), "must end in .csv or .json"),
        ("table", (".json",), "must end in .json"),
        ("figure.gif", (".svg", ".png", ".pdf"), "must end in .svg, .png or .pdf"),
        ("missing/table.csv", (".csv",), "must be in a directory that exists"),
        ("directory.svg", (".svg",), "must be a file"),
        ("run/summary.csv", (".csv",), "is a file of a training, must be another"),
        ("letters/manifest.json", (".json",), "is a file of prepared data, must be another"),
        ("letters/groups.json", (".json",), "is a file of prepared data, must be another"),
    ],
)
def test_a_file_that_cannot_or_must_not_be_written_is_refused_at_once(tmp_path, name, suffixes, words):
    (tmp_path / "directory.svg").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").touch()
    (tmp_path / "letters").mkdir()
    for made in ("manifest.json", "groups.json"):
        (tmp_path / "letters" / made).touch()
    with pytest.raises(argparse.ArgumentTypeError) as error:
        output_file(*suffixes)(str(tmp_path / name))
    assert str(error.value) == f"{tmp_path / name} ({words})"


def test_a_file_in_a_directory_that_cannot_be_written_to_is_refused_at_once(tmp_path):
    kind, valid = "a read-only directory", "must be in a directory that can be written to"
    with a_disk(kind, tmp_path / "disk") as disk, full(kind, disk), pytest.raises(argparse.ArgumentTypeError) as error:
        output_file(".csv")(str(disk / "table.csv"))
    assert str(error.value) == f"{disk / 'table.csv'} ({valid})"


def test_a_file_that_can_be_written_is_accepted(tmp_path):
    assert output_file(".csv", ".json")(str(tmp_path / "table.json")) == tmp_path / "table.json"
