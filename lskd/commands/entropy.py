"""Mean entropy of the soft outputs at each temperature, as the paper's Table H.1.

It is computed from the sums stored in representation files if these have all temperatures, else from the features and
the last layer. With --classes, also the mean soft output of a class (Figure 2) over the samples whose features were
kept, and how many classes are at least 100 times less probable in it than the second (Appendix E); --figure draws the
mean outputs.
"""

import argparse
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lskd.commands.file_logits import FileLogits, entropy_sums
from lskd.io.argument_types import output_file, positive, table_file
from lskd.io.errors import error_context, input_error, warn
from lskd.io.output import shown_anyway
from lskd.io.tables import Column, show, write
from lskd.io.temperatures import add_temperatures
from lskd.measure.class_sets import class_indices
from lskd.measure.representations import Representations, read_representations
from lskd.measure.smoothness import far_below_second, mean_soft_outputs
from lskd.measure.wordnet import readable_name
from lskd.records.runs import data_name, teacher_smoothing
from lskd.report.figure_files import FORMATS, write_figure
from lskd.report.soft_output_figure import SoftOutputs, largest, soft_output_figure

EXAMPLE = "lskd entropy teachers/*.train.representations.safetensors --temperatures 1 2 3 64"


MeanOutputs = dict[float, NDArray[np.float64]]  # (classes, K) by T


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``lskd entropy``."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="representations of teachers, or of any models")
    add_temperatures(parser, [1, 2, 3, 64], "or a file of `lskd match-temperature --output`")
    parser.add_argument("--classes", nargs="+", default=[], metavar="CLASS", help="whose mean soft outputs to show")
    parser.add_argument("--top", type=positive, default=5, metavar="N", help="entries of a mean output (default: 5)")
    parser.add_argument("--output", type=table_file, metavar="FILE", help="the tables, .csv or .json")
    parser.add_argument(
        "--figure",
        type=output_file(*FORMATS),
        metavar="FILE",
        help=f"the mean outputs as bars (--classes), {', '.join(FORMATS)}",
    )


def run(arguments: argparse.Namespace) -> None:
    """Print the entropies, then the mean outputs; write them, and draw the outputs."""
    if arguments.figure and not arguments.classes:
        raise input_error("--figure", arguments.figure, "must be with --classes, whose mean outputs it shows")
    files = [(path, read_representations(path)) for path in arguments.files]
    chosen = [class_indices(arguments.classes, each.class_names, "--classes") for _, each in files]
    rows, outputs, panels, left_out = [], [], [], []
    for (path, each), wanted in zip(files, chosen, strict=True):
        rows += _entropy_rows(path, each, arguments.temperatures)
        kept = np.bincount(each.labels, minlength=len(each.class_names))
        labels = [label for label in wanted if kept[label]]
        left_out += [
            f"{path}: no samples of {each.class_names[label]!r} were kept." for label in wanted if not kept[label]
        ]
        if labels:
            means = _mean_outputs(path, each, labels, arguments.temperatures)
            outputs += _output_rows(path, each, labels, means, arguments.top)
            panels += _panels(path, each, labels, means, arguments.top, len(files) > 1)
    if left_out and not outputs:
        raise input_error(
            "--classes", " ".join(arguments.classes), f"must have samples: {left_out[0].removesuffix('.')}"
        )
    warn("lskd entropy", left_out)
    with error_context("--figure"):
        drawing = soft_output_figure(panels) if arguments.figure else None
    shown = [_table(rows, arguments.temperatures), "Mean entropy in nats; ln K is the largest possible."]
    if outputs:
        shown.append(_output_table(outputs))
        shown.append("Mean soft outputs; far below: classes at least 100 times less probable than the second.")
    with shown_anyway(*shown):
        if arguments.output:
            write(arguments.output, rows + [row | {"outputs": ", ".join(row["outputs"])} for row in outputs])
        if drawing is not None:
            write_figure(arguments.figure, drawing)


def _facts(path: str, representations: Representations) -> dict[str, Any]:
    provenance = representations.provenance
    alpha = (provenance.get("configuration") or {}).get("label_smoothing")
    return {
        "file": path,
        "data": data_name(provenance.get("data")),
        "model": provenance.get("model"),
        "label_smoothing": None if provenance.get("teacher") else alpha,
        "seed": provenance.get("seed"),
        "split": provenance.get("split"),
    }


def _entropy_rows(path: str, representations: Representations, temperatures: Sequence[float]) -> list[dict[str, Any]]:
    sums = entropy_sums(path, representations, temperatures)
    facts = _facts(path, representations) | {"samples": sums.n}
    errors = [None if math.isnan(error) else error for error in sums.standard_error().tolist()]
    return [
        facts
        | {"temperature": temperature, "entropy_nats": mean, "standard_error_nats": error}
        | {"largest_entropy_nats": math.log(len(representations.class_names))}
        for temperature, mean, error in zip(temperatures, sums.mean().tolist(), errors, strict=True)
    ]


def _table(rows: Sequence[dict[str, Any]], temperatures: Sequence[float]) -> str:
    columns = [Column("file", "file"), Column("model", "model"), Column("α", "label_smoothing", ".3g")]
    columns += [Column("split", "split"), Column("samples", "samples")]
    columns += [Column(f"T = {each:.7g}", f"T{each}", ".4f") for each in temperatures]
    lines = [
        rows[start] | {f"T{row['temperature']}": row["entropy_nats"] for row in rows[start : start + len(temperatures)]}
        for start in range(0, len(rows), len(temperatures))
    ]
    return show(lines, [*columns, Column("ln K", "largest_entropy_nats", ".4f")])


def _mean_outputs(
    path: str, representations: Representations, labels: Sequence[int], temperatures: Sequence[float]
) -> MeanOutputs:
    """The mean soft outputs of the given classes, by T."""
    if len(representations.class_names) < 2:
        raise input_error("FILE", path, "must have at least 2 classes for --classes")
    logits = FileLogits(path, representations)
    with error_context(path):
        return {each: mean_soft_outputs(logits, representations.labels, labels, each) for each in temperatures}


def _output_rows(
    path: str, representations: Representations, labels: Sequence[int], means: MeanOutputs, top: int
) -> list[dict[str, Any]]:
    names, rows = representations.class_names, []
    for temperature, outputs in means.items():
        for label, mean, far in zip(labels, outputs, far_below_second(outputs).tolist(), strict=True):
            best = np.argsort(-mean, kind="stable")[:top]
            rows.append(
                _facts(path, representations)
                | {"class": names[label], "samples": int((representations.labels == label).sum())}
                | {"temperature": temperature, "far_below_second": far, "classes": len(names)}
                | {"outputs": [f"{names[index]} {mean[index]:.3g}" for index in best]}
            )
    return rows


def _panels(
    path: str,
    each: Representations,
    labels: Sequence[int],
    means: MeanOutputs,
    top: int,
    several: bool,
) -> Iterator[SoftOutputs]:
    """Yield the panels of each class for :func:`soft_output_figure`; titles name the model if there are several."""
    alpha = teacher_smoothing(each.provenance)
    model = each.provenance.get("model") or Path(path).name
    about = f", {model}" + ("" if alpha is None else f" α = {alpha:.3g}") if several else ""
    for place, label in enumerate(labels):
        by_temperature = {temperature: outputs[place] for temperature, outputs in means.items()}
        name = each.class_names[label]
        title = f"{readable_name(name)}{about}"
        names = [readable_name(other) for other in each.class_names]
        yield largest(title, label, names, by_temperature, top)


def _output_table(rows: Sequence[dict[str, Any]]) -> str:
    columns = [Column("class", "class"), Column("file", "file"), Column("samples", "samples")]
    columns += [Column("T", "temperature", ".7g"), Column("far below", "far_below_second"), Column("of", "classes")]
    columns += [Column(f"{place}.", str(place)) for place in range(1, 1 + len(rows[0]["outputs"]))]
    return show([row | {str(place): each for place, each in enumerate(row["outputs"], 1)} for row in rows], columns)
