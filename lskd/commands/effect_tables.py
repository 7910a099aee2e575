"""Students by temperature as a table, which ``lskd summarise`` and ``lskd advise`` print."""

from collections.abc import Mapping, Sequence
from typing import Any

from lskd.io.tables import Column, show
from lskd.measure.comparisons import Comparison
from lskd.records.spread import Spread
from lskd.records.studies import number


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
        study: its title.
        alpha: α of the teachers.
        best: the T of the highest mean.
        means: over seeds, by T.
        difference: ``mean`` of the two T, ``higher`` and ``lower``, with ``low`` and ``high``, its interval; None for
            too few seeds.
        p: of the difference.
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
    low, high = comparison.interval
    about = {"higher": comparison.higher, "lower": comparison.lower, "mean": comparison.difference}
    return about | {"low": low, "high": high}


def effects_table(rows: Sequence[dict[str, Any]], temperatures: Sequence[float], first: Sequence[Column]) -> str:
    """Settings and α down, T across; the best T less T = 1, or T = 1 less the next best.

    Args:
        rows: of :func:`effect_row`, with a value for each of the first columns.
        temperatures: the columns.
        first: what stands before α.
    """
    columns = [*first, Column("α", "alpha", "g"), *(Column(f"T = {T:g}", f"T{T:g}") for T in temperatures)]
    columns += [Column("best T", "best", "g"), Column("T", "pair"), Column("difference (95 %)", "difference")]
    return show(rows, [*columns, Column("p", "p", ".2g")])


def cell(spread: Spread | None) -> str | None:
    """``85.30 ± 0.40 (3)``; None for None."""
    return None if spread is None else number(spread, with_n=True)


def interval(difference: Mapping[str, float]) -> str:
    """A difference with its interval.

    >>> interval({"mean": 1.2, "low": 0.4, "high": 2.0})
    '+1.20 (+0.40 to +2.00)'
    """
    return f"{difference['mean']:+.2f} ({difference['low']:+.2f} to {difference['high']:+.2f})"
