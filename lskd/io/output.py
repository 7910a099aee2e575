"""Print lines on standard output without disturbing progress bars."""

import sys

from tqdm import tqdm


def say(line: str) -> None:
    """Print a line at once, above the progress bars of a terminal."""
    tqdm.write(line)
    sys.stdout.flush()  # output to a file or a pipe is buffered
