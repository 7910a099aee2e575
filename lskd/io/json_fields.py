"""JSON files that may come from anyone: their fields are checked as they are taken, and a wrong one is named."""

import os
from pathlib import Path

from lskd.io.errors import input_error
from lskd.io.files import parse_json

LARGEST = 1e15  # of a figure: beyond, it is a mistake, and NaN and infinity are not within
LONGEST = 10_000  # letters of a text


class Fields:
    """An object of a JSON file.

    Args:
        content: what should be one.
        where: which it is, for messages: the file, and the place in it.

    Raises:
        InputError: it is none.
    """

    def __init__(self, content: object, where: str):
        if not isinstance(content, dict):
            raise input_error("file", where, "must hold a JSON object")
        self.content, self.where = content, where

    def __contains__(self, name: str) -> bool:
        return self.content.get(name) is not None

    def text(self, name: str) -> str | None:
        """A text, None where it is not there; control characters become spaces."""
        value = self.content.get(name)
        return None if value is None else self._text(name, value)

    def needed_text(self, name: str) -> str:
        """A text that has to be there."""
        if not (text := self.text(name)):
            raise input_error(self.where, name, "must be there, a text")
        return text

    def number(self, name: str) -> float | None:
        """A finite number, None where it is not there."""
        value = self.content.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
            raise input_error(self.where, f"{name} = {_short(value)}", "must be a number")
        return value

    def needed_number(self, name: str) -> float:
        """A number that has to be there."""
        if (value := self.number(name)) is None:
            raise input_error(self.where, name, "must be there, a number")
        return value

    def object(self, name: str) -> "Fields":
        """An object in it; an empty one where it is not there."""
        value = self.content.get(name)
        return Fields({} if value is None else value, f"{self.where}, {name}")

    def objects(self, name: str) -> list["Fields"]:
        """A list of objects."""
        return [Fields(each, f"{self.where}, {name} {i}") for i, each in enumerate(self._list(name), start=1)]

    def texts(self, name: str) -> list[str]:
        """A list of texts; none where it is not there."""
        return [self._text(name, each) for each in self._list(name)] if name in self else []

    def _list(self, name: str) -> list:
        value = self.content.get(name)
        if not isinstance(value, list):
            raise input_error(self.where, name, "must be a list")
        return value

    def _text(self, name: str, value: object) -> str:
        if not isinstance(value, str) or len(value) > LONGEST:
            raise input_error(self.where, f"{name} = {_short(value)}", f"must be a text of at most {LONGEST} letters")
        return "".join(letter if letter.isprintable() else " " for letter in value)


def read_fields(path: str | os.PathLike) -> Fields:
    """The object in a JSON file.

    Raises:
        InputError: no JSON, or no object. A file that is not there is an OSError, which names it too.
    """
    try:
        content = parse_json(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise input_error("file", path, f"must be JSON: {error}") from None
    return Fields(content, str(path))


def _short(value: object) -> str:
    """A value for a message."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > LARGEST:
        return "a number too large"
    text = ascii(value) if not isinstance(value, dict | list) else f"a {type(value).__name__}"
    return text if len(text) <= 60 else text[:60] + "…"
