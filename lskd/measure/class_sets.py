"""Sets of similar and dissimilar classes of a target, the files that hold them, and look-up of classes by name."""

import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from lskd.io.errors import input_error
from lskd.io.files import write_json
from lskd.io.schema import convert, read_json
from lskd.measure.wordnet import imagenet_wnid, readable_name

Classes = Annotated[list[str | int], Meta(min_length=1)]  # names or indices


@dataclass(frozen=True)
class ClassSets:
    """S1 and S2 of a target: class indices, disjoint, at least one in each, never the target itself."""

    similar: list[int]
    dissimilar: list[int]


class _NamedSets(msgspec.Struct):
    """S1 and S2 of a target, as stored in a file."""

    similar: Classes
    dissimilar: Classes


class _File(msgspec.Struct):
    """A file of sets with their origin."""

    origin: dict[str, str | None] | None
    sets: dict[str, Any]


def members(sets: Mapping[int, ClassSets]) -> list[int]:
    """The indices of all targets and of all classes in their sets, in increasing order.

    >>> members({4: ClassSets([1], [5, 0])})
    [0, 1, 4, 5]
    """
    return sorted({label for target, each in sets.items() for label in (target, *each.similar, *each.dissimilar)})


def class_indices(wanted: Iterable[str | int], class_names: Sequence[str], argument: str) -> list[int]:
    """Look up the indices of the classes that a user names.

    Args:
        wanted: names as in ``class_names``, wnids or names of ImageNet-1K's classes, or indices.
        class_names: names of the model's classes.
        argument: the option that the user gave, for error messages.

    Raises:
        InputError: there is no such class.

    Example:
        >>> class_indices(["n02099712", "golden_retriever", "0"], ["n02099601", "n02099712"], "--targets")
        [1, 0, 0]
    """
    indices = {name: index for index, name in enumerate(class_names)}
    for index, name in enumerate(class_names):
        if wnid := imagenet_wnid(name):
            indices.setdefault(wnid, index)
    found = []
    for item in wanted:
        name = str(item)
        wnid = imagenet_wnid(name)
        index = indices.get(name, indices.get(wnid) if wnid else None)
        if index is None and name.isdecimal() and len(name) < 10 and int(name) < len(class_names):
            index = int(name)
        if index is None:
            similar = ", ".join(_similar_names(name, class_names))
            raise input_error(argument, repr(item), f"must be a class, such as {similar}, or its index")
        found.append(index)
    return found


def read_groups(path: str | os.PathLike[str], class_names: Sequence[str]) -> dict[str, list[int]]:
    """Read groups of classes, by name or index, from a JSON file ``{"footwear": ["Sandal", "Sneaker", …], …}``.

    Raises:
        InputError: the file is not valid, or there is no such class.
    """
    content = read_json(path, dict[str, Any])
    if not content:
        raise input_error("groups", path, 'must hold lists of classes by name: {"footwear": ["Sandal", "Sneaker"]}')
    groups: dict[str, list[int]] = {}
    for name, group in content.items():
        where = f"{path}, {name}"
        members = convert(group, Classes, where)  # pyrefly: ignore[bad-argument-type]  # msgspec takes an Annotated type
        groups[name] = class_indices(members, class_names, where)
    return groups


def write_sets(
    path: str | os.PathLike[str],
    sets: Mapping[int, ClassSets],
    class_names: Sequence[str],
    origin: Mapping[str, Any] | None = None,
) -> None:
    """Write ``{"origin": …, "sets": {target: {"similar": [names], "dissimilar": [names]}}}`` as JSON, atomically.

    Args:
        path: the file.
        sets: S1 and S2 of each target, as indices.
        class_names: names of the model's classes.
        origin: how the classes were chosen: ``by``, and the :func:`~lskd.measure.student_pairs.identity` of the model
            in whose feature space they were chosen; None if unknown.
    """
    named = {
        class_names[target]: {
            "similar": [class_names[index] for index in each.similar],
            "dissimilar": [class_names[index] for index in each.dissimilar],
        }
        for target, each in sets.items()
    }
    write_json(path, {"origin": None if origin is None else dict(origin), "sets": named})


def read_sets(path: str | os.PathLike[str], class_names: Sequence[str]) -> dict[int, ClassSets]:
    """Read S1 and S2 from a file of :func:`write_sets` or of a user.

    Classes are names, indices, or wnids or names of ImageNet-1K's classes. ``origin`` may be missing, as in files of
    users and of earlier versions.

    Raises:
        InputError: the file is not valid, there is no such class, or sets are empty, overlap or hold their target.
    """
    sets = {}
    for name, each in _content(path)[1].items():
        named = convert(each, _NamedSets, f"{path}, {name}")
        (target,) = class_indices([name], class_names, str(path))
        similar, dissimilar = (
            class_indices(which, class_names, f"{path}, {name}") for which in (named.similar, named.dissimilar)
        )
        classes = [target, *similar, *dissimilar]
        if len(set(classes)) < len(classes):
            raise input_error(f"{path}", name, "must have two sets that share no class and do not hold it")
        sets[target] = ClassSets(similar, dissimilar)
    return sets


def read_origin(path: str | os.PathLike[str]) -> dict[str, str | None] | None:
    """How the classes in a file of :func:`write_sets` were chosen; None if the file does not say.

    Raises:
        InputError: the file is not valid.
    """
    return _content(path)[0]


def _content(path: str | os.PathLike[str]) -> tuple[dict[str, str | None] | None, dict[str, Any]]:
    """The origin and the sets in a file, as read."""
    if not os.path.isfile(path):
        raise input_error("--sets", path, "must be a file, as `lskd similar --output` writes it")
    content = read_json(path, dict[str, Any])
    if content.keys() != {"origin", "sets"}:
        return None, content
    file = convert(content, _File, str(path))
    return file.origin, file.sets


def _similar_names(name: str, class_names: Sequence[str]) -> list[str]:
    """Suggest up to three classes: names that contain ``name``, else close matches in spelling, else the first ones."""
    known = [readable_name(each) for each in class_names]
    within = [each for each in known if name.casefold() in each.casefold()]
    return (within or difflib.get_close_matches(name, known) or known)[:3]
