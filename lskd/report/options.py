"""The options of a page of runs."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from lskd.io.errors import input_error


@dataclass(frozen=True)
class Options:
    """The options of a page of runs.

    Attributes:
        sets: JSON files of S1 and S2, as ``lskd similar --output`` writes them; for data whose classes are in none of
            them, S1 and S2 are chosen by feature distance.
        classes: three classes for the projection, the two similar ones first; when None the first target of the sets
            with the first of its similar and of its dissimilar classes, or classes chosen by feature distance.
        first: T1 of η.
        second: T2 of η, above ``first``.
        title: title of the page.
        introduction: a paragraph below the title; empty for none.

    Raises:
        InputError: ``second`` is not above ``first``.
    """

    sets: Sequence[str | os.PathLike[str]] = ()
    classes: Sequence[str] | None = None
    first: float = 1.0
    second: float = 3.0
    title: str = "Label smoothing and distillation: what these runs gave"
    introduction: str = ""

    def __post_init__(self) -> None:
        if not self.first < self.second:
            raise input_error("--second", f"{self.second:g}", f"must be above --first, {self.first:g}")
