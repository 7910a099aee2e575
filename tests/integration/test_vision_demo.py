"""`make demo`'s vision half, on a fraction of the images."""

import re

import pytest
from helpers.commands import run

pytestmark = pytest.mark.slow


def test_the_demo_prints_eta_and_a_table_a_second_run_reuses_everything_and_a_report_shows_it(
    tmp_path, programs_are_forked
):
    first = run("python scripts/demo_vision.py --quick --dest", tmp_path / "demo")
    table = first.stdout.partition("top-1 in %")[2].rsplit("\n", 2)[0]
    rows = ["teacher", *(f"student, T = {T}" for T in (1, 2, 3, 64)), "student without a teacher"]
    for row in rows:
        assert re.search(rf"^{row} +\d+\.\d +\d+\.\d$", table, re.MULTILINE), first.stdout
    for T in (3, 64):
        assert re.search(rf"^student, T = {T}, steps as at 1 +– +\d+\.\d$", table, re.MULTILINE), first.stdout
    assert "n = 1" in table
    assert len(re.findall(r"^small_a +[+-]\d", first.stdout, re.MULTILINE)) == 2  # η, for each teacher
    made = [*tmp_path.rglob("*.pth.tar"), *tmp_path.rglob("*.representations.safetensors")]
    times = {path: path.stat().st_mtime_ns for path in made}
    assert len(times) == 34
    second = run("python scripts/demo_vision.py --quick --dest", tmp_path / "demo")
    assert second.stdout.partition("top-1 in %")[2].rsplit("\n", 2)[0] == table
    assert {path: path.stat().st_mtime_ns for path in made} == times
    sets = tmp_path / "demo" / "letters" / "sets.json"
    run("lskd report", tmp_path / "demo", "--sets", sets, "--output", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for part in ("Diffusion index η, T = 1 → 3", "Three classes in the plane", "Entropy of the teachers", "Table 2B"):
        assert part in page
