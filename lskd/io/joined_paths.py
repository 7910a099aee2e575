"""Split several paths in one argument, joined by ``:`` as in fairseq; the paths themselves may contain a ``:``."""

import os

from lskd.io.errors import input_error


def joined_paths(argument: str, paths: str, whole: bool = True) -> list[str]:
    """Split paths that are joined by the system's separator for lists of paths.

    Adjacent parts that together are an existing path, such as ``run:1/last.pt``, are one path. URLs (``://``) are
    joined by ``|``, as in fairseq.

    Args:
        argument: the name of the argument, for error messages.
        paths: the argument's value.
        whole: check which paths exist; if False, split at every separator, as fairseq itself does for its data.

    Raises:
        InputError: one of the paths is empty, which would mean the working directory.

    >>> joined_paths("--kd-checkpoint", "a.pt:b.pt")
    ['a.pt', 'b.pt']
    """
    separator = "|" if "://" in paths else os.pathsep
    parts, found = paths.split(separator), list[str]()
    while parts:
        ends = range(len(parts) if whole else 1, 1, -1)  # the longest first
        together = next((end for end in ends if os.path.exists(separator.join(parts[:end]))), 1)
        found.append(separator.join(parts[:together]))
        parts = parts[together:]
    if not all(part.strip() for part in found):
        valid = f"must be a path, or several joined by {separator!r}, none of them empty"
        raise input_error(argument, paths or "''", valid)
    return found
