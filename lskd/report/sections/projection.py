"""Three classes in the plane, as in the paper's Figure 1."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lskd.io.errors import InputError
from lskd.measure.class_distances import squared_distances
from lskd.measure.projection import Panel, project
from lskd.measure.representations import Representations
from lskd.report.elements import Drawing, Missing, Section, Table
from lskd.report.options import Options
from lskd.report.plots import svg
from lskd.report.projection_figure import figure as projection_figure
from lskd.report.representation_files import RepresentationFiles, fitting


@dataclass(frozen=True, kw_only=True)
class ProjectionSection(Section):
    """The grid of panels, or None if there is none, and what could not be projected."""

    template = "projection.html"
    missing: Sequence[Missing]
    drawing: Drawing | None = None


def projection_section(files: RepresentationFiles, options: Options) -> ProjectionSection | None:
    """A grid like the paper's Figure 1, for one seed; None without students."""
    if not files.study.students:
        return None
    title = "Three classes in the plane"
    if not files.paths:
        needed = Missing("The projection needs representation files, which are not there:", files.command())
        return ProjectionSection(title=title, missing=[needed])
    names = _classes(files, options)
    if names is None:
        needed = Missing("Choose the classes to show, two similar ones first:", "--classes A B C")
        return ProjectionSection(title=title, missing=[needed])
    panels, used, refused = _panels(files, names)
    return ProjectionSection(
        title=title,
        missing=[Missing(f"Not shown: {', '.join(left_out)}: {reason}") for reason, left_out in refused.items()],
        drawing=_drawing(files.study.title, names, panels, used) if panels else None,
    )


def _panels(files: RepresentationFiles, names: Sequence[str]) -> tuple[list[Panel], list[str], dict[str, list[str]]]:
    """The panels, the files they are from, and the runs that could not be projected, by reason."""
    panels: list[Panel] = []
    used: list[str] = []
    refused: dict[str, list[str]] = {}
    for runs in (*files.study.teachers.values(), *files.study.students.values()):
        run = next((each for each in runs if each.directory in files.paths), None)
        if run is None:
            continue
        paths = files.paths[run.directory]
        splits = sorted(paths, key=lambda split: split != "train")
        fitted, *applied = (files.read(run, split) for split in splits)
        try:
            panels += project(fitted, applied, names)
            used += [str(paths[split]) for split in splits]
        except InputError:  # a package that is missing
            raise
        except ValueError as error:
            refused.setdefault(str(error), []).append(run.directory.name)
    return panels, used, refused


def _drawing(title: str, names: Sequence[str], panels: Sequence[Panel], files: Sequence[str]) -> Drawing:
    first, other, third = names
    distances = "; ".join(f"{panel.title.replace(chr(10), ', ')}: {panel.relative_distance:.2f}" for panel in panels)
    return Drawing(
        svg(projection_figure(panels)),
        f"{title}: {len(panels)} scatter plots of the classes {first}, {other} and {third}. Distance "
        f"between the first two relative to their distance to the third: {distances}.",
        f"{title}. Features of {first} and {other}, which are similar, and of {third}, projected as in "
        "the paper's Figure 1; of several seeds the first. d: distance between the similar classes, relative to "
        "the third's.",
        [_table(panels, title)],
        files,
        wide=True,
    )


def _table(panels: Sequence[Panel], title: str) -> Table:
    rows = [
        [
            panel.model,
            "–" if panel.label_smoothing is None else f"{panel.label_smoothing:.3g}",
            "–" if panel.temperature is None else f"{panel.temperature:g}",
            panel.split,
            f"{panel.relative_distance:.2f}",
            f"{100 * panel.projection.explained:.1f}",
        ]
        for panel in panels
    ]
    heads = ["model", "α", "T", "split", "d", "of the variance in 3-D, %"]
    return Table(f"Distance d between the similar classes' centroids. {title}", [heads], rows)


def _classes(files: RepresentationFiles, options: Options) -> list[str] | None:
    """The names of two similar classes and a dissimilar one; None if nothing determines them."""
    if options.classes and (names := fitting(files.given_classes, options.classes)):
        return names
    if given := files.fitting_sets(options.sets):
        target, sets = next(iter(given[1].items()))
        return [files.class_names[each] for each in (target, sets.similar[0], sets.dissimilar[0])]
    if files.study.first.kind == "translation" or files.reference is None:
        return None
    return _closest_two_and_farthest(files.reference[1])


def _closest_two_and_farthest(reference: Representations) -> list[str]:
    """The two classes with the closest centroids, and the class farthest from both."""
    known = np.flatnonzero(reference.moments.counts).tolist()
    distances = squared_distances(reference.moments, known, known)
    np.fill_diagonal(distances, np.inf)
    one, other = np.unravel_index(np.argmin(distances), distances.shape)
    away = distances[one] + distances[other]
    away[[one, other]] = -np.inf
    return [reference.class_names[known[index]] for index in (one, other, int(np.argmax(away)))]
