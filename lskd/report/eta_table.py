"""The table of ``lskd eta``: a row for each target, and what its numbers mean, in sentences."""

import math
from collections.abc import Sequence

import numpy as np

from lskd.io.tables import Column, show
from lskd.measure.diffusion import DiffusionIndex, permutation_p
from lskd.measure.eta import EtaMeasurement
from lskd.measure.isotropy import IsotropyTest
from lskd.measure.representations import Representations
from lskd.measure.student_pairs import Files
from lskd.measure.wordnet import imagenet_classes
from lskd.records.runs import look_up, teacher_smoothing
from lskd.records.spread import over_seeds

LEVEL = 0.05
COUPLED = (
    "η(S1) and η(S2) are two views of the same changes: one target's relative distances sum to 1, so the changes,\n"
    "weighted by the distances at first, sum to 0. Opposite signs are forced only where both sets hold one class."
)
P_VALUES = (
    "p: the share of all ways to call |S1| of these classes similar that have a mean change as low as S1's. Changes\n"
    "of one target go together, so it is small by chance more often than it says (docs/measures.md).\n"
    "p iso: of change that is the same in all directions, one scale of all squared distances and one constant, as\n"
    "noise adds. These alone would give the η(S1) under iso; p iso is small where S1 came nearer than they explain."
)


def target_row(indices: Sequence[DiffusionIndex], measured: EtaMeasurement, names: Sequence[str], seed: int) -> dict:
    """The row of one target, from one index for each pair of students; ``seed`` is of a null too large to enumerate."""
    target = indices[0].target
    sets, isotropy = measured.sets[target], measured.isotropy
    changes = np.mean([each.changes for each in indices], axis=0)
    row = {"target": names[target]}
    for name, kind in (("similar", "eta_similar"), ("dissimilar", "eta_dissimilar")):
        spread = over_seeds([100 * getattr(each, kind) for each in indices])
        interval = getattr(indices[0], f"{name}_interval") or (None, None)
        low, high = (None if bound is None or math.isnan(bound) else 100 * bound for bound in interval)
        row |= {f"{kind}_percent": spread.mean, f"{kind}_sd_percent": spread.sd}
        row |= {f"{kind}_low_percent": low, f"{kind}_high_percent": high}
    row["p_value"] = permutation_p(changes, len(sets.similar), seed)  # of the mean over pairs
    expected = isotropy and isotropy.expected[target]
    row["p_isotropic"] = isotropy and isotropy.p_values[target]
    row["eta_similar_isotropic_percent"] = None if expected is None else 100 * expected
    row["n"] = len(indices)
    row["similar"] = [names[k] for k in sets.similar]
    row["dissimilar"] = [names[k] for k in sets.dissimilar]
    return row


def joined(row: dict) -> dict:
    """A row for csv: lists of classes as text."""
    return row | {name: "; ".join(row[name]) for name in ("similar", "dissimilar")}


def table(rows: Sequence[dict], pairs: int) -> str:
    """The rows as text, and their mean."""
    columns = [Column("target", "shown"), Column("η(S1) %", "eta_similar_percent", "+.2f")]
    columns += [Column("interval" if pairs == 1 else "±", "spread_similar"), Column("p", "p_value", ".3g")]
    columns += [Column("iso %", "eta_similar_isotropic_percent", "+.2f"), Column("p iso", "p_isotropic", ".3g")]
    columns += [Column("η(S2) %", "eta_dissimilar_percent", "+.2f")]
    columns += [Column("interval" if pairs == 1 else "±", "spread_dissimilar")]
    columns += [Column("n", "n")] if pairs > 1 else []
    shown = [row | {"shown": imagenet_classes().get(row["target"], row["target"])} for row in rows]
    for row in shown:
        for name in ("similar", "dissimilar"):
            sd, low, high = (row[f"eta_{name}_{what}_percent"] for what in ("sd", "low", "high"))
            interval = None if low is None else f"{low:+.2f} to {high:+.2f}"
            row[f"spread_{name}"] = interval if sd is None else f"{sd:.2f}"
    mean = {"shown": "mean"}
    for key in ("eta_similar_percent", "eta_dissimilar_percent"):
        mean[key] = math.fsum(row[key] for row in rows) / len(rows)
    return show([*shown, mean] if len(rows) > 1 else shown, columns)


def summary(rows: Sequence[dict], isotropy: IsotropyTest | None) -> list[str]:
    """For how many targets η is negative, and what may be said of them together."""
    parts = []
    for name, key in (("η(S1)", "eta_similar_percent"), ("η(S2)", "eta_dissimilar_percent")):
        parts.append(f"{name} is negative for {sum(row[key] < 0 for row in rows)} of {len(rows)} targets")
    lines = [", ".join(parts) + "."]
    tested = [row for row in rows if row["p_isotropic"] is not None]
    if tested and isotropy.p_together is not None:
        verdict = "is more than isotropic change" if isotropy.p_together <= LEVEL else "may be isotropic change"
        lines.append(
            f"Nearer than isotropic change explains (p iso at most {LEVEL:g}, η(S1) below 0 and iso): "
            f"{sum(map(_is_nearer, tested))} of {len(tested)} targets, at most {LEVEL * len(tested):.2g} by chance.\n"
            f"All targets together: p iso = {isotropy.p_together:.3g}, this {verdict}."
        )
    return lines


def _is_nearer(row: dict) -> bool:
    """Whether S1 came nearer than isotropic change explains, by its distances and relative to the target's others."""
    isotropic = row["eta_similar_isotropic_percent"]
    return row["p_isotropic"] <= LEVEL and row["eta_similar_percent"] < min(0, 0 if isotropic is None else isotropic)


def head(files: Files, name: str) -> list[str]:
    """What the files of one side are of, a line each."""
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


def origins(files: Files) -> list[dict]:
    """The same for programs."""
    return [{"file": path, "provenance": each.provenance} for path, each in files]


def meaning(
    pairs: Sequence[tuple[Representations, Representations]],
    rows: Sequence[dict],
    measured: EtaMeasurement,
    confidence: float,
) -> list[str]:
    """What p, the intervals (of a confidence in %) and the spread are of, in a sentence each."""
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
            f"Intervals: {confidence:g} %, over samples ({measured.resamples} resamples within each class{kept}): of "
            "other samples\nseen by these two students. They say nothing about students of other seeds."
        )
        if any(row["eta_similar_low_percent"] is None for row in rows):
            lines.append("No interval (–): with so few samples a resampled distance can be 0.")
    elif measured.no_intervals:
        lines.append(measured.no_intervals)
    if variant == "pairwise" and not all(each.complete for pair in pairs for each in pair):
        lines.append("Pairwise distances are of the samples whose features were kept.")
    return lines
