"""Score the teachers of a training on the validation split, before anything is trained or written."""

import argparse
import functools
import itertools
import logging
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lskd.io.errors import input_error
from lskd.measure.accuracy import ClassCounts, accuracy_figures
from lskd.measure.smoothing_estimate import estimate_label_smoothing
from lskd.measure.teacher_smoothing import with_estimate
from lskd.records.runs import read_run
from lskd_vision.data import Data
from lskd_vision.evaluate import evaluate
from lskd_vision.loader import Loader
from lskd_vision.memory_groups import config_key
from lskd_vision.other_order import HARDLY, OtherOrder
from lskd_vision.run import Run
from lskd_vision.teacher import Normalisation, Teacher

logger = logging.getLogger(__name__)
SAMPLES = 2000  # of validation, that say whether a teacher was smoothed


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
    some: list[list] = [[] for _ in teachers]

    def ask(number: int, images: Tensor) -> Tensor:
        logits = teachers[number].logits(images, normalisation)
        if teachers[number].label_smoothing["alpha"] is None:
            few = logits[::step].float()
            some[number].append(few[few.isfinite().all(1)].cpu().numpy())
        return logits

    asked = [functools.partial(ask, number) for number in range(len(teachers))]
    models = [model for each in asked for model in (order.both(each) if order else [each])]
    counts = evaluate(models, batches.epoch(0), len(class_names), arguments, device, len(batches), name="teacher")
    half = arguments.amp and arguments.amp_dtype == "float16"
    found = []
    for number, teacher in enumerate(teachers):
        own, *others = counts[number * len(counts) // len(teachers) :][: len(counts) // len(teachers)]
        _check_score(teacher, own, order, others[0] if others else None, half)
        figures = accuracy_figures(own)
        smoothing = with_estimate(teacher.label_smoothing, estimate_label_smoothing(some[number]))
        valid = {name: figures[name] for name in ("top1", "top5", "nll_loss")}
        found.append({"valid": valid, "label_smoothing": smoothing})
    return found


def _check_score(
    teacher: Teacher, counts: ClassCounts, order: OtherOrder | None, others: ClassCounts | None, half: bool
) -> None:
    """Print how a teacher scored. Raises InputError: it cannot teach anything like this."""
    argument, value = ("--kd-checkpoint", teacher.path) if teacher.path else ("--kd-model-name", teacher.name)
    if not math.isfinite(counts.nll()):
        instead = "; in half precision: try --amp-dtype bfloat16" if half else ""
        raise input_error(
            argument, value, f"gives logits that are not finite for images of the validation split{instead}"
        )
    if order and order.explains(counts, others):
        raise input_error(argument, value, order.described(counts, others))
    print(f"teacher {value}: validation top-1 {counts.top1():.2f} %")
    chance = 100 / counts.classes
    if counts.top1() < HARDLY * chance:
        question = "in either order of the classes" if order else "is the order of its classes the data's?"
        logger.warning(f"teacher {value} is hardly better than chance, which is {chance:.3g} %: {question}")
