"""Measures of one model on one split, from its representation file, and of a student compared with its teacher."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from lskd.measure.bootstrap import bootstrap_interval
from lskd.measure.calibration import (
    ConfidenceBins,
    adaptive_calibration_error,
    confidence_bins,
    expected_calibration_error,
    optimal_temperature,
)
from lskd.measure.fidelity import fidelity
from lskd.measure.predictions import Predictions
from lskd.measure.representations import Representations
from lskd.measure.selective_risk import area_under_risk_coverage
from lskd.measure.weighted_samples import sample_weights

Interval = tuple[float, float]


@dataclass(frozen=True)
class Basis:
    """The samples on which measures are based: those kept, weighted by the counts of their classes.

    Attributes:
        samples: number of samples whose features were kept.
        of_samples: number of samples in the split.
        classes: number of classes with kept samples.
        of_classes: number of classes with samples.
    """

    samples: int
    of_samples: int
    classes: int
    of_classes: int

    @classmethod
    def of(cls, representations: Representations) -> "Basis":
        """The basis of measures from a representation file."""
        counts = representations.moments.counts
        kept = len(np.unique(representations.labels))
        return cls(len(representations.labels), int(counts.sum()), kept, int(np.count_nonzero(counts)))

    @property
    def complete(self) -> bool:
        """Whether all samples were kept."""
        return self.samples == self.of_samples

    def __str__(self) -> str:
        """In words.

        >>> str(Basis(100, 100, 5, 5))
        'all 100 samples'
        >>> str(Basis(20, 100, 5, 5))
        '20 kept of 100 samples, weighted by the counts of their classes'
        >>> str(Basis(20, 100, 2, 5))
        '20 kept of 100 samples, of 2 of 5 classes alone, weighted by the counts of their classes'
        """
        if self.complete:
            return f"all {self.samples} samples"
        classes = "" if self.classes == self.of_classes else f", of {self.classes} of {self.of_classes} classes alone"
        return f"{self.samples} kept of {self.of_samples} samples{classes}, weighted by the counts of their classes"


@dataclass(frozen=True)
class OutputMeasures:
    """Measures of the soft outputs; shares are 0 to 1, likelihoods in nats.

    Attributes:
        basis: the samples measured.
        top1: the share of correct predictions.
        ece: expected calibration error.
        ece_by_chance: expected ECE of a calibrated model with the same confidences.
        ece_interval: 95 % interval, None without resamples.
        adaptive_ece: ECE over bins with equal numbers of samples.
        nll: mean negative log likelihood at T = 1.
        optimal_temperature: T*, or None if there is none.
        no_optimum: why there is no T*; None if there is one.
        aurc: area under the risk-coverage curve.
        aurc_interval: 95 % interval, None without resamples.
        bins: bins of the reliability diagram.
        non_target: the mean probability of all classes except the label, by T.
    """

    basis: Basis
    top1: float
    ece: float
    ece_by_chance: float
    ece_interval: Interval | None
    adaptive_ece: float
    nll: float
    optimal_temperature: float | None
    no_optimum: str | None
    aurc: float
    aurc_interval: Interval | None
    bins: ConfidenceBins
    non_target: dict[float, float]


@dataclass(frozen=True)
class FidelityMeasures:
    """Measures of a student's fidelity to its teacher; shares are 0 to 1.

    Attributes:
        basis: the samples that were kept of both.
        top1_agreement: the share of samples with the same prediction.
        agreement_interval: its 95 % interval, None without resamples.
        agreement_where_wrong: the same share where the teacher is wrong; None if it never is.
        wrong: the number of samples on which the teacher is wrong.
        kl: mean KL(teacher ‖ student) at T = 1, in nats.
    """

    basis: Basis
    top1_agreement: float
    agreement_interval: Interval | None
    agreement_where_wrong: float | None
    wrong: int
    kl: float


def measure_outputs(
    representations: Representations,
    logits: Iterable[np.ndarray],
    temperatures: Sequence[float],
    resamples: int = 0,
    seed: int = 0,
) -> OutputMeasures:
    """Measure calibration, selective risk and non-target probability of a model.

    Args:
        representations: representations of the model.
        logits: logits of the kept samples, in chunks that can be iterated over repeatedly: one pass, and about six more
            for T*.
        temperatures: temperatures of the non-target probability.
        resamples: number of resamples for intervals; 0 for none.
        seed: seed of the resamples.

    Raises:
        ValueError: no kept samples, or logits that are not finite.
    """
    labels = representations.labels
    weights = sample_weights(labels, representations.moments.counts)
    predictions = Predictions.of(logits, labels, temperatures)
    confidence, correct = predictions.confidence, predictions.correct
    best, reason = None, None
    try:
        best = optimal_temperature(logits, labels, weights)
    except ValueError as error:
        reason = str(error)

    def ece(weights: np.ndarray) -> float:
        return expected_calibration_error(confidence, correct, weights)

    def aurc(weights: np.ndarray) -> float:
        return area_under_risk_coverage(-predictions.doubt, correct, weights)

    bins = confidence_bins(confidence, correct, weights)
    non_target = np.average(predictions.non_target, 1, weights).tolist()
    return OutputMeasures(
        basis=Basis.of(representations),
        top1=float(np.average(correct, weights=weights)),
        ece=bins.error,
        ece_by_chance=bins.error_by_chance,
        ece_interval=bootstrap_interval(ece, weights, resamples, seed) if resamples else None,
        adaptive_ece=adaptive_calibration_error(confidence, correct, weights),
        nll=float(np.average(predictions.nll, weights=weights)),
        optimal_temperature=best,
        no_optimum=reason,
        aurc=aurc(weights),
        aurc_interval=bootstrap_interval(aurc, weights, resamples, seed) if resamples else None,
        bins=bins,
        non_target=dict(zip(temperatures, non_target, strict=True)),
    )


def measure_fidelity(
    student: Representations,
    logits: tuple[Iterable[np.ndarray], Iterable[np.ndarray]],
    resamples: int = 0,
    seed: int = 0,
) -> FidelityMeasures:
    """Measure the fidelity of a student to its teacher.

    Args:
        student: the student, as returned by :func:`lskd.measure.fidelity.paired`.
        logits: logits of the student and the teacher, in chunks of the same sizes.
        resamples: number of resamples for the interval; 0 for none.
        seed: seed of the resamples.

    Raises:
        ValueError: logits that are not finite.
    """
    weights = sample_weights(student.labels, student.moments.counts)
    found = fidelity(*logits, student.labels, weights)

    def agreement(weights: np.ndarray) -> float:
        return float(np.average(found.agrees, weights=weights))

    return FidelityMeasures(
        basis=Basis.of(student),
        top1_agreement=found.top1_agreement,
        agreement_interval=bootstrap_interval(agreement, weights, resamples, seed) if resamples else None,
        agreement_where_wrong=found.agreement_where_wrong,
        wrong=int(found.teacher_wrong.sum()),
        kl=found.mean_kl,
    )
