"""What `make test` counts as run, on a package of a few lines with this checkout's own settings."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MARK = "# pragma: no cover (GPU)"
pytestmark = pytest.mark.slow

PARTS = """
import os

PARENT = os.getpid()


def here():
    first = "he"
    second = "re"
    return first + second


def beside():
    if os.getpid() == PARENT:
        raise RuntimeError("not in a process of its own")
    print("beside")


def nowhere():
    return "nowhere"


def on_a_gpu(device):
    if device == "cuda":  # pragma: no cover (GPU)
        device += ":0"
        return device
    return device
"""
PROGRAM = """
import multiprocessing

from lskd.parts import beside, on_a_gpu

worker = multiprocessing.get_context("fork").Process(target=beside)
worker.start()
worker.join()
assert worker.exitcode == 0
on_a_gpu("cpu")
"""
TESTS = """
import os, subprocess, sys

from lskd.parts import here


def test_here():
    assert here() == "here"


def test_elsewhere(tmp_path):
    subprocess.run([sys.executable, "-m", "lskd.program"], cwd=tmp_path, check=True)
"""


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A checkout with the settings of this one and a package that has one of its packages' names."""
    directory = tmp_path / "checkout"
    for name, text in {"parts": PARTS, "program": PROGRAM, "__init__": ""}.items():
        file = directory / "lskd" / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (directory / "tests").mkdir()
    (directory / "tests" / "test_parts.py").write_text(TESTS)
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (directory / "pyproject.toml").write_text(re.sub(r"source_pkgs = .*", 'source_pkgs = ["lskd"]', settings))
    return directory


def measured(checkout: Path) -> subprocess.CompletedProcess:
    """The tests of a checkout, run as `make test` does."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("COV", "PYTEST"))}
    environment |= {"PYTHONPATH": str(checkout)}
    command = [sys.executable, "-m", "pytest", "-n", "2", "tests", "-p", "no:cacheprovider", "--cov"]
    return subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)


def test_lines_count_that_only_other_processes_run_and_what_nothing_runs_is_named(checkout):
    before = {path for path in checkout.rglob("*") if "__pycache__" not in path.parts}
    result = measured(checkout)
    assert result.returncode == 0
    lines = PARTS.splitlines()
    missing = [
        1 + next(number for number, line in enumerate(lines) if text in line) for text in ("raise ", '"nowhere"')
    ]
    assert re.search(rf"^lskd/parts.py +\d+ +2 +\d+% +{missing[0]}, {missing[1]}$", result.stdout, re.MULTILINE)
    after = {path for path in checkout.rglob("*") if "__pycache__" not in path.parts}
    assert {path.relative_to(checkout).as_posix() for path in after - before} == {
        "build",
        "build/coverage",
        "build/coverage/data",
    }


def test_a_run_of_less_than_nine_lines_in_ten_fails_though_its_tests_pass(checkout):
    with open(checkout / "lskd" / "parts.py", "a") as file:
        file.write("\n\ndef more():\n" + "    print()\n" * 3)
    failed = measured(checkout)
    assert failed.returncode == 1
    assert " 2 passed" in failed.stdout
    assert "Required test coverage of 90.0% not reached" in failed.stdout


def test_the_lines_that_want_a_gpu_are_marked_in_the_files_that_the_documentation_names():
    marked = {
        file.relative_to(ROOT).as_posix(): text.count(MARK)
        for package in ("lskd", "lskd_fairseq", "lskd_vision")
        for file in (ROOT / package).rglob("*.py")
        if MARK in (text := file.read_text(encoding="utf-8"))
    }
    page = (ROOT / "docs" / "coverage.md").read_text(encoding="utf-8")
    assert marked == {
        name: int(count) for name, count in re.findall(r"^\| `(\S+\.py)` \| (\d+) \|", page, re.MULTILINE)
    }
