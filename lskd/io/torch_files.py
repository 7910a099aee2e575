"""Files of torch.save. Nothing in those that are read, from anyone, is run, and they take no more memory than disk."""

import os
import pickle
import re
import zipfile
from collections.abc import Iterator
from typing import BinaryIO

import torch
from torch import Tensor


class CodeError(ValueError):
    """A file asks for something that is neither a tensor nor a plain value: to make it would run code."""


class _Kept:
    """A file that takes everything and keeps its first error, of which torch's writer in C++ would make another."""

    def __init__(self, file: BinaryIO):
        self.file, self.error = file, None

    def write(self, content: bytes) -> int:
        if self.error is None:
            try:
                self.file.write(content)
            except OSError as error:
                self.error = error
        return len(content)

    def flush(self) -> None:
        """Nothing: the file is flushed when it is closed."""


def save(content: object, path: str | os.PathLike) -> None:
    """torch.save to a file; the same content gives the same bytes, whatever the file is called.

    Raises:
        OSError: the file cannot be written.
    """
    with open(path, "wb") as file:
        kept = _Kept(file)
        torch.save(content, kept)
        if kept.error is not None:
            raise kept.error


def load_plain(path: str | os.PathLike, mapped: bool = False) -> object:
    """What is in a file, on the CPU; ``mapped`` weights stay on the disk until they are used, but in the old format.

    Raises:
        OSError: the file cannot be read.
        CodeError: it would run code.
        Exception: of any kind, where it is damaged, or claims more than it holds.
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
            raise ValueError(f"a tensor of shape {tuple(tensor.shape)} is larger than what is stored of it")
    return content


def _plain_reason(message: str) -> ValueError:
    """torch's refusal to unpickle without its advice, which is how to switch the check off."""
    if wanted := re.search(r"GLOBAL (\S+)|unrecognized function (.+?)(?: which|\n|$)", message):
        asks = wanted[1] or wanted[2]
        return CodeError(f"must be plain data and tensors, and asks for {asks}; code from a file is never run")
    reason = message.split("WeightsUnpickler error:")[-1].split("\n\nCheck the documentation")[0].strip()
    return ValueError(reason.splitlines()[-1] if reason else "it is no pickle")


def _check_records(path: str | os.PathLike) -> None:
    """torch.save packs nothing: whatever is packed may unpack to anything."""
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
    if any(record.compress_type != zipfile.ZIP_STORED for record in records):
        raise ValueError("a record is compressed, as torch.save does not do it")
    if sum(record.file_size for record in records) > os.path.getsize(path):
        raise ValueError("records that overlap")


def _tensors(content: object) -> Iterator[Tensor]:
    """The tensors in dictionaries and lists within each other, whatever these are nested in."""
    waiting, seen = [content], set()
    while waiting:
        each = waiting.pop()
        if isinstance(each, Tensor):
            yield each
        elif isinstance(each, dict | list | tuple) and id(each) not in seen:
            seen.add(id(each))
            waiting += each.values() if isinstance(each, dict) else each
