"""Calibration, selective risk, neural collapse and fidelity of teachers and students, side by side."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lskd.measure.fidelity import paired
from lskd.measure.model_measures import FidelityMeasures, OutputMeasures, measure_fidelity, measure_outputs
from lskd.measure.neural_collapse import NeuralCollapse, neural_collapse
from lskd.measure.representations import Representations
from lskd.records.formatting import at, smoothing, with_spread
from lskd.records.found_runs import Run
from lskd.records.spread import Spread, spread_of_known
from lskd.records.studies import is_teacher
from lskd.report.elements import Cell, Drawing, Section, Table
from lskd.report.plots import Series, in_drawings, lines, svg
from lskd.report.representation_files import RepresentationFiles

LIMIT = 10_000  # evenly spaced samples whose outputs are measured
ELEMENTS = 2**25  # logits in memory at once


@dataclass(frozen=True, kw_only=True)
class MeasuresSection(Section):
    """Tables of measures, two for each split, and ECE against T.

    Attributes:
        notes: what could not be measured, a sentence each.
        tables: the measures, and the teachers' non-target probability.
        drawings: ECE against T; none without measured students, several if one cannot show every teacher's α.
    """

    template = "measures.html"
    notes: Sequence[str]
    tables: Sequence[Table]
    drawings: Sequence[Drawing]


@dataclass(frozen=True)
class _Measured:
    """The measures of a run on one split; None for those that its file does not allow."""

    path: Path
    collapse: NeuralCollapse
    outputs: OutputMeasures | None
    fidelity: FidelityMeasures | None


@dataclass(frozen=True)
class _Group:
    """Runs that differ only in their seed; ``temperature`` is None for teachers."""

    alpha: float | None
    temperature: float | None
    runs: Sequence[_Measured]

    @property
    def name(self) -> str:
        """The group's name, in words."""
        role = "teacher" if self.temperature is None else "student"
        return f"{role}, {smoothing(self.alpha)}" + ("" if self.temperature is None else f", {at(self.temperature)}")

    def spread(self, value: Callable[[_Measured], float | None]) -> Spread | None:
        """The spread of a measure over the runs that have it."""
        return spread_of_known(map(value, self.runs))


Value = Callable[[_Measured], float | None]


def _of_outputs(value: Callable[[OutputMeasures], float | None]) -> Value:
    return lambda run: None if run.outputs is None else value(run.outputs)


def _of_fidelity(value: Callable[[FidelityMeasures], float | None]) -> Value:
    return lambda run: None if run.fidelity is None else value(run.fidelity)


ECE = _of_outputs(lambda found: 100 * found.ece)
COLUMNS: tuple[tuple[str, int, Value], ...] = (
    ("ECE %", 2, ECE),
    ("by chance", 2, _of_outputs(lambda found: 100 * found.ece_by_chance)),
    ("adaptive ECE %", 2, _of_outputs(lambda found: 100 * found.adaptive_ece)),
    ("T*", 3, _of_outputs(lambda found: found.optimal_temperature)),
    ("AURC %", 2, _of_outputs(lambda found: 100 * found.aurc)),
    ("NC1", 3, lambda run: run.collapse.nc1),
    ("NC1 ratio", 3, lambda run: run.collapse.nc1_ratio),
    ("NC2 norms", 3, lambda run: run.collapse.nc2_norms),
    ("NC2 angles", 3, lambda run: run.collapse.nc2_angles),
    ("NC3", 3, lambda run: run.collapse.nc3),
    ("agreement %", 2, _of_fidelity(lambda found: 100 * found.top1_agreement)),
    (
        "where the teacher is wrong %",
        2,
        _of_fidelity(lambda found: None if found.agreement_where_wrong is None else 100 * found.agreement_where_wrong),
    ),
    ("KL", 4, _of_fidelity(lambda found: found.kl)),
)


def measures_section(files: RepresentationFiles) -> MeasuresSection | None:
    """The measures of every run with a representation file; None if there are no files."""
    if not files.paths:
        return None
    notes: dict[str, None] = {}
    by_split = {split: list(_groups(files, split, notes)) for split in files.splits}
    title = files.study.title
    tables = [table for split, groups in by_split.items() for table in _tables(title, split, groups)]
    drawings = (_drawings(title, split, groups) for split, groups in by_split.items())
    return MeasuresSection(
        title="Calibration, neural collapse and fidelity",
        notes=list(notes),
        tables=tables,
        drawings=next(filter(None, drawings), []),
    )


def _groups(files: RepresentationFiles, split: str, notes: dict[str, None]) -> Iterator[_Group]:
    """Yield the measures of teachers and their students, by α."""
    study = files.study
    for alpha in study.smoothings:
        places = [(None, study.teachers.get(alpha, []))]
        places += [(T, study.students.get((alpha, T), [])) for T in study.temperatures]
        for temperature, runs in places:
            if found := [
                _measured(files, run, split, notes) for run in runs if split in files.paths.get(run.directory, {})
            ]:
                yield _Group(alpha, temperature, found)


def _measured(files: RepresentationFiles, run: Run, split: str, notes: dict[str, None]) -> _Measured:
    each = _few(files.read(run, split))
    collapse = neural_collapse(files.read(run, split))
    outputs = None
    if each.weight is not None and len(each.labels):
        outputs = measure_outputs(each, [each.logits()], sorted({1.0, *files.study.temperatures}))
    fidelity = _fidelity(files, run, split, each, notes) if outputs and run.temperature is not None else None
    return _Measured(files.paths[run.directory][split], collapse, outputs, fidelity)


def _fidelity(
    files: RepresentationFiles, run: Run, split: str, student: Representations, notes: dict[str, None]
) -> FidelityMeasures | None:
    """Fidelity to the student's own teacher; None if the teacher's file is missing or has other samples."""
    for teacher in files.study.teachers.get(run.label_smoothing, []):
        if is_teacher(teacher, run) and split in files.paths.get(teacher.directory, {}):
            try:
                own, theirs = paired(student, _few(files.read(teacher, split)))
            except ValueError as error:
                notes[f"No fidelity on {split}: {error}."] = None
                return None
            if theirs.weight is not None:
                return measure_fidelity(own, ([own.logits()], [theirs.logits()]))
    return None


def _few(representations: Representations) -> Representations:
    """At most :data:`LIMIT` of the kept samples, fewer if their logits would take too much memory."""
    return representations.thinned(max(1, min(LIMIT, ELEMENTS // len(representations.class_names))))


def _tables(title: str, split: str, groups: Sequence[_Group]) -> list[Table]:
    """A table with a row for each group and a column for each measure, and one of the non-target probability by T."""
    rows: list[list[str | Cell]] = []
    for group in groups:
        cells = [with_spread(group.spread(value), digits=digits) for _, digits, value in COLUMNS]
        bases = [str(run.outputs.basis) for run in group.runs if run.outputs]
        notes = [f"Measures of outputs are of {basis}." for basis in dict.fromkeys(bases)]
        rows.append([group.name, Cell(cells[0], notes), *cells[1:]])
    heads = ["", *(name for name, _, _ in COLUMNS)]
    tables = [Table(f"Measures on the {split} split, mean ± σ over seeds. {title}", [heads], rows)]
    teachers = [group for group in groups if group.temperature is None and any(run.outputs for run in group.runs)]
    if teachers:
        temperatures = next(sorted(run.outputs.non_target) for run in teachers[0].runs if run.outputs)
        shares: list[list[str | Cell]] = [
            [group.name, *(with_spread(group.spread(_non_target(T))) for T in temperatures)] for group in teachers
        ]
        caption = (
            f"Probability of all classes but the label in the teachers' outputs on the {split} split, in %. {title}"
        )
        tables.append(Table(caption, [["", *map(at, temperatures)]], shares))
    return tables


def _non_target(temperature: float) -> Value:
    return _of_outputs(lambda found: 100 * found.non_target[temperature])


def _drawings(title: str, split: str, groups: Sequence[_Group]) -> list[Drawing]:
    """ECE of the students against T, a line for each α; nothing if it was not measured."""
    by_alpha: dict[float | None, list[_Group]] = {}
    for group in groups:
        if group.temperature is not None and group.spread(ECE):
            by_alpha.setdefault(group.alpha, []).append(group)
    return [_drawing(title, split, dict(part)) for part in in_drawings(list(by_alpha.items()))]


def _drawing(title: str, split: str, by_alpha: Mapping[float | None, Sequence[_Group]]) -> Drawing:
    series, rows, paths = [], [], []
    for alpha, students in by_alpha.items():
        points = [(each.temperature, found) for each in students if (found := each.spread(ECE))]
        values = [found.mean for _, found in points]
        series.append(Series(smoothing(alpha), [T for T, _ in points if T], values, [each.sd for _, each in points]))
        rows += [[smoothing(alpha), f"{T:g}", with_spread(found)] for T, found in points]
        paths += [str(run.path) for each in students for run in each.runs]
    what = f"{title}: ECE of the students on the {split} split against T"
    words = "; ".join(
        f"{one.label}: " + ", ".join(f"{y:.2f} % at {at(x)}" for x, y in zip(one.x, one.y, strict=True))
        for one in series
    )
    return Drawing(
        svg(lines(series, "temperature T", "ECE, %")),
        f"{what}. {words}.",
        f"{what}, a line for each α of the teacher.",
        [Table(f"ECE in %. {title}", [["teacher", "T", "ECE %"]], rows)],
        paths,
    )
