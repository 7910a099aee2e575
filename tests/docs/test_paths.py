"""Files and folders that the documents name exist."""

import re

import pytest
from helpers.commands import ROOT

PAGES = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/footguns.md", "docs/measures.md", "docs/reproduction.md")
TREES = ("lskd/", "lskd_fairseq/", "lskd_vision/", "data_prep/", "scripts/", "docs/", "tests/")


@pytest.mark.parametrize("page", PAGES)
def test_the_files_that_a_page_names_exist(page):
    text = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    named = {name for name in re.findall(r"`([\w./-]+)`", text) if name.startswith(TREES)}
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
