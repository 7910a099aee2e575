"""Record what a model makes of the images of a split: penultimate features, class moments, accuracy, entropy.

    python -m lskd_vision.representations runs/DATA/RUN/last.pth.tar --data-dir DIR --split train validation

For each split one pass, as ``lskd_vision.validate`` makes it: evaluation transforms, every image once, in the split's
order. Beside the checkpoint it leaves ``last.train.representations.safetensors`` and so on, for the ``lskd`` command.
"""

import argparse

import torch
from torch import Tensor, nn
from tqdm import tqdm

from lskd import recording
from lskd.errors import OneLineParser, bad, run_command
from lskd.teacher import weights_fingerprint
from lskd_vision.data import data_config, fingerprint
from lskd_vision.precision import autocast
from lskd_vision.records import plain
from lskd_vision.teacher import what_is_known
from lskd_vision.validate import Loaded, add_options, load, load_images


def penultimate(model: nn.Module, images: Tensor) -> Tensor:
    """(N, d) features that enter the last layer of a timm model."""
    return model.forward_head(model.forward_features(images), pre_logits=True)


@torch.no_grad()
def check_head(model: nn.Module, input_size: tuple[int, int, int], path: object) -> nn.Linear:
    """The last layer of a model on the CPU, which must give the model's logits from :func:`penultimate`.

    Random images show whether it does.

    Raises:
        InputError: it does not.
    """
    images = torch.randn(4, *input_size, generator=torch.Generator().manual_seed(0))
    layer = model.get_classifier()
    try:
        features = penultimate(model, images)
    except TypeError as error:
        raise bad("checkpoint", path, f"is of a model whose last features cannot be had: {error}") from None
    recording.check_last_layer(layer, features, model(images), "checkpoint", path)
    return layer


def main(arguments: argparse.Namespace) -> None:
    """Record every split."""
    recording.check_options(arguments)
    loaded = load(arguments)
    path, model, device = arguments.checkpoint, loaded.model, loaded.device
    splits = arguments.split or [arguments.val_split]
    files = recording.output_files(arguments, path, splits)
    data = {split: load_images(arguments, loaded, split) for split in splits}
    layer = check_head(model, data_config(arguments, model)["input_size"], path)
    origin = {"fingerprint": weights_fingerprint(model.state_dict())} | origin_of(loaded, arguments)
    chosen = {split: recording.class_indices(arguments.keep_classes, names) for split, (_, names, _) in data.items()}
    model.to(device)
    for split, (dataset, names, batches) in data.items():
        found = recording.Recording(names, layer, arguments, chosen[split])
        with torch.inference_mode():
            for images, labels in tqdm(batches.epoch(0), split, len(batches), leave=False, unit="batch", disable=None):
                with autocast(arguments, device):
                    features = penultimate(model, images)
                found.add(features, labels)
        about_data = {
            "path": str(arguments.data_dir.resolve()),
            "dataset": arguments.dataset or "folders",
            "fingerprint": fingerprint(dataset),
            "preparation": plain(data_config(arguments, model)),
        }
        found.write(files[split], recording.provenance(**origin, split=split, data=about_data))


def origin_of(loaded: Loaded, arguments: argparse.Namespace) -> dict:
    """What the checkpoint tells of the model, in the words of :func:`lskd.recording.provenance`."""
    checkpoint = loaded.checkpoint
    return {
        "made": checkpoint.provenance,
        "kind": "vision",
        "layer": "penultimate",
        "model": arguments.model or checkpoint.arch,
        "checkpoint": arguments.checkpoint,
        "moving_average": checkpoint.ema,
        "label_smoothing": what_is_known(checkpoint, "checkpoint").get("label_smoothing"),
        "seed": checkpoint.args.get("seed"),
    }


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = OneLineParser(prog="lskd_vision.representations", description=__doc__.split("\n")[0])
    add_options(command)
    command.add_argument("--split", nargs="+", help="which splits; the validation split by default")
    recording.add_options(command, temperatures=(1, 2, 3, 64), keep_per_class=None)
    return command


if __name__ == "__main__":
    run_command(parser(), main)
