"""The results of the paper, by table.

They are in ``data/published.csv``, one result per row, with the printed digits. If a table disagrees with another one,
with the text, or with itself, its results have a ``flag`` that says so; the values are as printed.
The paper: K. Chandrasegaran et al., "Revisiting Label Smoothing and Knowledge Distillation Compatibility: What was
Missing?", ICML 2022.
"""

import csv
import difflib
import functools
import importlib.resources
import math
import re
from dataclasses import dataclass, fields
from typing import Annotated

from msgspec import Meta

from lskd.io.errors import input_error
from lskd.io.schema import Name, Number, Positive, Text, convert

SOURCE = "Chandrasegaran et al., ICML 2022"
TABLES = {
    "2A": "Accuracy on ImageNet-1K, students ResNet-18 and ResNet-50",
    "2B": "Accuracy on CUB200-2011, students ResNet-18 and ResNet-50",
    "3": "Diffusion index η of ten target classes, students ResNet-18 and ResNet-50",
    "4": "Accuracy of a compact student on CUB200-2011, MobileNetV2",
    "5": "Translation, English to German",
    "B.1": "Accuracy on CUB200-2011, student ConvNeXt-T",
    "B.2": "Translation, English to Russian",
    "B.3": "Accuracy of a compact student on ImageNet-1K, EfficientNet-B0",
    "B.4": "Diffusion index η of ten target classes, student EfficientNet-B0",
    "B.5": "Accuracy on CUB200-2011 with feature distillation (Heo et al. 2019) beside that of logits",
    "D.1": "Table 2A with standard deviations",
    "D.2": "Table 2B with standard deviations",
    "D.3": "Table 5 with standard deviations",
    "D.4": "Table 4 with standard deviations",
    "E": "Classes at least 100 times less probable than the second, in a class's mean output",
    "G.1": "Agreement of WordNet and feature distance on similar and dissimilar classes",
    "H.1": "Mean entropy of the teachers' outputs on the training images",
    "H.2": "Students at equal mean entropy of the targets, T about 1",
    "H.3": "Students at equal mean entropy of the targets, T about 3",
    "H.4": "Students at equal mean entropy of the targets, T = 64",
    "I.1": "Class-wise accuracy, the three classes of the projection",
    "I.2": "Class-wise accuracy, the five retrievers",
    "I.3": "Class-wise accuracy, the five snakes",
    "J.1": "Accuracy on CUB200-2011 with more label smoothing, student MobileNetV2",
    "K.1": "Diffusion index η from mean pairwise distances",
}

# The paper's names, by the names in runs and commands reduced to lower-case letters and digits.
DATA = {
    "imagenet": "ImageNet-1K",
    "imagenet1k": "ImageNet-1K",
    "cub200": "CUB200-2011",
    "cub2002011": "CUB200-2011",
    "iwslt14ende": "IWSLT En-De",
    "iwsltende": "IWSLT En-De",
    "iwslt14enru": "IWSLT En-Ru",
    "iwsltenru": "IWSLT En-Ru",
}
MODELS = {
    "resnet18": "ResNet-18",
    "resnet50": "ResNet-50",
    "mobilenetv2": "MobileNetV2",
    "mobilenetv2100": "MobileNetV2",
    "efficientnetb0": "EfficientNet-B0",
    "convnextt": "ConvNeXt-T",
    "convnexttiny": "ConvNeXt-T",
    "transformer": "Transformer",
}


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One result in one table.

    Attributes:
        table: its id, one of :func:`tables`.
        data: the data set.
        teacher: the teacher's architecture.
        student: the student's architecture, "not stated" in Table K.1; None for a result of the teacher itself.
        distill_type: how a student was distilled: ``logit``, or ``overhaul`` (Heo et al. 2019, in addition to logits).
        label_smoothing: α of the teacher; None for an unrelated teacher (Table G.1).
        temperature: T of distillation, or of the outputs whose entropy is given; None for a teacher's accuracy.
        reference_temperature: for η, the T with which ``temperature`` is compared.
        split: ``train`` or ``val`` if the table states it.
        target_class: the class; ``average`` is the table's own last row.
        metric: what was measured: ``top1``, ``top5``, ``bleu``, ``eta_similar`` …
        unit: ``%``, ``BLEU``, ``nats``, ``fraction`` or ``classes``. η is printed in %.
        mean: the value, which is the mean of ``n`` runs if there are several.
        standard_deviation: in the same unit, or None.
        n: number of runs; None if neither the table nor the one that repeats it states it.
        flag: inconsistencies of the result, or None; several notes are separated by `` | ``.
    """

    table: Text = ""
    data: Text | None = None
    teacher: Text | None = None
    student: Text | None = None
    distill_type: Text | None = None
    label_smoothing: Number | None = None
    temperature: Positive | None = None
    reference_temperature: Positive | None = None
    split: Text | None = None
    target_class: Text | None = None
    metric: Name
    unit: Name
    mean: Number
    standard_deviation: Number | None = None
    n: Annotated[int, Meta(ge=1)] | None = None
    flag: Text | None = None


FIELDS = tuple(field.name for field in fields(Measurement))


def tables() -> dict[str, str]:
    """The ids and titles of the tables, in the paper's order; ``E`` stands for the counts of Appendix E."""
    return dict(TABLES)


def published(table: str, **selection: object) -> list[Measurement]:
    """The results of a table, in its order.

    Args:
        table: an id of :func:`tables`.
        selection: fields of :class:`Measurement` with their required values.

    Raises:
        InputError: no such table, or no such field.

    Example:
        >>> [(each.mean, each.standard_deviation) for each in published("D.3", label_smoothing=0.1, temperature=64)]
        [(6.461, 0.061)]
    """
    if table not in TABLES:
        raise input_error("table", table, f"must be one of {', '.join(_near(table))}")
    for name in selection:
        if name not in FIELDS:
            raise input_error("selection", name, f"must be one of {', '.join(FIELDS)}")
    return [
        measurement
        for measurement in _measurements()
        if measurement.table == table and all(getattr(measurement, name) == value for name, value in selection.items())
    ]


def counterparts(
    metric: str,
    data: str,
    teacher: str,
    student: str | None = None,
    label_smoothing: float | None = None,
    temperature: float | None = None,
    distill_type: str = "logit",
) -> list[Measurement]:
    """The published results of exactly this configuration over all classes, in the tables' order.

    Several tables may have it: those with standard deviations repeat others, not always with the same mean (``flag``).

    Args:
        metric: ``top1``, ``top5``, ``bleu`` or ``entropy``.
        data: the data set as named in runs, such as ``imagenet``, ``cub200`` or ``iwslt14.en-de``, or as printed.
        teacher: timm's name with or without its tag, a fairseq architecture, or the name as printed.
        student: likewise; None for results of the teacher itself.
        label_smoothing: α of the teacher, compared to three decimals: fairseq's ε = .1 is an α slightly above .1.
        temperature: T of distillation, or for ``entropy`` of the outputs; None for a teacher's accuracy or BLEU.
        distill_type: ``logit`` or ``overhaul``; only for students.

    Returns:
        The results; empty if the paper has no such configuration.

    Example:
        >>> [(each.table, each.mean) for each in counterparts("top1", "cub200", "resnet50", "resnet18", 0.1, 1)]
        [('2B', 80.946), ('D.2', 80.946), ('H.2', 80.946)]
        >>> counterparts("top1", "cub200", "resnet50", "resnet34", 0.1, 1)
        []
    """
    configuration = {
        "metric": metric,
        "data": _known(data, DATA),
        "teacher": _model(teacher),
        "student": student and _model(student),
        "distill_type": student and distill_type,
        "target_class": None,
    }
    return [
        measurement
        for measurement in _measurements()
        if all(getattr(measurement, name) == value for name, value in configuration.items())
        and _close(measurement.label_smoothing, label_smoothing, 5e-4)
        and _close(measurement.temperature, temperature, 1e-9)
    ]


def _near(table: str) -> list[str]:
    """Ids that resemble ``table``, ignoring case, punctuation and the word "table"; all ids if none does."""
    plain = {re.sub(r"\W", "", name).lower(): name for name in TABLES}
    wanted = re.sub(r"\W|^table", "", table.strip().lower())
    near = [name for key, name in plain.items() if wanted and (key.startswith(wanted) or wanted.startswith(key))]
    near = near or [plain[key] for key in difflib.get_close_matches(wanted, plain, n=3, cutoff=0.5)]
    return near or list(TABLES)


def _model(name: str) -> str:
    """The paper's name of a model, without timm's tag (``resnet18.tv_in1k``); one name for fairseq's Transformers."""
    name = name.partition(".")[0]
    return _known("transformer" if name.startswith("transformer_") else name, MODELS)


def _known(name: str, names: dict[str, str]) -> str:
    """The paper's name; "", which matches no result, if there is none."""
    return names.get(re.sub(r"[^a-z0-9]", "", name.lower()), "")


def _close(one: float | None, other: float | None, tolerance: float) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=0, abs_tol=tolerance)


@functools.cache
def _measurements() -> tuple[Measurement, ...]:
    text = importlib.resources.files("lskd").joinpath("data", "published.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return tuple(
        convert({name: text or None for name, text in row.items()}, Measurement, "published.csv", strict=False)
        for row in rows
    )
