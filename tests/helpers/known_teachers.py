"""Representation files of teachers whose outputs are known, written directly."""

import numpy as np

NAMES = ["Shirt", "Coat", "Pullover", "Sandal", "Boot", "Bag"]
TEACHER = {"model": "resnet10t", "split": "train", "teacher": None}


def logits_of(alpha, samples=240, sharpness=1.0, classes=6):
    """Outputs of a teacher that has learned labels smoothed by α."""
    generator = np.random.default_rng(5)
    labels = np.arange(samples) % classes
    guess = np.exp(generator.normal(-10, 2, (samples, classes)))
    guess[np.arange(samples), labels] = 3
    guess /= guess.sum(1, keepdims=True)
    return sharpness * np.log((1 - alpha) * guess + alpha / classes), labels
