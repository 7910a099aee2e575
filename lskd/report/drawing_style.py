"""Colours, markers and sizes of all drawings; those of the pages around them are in style.css.

Series differ in more than colour. The colours are Okabe and Ito's, which can be told apart by colour-blind readers and
in greyscale print.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (8, 2)))
HATCHES = ("", "////", "....", "xxxx")
OWN_HATCH = "///"  # of the target class among other classes
EDGE_COLOUR = "black"  # of bars, and of the line at 0
LABEL_COLOUR = "0.2"  # of text within a drawing
HELP_COLOUR = "0.35"  # of thin guide lines
GRID_COLOUR = "0.88"

# The paper's figures, written to files: text remains text, no name is parsed as a formula, and the same input gives the
# same bytes.
FONT_SIZE, TICK_SIZE = 9, 7  # points
FIGURE: "dict[RcKeyType, Any]" = {
    "svg.hashsalt": "lskd",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "text.parse_math": False,
    "font.size": FONT_SIZE,
}
PIXELS_PER_INCH_OF_PNG = 200

# Drawings on a page: on a phone they are as wide as the screen, so they are small, with large text. Text is converted
# to outlines: the reader's fonts do not matter, and an image's text cannot be selected anyway.
PAGE: "dict[RcKeyType, Any]" = {
    **FIGURE,
    "svg.fonttype": "path",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
PAGE_WIDTH = 4.8  # inches
PIXELS_PER_INCH = 96  # CSS
