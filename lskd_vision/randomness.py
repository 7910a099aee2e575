"""Independent streams of random numbers."""

import random
from typing import Any

import numpy as np
import torch


def seed_all(*numbers: int) -> None:
    """Seed torch's CPU generator, numpy and Python from ``numbers``, each 0 or more."""
    words = np.random.SeedSequence(list(numbers)).generate_state(2, np.uint64)
    torch.default_generator.manual_seed(int(words[0]))
    np.random.seed(int(words[1] % 2**32))
    random.seed(int(words[1]))


class RandomStream:
    """A separate stream of random numbers of torch (CPU and one GPU), numpy and Python, used inside a ``with`` block.

    Draws outside the block do not advance the stream, nor the reverse: a student draws the same numbers alone and
    together with others. numpy's generator is swapped, as copying its state takes a quarter of a millisecond; the
    second of a pair of numbers from ``np.random.normal`` is lost at either end of a block.

    Args:
        device: a GPU whose random numbers belong to the stream; the CPU's always do.
        numbers: the seed, each 0 or more.

    Example:
        >>> stream, other = RandomStream(torch.device("cpu"), 1), RandomStream(torch.device("cpu"), 1)
        >>> with stream:
        ...     first = torch.rand(1)
        >>> _ = torch.rand(1)
        >>> with other:
        ...     same = torch.rand(1)
        >>> torch.equal(first, same)
        True
    """

    def __init__(self, device: torch.device, *numbers: int) -> None:
        self.device = device
        self.outside = self._get()
        np.random.set_bit_generator(np.random.MT19937(0))  # its own generator, seeded with the others
        seed_all(*numbers)
        if device.type == "cuda":  # pragma: no cover (GPU)
            torch.cuda.manual_seed(int(torch.randint(2**62, ())))
        self.inside = self._get()
        self._set(self.outside)

    def __enter__(self) -> "RandomStream":
        self.outside = self._get()
        self._set(self.inside)
        return self

    def __exit__(self, *_: object) -> None:
        self.inside = self._get()
        self._set(self.outside)

    def _get(self) -> tuple[Any, ...]:
        gpu = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        return torch.get_rng_state(), gpu, np.random.get_bit_generator(), random.getstate()

    def _set(self, state: tuple[Any, ...]) -> None:
        cpu, gpu, numpy_generator, python_state = state
        torch.set_rng_state(cpu)
        if gpu is not None:  # pragma: no cover (GPU)
            torch.cuda.set_rng_state(gpu, self.device)
        np.random.set_bit_generator(numpy_generator)
        random.setstate(python_state)
