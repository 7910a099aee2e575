"""Figures in the JSON files that commands write with --output, in the fields of the paper's tables."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lskd.io.errors import InputError, input_error
from lskd.io.json_fields import Fields, read_fields
from lskd.measure.model_accuracy import ModelAccuracy
from lskd.measure.wordnet import imagenet_classes
from lskd.records.runs import data_name, look_up, teacher_smoothing

SPLITS = {"valid": "val", "validation": "val"}  # as the paper has it
# The variants of η that the paper has, and the one that corrects its first for the noise of few samples.
ETA = {"centroid": "eta", "corrected": "eta", "pairwise": "eta_pairwise"}
CORRECTED = "η of {data} is corrected for the noise of few samples (variant corrected); the paper's is not."
UNITS = {"entropy": "nats", "count": "classes", "class_accuracy": "%", "eta": "%", "agreement": "fraction"}


@dataclass(frozen=True)
class Row:
    """A figure that a command wrote.

    Attributes:
        figure: fields of :class:`lskd.paper.published.Figure` that are known.
        seed: what tells it from those of other seeds, where the command does not sum these up.
        notes: what a reader has to know of it, a sentence each.
    """

    figure: dict
    seed: str = ""
    notes: tuple[str, ...] = ()


def read_rows(path: str | os.PathLike) -> list[Row]:
    """The figures that may be in a table, of a file that ``lskd eta``, ``entropy``, ``accuracy`` or ``similar`` wrote.

    Raises:
        InputError: no such file, or a field of another type than the command writes.
    """
    content = read_fields(path)
    if "rows" not in content:
        raise input_error("INPUT", path, "must be what lskd eta, entropy, accuracy or similar --agreement writes")
    rows = content.objects("rows")
    if "variant" in content:
        return list(_eta(content, rows))
    about = content.object("provenance")
    return [found for row in rows for found in (*_entropy(row), *_accuracy(row), *_agreement(row, about))]


def is_result(path: Path) -> bool:
    """Whether a file is JSON with rows, as commands write it; broken JSON is for :func:`read_rows` to refuse."""
    if path.suffix != ".json":
        return False
    try:
        return "rows" in read_fields(path)
    except InputError:
        return True


def accuracy_rows(measured: ModelAccuracy) -> list[Row]:
    """Top-1 and top-5 on validation, and top-1 of each class, of a representation file."""
    provenance = Fields(measured.provenance, measured.path)
    student = provenance.text("model") if measured.provenance.get("teacher") else None
    about = {
        "data": data_name(look_up(provenance.content, "data")),
        "student": student,
        "teacher": provenance.object("teacher").text("model") if student else provenance.text("model"),
        "label_smoothing": _smoothing(provenance),
        "temperature": provenance.object("configuration").number("temperature") if student else None,
    }
    seed = provenance.number("seed")
    seed = f"seed {seed:g}" if seed is not None else measured.path
    split = _split(provenance)
    overall = {"top1": measured.top1, "top5": measured.top5} if split == "val" else {}
    figures = [about | {"metric": metric, "unit": "%", "mean": mean} for metric, mean in overall.items()]
    figures += [
        about | {"metric": "class_accuracy", "unit": "%", "split": split, "target_class": _class(name), "mean": value}
        for name, value in zip(measured.class_names, measured.classwise, strict=True)
        if value is not None
    ]
    return [Row(each, seed) for each in figures]


def _eta(content: Fields, rows: list[Fields]) -> Iterator[Row]:
    """η of each target, in %."""
    variant = content.needed_text("variant")
    if variant not in ETA:
        valid = f"has η of variant {variant}; must be centroid or corrected for Table 3, pairwise for Table K.1"
        raise input_error("INPUT", content.where, valid)
    files = [content.objects(which) for which in ("first", "second")]
    if not all(files):
        return
    first, second = (each[0].object("provenance") for each in files)
    about = {
        "data": data_name(look_up(second.content, "data")),
        "teacher": second.object("teacher").text("model"),
        "student": second.text("model") or "student",
        "distill_type": look_up(second.content, "configuration", "host", "kd_distill_type") or "logit",
        "label_smoothing": _smoothing(second),
        "temperature": second.object("configuration").needed_number("temperature"),
        "reference_temperature": first.object("configuration").needed_number("temperature"),
        "split": _split(second),
        "unit": UNITS["eta"],
    }
    notes = (*content.texts("warnings"),)
    if variant == "corrected":
        notes += (CORRECTED.format(data=about["data"] or "these data"),)
    for row in rows:
        known = about | {"target_class": _class(row.needed_text("target")), "n": _count(row)}
        for kind in ("similar", "dissimilar"):
            figures = {
                "metric": f"{ETA[variant]}_{kind}",
                "mean": row.needed_number(f"eta_{kind}_percent"),
                "standard_deviation": row.number(f"eta_{kind}_sd_percent"),
            }
            yield Row(known | figures, notes=notes)


def _entropy(row: Fields) -> Iterator[Row]:
    """The entropy of a teacher's outputs, and how many classes are far below the second in a class's mean output."""
    if not {"entropy_nats", "far_below_second"} & row.content.keys() or row.number("label_smoothing") is None:
        return  # another command's, or a student's
    about = {
        "data": row.text("data"),
        "teacher": row.text("model"),
        "label_smoothing": round(row.needed_number("label_smoothing"), 3),
        "temperature": row.needed_number("temperature"),
        "split": _split(row),
    }
    seed = row.number("seed")
    seed = f"seed {seed:g}" if seed is not None else row.needed_text("file")
    if "entropy_nats" in row:
        figures = {"metric": "entropy", "unit": UNITS["entropy"], "mean": row.number("entropy_nats")}
        most = row.number("largest_entropy_nats")
        most_there_is = (f"Measured entropies are at most ln K = {most:.3f} nats.",) if most else ()
        yield Row(about | figures, seed, most_there_is)
    elif "far_below_second" in row:
        figures = {"metric": "count", "unit": UNITS["count"], "mean": row.number("far_below_second")}
        figures["target_class"] = _class(row.needed_text("class"))
        classes = row.number("classes")
        of_classes = (f"Measured counts are of {classes:g} classes.",) if classes else ()
        yield Row(about | figures, seed, of_classes)


def _accuracy(row: Fields) -> Iterator[Row]:
    """Accuracy of a class, over seeds."""
    if "class" not in row or "top1" not in row:
        return
    model = row.needed_text("model").partition(" ")[2]  # "#2 student resnet18"
    role, _, name = model.partition(" ")
    smoothing = row.number("label_smoothing")
    about = {
        "data": row.text("data"),
        "student": None if role == "teacher" else name if role == "student" else model,
        "teacher": name if role == "teacher" else row.text("teacher"),
        "label_smoothing": None if smoothing is None else round(smoothing, 3),
        "temperature": row.number("temperature"),
        "split": _split(row),
        "target_class": _class(row.needed_text("class")),
    }
    figures = {"mean": row.number("top1"), "standard_deviation": row.number("top1_sd"), "n": _count(row)}
    yield Row(about | figures | {"metric": "class_accuracy", "unit": UNITS["class_accuracy"]})


def _agreement(row: Fields, provenance: Fields) -> Iterator[Row]:
    """Agreement of two ways to choose similar and dissimilar classes, one of which may look at a model."""
    if "target" not in row or "entropy_nats" in row:
        return
    name = row.text("shown") or _class(row.needed_text("target"))
    about = {
        "data": data_name(look_up(provenance.content, "data")),
        "teacher": provenance.text("model"),
        "split": _split(provenance),
    }
    for kind in ("similar", "dissimilar"):
        figures = {"metric": f"agreement_{kind}", "unit": UNITS["agreement"], "mean": row.needed_number(kind)}
        yield Row(about | figures | {"target_class": "average" if name == "mean" else name})


def _class(name: str) -> str:
    """A class as people read it."""
    return imagenet_classes().get(name, name)


def _split(row: Fields) -> str | None:
    name = row.text("split")
    return SPLITS.get(name, name)


def _count(row: Fields) -> int | None:
    n = row.number("n")
    return None if n is None else int(n)


def _smoothing(provenance: Fields) -> float | None:
    known = Fields({"label_smoothing": teacher_smoothing(provenance.content)}, provenance.where)
    alpha = known.number("label_smoothing")
    return None if alpha is None else round(alpha, 3)
