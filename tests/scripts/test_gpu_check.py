"""The check for a machine with a GPU, on one without: every part runs, and none takes the others with it."""

import argparse
import csv

import gpu_check
import gpu_parts
import pytest
import torch
from gpu_parts import Row
from helpers.commands import run

from lskd.io.errors import InputError


def options(**values: object) -> argparse.Namespace:
    return argparse.Namespace(**({"device": "cpu", "small": True, "debug": False} | values))


def rows_of(path) -> list[dict[str, str]]:
    return list(csv.DictReader(line for line in path.read_text().splitlines() if not line.startswith("#")))


@pytest.mark.slow
def test_all_parts_run_on_a_machine_without_a_gpu(tmp_path):
    said = run("python scripts/gpu_check.py --device cpu --small --output", tmp_path).stdout
    assert "4 of 4 parts passed" in said.splitlines()[-1]
    found = {path.name.split("_")[1]: path for path in tmp_path.glob("gpu_*_cpu_torch*.csv")}
    assert found.keys() == gpu_check.SECONDS.keys()
    for part, path in found.items():
        comments = [line for line in path.read_text().splitlines() if line.startswith("#")]
        assert f"scripts/gpu_check.py, {part}, on cpu, small" in comments[0]
        assert any("'torch':" in line for line in comments)
        assert any("'processor':" in line for line in comments)
        assert {row["passed"] for row in rows_of(path)} <= {"", "yes"}


def test_the_loss_is_nearer_to_the_reference_than_the_naive_one():
    rows = {(row.check, row.setting): row for row in gpu_parts.accuracy(gpu_parts.Size("cpu", small=True))}
    assert all(row.passed for row in rows.values())
    of = "16x100 bfloat16 T = 64"
    for check in ("relative error of the loss", "relative error of the gradient"):
        assert rows[check, f"eager {of}"].value < 0.1 * rows[check, f"naive {of}"].value


def test_a_part_that_fails_leaves_what_it_has_measured(tmp_path, monkeypatch, capsys):
    def broken(_):
        yield Row("seconds", "first", 1.5)
        raise RuntimeError("CUDA error:\nout of memory")

    monkeypatch.setattr(gpu_parts, "images", broken)
    assert gpu_check.run_part("images", options(), tmp_path) == 1
    assert capsys.readouterr().err == "images: RuntimeError: CUDA error: out of memory\n"
    (path,) = tmp_path.iterdir()
    assert rows_of(path) == [{"check": "seconds", "setting": "first", "value": "1.5", "limit": "", "passed": ""}]


@pytest.mark.parametrize("value", [2.0, float("nan")])
def test_a_value_above_its_limit_fails_its_part_and_the_others_are_still_measured(value, tmp_path, monkeypatch):
    monkeypatch.setattr(
        gpu_parts, "speed", lambda _: iter([Row("error", "a", value, 1.0), Row("error", "b", 0.5, 1.0)])
    )
    assert gpu_check.run_part("speed", options(), tmp_path) == 1
    (path,) = tmp_path.iterdir()
    assert [row["passed"] for row in rows_of(path)] == ["no", "yes"]


def test_a_part_that_takes_too_long_is_ended_and_named(capsys):
    assert not gpu_check.run_in_process("speed", ["--device", "cpu"], 0.01)
    assert capsys.readouterr().err == "speed: not finished after 0.01 s\n"


def test_all_parts_together_take_eight_minutes_at_most():
    assert sum(gpu_check.SECONDS.values()) <= 8 * 60


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "--device: cuda (is not there"),
        ("--device cpu --output here", "--device: cpu (needs --small"),
        ("--device cpu --small", "--output: not given"),
    ],
)
def test_without_a_gpu_the_check_says_how_to_try_it(words, said):
    with pytest.raises(InputError) as refused:
        gpu_check.main(gpu_check.parser().parse_args(words.split()))
    assert said in str(refused.value)
