"""Test the registered statements on the committed results of our studies: docs/results/studies/tests.csv.

    python scripts/study_tests.py            # writes the file
    python scripts/study_tests.py --check    # compares it with what the committed results give

docs/results/preregistration.md says what is tested and how. A question is tested when all of its runs are there; until
then its statements have their means and no p.
"""

import argparse
import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from definitions import PLAIN, ROOT

from lskd.io.errors import input_error, run_command
from lskd.io.files import write_text
from lskd.io.tables import csv_text
from lskd.measure.comparisons import LEVEL, Groups, holm, mean_test

RESULTS = ROOT / "docs" / "results" / "studies"
SEEDS = range(11, 16)
SMALL, LARGE = "test_resnet", "resnet10t"
BySeed = Mapping[Any, float]
SMOOTHED = 0.1
# Losses and controls at whose T = 1 the loss is the paper's: their students at T = 1 are the plain ones.
PAPERS_AT_ONE = ("match", "wttm", "teacher-only")
STEP_CONTROLS = ("match", "lr-x3", "lr-x10", "adamw", "epochs-x4")
OTHER_LOSSES = ("standardised", "wttm", "teacher-only")
RIGHT_STEPS = ("match", *OTHER_LOSSES)


@dataclass(frozen=True)
class Test:
    """One number that is tested against 0.

    Attributes:
        question: whose tests are adjusted together.
        statement: that it belongs to.
        what: the number.
        expected: its sign if the statement holds, 1 or -1.
        mean: of the seeds; None where runs are missing.
        interval: at 95 %.
        p: two-sided, not adjusted.
        n: seeds.
    """

    question: str
    statement: str
    what: str
    expected: int
    mean: float | None
    interval: tuple[float, float] | None
    p: float | None
    n: int


class Results:
    """The committed tables, as numbers by seed.

    Args:
        directory: with students.csv, measures.csv and eta.csv of ``scripts/collect_results.py``.
    """

    def __init__(self, directory: Path) -> None:
        self.top1: dict[tuple[str, str, float, float | None], dict[int, float]] = defaultdict(dict)
        self._by_run: dict[str, tuple[tuple[str, str, float, float | None], int]] = {}
        for row in _rows(directory / "students.csv"):
            T = float(row["temperature"]) if row["temperature"] else None
            key = row["variant"], row["model"], float(row["label_smoothing"]), T
            self.top1[key][int(row["seed"])] = float(row["valid_top1"])
            self._by_run[row["run"]] = key, int(row["seed"])
        self.measures = self._numbers(directory / "measures.csv", ("nc1_ratio", "similar_distance"))
        self.eta = self._numbers(directory / "eta.csv", ("eta_similar_percent", "eta_dissimilar_percent"))

    def _numbers(
        self, path: Path, names: Sequence[str]
    ) -> dict[str, dict[tuple[str, str, float, float | None], dict[int, float]]]:
        found: dict[str, dict[tuple[str, str, float, float | None], dict[int, float]]]
        found = {name: defaultdict(dict) for name in names}
        for row in _rows(path):
            key, seed = self._by_run[row["run"]]
            for name in names:
                if row[name]:
                    found[name][key][seed] = float(row[name])
        return found

    def accuracy(self, variant: str, alpha: float, T: float | None, model: str = SMALL) -> BySeed:
        """Top-1 by seed; at T = 1 of a loss that is then the paper's, of the plain students."""
        if T == 1 and variant in PAPERS_AT_ONE:
            variant = PLAIN
        return self.top1.get((variant, model, alpha, T), {})

    def cost(self, variant: str, alpha: float, T: float, model: str = SMALL) -> BySeed:
        """Top-1 at T = 1 less top-1 at T, by seed."""
        return minus(self.accuracy(variant, alpha, 1, model), self.accuracy(variant, alpha, T, model))

    def drift(self, variant: str, alpha: float, T: float, dissimilar: bool = False) -> BySeed:
        """η(S1), or η(S2), from T = 1 to T, by seed."""
        name = "eta_dissimilar_percent" if dissimilar else "eta_similar_percent"
        return self.eta[name].get((variant, SMALL, alpha, T), {})

    def measure(self, name: str, model: str, alpha: float, T: float | None) -> BySeed:
        """A measure of a plain model on the validation images, by seed."""
        return self.measures[name].get((PLAIN, model, alpha, T), {})


def minus(one: BySeed, other: BySeed) -> dict[int, float]:
    """The difference within seeds, of those that have both."""
    return {seed: one[seed] - other[seed] for seed in one.keys() & other.keys()}


def paper_statements(results: Results) -> list[Test]:
    """Question 1: which statements of the paper hold?"""
    tests, both = [], f"α = {SMOOTHED:g} less 0"
    for T in (2, 3, 4, 64):
        costs = {alpha: results.cost(PLAIN, alpha, T) for alpha in (SMOOTHED, 0.0)}
        tests.append(_of("1", "1 accuracy falls with T", f"cost of T = {T}, α = 0.1", 1, costs[SMOOTHED]))
        tests.append(_of("1", "1 accuracy falls with T, α = 0", f"cost of T = {T}, α = 0", 1, costs[0.0]))
        more = minus(costs[SMOOTHED], costs[0.0])
        tests.append(_of("1", "1 more from a smoothed teacher", f"cost of T = {T}, {both}", 1, more))
    tests.append(_best(results))
    for T in (3, 64):
        drift = {alpha: results.drift(PLAIN, alpha, T) for alpha in (SMOOTHED, 0.0)}
        away = results.drift(PLAIN, SMOOTHED, T, dissimilar=True)
        tests.append(_of("1", "3 drift towards similar classes", f"η(S1) to T = {T}, α = 0.1", -1, drift[SMOOTHED]))
        tests.append(_of("1", "3 drift away from the others", f"η(S2) to T = {T}, α = 0.1", 1, away))
        less = minus(drift[SMOOTHED], drift[0.0])
        tests.append(_of("1", "3 only from a smoothed teacher", f"η(S1) to T = {T}, {both}", -1, less))
    for who, model, T in (("teachers", LARGE, None), ("students at T = 1", SMALL, 1.0)):
        for name, what, sign in (("nc1_ratio", "NC1 ratio", -1), ("similar_distance", "distance to S1 / to S2", 1)):
            change = minus(results.measure(name, model, SMOOTHED, T), results.measure(name, model, 0.0, T))
            tests.append(_of("1", "4 tighter clusters, farther apart", f"{what} of {who}, {both}", sign, change))
    for T in (3, 64):
        alphas = (0.0, 0.05, 0.1, 0.2)
        costs = [results.cost(PLAIN, alpha, T) for alpha in alphas]
        seeds = set.intersection(*(set(each) for each in costs))
        slopes = {seed: float(np.polyfit(alphas, [each[seed] for each in costs], 1)[0]) for seed in seeds}
        tests.append(_of("1", "5 more smoothing costs more", f"slope of the cost of T = {T} over α", 1, slopes))
    return tests


def _best(results: Results) -> Test:
    """Statement 2: is the smoothed teacher's student at T = 1 the best?"""
    cells = [(alpha, T) for alpha in (SMOOTHED, 0.0) for T in (1, 2, 3, 4, 64)]  # ours is the first
    values: dict[float, BySeed]
    values = {float(place): results.accuracy(PLAIN, alpha, T) for place, (alpha, T) in enumerate(cells)}
    what = "T = 1, α = 0.1, less the best other"
    if any(set(each) != set(SEEDS) for each in values.values()):
        return _of("1", "2 the smoothed teacher at T = 1 is best", what, 1, {})
    found = Groups(values).best_against(0.0)
    assert found is not None
    assert found.lower is not None
    other, sign = (found.lower, 1) if found.higher == 0 else (found.higher, -1)
    alpha, T = cells[int(other)]
    low, high = sorted(sign * end for end in found.interval)
    what += f" (T = {T}, α = {alpha:g})"
    return Test(
        "1",
        "2 the smoothed teacher at T = 1 is best",
        what,
        1,
        sign * found.difference,
        (low, high),
        found.p,
        found.seeds,
    )


def reasons(results: Results) -> list[Test]:
    """Question 2: is it diffusion, or the size of the step?"""
    tests = []
    for T in (3, 64):
        plain = results.cost(PLAIN, SMOOTHED, T)
        tests.append(_of("2", "cost without a control", f"cost of T = {T}", 1, plain))
        for control in STEP_CONTROLS + OTHER_LOSSES:
            with_it = results.cost(control, SMOOTHED, T)
            tests.append(_of("2", f"{control}: cost", f"cost of T = {T} with {control}", 1, with_it))
            if control in STEP_CONTROLS:
                removed = minus(plain, with_it)
                tests.append(_of("2", f"{control}: removed", f"part of the cost of T = {T} removed", 1, removed))
        drift = results.drift("match", SMOOTHED, T)
        tests.append(_of("2", "the drift stays with match", f"η(S1) to T = {T} with match", -1, drift))
    what = "slope of top-1 over η(S1), match and losses"
    tests.append(_of("2", "the drift costs accuracy", what, 1, drift_slopes(results)))
    return tests


def drift_slopes(results: Results) -> dict[int, float]:
    """For each seed the slope of top-1 over η(S1) in %, over students with right steps, α as a covariate."""
    slopes = {}
    for seed in SEEDS:
        points = [
            (results.drift(variant, alpha, T).get(seed), alpha, results.accuracy(variant, alpha, T).get(seed))
            for variant in RIGHT_STEPS
            for alpha in (0.0, SMOOTHED)
            for T in (3, 64)
        ]
        if all(eta is not None and top1 is not None for eta, _, top1 in points):
            design = np.array([(1.0, eta, alpha) for eta, alpha, _ in points], np.float64)
            top1 = np.array([each for *_, each in points], np.float64)
            slopes[seed] = float(np.linalg.lstsq(design, top1, rcond=None)[0][1])
    return slopes


def larger_student(results: Results) -> list[Test]:
    """Question 2 again for a student as large as its teacher."""
    tests = []
    for T in (3, 64):
        plain = results.cost(PLAIN, SMOOTHED, T, LARGE)
        tests.append(_of("2, larger student", "cost without a control", f"cost of T = {T}", 1, plain))
        for control in ("match", "adamw"):
            with_it = results.cost(control, SMOOTHED, T, LARGE)
            tests.append(_of("2, larger student", f"{control}: cost", f"cost of T = {T} with {control}", 1, with_it))
            removed, what = minus(plain, with_it), f"part of the cost of T = {T} removed"
            tests.append(_of("2, larger student", f"{control}: removed", what, 1, removed))
    return tests


def _of(question: str, statement: str, what: str, expected: int, values: BySeed) -> Test:
    """A t-test of a mean over the seeds; no interval and p unless all of them are there."""
    mean = float(np.mean(list(values.values()))) if values else None
    found = mean_test([values[seed] for seed in SEEDS]) if set(values) == set(SEEDS) else None
    interval, p = found or (None, None)
    return Test(question, statement, what, expected, mean, interval, p, len(values))


def judged(tests: Sequence[Test]) -> list[dict[str, str]]:
    """A row for each test: adjusted p and verdict where all tests of its question have one."""
    rows = []
    for question in dict.fromkeys(test.question for test in tests):
        family = [test for test in tests if test.question == question]
        known = [test.p for test in family if test.p is not None]
        adjusted = holm(known) if len(known) == len(family) else None
        for place, test in enumerate(family):
            low, high = test.interval or (None, None)
            rows.append(
                {
                    "question": question,
                    "statement": test.statement,
                    "what": test.what,
                    "expected": "above 0" if test.expected > 0 else "below 0",
                    "mean": _number(test.mean),
                    "low": _number(low),
                    "high": _number(high),
                    "n": str(test.n),
                    "p_adjusted": f"{adjusted[place]:.2g}" if adjusted else "",
                    "verdict": _verdict(test, adjusted[place]) if adjusted else "incomplete",
                }
            )
    return rows


def _verdict(test: Test, p: float) -> str:
    if p > LEVEL or test.mean is None:
        return "not shown"
    return "holds" if test.mean * test.expected > 0 else "contradicted"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines())) if path.is_file() else []


def table(directory: Path) -> str:
    """The contents of tests.csv for the results in a directory."""
    results = Results(directory)
    return csv_text(judged([*paper_statements(results), *reasons(results), *larger_student(results)]))


def run(arguments: argparse.Namespace) -> None:
    """Write the file, or compare it."""
    path = RESULTS / "tests.csv"
    if not arguments.check:
        write_text(path, table(RESULTS))
    elif path.read_text(encoding="utf-8") != table(RESULTS):
        raise input_error("--check", path, "differs from what the results beside it give: run scripts/study_tests.py")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--check", action="store_true", help="compare, and write nothing")
    return options


if __name__ == "__main__":
    run_command(parser(), run)
