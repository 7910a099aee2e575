"""How `fuzz.py` damages a file: byte by byte, as text, as JSON, as tensors, as pickles."""

import copy
import io
import json
import pickle
import pickletools
import re
import struct
from argparse import Namespace
from collections.abc import Callable
from random import Random

NUMBERS = (0, 1, -1, 2, 7, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1)
VALUES = (None, True, False, 0, -1, 1, 0.5, 2**31, 2**63, 10**30, 1e308, -1e-308, float("nan"), float("inf"), "", "a")
VALUES += (
    "\n",
    "\0",
    "\ud800",
    "../x",
    "/etc/passwd",
    "ä€𝄞",
    "1",
    "nan",
    [],
    {},
    [[]],
    [1, "a", None],
    {"a": {"b": 1}},
)
VALUES += (
    "hf-hub:a/b",
    "local-dir:/etc",
    "torch/mnist",
    "hfds/a/b",
    [[[[[[[[]]]]]]]],
    "x" * 20_000,
    "9" * 5000,
    [0] * 1000,
    {"": ""},
    [None],
    "<svg",
    "last",
    "valid",
)
WORDS = (b"", b"0", b"-1", b"1e400", b"nan", b"Infinity", b"9" * 5000, b"99999999999", b"null", b"true", b'""', b"\t")
WORDS += (
    b"\n",
    b"\r\n",
    b"\0",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\xc3\x28",
    "é\u2028".encode(),
    b"[",
    b"[" * 3000,
    b"}",
    b":",
)
WORDS += (
    b"- ",
    b"  ",
    b"&a ",
    b"*a",
    b"<<: *a",
    b"!!python/object/apply:os.system ['true']",
    b"!!binary x",
    b"? ",
    b"|",
)
WORDS += (
    b"#fairseq:overwrite",
    b"@0000 0",
    b"../../x",
    b"<seg",
    b"</seg>",
    b"&#99999999;",
    b"{" * 3000,
    b"n99999999",
    b"%",
)
CODE = b"cposix\nsystem\nX\x04\x00\x00\x00true\x85R0"  # a pickle that runs a program

Mutation = Callable[[bytes, bytes, Random], bytes]


def mangle(content: bytes, other: bytes, random: Random) -> bytes:
    """Bytes flipped, overwritten, put in, taken out, doubled, cut off, or of another file from somewhere on."""
    data = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 2, 4, 16))):
        at, length = _place(len(data), random), random.choice((1, 1, 2, 4, 8, 64, 1024))
        match random.randrange(8):
            case 0 if data:
                data[min(at, len(data) - 1)] ^= 1 << random.randrange(8)
            case 1 if data:
                data[min(at, len(data) - 1)] = random.choice((0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)))
            case 2 | 3:
                number = random.choice(NUMBERS) + random.choice((0, 0, 1, -1))
                size = random.choice((1, 2, 4, 8))
                data[at : at + size] = (number % 256**size).to_bytes(size, random.choice(("little", "big")))
            case 4:
                data[at:at] = random.choice((random.randbytes(length), bytes(length), data[at : at + length]))
            case 5:
                del data[at : at + length]
            case 6 if random.random() < 0.5:
                del data[at:]
            case 7 if random.random() < 0.5:
                data[at:] = other[_place(len(other), random) :]
            case _:
                data[at : at + length] = random.choice((b"\xff", b"\0")) * length
    return bytes(data)


def _place(size: int, random: Random) -> int:
    """Anywhere, but half of the time near the beginning or the end, where headers and directories are."""
    near = random.randrange(min(size, 512) + 1)
    return random.choice((random.randrange(size + 1), random.randrange(size + 1), near, size - near))


def mutate_text(content: bytes, other: bytes, random: Random) -> bytes:
    """A word or a line is replaced, doubled, left out, or exchanged with another one."""
    parts = re.split(rb"(\n)" if random.random() < 0.4 else rb"([^\w.+-]+)", content)
    for _ in range(random.choice((1, 1, 2, 4))):
        one, two = random.randrange(len(parts)), random.randrange(len(parts))
        match random.randrange(5):
            case 0 | 1:
                parts[one] = random.choice(WORDS)
            case 2:
                parts[one] += random.choice((parts[one], parts[two], random.choice(WORDS)))
            case 3:
                parts[one] = b""
            case 4:
                parts[one], parts[two] = parts[two], parts[one]
    return b"".join(parts)


def mutate_json(content: bytes, other: bytes, random: Random) -> bytes:
    """A value becomes another one, of any type, or is left out; a text that is JSON is changed as such."""
    if random.random() < 0.1:
        return mutate_text(content, other, random)
    holder = [json.loads(content)]
    change(holder, random)
    return json.dumps(holder[0], ensure_ascii=random.random() < 0.7).encode("utf-8", "surrogatepass")


def change(holder: list, random: Random) -> None:
    """Change what is in a list: dictionaries, lists and namespaces within each other, and seldom their tensors."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        places = list(_places(holder))
        if random.random() < 0.9:
            places = [(place, key) for place, key in places if not hasattr(place[key], "shape")]
        place, key = random.choice(places)
        value = place[key]
        choice = random.randrange(6)
        if isinstance(value, str) and value[:1] in "{[" and value and random.random() < 0.8:
            place[key] = mutate_json(value.encode(), b"[]", random).decode("utf-8", "replace")
        elif choice == 0 and place is not holder:
            del place[key]
        elif choice == 1:
            from_where, which = random.choice(places)
            place[key] = copy.deepcopy(from_where[which])
        elif choice == 2 and isinstance(value, int | float):
            place[key] = random.choice((-value, value + 1, value * 1000, float(value), str(value), bool(value)))
        elif choice == 3 and isinstance(value, list | dict) and value:
            if isinstance(value, list):
                value.insert(random.randrange(len(value) + 1), copy.deepcopy(random.choice(value + list(VALUES))))
            else:
                value[random.choice(("", "a", "\n", *value))] = copy.deepcopy(random.choice(VALUES))
        else:
            place[key] = copy.deepcopy(random.choice(VALUES))


def _places(holder: list | dict):
    waiting = [holder]
    while waiting:
        each = waiting.pop()
        for key in list(each) if isinstance(each, dict) else range(len(each)):
            yield each, key
            if isinstance(each[key], list | dict):
                waiting.append(each[key])
            elif isinstance(each[key], Namespace):
                waiting.append(vars(each[key]))


def mutate_safetensors(content: bytes, other: bytes, random: Random) -> bytes:
    """The header is changed as JSON and gets its right length, or the numbers are."""
    length = int.from_bytes(content[:8], "little")
    header, data = content[8 : 8 + length], content[8 + length :]
    if random.random() < 0.7:
        header = mutate_json(header, b"{}", random)
    else:
        data = mangle(data, data, random)
    return struct.pack("<Q", len(header)) + header + data


def mutate_pickles(content: bytes, other: bytes, random: Random) -> bytes:
    """An instruction of one of the pickles in a row is changed, doubled, left out or exchanged, or runs a program."""
    stream, pickles = io.BytesIO(content), []
    while True:
        begin = stream.tell()
        try:
            starts = [at for _, _, at in pickletools.genops(stream)]
        except Exception:
            break
        ends = [*starts[1:], stream.tell()]
        pickles.append([content[a:b] for a, b in zip(starts, ends, strict=True)])
    rest = content[begin:]
    if random.random() < 0.3 * bool(rest):
        return content[:begin] + mangle(rest, rest, random)
    for _ in range(random.choice((1, 1, 2, 4))):
        steps = random.choice(pickles)
        one, two = random.randrange(len(steps)), random.randrange(len(steps))
        match random.randrange(7):
            case 0:
                steps[one], steps[two] = steps[two], steps[one]
            case 1:
                steps[one] = b""
            case 2:
                steps[one] += steps[two]
            case 3:
                steps[one] = pickle.dumps(random.choice(VALUES[:20]), 2)[2:-1]
            case 4:
                steps[one] += CODE
            case _:
                numbers = [at for at, step in enumerate(steps) if step[:1] in b"KMJX\x8a" and len(step) > 1]
                one = random.choice(numbers or [one])
                steps[one] = steps[one][:1] + mangle(steps[one][1:], b"", random)[: len(steps[one]) - 1]
    return b"".join(step for steps in pickles for step in steps) + rest
