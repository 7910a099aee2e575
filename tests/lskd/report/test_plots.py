import itertools
import re
import sys
import xml.etree.ElementTree as ElementTree

import matplotlib.pyplot
import pytest

from lskd.io.errors import InputError
from lskd.report.drawing_style import COLOURS, DASHES, HATCHES, MARKERS
from lskd.report.plots import Bars, Series, bars, lines, svg

TEMPERATURES = [1.0, 2.0, 3.0, 64.0]
TWO = [Series("α = 0", TEMPERATURES, [83, 84, 82, 80]), Series("α = 0.1", TEMPERATURES, [85, 84.5, 84, 79])]


def luminance(colour: str) -> float:
    """Relative luminance as WCAG defines it."""
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_the_palette_is_okabe_and_itos_and_each_series_differs_in_more_than_colour():
    assert set(COLOURS) <= {"#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"}
    for signs in (COLOURS, MARKERS, DASHES):
        assert len(set(signs)) == len(signs) == 7
    assert len(set(HATCHES)) == len(HATCHES)
    assert all(luminance(colour) < 0.5 for colour in COLOURS)  # they stand out from white: no yellow


def test_lines_are_the_points_over_a_logarithmic_axis_whose_ticks_they_are():
    (axes,) = lines(TWO, "temperature T", "top-1 %").axes
    assert axes.get_xscale() == "log"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "2", "3", "64"]
    drawn = [line for line in axes.lines if len(line.get_xdata()) == 4 and line.get_linestyle() != "None"]
    assert [list(line.get_ydata()) for line in drawn] == [[83, 84, 82, 80], [85, 84.5, 84, 79]]
    assert len({(line.get_color(), line.get_marker(), line.get_linestyle()) for line in drawn}) == 2
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("temperature T", "top-1 %")


def test_error_bars_have_the_lengths_given_and_are_left_out_without_any():
    (axes,) = lines([Series("α", [1, 3], [80, 70], [2.0, None])], "T", "%").axes
    segments = [segment[:, 1].tolist() for each in axes.collections for segment in each.get_segments()]
    assert segments == [[78, 82], [70, 70]]
    (axes,) = lines([Series("α", [1, 3], [80, 70], [None, None])], "T", "%").axes
    assert not axes.collections


def test_error_bars_of_two_series_stand_side_by_side_and_ticks_at_t():
    (axes,) = lines([Series(name, [1, 3], [80, 70], [2.0, 1.0]) for name in "ab"], "T", "%").axes
    places = [segment[0, 0] for each in axes.collections for segment in each.get_segments()]
    assert len(set(places)) == 4
    assert sorted(places) == pytest.approx([1, 1, 3, 3], rel=0.03)
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "3"]


def test_a_level_is_marked_and_named():
    (axes,) = lines(TWO, "T", "nats", (2.3, "ln K = 2.30")).axes
    assert [line for line in axes.lines if set(line.get_ydata()) == {2.3}]
    assert [text.get_text() for text in axes.texts] == ["ln K = 2.30"]


def test_an_axis_spans_as_much_as_is_wanted_about_the_points():
    (axes,) = lines([Series("α", [1, 3], [85.3, 85.4])], "T", "%", least_span=4.0).axes
    low, high = axes.get_ylim()
    assert (high - low, (high + low) / 2) == pytest.approx((4, 85.35))
    (axes,) = lines(TWO, "T", "%", least_span=4.0).axes
    assert axes.get_ylim()[1] - axes.get_ylim()[0] > 5  # wider points keep their own


def test_bars_have_their_values_lengths_and_order():
    groups = [Bars("similar", [-10.0, 5.0], [(-12.0, -8.0), None]), Bars("dissimilar", [1.0, -1.0])]
    (axes,) = bars(["Coat", "Bag"], groups, "η in %", (-15, 10)).axes
    assert [patch.get_width() for patch in axes.patches] == [-10.0, 5.0, 1.0, -1.0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["Coat", "Bag"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first on top
    assert axes.get_xlim() == (-15, 10)
    assert len({(patch.get_facecolor(), patch.get_hatch()) for patch in axes.patches}) == 2
    (whisker,) = [line for line in axes.lines if list(line.get_xdata()) == [-12.0, -8.0]]
    assert whisker.get_ydata()[0] == pytest.approx(axes.patches[0].get_y() + axes.patches[0].get_height() / 2)


def test_bars_of_one_target_do_not_overlap_those_of_the_next():
    (axes,) = bars(["a", "b"], [Bars(str(n), [1.0, 1.0]) for n in range(4)], "η in %", (0, 1)).axes
    spans = sorted((patch.get_y(), patch.get_y() + patch.get_height()) for patch in axes.patches)
    assert all(before[1] <= after[0] + 1e-9 for before, after in itertools.pairwise(spans))


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: lines([], "T", "%"), "series: 0"),
        (lambda: lines([TWO[0]] * 8, "T", "%"), "series: 8"),
        (lambda: bars([], [Bars("a", [])], "%", (0, 1)), "groups: 1 of 0"),
        (lambda: bars(["a"], [], "%", (0, 1)), "groups: 0"),
        (lambda: bars(["a"], [Bars("a", [1.0])] * 5, "%", (0, 1)), "groups: 5"),
    ],
)
def test_more_than_can_be_told_apart_is_refused(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


def test_the_same_figure_is_the_same_svg_without_a_date_or_a_version():
    one, two = (svg(lines(TWO, "T", "%")) for _ in range(2))
    assert one == two
    text, width, height = one
    assert (width, height) == (461, 326)
    assert re.search(r'viewBox="0 0 345\.6 244\.8"', text)
    assert "date" not in text
    assert matplotlib.__version__ not in text


def test_letters_are_outlines_and_names_are_no_formulas():
    text, _, _ = svg(bars(["$x_1$", "--><b>&"], [Bars("a", [1.0, 2.0])], "η", (0, 3)))
    ElementTree.fromstring(text)  # noqa: S314 (our own)
    assert "<text" not in text
    assert "<!-- $x_1$ -->" in text
    assert "<b>" not in text


def test_nothing_is_left_in_pyplot():
    lines(TWO, "T", "%")
    assert matplotlib.pyplot.get_fignums() == []
    assert matplotlib.rcParams["font.size"] == matplotlib.rcParamsDefault["font.size"]


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match=r"pip install '\.\[report\]'"):
        lines(TWO, "T", "%")
