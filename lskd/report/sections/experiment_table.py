"""A table of the paper: measured results beside the published ones, and drawings of the measured ones."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lskd.paper.published import SOURCE, Measurement, published
from lskd.paper.results import Result
from lskd.paper.table_layout import FIELD_FORMATS, cell, constants, flags, grid
from lskd.records.formatting import at, signed, smoothing
from lskd.records.found_runs import TITLES
from lskd.report.contents import Experiment
from lskd.report.drawing_style import HATCHES
from lskd.report.elements import Cell, Drawing, Section, Table
from lskd.report.headlines import FIRST
from lskd.report.measured_eta import Interval
from lskd.report.origins import described, of_measurements
from lskd.report.plots import Bars, Series, bars, in_drawings, lines, svg
from lskd.report.sections.accuracy import LEAST_SPAN

MEASURED_DIGITS = 2  # of accuracy and BLEU: a third is meaningless with few seeds


@dataclass(frozen=True, kw_only=True)
class ExperimentTableSection(Section):
    """A table of the paper: the data and models measured (``origins``), both tables, drawings, and deviations."""

    template = "experiment_table.html"
    experiment: Experiment
    origins: str
    measured: Table
    published: Table
    drawings: Sequence[Drawing]
    notes: Sequence[str]
    inputs: Sequence[str]


def experiment_table_section(experiment: Experiment, result: Result) -> ExperimentTableSection:
    """The measured results of a table, beside the published ones."""
    printed, scale = published(result.table), f", scale {result.scale}" if result.scale else ""
    about = described(result.rows)
    return ExperimentTableSection(
        title=f"{experiment.name}: {experiment.title}",
        experiment=experiment,
        origins="; ".join(of_measurements(result.rows)),
        measured=_table(f"Measured{scale}" + (f". {about}" if about else ""), result.rows, printed, MEASURED_DIGITS),
        published=_table(f"Published. {SOURCE}: {constants(printed)}", printed, printed, 3),
        drawings=list(_drawings(result.rows, result.inputs)),
        notes=list(dict.fromkeys([*experiment.notes, *result.notes])),
        inputs=result.inputs,
    )


def _table(caption: str, results: Sequence[Measurement], like: Sequence[Measurement], digits: int) -> Table:
    """A table of results with the layout of ``like`` in the paper, and flags as footnotes."""
    layout = grid(results, like)
    rows: list[list[str | Cell]] = []
    for names, cells in layout.rows:
        known = [_named(name, value) for name, value in zip(layout.down, names, strict=True) if value is not None]
        row: list[str | Cell] = [", ".join(known) or "all"]
        row += ["–" if each is None else Cell(_text(each, digits), flags(each)) for each in cells]
        rows.append(row)
    return Table(caption, [["", *layout.titles]], rows)


def _named(name: str, value: str | float) -> str:
    """A row's name: a model or a class by itself, α and T with their symbol."""
    if name in ("label_smoothing", "temperature"):
        return FIELD_FORMATS[name].format(value).replace(" = ", "\u00a0=\u00a0")
    return str(value)


def _text(result: Measurement, digits: int) -> str:
    text = cell(result, digits if result.unit in ("%", "BLEU") else 3)
    return text.replace("-", "−", 1) if text.startswith("-") else text


def _drawings(results: Sequence[Measurement], files: Sequence[str]) -> Iterable[Drawing]:
    """Drawings for each student: lines of accuracy or BLEU against T, or bars of η."""
    metrics = {row.metric for row in results}
    for student in dict.fromkeys(row.student for row in results if row.student):
        rows = [row for row in results if row.student == student]
        if metrics & {*FIRST} and "entropy" not in metrics:
            yield from _lines(student, [row for row in rows if row.metric in FIRST and row.temperature], files)
        elif any(metric.startswith("eta") for metric in metrics):
            yield from _bars(student, rows, files)


def _lines(student: str, rows: Sequence[Measurement], files: Sequence[str]) -> Iterable[Drawing]:
    """A line for each α of the teacher, as many in a drawing as can be told apart; nothing for a single T."""
    if len({row.temperature for row in rows}) < 2:
        return
    smoothings = list(dict.fromkeys(row.label_smoothing for row in rows))
    title = TITLES[rows[0].metric]
    what = f"{title} of {student} against T, measured ({'; '.join(of_measurements(rows))})"
    for part in in_drawings(smoothings):
        series, said, cells = [], [], []
        for alpha in part:
            points = [(row.temperature or 0.0, row) for row in rows if row.label_smoothing == alpha]
            points.sort(key=lambda point: point[0])
            means, deviations = [row.mean for _, row in points], [row.standard_deviation for _, row in points]
            series.append(Series(smoothing(alpha), [T for T, _ in points], means, deviations))
            said.append(f"{smoothing(alpha)}: " + ", ".join(f"{row.mean:.2f} at {at(T)}" for T, row in points))
            cells += [[smoothing(alpha), f"{T:g}", _text(row, MEASURED_DIGITS)] for T, row in points]
        spread = "Bars: ± σ over seeds." if any(any(each.error) for each in series) else "No σ is known."
        yield Drawing(
            svg(lines(series, "temperature T", title, least_span=LEAST_SPAN)),
            f"{what}. {'; '.join(said)}.",
            f"{what}, a line for each α of the teacher. {spread}",
            [Table(what, [["α", "T", title]], cells)],
            files,
        )


def _bars(student: str, rows: Sequence[Measurement], files: Sequence[str]) -> Iterable[Drawing]:
    """Bars of η(S1) and η(S2) for each target, at most two splits per drawing."""
    splits = list(dict.fromkeys(row.split for row in rows))
    values = {(row.split, row.metric.endswith("dissimilar"), row.target_class): row for row in rows}
    what = f"η of {student} in % for each target class, measured ({'; '.join(of_measurements(rows))})"
    for start in range(0, len(splits), len(HATCHES) // 2):
        kinds = [(split, far) for split in splits[start : start + len(HATCHES) // 2] for far in (False, True)]
        names = [n for n in dict.fromkeys(r.target_class for r in rows) if all((*kind, n) in values for kind in kinds)]
        if not names:
            continue
        groups, ends = [], [0.0]
        for split, far in kinds:
            each = [values[split, far, name] for name in names]
            intervals = [_interval(row) for row in each]
            groups.append(Bars(_kind(split, far), [row.mean for row in each], intervals))
            ends += [row.mean for row in each] + [end for interval in intervals for end in interval or ()]
        margin = 0.05 * (max(ends) - min(ends) or 1)
        limits = (min(ends) - margin, max(ends) + margin)
        titles = [group.label for group in groups]
        cells = {name: [signed(values[split, far, name].mean) for split, far in kinds] for name in names}
        said = "; ".join(
            f"{name}: " + ", ".join(f"{title} {value}" for title, value in zip(titles, cells[name], strict=True))
            for name in names
        )
        whiskers = "± σ over seeds" if any(map(_interval, rows)) else "none, since σ is not known"
        yield Drawing(
            svg(bars(list(map(str, names)), groups, "η in %", limits)),
            f"{what}. {said}.",
            f"{what}. Whiskers: {whiskers}.",
            [Table(what, [["target", *titles]], [[str(name), *cells[name]] for name in names])],
            files,
        )


def _kind(split: str | None, far: bool) -> str:
    return f"η({'S2' if far else 'S1'})" + (f", {split}" if split else "")


def _interval(row: Measurement) -> Interval | None:
    sd = row.standard_deviation
    return None if sd is None else (row.mean - sd, row.mean + sd)
