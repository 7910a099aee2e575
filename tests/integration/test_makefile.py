"""`make install` from a bare checkout: what it refuses, what it starts anew, and when it has nothing to do."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LONG_AGO = (1e9, 1e9)
pytestmark = pytest.mark.slow


@pytest.fixture
def checkout(tmp_path) -> Path:
    """As much of a checkout as `make install` reads before it has installed anything."""
    directory = tmp_path / "checkout"
    directory.mkdir()
    for name in ("Makefile", "setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, directory)
    return directory


def make(checkout: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run make by itself, not as a part of the one that may have started the tests, and with no registry for pip."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS", "PIP_"))}
    environment |= {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "LC_ALL": "C"}
    return subprocess.run(["make", *arguments], cwd=checkout, env=environment, capture_output=True, text=True)


def python_reporting(version: tuple[int, ...], tmp_path: Path) -> str:
    """This Python, answering questions about its version with another one; all it can do is ``-c CODE``."""
    script = tmp_path / "python"
    code = f"import sys; sys.version_info = {version}; exec(sys.argv[2])"
    script.write_text(f"#!/bin/sh\nexec '{sys.executable}' -c '{code}' \"$@\"\n")
    script.chmod(0o755)
    return str(script)


def installed(checkout: Path) -> Path:
    """An environment as a whole install leaves it: this Python without pip, and the mark, newer than what it is of."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", checkout / ".venv"], check=True)
    mark = checkout / ".venv" / "installed"
    mark.touch()
    return mark


@pytest.mark.parametrize("goal", [(), ("install",)])
def test_a_python_that_is_too_old_is_refused_in_one_line_before_anything_is_made(checkout, tmp_path, goal):
    old = python_reporting((3, 10, 99), tmp_path)
    refused = make(checkout, f"PYTHON={old}", *goal)
    assert (refused.returncode, refused.stdout) == (2, "")
    message, failed = refused.stderr.splitlines()
    assert message.startswith(f"make: {old} is not Python 3.11 or newer; name another one: make PYTHON=")
    assert failed.startswith("make: ***")
    assert not (checkout / ".venv").exists()


def test_a_python_that_is_not_there_is_refused_in_one_line_before_anything_is_made(checkout):
    refused = make(checkout, "PYTHON=no-such-python", "install")
    assert (refused.returncode, refused.stdout) == (2, "")
    message, failed = refused.stderr.splitlines()
    assert message.startswith("make: no-such-python is not Python 3.11 or newer; name another one: make PYTHON=")
    assert failed.startswith("make: ***")
    assert not (checkout / ".venv").exists()


def test_python_3_11_is_not_refused(checkout, tmp_path):
    # It is asked for an environment next, which it cannot make.
    failed = make(checkout, f"PYTHON={python_reporting((3, 11, 0), tmp_path)}", "install")
    assert "is not Python 3.11" not in failed.stderr
    assert re.search(r"python -m venv \.venv$", failed.stdout, re.MULTILINE)


def test_what_an_interrupted_install_left_is_removed(checkout):
    left = installed(checkout).with_name("left")
    left.touch()
    (checkout / ".venv" / "unfinished").touch()
    os.utime(checkout / ".venv" / "installed", LONG_AGO)
    # pip fails, having no registry: this second install is interrupted as well.
    failed = make(checkout, f"PYTHON={sys.executable}", "install")
    assert failed.returncode == 2
    assert failed.stdout.startswith("the last install was not finished, starting it anew\n")
    assert "No matching distribution found for" in failed.stderr
    assert not left.exists()
    assert {"unfinished", "bin"} <= {path.name for path in (checkout / ".venv").iterdir()}
    assert not (checkout / ".venv" / "installed").exists()
    assert make(checkout, "-q", "install").returncode == 1


def test_an_environment_that_is_whole_is_updated_in_place_whatever_python_is_named(checkout):
    mark = installed(checkout)
    left = mark.with_name("left")
    left.touch()
    os.utime(mark, LONG_AGO)
    failed = make(checkout, "PYTHON=no-such-python", "install")
    # It gets as far as pip, which this environment lacks.
    assert failed.returncode == 2
    assert "No module named pip" in failed.stderr
    assert left.exists()
    assert not mark.exists()
    assert mark.with_name("unfinished").exists()


@pytest.mark.parametrize("changed", ["setup.py", "pyproject.toml"])
def test_an_install_that_is_up_to_date_does_nothing_until_the_requirements_change(checkout, changed):
    mark = installed(checkout)
    idle = make(checkout, "-n", "install")
    assert (idle.returncode, idle.stdout) == (0, "make: Nothing to be done for 'install'.\n")
    for name in {"setup.py", "pyproject.toml"} - {changed}:
        os.utime(checkout / name, LONG_AGO)
    os.utime(mark, (1.1e9, 1.1e9))
    assert "-e '.[all,dev]'" in make(checkout, "-n", "install").stdout
