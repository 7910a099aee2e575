"""Read and write IDX files, the format of MNIST and Fashion-MNIST, of bytes: labels, or images of 28x28."""

import gzip
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SIDE = 28
MAX_IMAGES = 100_000  # in one file; the data sets have 60 000


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Read an IDX file of bytes, plain or ``.gz``, with this number of ``dimensions``.

    Raises:
        ValueError: it is not such a file, has more than :data:`MAX_IMAGES` entries, or a size other than its header's.
    """
    with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
        header = file.read(4 + 4 * dimensions)
        if len(header) != 4 + 4 * dimensions or header[:4] != bytes([0, 0, 8, dimensions]):
            raise ValueError(f"must begin as an IDX file of bytes in {dimensions} dimensions")
        shape = struct.unpack(f">{dimensions}I", header[4:])
        if shape[0] > MAX_IMAGES or shape[1:] not in ((), (SIDE, SIDE)):
            raise ValueError(f"must hold at most {MAX_IMAGES} images of {SIDE}x{SIDE}, or labels, not {shape}")
        size = int(np.prod(shape))
        content = file.read(size + 1)
    if len(content) != size:
        raise ValueError(f"must hold {size} bytes after its header")
    return np.frombuffer(content, np.uint8).reshape(shape)


def write_idx(path: Path, array: NDArray[np.uint8]) -> None:
    """Write an array as an IDX file: 0, 0, 8 for bytes, the number of dimensions, the dimensions, the bytes."""
    header = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.tobytes())
