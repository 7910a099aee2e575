"""The order of class names, which determines their labels: timm's natural sort or torchvision's plain sort."""

import re
from collections.abc import Callable, Iterable
from typing import Literal

DIGITS = re.compile(r"(\d+)")


def natural_key(name: str) -> list[str | int]:
    """timm's sort key for names: lower case, with runs of digits as numbers.

    timm's own function fails on digits that are not decimal, such as "5²".

    >>> natural_key("Img12.png")
    ['img', 12, '.png']
    """
    parts: list[str | int] = list(DIGITS.split(name.lower()))
    parts[1::2] = map(int, parts[1::2])
    return parts


def natural_order(names: Iterable[str]) -> list[str]:
    """Sort names as timm does; names that differ only in case by code point.

    timm leaves such ties to the iteration order of a set, which differs from process to process.

    >>> natural_order(["b10", "B2", "b2", "a"])
    ['a', 'B2', 'b2', 'b10']
    """
    return sorted(names, key=lambda name: (natural_key(name), name))


def torchvision_order(names: Iterable[str]) -> list[str]:
    """Sort names as torchvision's ``ImageFolder`` does: by code point.

    >>> torchvision_order(["b10", "B2", "b2", "a"])
    ['B2', 'a', 'b10', 'b2']
    """
    return sorted(names)


ClassOrder = Literal["natural", "torchvision"]
CLASS_ORDERS: dict[ClassOrder, Callable[[Iterable[str]], list[str]]] = {
    "natural": natural_order,
    "torchvision": torchvision_order,
}
