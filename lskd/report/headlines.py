"""One line on a table's figures, measured or published: what stands in the overview of a page of experiments."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from lskd.measure.comparisons import Comparison, Groups
from lskd.paper.published import Figure
from lskd.paper.table_layout import cell, shown, varies
from lskd.records.spread import Spread
from lskd.records.studies import at, signed, smoothing
from lskd.report.claims import p_in_words, verdict

FIRST = ("top1", "bleu")  # the metric that a headline is about, of those that a table may have several of


def compared(figures: Sequence[Figure]) -> list[Comparison]:
    """The differences between temperatures that a headline speaks of: those of which seeds allow a test."""
    found = [_comparison(alike) for alike in _groups(_of_students(figures), ("student", "label_smoothing")).values()]
    return [each for each in found if each]


def headline(figures: Sequence[Figure], adjusted: Mapping[Comparison, float], digits: int = 2) -> str:
    """What figures of one table say, by the same rule for measured and published ones.

    Args:
        figures: of one table.
        adjusted: p of everything that :func:`compared` finds in these figures, adjusted for what the page compares.
        digits: of accuracy and BLEU.
    """
    metrics = {figure.metric for figure in figures}
    if "entropy" in metrics and metrics & {*FIRST}:
        said = _each([f for f in figures if f.metric in FIRST], digits, lambda f: f"{smoothing(f.label_smoothing)}, ")
    elif metrics & {*FIRST}:
        said = _by_temperature(_of_students(figures), adjusted, digits)
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


def _of_students(figures: Sequence[Figure]) -> list[Figure]:
    """Accuracy and BLEU by temperature, unless entropies go with them: then temperatures were matched, not compared."""
    if any(figure.metric == "entropy" for figure in figures):
        return []
    return [f for f in figures if f.metric in FIRST and f.student and f.temperature is not None]


def _by_temperature(figures: Sequence[Figure], adjusted: Mapping[Comparison, float], digits: int) -> list[str]:
    """For each student and α the highest and the lowest mean, and what their difference is worth."""
    said = []
    for name, alike in _groups(figures, ("student", "label_smoothing")).items():
        best, worst = (choose(alike, key=lambda figure: figure.mean) for choose in (max, min))
        words = f"{name}{cell(best, digits)}\u00a0{best.unit} at {_at(best)}"
        if len(alike) > 1:
            words += f", highest of {len(alike)} T, {cell(worst, digits)} at {_at(worst)}, lowest: "
            tested = _comparison(alike)
            words += "no test" if tested is None else f"{verdict(adjusted[tested])}, {p_in_words(adjusted[tested])}"
        said.append(words)
    return said


def _comparison(figures: Sequence[Figure]) -> Comparison | None:
    """The best T against the worst, from means, standard deviations and numbers of seeds."""
    spreads = {f.temperature: Spread(f.mean, f.standard_deviation, f.n or 0) for f in figures}
    return Groups(spreads).best_against_worst()


def _each(figures: Sequence[Figure], digits: int, about: Callable[[Figure], str]) -> list[str]:
    return _by(figures, ("student",), lambda f: f"{about(f)}{_at(f)}: {cell(f, digits)}\u00a0{f.unit}")


def _signs(figures: Sequence[Figure]) -> list[str]:
    """η, mean over targets, and for how many it has the signs that diffusion gives it."""
    said = []
    for name, alike in _groups(figures, ("student", "split")).items():
        words = []
        for title, end, sign in (("η(S1)", "_similar", -1), ("η(S2)", "dissimilar", 1)):
            means = [f.mean for f in alike if f.metric.endswith(end) and f.target_class != "average"]
            if means:
                side = "below" if sign < 0 else "above"
                count = sum(sign * mean > 0 for mean in means)
                words.append(f"{title} {signed(float(np.mean(means)), 2)}\u00a0%, {side} 0 for {count} of {len(means)}")
        said.append(name + ", ".join(words))
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
