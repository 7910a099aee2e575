"""Logits and entropies of a representation file, for the commands that work on soft outputs."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from lskd.io.errors import error_context, input_error
from lskd.measure.representations import Representations
from lskd.measure.smoothness import EntropySums


class FileLogits:
    """The logits of a file's kept samples in chunks, which can be iterated over several times, with a progress bar.

    Args:
        path: path of the file.
        representations: its content.

    Raises:
        InputError: the file has no last layer, or no features.
    """

    def __init__(self, path: str, representations: Representations) -> None:
        if representations.weight is None:
            raise input_error("FILE", path, "must hold the last layer, which gives the logits")
        if not len(representations.labels):
            raise input_error("FILE", path, "must hold features: it kept none of them")
        self.representations = representations

    def __iter__(self) -> Iterator[NDArray[np.float64]]:
        from tqdm import tqdm

        total = len(self.representations.labels)
        with tqdm(total=total, desc="logits", unit=" samples", disable=None, leave=False) as progress:
            for chunk in self.representations.logit_chunks():
                yield chunk
                progress.update(len(chunk))


def entropy_sums(path: str, representations: Representations, temperatures: Sequence[float]) -> EntropySums:
    """Entropies over all samples of a file: its stored sums if they include the temperatures, else from the logits.

    Raises:
        InputError: there are no samples, or the file has neither these temperatures nor all features.
    """
    samples = int(representations.moments.counts.sum())
    if not samples:
        raise input_error("FILE", path, "must hold samples")
    stored = representations.entropy[:, 0].tolist()
    if set(temperatures) <= set(stored):
        return EntropySums.of_rows(representations.entropy[[stored.index(each) for each in temperatures]], samples)
    if not representations.complete:
        known = ", ".join(f"{each:g}" for each in stored) or "none"
        raise input_error("FILE", path, f"must hold all features, or the entropy at each T; it has it at {known}")
    sums = EntropySums(temperatures)
    with error_context(path):
        sums.update(FileLogits(path, representations))
    return sums
