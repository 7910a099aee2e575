"""Score the teachers of a training on the validation split, before anything is trained or written."""

import argparse
import functools
import itertools
import logging
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lskd.accuracy import ClassCounts, accuracy_figures
from lskd.errors import bad
from lskd.runs import read_run
from lskd.smoothing_estimate import estimate_label_smoothing
from lskd.teacher import with_estimate
from lskd_vision.class_names import other_order
from lskd_vision.data import Data
from lskd_vision.evaluate import evaluate
from lskd_vision.groups import config_key
from lskd_vision.loader import Loader
from lskd_vision.run import Run
from lskd_vision.teacher import Normalisation, Teacher

logger = logging.getLogger(__name__)
SAMPLES = 2000  # of validation, that say whether a teacher was smoothed
HARDLY = 1.5  # times chance


@dataclass(frozen=True)
class OtherOrder:
    """The order that the data's classes would have by the other of the two ways in which folders are sorted.

    Attributes:
        name: as ``--class-order`` has it.
        places: (K,) where each of the data's classes would be.
    """

    name: str
    places: list[int]

    @classmethod
    def of(cls, names: Sequence[str]) -> "OtherOrder | None":
        """As :func:`lskd_vision.class_names.other_order`; None where there is none."""
        if (found := other_order(names)) is None:
            return None
        name, others = found
        place = {each: index for index, each in enumerate(others)}
        return cls(name, [place[each] for each in names])

    def explains(self, counts: ClassCounts, others: ClassCounts) -> bool:
        """Whether a model is hardly better than chance, and good at least halfway from chance to 100 % in this order.

        Halfway in logarithms, 100 / √K %. Of the classes that have another place the mean of the accuracies counts, so
        that a model that always says the same is not good in any order; and a difference of less than three standard
        deviations of a sign test does not.

        Args:
            counts: of the model's logits as they are.
            others: of its logits put into this order.
        """
        accuracies = (counts.class_accuracy(), others.class_accuracy())
        moved = [c for c, place in enumerate(self.places) if place != c and accuracies[0][c] is not None]
        if not moved:
            return False
        mean, mean_there = (statistics.fmean(each[c] for c in moved) for each in accuracies)
        right, right_there = (each.correct()[0, moved].sum().item() for each in (counts, others))
        clear = right_there - right > 3 * math.sqrt(right + right_there)
        chance = 100 / len(self.places)
        return clear and mean < HARDLY * chance and mean_there >= 10 * math.sqrt(chance)


def score_teachers(runs: Sequence[Run], data: Data, arguments: argparse.Namespace, device: torch.device) -> None:
    """Score the teachers of ``runs`` as far as the runs' records do not have it; each run keeps what is found.

    Where a teacher's configuration does not tell its α, its outputs may.

    Raises:
        InputError: outputs that are not finite, or a teacher of the other order of the data's classes.
    """
    students = sorted((run for run in runs if run.teacher is not None), key=config_key)
    for _, same in itertools.groupby(students, key=config_key):
        by_teacher: dict[int, list[Run]] = {}
        for run in same:
            by_teacher.setdefault(run.setting.teacher, []).append(run)
        known = {number: _recorded(own) for number, own in by_teacher.items()}
        if unknown := [number for number, facts in known.items() if facts is None]:
            config = by_teacher[unknown[0]][0].config
            batches = Loader(data.val, config, arguments, device, training=False)
            teachers = [by_teacher[number][0].teacher for number in unknown]
            found = score(teachers, batches, Normalisation.of(config, device), data.class_names, arguments, device)
            known |= dict(zip(unknown, found, strict=True))
        for number, own in by_teacher.items():
            for run in own:
                run.teacher_record |= known[number]


def _recorded(runs: Sequence[Run]) -> dict | None:
    """What the records of all these runs have of their teacher's score; None where one of them has nothing."""
    records = [read_run(run.directory) for run in runs]
    if not all(record and record.teacher["valid"] for record in records):
        return None
    return {key: records[0].teacher[key] for key in ("valid", "label_smoothing")}


def score(
    teachers: Sequence[Teacher],
    batches: Loader,
    normalisation: Normalisation | None,
    class_names: Sequence[str],
    arguments: argparse.Namespace,
    device: torch.device,
) -> list[dict]:
    """``valid`` and ``label_smoothing`` of each teacher, as a student's record has them, from one pass over the images.

    Args:
        teachers: at least one.
        batches: of the validation split, as they are for the students.
        normalisation: of their images.
        class_names: of the data.
        arguments: the command line.
        device: where the teachers are.

    Raises:
        InputError: as :func:`score_teachers`.
    """
    order = OtherOrder.of(class_names)
    size = arguments.validation_batch_size or arguments.batch_size
    step = max(1, len(batches) * size // SAMPLES)  # from all of a split, which may be in the order of its classes
    asked = [_Asked(teacher, normalisation, step) for teacher in teachers]
    models: list[Callable[[Tensor], Tensor]] = list(asked)
    if order:
        models += [functools.partial(each.reordered, order.places) for each in asked]
    counts = evaluate(models, batches.epoch(0), len(class_names), arguments, device, len(batches), name="teacher")
    half = arguments.amp and arguments.amp_dtype == "float16"
    found = []
    for number, (teacher, each) in enumerate(zip(teachers, asked, strict=True)):
        _check_score(teacher, counts[number], order, counts[len(teachers) + number] if order else None, half)
        figures = accuracy_figures(counts[number])
        smoothing = with_estimate(teacher.label_smoothing, estimate_label_smoothing(each.some))
        valid = {name: figures[name] for name in ("top1", "top5", "nll_loss")}
        found.append({"valid": valid, "label_smoothing": smoothing})
    return found


class _Asked:
    """A teacher as a function of images that keeps a few of its outputs, and the last ones for another order."""

    def __init__(self, teacher: Teacher, normalisation: Normalisation | None, step: int):
        self.teacher, self.normalisation, self.step = teacher, normalisation, step
        self.some: list = []
        self.last: Tensor

    def __call__(self, images: Tensor) -> Tensor:
        self.last = self.teacher.logits(images, self.normalisation)
        if self.teacher.label_smoothing["alpha"] is None:
            few = self.last[:: self.step].float()
            self.some.append(few[few.isfinite().all(1)].cpu().numpy())
        return self.last

    def reordered(self, places: list[int], _: Tensor) -> Tensor:
        return self.last[:, places]


def _check_score(
    teacher: Teacher, counts: ClassCounts, order: OtherOrder | None, others: ClassCounts | None, half: bool
) -> None:
    """Print how a teacher scored. Raises InputError: it cannot teach anything like this."""
    argument, value = ("--kd-checkpoint", teacher.path) if teacher.path else ("--kd-model-name", teacher.name)
    if not math.isfinite(counts.nll()):
        instead = "; in half precision: try --amp-dtype bfloat16" if half else ""
        raise bad(argument, value, f"gives logits that are not finite for images of the validation split{instead}")
    if order and order.explains(counts, others):
        here, there = (f"{each.top1():.2f} %" for each in (counts, others))
        found = f"is right for {here} of {counts.samples()} validation images, and for {there} if its classes are in"
        raise bad(argument, value, f"{found} {order.name} order: give the data that order, --class-order {order.name}")
    print(f"teacher {value}: validation top-1 {counts.top1():.2f} %")
    chance = 100 / counts.classes
    if counts.top1() < HARDLY * chance:
        question = "in either order of the classes" if order else "is the order of its classes the data's?"
        logger.warning(f"teacher {value} is hardly better than chance, which is {chance:.3g} %: {question}")
