"""Write the weights that torchvision publishes for a network to a file, to start a training from.

    python data_prep/torchvision_weights.py --model mobilenet_v2 --weights IMAGENET1K_V1 --dest models/mobilenet_v2.pth
    lskd vision train --model mobilenetv2_100 --initial-checkpoint models/mobilenet_v2.pth …

timm's own weights of a network with the same name may be from another recipe. torch keeps downloads in its cache
($TORCH_HOME) and reads them from there the next time.
"""

import argparse
import contextlib
import difflib
import http.client
import pickle
import sys
from pathlib import Path
from typing import Any

from lskd.io.errors import OneLineParser, input_error, run_command
from lskd.io.files import replacing, sha256


def published(model: str, weights: str) -> Any:
    """torchvision's ``WeightsEnum`` entry for these weights of a classification network.

    Raises:
        InputError: torchvision is not installed, or has no such network or weights.
    """
    try:
        import torchvision
    except ImportError as error:
        raise input_error("--model", model, f"needs the package torchvision: {error}") from None
    networks = torchvision.models.list_models(module=torchvision.models)
    if model not in networks:
        near = difflib.get_close_matches(model, networks, n=5)
        valid = f"perhaps {', '.join(near)}" if near else f"one of {', '.join(networks)}"
        raise input_error("--model", model, f"must be a classification network of torchvision, {valid}")
    entries = torchvision.models.get_model_weights(model).__members__
    if weights not in entries:
        raise input_error("--weights", weights, f"torchvision has {', '.join(entries)} of {model}")
    return entries[weights]


def main(arguments: argparse.Namespace) -> None:
    """Download the weights, unless they are in torch's cache, and write the file."""
    dest = arguments.dest
    if dest.suffix != ".pth":
        raise input_error("--dest", dest, "must end in .pth")
    entry = published(arguments.model, arguments.weights)
    from lskd.io import torch_files

    try:
        with contextlib.redirect_stdout(sys.stderr):  # torch prints what it downloads
            state = entry.get_state_dict(
                check_hash=True, weights_only=True, map_location="cpu", progress=sys.stderr.isatty()
            )
    except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError, http.client.HTTPException) as error:
        raise input_error("--weights", entry, f"cannot be downloaded, or read from torch's cache: {error}") from None
    dest.parent.mkdir(parents=True, exist_ok=True)
    with replacing(dest) as beside:
        torch_files.save(dict(state), beside)
    print(f"{dest}: torchvision's {entry}, {len(state)} tensors, SHA-256 {sha256(dest)}")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = OneLineParser(prog=Path(sys.argv[0]).name, description=__doc__.split("\n")[0])
    options.add_argument("--model", required=True, help="torchvision's name of the network, such as mobilenet_v2")
    options.add_argument("--weights", required=True, help="torchvision's name of the weights, such as IMAGENET1K_V1")
    options.add_argument("--dest", type=Path, required=True, metavar="FILE.pth", help="file to write")
    return options


if __name__ == "__main__":
    run_command(parser(), main)
