"""Describe the data and models of results, according to the files from which the results were read."""

from collections.abc import Iterable, Mapping, Sequence

from lskd.paper.published import Measurement
from lskd.paper.table_layout import constants, varies

UNKNOWN = "data not recorded"
WITHOUT_DATA = "last-layer"  # in place of a split: only weights were used, no images


def of_measurements(results: Sequence[Measurement]) -> list[str]:
    """Data, models and splits of the results of a table, each combination once."""
    return _described(
        (
            result.data,
            f"{result.teacher} → {result.student}" if result.teacher and result.student else _model(result),
            result.split,
        )
        for result in results
    )


def described(results: Sequence[Measurement]) -> str:
    """What all results of a table have in common, and their data and models if these are not part of it."""
    named = all((result.data or result.split == WITHOUT_DATA) and _model(result) for result in results)
    origins = [] if named and not varies(results, "data") else of_measurements(results)
    return ", ".join(filter(None, [constants(results), "; ".join(origins)]))


def of_drawing(rows: Sequence[Mapping[str, object]]) -> list[str]:
    """Data, models and splits of a drawing's numbers, each combination once; values that are not text are left out."""
    return _described((_text(row.get("data")), _text(row.get("model")), _text(row.get("split"))) for row in rows)


def _model(result: Measurement) -> str | None:
    teacher = result.teacher if result.split == WITHOUT_DATA or not result.teacher else f"teacher {result.teacher}"
    return result.student or teacher


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _described(origins: Iterable[tuple[str | None, str | None, str | None]]) -> list[str]:
    splits: dict[tuple[str | None, str], dict[str, None]] = {}
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
