"""Hypothesis strategies that damage a whole file: as bytes, as text, as JSON, as safetensors."""

import copy
import json
import struct
from collections.abc import Iterator

from hypothesis import strategies as st

SCALARS = [None, True, False, 0, -1, 0.5, 2**63, 1e308, float("nan"), float("inf"), "", "a", "\0", "\ud800", "../x"]
VALUES = [*SCALARS, "9" * 5000, [], {}, [[]], [1, "a", None], {"": ""}, {"a": {"b": 1}}, [[[[[[[[]]]]]]]]]
WORDS = [
    b"",
    b"0",
    b"-1",
    b"1e400",
    b"nan",
    b"null",
    b"9" * 5000,
    b"\t",
    b"\n",
    b"\r\n",
    b"\0",
    b"\xff\xfe",
    b"[" * 3000,
]
WORDS += [
    b"\xef\xbb\xbf",
    b"\xc3\x28",
    b"{",
    b"}",
    b":",
    b"- ",
    b"&a ",
    b"*a",
    b"!!python/object/apply:os.system ['true']",
]


@st.composite
def damaged(draw: st.DrawFn, name: str, whole: bytes) -> bytes:
    """Content of a file called ``name`` that was ``whole`` once.

    Most of the damage leaves the format intact, so that it reaches what reads the content.
    """
    how = [damaged_bytes, damaged_words]
    if name.endswith(".json"):
        how = [damaged_json, damaged_json, damaged_json, damaged_words]
    elif name.endswith(".safetensors"):
        how = [damaged_safetensors, damaged_safetensors, damaged_bytes]
    elif name.endswith((".yaml", ".txt", ".csv")):
        how = [damaged_words]
    return draw(draw(st.sampled_from(how))(whole))


@st.composite
def damaged_bytes(draw: st.DrawFn, whole: bytes) -> bytes:
    """Bytes overwritten, put in, taken out, or cut off."""
    at, length = draw(st.integers(0, len(whole))), draw(st.sampled_from([0, 1, 4, 8, 64]))
    new = draw(st.one_of(st.binary(max_size=8), st.just(b"\xff" * length), st.just(b"\0" * length)))
    rest = draw(st.sampled_from([whole[at + length :], whole[at + len(new) :], b""]))
    return whole[:at] + new + rest


@st.composite
def damaged_words(draw: st.DrawFn, whole: bytes) -> bytes:
    """A word is replaced, doubled or left out."""
    words = whole.split(b" ") if draw(st.booleans()) else whole.splitlines(keepends=True)
    at = draw(st.integers(0, max(0, len(words) - 1)))
    words[at : at + 1] = draw(st.sampled_from([[draw(st.sampled_from(WORDS))], words[at : at + 1] * 2, []]))
    return (b" " if b" " in whole else b"").join(words)


@st.composite
def damaged_json(draw: st.DrawFn, whole: bytes) -> bytes:
    """One or two values of the document become others, of any type, or are left out."""
    holder = [json.loads(whole)]
    for _ in range(draw(st.integers(1, 2))):
        places = list(_places(holder))
        place, key = draw(st.sampled_from(places))
        if draw(st.integers(0, 5)) == 0 and place is not holder:
            del place[key]
        elif isinstance(place[key], str) and place[key].startswith(
            "{"
        ):  # JSON within JSON, as in safetensors' metadata
            place[key] = draw(damaged_json(place[key].encode())).decode("utf-8", "replace")
        else:
            other = draw(st.sampled_from(places))
            place[key] = copy.deepcopy(draw(st.sampled_from([*VALUES, other[0][other[1]]])))
    return json.dumps(holder[0]).encode()


def _places(value: object) -> Iterator[tuple[list | dict, object]]:
    """Every place of a document, as the list or dictionary that it is in, and its key there."""
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from _places(value[key])


@st.composite
def damaged_safetensors(draw: st.DrawFn, whole: bytes) -> bytes:
    """The header is damaged as JSON and gets its right length, or the numbers are."""
    length = int.from_bytes(whole[:8], "little")
    header, numbers = whole[8 : 8 + length], whole[8 + length :]
    if draw(st.integers(0, 3)):
        header = draw(damaged_json(header))
    else:
        numbers = draw(damaged_bytes(numbers))
    return struct.pack("<Q", len(header)) + header + numbers
