"""Write drawings to files, for the screen and for print."""

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

from lskd.io.errors import input_error
from lskd.io.files import replacing
from lskd.report import drawing_style as style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".svg", ".png", ".pdf")


def write_figure(path: str | os.PathLike[str], drawing: "Figure") -> None:
    """Write a figure in one step, in the format of the path's suffix; the same figure gives the same bytes.

    Raises:
        InputError: a suffix other than .svg, .png and .pdf.
    """
    import matplotlib

    suffix = Path(path).suffix
    if suffix not in FORMATS:
        raise input_error("figure", path, f"must end in {', '.join(FORMATS)}")
    undated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}, ".png": {}}[suffix]
    content = io.BytesIO()  # on a full disk matplotlib's PDF writer would raise a second, misleading error
    with matplotlib.rc_context(style.FIGURE):
        drawing.savefig(content, format=suffix[1:], metadata=undated, dpi=style.PIXELS_PER_INCH_OF_PNG)
    with replacing(path) as beside:
        beside.write_bytes(content.getvalue())
