"""Read results from the JSON files that commands write with --output, as measurements of the paper's tables."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec import field

from lskd.io.errors import InputError, input_error
from lskd.io.schema import Count, Name, Number, Text, convert, read_json
from lskd.measure.model_accuracy import ModelAccuracy
from lskd.measure.wordnet import readable_name
from lskd.paper.published import FIELDS
from lskd.records.runs import data_name, teacher_smoothing

SPLITS = {"valid": "val", "validation": "val"}  # to the paper's name
# The paper's variants of η, and the variant that corrects the first for the noise of few samples.
ETA = {"centroid": "eta", "corrected": "eta", "pairwise": "eta_pairwise"}
CORRECTED = "η of {data} is corrected for the noise of few samples (variant corrected); the paper's is not."
UNITS = {"entropy": "nats", "count": "classes", "class_accuracy": "%", "eta": "%", "agreement": "fraction"}


@dataclass(frozen=True)
class Row:
    """A result that a command wrote.

    Attributes:
        measurement: the known fields of :class:`lskd.paper.published.Measurement`.
        seed: distinguishes it from results of other seeds; empty if the command averages over seeds.
        notes: notes for readers, a sentence each.
    """

    measurement: dict[str, Any]
    seed: str = ""
    notes: tuple[str, ...] = ()


class _Smoothing(msgspec.Struct):
    alpha: Number | None = None


class _Teacher(msgspec.Struct):
    model: Text | None = None
    label_smoothing: _Smoothing | None = None


class _Host(msgspec.Struct):
    kd_distill_type: Text | None = None


class _Configuration(msgspec.Struct):
    temperature: Number | None = None
    label_smoothing: Number | None = None
    host: _Host | None = None


class _Provenance(msgspec.Struct):
    """How a model was made, from a representation file or a run."""

    model: Text | None = None
    teacher: _Teacher | None = None
    configuration: _Configuration | None = None
    data: Any = None
    split: Text | None = None
    seed: Number | None = None

    @property
    def made(self) -> _Configuration:
        return self.configuration or _Configuration()

    @property
    def smoothing(self) -> float | None:
        """The α from :func:`lskd.records.runs.teacher_smoothing`, rounded."""
        alpha = teacher_smoothing(msgspec.to_builtins(self))
        return None if alpha is None else round(alpha, 3)


class _Measured(msgspec.Struct):
    """A file on which η was measured."""

    provenance: _Provenance


class _Eta(msgspec.Struct):
    variant: Text
    first: list[_Measured]
    second: list[_Measured]
    warnings: list[Text] = []


class _EtaRow(msgspec.Struct):
    target: Name
    eta_similar_percent: Number
    eta_dissimilar_percent: Number
    eta_similar_sd_percent: Number | None = None
    eta_dissimilar_sd_percent: Number | None = None
    n: Count | None = None


class _ModelRow(msgspec.Struct):
    """A row about a model, with the field names of :class:`lskd.paper.published.Measurement`."""

    data: Text | None = None
    label_smoothing: Number | None = None
    split: Text | None = None

    def measurement(self, metric: str, **other: Any) -> dict[str, Any]:
        """Its fields, in the paper's notation, and the fields in ``other``."""
        found: dict[str, Any] = {name: getattr(self, name) for name in FIELDS if hasattr(self, name)} | other
        alpha, name = self.label_smoothing, found.get("target_class")
        found |= {"label_smoothing": None if alpha is None else round(alpha, 3), "split": _split(self.split)}
        return found | {"target_class": name and readable_name(name), "metric": metric, "unit": UNITS[metric]}


class _TeacherRow(_ModelRow, kw_only=True):
    teacher: Text | None = field(name="model", default=None)
    seed: Number | None = None
    file: Name

    @property
    def which(self) -> str:
        return f"seed {self.seed:g}" if self.seed is not None else self.file


class _EntropyRow(_TeacherRow, kw_only=True):
    mean: Number = field(name="entropy_nats")
    temperature: Number
    largest_entropy_nats: Number | None = None


class _CountRow(_TeacherRow, kw_only=True):
    mean: Number = field(name="far_below_second")
    temperature: Number
    target_class: Name = field(name="class")
    classes: Count | None = None


class _AccuracyRow(_ModelRow, kw_only=True):
    temperature: Number | None = None
    role: Text | None = None
    student: Name | None = field(name="model")
    teacher: Text | None = None
    target_class: Name = field(name="class")
    mean: Number = field(name="top1")
    standard_deviation: Number | None = field(name="top1_sd", default=None)
    n: Count | None = None


class _AgreementRow(msgspec.Struct):
    target: Name
    similar: Number
    dissimilar: Number
    shown: Text | None = None


def read_rows(path: str | os.PathLike[str]) -> list[Row]:
    """Read the results in a file that ``lskd eta``, ``entropy``, ``accuracy`` or ``similar`` wrote.

    Raises:
        InputError: not a file of these commands, or a field of a wrong type.
        OSError: no such file.
    """
    content = read_json(path, dict[str, Any])
    if content.get("rows") is None:
        raise input_error("INPUT", path, "must be what lskd eta, entropy, accuracy or similar --agreement writes")
    rows = convert(content["rows"], list[dict[str, Any]], f"{path}: rows")
    numbered = [(row, f"{path}: rows[{i}]") for i, row in enumerate(rows)]
    if content.get("variant") is not None:
        eta = convert(content, _Eta, str(path))
        return list(_eta(eta, [convert(row, _EtaRow, where) for row, where in numbered], str(path)))
    about = convert(content.get("provenance") or {}, _Provenance, f"{path}: provenance")
    return [found for row, where in numbered for found in _row(row, where, about)]


def is_result(path: Path) -> bool:
    """Whether a file is JSON with rows, as commands write it. Broken JSON counts: :func:`read_rows` rejects it."""
    if path.suffix != ".json":
        return False
    try:
        return read_json(path, dict[str, Any]).get("rows") is not None
    except InputError:
        return True


def accuracy_rows(measured: ModelAccuracy) -> list[Row]:
    """Top-1 and top-5 on validation, and top-1 of each class, from a representation file."""
    made = convert(measured.provenance, _Provenance, measured.path)
    about = {
        "data": data_name(made.data),
        "student": made.model if made.teacher else None,
        "teacher": made.teacher.model if made.teacher else made.model,
        "label_smoothing": made.smoothing,
        "temperature": made.made.temperature if made.teacher else None,
    }
    seed = f"seed {made.seed:g}" if made.seed is not None else measured.path
    split = _split(made.split)
    overall = {"top1": measured.top1, "top5": measured.top5} if split == "val" else {}
    measurements = [about | {"metric": metric, "unit": "%", "mean": mean} for metric, mean in overall.items()]
    measurements += [
        about
        | {"metric": "class_accuracy", "unit": "%", "split": split, "target_class": readable_name(name), "mean": value}
        for name, value in zip(measured.class_names, measured.classwise, strict=True)
        if value is not None
    ]
    return [Row(each, seed) for each in measurements]


def _eta(content: _Eta, rows: list[_EtaRow], path: str) -> Iterator[Row]:
    """η of each target, in %."""
    if content.variant not in ETA:
        valid = f"has η of variant {content.variant}; must be centroid or corrected for Table 3, pairwise for Table K.1"
        raise input_error("INPUT", path, valid)
    name = ETA[content.variant]
    if not content.first or not content.second:
        return
    first, second = content.first[0].provenance, content.second[0].provenance
    if first.made.temperature is None or second.made.temperature is None:
        raise input_error(path, "temperature", "must be in the configuration of both students")
    about = {
        "data": data_name(second.data),
        "teacher": second.teacher and second.teacher.model,
        "student": second.model or "student",
        "distill_type": (second.made.host and second.made.host.kd_distill_type) or "logit",
        "label_smoothing": second.smoothing,
        "temperature": second.made.temperature,
        "reference_temperature": first.made.temperature,
        "split": _split(second.split),
        "unit": UNITS["eta"],
    }
    notes = tuple(content.warnings)
    if content.variant == "corrected":
        notes += (CORRECTED.format(data=about["data"] or "these data"),)
    for row in rows:
        known = about | {"target_class": readable_name(row.target), "n": row.n}
        similar = {"mean": row.eta_similar_percent, "standard_deviation": row.eta_similar_sd_percent}
        yield Row(known | {"metric": f"{name}_similar"} | similar, notes=notes)
        dissimilar = {"mean": row.eta_dissimilar_percent, "standard_deviation": row.eta_dissimilar_sd_percent}
        yield Row(known | {"metric": f"{name}_dissimilar"} | dissimilar, notes=notes)


def _row(row: dict[str, Any], where: str, made: _Provenance) -> Iterator[Row]:
    """Yield the results in a row of the other commands; no table has entropies of students."""
    has = {name for name, value in row.items() if value is not None}
    if {"entropy_nats", "label_smoothing"} <= has:
        entropy = convert(row, _EntropyRow, where)
        most = entropy.largest_entropy_nats
        notes = (f"Measured entropies are at most ln K = {most:.3f} nats.",) if most else ()
        yield Row(entropy.measurement("entropy"), entropy.which, notes)
    elif {"far_below_second", "label_smoothing"} <= has:  # in a class's mean output
        count = convert(row, _CountRow, where)
        notes = (f"Measured counts are of {count.classes} classes.",) if count.classes else ()
        yield Row(count.measurement("count"), count.which, notes)
    if {"class", "top1"} <= has:
        accuracy = convert(row, _AccuracyRow, where)
        who = {"student": None, "teacher": accuracy.student} if accuracy.role == "teacher" else {}
        yield Row(accuracy.measurement("class_accuracy", **who))
    if "target" in has and "entropy_nats" not in has:
        yield from _agreement(convert(row, _AgreementRow, where), made)


def _agreement(row: _AgreementRow, made: _Provenance) -> Iterator[Row]:
    """Agreement of two methods of choosing similar and dissimilar classes, one of which may use a model."""
    name = row.shown or readable_name(row.target)
    about = {"data": data_name(made.data), "teacher": made.model, "split": _split(made.split)}
    about |= {"unit": UNITS["agreement"], "target_class": "average" if name == "mean" else name}
    for kind, mean in (("similar", row.similar), ("dissimilar", row.dissimilar)):
        yield Row(about | {"metric": f"agreement_{kind}", "mean": mean})


def _split(name: str | None) -> str | None:
    return SPLITS.get(name or "", name)
