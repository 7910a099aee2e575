"""One-line summaries of a table's results, measured or published, for the overview of the page of experiments."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from lskd.measure.comparisons import Comparison, Groups
from lskd.paper.published import Measurement
from lskd.paper.table_layout import cell, shown, varies
from lskd.records.formatting import at, signed, smoothing
from lskd.records.spread import Spread
from lskd.report.claims import p_in_words, verdict

FIRST = ("top1", "bleu")  # the metrics that headlines use, where a table has several


def compared(results: Sequence[Measurement]) -> list[Comparison]:
    """The differences between temperatures that a headline mentions, if there are enough seeds to test them."""
    found = [_comparison(alike) for alike in _groups(_of_students(results), ("student", "label_smoothing")).values()]
    return [each for each in found if each]


def headline(results: Sequence[Measurement], adjusted: Mapping[Comparison, float], digits: int = 2) -> str:
    """Summarise the results of one table, by the same rule for measured and published ones.

    Args:
        results: all results of one table.
        adjusted: p of each comparison that :func:`compared` finds in these results, adjusted for all on the page.
        digits: digits of accuracy and BLEU.
    """
    metrics = {result.metric for result in results}
    if "entropy" in metrics and metrics & {*FIRST}:
        said = _each([f for f in results if f.metric in FIRST], digits, lambda f: f"{smoothing(f.label_smoothing)}, ")
    elif metrics & {*FIRST}:
        said = _by_temperature(_of_students(results), adjusted, digits)
    elif any(metric.startswith("eta") for metric in metrics):
        said = _signs(results)
    elif "entropy" in metrics:
        said = _by(results, ("label_smoothing",), lambda f: f"{cell(f)} at {_at(f)}")
    elif "class_accuracy" in metrics:
        average = [result for result in results if result.target_class == "average"]
        said = _by(average, ("student", "split"), lambda f: f"{cell(f, digits)} at {_at(f)} on average")
    elif "count" in metrics:
        said = _by(results, ("label_smoothing", "temperature"), lambda f: f"{f.target_class} {cell(f)}")
    else:
        kept = [result for result in results if result.target_class in ("average", "by chance")]
        said = _by(kept, ("target_class",), lambda f: f"{shown(f, 'metric')} {cell(f)}")
    return "; ".join(said) or "–"


def _of_students(results: Sequence[Measurement]) -> list[Measurement]:
    """Accuracy and BLEU of students; none in tables with entropies, whose temperatures were matched, not compared."""
    if any(result.metric == "entropy" for result in results):
        return []
    return [f for f in results if f.metric in FIRST and f.student and f.temperature is not None]


def _by_temperature(results: Sequence[Measurement], adjusted: Mapping[Comparison, float], digits: int) -> list[str]:
    """The highest and the lowest mean of each student and α, and whether their difference is more than chance."""
    said = []
    for name, alike in _groups(results, ("student", "label_smoothing")).items():
        best, worst = (choose(alike, key=lambda result: result.mean) for choose in (max, min))
        words = f"{name}{cell(best, digits)}\u00a0{best.unit} at {_at(best)}"
        if len(alike) > 1:
            words += f", highest of {len(alike)} T, {cell(worst, digits)} at {_at(worst)}, lowest: "
            tested = _comparison(alike)
            words += "no test" if tested is None else f"{verdict(adjusted[tested])}, {p_in_words(adjusted[tested])}"
        said.append(words)
    return said


def _comparison(results: Sequence[Measurement]) -> Comparison | None:
    """The best T against the worst, from means, standard deviations and numbers of seeds."""
    spreads = {
        f.temperature: Spread(f.mean, f.standard_deviation, f.n or 0) for f in results if f.temperature is not None
    }
    return Groups(spreads).best_against_worst()


def _each(results: Sequence[Measurement], digits: int, about: Callable[[Measurement], str]) -> list[str]:
    return _by(results, ("student",), lambda f: f"{about(f)}{_at(f)}: {cell(f, digits)}\u00a0{f.unit}")


def _signs(results: Sequence[Measurement]) -> list[str]:
    """η, mean over targets, and the number of targets with the sign that the paper's systematic diffusion predicts."""
    said = []
    for name, alike in _groups(results, ("student", "split")).items():
        words = []
        for title, end, sign in (("η(S1)", "_similar", -1), ("η(S2)", "dissimilar", 1)):
            means = [f.mean for f in alike if f.metric.endswith(end) and f.target_class != "average"]
            if means:
                side = "below" if sign < 0 else "above"
                count = sum(sign * mean > 0 for mean in means)
                words.append(f"{title} {signed(float(np.mean(means)), 2)}\u00a0%, {side} 0 for {count} of {len(means)}")
        said.append(name + ", ".join(words))
    return said


def _by(results: Sequence[Measurement], fields: Sequence[str], words: Callable[[Measurement], str]) -> list[str]:
    return [name + ", ".join(map(words, alike)) for name, alike in _groups(results, fields).items()]


def _groups(results: Sequence[Measurement], fields: Sequence[str]) -> dict[str, list[Measurement]]:
    """Group results by ``fields``, with keys in words; a field that all results share is left out of the key."""
    found: dict[str, list[Measurement]] = {}
    for result in results:
        named = [_named(result, name) for name in fields if name == "label_smoothing" or varies(results, name)]
        found.setdefault(", ".join(named) + ": " if named else "", []).append(result)
    return found


def _named(result: Measurement, name: str) -> str:
    if name == "label_smoothing":
        return smoothing(result.label_smoothing)
    return _at(result) if name == "temperature" else str(shown(result, name))


def _at(result: Measurement) -> str:
    return "no T" if result.temperature is None else at(result.temperature)
