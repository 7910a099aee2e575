"""Record a model's representations of the images of a split: penultimate features, class moments, accuracy, entropy.

    lskd vision representations runs/DATA/RUN/last.pth.tar --data-dir DIR --split train validation

Makes one pass over each split, as ``lskd_vision.validate`` does: evaluation transforms, every image once, in the order
of the split. Writes ``last.train.representations.safetensors`` and so on beside the checkpoint, for the ``lskd``
command.

    lskd vision representations model.safetensors --last-layer-only

needs no images: ``model.last-layer.representations.safetensors`` has the classes and the last layer, whose rows are
their templates, and no sample.
"""

import argparse
from typing import Any

import torch
from tqdm import tqdm

from lskd.io.errors import InputError, help_texts, input_error, run_command
from lskd.measure import representation_command
from lskd.measure.representation_collector import RepresentationCollector
from lskd.measure.representations import write_representations
from lskd.measure.wordnet import imagenet_classes
from lskd.records.fingerprints import weights_fingerprint
from lskd_vision.config_values import flag, spaced
from lskd_vision.data import data_config, fingerprint
from lskd_vision.last_layer import last_layer
from lskd_vision.option_parser import CheckpointParser
from lskd_vision.processes import memory_errors
from lskd_vision.run_record import other_images, own_record, plain
from lskd_vision.teacher import what_is_known
from lskd_vision.validate import Loaded, add_options, load, load_images

LAST_LAYER = "last-layer"  # in place of the split, in the file's name and its provenance
OF_IMAGES = ("data_dir", "split", "keep_classes", "keep_per_class")


def main(arguments: argparse.Namespace) -> None:
    """Record every split, or the last layer alone."""
    representation_command.check_options(arguments)
    if arguments.last_layer_only:
        return record_last_layer(arguments)
    if "data_dir" not in arguments:
        raise InputError("the following arguments are required: --data-dir")
    loaded = load(arguments)
    path, model, config = arguments.checkpoint, loaded.model, loaded.config
    splits = arguments.split or [config.dataset.val_split]
    files = representation_command.output_files(arguments, path, splits)
    data = {split: load_images(loaded, split) for split in splits}
    inputs = data_config(config.input, model)
    if arguments.output is None and (record := own_record(loaded.checkpoint)):
        for split, (dataset, _, _) in data.items():
            if difference := other_images(record, config, split, dataset, inputs):
                valid = f"must be the run's for {files[split].name}, or name another --output: {difference}"
                raise input_error("--data-dir", config.dataset.data_dir, valid)
    last = last_layer(model, inputs["input_size"], path)
    origin = origin_of(loaded, arguments.model)
    chosen = {
        split: representation_command.class_indices(arguments.keep_classes, names)
        for split, (_, names, _) in data.items()
    }
    model.to(config.device.torch_device)
    layer = last.linear.to(config.device.torch_device)
    for split, (dataset, names, batches) in data.items():
        found = representation_command.Recording(names, layer, arguments, chosen[split])
        with torch.inference_mode(), memory_errors("--validation-batch-size", config.validation_batch_size):
            for images, labels in tqdm(batches.epoch(0), split, len(batches), leave=False, unit="batch", disable=None):
                with config.device.autocast():
                    features = last.features(images)
                found.add(features, labels)
        about_data = {
            "path": str(config.dataset.data_dir.resolve()),
            "dataset": config.dataset.dataset or "folders",
            "fingerprint": fingerprint(dataset),
            "preparation": plain(inputs),
        }
        found.write(files[split], representation_command.provenance(**origin, split=split, data=about_data))


def record_last_layer(arguments: argparse.Namespace) -> None:
    """Write the last layer, whose rows are the classes' templates, and the class names.

    Raises:
        InputError: a flag about images is given, or the class names are not known.
    """
    for name in OF_IMAGES:
        if (value := getattr(arguments, name, None)) is not None:
            raise input_error(flag(name), spaced(value), "cannot be used with --last-layer-only, which reads no images")
    path = arguments.checkpoint
    loaded = load(arguments)
    file = representation_command.output_files(arguments, path, [LAST_LAYER])[LAST_LAYER]
    layer = last_layer(loaded.model, data_config(loaded.config.input, loaded.model)["input_size"], path).linear
    names = loaded.class_names or list(imagenet_classes())
    if len(names) != layer.out_features:
        valid = f"does not name its {layer.out_features} classes, as it must unless they are ImageNet-1K's 1000"
        raise input_error("checkpoint", path, valid)
    origin = origin_of(loaded, arguments.model)
    found = RepresentationCollector(names, layer.in_features).result(
        weight=layer.weight.detach().float().numpy(),
        bias=None if layer.bias is None else layer.bias.detach().float().numpy(),
        provenance=representation_command.provenance(**origin, split=LAST_LAYER, data=None) | {"samples": 0},
    )
    write_representations(file, found)
    print(f"{file}: no samples, a last layer of {layer.out_features} classes and {layer.in_features} features")


def origin_of(loaded: Loaded, name: str | None) -> dict[str, Any]:
    """Where the model comes from, as arguments of :func:`lskd.measure.representation_command.provenance`.

    Args:
        loaded: the model.
        name: timm's name of the model, if the command line has it.
    """
    checkpoint = loaded.checkpoint
    known = what_is_known(checkpoint, "checkpoint")
    return {
        "fingerprint": weights_fingerprint(loaded.model.state_dict()),
        "made": checkpoint.provenance,
        "kind": "vision",
        "layer": "penultimate",
        "model": name or checkpoint.arch,
        "checkpoint": checkpoint.path,
        "moving_average": checkpoint.ema,
        "label_smoothing": known.get("label_smoothing"),
        "mixed_labels": known.get("mixed_labels", False),
        "seed": checkpoint.args.get("seed"),
    }


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = CheckpointParser(prog="lskd_vision.representations", **help_texts("CHECKPOINT --data-dir DIR", __doc__))
    add_options(command, data_required=False)
    command.add_argument("--split", nargs="+", help="which splits; the validation split by default")
    command.add_argument(
        "--last-layer-only", action="store_true", help="no images, hence no --data-dir: the classes and the last layer"
    )
    representation_command.add_options(command, temperatures=(1, 2, 3, 64), keep_per_class=None)
    return command


if __name__ == "__main__":
    run_command(parser(), main)
