"""The diffusion index η (Section 4, Eq. 1): did a higher temperature move a class towards its similar classes?

For a target class π, similar classes S1 and dissimilar classes S2, with distances D_k of π to each class k of S1 ∪ S2:

    d_k = D_k / R,  R = Σ D over S1 ∪ S2        relative distance, of one student
    r_k = d_k(T2) / d_k(T1) − 1                  relative change between two students
    η(S) = mean of r_k over S, unweighted        a fraction, at least −1; the paper prints it in %

A target's relative distances sum to 1 in either student, so Σ_k d_k(T1)·r_k = 0 over S1 ∪ S2: η(S1) and η(S2) are two
views of the same changes. They must have opposite signs only if each set holds a single class.

D is one of :data:`lskd.measure.class_distances.VARIANTS`; the paper's is ``centroid``.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, combinations

import numpy as np

from lskd.io.arrays import as_array, class_list, described, is_real, numbers, whole
from lskd.measure.class_distances import VARIANTS, target_distances
from lskd.measure.class_resampling import Resampling
from lskd.measure.class_sets import ClassSets
from lskd.measure.representations import Representations

EXACT_SUBSETS = 200_000  # up to this number of subsets, the permutation null is enumerated
DRAWS = 20_000  # random subsets if there are more


@dataclass(frozen=True)
class DiffusionIndex:
    """η of one target class, as fractions: −.129 is what the paper prints as −12.9.

    Attributes:
        target: π.
        classes: S1 then S2.
        changes: (|S1| + |S2|,) r_k, in the order of ``classes``.
        eta_similar: η(S1).
        eta_dissimilar: η(S2).
        p_value: from :func:`permutation_p`.
        similar_interval: interval of η(S1) over samples; None without resampling, NaN if η is undefined in a resample.
        dissimilar_interval: interval of η(S2), likewise.
    """

    target: int
    classes: tuple[int, ...]
    changes: np.ndarray
    eta_similar: float
    eta_dissimilar: float
    p_value: float
    similar_interval: tuple[float, float] | None = None
    dissimilar_interval: tuple[float, float] | None = None


def relative_changes(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The relative changes r_k of distances, each divided by the sum over its own last axis (Eq. 1).

    Args:
        first: (…, m) distances at T1, to m classes.
        second: at T2, to the same classes.

    Returns:
        (…, m), at least −1.

    Raises:
        ValueError: shapes that differ, a distance that is negative or not finite, a distance of 0 at T1, or all
            distances 0 at T2.

    Example:
        >>> relative_changes(np.array([2.0, 2.0]), np.array([1.0, 3.0])).tolist()
        [-0.5, 0.5]
    """
    first, second = as_array("first", first), as_array("second", second)
    if first.shape != second.shape or not first.ndim or not {first.dtype.kind, second.dtype.kind} <= set("fiu"):
        raise ValueError(f"second: {described(second)} (must be numbers like first, {described(first)})")
    first, second = first.astype(np.float64), second.astype(np.float64)
    for name, distances in (("first", first), ("second", second)):
        if not np.isfinite(distances).all() or (distances < 0).any():
            wrong = distances[~(np.isfinite(distances) & (distances >= 0))][0]
            raise ValueError(f"{name}: a distance of {wrong:.3g} (must be finite, at least 0)")
        if not distances.sum(-1).all():
            raise ValueError(f"{name}: all distances are 0 (must be relative to their sum)")
    if not first.all():
        raise ValueError("first: a distance of 0 (must be above 0: its relative change is undefined)")
    return _changes(first, second)


def _changes(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """:func:`relative_changes` without checks."""
    return (second / second.sum(-1, keepdims=True)) / (first / first.sum(-1, keepdims=True)) - 1


def diffusion_indices(
    first: Representations,
    second: Representations,
    sets: Mapping[int, ClassSets],
    variant: str = "centroid",
    resamples: int = 0,
    confidence: float = 0.95,
    seed: int = 0,
) -> Iterator[DiffusionIndex]:
    """η of each target of ``sets``, in their order, from a student at T1 and one at T2.

    Intervals are over samples: those of each class are resampled, and if both students have the same ones (equal
    ``index`` and ``labels``), the same draw is used for both. They describe how η of these two students would vary with
    other images of these classes, and nothing about students of other seeds: for these see
    :func:`lskd.records.spread.over_seeds`.

    They are percentiles of η of the resampled distances, each without the tr(Σ)/n that resampling adds to a squared
    distance, and with its variance corrected, so that they contain the estimate. The interval of ``corrected`` is for
    the η of the classes' true centroids, that of ``centroid`` for the η of distances that include the noise of samples
    of this size. In simulations with 20 to 150 samples per class, 95 % intervals held the true value in 90 to 97 %.

    If only some features were kept, they represent all samples: they are shifted and scaled to the mean and variance of
    all samples, and as many are drawn as there are samples. ``pairwise`` uses only the kept ones, also for the
    estimate.

    Args:
        first: student at T1; features are needed for ``pairwise`` and for intervals, the weight for ``pairwise``.
        second: student at T2, with the same classes; its dimension may differ.
        sets: S1 and S2 of each target.
        variant: one of :data:`VARIANTS`.
        resamples: number of resamples, such as 1000; 0 for no intervals.
        confidence: above 0, below 1.
        seed: seed of the resampling, and of a null that is too large to enumerate. A target's result does not depend on
            the other targets.

    Raises:
        ValueError: arguments that do not fit, or a distance for which η is not defined.
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant: {variant!r} (must be one of {', '.join(VARIANTS)})")
    if not is_real(confidence) or not 0 < confidence < 1:
        raise ValueError(f"confidence: {confidence!r} (must be above 0 and below 1)")
    if first.class_names != second.class_names:
        raise ValueError("second: other classes (must be those of first)")
    resamples, seed = whole("resamples", resamples, 0), whole("seed", seed, 0)
    students = (first, second)
    for target, each in sets.items():
        _check_sets(students, target, each, variant, bool(resamples))
    paired = np.array_equal(first.index, second.index) and np.array_equal(first.labels, second.labels)
    draws = []
    if resamples:
        draws = [Resampling(each, resamples, (seed, 0 if paired else side)) for side, each in enumerate(students)]
    return (_index(students, draws, target, each, variant, confidence, seed) for target, each in sets.items())


def _index(
    students: Sequence[Representations],
    draws: Sequence[Resampling],
    target: int,
    sets: ClassSets,
    variant: str,
    confidence: float,
    seed: int,
) -> DiffusionIndex:
    """η of one target."""
    classes, similar = (*sets.similar, *sets.dissimilar), len(sets.similar)
    distances = [target_distances(each, target, classes, variant) for each in students]
    _check_distances(students[0].class_names, target, classes, distances)
    changes = relative_changes(distances[0], distances[1])
    intervals: list[tuple[float, float] | None] = [None, None]
    if draws:
        resampled = [each.distances(target, classes, variant) for each in draws]
        with np.errstate(divide="ignore", invalid="ignore"):
            changed = _changes(resampled[0], resampled[1])
        etas = [changed[:, :similar].mean(1), changed[:, similar:].mean(1)]
        bounds = [(1 - confidence) / 2, (1 + confidence) / 2]
        undefined = not np.isfinite(changed).all()
        for place, eta in enumerate(etas):
            low, high = (math.nan, math.nan) if undefined else np.quantile(eta, bounds).tolist()
            intervals[place] = low, high
    return DiffusionIndex(
        target=target,
        classes=classes,
        changes=changes,
        eta_similar=float(changes[:similar].mean()),
        eta_dissimilar=float(changes[similar:].mean()),
        p_value=permutation_p(changes, similar, seed),
        similar_interval=intervals[0],
        dissimilar_interval=intervals[1],
    )


def permutation_p(changes: np.ndarray, similar: int, seed: int = 0) -> float:
    """Permutation p-value of η(S1): the share of subsets of |S1| classes whose mean change is at most that of S1.

    The null hypothesis is that the labels "similar" and "dissimilar" mean nothing: any |S1| of the classes in S1 ∪ S2
    could have been S1, with the distances and R as they are. A small p says that the classes in S1 came closer,
    relative to the others, than as many classes picked at random would have. It says nothing about other samples, other
    seeds or other classes, and changes that share a target and R are not independent: by chance p is at most .05 for
    about 15 % of targets, and for nearly all if the first student's distances contain noise that the second's lack, see
    :mod:`lskd.measure.isotropy`. It cannot be below 1 / number of subsets: 1/36 for 2 of 9. Up to 200 000 subsets all
    are counted; beyond that, 20 000 are drawn and p = (1 + hits) / (1 + draws).

    Args:
        changes: (m,) finite relative changes, of S1 and then of S2.
        similar: |S1|, 1 to m - 1.
        seed: seed of the random draws.

    Raises:
        ValueError: a change that is not finite, or no class in one of the sets.

    >>> permutation_p(np.array([-0.5, 0.1, 0.2, 0.3]), 1)
    0.25
    """
    changes = numbers("changes", changes, None)
    changes = changes / (np.abs(changes).max(initial=0) or 1)  # so that their sums cannot overflow
    similar = whole("similar", similar, 1, len(changes) - 1)
    drawn = math.comb(len(changes), similar) > EXACT_SUBSETS
    subsets = _subsets(len(changes), similar, seed if drawn else None)
    tolerance = 1e-12 * np.abs(changes).sum()  # so that equal sums are equal in whatever order they were added up
    hits = int((changes[subsets].sum(1) <= changes[:similar].sum() + tolerance).sum())
    return (hits + drawn) / (len(subsets) + drawn)


@lru_cache(maxsize=16)  # the same few sizes recur with each pair of students
def _subsets(classes: int, size: int, seed: int | None) -> np.ndarray:
    """(subsets, size) all subsets of ``range(classes)``, or with a seed :data:`DRAWS` random ones."""
    if seed is None:
        flat = np.fromiter(chain.from_iterable(combinations(range(classes), size)), np.int64)
        return flat.reshape(-1, size)
    generator = np.random.default_rng(seed)
    return np.stack([generator.permutation(classes)[:size] for _ in range(DRAWS)])


def _check_distances(
    names: Sequence[str], target: int, classes: Sequence[int], distances: Sequence[np.ndarray]
) -> None:
    """Raise the ValueErrors of :func:`relative_changes`, with the names of the classes in the message."""
    for which, each in zip(("first", "second"), distances, strict=True):
        for label, distance in zip(classes, each.tolist(), strict=True):
            wrong = not (math.isfinite(distance) and distance >= 0)
            if wrong or (distance == 0 and which == "first" and each.any()):
                valid = "above 0: η is relative to it" if which == "first" else "finite, at least 0"
                between = f"the distance of {names[target]!r} and {names[label]!r}"
                raise ValueError(f"{which}: {between} is {distance:.3g} (must be {valid})")
        if not each.any():
            raise ValueError(f"{which}: all distances of {names[target]!r} are 0 (η is relative to their sum)")


def _check_sets(
    students: Sequence[Representations], target: int, sets: ClassSets, variant: str, intervals: bool
) -> None:
    """Raise a ValueError if η of the target is not defined, or there are too few samples."""
    names = students[0].class_names
    target, *classes = class_list("sets", [target, *sets.similar, *sets.dissimilar], len(names))
    name = names[target]
    if not len(sets.similar) or not len(sets.dissimilar):
        empty = "dissimilar" if len(sets.similar) else "similar"
        raise ValueError(f"sets: no {empty} class of {name!r} (must be at least one)")
    if target in classes:
        raise ValueError(f"sets: {name!r} is in its own sets (must be other classes)")
    if len(set(classes)) < len(classes):
        twice = next(label for label in classes if classes.count(label) > 1)
        raise ValueError(f"sets: {names[twice]!r} twice for {name!r} (must be in one set, once)")
    least = 2 if intervals or variant == "corrected" else 1
    least_kept = 2 if intervals else 1 if variant == "pairwise" else 0
    for student, which in zip(students, ("first", "second"), strict=True):
        if variant == "pairwise" and student.weight is None:
            raise ValueError(f"{which}: no last layer (must be there for pairwise distances)")
        kept = np.bincount(student.labels, minlength=len(names))
        for counts, what, needed in ((student.moments.counts, "samples", least), (kept, "kept samples", least_kept)):
            if few := [label for label in (target, *classes) if counts[label] < needed]:
                raise ValueError(f"{which}: {counts[few[0]]} {what} of {names[few[0]]!r} (must be at least {needed})")
