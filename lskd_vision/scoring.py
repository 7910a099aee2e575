"""Score the teachers of a training on the validation split, before anything is trained or written."""

import functools
import itertools
import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from lskd.io.errors import input_error
from lskd.measure.accuracy import ClassCounts, accuracy_figures
from lskd.measure.smoothing_estimate import estimate_label_smoothing
from lskd.measure.teacher_smoothing import with_estimate
from lskd.records.runs import read_run
from lskd_vision.config import EvaluationConfig
from lskd_vision.data import Data
from lskd_vision.evaluate import evaluate
from lskd_vision.loader import Loader
from lskd_vision.memory_groups import data_key
from lskd_vision.other_order import HARDLY, OtherOrder
from lskd_vision.run import Run
from lskd_vision.teacher import Normalisation, Teacher

logger = logging.getLogger(__name__)
SAMPLES = 2000  # of the validation split, from which a teacher's label smoothing is estimated


def score_teachers(runs: Sequence[Run], data: Data) -> None:
    """Score the teachers of ``runs``, unless the runs' records have it already; each run keeps the result.

    If a teacher's configuration does not have its α, it is estimated from its outputs.

    Raises:
        InputError: outputs that are not finite, or a teacher of the other order of the data's classes.
    """
    students = sorted((run for run in runs if run.teacher is not None), key=data_key)
    for _, same in itertools.groupby(students, key=data_key):
        by_teacher: dict[Teacher, list[Run]] = {}
        for run in same:
            by_teacher.setdefault(run.teacher, []).append(run)
        known = {teacher: _recorded(own) for teacher, own in by_teacher.items()}
        if unknown := [teacher for teacher, facts in known.items() if facts is None]:
            first = by_teacher[unknown[0]][0]
            batches = Loader.for_evaluation(data.val, first.data_config, first.config)
            normalisation = Normalisation.of(first.data_config, first.config.device.torch_device)
            found = score(unknown, batches, normalisation, data.class_names, first.config)
            known |= dict(zip(unknown, found, strict=True))
        for teacher, own in by_teacher.items():
            for run in own:
                run.teacher_record |= known[teacher]


def _recorded(runs: Sequence[Run]) -> dict[str, Any] | None:
    """The score of their teacher in the records of all these runs; None if one of them does not have it."""
    records = [read_run(run.directory) for run in runs]
    if not all(record and record.teacher["valid"] for record in records):
        return None
    return {key: records[0].teacher[key] for key in ("valid", "label_smoothing")}


def score(
    teachers: Sequence[Teacher],
    batches: Loader,
    normalisation: Normalisation | None,
    class_names: Sequence[str],
    config: EvaluationConfig,
) -> list[dict[str, Any]]:
    """``valid`` and ``label_smoothing`` of each teacher, as a student's record has them, from one pass over the images.

    Args:
        teachers: at least one.
        batches: of the validation split, as the students get them.
        normalisation: of their images.
        class_names: of the data.
        config: where the teachers are, in which precision they compute, and the size of a batch.

    Raises:
        InputError: as :func:`score_teachers`.
    """
    order = OtherOrder.of(class_names)
    # Every so many from all of a split, which may be in the order of its classes.
    step = max(1, len(batches) * config.validation_batch_size // SAMPLES)
    sampled: list[list[np.ndarray]] = [[] for _ in teachers]

    def logits_of(number: int, images: Tensor) -> Tensor:
        logits = teachers[number].logits(images, normalisation)
        if teachers[number].label_smoothing["alpha"] is None:
            few = logits[::step].float()
            sampled[number].append(few[few.isfinite().all(1)].cpu().numpy())
        return logits

    functions = [functools.partial(logits_of, number) for number in range(len(teachers))]
    models = [model for each in functions for model in (order.both(each) if order else [each])]
    counts = evaluate(models, batches.epoch(0), len(class_names), config.device, len(batches), name="teacher")
    found = []
    for number, teacher in enumerate(teachers):
        own, *others = counts[number * len(counts) // len(teachers) :][: len(counts) // len(teachers)]
        _check_score(teacher, own, order, others[0] if others else None, config.device.scales_loss)
        figures = accuracy_figures(own)
        smoothing = with_estimate(teacher.label_smoothing, estimate_label_smoothing(sampled[number]))
        valid = {name: figures[name] for name in ("top1", "top5", "nll_loss")}
        found.append({"valid": valid, "label_smoothing": smoothing})
    return found


def _check_score(
    teacher: Teacher, counts: ClassCounts, order: OtherOrder | None, others: ClassCounts | None, half: bool
) -> None:
    """Print a teacher's accuracy. Raises InputError: its logits are not finite, or its classes in the other order."""
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
