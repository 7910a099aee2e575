"""The table of ``lskd eta``: a row for each target, and sentences that explain its numbers."""

import math
from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from lskd.io.tables import Column, show
from lskd.measure.comparisons import LEVEL
from lskd.measure.diffusion import DiffusionIndex, permutation_p
from lskd.measure.eta import EtaMeasurement
from lskd.measure.isotropy import IsotropyTest
from lskd.measure.representations import Representations
from lskd.measure.student_pairs import Files
from lskd.measure.wordnet import readable_name
from lskd.records.runs import look_up, teacher_smoothing
from lskd.records.spread import over_seeds

COUPLED = (
    "η(S1) and η(S2) are two views of the same changes: one target's relative distances sum to 1, so the changes,\n"
    "weighted by the first student's distances, sum to 0. Opposite signs are forced only where sets hold one class."
)
P_VALUES = (
    "p: the share of all ways to call |S1| of these classes similar that have a mean change as low as S1's. Changes\n"
    "of one target go together, so it is small by chance more often than it says (docs/measures.md).\n"
    "p iso: of change that is the same in all directions, one scale of all squared distances and one constant, as\n"
    "noise adds. These alone would give the η(S1) under iso; p iso is small where S1 came nearer than they explain."
)


class TargetRow(TypedDict):
    """η of one target, mean over pairs of students; None for values that are not available."""

    target: str
    eta_similar_percent: float
    eta_similar_sd_percent: float | None
    eta_similar_low_percent: float | None
    eta_similar_high_percent: float | None
    eta_dissimilar_percent: float
    eta_dissimilar_sd_percent: float | None
    eta_dissimilar_low_percent: float | None
    eta_dissimilar_high_percent: float | None
    p_value: float
    p_isotropic: float | None
    eta_similar_isotropic_percent: float | None
    n: int
    similar: list[str]
    dissimilar: list[str]


def target_row(
    indices: Sequence[DiffusionIndex], measured: EtaMeasurement, names: Sequence[str], seed: int
) -> TargetRow:
    """The row of one target, from an index for each pair of students; ``seed`` is for a null too large to enumerate."""
    first, sets, isotropy = indices[0], measured.sets[indices[0].target], measured.isotropy
    changes = np.mean([each.changes for each in indices], axis=0)
    similar = over_seeds([100 * each.eta_similar for each in indices])
    dissimilar = over_seeds([100 * each.eta_dissimilar for each in indices])
    similar_low, similar_high = _percent(first.similar_interval)
    dissimilar_low, dissimilar_high = _percent(first.dissimilar_interval)
    expected = None if isotropy is None else isotropy.expected[first.target]
    return {
        "target": names[first.target],
        "eta_similar_percent": similar.mean,
        "eta_similar_sd_percent": similar.sd,
        "eta_similar_low_percent": similar_low,
        "eta_similar_high_percent": similar_high,
        "eta_dissimilar_percent": dissimilar.mean,
        "eta_dissimilar_sd_percent": dissimilar.sd,
        "eta_dissimilar_low_percent": dissimilar_low,
        "eta_dissimilar_high_percent": dissimilar_high,
        "p_value": permutation_p(changes, len(sets.similar), seed),  # of the mean over pairs
        "p_isotropic": None if isotropy is None else isotropy.p_values[first.target],
        "eta_similar_isotropic_percent": None if expected is None else 100 * expected,
        "n": len(indices),
        "similar": [names[k] for k in sets.similar],
        "dissimilar": [names[k] for k in sets.dissimilar],
    }


def _percent(interval: tuple[float, float] | None) -> list[float | None]:
    """The ends of an interval of fractions in %; None for an end that is undefined."""
    return [None if math.isnan(end) else 100 * end for end in interval] if interval else [None, None]


def joined(row: TargetRow) -> dict[str, object]:
    """A row for csv: lists of classes as text."""
    return {**row, "similar": "; ".join(row["similar"]), "dissimilar": "; ".join(row["dissimilar"])}


def table(rows: Sequence[TargetRow], pairs: int) -> str:
    """Format the rows, and their mean, as a text table."""
    spread = "interval" if pairs == 1 else "±"
    columns = [
        Column("target", "shown"),
        Column("η(S1) %", "eta_similar_percent", "+.2f"),
        Column(spread, "spread_similar"),
        Column("p", "p_value", ".3g"),
        Column("iso %", "eta_similar_isotropic_percent", "+.2f"),
        Column("p iso", "p_isotropic", ".3g"),
        Column("η(S2) %", "eta_dissimilar_percent", "+.2f"),
        Column(spread, "spread_dissimilar"),
        *([Column("n", "n")] if pairs > 1 else []),
    ]
    shown: list[dict[str, object]] = [
        {
            **row,
            "shown": readable_name(row["target"]),
            "spread_similar": _spread(
                row["eta_similar_sd_percent"], row["eta_similar_low_percent"], row["eta_similar_high_percent"]
            ),
            "spread_dissimilar": _spread(
                row["eta_dissimilar_sd_percent"], row["eta_dissimilar_low_percent"], row["eta_dissimilar_high_percent"]
            ),
        }
        for row in rows
    ]
    if len(rows) > 1:
        similar = math.fsum(row["eta_similar_percent"] for row in rows) / len(rows)
        dissimilar = math.fsum(row["eta_dissimilar_percent"] for row in rows) / len(rows)
        shown.append({"shown": "mean", "eta_similar_percent": similar, "eta_dissimilar_percent": dissimilar})
    return show(shown, columns)


def _spread(sd: float | None, low: float | None, high: float | None) -> str | None:
    if sd is not None:
        return f"{sd:.2f}"
    return None if low is None or high is None else f"{low:+.2f} to {high:+.2f}"


def summary(rows: Sequence[TargetRow], isotropy: IsotropyTest | None) -> list[str]:
    """The number of targets with a negative η, and the test of all targets together."""
    similar = sum(row["eta_similar_percent"] < 0 for row in rows)
    dissimilar = sum(row["eta_dissimilar_percent"] < 0 for row in rows)
    targets = f"of {len(rows)} targets"
    lines = [f"η(S1) is negative for {similar} {targets}, η(S2) is negative for {dissimilar} {targets}."]
    tested = [row for row in rows if row["p_isotropic"] is not None]
    if tested and isotropy is not None and isotropy.p_together is not None:
        verdict = "is more than isotropic change" if isotropy.p_together <= LEVEL else "may be isotropic change"
        lines.append(
            f"Nearer than isotropic change explains (p iso at most {LEVEL:g}, η(S1) below 0 and iso): "
            f"{sum(map(_is_nearer, tested))} of {len(tested)} targets, at most {LEVEL * len(tested):.2g} by chance.\n"
            f"All targets together: p iso = {isotropy.p_together:.3g}, this {verdict}."
        )
    return lines


def _is_nearer(row: TargetRow) -> bool:
    """Whether S1 came nearer than isotropic change explains, both by the test and by η(S1)."""
    p, isotropic = row["p_isotropic"], row["eta_similar_isotropic_percent"] or 0.0
    return p is not None and p <= LEVEL and row["eta_similar_percent"] < min(0.0, isotropic)


def head(files: Files, name: str) -> list[str]:
    """Lines that describe the models in the files of one side."""
    lines = []
    for path, each in files:
        provenance = each.provenance
        role = "student" if provenance.get("teacher") else "model"
        temperature = look_up(provenance, "configuration", "temperature") if provenance.get("teacher") else None
        smoothing = teacher_smoothing(provenance)
        facts = [f"{role} {provenance.get('model') or ''}".rstrip()]
        facts += [f"T = {temperature:g}"] if temperature is not None else []
        facts += [f"α = {smoothing:.3g}" if smoothing is not None else "α unknown"]
        facts += [f"split {provenance.get('split', 'unknown')}", f"seed {provenance.get('seed', 'unknown')}"]
        lines.append(f"{name:<8}{', '.join(facts)}: {path}")
    return lines


def origins(files: Files) -> list[dict[str, object]]:
    """The files of one side with their provenance, for JSON."""
    return [{"file": path, "provenance": each.provenance} for path, each in files]


def meaning(
    pairs: Sequence[tuple[Representations, Representations]],
    rows: Sequence[TargetRow],
    measured: EtaMeasurement,
    confidence: float,
) -> list[str]:
    """Explain p, the intervals (with their confidence in %) and the spread, in a sentence each."""
    variant = measured.variant
    lines = [COUPLED, P_VALUES if any(row["p_isotropic"] is not None for row in rows) else P_VALUES.split("\np iso")[0]]
    if len(pairs) > 1:
        lines.append(
            f"±: standard deviation over {len(pairs)} pairs of students of different seeds, on the same samples."
        )
    elif measured.resamples:
        whole = all(each.complete for each in pairs[0])
        kept = "" if whole else ", the kept features standing for all" if variant != "pairwise" else ""
        lines.append(
            f"Intervals: {confidence:g} %, over samples ({measured.resamples} resamples within each class{kept}): "
            "what other\nsamples would give with these two students. They say nothing about students of other seeds."
        )
        if any(row["eta_similar_low_percent"] is None for row in rows):
            lines.append("No interval (–): with so few samples a resampled distance can be 0.")
    elif measured.no_intervals:
        lines.append(measured.no_intervals)
    if measured.isotropy is None:
        lines.append(
            "Change that is the same in all directions, as noise adds, was not tested: the test is of centroids.\n"
            "It moves distances between samples too, and η with them: see p iso of --variant centroid."
        )
    if variant == "pairwise" and not all(each.complete for pair in pairs for each in pair):
        lines.append("Pairwise distances are of the samples whose features were kept.")
    return lines
