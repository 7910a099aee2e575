"""The site is built without a warning, and its pages need no other host."""

import re
import subprocess
import sys

import pytest
from helpers.commands import ROOT

pytest.importorskip("mkdocs", reason="the extra `docs` is not installed")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    dest = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", dest]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr[-3000:]
    return dest


def test_no_page_loads_anything_from_another_host(site):
    loaded = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*?(?:src|href)=[\"']?((?:https?:)?//[^\"'\s>]+)")
    found = {}
    for page in site.rglob("*.html"):
        text = re.sub(r"<link rel=\"?(?:canonical|license)\b[^>]*>", "", page.read_text(encoding="utf-8"))
        if hosts := loaded.findall(text):
            found[page.relative_to(site).as_posix()] = hosts
    assert found == {}
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//[^\"')]+", styles) == []


def test_search_works_from_files(site):
    assert (site / "search" / "search_index.js").read_text("utf-8").startswith("var __index = ")
    page = (site / "guides" / "own-loop.html").read_text("utf-8")
    assert 'src="../assets/iframe-worker.js"' in page


def test_guides_show_the_examples_and_the_reference_shows_docstrings_as_markdown(site):
    guide = (site / "guides" / "hugging-face.html").read_text("utf-8")
    assert "class DistillationTrainer" in re.sub("<[^>]+>", "", guide)
    assert "Exact whatever the precision of the logits" in (site / "api" / "loss.html").read_text("utf-8")
    for page in (site / "api").glob("*.html"):
        text = re.sub("<pre.*?</pre>", "", page.read_text("utf-8"), flags=re.DOTALL)
        assert not re.search(r":(?:mod|class|func|meth|data):(?:`|<code>)", text), page.name
        assert "<blockquote>" not in text, page.name
