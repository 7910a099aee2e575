"""Score the teachers of a training on the validation split, before anything is trained or written."""

import functools
import itertools
import logging
import math
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
from lskd_vision.memory_groups import image_key
from lskd_vision.other_order import OtherOrder
from lskd_vision.run import TrainingRun
from lskd_vision.teacher import Normalisation, Teacher
from lskd_vision.teacher_checks import check_score
from lskd_vision.validation_fidelity import KEPT_BYTES, ValidationLogits

logger = logging.getLogger("lskd_vision")
SAMPLES = 2000  # validation images from which a teacher's label smoothing is estimated


def score_teachers(runs: Sequence[TrainingRun], data: Data) -> None:
    """Score the teachers of ``runs``, unless the runs' records have the scores; each run keeps the result.

    Each run gets its teacher's logits for the validation images, from the same pass or, if there is none, from that of
    the first validation. If a teacher's configuration does not give its α, it is estimated from its outputs.

    Raises:
        InputError: a teacher's outputs are not finite, or its classes are in the other order than the data's.
    """
    free = KEPT_BYTES
    for _, same in itertools.groupby(sorted(runs, key=image_key), key=image_key):
        students: dict[Teacher, list[TrainingRun]] = {}
        for run in same:
            if run.teacher is not None:
                students.setdefault(run.teacher, []).append(run)
        logits: dict[Teacher, ValidationLogits] = {}
        for teacher, own in students.items():
            logits[teacher] = _validation_logits(teacher, own[0], data, free)
            free -= logits[teacher].size
        known = {teacher: facts for teacher, own in students.items() if (facts := _recorded(own))}
        if unknown := [teacher for teacher in students if teacher not in known]:
            first = students[unknown[0]][0]
            batches = Loader.for_evaluation(data.val, first.data_config, first.config)
            found = score([logits[teacher] for teacher in unknown], batches, data.class_names, first.config)
            known |= dict(zip(unknown, found, strict=True))
        for teacher, own in students.items():
            for run in own:
                run.teacher_record = teacher.record() | known[teacher]
                device = run.config.device.torch_device
                run.teacher_logits = logits[teacher].of_inputs(Normalisation.of(run.data_config, device))


def _validation_logits(teacher: Teacher, student: TrainingRun, data: Data, free: int) -> ValidationLogits:
    """The logits of a student's teacher for this process's validation images, kept if they fit into ``free`` bytes."""
    images, classes = math.ceil(len(data.val) / student.config.processes.world_size), len(data.class_names)
    normalisation = Normalisation.of(student.data_config, student.config.device.torch_device)
    size = 4 * images * classes
    if size > free:
        taken = f"its logits for {images} images of {classes} classes take {size / 1e9:.1f} GB"
        logger.warning(f"{teacher.name} is run in every validation, not once: {taken}")
        size = 0
    return ValidationLogits(teacher, normalisation, student.config.device, size)


def _recorded(runs: Sequence[TrainingRun]) -> dict[str, Any] | None:
    """The teacher's score from the records of its students' runs; None unless all of them have it."""
    records = [read_run(run.directory) for run in runs]
    teachers = [record.teacher for record in records if record and record.teacher and record.teacher["valid"]]
    return {key: teachers[0][key] for key in ("valid", "label_smoothing")} if len(teachers) == len(runs) else None


def score(
    logits: Sequence[ValidationLogits],
    batches: Loader,
    class_names: Sequence[str],
    config: EvaluationConfig,
) -> list[dict[str, Any]]:
    """Score teachers in one pass over the images: ``valid`` and ``label_smoothing`` of each, for a student's record.

    Args:
        logits: of at least one teacher, for these images; the pass fills them.
        batches: the validation split, as the students get it.
        class_names: the data's class names.
        config: the teachers' device and precision, and the batch size.

    Raises:
        InputError: as for :func:`score_teachers`.
    """
    order = OtherOrder.of(class_names)
    # Every so many images from all of the split, which may be in the order of its classes.
    step = max(1, len(batches) * config.validation_batch_size // SAMPLES)
    teachers = [each.teacher for each in logits]
    sampled: list[list[np.ndarray]] = [[] for _ in teachers]
    numbers = [itertools.count() for _ in teachers]  # of the batches

    def logits_of(number: int, images: Tensor) -> Tensor:
        found = logits[number].batch(next(numbers[number]), images)
        if teachers[number].label_smoothing["alpha"] is None:
            few = found[::step]
            sampled[number].append(few[few.isfinite().all(1)].cpu().numpy())
        return found

    functions = [functools.partial(logits_of, number) for number in range(len(teachers))]
    models = [model for each in functions for model in (order.both(each) if order else [each])]
    counts = evaluate(models, batches.epoch(0), len(class_names), config.device, len(batches), name="teacher")
    found = []
    for number, teacher in enumerate(teachers):
        own, *others = counts[number * len(counts) // len(teachers) :][: len(counts) // len(teachers)]
        check_score(own, order, others[0] if others else None, *teacher.named, config.device.scales_loss)
        metrics = accuracy_metrics(own)
        smoothing = with_estimate(teacher.label_smoothing, estimate_label_smoothing(sampled[number]))
        valid = {name: metrics[name] for name in ("top1", "top5", "nll_loss")}
        found.append({"valid": valid, "label_smoothing": smoothing})
    return found
