"""Leave out classes for which η is not defined, so that the others can still be measured."""

from collections.abc import Mapping, Sequence

import numpy as np

from lskd.io.errors import InputError
from lskd.measure.class_distances import target_distances
from lskd.measure.class_sets import ClassSets
from lskd.measure.representations import Representations


def usable_sets(
    pairs: Sequence[tuple[Representations, Representations]], sets: Mapping[int, ClassSets], variant: str = "centroid"
) -> tuple[dict[int, ClassSets], list[str]]:
    """Remove classes from S1 and S2 that, in any of the students, lack samples or a usable distance to their target.

    A target without samples, or whose S1 or S2 becomes empty, is left out.

    Args:
        pairs: students at T1 and at T2, with the same classes. The same classes are left out in all pairs.
        sets: S1 and S2 of each target.
        variant: variant of the distance, see :mod:`lskd.measure.class_distances`.

    Returns:
        The remaining sets, and a sentence for each class or target that was left out.

    Raises:
        InputError: no target is left.
    """
    names = pairs[0][0].class_names
    students = [student for pair in pairs for student in pair]
    empty = _without_samples(students, variant)
    kept: dict[int, ClassSets] = {}
    notes = [f"{names[label]!r} is left out: {why}." for label, why in empty.items() if _is_used(label, sets)]
    for target, each in sets.items():
        if target in empty:
            continue
        undefined = _undefined(pairs, target, each, variant, empty)
        notes += [f"{names[label]!r} is left out for {names[target]!r}: {why}." for label, why in undefined.items()]
        out = {*empty, *undefined}
        similar, dissimilar = (
            [label for label in part if label not in out] for part in (each.similar, each.dissimilar)
        )
        if similar and dissimilar:
            kept[target] = ClassSets(similar, dissimilar)
        else:
            notes.append(f"{names[target]!r} is left out: no {'dissimilar' if similar else 'similar'} class is left.")
    if sets and not kept:
        raise InputError(f"sets: no target is left ({notes[0].removesuffix('.')})")
    return kept, notes


def _is_used(label: int, sets: Mapping[int, ClassSets]) -> bool:
    """Whether a class is a target or in a target's sets."""
    return label in sets or any(label in each.similar or label in each.dissimilar for each in sets.values())


def _without_samples(students: Sequence[Representations], variant: str) -> dict[int, str]:
    """Classes that cannot be used at all, with the reason."""
    least = 2 if variant == "corrected" else 1
    found: dict[int, str] = {}
    for student in students:
        kept = np.bincount(student.labels, minlength=len(student.class_names))
        for counts, what, needed in ((student.moments.counts, "samples", least), (kept, "kept samples", 1)):
            if what == "kept samples" and variant != "pairwise":
                continue
            for label in np.flatnonzero(counts < needed).tolist():
                found.setdefault(label, f"{counts[label]} {what} in {student.path or 'a student'}")
    return dict(sorted(found.items()))


def _undefined(
    pairs: Sequence[tuple[Representations, Representations]],
    target: int,
    sets: ClassSets,
    variant: str,
    empty: Mapping[int, str],
) -> dict[int, str]:
    """Classes for whose distance to the target η is not defined, with the reason."""
    classes = [label for label in (*sets.similar, *sets.dissimilar) if label not in empty]
    found: dict[int, str] = {}
    for place, student in enumerate(student for pair in pairs for student in pair):
        if classes and (variant != "pairwise" or student.weight is not None):  # a missing weight is reported elsewhere
            distances = target_distances(student, target, classes, variant)
            relative_to_it = place % 2 == 0 or not distances.any()  # at T1 no distance may be 0, at T2 not all of them
            wrong = ~np.isfinite(distances) | (distances <= 0 if relative_to_it else distances < 0)
            for label, distance in zip(np.array(classes)[wrong].tolist(), distances[wrong], strict=True):
                found.setdefault(label, f"its distance in {student.path or 'a student'} is {distance:.3g}")
    return found
