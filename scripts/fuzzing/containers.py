"""How a file is damaged by what is packed in it, so that the reader of the inside is reached too."""

import bz2
import copy
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from argparse import Namespace
from collections.abc import Callable
from random import Random

from fuzzing.mutations import Mutation, change, mangle, mutate_json, mutate_pickles, mutate_safetensors, mutate_text


def mutate(name: str, content: bytes, other: bytes, random: Random) -> bytes:
    """A damaged file.

    Args:
        name: of the file; its suffix says what it is made of.
        content: of a file that is whole.
        other: of another such file.
        random: decides everything.
    """
    by_parts = next((each for suffix, each in FORMATS.items() if name.endswith(suffix)), None)
    if by_parts and random.random() < 0.75:
        try:
            return by_parts(content, other, random)
        except Exception:  # noqa: S110 - a part that an outer damage has broken is damaged byte by byte
            pass
    return mangle(content, other, random)


def mutate_zip(content: bytes, other: bytes, random: Random) -> bytes:
    """A record is changed, renamed, packed, left out or doubled, and the archive made anew with right checksums."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        records = [(info.filename, archive.read(info), info.compress_type) for info in archive.infolist()]
    pickled = [at for at, (name, *_) in enumerate(records) if name.endswith(".pkl")]
    at = random.choice(pickled) if pickled and random.random() < 0.6 else random.randrange(len(records))
    name, data, packing = records[at]
    match random.randrange(12):
        case 0:
            records[at] = random.choice((name + "x", "../x", random.choice(records)[0])), data, packing
        case 1:
            records[at] = name, data, random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
        case 2:
            del records[at]
        case 3:
            records.append(records[at])
        case _:
            records[at] = name, mutate(name, data, random.choice(records)[1], random), packing
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, data, packing in records:
            archive.writestr(zipfile.ZipInfo(name), data, packing)
    return made.getvalue()


def mutate_state(content: bytes, other: bytes, random: Random) -> bytes:
    """What torch.save has written is changed as it is in memory, or the archive is."""
    import torch

    if random.random() < 0.4:
        return mutate_zip(content, other, random)
    torch.serialization.add_safe_globals([Namespace])
    holder = [torch.load(io.BytesIO(content), weights_only=True)]
    change(holder, random)
    made = io.BytesIO()
    torch.save(holder[0], made)
    return made.getvalue()


def mutate_tar(content: bytes, other: bytes, random: Random) -> bytes:
    """A member is changed, renamed, of another type or size, left out or doubled; checksums of headers are right."""
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        members = [(each, archive.extractfile(each).read() if each.isfile() else b"") for each in archive]
    at = random.randrange(len(members))
    member, data = members[at]
    member = copy.copy(member)
    match random.randrange(12):
        case 0:
            member.name = random.choice(
                ("../x", "/x", member.name + "/x", "", "x" * 300, "a\nb", random.choice(members)[0].name)
            )
        case 1:
            member.type = random.choice((b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"S", b"L", b"x", b"g", b"V"))
            member.linkname = random.choice(("", "/etc/passwd", member.name))
        case 2:
            member.size = random.choice((0, 1, 2**30, 2**40, max(0, member.size + random.choice((-1, 1, 512)))))
        case 3:
            member.pax_headers = {
                random.choice(("size", "path", "GNU.sparse.major", "GNU.sparse.size")): random.choice("19x")
            }
        case 4:
            members.append((member, data))
        case _:
            data = mutate(member.name, data, random.choice(members)[1], random)
            member.size = len(data)
    members[at] = member, data
    if random.random() < 0.05:
        del members[at]
    made = io.BytesIO()
    for member, data in members:
        made.write(member.tobuf(random.choice((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)), errors="surrogateescape"))
        made.write(data + bytes(-len(data) % 512))
    return made.getvalue() + bytes(1024)


def mutate_png(content: bytes, other: bytes, random: Random) -> bytes:
    """A chunk is changed, also what is packed in it, and gets its right checksum."""
    chunks, at = [], 8
    while at < len(content):
        (size,) = struct.unpack(">I", content[at : at + 4])
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + size]))
        at += 12 + size
    at = random.randrange(len(chunks))
    kind, data = chunks[at]
    if kind == b"IDAT" and random.random() < 0.7:
        data = zlib.compress(mangle(zlib.decompress(data), data, random))
    elif random.random() < 0.2:
        kind = random.choice((b"PLTE", b"tRNS", b"iCCP", b"zTXt", b"acTL", b"fdAT", b"eXIf"))
    else:
        data = mangle(data, data, random)
    chunks[at] = kind, data
    written = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return content[:8] + written


def mutate_npy(content: bytes, other: bytes, random: Random) -> bytes:
    """The header is changed as text and gets its right length, or the numbers are."""
    (length,) = struct.unpack("<H", content[8:10])
    header, data = content[10 : 10 + length], content[10 + length :]
    if random.random() < 0.7:
        header = mutate_text(header, b"", random)
    else:
        data = mangle(data, data, random)
    return content[:8] + struct.pack("<H", len(header)) + header + data


def packed(unpack: Callable, pack: Callable, inner: str) -> Mutation:
    """The mutation of what is packed: as a file whose name ends in ``inner``."""
    return lambda content, other, random: pack(mutate(inner, unpack(content), b"", random))


def gz(content: bytes) -> bytes:
    """Packed, without the time."""
    return gzip.compress(content, 6, mtime=0)


FORMATS: dict[str, Mutation] = {
    ".tsv.xz": packed(lzma.decompress, lzma.compress, ".tsv"),
    ".tgz": packed(gzip.decompress, gz, ".tar"),
    ".tar.gz": packed(gzip.decompress, gz, ".tar"),
    ".pth.tar": mutate_state,
    ".gz": packed(gzip.decompress, gz, ""),
    ".xz": packed(lzma.decompress, lzma.compress, ".txt"),
    ".bz2": packed(bz2.decompress, bz2.compress, ".txt"),
    ".tar": mutate_tar,
    ".json": mutate_json,
    ".safetensors": mutate_safetensors,
    ".pt": mutate_state,
    ".npz": mutate_zip,
    ".whl": mutate_zip,
    ".npy": mutate_npy,
    ".pkl": mutate_pickles,
    ".pth": mutate_pickles,
    ".png": mutate_png,
} | dict.fromkeys((".txt", ".tsv", ".yaml", ".xml", ".noun", ".exc", ".svg", ".en", ".de"), mutate_text)
