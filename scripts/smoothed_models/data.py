"""The data of the smoothing study: digits, Gaussian mixtures, clothes, accented letters and sentences, for a CPU."""

import functools
import io
import lzma
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SAMPLES = Path(__file__).parents[2] / "data_prep" / "samples"
LENGTH = 12  # tokens of a line of text, characters or words
VOCABULARY = 1000  # words


@dataclass(frozen=True)
class Data:
    """Train and validation samples. Text has (N, LENGTH) token ids as inputs and one label for each."""

    train: tuple[Tensor, Tensor]
    valid: tuple[Tensor, Tensor]
    classes: int


@functools.cache
def load(name: str, seed: int = 0) -> Data:
    """The data set of that name; ``seed`` determines the mixtures and the choice of training images."""
    if name.startswith("mixture"):
        return _mixture(int(name.removeprefix("mixture")), seed)
    if name.startswith("letters"):
        return _letters(int(name.removeprefix("letters") or 185), np.random.default_rng(seed))
    named = {"digits": _digits, "clothes": _clothes, "words": _words, "characters": _characters}
    return named[name](np.random.default_rng(seed))


def _mixture(classes: int, seed: int) -> Data:
    """Gaussian classes in groups of five; those of a group overlap by an amount that depends on the seed."""
    random = np.random.default_rng([classes, seed])
    dimension, samples = (16 if classes <= 20 else 48), max(1500, 6 * classes)
    groups = random.normal(size=(-(-classes // 5), dimension))[np.arange(classes) // 5]
    centres = random.uniform(1.0, 2.5) * (groups + random.uniform(0.5, 1.0) * random.normal(size=(classes, dimension)))
    labels = random.integers(classes, size=samples + 1000)
    inputs = centres[labels] + random.normal(size=(len(labels), dimension))
    return _split(inputs / inputs.std(), labels, samples, classes)


def _digits(random: np.random.Generator) -> Data:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = random.permutation(len(labels))
    return _split(images[order] / 16, labels[order], 1200, 10)


def _clothes(random: np.random.Generator) -> Data:
    with np.load(SAMPLES / "fashion_mnist_12k.npz") as file:
        train = random.permutation(len(file["y_train"]))[:3000]
        images = np.concatenate([file["x_train"][train], file["x_test"][:1000]])
        labels = np.concatenate([file["y_train"][train], file["y_test"][:1000]])
    return _split(_halved(images) / 255, labels, 3000, 10)


def _letters(classes: int, random: np.random.Generator) -> Data:
    """The first classes of the accented letters; validation images are in fonts that are not in training."""
    with lzma.open(SAMPLES / "letters_185.npz.xz") as file, np.load(io.BytesIO(file.read())) as arrays:
        packed, labels, validation = (arrays[name] for name in ("images", "label", "validation"))
    chosen = [
        random.permutation(np.flatnonzero((labels < classes) & (validation == part)))[:most]
        for part, most in ((0, 6000), (1, 1200))
    ]
    packed, labels = packed[np.concatenate(chosen)], labels[np.concatenate(chosen)]
    images = np.stack([packed >> 4, packed & 15], axis=-1).reshape(len(packed), 32, 32)
    return _split(_halved(images) / 15, labels, len(chosen[0]), classes)


def _halved(images: NDArray[Any]) -> NDArray[np.float64]:
    """Images at half their size, flat."""
    n, height, width = images.shape
    return images.reshape(n, height // 2, 2, width // 2, 2).mean((2, 4)).reshape(n, -1)


def _sentences() -> list[str]:
    with lzma.open(SAMPLES / "lohelp.en-de.tsv.xz", "rt", encoding="utf-8") as lines:
        return [line.split("\t")[1].lower() for line in lines]


def _words(random: np.random.Generator) -> Data:
    """Lines of words, a fifth of them masked: all are to be predicted, most of them can be copied."""
    words = [re.findall(r"\w+|[^\w\s]", sentence) for sentence in _sentences()]
    common = [word for word, _ in Counter(each for line in words for each in line).most_common(VOCABULARY - 2)]
    index = {word: place for place, word in enumerate(common)}
    lines = [line[:LENGTH] for line in words if len(line) >= LENGTH]
    labels = np.array([[index.get(word, VOCABULARY - 2) for word in line] for line in lines])
    labels = labels[random.permutation(len(labels))]
    inputs = np.where(random.random(labels.shape) < 0.2, VOCABULARY - 1, labels)
    return _split(inputs, labels, len(labels) - 120, VOCABULARY)


def _characters(random: np.random.Generator) -> Data:
    """Predict the next character of a line."""
    text = "\n".join(_sentences())
    common = [character for character, _ in Counter(text).most_common(63)]
    index = {character: place for place, character in enumerate(common)}
    codes = np.array([index.get(character, 63) for character in text[: 6000 * 25]]).reshape(-1, 25)
    codes = codes[random.permutation(len(codes))]
    return _split(codes[:, :-1], codes[:, 1:], len(codes) - 100, 64)


def _split(inputs: NDArray[Any], labels: NDArray[Any], train: int, classes: int) -> Data:
    x, y = torch.from_numpy(inputs), torch.from_numpy(labels).long()
    x = x.float() if x.is_floating_point() else x.long()
    return Data((x[:train], y[:train]), (x[train:], y[train:]), classes)
