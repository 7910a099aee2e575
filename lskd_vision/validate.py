"""Score checkpoints on a split: top-1, top-5, class-wise accuracy and loss.

    lskd vision validate runs/DATA/RUN/model_best.pth.tar --data-dir DIR

A checkpoint of ``lskd_vision.train`` names its model, its data set and the preprocessing of its images, and the results
are added to its run record; those of other images, or with other preprocessing, are only printed and written to
``--results-file``. Any other checkpoint that can be a teacher is scored too, with ``--model``.
"""

import argparse
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lskd.io.argument_types import output_file
from lskd.io.errors import help_texts, input_error, run_command
from lskd.io.files import write_json
from lskd.measure.accuracy import accuracy_metrics
from lskd.records.runs import add_to_run
from lskd_vision import options
from lskd_vision.checkpoints import Checkpoint, read_checkpoint
from lskd_vision.class_names import check_classes
from lskd_vision.command_line import evaluation_config
from lskd_vision.config import EvaluationConfig
from lskd_vision.data import Split, class_names, data_config, fingerprint, load_split
from lskd_vision.evaluate import evaluate
from lskd_vision.loader import Loader
from lskd_vision.models import check_input, rebuild
from lskd_vision.option_parser import CheckpointParser
from lskd_vision.other_order import OtherOrder
from lskd_vision.processes import memory_errors, start_processes
from lskd_vision.run_record import other_images, own_record
from lskd_vision.teacher import what_is_known
from lskd_vision.timm_model import TimmModel

logger = logging.getLogger("lskd_vision")
# What a checkpoint's training decides unless the command line does.
FROM_TRAINING = ("in_chans", "img_size", "input_size", "interpolation", "crop_pct")
DATA = ("dataset", "input_img_mode", "max_pixel_value", "val_split")
CLASSES = ("class_map", "class_order")


@dataclass(frozen=True)
class Loaded:
    """A checkpoint's model, and how its images are loaded.

    Attributes:
        checkpoint: what the file holds.
        model: in eval mode, frozen, on the CPU.
        class_names: the names of its outputs; None if they are not known.
        config: for its evaluation, on this process's device.
    """

    checkpoint: Checkpoint
    model: TimmModel
    class_names: list[str] | None
    config: EvaluationConfig


def load(arguments: argparse.Namespace) -> Loaded:
    """Load the model of ``arguments.checkpoint``; images are preprocessed as in its training unless flags differ.

    Raises:
        InputError: it cannot be loaded, or there is no such device.
    """
    path, given = arguments.checkpoint, vars(arguments)
    checkpoint = read_checkpoint(path, "checkpoint", use_ema=arguments.use_ema)
    if arguments.use_ema and not checkpoint.ema:
        raise input_error("--use-ema", path, "has no moving average of the weights")
    model = rebuild(checkpoint, arguments.model, "checkpoint")
    known = what_is_known(checkpoint, "checkpoint")
    names: tuple[str, ...] = FROM_TRAINING  # all that is taken from another program's training
    if checkpoint.provenance:
        # The order of the classes belongs to the data set, and only one of the two flags may give it.
        chosen = any(given.get(name) for name in ("dataset", *CLASSES))
        names += DATA + CLASSES * (not chosen)
    trained = {name: value for name in names if (value := checkpoint.args.get(name)) and not given.get(name)}
    trained |= {name: known[name] for name in ("mean", "std") if name in known and name not in given}
    config = evaluation_config(given | trained)
    device, processes = start_processes(config.device)
    return Loaded(checkpoint, model, known.get("class_names"), replace(config, device=device, processes=processes))


def load_images(loaded: Loaded, split: str) -> tuple[Split, list[str], Loader]:
    """Load a split, its class names, and its images preprocessed for the model: each once, in the split's order.

    Raises:
        InputError: no such data, or they do not fit the model.
    """
    model, path, config = loaded.model, loaded.checkpoint.path, loaded.config
    data = load_split(config.dataset, split)
    names = class_names(data)
    if names is None:
        raise input_error("--dataset", config.dataset.dataset, "must be one that names its classes")
    check_classes(model.num_classes, loaded.class_names, names, "checkpoint", path)
    inputs = data_config(config.input, model)
    check_input(model, inputs["input_size"], "checkpoint", path)
    return data, names, Loader.for_evaluation(data, inputs, config)


def main(arguments: argparse.Namespace) -> None:
    """Score the checkpoint, print the results, and add them to the run's record if the images are the run's."""
    path, results = arguments.checkpoint, arguments.results_file
    loaded = load(arguments)
    config = loaded.config
    record = own_record(loaded.checkpoint)  # a broken one is reported before the work
    split = arguments.split or config.dataset.val_split
    data, names, batches = load_images(loaded, split)
    model = loaded.model.to(config.device.torch_device)
    order = OtherOrder.of(names)
    models = order.both(model) if order else [model]
    with memory_errors("--validation-batch-size", config.validation_batch_size):
        counts, *others = evaluate(models, batches.epoch(0), len(names), config.device, len(batches), split)
    metrics = accuracy_metrics(counts, names)
    print(scores_text(path, split, metrics))
    if order and order.explains(counts, *others):
        logger.warning(f"{path} {order.described(counts, *others)}")
    metrics |= {"fingerprint": fingerprint(data)}
    if results:
        write_json(results, {"checkpoint": str(path), "split": split, **metrics})
    file = path.parent / "run.json"
    if record is None:
        if file.exists():
            print(f"not recorded in {file}: it belongs to another training run than {path.name}")
        return
    suffix = "_ema" if loaded.checkpoint.ema else ""
    difference = other_images(record, config, split, data, data_config(config.input, model))
    if difference is None and not os.access(path.parent, os.W_OK):
        difference = "the directory cannot be written to"
    if difference:
        print(f"not recorded in {file}: {difference}")
        return
    key = "valid" if split == config.dataset.val_split else split
    add_to_run(path.parent, key, path.name, {f"{name}{suffix}": value for name, value in metrics.items()})
    print(f"recorded in {file}")


def scores_text(path: Path, split: str, metrics: Mapping[str, Any]) -> str:
    """The results as a table, the classes last."""
    lines = [f"{path}, {split}: {metrics['samples']} images"]
    loss = "not finite" if metrics["nll_loss"] is None else f"{metrics['nll_loss']:.4f} nats"
    lines.append(f"top-1 {metrics['top1']:.2f} %   top-5 {metrics['top5']:.2f} %   loss {loss}")
    width = max(map(len, metrics["classwise"]))
    for name, value in metrics["classwise"].items():
        lines.append(f"  {name:<{width}} " + ("no images" if value is None else f"{value:6.2f} %"))
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = CheckpointParser(prog="lskd_vision.validate", **help_texts("CHECKPOINT --data-dir DIR", __doc__))
    add_options(command)
    command.add_argument("--split", help="which split; the validation split by default")
    command.add_argument(
        "--results-file", type=output_file(".json"), metavar="FILE.json", help="also write the results"
    )
    return command


def add_options(command: argparse.ArgumentParser, data_required: bool = True) -> None:
    """Add the flags of :func:`load` and :func:`load_images`; the latter needs ``--data-dir``."""
    add_checkpoint(command)
    options.add_data_options(command, data_required)
    options.add_device_options(command)


def add_checkpoint(command: argparse.ArgumentParser) -> None:
    """Add a checkpoint, and the flags on how it is read."""
    command.add_argument("checkpoint", type=Path, help="a checkpoint of any origin")
    command.add_argument("--model", help="timm's name, if the checkpoint does not record it")
    command.add_argument("--use-ema", action="store_true", help="the moving average of the weights")


if __name__ == "__main__":
    run_command(parser(), main)
