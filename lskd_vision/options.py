"""The flags of ``lskd vision train``: timm's names where timm has the flag.

``--model``, ``--seed``, ``--smoothing``, ``--kd-temperature`` and ``--kd-checkpoint`` take several values: all
combinations are trained in one process. The same names in a YAML file (``--config``) are read as if they came first on
the command line. To add a flag, add a line to :mod:`lskd_vision.training_options`, and a field of the same name with
its default to :mod:`lskd_vision.config`, :mod:`lskd_vision.loss_config` or :mod:`lskd_vision.augmentation_config`:
flags that are not given are not in the namespace.
"""

import argparse
from pathlib import Path
from typing import get_args

from lskd.io.argument_types import number, positive, whole
from lskd.io.errors import help_texts
from lskd_vision import training_options
from lskd_vision.augmentation_config import Interpolation
from lskd_vision.class_order import CLASS_ORDERS
from lskd_vision.image_files import MODES
from lskd_vision.option_parser import TrainingParser, add_group

DESCRIPTION = """Train image classifiers: teachers with label smoothing, students at temperatures.

    lskd vision train DIR --model resnet50 --smoothing 0.1 --amp
    lskd vision train DIR --model resnet18 --amp --kd-checkpoint TEACHER --kd-temperature 1 2 3 --seed 1 2 3

Flags have timm's names where timm has the flag, and the paper's values as defaults. --model, --seed, --smoothing,
--kd-temperature and --kd-checkpoint take several values: all combinations are trained in one process.
"""


def add_data_options(options: argparse.ArgumentParser, required: bool = True) -> None:
    """Add the flags of data and preprocessing, for all commands; with ``required``, --data-dir must be given."""
    group = add_group(options, "data")
    group.add_argument(
        "--data-dir",
        type=Path,
        required=required,
        metavar="DIR",
        help="data set directory; in training also the first positional argument",
    )
    group.add_argument(
        "--dataset",
        help="torchvision's, as torch/fashion_mnist; lskd/arrays for NumPy files; empty for a folder per class",
    )
    group.add_argument("--train-split", help="default train")
    group.add_argument("--val-split", help="default validation")
    order = group.add_mutually_exclusive_group()
    order.add_argument("--class-map", metavar="FILE", help="class names in the order of their labels")
    order.add_argument(
        "--class-order", choices=CLASS_ORDERS, help="of folders: timm's (default) or torchvision's ImageFolder's"
    )
    group.add_argument("--dataset-download", action="store_true", help="let torchvision download the data set")
    group.add_argument("--input-img-mode", choices=MODES, help="PIL mode of the images; from the channels by default")
    group.add_argument(
        "--max-pixel-value",
        type=number(0, above=True),
        metavar="V",
        help="white in grey images of more than 8 bits (default 65535, of float images 1)",
    )
    group.add_argument("--img-size", type=positive, metavar="N", help="height and width; the model's by default")
    group.add_argument("--input-size", type=positive, nargs=3, metavar="N", help="channels, height and width")
    group.add_argument("--in-chans", type=positive, metavar="N", help="input channels; the model's by default")
    group.add_argument("--mean", type=number(0, 1), nargs="+", help="per channel, of 0 to 1; the model's by default")
    group.add_argument(
        "--std", type=number(0, 1, above=True), nargs="+", help="per channel, of 0 to 1; the model's by default"
    )
    group.add_argument(
        "--interpolation", choices=get_args(Interpolation), help="of validation images; the model's by default"
    )
    group.add_argument("--crop-pct", type=number(0, 1, above=True), help="part of a validation image that is kept")
    group.add_argument("-vb", "--validation-batch-size", type=positive, metavar="N", help="as --batch-size by default")
    group.add_argument(
        "-j", "--workers", type=whole, help="loader processes per split (default: 4, or the cores if fewer); 0: none"
    )
    group.add_argument("--pin-mem", action="store_true", help="pin the loader's memory, for GPUs")


def add_device_options(options: argparse.ArgumentParser) -> None:
    """Add the flags of device and precision; shared with ``lskd_vision.validate``."""
    group = add_group(options, "device")
    group.add_argument("--device", help="cuda or cpu; a GPU where there is one by default")
    group.add_argument("--channels-last", action="store_true", help="channels_last memory layout")
    group.add_argument("--amp", action="store_true", help="mixed precision; the loss stays in float32")
    group.add_argument("--amp-dtype", choices=("float16", "bfloat16"), help="default float16")


def parser() -> TrainingParser:
    """The command line of ``lskd_vision.train``."""
    options = TrainingParser(prog="lskd_vision.train", **help_texts("DIR", DESCRIPTION))
    add_data_options(options)
    training_options.add_model_options(options)
    training_options.add_teacher_options(options)
    training_options.add_label_options(options)
    training_options.add_optimiser_options(options)
    training_options.add_schedule_options(options)
    training_options.add_augmentation_options(options)
    add_device_options(options)
    training_options.add_run_options(options)
    return options
