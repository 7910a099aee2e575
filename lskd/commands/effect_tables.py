"""Tables of students' results by temperature, for ``lskd summarise`` and ``lskd advise``."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from lskd.io.tables import Column, show
from lskd.measure.comparisons import LEVEL, Comparison, Difference, holm
from lskd.measure.smoothing_choice import BestStudents, SmoothingChoice
from lskd.records.formatting import with_spread
from lskd.records.spread import Spread


def effect_row(
    study: str,
    alpha: float | None,
    best: float,
    means: Mapping[float, Spread],
    difference: Mapping[str, float] | None,
    p: float | None,
) -> dict[str, Any]:
    """A row of :func:`effects_table`.

    Args:
        study: the study's title.
        alpha: α of the teachers.
        best: the T with the highest mean.
        means: means over seeds, by T.
        difference: ``mean``, the difference between the two T ``higher`` and ``lower``, with the ends ``low`` and
            ``high`` of its interval; None for too few seeds.
        p: p of the difference.
    """
    row = {"study": study, "alpha": alpha, "best": best} | {f"T{T:g}": cell(each) for T, each in means.items()}
    if difference is None:
        return row
    pair = f"{difference['higher']:g} − {difference['lower']:g}"
    return row | {"difference": interval(difference), "pair": pair, "p": p}


def as_values(comparison: Comparison | None) -> dict[str, float] | None:
    """A comparison of two temperatures as plain values; None for None."""
    if comparison is None or comparison.lower is None:
        return None
    return {"higher": comparison.higher, "lower": comparison.lower, **difference_row(comparison)}


def difference_row(compared: Comparison | Difference) -> dict[str, float]:
    """A difference and the ends of its interval as plain values, with the keys of the files."""
    low, high = compared.interval
    return {"mean": compared.difference, "low": low, "high": high}


def effects_table(rows: Sequence[dict[str, Any]], temperatures: Sequence[float], first: Sequence[Column]) -> str:
    """A table with settings and α as rows and T as columns, and the best T less T = 1, or T = 1 less the next best.

    Args:
        rows: rows of :func:`effect_row`, with a value for each of the first columns.
        temperatures: the T with a column.
        first: the columns before α.
    """
    columns = [*first, Column("α", "alpha", "g"), *(Column(f"T = {T:g}", f"T{T:g}") for T in temperatures)]
    columns += [Column("best T", "best", "g"), Column("T", "pair"), Column("difference (95 %)", "difference")]
    return show(rows, [*columns, Column("p", "p", ".2g")])


def smoothing_rows(choices: Sequence[SmoothingChoice]) -> list[dict[str, Any]]:
    """The best students of each study and those of another α, as plain values; p is adjusted for all rows (Holm)."""
    adjusted = iter(holm([each.comparison.p for each in choices if each.comparison]))
    rows = []
    for each in choices:
        p, difference = None, None
        if each.comparison is not None:
            p, difference = next(adjusted), difference_row(each.comparison)
        row = {"study": each.study.title, "setting": each.study.setting, "unit": each.study.unit}
        row |= {"best": _best_students_row(each.best), "other": _best_students_row(each.other)}
        row |= {"difference": difference, "p_adjusted": p, "more_than_chance": p is not None and p <= LEVEL}
        rows.append(row | {"verdict": smoothing_verdict(each, p)})
    return rows


def smoothing_verdict(choice: SmoothingChoice, p: float | None) -> str:
    """Whether smoothing the teacher has been shown to give better students, in words."""
    if p is None:
        return "too few teachers"
    if p > LEVEL:
        return "not shown either way"
    if choice.best.alpha == 0:
        return "no"
    return f"yes, α = {choice.best.alpha:g}" + ("" if choice.other.alpha == 0 else f", not {choice.other.alpha:g}")


def format_best_students(row: Mapping[str, Any]) -> str:
    """Format the best students of one α, from :func:`smoothing_rows`.

    >>> format_best_students({"label_smoothing": 0.1, "temperature": 1.0, "mean": 87.27, "sd": 0.36, "n": 5})
    'α = 0.1, T = 1: 87.27 ± 0.36 (5)'
    """
    spread = Spread(row["mean"], row["sd"], row["n"])
    return f"α = {row['label_smoothing']:g}, T = {row['temperature']:g}: {with_spread(spread, with_n=True)}"


def _best_students_row(found: BestStudents) -> dict[str, Any]:
    return {"label_smoothing": found.alpha, "temperature": found.temperature, **asdict(found.spread)}


def distinguished(row: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> str:
    """What distinguishes a row's students from those of others: their model and setting; empty if nothing does.

    >>> rows = [{"student": "vit", "setting": "learning rate = 0.3"}, {"student": "vit", "setting": ""}]
    >>> distinguished(rows[0], rows), distinguished(rows[0], rows[:1])
    ('learning rate = 0.3', '')
    """
    named = [row[name] for name in ("student", "setting") if len({each[name] for each in others}) > 1]
    return ", ".join(filter(None, named))


def smoothing_words(row: Mapping[str, Any]) -> str:
    """The label smoothing of a row, in words.

    >>> smoothing_words({"label_smoothing": 0.1}), smoothing_words({"label_smoothing": None})
    ('α = 0.1', 'α unknown')
    """
    return "α unknown" if row["label_smoothing"] is None else f"α = {row['label_smoothing']:g}"


def cell(spread: Spread | None) -> str | None:
    """``85.30 ± 0.40 (3)``; None for None."""
    return None if spread is None else with_spread(spread, with_n=True)


def interval(difference: Mapping[str, float]) -> str:
    """Format a difference with its interval.

    >>> interval({"mean": 1.2, "low": 0.4, "high": 2.0})
    '+1.20 (+0.40 to +2.00)'
    """
    return f"{difference['mean']:+.2f} ({difference['low']:+.2f} to {difference['high']:+.2f})"
