"""Fidelity of a student to its teacher during validation, summed over batches.

The measures are those of :mod:`.fidelity`. They are computed with the distillation loss, which at T = 1 is
KL(teacher ‖ student), on the device of the logits.
"""

import math

import torch
import torch.distributed
from torch import Tensor

from lskd.loss.distillation import distillation_loss


class FidelitySums:
    """Sums over samples of the agreement and of KL(teacher ‖ student) at T = 1.

    They stay on ``device``, in float64. Of equal largest logits the first is the prediction. A row with a NaN logit
    never agrees.

    Args:
        device: the device of the logits.

    Example:
        >>> sums = FidelitySums()
        >>> sums.update(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([[0.0, 2.0], [0.0, 2.0]]))
        >>> {name: round(value, 4) for name, value in sums.metrics().items()}
        {'teacher_agreement': 50.0, 'teacher_kl': 0.4479}
    """

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self._sums = torch.zeros(3, dtype=torch.float64, device=device)  # samples, agreeing samples, KL

    @torch.no_grad()
    def update(self, student: Tensor, teacher: Tensor) -> None:
        """Add a batch.

        Args:
            student: (N, K) logits of the student, any floating dtype.
            teacher: (N, K) logits of the teacher on the same samples, any floating dtype.

        Raises:
            ValueError: shapes or dtypes that do not fit.
        """
        no_labels = torch.zeros(len(student), dtype=torch.int64, device=student.device)
        found = distillation_loss(student, teacher, no_labels, compiled=False)  # few rows: not worth a compilation
        self._sums += torch.stack([torch.ones_like(found.kd_loss) * len(student), found.agreement, found.kd_loss])

    def all_reduce(self) -> "FidelitySums":
        """The sums over all processes of ``torch.distributed``; this process's own are not changed."""
        total = FidelitySums(self._sums.device)
        total._sums += self._sums
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(total._sums)
        return total

    def metrics(self) -> dict[str, float | None]:
        """The metrics for a run record: ``teacher_agreement`` in %, ``teacher_kl`` in nats, None if it is not finite.

        Raises:
            ValueError: no samples.
        """
        samples, agreeing, kl = self._sums.tolist()
        if not samples:
            raise ValueError("samples: 0 (must be at least 1 for a mean)")
        mean = kl / samples
        return {"teacher_agreement": 100 * agreeing / samples, "teacher_kl": mean if math.isfinite(mean) else None}
