"""Accuracy of one model on one split, from its representation file or its run record."""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from lskd.io.errors import input_error, not_installed
from lskd.io.schema import Count, Number, convert
from lskd.measure.representations import Representations, read_representations
from lskd.records.runs import read_existing_run

if TYPE_CHECKING:  # it needs torch
    from lskd.measure.accuracy import ClassCounts


class _ImageMetrics(msgspec.Struct):
    """The metrics of an image classifier in a run record."""

    samples: Count
    classwise: dict[str, Number | None]
    top1: Number
    top5: Number


@dataclass
class ModelAccuracy:
    """Accuracy of one model on one split, in %; None for a class without samples."""

    path: str
    provenance: dict[str, Any]
    samples: int
    top1: float
    top5: float
    class_names: list[str]
    classwise: list[float | None]


def accuracy_of_representations(path: str | os.PathLike[str]) -> ModelAccuracy:
    """The accuracy from the counts in a representation file, or from its logits if it has no counts.

    Raises:
        InputError: no such file, or it holds neither.
    """
    file = read_representations(path)
    samples = file.moments.counts.tolist()
    if not sum(samples):
        raise input_error("PATH", path, "must hold samples")
    if file.correct is not None:
        classwise = [100 * right / n if n else None for right, n in zip(file.correct[0].tolist(), samples, strict=True)]
        top1, top5 = (100 * float(row.sum()) / sum(samples) for row in file.correct)
    elif file.complete and file.weight is not None:
        counts = _count(file)
        top1, top5, classwise = counts.top1(), counts.top5(), counts.class_accuracy()
    else:
        raise input_error("PATH", path, "must hold counts of correct samples, or all features and the last layer")
    return ModelAccuracy(str(path), file.provenance, sum(samples), top1, top5, file.class_names, classwise)


def _count(file: Representations) -> "ClassCounts":
    """Count correct samples from the logits, chunk by chunk."""
    try:
        import torch
        from tqdm import tqdm

        from lskd.measure.accuracy import ClassCounts
    except ModuleNotFoundError as error:
        raise not_installed(str(error.name), "vision") from None
    counts = ClassCounts(len(file.class_names))
    start = 0
    with tqdm(total=len(file.labels), desc="logits", unit=" samples", disable=None, leave=False) as progress:
        for logits in file.logit_chunks():
            stop = start + len(logits)
            counts.update(torch.from_numpy(logits), torch.from_numpy(file.labels[start:stop]))
            start = stop
            progress.update(len(logits))
    return counts


def has_accuracy(path: str | os.PathLike[str]) -> bool:
    """Whether a run has metrics of an image classifier, or none yet."""
    checkpoints = [each for split in read_existing_run(path).metrics.values() for each in split.values()]
    return not checkpoints or any("top1" in metrics for metrics in checkpoints)


def accuracy_of_run(path: str | os.PathLike[str], split: str, checkpoint: str) -> ModelAccuracy:
    """The accuracy in the ``run.json`` of a run's directory.

    Args:
        path: the directory.
        split: the split that was measured.
        checkpoint: the file's name, or a unique part of it.

    Raises:
        InputError: the record has no such metrics, or is not of an image classifier.
    """
    record = read_existing_run(path)
    if split not in record.metrics:
        raise input_error(
            "--split", split, f"must be one that {path} has results of: {', '.join(record.metrics) or 'none'}"
        )
    names = list(record.metrics[split])
    fitting = [name for name in names if name == checkpoint] or [name for name in names if checkpoint in name]
    if not names:
        valid = f"must be one that {path} has results of, and it has not been validated yet: resume or validate it"
        raise input_error("--checkpoint", checkpoint, valid)
    if len(fitting) != 1:
        raise input_error("--checkpoint", checkpoint, f"must be one that {path} has results of: {', '.join(names)}")
    metrics = record.metrics[split][fitting[0]]
    if missing := {"top1", "top5", "samples", "classwise"} - metrics.keys():
        raise input_error(
            "PATH", path, f"has no {', '.join(sorted(missing))} of {fitting[0]}, must be a run of an image classifier"
        )
    measured = convert(metrics, _ImageMetrics, f"{path}: figures of {split}")
    configuration = record.configuration
    provenance: dict[str, Any] = {
        "model": configuration.get("model"),
        "configuration": configuration,
        "seed": record.seed,
    }
    provenance |= {"teacher": record.teacher, "data": record.data, "split": split, "checkpoint": fitting[0]}
    names, values = list(measured.classwise), list(measured.classwise.values())
    return ModelAccuracy(str(path), provenance, measured.samples, measured.top1, measured.top5, names, values)
