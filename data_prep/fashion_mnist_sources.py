"""Where Fashion-MNIST can be read from: the shipped sample, IDX files, Debian's package, torchvision's download."""

import http.client
import re
import zlib
from pathlib import Path

import numpy as np
from debian import download, files_in_package
from idx import SIDE, read_idx
from numpy.typing import NDArray

from lskd.io.errors import file_error_context, input_error
from lskd.io.files import sha256

CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
RAW = Path("FashionMNIST") / "raw"
FILES = {  # by the names of their arrays in the sample
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}
PACKAGE = "dataset-fashion-mnist"

Arrays = dict[str, NDArray[np.uint8]]


def check(arrays: Arrays, argument: str, value: object) -> Arrays:
    """Check that arrays are ``x_train``, ``y_train``, ``x_test`` and ``y_test`` of this data set, and return them.

    Images are uint8, (N, 28, 28); labels are uint8, (N,), from 0 to 9; N is at least 1.

    Raises:
        InputError: they are not; it names ``argument`` and its ``value``.
    """
    for split in ("train", "test"):
        images, labels = (arrays.get(f"{kind}_{split}") for kind in "xy")
        if not isinstance(images, np.ndarray) or not isinstance(labels, np.ndarray):  # others are bytes in an .npz
            raise input_error(argument, value, f"must hold the arrays {', '.join(FILES)}")
        if images.dtype != np.uint8 or images.shape[1:] != (SIDE, SIDE):
            found = f"{split} images are {images.dtype} {images.shape}"
            raise input_error(argument, value, f"{found}, not uint8 of shape Nx{SIDE}x{SIDE}")
        if labels.dtype != np.uint8 or labels.shape != images.shape[:1] or not len(labels):
            found = f"{split} labels are {labels.dtype} {labels.shape}"
            raise input_error(argument, value, f"{found}, not uint8, one for each of {len(images)} images, above 0")
        if labels.max() >= len(CLASSES):
            raise input_error(argument, value, f"{split} labels go up to {labels.max()}, above {len(CLASSES) - 1}")
    return arrays


def read_sample(path: Path) -> Arrays:
    """Read and check the arrays of an ``.npz`` file (see :func:`check`).

    Raises:
        InputError: the file is not such a sample.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in FILES if name in file}
    except Exception as error:  # numpy raises errors of any type for an invalid file
        raise input_error("sample", path, f"cannot be read: {error}") from None
    return check(arrays, "sample", path)


def idx_files(directory: Path, source: str) -> dict[str, Path]:
    """The four IDX files in ``directory``, each plain or ``.gz``, by the names of their arrays.

    Raises:
        InputError: a file is missing; it names the ``source``.
    """
    found = {}
    for name, file in FILES.items():
        paths = [path for path in (directory / file, directory / f"{file}.gz") if path.is_file()]
        if not paths:
            options = "sample, debian, torchvision, or a directory with the four IDX files, plain or .gz"
            raise input_error("--source", source, f"has no {file}; must be {options}")
        found[name] = paths[0]
    return found


def read_files(directory: Path, source: str) -> Arrays:
    """Read and check the arrays of the four IDX files in ``directory`` (see :func:`check`).

    Raises:
        InputError: a file is missing or invalid; it names the ``source``.
    """
    arrays = {}
    for name, path in idx_files(directory, source).items():
        try:
            arrays[name] = read_idx(path, 3 if name.startswith("x") else 1)
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise input_error("--source", source, f"{path.name} cannot be read: {error}") from None
    return check(arrays, "--source", source)


def fetch_from_debian(scratch: Path) -> dict[str, str]:
    """Download Debian's package with ``apt-get`` and write its four IDX files, and no others, to ``scratch``.

    Returns:
        The ``package``, as its file is named, and its ``sha256``.

    Raises:
        InputError: ``apt-get`` or ``dpkg-deb`` is missing or fails, or the package is damaged.
    """
    option = "--source debian"
    (package,) = download([PACKAGE], scratch, option)
    wanted = re.compile(rf"usr/share/datasets/fashion-mnist/(?:{'|'.join(FILES.values())})(?:\.gz)?")
    for path, content in files_in_package(package, wanted, option):
        file = scratch / Path(path).name
        with file_error_context(file):
            file.write_bytes(content)
    return {"package": package.name, "sha256": sha256(package)}


def fetch_with_torchvision(scratch: Path) -> dict[str, str]:
    """Let torchvision download the four IDX files to ``scratch``; it checks their MD5 sums.

    Returns:
        The version of ``torchvision``.

    Raises:
        InputError: torchvision is not installed, or cannot download them.
    """
    try:
        import torchvision
    except ImportError as error:
        raise input_error("--source", "torchvision", f"needs the package torchvision: {error}") from None
    try:
        torchvision.datasets.FashionMNIST(scratch, download=True)
    except (OSError, RuntimeError, ValueError, http.client.HTTPException) as error:
        raise input_error("--source", "torchvision", f"cannot be downloaded: {error}") from None
    for path in (scratch / RAW).iterdir():
        path.rename(scratch / path.name)
    return {"torchvision": torchvision.__version__}


FETCH = {"debian": fetch_from_debian, "torchvision": fetch_with_torchvision}
