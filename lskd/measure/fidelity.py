"""Fidelity: does a student predict what its teacher predicts?

As in Stanton et al. 2021, on the same samples at T = 1, with p the teacher's probabilities and q the student's:

    agreement   the share of samples with argmax q = argmax p
    KL          the mean of Σ p ln(p / q), in nats

and the agreement on samples where the teacher is wrong, which is low for a student that has merely learned the labels.
A student may be faithful without being accurate, and accurate without being faithful.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from lskd.io.arrays import as_array
from lskd.measure.logit_blocks import Logits, blocks
from lskd.measure.predictions import below_largest
from lskd.measure.representations import Representations
from lskd.measure.weighted_samples import validate_weights
from lskd.records.runs import look_up


@dataclass(frozen=True)
class Fidelity:
    """How closely a student follows its teacher on N samples.

    Attributes:
        agrees: (N,) bool, whether both predict the same class.
        teacher_wrong: (N,) bool, whether the teacher's prediction is wrong.
        kl: (N,) float64, KL(teacher ‖ student) in nats, 0 or more.
        weights: (N,) weights of the samples.
    """

    agrees: np.ndarray
    teacher_wrong: np.ndarray
    kl: np.ndarray
    weights: np.ndarray

    @property
    def top1_agreement(self) -> float:
        """The share of samples on which both predict the same class, 0 to 1."""
        return float(np.average(self.agrees, weights=self.weights))

    @property
    def agreement_where_wrong(self) -> float | None:
        """The same for the samples on which the teacher is wrong; None if it never is."""
        weights = self.weights * self.teacher_wrong
        return float(np.average(self.agrees, weights=weights)) if weights.any() else None

    @property
    def mean_kl(self) -> float:
        """The mean of :attr:`kl`."""
        return float(np.average(self.kl, weights=self.weights))


def fidelity(
    student: Logits, teacher: Logits, labels: np.ndarray | Iterable[int], weights: np.ndarray | None = None
) -> Fidelity:
    """Compare a student's predictions with its teacher's.

    Args:
        student: (N, K) logits of the student, or chunks of them.
        teacher: (N, K) logits of the teacher, or chunks of the same sizes.
        labels: (N,) integers, 0 to K-1.
        weights: (N,) 0 or more; all 1 when None.

    Raises:
        ValueError: no samples, shapes that do not fit each other, or logits that are not finite.

    Example:
        >>> found = fidelity(np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([[0.0, 2.0], [0.0, 2.0]]), [1, 0])
        >>> found.top1_agreement, found.agreement_where_wrong, round(found.mean_kl, 4)
        (0.5, 0.0, 0.4479)
    """
    labels, agrees, predicted, kl = as_array("labels", labels), [], [], []
    for own, theirs in _same_blocks(student, teacher):
        kl.append(kl_divergence(theirs, own))
        predicted.append(theirs.argmax(1))
        agrees.append(predicted[-1] == own.argmax(1))
    if not kl:
        raise ValueError("logits: no samples (must be at least one)")
    if labels.shape != (samples := sum(map(len, kl)),) or labels.dtype.kind not in "iu":
        raise ValueError(f"labels: shape {labels.shape} (must be {samples} integers, one for each row of logits)")
    wrong = np.concatenate(predicted) != labels
    return Fidelity(np.concatenate(agrees), wrong, np.concatenate(kl), validate_weights(weights, samples))


def _same_blocks(student: Logits, teacher: Logits) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield blocks of the same rows of both."""
    try:
        for own, theirs in zip(blocks(student), blocks(teacher), strict=True):
            if own.shape != theirs.shape:
                raise ValueError(f"teacher: logits of shape {theirs.shape} (must be {own.shape}, as the student's)")
            yield own, theirs
    except ValueError as error:
        if str(error).startswith("zip()"):
            raise ValueError("teacher: other samples (must have a row for each of the student's)") from None
        raise


def kl_divergence(teacher: np.ndarray, student: np.ndarray) -> np.ndarray:
    """KL(softmax(teacher) ‖ softmax(student)) of each row, in nats.

    Σ p ln(p / q) is computed as Σ p (e^x - 1 - x) with x = ln(q / p): the added p (e^x - 1) sum to 0, and all terms are
    at least 0, so that a small divergence keeps its digits.

    Args:
        teacher: (N, K) logits, float64, finite.
        student: likewise.

    Returns:
        (N,) float64, 0 or more.

    Example:
        >>> kl_divergence(np.array([[np.log(3), 0.0]]), np.array([[0.0, 0.0]])).round(4).tolist()
        [0.1308]
    """
    log_p, log_q = _log_softmax(teacher), _log_softmax(student)
    p, x = np.exp(log_p), log_q - log_p
    near = np.where(np.abs(x) < 1e-2, x, 0)
    series = near**2 * (0.5 + near * (1 / 6 + near * (1 / 24 + near / 120)))
    terms = np.where(np.abs(x) < 1e-2, p * series, np.exp(log_q) - p - p * x)
    return np.maximum(terms, 0).sum(1)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    below = below_largest(logits)
    return below - np.log(np.exp(below).sum(1, keepdims=True))


def paired(student: Representations, teacher: Representations) -> tuple[Representations, Representations]:
    """Restrict the representations of a student and its teacher to the samples kept in both, in the same order.

    Samples are the same if the split, the data's fingerprint and their index in the split are. This project's commands
    write these to the files, and record every sample once and in the split's order. Labels and counts must be the same
    too.

    Returns:
        Both representations, with these samples only.

    Raises:
        ValueError: the classes, split or data differ, a file does not name its split and data, or no sample was kept in
            both.
    """
    if student.class_names != teacher.class_names:
        raise ValueError("teacher: other classes (must be those of the student, in their order)")
    facts = [_samples_of(each) for each in (student, teacher)]
    for name, own, theirs in ((name, facts[0][name], facts[1][name]) for name in facts[0]):
        if own is None or theirs is None:
            whose = "student" if own is None else "teacher"
            raise ValueError(f"{whose}: no {name} in its provenance (must have it, to show that samples are the same)")
        if own != theirs:
            raise ValueError(f"teacher: {name} {theirs} (must be {own}, the student's)")
    common, own_rows, their_rows = np.intersect1d(student.index, teacher.index, True, return_indices=True)
    if not len(common):
        raise ValueError("teacher: no sample whose features were kept of the student too (must have some)")
    if not (
        np.array_equal(student.moments.counts, teacher.moments.counts)
        and np.array_equal(student.labels[own_rows], teacher.labels[their_rows])
    ):
        raise ValueError("teacher: other labels of the same samples (must be those of the student)")
    return _only(student, own_rows), _only(teacher, their_rows)


def _samples_of(representations: Representations) -> dict[str, Any]:
    """The split and data fingerprint, which identify a file's samples; None where unknown."""
    provenance = representations.provenance
    return {"split": provenance.get("split"), "data fingerprint": look_up(provenance, "data", "fingerprint")}


def _only(representations: Representations, rows: np.ndarray) -> Representations:
    """Keep only the samples in these rows; if these are all, features stay on disk."""
    if len(rows) == len(representations.labels):
        return representations
    kept = {name: getattr(representations, name)[rows] for name in ("features", "labels", "index")}
    return dataclasses.replace(representations, **kept)
