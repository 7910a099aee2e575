"""Write and read torch.save files. Reading runs no code from the file and takes no more memory than the file's size."""

import os
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from typing import IO, Any, BinaryIO, cast

import torch
from torch import Tensor

from lskd.io.errors import input_error


class CodeError(ValueError):
    """A file holds something that is neither a tensor nor a plain value; loading it would run code."""


class _ErrorKeepingFile:
    """A file wrapper that keeps the first OSError, which torch's C++ writer would turn into another error."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, content: bytes) -> int:
        if self.error is None:
            try:
                self.file.write(content)
            except OSError as error:
                self.error = error
        return len(content)

    def flush(self) -> None:
        """Do nothing: the file is flushed when it is closed."""


def save(content: object, path: str | os.PathLike[str]) -> None:
    """torch.save to a file; the same content gives the same bytes, whatever the file's name.

    Raises:
        OSError: the file cannot be written.
    """
    with open(path, "wb") as file:
        writer = _ErrorKeepingFile(file)
        torch.save(content, cast(IO[bytes], writer))  # torch only calls write and flush
        if writer.error is not None:
            raise writer.error


def count_not_finite(tensor: Tensor) -> int:
    """The number of NaN or infinite values in a tensor of any dtype.

    >>> count_not_finite(torch.tensor([1.0, torch.nan]).to(torch.float8_e4m3fn))
    1
    """
    values = tensor.float() if tensor.element_size() == 1 else tensor  # isfinite() lacks some 8-bit types
    return int((~values.isfinite()).sum())


def check_named_tensors(weights: Mapping[Any, object], argument: str, path: object) -> None:
    """Check that the weights of a checkpoint are tensors by name.

    Args:
        weights: a dictionary from the file.
        argument: the checkpoint's name in error messages.
        path: the file.

    Raises:
        InputError: a name is not a string, or a value not a tensor.
    """
    for name, value in weights.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            found = f"{name!r}: {type(value).__name__}"
            raise input_error(argument, path, f"has {found} among its weights, must be names and tensors only")


def load_plain(path: str | os.PathLike[str], mapped: bool = False) -> Any:
    """Load a file to the CPU; if ``mapped``, weights are memory-mapped, except in torch's old file format.

    Raises:
        OSError: the file cannot be read.
        CodeError: loading it would run code.
        Exception: any kind, if the file is damaged, or claims more than it holds.
    """
    packed = zipfile.is_zipfile(path)
    if packed:
        _check_records(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped and packed)
    except pickle.UnpicklingError as error:
        raise _plain_reason(str(error)) from None
    for tensor in _tensors(content):
        if tensor.device.type == "cpu" and tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise ValueError(f"a tensor of shape {tuple(tensor.shape)} is larger than its stored data")
    return content


def _plain_reason(message: str) -> ValueError:
    """An error for torch's refusal to unpickle, without torch's advice on how to switch the check off."""
    if wanted := re.search(r"GLOBAL (\S+)|unrecognized function (.+?)(?: which|\n|$)", message):
        asks = wanted[1] or wanted[2]
        return CodeError(f"must be plain data and tensors, and asks for {asks}; code from a file is never run")
    reason = message.split("WeightsUnpickler error:")[-1].split("\n\nCheck the documentation")[0].strip()
    return ValueError(reason.splitlines()[-1] if reason else "it is not a pickle")


def _check_records(path: str | os.PathLike[str]) -> None:
    """Reject compressed or overlapping records, which torch.save never writes and which may unpack to any size."""
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
    if any(record.compress_type != zipfile.ZIP_STORED for record in records):
        raise ValueError("a record is compressed, which torch.save never does")
    if sum(record.file_size for record in records) > os.path.getsize(path):
        raise ValueError("records overlap")


def _tensors(content: object) -> Iterator[Tensor]:
    """Yield the tensors in nested dictionaries, lists and tuples."""
    waiting: list[Any] = [content]
    seen: set[int] = set()
    while waiting:
        each = waiting.pop()
        if isinstance(each, Tensor):
            yield each
        elif isinstance(each, (dict, list, tuple)) and id(each) not in seen:
            seen.add(id(each))
            waiting += each.values() if isinstance(each, dict) else each
