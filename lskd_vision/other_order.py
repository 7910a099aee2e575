"""Detect a model whose classes are in the other order of folders: torchvision's instead of timm's, or vice versa."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from lskd.measure.accuracy import ClassCounts
from lskd_vision.class_order import CLASS_ORDERS, ClassOrder

NEAR_CHANCE = 1.5  # times chance: a top-1 below it is hardly better than guessing


@dataclass(frozen=True)
class OtherOrder:
    """The order that the data's classes would have if their folders were sorted the other way.

    Attributes:
        name: the value for ``--class-order``.
        places: (K,) the position that each of the data's classes would have.
    """

    name: ClassOrder
    places: list[int]

    @classmethod
    def of(cls, names: Sequence[str]) -> "OtherOrder | None":
        """The other order of the data's K class names; None if both are the same, or ``names`` are in neither.

        >>> OtherOrder.of(["a", "B"]), OtherOrder.of(["a", "b"])
        (OtherOrder(name='torchvision', places=[1, 0]), None)
        """
        found = {name: order(names) for name, order in CLASS_ORDERS.items()}
        others = {name: each for name, each in found.items() if each != list(names)}
        if len(others) != 1:
            return None
        ((name, other),) = others.items()
        place = {each: index for index, each in enumerate(other)}
        return cls(name, [place[each] for each in names])

    def sort(self, names: Sequence[str]) -> list[str]:
        """Sort the data's class names in this order."""
        return CLASS_ORDERS[self.name](names)

    def both(self, model: Callable[[Tensor], Tensor]) -> list[Callable[[Tensor], Tensor]]:
        """Two functions to call in turn for each batch: the model's logits (N, K), and the same in this order."""
        last: list[Tensor] = []

        def as_they_are(images: Tensor) -> Tensor:
            last[:] = [model(images)]
            return last[0]

        return [as_they_are, lambda _: last[0][:, self.places]]

    def explains(self, counts: ClassCounts, others: ClassCounts) -> bool:
        """Whether a model is hardly better than chance, but in this order at least halfway from chance to 100 %.

        Halfway on a log scale: 100 / √K %. Only the classes that change position count, with equal weights, so that a
        constant prediction is good in neither order; and the difference must exceed three standard deviations of a
        sign test.

        Args:
            counts: for the model's logits as they are.
            others: for the same logits in this order, see :meth:`both`.
        """
        accuracies = (counts.class_accuracy(), others.class_accuracy())
        moved = [c for c, place in enumerate(self.places) if place != c and accuracies[0][c] is not None]
        if not moved:
            return False
        mean, mean_there = (statistics.fmean(each[c] or 0.0 for c in moved) for each in accuracies)
        right, right_there = (each.correct()[0, moved].sum().item() for each in (counts, others))
        clear = right_there - right > 3 * math.sqrt(right + right_there)
        chance = 100 / len(self.places)
        return clear and mean < NEAR_CHANCE * chance and mean_there >= 10 * math.sqrt(chance)

    def described(self, counts: ClassCounts, others: ClassCounts) -> str:
        """Describe both accuracies, and what to do."""
        here, there = (f"{each.top1():.2f} %" for each in (counts, others))
        found = f"is right for {here} of {counts.samples()} validation images, and for {there} if its classes are in"
        return f"{found} {self.name} order: give the data that order, --class-order {self.name}"
