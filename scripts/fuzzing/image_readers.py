"""Readers of what image classifiers are made from."""

import argparse
import json
from pathlib import Path

from fuzzing.reader import Reader, below, command

CLASSES = ("Bag", "Dress", "Sneaker")


def image_checkpoints(place: Path, suffix: str = "pth.tar", old: bool = False) -> list[Path]:
    """Of this project and of timm, and images of their classes."""
    import timm
    import torch
    from image_folders import write_folders

    from lskd_vision.checkpoints import _torchvision_names

    _torchvision_names()  # takes seconds, once
    write_folders(place / "images", train=1, validation=1)
    torch.manual_seed(0)
    weights = timm.create_model("test_resnet", num_classes=3).state_dict()
    data = {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]}
    args = {"model": "test_resnet", "dataset": "", "input_size": [3, 32, 32], "crop_pct": 1.0, "model_kwargs": {}}
    args |= {"interpolation": "bicubic", "val_split": "validation", "class_map": "", "img_size": None, "in_chans": None}
    made = {"label_smoothing": 0.1, "kd_weight": 0.0, "temperature": None, "host": {"data_config": data}}
    ours = {"arch": "test_resnet", "args": args, "epoch": 3}
    ours |= {"lskd": {"configuration": made, "data": {"classes": list(CLASSES)}}}
    timms = {"arch": "test_resnet", "args": argparse.Namespace(model="test_resnet", smoothing=0.1, **data)}
    if suffix == "safetensors":
        from safetensors.torch import save_file

        metadata = {name: value if name == "arch" else json.dumps(value) for name, value in ours.items()}
        save_file(weights, place / f"ours.{suffix}", metadata)
        return [place / f"ours.{suffix}"]
    for name, state in (("ours", ours), ("timm", timms)):
        state = state | {"state_dict": weights}
        torch.save(state, place / f"{name}.{suffix}", _use_new_zipfile_serialization=not old)
    return below(place, f"*.{suffix}")


def read_image_checkpoint(place: Path, path: Path) -> None:
    """As a teacher, then to be scored."""
    import torch

    from lskd_vision.teacher import load_teacher

    load_teacher(None, path, list(CLASSES), [(3, 32, 32)], torch.device("cpu"))
    command("lskd_vision.validate", path, "--data-dir", place / "images", "--workers", 0, "--device", "cpu")


def images(place: Path) -> list[Path]:
    """A folder for each class, JPEG and PNG, and a list of the classes."""
    image_checkpoints(place)
    (place / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    return [*below(place / "images" / "validation", "*.*g"), place / "classes.txt"]


def read_images(place: Path, path: Path) -> None:
    """Score a good checkpoint on them."""
    words = ["--data-dir", place / "images", "--workers", 0, "--device", "cpu", "--class-map", place / "classes.txt"]
    command("lskd_vision.validate", place / "ours.pth.tar", *words)


def configs(place: Path) -> list[Path]:
    """Options of a training."""
    text = "model: [resnet18, resnet34]\nkd_temperature: 1\nkd-model-name: resnet50\namp: true\nlr: 0.1\nmean: [0.5]\n"
    (place / "options.yaml").write_text(text + "model_kwargs: {drop_rate: 0.1}\ninput_size: [3, 32, 32]\naa: null\n")
    return [place / "options.yaml"]


def read_config(place: Path, path: Path) -> None:
    """Parse the options."""
    from lskd_vision.options import parser

    parser().parse_args(["--data-dir", str(place), "--config", str(path)])


READERS = {
    "image-checkpoint": Reader(image_checkpoints, read_image_checkpoint),
    "image-checkpoint-old": Reader(lambda place: image_checkpoints(place, "pth", old=True), read_image_checkpoint),
    "image-safetensors": Reader(lambda place: image_checkpoints(place, "safetensors"), read_image_checkpoint),
    "images": Reader(images, read_images),
    "training-options": Reader(configs, read_config),
}
