"""A teacher's label smoothing, as recorded or estimated, and the warnings about the temperature that follow from it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NotRequired, TypedDict

from lskd.io.schema import Name, Number
from lskd.measure.smoothing_estimate import REVISION, SmoothingEstimate

RULE_OF_THUMB = (
    "{what} and T = {temperature:g} is above 1: the paper found that high temperatures undo what a smoothed teacher "
    "gains; its rule: a smoothed teacher with T = 1 (lskd advise says what else to compare)"
)


class Estimate(TypedDict):
    """A :class:`SmoothingEstimate` as stored in a file; old files have no revision."""

    alpha: Number | None
    low: Number | None
    high: Number | None
    verdict: Name
    reason: Name
    revision: NotRequired[int | None]


class LabelSmoothing(TypedDict):
    """A teacher's label smoothing as stored in a file, see :func:`with_estimate`; ``epsilon`` is fairseq's parameter.

    With ``mixed_labels`` the teacher was also smoothed by mixup or cutmix, by an amount that α does not include.
    """

    alpha: Number | None
    epsilon: NotRequired[Number | None]
    source: Name
    mixed_labels: NotRequired[bool]
    estimate: NotRequired[Estimate]


def with_estimate(label_smoothing: Mapping[str, Any], estimate: SmoothingEstimate) -> dict[str, Any]:
    """Add the estimate from a teacher's outputs if α is not known from its configuration.

    Args:
        label_smoothing: from a run record: ``alpha``, None if the configuration does not have it, and ``source``.
        estimate: the estimate from its outputs.

    Returns:
        The same, with ``estimate`` if ``alpha`` is None. ``alpha`` remains None: recorded and estimated values are kept
        apart.
    """
    if label_smoothing["alpha"] is not None:
        return dict(label_smoothing)
    source, _, _ = label_smoothing["source"].partition("; by its outputs: ")  # of an earlier estimate
    source = f"{source}; by its outputs: {estimate.verdict}"
    return {**label_smoothing, "source": source, "estimate": asdict(estimate)}


def of_several(known: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The label smoothing of an ensemble of teachers: that of the most smoothed one.

    A teacher of unknown smoothing may be smoothed, so it takes precedence over one without smoothing.

    >>> of_several([{"alpha": 0.0, "source": "the teacher's configuration"}, {"alpha": None, "source": "unknown"}])
    {'alpha': None, 'source': 'unknown'}
    >>> of_several([{"alpha": None, "source": "unknown"}, {"alpha": 0.1, "source": "the teacher's configuration"}])
    {'alpha': 0.1, 'source': "the teacher's configuration"}
    """
    mixed = {"mixed_labels": True} if any(each.get("mixed_labels") for each in known) else {}
    return dict(max(known, key=lambda each: (each["alpha"] or 0, each["alpha"] is None))) | mixed


def temperature_warnings(label_smoothing: Mapping[str, Any], temperature: float) -> list[str]:
    """Warnings about a run's teacher and T; none if the teacher's smoothing is unknown.

    Args:
        label_smoothing: from a run record, see :func:`with_estimate`. An estimate counts only if it was made with the
            current decision rule, as the earlier one was wrong.
        temperature: T of the teacher's outputs.

    >>> temperature_warnings({"alpha": 0.1}, 1.0), len(temperature_warnings({"alpha": 0.1}, 4.0))
    ([], 1)
    """
    alpha, estimate = label_smoothing["alpha"], label_smoothing.get("estimate", {})
    decided = estimate.get("verdict") == "smoothed" and estimate.get("revision") == REVISION
    if temperature <= 1 or not (decided if alpha is None else alpha):
        return []
    if alpha is None:
        what = (
            f"the teacher's outputs are those of smoothed labels (α between {estimate['low']:.2g} and "
            f"{estimate['high']:.2g}; its own, or its teacher's)"
        )
    else:
        what = f"the teacher was trained with label smoothing (α = {alpha:.3g})"
    return [RULE_OF_THUMB.format(what=what, temperature=temperature)]
