"""A step whose loss is checked at the next one, when a GPU has computed it."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class LastStep:
    """What is checked of a step, and what is saved of its batch if its loss was not finite.

    Attributes:
        batch: the batch's number in the epoch, from 0.
        loss: a scalar on the device.
        target: (N,) labels, or (N, K) mixed labels.
        student_logits: (N, K), without a gradient.
        teacher_logits: for the same images; a list for an ensemble, None without a teacher.
    """

    batch: int
    loss: Tensor
    target: Tensor
    student_logits: Tensor
    teacher_logits: Tensor | list[Tensor] | None

    def tensors(self) -> Mapping[str, Tensor]:
        """The target and all logits by name; those of an ensemble are numbered."""
        taught = [self.teacher_logits] if isinstance(self.teacher_logits, Tensor) else self.teacher_logits or []
        numbered = {f"teacher_logits{f'_{place}' * (place > 0)}": each for place, each in enumerate(taught)}
        return {"target": self.target, "student_logits": self.student_logits, **numbered}
