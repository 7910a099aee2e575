"""The parts of a report that show models: three classes in the plane, and the entropy of the teachers' outputs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lskd.io.errors import InputError
from lskd.measure.class_distances import squared_distances
from lskd.measure.projection import Panel, project
from lskd.measure.representations import Representations
from lskd.measure.smoothness import EntropySums
from lskd.records.found_runs import Run
from lskd.records.studies import at, smoothing
from lskd.report.html import Markup, Page, absent, paragraph, table
from lskd.report.plots import Series, lines, svg
from lskd.report.projection_figure import figure as projection_figure
from lskd.report.sources import Options, Sources, fitting

LIMIT = 4000  # samples, evenly spread, whose outputs make an entropy curve where none is stored
TEMPERATURES = (0.5, 1, 2, 4, 8, 16, 32, 64)


def projection(page: Page, files: Sources, options: Options) -> None:
    """The grid of Figure 1, of one seed."""
    if not files.study.students:
        return
    page.heading("Three classes in the plane", 3)
    if not files.paths:
        page.add(absent("The projection needs representation files, which are not there:", files.command()))
        return
    names = _classes(files, options)
    if names is None:
        page.add(absent("Which classes to show has to be said, two similar ones first:", "--classes A B C"))
        return
    panels, used, refused = [], [], {}
    for runs in (*files.study.teachers.values(), *files.study.students.values()):
        run = next((each for each in runs if each.directory in files.paths), None)
        if run is None:
            continue
        splits = files.paths[run.directory]
        order = sorted(splits, key=lambda split: split != "train")
        fitted, *applied = (files.get(run, split) for split in order)
        try:
            panels += project(fitted, applied, names)
            used += [str(splits[split]) for split in order]
        except InputError:  # a package that is missing
            raise
        except ValueError as error:
            refused.setdefault(str(error), []).append(run.directory.name)
    for reason, left_out in refused.items():
        page.add(paragraph(f"Not shown: {', '.join(left_out)}: {reason}", class_="absent"))
    if not panels:
        return
    first, other, third = names
    page.add(
        page.figure(
            svg(projection_figure(panels)),
            f"{files.study.title}: {len(panels)} scatter plots of the classes {first}, {other} and {third}. Distance "
            f"between the first two relative to their distance to the third: {_said(panels)}.",
            f"{files.study.title}. Features of {first} and {other}, which are similar, and of {third}, projected as in "
            "the paper's Figure 1; of several seeds the first. d: distance between the similar classes, relative to "
            "the third's.",
            _panel_table(panels, files.study.title),
            used,
            wide=True,
        )
    )


def _classes(files: Sources, options: Options) -> list[str] | None:
    """Two similar classes and a dissimilar one, by name; None where nothing says which."""
    if names := options.classes and fitting(files.given_classes, options.classes):
        return names
    if given := files.fitting_sets(options.sets):
        target, sets = next(iter(given[1].items()))
        return [files.class_names[each] for each in (target, sets.similar[0], sets.dissimilar[0])]
    if files.study.first.kind == "translation" or files.reference is None:
        return None
    return _three(files.reference[1])


def _three(reference: Representations) -> list[str]:
    """The two closest classes by their centroids, and the one that is farthest from both."""
    known = np.flatnonzero(reference.moments.counts)
    distances = squared_distances(reference.moments, known, known)
    np.fill_diagonal(distances, np.inf)
    one, other = np.unravel_index(np.argmin(distances), distances.shape)
    away = distances[one] + distances[other]
    away[[one, other]] = -np.inf
    return [reference.class_names[known[index]] for index in (one, other, int(np.argmax(away)))]


def _said(panels: Sequence[Panel]) -> str:
    """d of each panel in words."""
    return "; ".join(f"{panel.title.replace(chr(10), ', ')}: {panel.relative_distance:.2f}" for panel in panels)


def _panel_table(panels: Sequence[Panel], title: str) -> Markup:
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
    return table(f"Distance d between the similar classes' centroids. {title}", [heads], rows)


def entropy(page: Page, files: Sources) -> None:
    """Mean entropy of the teachers' outputs against T, and ln K."""
    study = files.study
    if not study.students and not study.teachers:
        return
    page.heading("Entropy of the teachers' outputs", 3)
    series, rows, used, drawn = [], [], [], []
    for alpha in study.smoothings:
        run = next((each for each in study.teachers.get(alpha, []) if each.directory in files.paths), None)
        if run is None:
            continue
        stored, curve = _stored(files, run), _curve(files, run)
        for each in (stored, curve):
            if each is not None:
                numbers = zip(each.sums.temperatures, each.sums.mean(), each.sums.standard_error(), strict=True)
                rows += [
                    [smoothing(alpha), f"{T:g}", f"{mean:.4f}", f"{error:.4f}", each.over] for T, mean, error in numbers
                ]
                used.append(str(each.path))
        if shown := curve or stored:
            series.append(Series(smoothing(alpha), shown.sums.temperatures.tolist(), shown.sums.mean().tolist()))
            drawn.append(shown.over)
    if not series:
        needed = "Entropies need the teachers' representation files with their last layer, which are not there:"
        page.add(absent(needed, files.command(True)))
        return
    most, title = math.log(len(files.class_names)), f"{study.title}: mean entropy of the teachers' outputs against T"
    words = (f"{one.label}: {one.y[0]:.2f} at {at(one.x[0])} to {one.y[-1]:.2f} at {at(one.x[-1])}" for one in series)
    page.add(
        page.figure(
            svg(lines(series, "temperature T", "mean entropy, nats", (most, f"ln K = {most:.2f}"))),
            f"{title}. {'; '.join(words)}. The most there can be is {most:.2f}.",
            f"{title}; ln {len(files.class_names)} = {most:.2f} nats is the most there can be. Of several seeds the "
            f"first. Over {' and '.join(dict.fromkeys(drawn))}.",
            table(f"Mean entropy in nats. {study.title}", [["teacher", "T", "mean", "standard error", "over"]], rows),
            list(dict.fromkeys(used)),
        )
    )


@dataclass(frozen=True)
class _Entropies:
    """Of a teacher: the sums, the file they are from, the samples they are over."""

    sums: EntropySums
    path: Path
    over: str


def _stored(files: Sources, run: Run) -> _Entropies | None:
    """Those that a file keeps over all samples, of the training split if it is there."""
    for split in reversed(files.splits):
        each = files.get(run, split)
        if each is not None and len(each.entropy):
            n = int(each.moments.counts.sum())
            rows = each.entropy[np.argsort(each.entropy[:, 0])]
            return _Entropies(EntropySums.of_rows(rows, n), files.path(run, split), f"all {n} samples of {split}")
    return None


def _curve(files: Sources, run: Run) -> _Entropies | None:
    """Those of features that were kept, of a split where all were if there is one, at more temperatures."""
    there = [(split, files.get(run, split)) for split in reversed(files.splits)]
    there = [
        (split, each) for split, each in there if each is not None and each.weight is not None and len(each.labels)
    ]
    if not there:
        return None
    split, each = min(there, key=lambda item: not item[1].complete)
    sums = EntropySums(sorted({*TEMPERATURES, *files.study.temperatures}))
    sums.update(each.thinned(LIMIT).logits())
    n = int(each.moments.counts.sum())
    over = f"all {n} samples of {split}" if sums.n == n else f"{sums.n} of {n} samples of {split}"
    return _Entropies(sums, files.path(run, split), over + ("" if each.complete else ", whose features were kept"))
