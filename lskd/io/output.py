"""Lines on standard output, beside progress bars."""

import sys

from tqdm import tqdm


def say(line: str) -> None:
    """Print a line at once, above the progress bars of a terminal."""
    tqdm.write(line)
    sys.stdout.flush()  # a file or a pipe would get it much later
