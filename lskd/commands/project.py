"""Draw three classes' features in the plane, as the paper's Figure 1.

Features of two similar classes and a dissimilar one are projected onto their templates in the last layer, then onto two
principal axes (Appendix F). The plane is fitted on a model's training split; its other splits are shown in that plane.
If a model's training split is not given, the plane is fitted on its first file, and the panel says so. Files belong to
one model if they name the same checkpoint; a file without a checkpoint is a model of its own.
"""

import argparse
from typing import Any

from lskd.io.argument_types import output_file, positive, table_file, whole
from lskd.io.errors import InputError, input_error, warn
from lskd.io.output import shown_anyway
from lskd.io.tables import Column, show, write
from lskd.measure.projection import Panel, project
from lskd.measure.representations import Representations, read_representations
from lskd.records.runs import data_name
from lskd.report.figure_files import FORMATS, write_figure
from lskd.report.projection_figure import figure

EXAMPLE = "lskd project runs/*.representations.safetensors --classes Pullover Coat Bag --output figure.svg"
COLUMNS = (
    Column("model", "model"),
    Column("α", "label_smoothing", ".3g"),
    Column("T", "temperature", "g"),
    Column("seed", "seed"),
    Column("split", "split"),
    Column("fitted on", "fitted_on"),
    Column("samples", "samples"),
    Column("d", "relative_distance", ".3f"),
    Column("kept of 3-D %", "explained_percent", ".1f"),
    Column("of all %", "kept_percent", ".1f"),
)
NOTE = (
    "d: distance between the centroids of {0} and {1} in the plane, relative to their mean distance to {2}.\n"
    "kept: share of the variance of the fitted features that is in the plane, within the span of the three\n"
    "templates and in all dimensions."
)
Given = list[tuple[str, Representations]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``lskd project``."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="representations, of any models and splits")
    parser.add_argument(
        "--classes", nargs=3, required=True, metavar=("A", "B", "C"), help="two similar classes, then a dissimilar one"
    )
    parser.add_argument(
        "--validation",
        nargs="+",
        default=[],
        metavar="FILE",
        help="representations of the same models that are only shown, never fitted on, whatever their split",
    )
    parser.add_argument(
        "--samples",
        type=_samples,
        default=150,
        metavar="N",
        help="of each class, to fit the plane on; or 'all' (default: 150)",
    )
    parser.add_argument(
        "--validation-samples",
        type=_samples,
        default=50,
        metavar="N",
        help="of each class on other splits; or 'all' (default: 50)",
    )
    parser.add_argument("--seed", type=whole, default=0, metavar="N", help="of the random draws (default: 0)")
    parser.add_argument(
        "--output", type=output_file(*FORMATS), metavar="FILE", help=f"the figure, {', '.join(FORMATS)}"
    )
    parser.add_argument("--table", type=table_file, metavar="FILE", help="the table, one row per panel, .csv or .json")
    parser.add_argument(
        "--coordinates", type=table_file, metavar="FILE", help="each sample's place in the plane, .csv or .json"
    )


def run(arguments: argparse.Namespace) -> None:
    """Project each model, print the table, write the files."""
    if len(set(arguments.classes)) < len(arguments.classes):
        raise input_error("--classes", " ".join(arguments.classes), "must be three different classes")
    panels, refused = [], []
    for first, *others in _models(_read(arguments.files), _read(arguments.validation)):
        samples = arguments.samples, arguments.validation_samples
        try:
            panels += project(first[1], [each for _, each in others], arguments.classes, *samples, arguments.seed)
        except InputError:  # about a file or a missing package, not about one model
            raise
        except ValueError as error:
            refused.append(f"{first[0]}: {error}")
    if not panels:
        raise InputError(refused[0])
    warn("lskd project", [f"not shown: {reason}" for reason in refused])
    table = [_facts(panel) | _numbers(panel) for panel in panels]
    drawing = figure(panels) if arguments.output else None
    with shown_anyway(show(table, COLUMNS), NOTE.format(*arguments.classes)):
        if arguments.table:
            write(arguments.table, table, {"classes": list(panels[0].class_names)})
        if arguments.coordinates:
            write(arguments.coordinates, [row for panel in panels for row in _coordinates(panel)])
        if drawing is not None:
            write_figure(arguments.output, drawing)


def _models(files: Given, validation: Given) -> list[Given]:
    """The files of each model: first the one on which to fit the plane, the others in the order of the command line."""
    models: dict[str, Given] = {}
    for path, each in files:
        models.setdefault(each.provenance.get("checkpoint") or path, []).append((path, each))
    for given in models.values():
        given.sort(key=lambda file: file[1].provenance.get("split") != "train")
    for path, each in validation:
        checkpoint = each.provenance.get("checkpoint")
        if checkpoint not in models:
            raise input_error(
                "--validation", path, f"must be of a checkpoint that a FILE is of, this one is of {checkpoint}"
            )
        models[checkpoint].append((path, each))
    for checkpoint, given in models.items():
        splits = [each.provenance.get("split") for _, each in given]
        for place, (path, _) in enumerate(given):
            if splits[place] in splits[:place]:
                raise input_error("FILE", path, f"must be the only one of split {splits[place]} of {checkpoint}")
    return list(models.values())


def _read(paths: list[str]) -> Given:
    return [(path, read_representations(path)) for path in paths]


def _facts(panel: Panel) -> dict[str, Any]:
    return {
        "checkpoint": panel.provenance.get("checkpoint"),
        "data": data_name(panel.provenance.get("data")),
        "model": panel.model,
        "label_smoothing": panel.label_smoothing,
        "temperature": panel.temperature,
        "seed": panel.provenance.get("seed"),
        "split": panel.split,
        "fitted_on": panel.fitted_on,
    }


def _numbers(panel: Panel) -> dict[str, Any]:
    return {
        "samples": len(panel.labels),
        "relative_distance": panel.relative_distance,
        "explained_percent": 100 * panel.projection.explained,
        "kept_percent": 100 * panel.projection.kept,
    }


def _coordinates(panel: Panel) -> list[dict[str, Any]]:
    facts = _facts(panel)
    points = zip(panel.index.tolist(), panel.labels.tolist(), panel.coordinates.tolist(), strict=True)
    return [facts | {"sample": i, "class": panel.class_names[label], "x": x, "y": y} for i, label, (x, y) in points]


def _samples(text: str) -> int | None:
    return None if text == "all" else positive(text)
