"""Studies of the same models and data with different settings, side by side in one table."""

from collections.abc import Sequence
from dataclasses import dataclass

from lskd.records.formatting import at, smoothing, with_spread
from lskd.records.studies import Study
from lskd.report.elements import Cell, Section, Table


@dataclass(frozen=True, kw_only=True)
class SideBySideSection(Section):
    """A table for each combination of models and data, with settings and α as rows and T as columns.

    ``shared`` says whether any students are in two rows.
    """

    template = "side_by_side.html"
    tables: Sequence[Table]
    shared: bool


def side_by_side_section(studies: Sequence[Study]) -> SideBySideSection | None:
    """The means of studies that differ only in their settings; None if there are none."""
    alike: dict[str, list[Study]] = {}
    for study in studies:
        if study.setting:
            alike.setdefault(study.subject, []).append(study)
    tables = [_table(subject, same) for subject, same in alike.items() if any(study.students for study in same)]
    runs = [run.directory for study in studies for each in study.students.values() for run in each]
    shared = len(runs) > len(set(runs))
    return SideBySideSection(title="Students side by side", tables=tables, shared=shared) if tables else None


def _table(subject: str, studies: Sequence[Study]) -> Table:
    metric = studies[0].metrics[0]
    temperatures = sorted({T for study in studies for T in study.temperatures})
    rows: list[list[str | Cell]] = []
    for study in studies:
        for alpha in sorted({alpha for alpha, _ in study.students}, key=study.smoothings.index):
            cells = [with_spread(study.spread(alpha, T, metric.key), with_n=True) for T in temperatures]
            rows.append([study.setting, smoothing(alpha), *cells])
    caption = f"{subject}: {metric.title} of the students, mean ± σ over seeds and teachers (n)"
    return Table(caption, [["training of the student", "teacher", *map(at, temperatures)]], rows)
