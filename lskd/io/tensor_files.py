"""Write tensors to safetensors files atomically, and read them memory-mapped, without executing code."""

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from lskd.io.files import parse_json, replacing

DTYPES = {"F16": np.float16, "F32": np.float32, "F64": np.float64, "I32": np.int32, "I64": np.int64}
DTYPES |= {"U8": np.uint8, "U16": np.uint16, "U32": np.uint32}


def write_tensors(path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
    """Write a safetensors file atomically; the same tensors give the same bytes.

    Args:
        path: the file.
        tensors: tensors of any shapes, by name.
        about: metadata that JSON can hold, as returned by :func:`read_about`.

    Raises:
        OSError: the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    with replacing(path) as beside:
        tensors = {name: np.ascontiguousarray(value, value.dtype.newbyteorder("=")) for name, value in tensors.items()}
        beside.touch()
        permissions = beside.stat().st_mode  # those of a new file; safetensors would let only the owner read it
        try:
            save_file(tensors, beside, {"lskd": json.dumps(about, ensure_ascii=False, allow_nan=False)})
        except SafetensorError as error:  # such as a full disk
            raise OSError(f"{path}: cannot be written: {error}") from None
        beside.chmod(permissions)


def read_about(path: str | os.PathLike[str]) -> Any:
    """Read the metadata that :func:`write_tensors` stored; None if another program wrote the file.

    Raises:
        ValueError: not a safetensors file.
        OSError: it cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            return parse_json((file.metadata() or {}).get("lskd", "null"))
    except SafetensorError as error:
        raise ValueError(str(error)) from None


def mapped_tensors(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file as memory-mapped, read-only arrays.

    Raises:
        ValueError: not a safetensors file, or a tensor of a dtype that is not in :data:`DTYPES`.
        OSError: it cannot be read.
    """
    read_about(path)  # validates the header: no tensor overlaps another or reaches beyond the file
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header: dict[str, Any] = parse_json(file.read(length))
    content = np.memmap(path, np.uint8, "r")  # one map for all tensors, as each map keeps the file open
    tensors: dict[str, np.ndarray] = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if entry["dtype"] not in DTYPES:
            raise ValueError(f"{name} of type {entry['dtype']} (must be of {', '.join(DTYPES)})")
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        tensors[name] = content[begin:end].view(DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors
