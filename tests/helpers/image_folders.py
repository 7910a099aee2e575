"""Small data sets of a folder per class, from the sample of Fashion-MNIST."""

from pathlib import Path

import fashion_mnist
import numpy as np
from PIL import Image

CLASSES = ("Bag", "Dress", "Sneaker")


def write_folders(root: Path, train: int = 40, validation: int = 8, classes=CLASSES, channels: str = "RGB") -> Path:
    """``root/{train,validation}/CLASS/NNN.{png,jpg}``: so many images of each class, 32x32; every other one a JPEG."""
    with np.load(fashion_mnist.SAMPLE, allow_pickle=False) as sample:
        for split, side, count in (("train", "train", train), ("validation", "test", validation)):
            pixels, labels = sample[f"x_{side}"], sample[f"y_{side}"]
            for name in classes:
                folder = root / split / name
                folder.mkdir(parents=True)
                own = pixels[labels == fashion_mnist.CLASSES.index(name)][:count]
                for number, image in enumerate(own):
                    suffix = "png" if number % 2 or channels == "RGBA" else "jpg"
                    picture = Image.fromarray(image).resize((32, 32)).convert(channels)
                    picture.save(folder / f"{number:03}.{suffix}")
    return root
