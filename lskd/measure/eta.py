"""Measure η of pairs of students, for ``lskd eta`` and the report; its formula is in :mod:`lskd.measure.diffusion`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lskd.io.errors import InputError, input_error
from lskd.measure.class_sets import ClassSets, members
from lskd.measure.diffusion import DiffusionIndex, diffusion_indices
from lskd.measure.isotropy import DRAWS, IsotropyTest, isotropy_test
from lskd.measure.representations import Representations
from lskd.measure.usable_sets import usable_sets

Pairs = Sequence[tuple[Representations, Representations]]
OF_CENTROIDS = ("centroid", "corrected")  # the variants to which the test against isotropic change applies


@dataclass(frozen=True)
class EtaMeasurement:
    """η of each target, from one or several pairs of students.

    Attributes:
        targets: for each target, in the order of ``sets``, the diffusion index of each pair.
        sets: the S1 and S2 that were used.
        variant: variant of the distance.
        resamples: number of resamples of the intervals, 0 for none.
        isotropy: the test against isotropic change; None for distances between samples.
        notes: what was left out or corrected for, a sentence each.
        no_intervals: a sentence why there are no intervals although resamples were requested, or None.
    """

    targets: list[tuple[DiffusionIndex, ...]]
    sets: dict[int, ClassSets]
    variant: str
    resamples: int
    isotropy: IsotropyTest | None
    notes: list[str]
    no_intervals: str | None


def measure_eta(
    pairs: Pairs,
    sets: Mapping[int, ClassSets],
    variant: str | None = None,
    resamples: int = 0,
    confidence: float = 0.95,
    seed: int = 0,
) -> EtaMeasurement:
    """Measure η of each target for which it is defined, with its tests; shows progress on a terminal.

    Args:
        pairs: students at T1 and at T2 with the same classes; one pair per seed.
        sets: S1 and S2 of each target.
        variant: one of :data:`lskd.measure.class_distances.VARIANTS`; when None the paper's ``centroid``, or
            ``corrected`` if the students of a pair differ in the number of samples of a class.
        resamples: resamples for the intervals of a single pair; several pairs have none, as their spread says more.
        confidence: level of the intervals, a fraction.
        seed: seed of all random draws.

    Raises:
        InputError: η is not defined for any target, or :func:`lskd.measure.diffusion.diffusion_indices` rejects the
            arguments.
    """
    from tqdm import tqdm

    if not pairs:
        raise input_error("pairs", "none", "must be at least one")
    sets, notes = usable_sets(pairs, sets, variant or "centroid")
    if variant is None and (unequal := unequal_counts(pairs, members(sets))):
        variant = "corrected"
        sets, left_out = usable_sets(pairs, sets, variant)
        notes += [f"The students have {unequal}: distances are corrected for that (variant corrected).", *left_out]
    variant = variant or "centroid"
    no_intervals = _lacks_features(pairs[0], sets) if resamples and len(pairs) == 1 else None
    resamples = 0 if no_intervals or len(pairs) > 1 else resamples
    by_pair: list[list[DiffusionIndex]] = []
    with tqdm(total=len(pairs) * len(sets), desc="η", unit=" targets", disable=None, leave=False) as progress:
        for first, second in pairs:
            by_pair.append([])
            try:
                for index in diffusion_indices(first, second, sets, variant, resamples, confidence, seed):
                    by_pair[-1].append(index)
                    progress.update()
            except ValueError as error:
                message = str(error).replace("first:", f"{first.path or 'first'}:")
                raise InputError(message.replace("second:", f"{second.path or 'second'}:")) from None
    isotropy = _isotropy(pairs, sets, seed) if variant in OF_CENTROIDS else None
    return EtaMeasurement(list(zip(*by_pair, strict=True)), sets, variant, resamples, isotropy, notes, no_intervals)


def unequal_counts(pairs: Pairs, classes: Sequence[int]) -> str | None:
    """How the students of a pair differ in the number of samples of a class, in words; None if they do not.

    A squared distance of centroids contains tr(Σ)/n of noise, which does not cancel if n differs: with 10 and 500
    samples of one distribution all similar classes seem to come closer. ``corrected`` distances subtract it.
    """
    for first, second in pairs:
        counts = [each.moments.counts[list(classes)] for each in (first, second)]
        differ = np.flatnonzero((counts[0] != counts[1]) & (counts[0] > 0) & (counts[1] > 0))
        if differ.size:
            place = int(differ[0])
            return f"{counts[0][place]} and {counts[1][place]} samples of {first.class_names[classes[place]]!r}"
    return None


def _lacks_features(pair: Sequence[Representations], sets: Mapping[int, ClassSets]) -> str | None:
    """Why samples cannot be resampled, or None if they can."""
    wanted = members(sets)
    for each in pair:
        kept = np.bincount(each.labels, minlength=len(each.class_names))[wanted]
        if (kept < 2).any():
            few, fewest = each.class_names[wanted[int(kept.argmin())]], kept.min()
            where = each.path or "a student"
            return f"No intervals: {where} holds the features of {fewest} samples of {few}, at least 2 are needed."
    return None


def _isotropy(pairs: Pairs, sets: Mapping[int, ClassSets], seed: int) -> IsotropyTest:
    """The test against isotropic change, with progress on a terminal."""
    from tqdm import tqdm

    total = DRAWS * len(pairs)
    with tqdm(total=total, desc="isotropic change", unit=" draws", disable=None, leave=False) as progress:
        moments = [(first.moments, second.moments) for first, second in pairs]
        return isotropy_test(moments, sets, DRAWS, seed, progress.update)
