"""Score the teachers of a training on the validation split, before anything is trained or written."""

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from lskd.measure.accuracy import accuracy_metrics
from lskd.measure.smoothing_estimate import estimate_label_smoothing
from lskd.measure.teacher_smoothing import with_estimate
from lskd.records.runs import read_run
from lskd_vision.config import EvaluationConfig
from lskd_vision.data import Data
from lskd_vision.evaluate import evaluate
from lskd_vision.loader import Loader
from lskd_vision.memory_groups import data_key
from lskd_vision.other_order import OtherOrder
from lskd_vision.run import Run
from lskd_vision.teacher import Normalisation, Teacher
from lskd_vision.teacher_checks import check_score

SAMPLES = 2000  # of the validation split, from which a teacher's label smoothing is estimated


def score_teachers(runs: Sequence[Run], data: Data) -> None:
    """Score the teachers of ``runs``, unless the runs' records have it already; each run keeps the result.

    If a teacher's configuration does not have its α, it is estimated from its outputs.

    Raises:
        InputError: outputs that are not finite, or a teacher of the other order of the data's classes.
    """
    for _, same in itertools.groupby(sorted(runs, key=data_key), key=data_key):
        students: dict[Teacher, list[Run]] = {}
        for run in same:
            if run.teacher is not None:
                students.setdefault(run.teacher, []).append(run)
        known = {teacher: facts for teacher, own in students.items() if (facts := _recorded(own))}
        if unknown := [teacher for teacher in students if teacher not in known]:
            first = students[unknown[0]][0]
            batches = Loader.for_evaluation(data.val, first.data_config, first.config)
            normalisation = Normalisation.of(first.data_config, first.config.device.torch_device)
            found = score(unknown, batches, normalisation, data.class_names, first.config)
            known |= dict(zip(unknown, found, strict=True))
        for teacher, own in students.items():
            for run in own:
                run.teacher_record = teacher.record() | known[teacher]


def _recorded(runs: Sequence[Run]) -> dict[str, Any] | None:
    """The score of their teacher in the records of all these runs; None if one of them does not have it."""
    records = [read_run(run.directory) for run in runs]
    teachers = [record.teacher for record in records if record and record.teacher and record.teacher["valid"]]
    return {key: teachers[0][key] for key in ("valid", "label_smoothing")} if len(teachers) == len(runs) else None


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
        argument, value = ("--kd-checkpoint", teacher.path) if teacher.path else ("--kd-model-name", teacher.name)
        check_score(own, order, others[0] if others else None, argument, value, config.device.scales_loss)
        metrics = accuracy_metrics(own)
        smoothing = with_estimate(teacher.label_smoothing, estimate_label_smoothing(sampled[number]))
        valid = {name: metrics[name] for name in ("top1", "top5", "nll_loss")}
        found.append({"valid": valid, "label_smoothing": smoothing})
    return found
