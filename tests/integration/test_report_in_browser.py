"""The report as a browser shows it: on a phone, to the keyboard, to a screen reader, without a network."""

import contextlib
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.small_runs import write_runs

from lskd.io.files import write_json
from lskd.paper.measured import measure
from lskd.paper.results import Result, write_result
from lskd.report.experiments_page import experiments_page
from lskd.report.runs_page import runs_page

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="neither Chromium nor Chrome is installed"),
]
# The DevTools protocol goes through file descriptors 3 and 4, which Popen cannot promise.
LAUNCH = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
for place, end in enumerate(ends, 3):
    os.dup2(end, place)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Tab:
    """A tab of a headless browser, through the DevTools protocol."""

    def __init__(self, incoming: int, outgoing: int):
        self.incoming, self.outgoing, self.rest = incoming, outgoing, b""
        self.session, self.last, self.events = None, 0, []
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self.session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Accessibility"):
            self(f"{domain}.enable")

    def __call__(self, method: str, **parameters) -> dict:
        """Call a method and return its result."""
        self.last += 1
        message = {"id": self.last, "method": method, "params": parameters}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.outgoing, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self.last:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _next(self) -> dict:
        until = time.monotonic() + 60
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.incoming], [], [], max(0, until - time.monotonic()))
            assert ready, "the browser does not answer"
            self.rest += os.read(self.incoming, 2**16)
        message, self.rest = self.rest.split(b"\0", 1)
        return json.loads(message)

    def open(self, page: Path, width: int) -> None:
        """Load a page at a width in CSS pixels."""
        self("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 600)
        self.events.clear()
        self("Page.navigate", url=page.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def value(self, expression: str):
        """What an expression in the page is; the page's policy does not hold here."""
        answer = self("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press_tab(self) -> None:
        """Press the Tab key."""
        for kind in ("keyDown", "keyUp"):
            self("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)


@contextlib.contextmanager
def browser(profile: Path) -> Iterator[Tab]:
    """A headless browser's tab."""
    (read, theirs_out), (theirs_in, write) = os.pipe(), os.pipe()
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    options += ["--remote-debugging-pipe", f"--user-data-dir={profile}", "--disable-background-networking"]
    command = [sys.executable, "-c", LAUNCH, str(theirs_in), str(theirs_out), BROWSER, *options]
    with open(profile.with_suffix(".log"), "wb") as log:
        process = subprocess.Popen(command, pass_fds=(theirs_in, theirs_out), stdout=log, stderr=log)
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield Tab(read, write)
    finally:
        process.terminate()
        process.wait(timeout=30)
        os.close(read)
        os.close(write)


@pytest.fixture(scope="module", params=["runs", "experiments"])
def page(tmp_path_factory, request) -> Path:
    """A report of image and translation runs, with all its sections; a page of experiments made from the same runs."""
    directory = tmp_path_factory.mktemp("report")
    write_runs(directory / "runs")
    path = directory / "report.html"
    made = runs_page([directory / "runs"]) if request.param == "runs" else experiments_page(write_contents(directory))
    path.write_text(made, encoding="utf-8")
    return path


def write_contents(directory: Path) -> Path:
    """The contents of a page of four tables and a wide drawing, and their results."""
    entries = []
    for name in ("2B", "D.2", "4", "5"):
        runs = directory / "runs" / ("en-de" if name == "5" else "data")
        result = Result(name, f"What {name} shows", "mini", ["a note"], [str(runs)], measure(name, [runs])[0])
        write_result(directory / f"{name}.json", result)
        entries.append({"result": f"{name}.json"})
    files = sorted((directory / "runs" / "data").glob("*/*.train.representations.safetensors"))
    drawing = ["lskd", "project", *files, "--classes", "Pullover", "Coat", "Bag"]
    drawing += ["--output", directory / "1.svg", "--table", directory / "1.json"]
    subprocess.run([sys.executable, "-m", *map(str, drawing)], check=True, capture_output=True)
    entries.append({"figure": "1.svg", "numbers": "1.json", "published": "Two classes come nearer to each other."})
    for name, entry in zip(("2B", "D.2", "4", "5", "1"), entries, strict=True):
        entry |= {"id": name, "title": f"Title {name}", "command": f"lskd reproduce {name}", "notes": ["deviates"]}
    content = {"title": "Experiments", "intro": ["In short."], "experiments": entries, "runs": []}
    write_json(directory / "contents.json", content)
    return directory / "contents.json"


@pytest.fixture(scope="module")
def tab(tmp_path_factory) -> Iterator[Tab]:
    with browser(tmp_path_factory.mktemp("browser") / "profile") as tab:
        yield tab


@pytest.mark.parametrize("width", [320, 360, 390, 768, 1280])
def test_nothing_but_tables_and_grids_scrolls_sideways(tab, page, width):
    tab.open(page, width)
    tab.value("document.querySelectorAll('details').forEach(each => each.open = true)")

    assert tab.value("document.documentElement.scrollWidth") <= width
    assert tab.value("document.querySelectorAll('.scroll').length") > 5
    outside = """[...document.querySelectorAll('main *, header *, nav *')]
        .filter(each => !each.closest('.scroll') && each.getBoundingClientRect().right > innerWidth + 0.5)
        .map(each => each.outerHTML.slice(0, 200))"""
    assert tab.value(outside) == []


def test_a_wide_grid_scrolls_in_a_region_of_its_own_on_a_phone(tab, page):
    tab.open(page, 360)

    wide = "[...document.querySelectorAll('figure .scroll')].filter(each => each.scrollWidth > each.clientWidth).length"
    assert tab.value(wide) >= 1


def test_letters_of_figures_are_legible_on_a_phone(tab, page):
    tab.open(page, 360)

    shrunk = """[...document.querySelectorAll('figure > img')]
        .map(each => each.getBoundingClientRect().width / each.getAttribute('width'))"""
    scales = tab.value(shrunk)
    assert len(scales) > 3
    assert min(scales) * 11 * 96 / 72 > 9.5  # pixels; the letters are 11 pt


def test_no_request_leaves_the_page(tab, page):
    tab.open(page, 1280)

    asked = [
        event["params"]["request"]["url"] for event in tab.events if event["method"] == "Network.requestWillBeSent"
    ]
    assert [url for url in asked if not url.startswith("data:")] == [page.as_uri()]
    assert [event for event in tab.events if event["method"] == "Log.entryAdded"] == []  # nor is anything forbidden


def test_the_policy_lets_the_style_in_and_scripts_not(tab, page, tmp_path):
    tab.open(page, 1280)
    assert tab.value("getComputedStyle(document.querySelector('caption')).fontWeight") == "600"

    hostile = tmp_path / "hostile.html"
    text = page.read_text(encoding="utf-8")
    hostile.write_text(text.replace("</body>", "<script>document.title = 'ran'</script></body>"), encoding="utf-8")
    tab.open(hostile, 1280)
    assert tab.value("document.title") != "ran"


def test_images_are_drawn(tab, page):
    tab.open(page, 1280)

    assert tab.value("[...document.images].every(each => each.complete && each.naturalWidth > 100)")


def test_every_figure_speaks_to_a_screen_reader(tab, page):
    tab.open(page, 1280)

    nodes = tab("Accessibility.getFullAXTree")["nodes"]
    images = [node["name"]["value"] for node in nodes if node.get("role", {}).get("value") == "image"]
    assert len(images) == tab.value("document.querySelectorAll('figure').length") > 3
    assert all(len(name) > 40 for name in images)
    roles = [node["role"]["value"] for node in nodes if not node["ignored"]]
    for landmark in ("banner", "navigation", "main", "contentinfo"):
        assert roles.count(landmark) == 1


def test_headings_go_down_one_step_at_a_time(tab, page):
    tab.open(page, 1280)

    levels = tab.value("[...document.querySelectorAll('h1, h2, h3, h4')].map(each => +each.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_tab_goes_from_the_skip_link_through_contents_to_regions_and_details(tab, page):
    tab.open(page, 360)
    reached = []
    for _ in range(60):
        tab.press_tab()
        reached.append(tab.value("[document.activeElement.className || document.activeElement.tagName].join()"))

    assert reached[0] == "skip"
    assert reached[1] == "A"
    assert "scroll" in reached
    assert "SUMMARY" in reached
    named = "[...document.querySelectorAll('.scroll')].every(each => each.getAttribute('aria-label').length > 5)"
    assert tab.value(named)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(tab, page, scheme):
    tab("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    tab.open(page, 1280)
    script = """(() => {
        const parse = text => text.match(/[\\d.]+/g).map(Number);
        const luminance = ([r, g, b]) => [r, g, b].map(c => c / 255)
            .map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
            .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
        const ground = each => { for (; each; each = each.parentElement) {
            const colour = parse(getComputedStyle(each).backgroundColor);
            if (colour.length < 4 || colour[3] > 0) return colour; } return [255, 255, 255]; };
        return [...document.querySelectorAll('body *')]
            .filter(each => [...each.childNodes].some(child => child.nodeType == 3 && child.data.trim()))
            .map(each => { const [a, b] = [luminance(parse(getComputedStyle(each).color)), luminance(ground(each))];
                return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), each.outerHTML.slice(0, 80)]; })
            .sort((a, b) => a[0] - b[0])[0]; })()"""
    least, where = tab.value(script)
    tab("Emulation.setEmulatedMedia", features=[])

    assert least >= 4.5, where


def test_print_shows_all_of_every_figure(tab, page):
    tab("Emulation.setEmulatedMedia", media="print")
    tab.open(page, 680)  # A4 less its margins
    cut = """[...document.querySelectorAll('figure img')].map(each => each.getBoundingClientRect())
        .filter(each => each.right > innerWidth + 0.5 || each.height > 230 / 25.4 * 96 + 1).length"""
    cut_figures = tab.value(cut)
    shown = tab.value("getComputedStyle(document.querySelector('nav')).display")
    tab("Emulation.setEmulatedMedia", media="")

    assert cut_figures == 0
    assert shown == "none"
