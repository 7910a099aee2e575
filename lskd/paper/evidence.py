"""Results by temperature of students of smoothed and unsmoothed teachers: the paper's, and this project's.

The latter are in ``data/measured.csv``, which ``scripts/evidence.py`` summarises from the committed results.
"""

import csv
import importlib.resources
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lskd.paper.published import published

MEASURED = Path(str(importlib.resources.files("lskd").joinpath("data", "measured.csv")))
COLUMNS = ("result", "data", "unit", "optimiser", "variant", "student", "label_smoothing")
COLUMNS += ("temperature", "mean", "sd", "n")
TABLES = (("2A", "top1"), ("2B", "top1"), ("4", "top1"), ("5", "bleu"), ("B.2", "bleu"))
LEAST_TEMPERATURES = 2


@dataclass(frozen=True)
class Evidence:
    """The mean results, by temperature, of one kind of student of one kind of teacher.

    Attributes:
        source: a table of the paper, or a directory of ``docs/results``.
        data: the data set.
        unit: unit of the means, "%" of top-1 accuracy or "BLEU".
        student: the student's model.
        training: the optimiser, and what else distinguishes these students; None for the paper's recipe.
        label_smoothing: α of the teacher.
        means: mean results by T.
        n: the smallest number of seeds of any mean; None if the paper does not state it.
    """

    source: str
    data: str
    unit: str
    student: str
    training: str | None
    label_smoothing: float
    means: dict[float, float]
    n: int | None

    @property
    def best(self) -> float:
        """The T with the highest mean."""
        return max(self.means, key=self.means.__getitem__)

    def row(self) -> dict[str, Any]:
        """The fields as plain values, for JSON."""
        return asdict(self) | {"means": {f"{T:g}": mean for T, mean in self.means.items()}, "best": self.best}


def of_the_paper(smoothed: bool | None) -> list[Evidence]:
    """The paper's results for students of smoothed teachers, of others, or of both if ``smoothed`` is None."""
    found = []
    for table, metric in TABLES:
        measurements = published(table, metric=metric)
        students: dict[tuple[str, float], dict[float, tuple[float, int | None]]] = {}
        for each in measurements:
            if each.student and each.temperature is not None and each.label_smoothing is not None:
                by_temperature = students.setdefault((each.student, each.label_smoothing), {})
                by_temperature[each.temperature] = each.mean, each.n
        for (student, alpha), cells in students.items():
            means = {T: mean for T, (mean, _) in cells.items()}
            known = [n for _, n in cells.values() if n]
            n = min(known) if len(known) == len(cells) else None
            about = measurements[0].data or "", "%" if metric == "top1" else "BLEU"
            found.append(Evidence(f"Table {table}", *about, student, None, alpha, means, n))
    return _of(found, smoothed)


def of_this_project(smoothed: bool | None) -> list[Evidence]:
    """Like :func:`of_the_paper`, for students trained with this project."""
    kinds: dict[tuple[str, ...], dict[float, tuple[float, int]]] = {}
    names = COLUMNS[: COLUMNS.index("temperature")]
    for row in csv.DictReader(MEASURED.read_text(encoding="utf-8").splitlines()):
        cells = kinds.setdefault(tuple(row[name] for name in names), {})
        cells[float(row["temperature"])] = float(row["mean"]), int(row["n"])
    found = []
    for (result, data, unit, optimiser, variant, student, alpha), cells in kinds.items():
        training = ", ".join(filter(None, [optimiser, variant]))
        means = {T: mean for T, (mean, _) in cells.items()}
        n = min(n for _, n in cells.values())
        found.append(Evidence(f"docs/results/{result}", data, unit, student, training, float(alpha), means, n))
    return _of(found, smoothed)


def _of(found: Sequence[Evidence], smoothed: bool | None) -> list[Evidence]:
    """Those with several temperatures whose teachers are as requested."""
    return [
        each
        for each in found
        if len(each.means) >= LEAST_TEMPERATURES and (smoothed is None or smoothed == (each.label_smoothing > 0))
    ]
