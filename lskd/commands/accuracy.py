"""Top-1, top-5 and class-wise accuracy, and the changes from the first model to the others.

Inputs are representation files, which hold the counts or give the logits, and run directories of trainings. Runs that
differ only in their seed share a line, with mean and standard deviation over the seeds. A change is the difference of
means, in percentage points, from the first line of the same split.
"""

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lskd.io.argument_types import table_file
from lskd.io.errors import input_error, warn
from lskd.io.output import shown_anyway
from lskd.io.tables import Column, show, write
from lskd.measure.class_sets import class_indices
from lskd.measure.model_accuracy import ModelAccuracy, accuracy_of_representations, accuracy_of_run, has_accuracy
from lskd.records.inputs import SUFFIX, find_inputs, say_skipped
from lskd.records.runs import ADDED_OPTIONS, INCIDENTAL, data_name, look_up, read_run, teacher_smoothing, unfinished
from lskd.records.spread import spread_of_known

EXAMPLE = "lskd accuracy runs/cub200/resnet18_a0.1_T{1,3}_s* --classes"
COLUMNS = (
    Column("model", "shown"),
    Column("α", "label_smoothing", ".3g"),
    Column("T", "temperature", ".6g"),
    Column("split", "split"),
    Column("samples", "samples"),
    Column("n", "n"),
    Column("top-1 %", "top1", ".2f"),
    Column("σ", "top1_sd", ".2f"),
    Column("change", "top1_change", "+.2f"),
    Column("top-5 %", "top5", ".2f"),
    Column("σ", "top5_sd", ".2f"),
)
IRRELEVANT = INCIDENTAL | {"seed", "data_seed"}  # settings that may differ between the runs of a mean


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``lskd accuracy``."""
    parser.add_argument("paths", nargs="+", metavar="PATH", help="runs, representation files, directories of either")
    parser.add_argument("--split", default="valid", help="of runs: the split (default: valid)")
    parser.add_argument("--checkpoint", default="last", help="of runs: last, best or a file's name (default: last)")
    parser.add_argument("--classes", nargs="*", metavar="CLASS", help="class-wise: these classes, or all if none named")
    parser.add_argument("--output", type=table_file, help="the table, .csv or .json")


def run(arguments: argparse.Namespace) -> None:
    """Print the table and, if requested, that of the classes; write them."""
    found = find_inputs("PATH", arguments.paths, f"must be a *{SUFFIX} file, a run, or a directory of these")
    without = [path for path in found.runs if len(found.models) > 1 and not has_accuracy(path)]
    measured = [
        accuracy_of_run(path, arguments.split, arguments.checkpoint)
        if path.is_dir()
        else accuracy_of_representations(path)
        for path in found.models
        if path not in without or len(without) == len(found.models)
    ]
    groups = _groups(measured)
    chosen = _classes(arguments.classes, measured)
    rows = [_row(number, group, groups) for number, group in enumerate(groups, start=1)]
    by_class = [
        [_class_row(row, group, label, groups) for label in chosen] for row, group in zip(rows, groups, strict=True)
    ]
    warn("lskd accuracy", _unfinished(found.runs))
    say_skipped(found.skipped)
    say_skipped(without, "without the accuracy of images")
    shown = [row | {"shown": " ".join(filter(None, [f"#{row['number']}", row["role"], row["model"]]))} for row in rows]
    overall = "\n".join([show(shown, COLUMNS), *_notes(rows, groups)])
    with shown_anyway(overall, *([_class_table(by_class)] if chosen else [])):
        if arguments.output:
            write(
                arguments.output,
                [each for row, classes in zip(rows, by_class, strict=True) for each in (row, *classes)],
            )


def _unfinished(runs: Sequence[Path]) -> list[str]:
    """A sentence about each unfinished run."""
    records = [(run, read_run(run)) for run in runs]
    return [f"{run} {short}." for run, record in records if record is not None and (short := unfinished(record))]


def _groups(measured: Sequence[ModelAccuracy]) -> list[list[ModelAccuracy]]:
    """Group runs by configuration; a repeated seed or an unknown configuration starts a new group."""
    groups: list[list[ModelAccuracy]] = []
    for each in measured:
        seed = each.provenance.get("seed")
        known = seed is not None and each.provenance.get("configuration")
        for group in groups if known else ():
            seeds = [other.provenance.get("seed") for other in group]
            if None not in seeds and seed not in seeds and _key(group[0]) == _key(each):
                group.append(each)
                break
        else:
            groups.append([each])
    return groups


def _key(each: ModelAccuracy) -> dict[str, Any]:
    """The properties that runs share if they differ only in their seed."""
    provenance = each.provenance
    teacher, data = provenance.get("teacher") or {}, provenance.get("data") or {}
    return _settings(provenance.get("configuration", {})) | {
        "model": provenance.get("model"),
        "teacher": teacher.get("model"),
        "teacher's label smoothing": teacher_smoothing(provenance),
        "data": data.get("fingerprint"),
        "split": provenance.get("split"),
        "checkpoint": Path(str(provenance.get("checkpoint"))).name,
        "moving average": provenance.get("moving_average"),
        "classes": each.class_names,
    }


def _settings(configuration: dict[str, Any]) -> dict[str, Any]:
    """The relevant settings of a configuration and its host, flattened; without defaults that old records lack."""
    flat = {}
    for name, value in configuration.items():
        if name in ADDED_OPTIONS and value in (None, ADDED_OPTIONS[name]):
            continue
        flat |= _settings(value) if isinstance(value, dict) else {} if name in IRRELEVANT else {name: value}
    return flat


def _differences(one: ModelAccuracy, other: ModelAccuracy) -> list[str]:
    """The names of the settings in which two models differ."""
    first, second = _key(one), _key(other)
    return [name for name in first | second if first.get(name) != second.get(name)]


def _notes(rows: Sequence[dict[str, Any]], groups: Sequence[Sequence[ModelAccuracy]]) -> list[str]:
    """Notes on why rows that look alike were not combined into one."""
    notes = []
    seen: dict[tuple[object, ...], list[int]] = {}
    for place, row in enumerate(rows):
        looks = (row["role"], row["model"], row["label_smoothing"], row["temperature"], row["split"])
        alike = seen.setdefault(looks, [])
        if alike:
            differ, first = min(
                ((_differences(groups[other][0], groups[place][0]), other) for other in alike),
                key=lambda found: len(found[0]),
            )
            reason = f"differs from #{first + 1} in {', '.join(differ)}" if differ else f"has a seed of #{first + 1}"
            notes.append(f"#{place + 1} {reason}")
        alike.append(place)
    return notes


def _classes(wanted: list[str] | None, measured: Sequence[ModelAccuracy]) -> list[int]:
    if wanted is None:
        return []
    names = measured[0].class_names
    for each in measured:
        if each.class_names != names:
            raise input_error(
                "PATH", each.path, f"must have the classes of {measured[0].path}, in their order, for --classes"
            )
    return class_indices(wanted, names, "--classes") or list(range(len(names)))


def _row(number: int, group: Sequence[ModelAccuracy], groups: Sequence[Sequence[ModelAccuracy]]) -> dict[str, Any]:
    """A row of the table."""
    provenance = group[0].provenance
    model, role = provenance.get("model"), "student" if provenance.get("teacher") else "teacher"
    top1, top1_sd = _over_seeds([each.top1 for each in group])
    top5, top5_sd = _over_seeds([each.top5 for each in group])
    before = _before(group, groups)
    return {
        "number": number,
        "role": role if model else None,
        "model": model or Path(group[0].path).name,
        "data": data_name(provenance.get("data")),
        "teacher": look_up(provenance, "teacher", "model"),
        "label_smoothing": teacher_smoothing(provenance),
        "temperature": provenance.get("configuration", {}).get("temperature"),
        "split": provenance.get("split"),
        "class": None,
        "samples": group[0].samples,
        "n": len(group),
        "top1": top1,
        "top1_sd": top1_sd,
        "top1_change": _difference(top1, _over_seeds([each.top1 for each in before])[0]),
        "top5": top5,
        "top5_sd": top5_sd,
        "files": " ".join(each.path for each in group),
    }


def _class_row(
    row: dict[str, Any], group: Sequence[ModelAccuracy], label: int, groups: Sequence[Sequence[ModelAccuracy]]
) -> dict[str, Any]:
    """A row of the table for one class of a group."""
    mean, deviation = _over_seeds([each.classwise[label] for each in group])
    before, _ = _over_seeds([each.classwise[label] for each in _before(group, groups)])
    metrics = {"top1": mean, "top1_sd": deviation, "top1_change": _difference(mean, before)}
    nothing = {"samples": None, "top5": None, "top5_sd": None}
    return row | nothing | metrics | {"class": group[0].class_names[label]}


def _class_table(by_class: Sequence[Sequence[dict[str, Any]]]) -> str:
    """A table with classes as rows and models with their changes as columns, and the mean over classes last."""
    rows = [{"class": row["class"]} for row in by_class[0]] + [{"class": "average"}]
    columns = [Column("top-1 %", "class")]
    for number, classes in enumerate(by_class, start=1):
        for key, title, form in (("top1", f"#{number}", ".2f"), ("top1_change", "change", "+.2f")):
            values = [row[key] for row in classes]
            known = [value for value in values if value is not None]
            if key == "top1_change" and not known:
                continue
            name = f"{key} {number}"
            for row, value in zip(rows, [*values, statistics.fmean(known) if known else None], strict=True):
                row[name] = value
            columns.append(Column(title, name, form))
    return show(rows, columns)


def _before(group: Sequence[ModelAccuracy], groups: Sequence[Sequence[ModelAccuracy]]) -> Sequence[ModelAccuracy]:
    """The first group of the same split, with which this one is compared; empty if it is the first itself."""
    split = group[0].provenance.get("split")
    first = next(other for other in groups if other[0].provenance.get("split") == split)
    return [] if first is group else first


def _over_seeds(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Mean and standard deviation of the known values; None if there are too few."""
    found = spread_of_known(values)
    return (None, None) if found is None else (found.mean, found.sd)


def _difference(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before
