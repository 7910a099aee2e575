"""Should the teacher be smoothed? Compares the best students of teachers with different α, from their run records.

Different α have different teachers, so the unit is the teacher: it counts once, with the mean of its students at a
temperature, since three students of one teacher say nothing about other teachers. The best α and T are chosen by the
same values that are then compared, which the test accounts for (:mod:`lskd.measure.comparisons`).
"""

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from lskd.measure.comparisons import LEAST_SEEDS, Comparison, Groups
from lskd.measure.temperature_effects import Effect
from lskd.records.spread import Spread, over_seeds
from lskd.records.studies import Study

Values = Mapping[float, Mapping[Any, float]]  # by T, then by the seed, the data seed and the fingerprint of the teacher


@dataclass(frozen=True)
class BestStudents:
    """The best temperature of one α.

    Attributes:
        alpha: α of the teachers.
        temperature: T with the highest mean; of equal ones the lowest.
        spread: spread over teachers of the mean of a teacher's students: top-1 in % or BLEU.
    """

    alpha: float
    temperature: float
    spread: Spread


@dataclass(frozen=True)
class SmoothingChoice:
    """The best students over all α and T of a study, and the students with which they are compared.

    Attributes:
        study: study of the students.
        best: best students of the α with the highest mean.
        other: best students of α = 0; if that is the best or is missing, of the next best α.
        comparison: comparison of the two, among all α and T; None if one of them has fewer than three teachers. In it,
            ``higher`` and ``lower`` are ranks of pairs (α, T), which take the place of temperatures.
    """

    study: Study
    best: BestStudents
    other: BestStudents
    comparison: Comparison | None


def smoothing_choices(found: Sequence[Effect]) -> list[SmoothingChoice]:
    """The choice of α in each study that has students of teachers with several known α.

    Args:
        found: the result of :func:`lskd.measure.temperature_effects.effects`.
    """
    of_study: dict[int, dict[float, Effect]] = defaultdict(dict)
    for each in found:
        if each.alpha is not None:
            of_study[id(each.study)][each.alpha] = each
    return [_choice(by_alpha) for by_alpha in of_study.values() if len(by_alpha) > 1]


def _choice(by_alpha: Mapping[float, Effect]) -> SmoothingChoice:
    study = next(iter(by_alpha.values())).study
    return SmoothingChoice(study, *best_of_two(by_teacher({alpha: each.values for alpha, each in by_alpha.items()})))


def best_of_two(
    cells: Mapping[tuple[float, float], Mapping[Hashable, float]],
) -> tuple[BestStudents, BestStudents, Comparison | None]:
    """The best α and T, the best T of the α with which it is compared (:class:`SmoothingChoice`), and the comparison.

    Temperatures with fewer than three teachers are left out if their α has others. If at least three teachers have
    values at all remaining α and T, only these teachers are used.

    Args:
        cells: the values by teacher, for each (α, T), of at least two α.
    """
    enough = {cell: values for cell, values in cells.items() if len(values) >= LEAST_SEEDS}
    tested = {alpha for alpha, _ in enough}
    cells = enough | {cell: values for cell, values in cells.items() if cell[0] not in tested}
    shared = set.intersection(*(set(values) for values in cells.values()))
    if len(shared) >= LEAST_SEEDS:
        cells = {cell: {key: values[key] for key in shared} for cell, values in cells.items()}
    spreads = {cell: over_seeds(list(values.values())) for cell, values in cells.items()}
    ranked = sorted(spreads, key=lambda cell: (-spreads[cell].mean, cell[1]))
    others = [cell for cell in ranked if cell[0] != ranked[0][0]]
    other = next((cell for cell in others if cell[0] == 0), others[0])
    groups = Groups({float(place): cells[cell] for place, cell in enumerate(ranked)})
    first, second = (BestStudents(*cell, spreads[cell]) for cell in (ranked[0], other))
    return first, second, groups.between(0.0, float(ranked.index(other)))


def by_teacher(found: Mapping[float, Values]) -> dict[tuple[float, float], dict[Hashable, float]]:
    """The mean of each teacher's students, by α and T.

    If each teacher's students have one seed, and no other teacher of the same α has it, means are keyed by that seed,
    which pairs teachers of different α; otherwise by the teacher.

    Args:
        found: the values of the students by α.

    >>> by_teacher({0: {1: {(1, 1, "a"): 80.0, (2, 2, "b"): 82.0}}, 0.1: {1: {(1, 1, "c"): 81.0, (2, 2, "d"): 84.0}}})
    {(0, 1): {(1, 1): 80.0, (2, 2): 82.0}, (0.1, 1): {(1, 1): 81.0, (2, 2): 84.0}}
    >>> by_teacher({0: {1: {(1, 1, "a"): 80.0, (2, 2, "a"): 82.0}}})
    {(0, 1): {'a': 81.0}}
    """
    paired = True
    for values in found.values():
        students = {key for each in values.values() for key in each}
        seeds, teachers = {key[:2] for key in students}, {key[2] for key in students}
        paired &= len(seeds) == len(teachers) == len(students)
    means: dict[tuple[float, float], dict[Hashable, float]] = {}
    for alpha, values in found.items():
        for T, each in values.items():
            of_teacher: dict[Hashable, list[float]] = defaultdict(list)
            for key, value in each.items():
                of_teacher[key[:2] if paired else key[2]].append(value)
            means[alpha, T] = {teacher: fmean(every) for teacher, every in of_teacher.items()}
    return means
