"""`make demo`'s vision half, on a fraction of the images."""

import re

import pytest
from commands import run

pytestmark = pytest.mark.slow


def test_the_demo_prints_a_table_and_a_second_run_reuses_everything(tmp_path):
    first = run("python scripts/demo_vision.py --quick --dest", tmp_path / "demo")
    table = first.stdout.partition("top-1 in %")[2].rsplit("\n", 2)[0]
    rows = ["teacher", "student, T = 1", "student, T = 2", "student, T = 3", "student, T = 64"]
    for row in rows:
        assert re.search(rf"^{row} +\d+\.\d +\d+\.\d$", table, re.MULTILINE), first.stdout
    assert "n = 1" in table
    checkpoints = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.pth.tar")}
    assert len(checkpoints) == 20
    second = run("python scripts/demo_vision.py --quick --dest", tmp_path / "demo")
    assert second.stdout.partition("top-1 in %")[2].rsplit("\n", 2)[0] == table
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.pth.tar")} == checkpoints
