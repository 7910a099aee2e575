"""Print lines on standard output without disturbing progress bars, and results whether or not they could be written."""

import contextlib
import sys
from collections.abc import Generator

from tqdm import tqdm


def say(line: str) -> None:
    """Print a line at once, above the progress bars of a terminal."""
    tqdm.write(line)
    sys.stdout.flush()  # output to a file or a pipe is buffered


@contextlib.contextmanager
def shown_anyway(*paragraphs: str) -> Generator[None]:
    """Print ``paragraphs``, with an empty line between them, after a block that writes the same result to a file.

    They are printed even if the block fails, since a measurement takes longer than a look at a full disk. The file is
    written first, as whoever reads standard output may leave (``| head``).

    >>> with shown_anyway("T  top-1", "n = 5"):
    ...     print("written")
    written
    T  top-1
    <BLANKLINE>
    n = 5
    """
    try:
        yield
    finally:
        print("\n\n".join(paragraphs))
