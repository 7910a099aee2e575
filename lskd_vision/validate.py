"""Score checkpoints on a split: top-1, top-5, class-wise accuracy and loss.

    lskd vision validate runs/DATA/RUN/model_best.pth.tar --data-dir DIR

A checkpoint of ``lskd_vision.train`` knows its model, its data set and how its images were prepared, and the figures go
into its run record; those of other images, or of images prepared otherwise, are printed and go to ``--results-file``.
Any other checkpoint that the teacher may come from is scored too, with ``--model``.
"""

import argparse
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import Dataset

from lskd.io.errors import OneLineParser, input_error, run_command
from lskd.io.files import write_json
from lskd.measure.accuracy import accuracy_figures
from lskd.records.runs import add_to_run
from lskd_vision import options
from lskd_vision.checkpoints import Checkpoint, read_checkpoint
from lskd_vision.class_names import check_classes
from lskd_vision.data import class_names, data_config, fingerprint, load_split
from lskd_vision.evaluate import evaluate
from lskd_vision.loader import Loader
from lskd_vision.models import check_input, rebuild
from lskd_vision.other_order import OtherOrder
from lskd_vision.records import other_images, own_record
from lskd_vision.teacher import what_is_known
from lskd_vision.train import start_processes

logger = logging.getLogger("lskd_vision")
PREPARATION = ("in_chans", "img_size", "input_size", "interpolation", "crop_pct")
DATA = ("dataset", "input_img_mode", "max_pixel_value", "val_split")
CLASSES = ("class_map", "class_order")


@dataclass
class Loaded:
    """A checkpoint's model, and how it wants its images.

    Attributes:
        checkpoint: what the file holds.
        model: in eval mode, frozen, on the CPU.
        class_names: of its outputs, None where nobody knows.
        device: where it is to compute.
    """

    checkpoint: Checkpoint
    model: nn.Module
    class_names: list[str] | None
    device: torch.device


def load(arguments: argparse.Namespace) -> Loaded:
    """The model of ``arguments.checkpoint``; what the command line leaves open about images becomes as in its training.

    Raises:
        InputError: it cannot be loaded, or there is no such device.
    """
    path = arguments.checkpoint
    checkpoint = read_checkpoint(path, "checkpoint", use_ema=arguments.use_ema)
    if arguments.use_ema and not checkpoint.ema:
        raise input_error("--use-ema", path, "has no moving average of the weights")
    model = rebuild(checkpoint, arguments.model, "checkpoint")
    known = what_is_known(checkpoint, "checkpoint")
    # As in training, unless the command line says otherwise; of others' data sets, only how an image becomes an input.
    names = PREPARATION
    if checkpoint.provenance:
        # The order of the classes belongs to the data set, and there is one.
        chosen = any(getattr(arguments, name) for name in ("dataset", *CLASSES))
        names += DATA + CLASSES * (not chosen)
    for name in names:
        if not getattr(arguments, name) and checkpoint.args.get(name):
            setattr(arguments, name, checkpoint.args[name])
    arguments.val_split = arguments.val_split or "validation"
    for name in ("mean", "std"):
        if getattr(arguments, name) is None:
            setattr(arguments, name, known.get(name))
    arguments.batch_size = arguments.validation_batch_size or 256
    return Loaded(checkpoint, model, known.get("class_names"), start_processes(arguments))


def load_images(arguments: argparse.Namespace, loaded: Loaded, split: str) -> tuple[Dataset, list[str], Loader]:
    """A split, the names of its classes, and its images as the model wants them: every one once, in the split's order.

    Raises:
        InputError: no such data, or they do not fit the model.
    """
    model, path = loaded.model, arguments.checkpoint
    data = load_split(arguments, split)
    names = class_names(data)
    if names is None:
        raise input_error("--dataset", arguments.dataset, "must be one that names its classes")
    check_classes(model.num_classes, loaded.class_names, names, "checkpoint", path)
    config = data_config(arguments, model)
    check_input(model, config["input_size"], "checkpoint", path)
    return data, names, Loader(data, config, arguments, loaded.device, training=False)


def main(arguments: argparse.Namespace) -> None:
    """Score the checkpoint, print the figures, and add them to the run's record where they are of its images."""
    path, results = arguments.checkpoint, arguments.results_file
    if results and not results.parent.is_dir():
        raise input_error("--results-file", results, "must be in a directory that exists")
    loaded = load(arguments)
    device = loaded.device
    record = own_record(loaded.checkpoint)  # a broken one is noticed before the work
    split = arguments.split or arguments.val_split
    data, names, batches = load_images(arguments, loaded, split)
    model = loaded.model.to(device)
    order = OtherOrder.of(names)
    models = order.both(model) if order else [model]
    counts, *others = evaluate(models, batches.epoch(0), len(names), arguments, device, len(batches), split)
    figures = accuracy_figures(counts, names)
    print(report(path, split, figures))
    if order and order.explains(counts, *others):
        logger.warning(f"{path} {order.described(counts, *others)}")
    figures |= {"fingerprint": fingerprint(data)}
    if results:
        write_json(results, {"checkpoint": str(path), "split": split, **figures})
    if record is None:
        return
    file, suffix = path.parent / "run.json", "_ema" if loaded.checkpoint.ema else ""
    difference = other_images(record, arguments, split, data, data_config(arguments, model))
    if difference is None and not os.access(path.parent, os.W_OK):
        difference = "the directory cannot be written to"
    if difference:
        print(f"not recorded in {file}: {difference}")
        return
    key = "valid" if split == arguments.val_split else split
    add_to_run(path.parent, key, path.name, {f"{name}{suffix}": value for name, value in figures.items()})
    print(f"recorded in {file}")


def report(path: Path, split: str, figures: dict) -> str:
    """The figures as a table, the classes last."""
    lines = [f"{path}, {split}: {figures['samples']} images"]
    loss = "not finite" if figures["nll_loss"] is None else f"{figures['nll_loss']:.4f} nats"
    lines.append(f"top-1 {figures['top1']:.2f} %   top-5 {figures['top5']:.2f} %   loss {loss}")
    width = max(map(len, figures["classwise"]))
    for name, value in figures["classwise"].items():
        lines.append(f"  {name:<{width}} " + ("no images" if value is None else f"{value:6.2f} %"))
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = OneLineParser(prog="lskd_vision.validate", description=__doc__.split("\n")[0])
    add_options(command)
    command.add_argument("--split", help="which split; the validation split by default")
    command.add_argument("--results-file", type=Path, metavar="FILE", help="also write the figures as JSON")
    return command


def add_options(command: argparse.ArgumentParser, data_required: bool = True) -> None:
    """What :func:`load` and :func:`load_images` read; the second needs the data that ``--data-dir`` names."""
    command.add_argument("checkpoint", type=Path, help="a checkpoint of any origin")
    command.add_argument("--model", help="timm's name, where the checkpoint does not tell")
    command.add_argument("--use-ema", action="store_true", help="the moving average of the weights")
    options.add_data_options(command, data_required)
    command.set_defaults(val_split=None)
    options.add_device_options(command)


if __name__ == "__main__":
    run_command(parser(), main)
