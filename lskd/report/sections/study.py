"""A study of our own: its question, the means of its students by temperature, and the page of its runs."""

from collections.abc import Sequence
from dataclasses import dataclass

from lskd.records.formatting import at, smoothing, with_spread
from lskd.records.found_runs import TITLES
from lskd.records.spread import Spread
from lskd.report.contents import Experiment, StudyRow, StudySummary
from lskd.report.elements import Cell, Section, Table


@dataclass(frozen=True, kw_only=True)
class StudySection(Section):
    """A study: a table with a row for each setting and α, a column for each T; the page of its runs is linked."""

    template = "study.html"
    experiment: Experiment
    summary: StudySummary
    table: Table
    notes: Sequence[str]


def study_section(experiment: Experiment, summary: StudySummary) -> StudySection:
    """The means of a study, with a link to the page of its runs."""
    return StudySection(
        title=f"{experiment.name}: {experiment.title}",
        experiment=experiment,
        summary=summary,
        table=means_table(summary.rows),
        notes=list(dict.fromkeys(experiment.notes)),
    )


def means_table(rows: Sequence[StudyRow]) -> Table:
    """A table of means, with settings and α as rows and T as columns."""
    temperatures = sorted({row.temperature for row in rows})
    means = {(_kind(row), row.temperature): Spread(row.mean, row.standard_deviation, row.n) for row in rows}
    models = ", ".join(dict.fromkeys(f"{row.data}: {row.teacher} → {row.student}" for row in rows))
    units = " and ".join(dict.fromkeys(TITLES.get(row.metric, row.metric) for row in rows))
    lines: list[list[str | Cell]] = []
    for kind in dict.fromkeys(map(_kind, rows)):
        cells = [with_spread(means.get((kind, T)), with_n=True) for T in temperatures]
        lines.append([kind[1] or "the paper's way", smoothing(kind[2]), *cells])
    caption = f"{units}, mean ± σ over seeds and teachers (n). {models}"
    return Table(caption, [["training of the student", "teacher", *map(at, temperatures)]], lines)


def _kind(row: StudyRow) -> tuple[str | None, str | None, float | None]:
    """The key of a table row: the student's model, its settings and the teacher's α."""
    return row.student, row.settings, row.label_smoothing
