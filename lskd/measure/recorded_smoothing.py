"""Whether a teacher was trained with label smoothing, according to its file and to its outputs."""

from dataclasses import dataclass
from typing import Any

from lskd.measure.logit_blocks import Logits
from lskd.measure.smoothing_estimate import WEAKEST, SmoothingEstimate, estimate_label_smoothing


@dataclass(frozen=True)
class Smoothing:
    """What is known about a teacher's label smoothing.

    Attributes:
        recorded: α as recorded in the file, 0 to 1; None if it is not.
        source: where that is from, in words.
        estimate: the estimate from the outputs.
        mixed_labels: whether mixup or cutmix mixed its labels, which smooths a teacher too, in addition to α.
    """

    recorded: float | None
    source: str
    estimate: SmoothingEstimate
    mixed_labels: bool = False

    @property
    def smoothed(self) -> bool | None:
        """Whether the teacher was smoothed: by the record if it is conclusive, else by the outputs; None if unknown."""
        if self._record_decides:
            return bool(self.recorded)
        if self.mixed_labels:  # mixing may smooth the outputs in another way
            return True if self.estimate.verdict == "smoothed" else None
        return {"smoothed": True, "not smoothed": False}.get(self.estimate.verdict)

    @property
    def disagreement(self) -> str | None:
        """How the record disagrees with the outputs; None if it does not."""
        return None if self.mixed_labels else disagreement(self.recorded, self.estimate)

    @property
    def _record_decides(self) -> bool:
        """Whether the record is conclusive; with mixed labels, α = 0 is not."""
        return self.recorded is not None and (self.recorded > 0 or not self.mixed_labels)

    @property
    def rests_on(self) -> str:
        """What :attr:`smoothed` is based on, in words."""
        if self._record_decides:
            return "the record"
        if self.smoothed is None and self.mixed_labels:
            return "nothing: its labels were mixed, and neither α nor the outputs show how much that smoothed it"
        if self.estimate.verdict == "cannot tell":
            return "nothing: neither the record nor the outputs show it"
        return (
            "the outputs alone, which cannot separate a model's own smoothing from its teacher's or from wrong labels"
        )

    @classmethod
    def of(cls, provenance: dict[str, Any], logits: Logits | None, reason: str = "no outputs") -> "Smoothing":
        """Combine a representation file's provenance with an estimate from its logits.

        Args:
            provenance: provenance of the file.
            logits: (N, K), or chunks that can be iterated over repeatedly; None if there are no outputs.
            reason: why there are no outputs.

        Raises:
            ValueError: logits that are not finite.
        """
        unknown = SmoothingEstimate(None, None, None, "cannot tell", reason)
        estimate = unknown if logits is None else estimate_label_smoothing(logits)
        mixed = bool((provenance.get("configuration") or {}).get("mixed_labels"))
        return cls(*recorded_alpha(provenance), estimate, mixed)


def recorded_alpha(provenance: dict[str, Any]) -> tuple[float | None, str]:
    """The α of the model's own training according to its provenance, and where it is from, in words.

    A student is trained on its teacher's outputs, so that its own α has no effect: for a student α is None.

    >>> recorded_alpha({"configuration": {"label_smoothing": 0.1, "kd_weight": 0.0}})
    (0.1, "the model's configuration")
    """
    configuration = provenance.get("configuration") or {}
    teacher = provenance.get("teacher") or {}
    if configuration.get("kd_weight") or teacher:
        smoothing = teacher.get("label_smoothing") or {}
        alpha, temperature = smoothing.get("alpha"), configuration.get("temperature")
        of = "a teacher of unknown α" if alpha is None else f"a teacher with α = {alpha:.3g}"
        return None, f"trained by distillation from {of}" + (f" at T = {temperature:g}" if temperature else "")
    alpha = configuration.get("label_smoothing")
    if isinstance(alpha, int | float) and 0 <= alpha <= 1:
        return float(alpha), "the model's configuration"
    return None, "not in the file"


def disagreement(recorded: float | None, estimate: SmoothingEstimate) -> str | None:
    """How a recorded α disagrees with the estimate; None if it does not.

    >>> disagreement(0.0, SmoothingEstimate(0.1, 0.06, 0.16, "smoothed", ""))
    'no smoothing is recorded, and the outputs look smoothed'
    """
    if recorded is None or estimate.alpha is None:
        return None
    if recorded < WEAKEST and estimate.verdict == "smoothed":
        how = "no smoothing" if recorded == 0 else f"α = {recorded:.3g}"
        return f"{how} is recorded, and the outputs look smoothed"
    if recorded >= WEAKEST and estimate.verdict == "not smoothed":
        return f"α = {recorded:.3g} is recorded, and the outputs look unsmoothed"
    if estimate.low is not None and estimate.high is not None and not estimate.low <= recorded <= estimate.high:
        return f"α = {recorded:.3g} is recorded, and the outputs look like {estimate.low:.2g} to {estimate.high:.2g}"
    return None
