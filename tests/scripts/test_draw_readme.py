"""The README's picture, and what is said of it, are of the committed results."""

import re

from draw_readme import RESULTS, picture, students
from helpers.commands import ROOT


def test_the_readme_quotes_the_results_that_its_picture_shows():
    smoothed, plain = students(RESULTS)[0.1], students(RESULTS)[0.0]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    quoted = re.search(r"from (\S+) % at T = 1 to (\S+) % at T = 64", readme)
    assert quoted.groups() == (f"{smoothed[1].mean:.1f}", f"{smoothed[64].mean:.1f}")
    assert all(84 < each.mean < 87 and each.n == 3 for each in plain.values())


def test_the_picture_is_the_same_each_time_and_takes_no_font_from_the_reader():
    drawn = picture(students(RESULTS))
    assert drawn == picture(students(RESULTS))
    assert "<text" not in drawn
