"""Read JSON, and values from YAML or checkpoints, into typed classes; a value that does not fit is a one-line error.

The schema of a file is a :class:`msgspec.Struct`. Files are untrusted: NaN, numbers out of range, deep nesting and
unpaired surrogates are errors; unknown fields (of a newer version) are ignored.
"""

import os
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from lskd.io.errors import InputError, input_error

LONGEST_WHOLE = 60  # a longer value is not repeated in an error message about the whole value
LARGEST = 1e15  # a measurement beyond this is a mistake, as are NaN and infinity
# Neither control characters nor others that end lines or change the direction of text.
PATTERNS = (
    r"\A[^\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]*\Z",
    r"\A[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]+\Z",
)

TYPES = {"int": "a whole number", "float": "a number", "str": "text", "bool": "true or false"}
TYPES |= {"object": "an object", "array": "a list"}

Number = Annotated[float, Meta(ge=-LARGEST, le=LARGEST)]
Integer = Annotated[int, Meta(ge=-(10**15), le=10**15)]
Positive = Annotated[float, Meta(gt=0, le=LARGEST)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0, le=2**53)]
# Not in a union with a list or an object: msgspec 0.22.0 would free memory twice, and the process abort at exit.
Text = Annotated[str, Meta(max_length=10_000, pattern=PATTERNS[0])]
Name = Annotated[str, Meta(min_length=1, max_length=10_000, pattern=PATTERNS[1])]  # a single line

T = TypeVar("T")


class Versioned(msgspec.Struct):
    """A file that states the version of its schema."""

    schema_version: Count


def read_json(path: str | os.PathLike[str], kind: type[T]) -> T:
    """Read a JSON file.

    Args:
        path: the file.
        kind: a :class:`msgspec.Struct`, or any type that msgspec decodes.

    Raises:
        InputError: not JSON, or a value of a wrong type or out of range; the message names its path in the file.
        OSError: no such file.
    """
    content = Path(path).read_bytes()
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise _input_error(error, str(path)) from None


def convert(value: object, kind: type[T], where: str, strict: bool = True) -> T:
    """Convert a value that was read from YAML, CSV, a checkpoint or safetensors' metadata to ``kind``.

    Args:
        value: dictionaries, lists, strings and numbers.
        kind: as for :func:`read_json`.
        where: the argument and the file it comes from, for error messages.
        strict: False to convert strings to numbers, as for CSV.

    Raises:
        InputError: a value of a wrong type or out of range.

    >>> convert([1, "a"], list[int], "sets.json")
    Traceback (most recent call last):
    lskd.io.errors.InputError: sets.json: [1] (must be a whole number, not text)
    """
    try:
        return msgspec.convert(value, kind, strict=strict)
    except (msgspec.MsgspecError, RecursionError) as error:
        whole = ascii(value)
        raise _input_error(error, where, whole if len(whole) <= LONGEST_WHOLE else "content") from None


def _input_error(error: Exception, where: str, whole: str = "content") -> InputError:
    """``where: place (what it must be)``, from msgspec's "Expected `int`, got `str` - at `$.rows[0].n`"."""
    if not isinstance(error, msgspec.ValidationError):
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        return input_error("file", where, f"must be JSON: {reason}")
    message, _, place = str(error).replace("`", "").partition(" - at ")
    place = place.removeprefix("key in ").removeprefix("$").removeprefix(".")
    return input_error(where, place or whole, _in_words(message))


def _in_words(message: str) -> str:
    """What a value must be, from msgspec's message about it.

    >>> _in_words("Expected int | null, got str")
    'must be a whole number or null, not text'
    """
    for pattern in PATTERNS:
        message = message.replace(f"str matching regex {pattern!r}", "str without control characters")
    message = message.replace(f">= {-LARGEST}", "of at least -1e15").replace(f"<= {LARGEST}", "of at most 1e15")
    message = message.replace("Object missing required field", "must have the field")
    if not message.startswith("Expected "):
        return message[0].lower() + message[1:]
    expected, _, got = message.removeprefix("Expected ").partition(", got ")
    *first, last = (_type_in_words(each) for each in expected.replace("int | float", "float").split(" | "))
    kinds = f"{', '.join(first)} or {last}" if first else last
    refused = "a decimal number" if got == "float" else _type_in_words(got)
    return f"must be {kinds}" + (f", not {refused}" if got else "")


def _type_in_words(name: str) -> str:
    """A type by msgspec's name, with a condition behind it if there is one."""
    kind, space, condition = name.partition(" ")
    return TYPES.get(kind, kind) + space + condition
