"""Of which models and data numbers are, by what stands beside them in the files that they were read from."""

from collections.abc import Iterable, Mapping, Sequence

from lskd.paper.published import Figure
from lskd.paper.table_layout import constants, varies

UNKNOWN = "data not recorded"
WITHOUT_DATA = "last-layer"  # in the place of a split: weights alone, no images


def of_figures(figures: Sequence[Figure]) -> list[str]:
    """Data, models and splits of a table's figures, each combination once."""
    return _described(
        (
            figure.data,
            f"{figure.teacher} → {figure.student}" if figure.teacher and figure.student else _model(figure),
            figure.split,
        )
        for figure in figures
    )


def described(figures: Sequence[Figure]) -> str:
    """What all figures of a table have in common, and of which data and models they are where that does not say it."""
    named = all((figure.data or figure.split == WITHOUT_DATA) and _model(figure) for figure in figures)
    origins = [] if named and not varies(figures, "data") else of_figures(figures)
    return ", ".join(filter(None, [constants(figures), "; ".join(origins)]))


def of_drawing(rows: Sequence[Mapping]) -> list[str]:
    """Data, models and splits of a drawing's numbers; what is no text is not shown."""
    known = [[row.get(name) for name in ("data", "model", "split")] for row in rows]
    return _described(tuple(each if isinstance(each, str) else None for each in row) for row in known)


def _model(figure: Figure) -> str | None:
    teacher = figure.teacher if figure.split == WITHOUT_DATA or not figure.teacher else f"teacher {figure.teacher}"
    return figure.student or teacher


def _described(origins: Iterable[tuple[str | None, str | None, str | None]]) -> list[str]:
    splits: dict[tuple, dict[str, None]] = {}
    for data, model, split in origins:
        nothing = split == WITHOUT_DATA
        place = splits.setdefault((None if nothing else data or UNKNOWN, model or "model not recorded"), {})
        place |= {"its last layer alone": None} if nothing else {split: None} if split else {}
    return [
        f"{data}: {model}{_listed(each)}" if data else f"{model}{_listed(each)}"
        for (data, model), each in splits.items()
    ]


def _listed(splits: Iterable[str]) -> str:
    return "".join(f", {split}" for split in splits)
