"""Files of torch.save: written so that a full disk is told, read from anyone.

Nothing in a file is run, and it takes no more memory than disk.
"""

import os
import zipfile
from collections.abc import Iterator

import torch
from torch import Tensor


def save(content: object, path: str | os.PathLike) -> None:
    """torch.save to a file.

    Raises:
        OSError: it cannot be written; torch makes a RuntimeError of that, which tells a position instead of the reason.
    """
    with open(path, "wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def load_plain(path: str | os.PathLike, mapped: bool = False) -> object:
    """What is in a file, on the CPU; ``mapped`` weights stay on the disk until they are used, but in the old format.

    Raises:
        OSError: the file cannot be read.
        Exception: of any kind, where it is damaged, would run code, or claims more than it holds.
    """
    packed = zipfile.is_zipfile(path)
    if packed:
        _check_records(path)
    content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped and packed)
    for tensor in _tensors(content):
        if tensor.device.type == "cpu" and tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise ValueError(f"a tensor of shape {tuple(tensor.shape)} is larger than what is stored of it")
    return content


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
