"""Top-1, top-5 and class-wise accuracy, and the negative log likelihood, accumulated over batches.

A row is correct within the first k when fewer than k classes come before its target's: those with a larger logit, and
those with an equal logit and a lower index. So ties are broken the same way on every device, and a model that gives
every class the same logit is right for class 0 only. A row with a NaN among its logits is never correct.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed
from torch import Tensor

from lskd.io.arrays import as_array, described, validate_class_names, whole

TOP = 5


class ClassCounts:
    """Counts of samples and of correct ones, per class, and the summed negative log likelihood.

    They stay on ``device``, so that an update does not synchronise. Counts are int64; the likelihood is float64, in
    nats at temperature 1, from logits converted to float32. With fewer than 5 classes, top-5 is top-K.

    Args:
        classes: K, above 0.
        device: the device of the logits.

    Raises:
        ValueError: no class.

    Example:
        >>> counts = ClassCounts(3)
        >>> counts.update(torch.tensor([[2.0, 1.0, 0.0], [2.0, 1.0, 0.0]]), torch.tensor([0, 1]))
        >>> counts.top1(), counts.top5(), counts.class_accuracy()
        (50.0, 100.0, [100.0, 0.0, None])
    """

    def __init__(self, classes: int, device: str | torch.device = "cpu") -> None:
        self.classes = whole("classes", classes, 1)
        self._counts = torch.zeros(3, classes, dtype=torch.int64, device=device)  # samples, top-1, top-5 correct
        self._nll = torch.zeros((), dtype=torch.float64, device=device)
        self._labels = torch.zeros(2, dtype=torch.int64, device=device)  # the least label so far, and minus the largest

    @torch.no_grad()
    def update(self, logits: Tensor, target: Tensor) -> None:
        """Count a batch.

        Args:
            logits: (N, K), any floating dtype; a tensor, an array or lists.
            target: (N,) integer, 0 to K-1.

        Raises:
            ValueError: shapes or dtypes that do not fit, or a label out of range. On an accelerator labels are
                checked later, when results are computed.
        """
        logits, target = _as_tensor("logits", logits), _as_tensor("target", target)
        if logits.dim() != 2 or logits.size(1) != self.classes or not logits.is_floating_point():
            raise ValueError(
                f"logits: {logits.dtype} of shape {tuple(logits.shape)} (must be floating, rows by {self.classes})"
            )
        floating = target.dtype.is_floating_point or target.dtype.is_complex or target.dtype == torch.bool
        if target.shape != (len(logits),) or (floating and len(target)):
            raise ValueError(
                f"target: {target.dtype} of shape {tuple(target.shape)} (must be integers, ({len(logits)},))"
            )
        if not len(target):
            return
        target = target.long()
        labels = torch.minimum(self._labels, torch.stack([target.min(), -target.max()]))
        if labels.device.type == "cpu":
            self._check(labels)
        self._labels = labels
        target = target.clamp(0, self.classes - 1)  # an index out of range would kill the process on a GPU
        logits = logits.float()
        own = logits.gather(1, target[:, None])
        index = torch.arange(self.classes, device=logits.device)
        before = (logits > own) | ((logits == own) & (index < target[:, None]))
        rank = before.sum(1).masked_fill(logits.isnan().any(1), self.classes)
        top = min(TOP, self.classes)
        self._counts.index_add_(1, target, torch.stack([torch.ones_like(rank), (rank < 1).long(), (rank < top).long()]))
        self._nll -= torch.log_softmax(logits, 1).gather(1, target[:, None]).sum(dtype=torch.float64)

    def merge(self, other: "ClassCounts") -> None:
        """Add the counts of ``other``.

        Raises:
            ValueError: ``other`` has another number of classes.
        """
        if other.classes != self.classes:
            raise ValueError(f"other: {other.classes} classes (must be {self.classes})")
        device = self._counts.device
        self._counts += other._counts.to(device)
        self._nll += other._nll.to(device)
        self._labels = torch.minimum(self._labels, other._labels.to(device))

    def all_reduce(self) -> "ClassCounts":
        """The counts of all processes of ``torch.distributed`` together; this process's own are not changed."""
        total = ClassCounts(self.classes, self._counts.device)
        total.merge(self)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(total._counts)
            torch.distributed.all_reduce(total._nll)
            torch.distributed.all_reduce(total._labels, torch.distributed.ReduceOp.MIN)
        return total

    def samples(self) -> int:
        """The number of samples.

        Raises:
            ValueError: a label was out of range, as for all results.
        """
        return sum(self._results()[0])

    def top1(self) -> float:
        """Top-1 accuracy in %.

        Raises:
            ValueError: no samples, or a label was out of range.
        """
        return self._share(1)

    def top5(self) -> float:
        """Top-5 accuracy in %.

        Raises:
            ValueError: no samples, or a label was out of range.
        """
        return self._share(2)

    def class_accuracy(self) -> list[float | None]:
        """Top-1 accuracy of each of the K classes in %, None for a class without samples.

        Raises:
            ValueError: a label was out of range.
        """
        samples, correct, _ = self._results()
        return [100 * right / n if n else None for right, n in zip(correct, samples, strict=True)]

    def correct(self) -> Tensor:
        """(2, K) int64 on the CPU: the top-1 and top-5 correct samples of each class.

        Raises:
            ValueError: a label was out of range.
        """
        return torch.tensor(self._results()[1:])

    def nll(self) -> float:
        """The mean negative log likelihood, in nats per sample; NaN or infinite where logits were.

        Raises:
            ValueError: no samples, or a label was out of range.
        """
        return self._nll.item() / self._at_least_one()

    def _share(self, row: int) -> float:
        """A row of the counts as a percentage of all samples."""
        return 100 * sum(self._results()[row]) / self._at_least_one()

    def _at_least_one(self) -> int:
        """The number of samples. Raises ValueError if it is 0."""
        if not (samples := self.samples()):
            raise ValueError("samples: 0 (must be at least 1 for a mean)")
        return samples

    def _results(self) -> list[list[int]]:
        """The counts, after checking all labels."""
        self._check(self._labels)
        return self._counts.tolist()

    def _check(self, labels: Tensor) -> None:
        """Raise ValueError if the least or the largest label is out of range."""
        least, largest = labels[0].item(), -labels[1].item()
        if least < 0 or largest >= self.classes:
            raise ValueError(
                f"target: {least if least < 0 else largest} (must be a class, between 0 and {self.classes - 1})"
            )


def _as_tensor(name: str, value: object) -> Tensor:
    """``value`` as a tensor. Raises ValueError if it is not an array of numbers."""
    if isinstance(value, Tensor):
        return value
    array = as_array(name, value)
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{name}: {described(array)} (must be numbers)")
    return torch.from_numpy(np.ascontiguousarray(array, array.dtype.newbyteorder("=")))


def accuracy_metrics(counts: ClassCounts, class_names: Sequence[str] | None = None) -> dict[str, Any]:
    """The metrics for a run record: ``top1``, ``top5`` in %, ``nll_loss`` in nats, ``samples``, ``classwise`` in %.

    Args:
        counts: counts of at least one sample.
        class_names: K different names; the indices when None.

    Returns:
        A dictionary for JSON; the accuracy of a class without samples and a likelihood that is not finite are None.

    Raises:
        ValueError: no samples, a label out of range, or names that do not fit.
    """
    names = validate_class_names(map(str, range(counts.classes)) if class_names is None else class_names)
    if len(names) != counts.classes:
        raise ValueError(f"class_names: {len(names)} (must be {counts.classes}, one for each class)")
    nll = counts.nll()
    return {
        "top1": counts.top1(),
        "top5": counts.top5(),
        "nll_loss": nll if math.isfinite(nll) else None,
        "samples": counts.samples(),
        "classwise": dict(zip(names, counts.class_accuracy(), strict=True)),
    }
