"""The table of what is refused names the tests that hold it."""

import re

from helpers.commands import ROOT

PAGE = (ROOT / "docs" / "input-checks.md").read_text(encoding="utf-8")
FILES = {path.name: path for path in (ROOT / "tests").rglob("test_*.py")}


def test_the_tests_that_the_page_names_exist():
    named = {name for name in re.findall(r"::(test_\w+)", PAGE) if not name.endswith("_")}
    defined = {name for path in FILES.values() for name in re.findall(r"def (test_\w+)", path.read_text("utf-8"))}
    assert len(named) > 100
    assert sorted(named - defined) == []


def test_the_files_that_the_page_names_exist():
    assert sorted(set(re.findall(r"\b(test_\w+\.py)", PAGE)) - FILES.keys()) == []
    assert [name for name in re.findall(r"\btests/\S+?\.py", PAGE) if not (ROOT / name).is_file()] == []
