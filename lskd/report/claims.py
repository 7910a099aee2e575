"""The claims at the top of a page of runs, on accuracy by T and on η, with tests that allow for how T was chosen."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from lskd.measure.comparisons import LEAST_SEEDS, LEVEL, Comparison, Groups, holm, mean_test
from lskd.measure.smoothing_choice import SmoothingChoice, smoothing_choices
from lskd.measure.temperature_effects import effects
from lskd.records.formatting import at, signed, smoothing, with_spread
from lskd.records.runs import unfinished
from lskd.records.spread import Spread, over_seeds
from lskd.records.studies import TIE, Study, unknown_last
from lskd.report.measured_eta import Diffusion, Interval, MeanEta

Test = TypeVar("Test", bound=Hashable)
EXPLANATION = (
    "Something is claimed where p ≤ {level:g}. Over seeds: the best T against the worst by the studentised range, "
    "which allows for their choice, and likewise over teachers the best students of differently smoothed ones; T = 1 "
    "against the mean of the other T, and whether η(S1), mean over targets, is below 0, by t-tests. Of these students "
    "alone: η against isotropic change. {adjusted}The data that are scored and, where all students had one, the "
    "teacher are taken as given."
)


@dataclass(frozen=True)
class Finding:
    """The results of one teacher's students.

    Attributes:
        alpha: α of the teacher.
        means: mean accuracy or BLEU by T.
        comparisons: the best T against the worst, and T = 1 against the rest, if there are enough seeds.
        eta: η on one split; None if it was not measured.
    """

    alpha: float | None
    means: Mapping[float, Spread]
    comparisons: Sequence[Comparison]
    eta: MeanEta | None


@dataclass(frozen=True)
class Answer:
    """The claims at the top of a page.

    Attributes:
        studies: the title of each study, and its sentences.
        explanation: an explanation of p; None if nothing was tested.
    """

    studies: Sequence[tuple[str, Sequence[str]]]
    explanation: str | None


@dataclass
class Claims:
    """The claims that may be made about a page's studies, with p adjusted for all tests on the page.

    Args:
        studies: each study with the η of its students.
        change: the two temperatures of η, in words.
    """

    studies: Sequence[tuple[Study, Diffusion]]
    change: str
    findings: list[list[Finding]] = field(init=False)
    choices: list[list[SmoothingChoice]] = field(init=False)
    adjusted: Mapping[Hashable, float] = field(init=False)

    def __post_init__(self) -> None:
        self.findings = [_findings(study, diffusion) for study, diffusion in self.studies]
        every = [each for findings in self.findings for each in findings]
        tested: dict[Hashable, float | None] = {each: each.p for finding in every for each in finding.comparisons}
        self.choices = [smoothing_choices(effects([study])) for study, _ in self.studies]
        compared = [choice.comparison for choices in self.choices for choice in choices if choice.comparison]
        tested |= {("smoothing", each): each.p for each in compared}
        for eta in [finding.eta for finding in every if finding.eta]:
            tested |= {(eta, "over seeds"): eta.p, (eta, "isotropic"): eta.p_isotropic}
        self.adjusted = adjusted(tested)

    def answer(self) -> Answer:
        """The sentences on each study and its η, and an explanation of p."""
        said = [
            (study.title, self._sentences(study, findings, choices))
            for (study, _), findings, choices in zip(self.studies, self.findings, self.choices, strict=True)
        ]
        if not self.adjusted:
            return Answer(said, None)
        count = len(self.adjusted)
        several = f"p is adjusted for the {count} tests of this page (Holm); intervals are not. " if count > 1 else ""
        return Answer(said, EXPLANATION.format(level=LEVEL, adjusted=several))

    def _sentences(self, study: Study, findings: Sequence[Finding], choices: Sequence[SmoothingChoice]) -> list[str]:
        sentences = [self._accuracy(study, finding) for finding in findings if len(finding.means) > 1]
        if sentences and (seeds := _few_seeds(study, findings)):
            sentences.append(seeds)
        sentences += map(self._smoothing, choices)
        sentences = sentences or ["There are no students at two temperatures to compare."]
        sentences += [self._eta(finding.alpha, finding.eta) for finding in findings if finding.eta]
        short = [run for run in study.runs if unfinished(run.record)]
        for said, counted in (("but counted", True), ("and without a result yet", False)):
            if names := [run.name for run in short if bool(run.metrics) == counted]:
                sentences.append(f"Not at the end of their training, {said}: {', '.join(names)}.")
        if study.students and not any(finding.eta for finding in findings):
            sentences.append(f"η, {self.change}, was not measured.")
        return sentences

    def _accuracy(self, study: Study, finding: Finding) -> str:
        means, unit = finding.means, study.unit
        top, bottom = max(each.mean for each in means.values()), min(each.mean for each in means.values())
        highest = [T for T, each in means.items() if top - each.mean < TIE]
        said = (
            f"Teacher with {smoothing(finding.alpha)}: {with_spread(means[highest[0]])}\u00a0{unit} at {_or(highest)}, "
        )
        if top - bottom < TIE:
            every = "both" if len(means) == 2 else f"all {len(means)}"
            return f"{said}the same at {every} temperatures."
        lowest = [T for T, each in means.items() if each.mean - bottom < TIE]
        said += f"the highest of {len(means)} temperatures, "
        said += f"{with_spread(means[lowest[0]])}\u00a0{unit} at {_or(lowest)}, the lowest."
        points = "points" if unit == "%" else unit
        for each in finding.comparisons:
            said += " " + difference_in_words(each, self.adjusted[each], points)
        return said

    def _smoothing(self, choice: SmoothingChoice) -> str:
        unit = choice.study.unit
        best, other = (
            f"{smoothing(each.alpha)}, at {at(each.temperature)}, {with_spread(each.spread)}\u00a0{unit}"
            for each in (choice.best, choice.other)
        )
        said = f"Smoothed or not: the best students are those of {best}; the best of {other}"
        if (found := choice.comparison) is None:
            teachers = f"{choice.best.spread.n} and {choice.other.spread.n} teachers"
            return f"{said}; {teachers} are too few to claim anything of smoothing."
        if abs(found.difference) < TIE:
            return f"Smoothed or not: the best students of {best}, are as good as those of {other}."
        p = self.adjusted["smoothing", found]
        of = f"{found.seeds} teachers, {_interval(found.interval, 2)}, {p_in_words(p)}"
        points = "points" if unit == "%" else unit
        return f"{said}: {signed(found.difference, 2)} {points}, {verdict(p)} ({of})."

    def _eta(self, alpha: float | None, eta: MeanEta) -> str:
        below, above = eta.signs
        teacher = smoothing(alpha)
        said = [f"η, {self.change}, teacher with {teacher}, {eta.split} split, mean of {eta.targets} targets:"]
        for name, values, sign in (
            ("η(S1)", eta.similar, f"below 0 for {below}"),
            ("η(S2)", eta.dissimilar, f"above 0 for {above}"),
        ):
            interval = f", {_interval(tested[0])}" if (tested := mean_test(values)) else ""
            stop = ";" if name == "η(S1)" else "."
            said.append(f"{name}\u00a0=\u00a0{signed(float(np.mean(values)))}\u00a0% ({sign}{interval}){stop}")
        if eta.p is not None:
            p = self.adjusted[eta, "over seeds"]
            is_below = "is below 0" if p <= LEVEL else "is not below 0 beyond chance"
            said.append(f"Over {len(eta.similar)} pairs of seeds η(S1) {is_below} ({p_in_words(p)}).")
        else:
            pairs = "One pair" if len(eta.similar) == 1 else f"{len(eta.similar)} pairs"
            said.append(f"{pairs} of students: nothing is claimed of T.")
            if eta.excluding:
                of_similar, of_dissimilar = eta.excluding
                said.append(
                    f"With these students as they are, the interval over samples leaves out 0 for {of_similar} targets "
                    f"of η(S1), {of_dissimilar} of η(S2)."
                )
        if eta.p_isotropic is not None:
            p = self.adjusted[eta, "isotropic"]
            change = "goes beyond isotropic change" if p <= LEVEL else "may be isotropic change"
            said.append(f"How near similar classes came {change} of these students ({p_in_words(p)}).")
        return " ".join(said)


def adjusted(tested: Mapping[Test, float | None]) -> dict[Test, float]:
    """Adjust the p of all tests on a page for their number; tests without p are left out."""
    known = {each: p for each, p in tested.items() if p is not None}
    return dict(zip(known, holm(list(known.values())), strict=True))


def difference_in_words(comparison: Comparison, p: float, points: str) -> str:
    """A sentence on a difference: how large it is, and whether it is more than chance.

    Args:
        comparison: the difference.
        p: its adjusted p.
        points: the unit of a difference.
    """
    of = f"{comparison.seeds} seeds, {_interval(comparison.interval, 2)}, {p_in_words(p)}"
    other = "the mean of the other T" if comparison.lower is None else at(comparison.lower)
    return f"{at(comparison.higher)} less {other}: {signed(comparison.difference, 2)} {points}, {verdict(p)} ({of})."


def verdict(p: float) -> str:
    """What an adjusted p says about a difference."""
    return "more than chance" if p <= LEVEL else "may be chance"


def p_in_words(p: float) -> str:
    """p with two digits.

    >>> p_in_words(0.0314), p_in_words(1e-7)
    ('p = 0.031', 'p < 0.001')
    """
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def _interval(interval: Interval, digits: int = 1) -> str:
    return f"95\u00a0% interval {signed(interval[0], digits)} to {signed(interval[1], digits)}"


def _or(temperatures: Sequence[float]) -> str:
    return "T\u00a0=\u00a0" + " or ".join(f"{T:g}" for T in temperatures)


def _findings(study: Study, diffusion: Diffusion) -> list[Finding]:
    """The findings for each teacher's students, the most smoothed teacher first."""
    metric, found = study.metrics[0].key, []
    for alpha in sorted(study.smoothings, key=unknown_last, reverse=True):
        values = study.values(alpha, metric)
        means = {T: over_seeds(list(each.values())) for T, each in values.items()}
        groups = Groups(values)
        comparisons = [groups.best_against_worst(), groups.one_against_rest()]
        split = next((split for split, etas in diffusion.etas.items() if alpha in etas), None)
        eta = None if split is None else MeanEta.of(split, diffusion.etas[split][alpha])
        found.append(Finding(alpha, means, [each for each in comparisons if each], eta))
    return found


def _few_seeds(study: Study, findings: Sequence[Finding]) -> str:
    """If there are too few seeds to test: that nothing is claimed, and the standard error due to the images alone."""
    spreads = [each for finding in findings if len(finding.means) > 1 for each in finding.means.values()]
    least = min(each.n for each in spreads)
    if least >= LEAST_SEEDS:
        return ""
    seeds = "One seed each" if all(each.n == 1 for each in spreads) else f"Fewer than {LEAST_SEEDS} seeds somewhere"
    said = f"{seeds}: no test there, so nothing is claimed of T"
    samples = min(run.metrics.get("samples") or 0 for runs in study.students.values() for run in runs)
    if study.unit == "%" and samples:
        share = float(np.clip(np.mean([each.mean for each in spreads]) / 100, 0, 1))
        error = 100 * math.sqrt(2 * share * (1 - share) / samples)
        said += (
            f"; the {samples} images alone leave the difference of two such accuracies a standard error of up to "
            f"{error:.1f} points"
        )
    return said + "."
