"""Mean entropy of the soft outputs at each temperature, as the paper's Table H.1.

Of representation files: from their stored sums where these have every temperature that is asked for, else from the
features and the last layer. With --classes, also a class's mean soft output (Figure 2), of the samples whose features
were kept, and how many classes are at least 100 times less probable in it than the second (Appendix E); --figure draws
the mean outputs.
"""

import argparse
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from lskd.commands.project import figure_file
from lskd.io.errors import InputError, error_context, input_error, positive, warn
from lskd.io.tables import Column, output_file, show, write
from lskd.measure.class_sets import class_indices
from lskd.measure.representations import Representations, read_representations
from lskd.measure.smoothness import EntropySums, far_below_second, mean_soft_outputs
from lskd.measure.temperatures import temperatures
from lskd.measure.wordnet import imagenet_classes
from lskd.records.runs import data_name, teacher_smoothing
from lskd.report.projection_figure import FORMATS, write_figure
from lskd.report.soft_output_figure import largest, soft_output_figure

EXAMPLE = "lskd entropy teachers/*.train.representations.safetensors --temperatures 1 2 3 64"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``lskd entropy``."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="representations of teachers, or of any models")
    parser.add_argument(
        "--temperatures",
        type=temperatures,
        nargs="+",
        default=[[1], [2], [3], [64]],
        metavar="T",
        help="or a file of `lskd match-temperature --output` (default: 1 2 3 64)",
    )
    parser.add_argument("--classes", nargs="+", default=[], metavar="CLASS", help="whose mean soft outputs to show")
    parser.add_argument("--top", type=positive, default=5, metavar="N", help="entries of a mean output (default: 5)")
    parser.add_argument("--output", type=output_file, metavar="FILE", help="the figures, .csv or .json")
    parser.add_argument(
        "--figure", type=figure_file, metavar="FILE", help=f"the mean outputs as bars (--classes), {', '.join(FORMATS)}"
    )


def run(arguments: argparse.Namespace) -> None:
    """Print the entropies, then the mean outputs; write the figures, and draw the outputs."""
    temperatures = [each for values in arguments.temperatures for each in values]
    check_temperatures("--temperatures", temperatures)
    if arguments.figure and not arguments.classes:
        raise input_error("--figure", arguments.figure, "must be with --classes, whose mean outputs it shows")
    files = [(path, read_representations(path)) for path in arguments.files]
    chosen = [class_indices(arguments.classes, each.class_names, "--classes") for _, each in files]
    rows, outputs, panels, left_out = [], [], [], []
    for (path, each), wanted in zip(files, chosen, strict=True):
        rows += _entropy_rows(path, each, temperatures)
        kept = np.bincount(each.labels, minlength=len(each.class_names))
        labels = [label for label in wanted if kept[label]]
        left_out += [
            f"{path}: no samples of {each.class_names[label]!r} were kept." for label in wanted if not kept[label]
        ]
        if labels:
            means = _mean_outputs(path, each, labels, temperatures)
            outputs += _output_rows(path, each, labels, means, arguments.top)
            panels += _panels(path, each, labels, means, arguments.top, len(files) > 1)
    if left_out and not outputs:
        raise input_error(
            "--classes", " ".join(arguments.classes), f"must have samples: {left_out[0].removesuffix('.')}"
        )
    warn("lskd entropy", left_out)
    if arguments.figure:
        with error_context("--figure"):
            write_figure(arguments.figure, soft_output_figure(panels))
    if arguments.output:
        write(arguments.output, rows + [row | {"outputs": ", ".join(row["outputs"])} for row in outputs])
    print(_table(rows, temperatures) + "\n\nMean entropy in nats; ln K is the largest possible.")
    if outputs:
        print("\n" + _output_table(outputs))
        print("\nMean soft outputs; far below: classes at least 100 times less probable than the second.")


def check_temperatures(argument: str, temperatures: Sequence[float]) -> None:
    """Check what a user gives for T.

    Raises:
        InputError: one that is not finite and above 0, or is there twice.
    """
    for value in temperatures:
        if not (math.isfinite(value) and value > 0):
            raise input_error(argument, value, "must be a finite number above 0")
    if len(set(temperatures)) < len(temperatures):
        raise input_error(argument, " ".join(f"{each:g}" for each in temperatures), "must be all different")


class Logits:
    """The logits of the kept samples of a file, in chunks, as often as they are gone through, with a progress bar.

    Args:
        path: of the file.
        representations: what it holds.

    Raises:
        InputError: the file has no last layer, or kept no features.
    """

    def __init__(self, path: str, representations: Representations):
        if representations.weight is None:
            raise input_error("FILE", path, "must hold the last layer, which gives the logits")
        if not len(representations.labels):
            raise input_error("FILE", path, "must hold features: it kept none of them")
        self.representations = representations

    def __iter__(self) -> Iterator[np.ndarray]:
        from tqdm import tqdm

        total = len(self.representations.labels)
        with tqdm(total=total, desc="logits", unit=" samples", disable=None, leave=False) as progress:
            for chunk in self.representations.logit_chunks():
                yield chunk
                progress.update(len(chunk))


def entropy_sums(path: str, representations: Representations, temperatures: Sequence[float]) -> EntropySums:
    """Entropies over all samples of a file: the stored sums where they have the temperatures, else from the logits.

    Raises:
        InputError: there are no samples, or neither the temperatures nor all features were kept.
    """
    samples = int(representations.moments.counts.sum())
    if not samples:
        raise input_error("FILE", path, "must hold samples")
    stored = representations.entropy[:, 0].tolist()
    if set(temperatures) <= set(stored):
        return EntropySums.of_rows(representations.entropy[[stored.index(each) for each in temperatures]], samples)
    if not representations.complete:
        known = ", ".join(f"{each:g}" for each in stored) or "none"
        raise input_error("FILE", path, f"must hold all features, or the entropy at each T; it has it at {known}")
    sums = EntropySums(temperatures)
    with error_context(path):
        sums.update(Logits(path, representations))
    return sums


def _facts(path: str, representations: Representations) -> dict:
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


def _entropy_rows(path: str, representations: Representations, temperatures: Sequence[float]) -> list[dict]:
    sums = entropy_sums(path, representations, temperatures)
    facts = _facts(path, representations) | {"samples": sums.n}
    errors = [None if math.isnan(error) else error for error in sums.standard_error().tolist()]
    return [
        facts
        | {"temperature": temperature, "entropy_nats": mean, "standard_error_nats": error}
        | {"largest_entropy_nats": math.log(len(representations.class_names))}
        for temperature, mean, error in zip(temperatures, sums.mean().tolist(), errors, strict=True)
    ]


def _table(rows: Sequence[dict], temperatures: Sequence[float]) -> str:
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
) -> dict[float, np.ndarray]:
    """By T, the (labels, K) mean outputs."""
    names = representations.class_names
    if len(names) < 2:
        raise input_error("FILE", path, "must have at least 2 classes for --classes")
    means = {}
    for temperature in temperatures:
        try:
            means[temperature] = mean_soft_outputs(
                Logits(path, representations), representations.labels, labels, temperature
            )
        except InputError:
            raise
        except ValueError as error:
            message = str(error)
            for label in labels:
                message = message.replace(f"classes: {label} has", f"--classes: {names[label]} has")
            raise InputError(f"{path}: {message}") from None
    return means


def _output_rows(
    path: str, representations: Representations, labels: Sequence[int], means: dict[float, np.ndarray], top: int
) -> list[dict]:
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


def _panels(path: str, each: Representations, labels: Sequence[int], means: dict, top: int, several: bool):
    """A :class:`~lskd.report.soft_output_figure.SoftOutputs` of each class; it names the model of several."""
    alpha = teacher_smoothing(each.provenance)
    model = each.provenance.get("model") or Path(path).name
    about = f", {model}" + ("" if alpha is None else f" α = {alpha:.3g}") if several else ""
    for place, label in enumerate(labels):
        by_temperature = {temperature: outputs[place] for temperature, outputs in means.items()}
        name = each.class_names[label]
        title = f"{imagenet_classes().get(name, name)}{about}"
        names = [imagenet_classes().get(other, other) for other in each.class_names]
        yield largest(title, label, names, by_temperature, top)


def _output_table(rows: Sequence[dict]) -> str:
    columns = [Column("class", "class"), Column("file", "file"), Column("samples", "samples")]
    columns += [Column("T", "temperature", ".7g"), Column("far below", "far_below_second"), Column("of", "classes")]
    columns += [Column(f"{place}.", str(place)) for place in range(1, 1 + len(rows[0]["outputs"]))]
    return show([row | {str(place): each for place, each in enumerate(row["outputs"], 1)} for row in rows], columns)
