"""Choose the similar (S1) and dissimilar classes (S2) of a target: paper Section 4 and Appendix G.

There are three methods, each of which returns the sets by the target's index, ``dict[int, ClassSets]``:

- :func:`sets_by_wordnet`, G.1: the nearest in WordNet's hierarchy, and random distant ones;
- :func:`sets_by_distance`, G.2: the closest 1 % and the farthest 90 % by class centroids or last-layer templates;
- :func:`sets_by_groups`: groups that a user defines.

A target's sets depend on the classes, the target and the seed, but not on other targets. Nor do they depend on the
order of the classes, as long as their synsets, distances or names, by which the method chooses, are distinct.
"""

import math
import operator
import random
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import NamedTuple

import numpy as np

from lskd.io.arrays import as_array, described
from lskd.io.errors import input_error
from lskd.measure.class_sets import ClassSets
from lskd.measure.wordnet import Hierarchy

WORD_START = "▁"  # sentencepiece's mark of a space


class Agreement(NamedTuple):
    """The shares, 0 to 1, of one method's S1 and S2 that are also in another method's S1 and S2 (Table G.1)."""

    similar: float
    dissimilar: float


def sets_by_wordnet(
    hierarchy: Hierarchy,
    targets: Iterable[int] | None = None,
    similar: int = 4,
    dissimilar: int = 20,
    apart: float = 0.25,
    seed: int = 1,
) -> dict[int, ClassSets]:
    """Choose S1 and S2 by WordNet's hierarchy (G.1); the defaults are the sizes of Table 3.

    S1 are the ``similar`` nearest classes: those whose most specific common ancestor with the target has the fewest
    classes below it; among equals, those with the shortest path to the target; remaining ties are broken by ``seed``.
    S2 are drawn from the others whose most specific common ancestor with the target has more than the share ``apart``
    of all classes below it, so that S2 of a dog has no mammals, which are 22 % of ImageNet-1K's classes.

    Args:
        hierarchy: hierarchy of K classes, from :func:`lskd.measure.wordnet.find_hierarchy`.
        targets: indices; all K when None.
        similar: |S1|, 1 to K - 1.
        dissimilar: |S2|, at least 1; fewer if fewer classes are far enough.
        apart: 0 to below 1.
        seed: seed for drawing S2 and for ties in S1. A larger ``dissimilar`` only adds classes to S2.

    Returns:
        The sets by target; S1 with the nearest first.

    Raises:
        InputError: an argument out of range, or a target from which no class is far enough.
    """
    classes = len(hierarchy.synsets)
    if not _is_whole(similar, 1) or similar >= classes:
        raise input_error("similar", similar, f"must be between 1 and {classes - 1}, the number of other classes")
    if not _is_whole(dissimilar, 1):
        raise input_error("dissimilar", dissimilar, "must be a whole number, 1 or more")
    if not 0 <= apart < 1:
        raise input_error("apart", apart, "must be at least 0 and below 1")
    by_synset = sorted(range(classes), key=hierarchy.synsets.__getitem__)
    sets = {}
    for target in _class_indices(targets, classes):
        breadth, path = (values.tolist() for values in hierarchy.nearness(target))
        order = _shuffled(by_synset, target, hierarchy.synsets[target], seed)
        nearest = sorted(order, key=lambda other: (breadth[other], path[other]))[:similar]
        far = [other for other in order if breadth[other] > apart * classes and other not in nearest]
        if not far:
            raise input_error(
                "apart", apart, f"must be lower: no other class is that far from {hierarchy.synsets[target]}"
            )
        sets[target] = ClassSets(nearest, far[:dissimilar])
    return sets


def sets_by_distance(
    points: np.ndarray,
    targets: Iterable[int] | None = None,
    similar: float | int = 0.01,
    dissimilar: float | int = 0.9,
    candidates: Iterable[int] | None = None,
) -> dict[int, ClassSets]:
    """Choose S1 and S2 by Euclidean distance in the feature space (G.2).

    By default S1 are the closest 1 % and S2 the farthest 90 % of the other classes. A share is rounded up, as in the
    paper: 10 and 900 of 999 others. S1 has at least one class, and S2 at most those that are not in S1.

    Args:
        points: (K, d) finite centroids of the classes, NaN for a class without samples, or templates, the rows of the
            last layer's weight.
        targets: indices; all candidates when None.
        similar: a share of the other candidates, below 1, or a whole number of them.
        dissimilar: likewise.
        candidates: indices that may be in the sets; all K when None. Classes with NaN are excluded.

    Returns:
        The sets by target; S1 with the closest first, S2 with the farthest first. Ties are broken by index.

    Raises:
        InputError: an argument out of range, a target without a point, or fewer than two other candidates.

    Example:
        >>> sets_by_distance(np.array([[0.0], [1.0], [3.0], [9.0]]), [0], similar=1, dissimilar=0.5)
        {0: ClassSets(similar=[1], dissimilar=[3, 2])}
    """
    points = as_array("points", points)
    if points.ndim != 2 or points.dtype.kind not in "fiu":
        raise input_error("points", described(points), "must be numbers, classes by dimensions")
    points = points.astype(np.float64)
    classes = len(points)
    if np.isinf(points).any():
        raise input_error("points", "infinite", "must be finite, or NaN for a class without samples")
    known = np.asarray(~np.isnan(points).any(axis=1))
    among = np.zeros(classes, bool)
    among[_class_indices(candidates, classes, "candidates")] = True
    among &= known
    if among.sum() < 3 and targets is None:
        raise input_error("candidates", among.sum(), "must be at least three classes with samples")
    sets = {}
    for target in np.flatnonzero(among).tolist() if targets is None else _class_indices(targets, classes):
        if not known[target]:
            raise input_error("target", target, "must be a class with samples")
        others = np.flatnonzero(among & (np.arange(classes) != target))
        if len(others) < 2:
            raise input_error("candidates", len(others), "must be at least two classes beside the target")
        difference = points - points[target]
        distances = np.einsum("kd,kd->k", difference, difference)
        if np.isinf(distances[others]).any():
            raise input_error("points", f"{np.nanmax(np.abs(points)):.3g}", "must be small enough to be squared")
        order = others[np.argsort(distances[others], kind="stable")].tolist()
        close = min(_number("similar", similar, len(order)), len(order) - 1)
        far = min(_number("dissimilar", dissimilar, len(order)), len(order) - close)
        sets[target] = ClassSets(order[:close], order[::-1][:far])
    return sets


def sets_by_groups(
    groups: Mapping[str, Sequence[int]],
    class_names: Sequence[str],
    targets: Iterable[int] | None = None,
    dissimilar: int | None = None,
    seed: int = 1,
) -> dict[int, ClassSets]:
    """Choose S1 by groups: the other classes in a target's groups. S2 are classes that share no group with it.

    Args:
        groups: indices of classes by the group's name, from :func:`lskd.measure.class_sets.read_groups`. A class
            may be in several groups.
        class_names: K different names.
        targets: indices; all classes that share a group with another one when None.
        dissimilar: |S2|, at least 1, drawn at random; all such classes when None or if there are no more.
        seed: seed for drawing S2.

    Raises:
        InputError: a target that shares no group, or shares one with every class; an argument out of range.

    Example:
        >>> sets_by_groups({"tops": [0, 2], "footwear": [3, 4]}, ["Shirt", "Bag", "Coat", "Sandal", "Boot"], [4])
        {4: ClassSets(similar=[3], dissimilar=[0, 1, 2])}
    """
    if dissimilar is not None and not _is_whole(dissimilar, 1):
        raise input_error("dissimilar", dissimilar, "must be a whole number, 1 or more")
    classes = len(class_names)
    shared: dict[int, set[int]] = {target: set() for target in range(classes)}
    for name, group in groups.items():
        for target in _class_indices(group, classes, f"group {name!r}"):
            shared[target] |= set(group) - {target}
    if targets is None:
        targets = [target for target, similar in shared.items() if similar]
    sets = {}
    for target in _class_indices(targets, classes):
        outside = [other for other in range(classes) if other != target and other not in shared[target]]
        if not shared[target]:
            raise input_error("target", class_names[target], "must be in a group with another class")
        if not outside:
            raise input_error(
                "groups", ", ".join(groups), f"must leave a class that shares none with {class_names[target]}"
            )
        if dissimilar is not None:
            outside.sort(key=class_names.__getitem__)
            outside = _shuffled(outside, target, class_names[target], seed)[:dissimilar]
        sets[target] = ClassSets(sorted(shared[target]), outside)
    return sets


def frequent_word_tokens(class_names: Sequence[str], counts: Sequence[int], least: int) -> list[int]:
    """Indices of the tokens that start a word, consist only of letters, and have at least ``least`` samples.

    Word pieces and punctuation have no meaning of their own, and the centroid of a rare token is noise.

    >>> frequent_word_tokens(["▁the", "ing", "▁2", "▁rare", "▁"], [90, 80, 70, 1, 60], 50)
    [0]
    """
    return [
        index
        for index, (name, count) in enumerate(zip(class_names, counts, strict=True))
        if name.startswith(WORD_START) and name[1:].isalpha() and count >= least
    ]


def agreement(first: Mapping[int, ClassSets], second: Mapping[int, ClassSets]) -> dict[int, Agreement]:
    """The consistency of Table G.1, |A ∩ B| / |A|, for each target that both have; A is from ``first``.

    It is not symmetric. A second method that chooses at random reaches, on average, the share of all classes that is in
    its sets, see :func:`chance_agreement`.

    Raises:
        InputError: a target of ``first`` with an empty set.
    """
    found = {}
    for target, sets in first.items():
        if not sets.similar or not sets.dissimilar:
            raise input_error("first", f"target {target} with an empty set", "must have classes in both sets")
        if target in second:
            pairs = (sets.similar, second[target].similar), (sets.dissimilar, second[target].dissimilar)
            found[target] = Agreement(*(len(set(a) & set(b)) / len(a) for a, b in pairs))
    return found


def mean_agreement(found: Mapping[int, Agreement]) -> Agreement:
    """The mean over targets.

    Raises:
        InputError: no target.
    """
    if not found:
        raise input_error("targets", "none in common", "must be at least one")
    return Agreement(*(math.fsum(column) / len(found) for column in zip(*found.values(), strict=True)))


def chance_agreement(second: Mapping[int, ClassSets], classes: int) -> Agreement:
    """The expected mean agreement if ``second``'s sets were drawn at random, in the same sizes, from all other classes.

    With the shares of G.2 it is .010 for S1 and .901 for S2.

    Raises:
        InputError: no target, or no other class.
    """
    if not _is_whole(classes, 2):
        raise input_error("classes", classes, "must be a whole number, 2 or more")
    shares = {
        target: Agreement(len(sets.similar) / (classes - 1), len(sets.dissimilar) / (classes - 1))
        for target, sets in second.items()
    }
    return mean_agreement(shares)


def _class_indices(indices: Iterable[int] | None, classes: int, argument: str = "targets") -> list[int]:
    """Validate indices of classes; all when None."""
    indices = list(range(classes) if indices is None else indices)
    for index in indices:
        if not _is_whole(index, 0) or index >= classes:
            raise input_error(argument, index, f"must be a class, between 0 and {classes - 1}")
    return [operator.index(index) for index in indices]


def _is_whole(value: object, least: int) -> bool:
    """Whether ``value`` is an integer of at least ``least``."""
    return isinstance(value, (int, np.integer)) and bool(value >= least)


def _number(argument: str, wanted: float | int, others: int) -> int:
    """The number of classes, at least 1, for ``wanted`` as a share of ``others`` or as a whole number."""
    if _is_whole(wanted, 1):
        return int(wanted)
    if not isinstance(wanted, Real) or not 0 < wanted < 1:
        raise input_error(argument, wanted, "must be a share between 0 and 1, or a whole number above 0")
    return max(1, math.ceil(wanted * others - 1e-9))  # 0.07 * 100 rounds to slightly more than 7


def _shuffled(classes: Sequence[int], target: int, name: str, seed: int) -> list[int]:
    """All ``classes`` except the target, shuffled by target and seed, in the same way on every machine."""
    order = [other for other in classes if other != target]
    random.Random(f"{seed} {name}").shuffle(order)
    return order
