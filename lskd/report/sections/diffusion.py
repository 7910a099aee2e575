"""The diffusion index η: bars with intervals for each target class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from lskd.records.formatting import signed, smoothing
from lskd.report.elements import Cell, Drawing, Missing, Section, Table
from lskd.report.measured_eta import Diffusion, Interval, MeanEta, MeasuredEta, TargetEta
from lskd.report.options import Options
from lskd.report.plots import Bars, bars, svg
from lskd.report.representation_files import RepresentationFiles


@dataclass(frozen=True)
class EtaOfSplit:
    """η on one split: notes, a table of means and a drawing for each α."""

    notes: Sequence[str]
    means: Table
    drawings: Sequence[Drawing]


@dataclass(frozen=True, kw_only=True)
class DiffusionSection(Section):
    """η of a study's students.

    Attributes:
        missing: why there is no η; None if there is.
        sets_file: the file of S1 and S2; None if they were chosen by feature distance.
        undefined: where η is not defined, a sentence each.
        splits: η on each split.
    """

    template = "diffusion.html"
    missing: Missing | None
    sets_file: str | None
    undefined: Sequence[str]
    splits: Sequence[EtaOfSplit]


def diffusion_section(files: RepresentationFiles, options: Options, found: Diffusion) -> DiffusionSection | None:
    """Bars, intervals and p of the measured η; None without students."""
    if not files.study.students:
        return None
    return DiffusionSection(
        title=f"Diffusion index η, T = {options.first:g} → {options.second:g}",
        missing=found.missing,
        sets_file=found.sets_file,
        undefined=[
            f"η on {split}, {smoothing(alpha)}, is not defined: {why}"
            for (split, alpha), why in found.undefined.items()
        ],
        splits=[_of_split(files, split, etas) for split, etas in found.etas.items()],
    )


def _of_split(files: RepresentationFiles, split: str, etas: Mapping[float | None, MeasuredEta]) -> EtaOfSplit:
    """A table of means and a drawing for each α, all with the same axis limits."""
    title = files.study.title
    shared = [note for note in next(iter(etas.values())).notes if all(note in eta.notes for eta in etas.values())]
    notes = [f"η on {split}: {note}" for note in shared]
    for alpha, eta in etas.items():
        notes += [f"η on {split}, {smoothing(alpha)}: {note}" for note in eta.notes if note not in shared]
    summary = []
    for alpha, eta in etas.items():
        mean = MeanEta.of(split, eta)
        below, _ = mean.signs
        cells = [signed(fmean(mean.similar)), f"{below} of {mean.targets}", signed(fmean(mean.dissimilar))]
        summary.append([smoothing(alpha), *cells, _p(mean.p_isotropic), str(len(mean.similar))])
    heads = ["teacher", "mean η(S1) %", "η(S1) below 0", "mean η(S2) %", "p iso, all together", "pairs of seeds"]
    means = Table(f"η on the {split} split, mean over target classes. {title}", [heads], summary)
    ends = [0, *(end for eta in etas.values() for row in eta.rows for end in row.ends)]
    margin = 0.05 * (max(ends) - min(ends) or 1)
    limits = (min(ends) - margin, max(ends) + margin)
    drawings = []
    for alpha, eta in etas.items():
        what = f"η in % for each target class, {split} split, teacher with {smoothing(alpha)}. {title}"
        used = [*eta.files, *([str(files.reference[0])] if files.reference else [])]
        drawings.append(_drawing(what, eta.rows, limits, used))
    return EtaOfSplit(notes, means, drawings)


def _drawing(what: str, rows: Sequence[TargetEta], limits: Interval, files: Sequence[str]) -> Drawing:
    """Bars for all targets, with a table of their values."""
    whiskers = rows[0].whiskers
    groups = [
        Bars("similar, S1", [row.similar_percent for row in rows], [row.similar_interval_percent for row in rows]),
        Bars(
            "dissimilar, S2",
            [row.dissimilar_percent for row in rows],
            [row.dissimilar_interval_percent for row in rows],
        ),
    ]
    said = "; ".join(
        f"{row.name}: {signed(row.similar_percent)} similar, {signed(row.dissimilar_percent)} dissimilar"
        for row in rows
    )
    heads = ["target", "similar classes", "η(S1) %", whiskers, "η(S2) %", whiskers, "p", "p iso"]
    return Drawing(
        svg(bars([row.name for row in rows], groups, "η in %", limits)),
        f"{what}. {said}.",
        f"{what}. {_about(rows)}.",
        [Table(what, [heads], [_cells(row) for row in rows])],
        files,
    )


def _about(rows: Sequence[TargetEta]) -> str:
    """Explain the whiskers."""
    whiskers = rows[0].whiskers
    if whiskers == "–":
        return "No intervals: too few features were kept"
    missing = [
        row.name for row in rows if row.similar_interval_percent is None or row.dissimilar_interval_percent is None
    ]
    return f"Whiskers: {whiskers}" + (f"; resamples leave it undefined for {', '.join(missing)}" if missing else "")


def _cells(row: TargetEta) -> list[str | Cell]:
    """The cells of a table row."""
    cells: list[str | Cell] = [row.name, Cell(", ".join(row.similar_names), prose=True)]
    for value, interval in (
        (row.similar_percent, row.similar_interval_percent),
        (row.dissimilar_percent, row.dissimilar_interval_percent),
    ):
        cells += [signed(value), "–" if interval is None else " to ".join(map(signed, interval))]
    return [*cells, ", ".join(f"{each.p_value:.3f}" for each in row.found), _p(row.p_isotropic)]


def _p(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
