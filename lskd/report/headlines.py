"""One line on a table's figures, measured or published: what stands in the overview of a page of experiments."""

from collections.abc import Callable, Sequence

from lskd.figure_grid import cell, shown, varies
from lskd.published import Figure
from lskd.report.studies import at, smoothing

FIRST = ("top1", "bleu")  # the metric that a headline is about, of those that a table may have several of


def headline(figures: Sequence[Figure], digits: int = 2) -> str:
    """What figures of one table say, by the same rule for measured and published ones.

    Args:
        figures: of one table.
        digits: of accuracy and BLEU.
    """
    metrics = {figure.metric for figure in figures}
    if "entropy" in metrics and metrics & {*FIRST}:
        said = _each([f for f in figures if f.metric in FIRST], digits, lambda f: f"{smoothing(f.label_smoothing)}, ")
    elif metrics & {*FIRST}:
        said = _best([f for f in figures if f.metric in FIRST and f.student], digits)
    elif any(metric.startswith("eta") for metric in metrics):
        said = _signs(figures)
    elif "entropy" in metrics:
        said = _by(figures, ("label_smoothing",), lambda f: f"{cell(f)} at {_at(f)}")
    elif "class_accuracy" in metrics:
        average = [figure for figure in figures if figure.target_class == "average"]
        said = _by(average, ("student", "split"), lambda f: f"{cell(f, digits)} at {_at(f)} on average")
    elif "count" in metrics:
        said = _by(figures, ("label_smoothing", "temperature"), lambda f: f"{f.target_class} {cell(f)}")
    else:
        kept = [figure for figure in figures if figure.target_class in ("average", "by chance")]
        said = _by(kept, ("target_class",), lambda f: f"{shown(f, 'metric')} {cell(f)}")
    return "; ".join(said) or "–"


def _best(figures: Sequence[Figure], digits: int) -> list[str]:
    """The T of the highest mean, for each student and α."""
    said = []
    for name, alike in _groups(figures, ("student", "label_smoothing")).items():
        known = [figure for figure in alike if figure.temperature is not None]
        if known:
            best = max(known, key=lambda figure: figure.mean)
            among = f"highest of {len(known)} T at {_at(best)}" if len(known) > 1 else f"at {_at(best)}"
            said.append(f"{name}{among}, {cell(best, digits)}\u00a0{best.unit}")
    return said


def _each(figures: Sequence[Figure], digits: int, about: Callable[[Figure], str]) -> list[str]:
    return _by(figures, ("student",), lambda f: f"{about(f)}{_at(f)}: {cell(f, digits)}\u00a0{f.unit}")


def _signs(figures: Sequence[Figure]) -> list[str]:
    """For how many targets η has the signs that diffusion gives it."""
    said = []
    for name, alike in _groups(figures, ("student", "split")).items():
        similar, dissimilar = ([f for f in alike if f.metric.endswith(end)] for end in ("_similar", "dissimilar"))
        below, above = sum(f.mean < 0 for f in similar), sum(f.mean > 0 for f in dissimilar)
        said.append(f"{name}η(S1) < 0 for {below} of {len(similar)}, η(S2) > 0 for {above} of {len(dissimilar)}")
    return said


def _by(figures: Sequence[Figure], fields: Sequence[str], words: Callable[[Figure], str]) -> list[str]:
    return [name + ", ".join(map(words, alike)) for name, alike in _groups(figures, fields).items()]


def _groups(figures: Sequence[Figure], fields: Sequence[str]) -> dict[str, list[Figure]]:
    """Figures that are the same in ``fields``, by these in words; what all figures share is not said."""
    found: dict[str, list[Figure]] = {}
    for figure in figures:
        parts = []
        for name in fields:
            if varies(figures, name) or name == "label_smoothing":
                value = shown(figure, name)
                parts.append(
                    smoothing(value) if name == "label_smoothing" else _at(figure) if name == "temperature" else value
                )
        found.setdefault(", ".join(map(str, parts)) + ": " if parts else "", []).append(figure)
    return found


def _at(figure: Figure) -> str:
    return "no T" if figure.temperature is None else at(figure.temperature)
