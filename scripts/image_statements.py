"""The registered statements on images, as planned tests on the committed results (docs/results/preregistration.md)."""

import itertools
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from definitions import PLAIN, trained_as
from planned_tests import BySeed, Test, minus, planned, read_rows

from lskd.measure.comparisons import Groups

SEEDS = range(11, 16)
TEMPERATURES = (2, 3, 4, 64)
SMALL, LARGE = "test_resnet", "resnet10t"
SMOOTHED = 0.1
SMOOTHINGS = (0.0, 0.05, 0.1, 0.2)
STEP_CONTROLS = ("match", "lr-x3", "lr-x10", "adamw", "epochs-x4")
OTHER_LOSSES = ("standardised", "wttm", "teacher-only")
RIGHT_STEPS = ("match", *OTHER_LOSSES)
# Beside the results of study-step: those of study-optimiser and study-model, which ran whole on another machine.
GRID = "optimiser"
# And those of ``--scale studies-other-seeds``, of images and of translation.
OTHER_SEEDS = "other-seeds"
# And the whole grid of a student as large as its teacher.
LARGER_GRID = "larger-student"
# The columns of measures.csv that are read.
MEASURES = ("nc1", "nc1_ratio", "nc2_angles", "nc3", "ece_percent", "optimal_temperature", "similar_distance")
# Question 5, by where: the first of five seeds, the student, the temperatures and the controls.
ELSEWHERE = {
    "other-fonts": (21, SMALL, TEMPERATURES, ("match", "lr-x3", "lr-x10", "adamw")),
    "convnext": (31, "test_convnext", (3, 64), ("match", "lr-x3", "lr-x10")),
    "fashion": (41, SMALL, (3, 64), ("match", "lr-x3", "lr-x10")),
}


def beside(directory: Path, name: str) -> Path:
    """The directory of a study's results that lies beside that of study-step."""
    return directory.with_name(f"{directory.name}-{name}")


class Results:
    """The committed tables, as numbers by seed.

    Args:
        directory: with students.csv, measures.csv and eta.csv of ``scripts/collect_results.py``.
        seeds: all that a test needs.
        student: the model of the students, where no other is named.
    """

    def __init__(self, directory: Path, seeds: Sequence[int] = SEEDS, student: str = SMALL) -> None:
        self.seeds, self.student = seeds, student
        self.top1: dict[tuple[str, str, float, float | None], dict[int, float]] = defaultdict(dict)
        self._by_run: dict[str, tuple[tuple[str, str, float, float | None], int]] = {}
        for row in read_rows(directory / "students.csv"):
            T = float(row["temperature"]) if row["temperature"] else None
            key = row["variant"], row["model"], float(row["label_smoothing"]), T
            self.top1[key][int(row["seed"])] = float(row["valid_top1"])
            self._by_run[row["run"]] = key, int(row["seed"])
        self.undefined: set[tuple[tuple[str, str, float, float | None], int]] = set()  # students without an η
        self.measures = self._numbers(directory / "measures.csv", MEASURES)
        self.measures |= self._numbers(directory / "students.csv", ("valid_teacher_agreement",))
        self.eta = self._numbers(directory / "eta.csv", ("eta_similar_percent", "eta_dissimilar_percent"))
        self._epochs: dict[str, dict[int, float]] = defaultdict(dict)
        for row in read_rows(directory / "epochs.csv"):
            self._epochs[row["run"]][int(row["epoch"])] = float(row["valid_top1"])

    def _numbers(
        self, path: Path, names: Sequence[str]
    ) -> dict[str, dict[tuple[str, str, float, float | None], dict[int, float]]]:
        found: dict[str, dict[tuple[str, str, float, float | None], dict[int, float]]]
        found = {name: defaultdict(dict) for name in names}
        for row in read_rows(path):
            key, seed = self._by_run[row["run"]]
            for name in names:
                if row[name]:
                    found[name][key][seed] = float(row[name])
                elif name.startswith("eta"):
                    self.undefined.add((key, seed))
        return found

    def accuracy(self, variant: str, alpha: float, T: float | None, model: str | None = None) -> BySeed:
        """Top-1 by seed; at T = 1 of the students in :data:`AT_T_1`, if the variant has no others there."""
        return self.top1.get((trained_as(variant, T), model or self.student, alpha, T), {})

    def cost(self, variant: str, alpha: float, T: float, model: str | None = None) -> BySeed:
        """Top-1 at T = 1 minus top-1 at T, by seed."""
        return minus(self.accuracy(variant, alpha, 1, model), self.accuracy(variant, alpha, T, model))

    def drift(self, variant: str, alpha: float, T: float, dissimilar: bool = False) -> BySeed:
        """η(S1), or η(S2), from T = 1 to T, by seed."""
        name = "eta_dissimilar_percent" if dissimilar else "eta_similar_percent"
        return self.eta[name].get((variant, self.student, alpha, T), {})

    def measure(self, name: str, model: str, alpha: float, T: float | None, variant: str = PLAIN) -> BySeed:
        """A measure on the validation images, by seed."""
        return self.measures[name].get((variant, model, alpha, T), {})

    def curves(self, variant: str, alpha: float, T: float) -> list[dict[int, float]]:
        """Validation top-1 by epoch, of each seed; at T = 1 as in :meth:`accuracy`."""
        key = trained_as(variant, T), self.student, alpha, T
        return [self._epochs[run] for run, (of, _) in self._by_run.items() if of == key and run in self._epochs]


def paper_statements(
    results: Results, question: str = "1", temperatures: Sequence[int] = TEMPERATURES, more_smoothing: bool = True
) -> list[Test]:
    """Question 1: which statements of the paper hold?

    Args:
        results: of the runs.
        question: its name.
        temperatures: whose costs are tested; statement 2 needs all.
        more_smoothing: also statement 5, which needs four α.
    """
    tests, both, seeds = [], f"α = {SMOOTHED:g} less 0", results.seeds

    def add(statement: str, what: str, expected: int, values: BySeed) -> None:
        tests.append(planned(question, statement, what, expected, values, seeds))

    for T in temperatures:
        costs = {alpha: results.cost(PLAIN, alpha, T) for alpha in (SMOOTHED, 0.0)}
        add("1 accuracy falls with T", f"cost of T = {T}, α = 0.1", 1, costs[SMOOTHED])
        add("1 accuracy falls with T, α = 0", f"cost of T = {T}, α = 0", 1, costs[0.0])
        more = minus(costs[SMOOTHED], costs[0.0])
        add("1 more from a smoothed teacher", f"cost of T = {T}, {both}", 1, more)
    if set(TEMPERATURES) <= set(temperatures):
        tests.append(_best(results, question))
    for T in (3, 64):
        drift = {alpha: results.drift(PLAIN, alpha, T) for alpha in (SMOOTHED, 0.0)}
        away = results.drift(PLAIN, SMOOTHED, T, dissimilar=True)
        add("3 drift towards similar classes", f"η(S1) to T = {T}, α = 0.1", -1, drift[SMOOTHED])
        add("3 drift away from the others", f"η(S2) to T = {T}, α = 0.1", 1, away)
        less = minus(drift[SMOOTHED], drift[0.0])
        add("3 more than from the other teacher", f"η(S1) to T = {T}, {both}", -1, less)
    for who, model, T in (("teachers", LARGE, None), ("students at T = 1", results.student, 1.0)):
        for name, what, sign in (("nc1_ratio", "NC1 ratio", -1), ("similar_distance", "distance to S1 / to S2", 1)):
            change = minus(results.measure(name, model, SMOOTHED, T), results.measure(name, model, 0.0, T))
            add("4 tighter clusters, farther apart", f"{what} of {who}, {both}", sign, change)
    for T in (3, 64) if more_smoothing else ():
        costs = [results.cost(PLAIN, alpha, T) for alpha in SMOOTHINGS]
        known = set.intersection(*(set(each) for each in costs))
        slopes = {seed: float(np.polyfit(SMOOTHINGS, [each[seed] for each in costs], 1)[0]) for seed in known}
        add("5 more smoothing costs more", f"slope of the cost of T = {T} over α", 1, slopes)
    return tests


def _best(results: Results, question: str) -> Test:
    """Statement 2: is the smoothed teacher's student at T = 1 the best?"""
    cells = [(alpha, T) for alpha in (SMOOTHED, 0.0) for T in (1, 2, 3, 4, 64)]  # ours is the first
    values: dict[float, BySeed]
    values = {float(place): results.accuracy(PLAIN, alpha, T) for place, (alpha, T) in enumerate(cells)}
    statement = "2 the smoothed teacher at T = 1 is best"
    what = "T = 1, α = 0.1, less the best other"
    if any(set(each) != set(results.seeds) for each in values.values()):
        return planned(question, statement, what, 1, {}, results.seeds)
    found = Groups(values).best_against(0.0)
    assert found is not None
    assert found.lower is not None
    other, sign = (found.lower, 1) if found.higher == 0 else (found.higher, -1)
    alpha, T = cells[int(other)]
    low, high = sorted(sign * end for end in found.interval)
    what += f" (T = {T}, α = {alpha:g})"
    return Test(question, statement, what, 1, sign * found.difference, (low, high), found.p, found.seeds)


def reasons(
    results: Results,
    question: str = "2",
    controls: Sequence[str] = STEP_CONTROLS,
    losses: Sequence[str] = OTHER_LOSSES,
) -> list[Test]:
    """Question 2: is it the drift, or the size of the step?

    Args:
        results: of the runs.
        question: its name.
        controls: of the size of the step; the part of the cost that each removes is tested as well.
        losses: whose costs are tested; with all of them, whether the drift costs accuracy.
    """
    tests = []

    def add(statement: str, what: str, expected: int, values: BySeed) -> None:
        tests.append(planned(question, statement, what, expected, values, results.seeds))

    for T in (3, 64):
        plain = results.cost(PLAIN, SMOOTHED, T)
        add("cost without a control", f"cost of T = {T}", 1, plain)
        for control in (*controls, *losses):
            with_it = results.cost(control, SMOOTHED, T)
            add(f"{control}: cost", f"cost of T = {T} with {control}", 1, with_it)
            if control in controls:
                add(
                    f"{control}: removed", f"part of the cost of T = {T} removed by {control}", 1, minus(plain, with_it)
                )
        add("the drift stays with match", f"η(S1) to T = {T} with match", -1, results.drift("match", SMOOTHED, T))
    if set(OTHER_LOSSES) <= set(losses):
        what = "slope of top-1 over η(S1), match and losses"
        add("the drift costs accuracy", what, 1, drift_slopes(results))
    return tests


def place(where: str, directory: Path) -> Results:
    """The results of ``--scale studies-WHERE``."""
    first, student, *_ = ELSEWHERE[where]
    return Results(directory, range(first, first + len(SEEDS)), student)


def elsewhere(where: str, directory: Path) -> list[Test]:
    """Question 5: the statements on other data or models, of the results of ``--scale studies-WHERE``."""
    _, _, temperatures, controls = ELSEWHERE[where]
    results = place(where, directory)
    tests = paper_statements(results, f"5, {where}: 1", temperatures, more_smoothing=False)
    return tests + reasons(results, f"5, {where}: 2", controls, ())


def drift_slopes(results: Results, variants: Sequence[str] = RIGHT_STEPS) -> dict[int, float]:
    """For each seed the slope of top-1 over η(S1) in %, α as a covariate; students without an η are left out.

    Args:
        results: of the runs.
        variants: those whose students are used; by default those registered as having steps of the right size.
    """
    slopes = {}
    for seed in SEEDS:
        points = [
            (results.drift(variant, alpha, T).get(seed), alpha, results.accuracy(variant, alpha, T).get(seed))
            for variant in variants
            for alpha in (0.0, SMOOTHED)
            for T in (3, 64)
            if ((variant, results.student, alpha, float(T)), seed) not in results.undefined
        ]
        if all(eta is not None and top1 is not None for eta, _, top1 in points):
            design = np.array([(1.0, eta, alpha) for eta, alpha, _ in points], np.float64)
            top1 = np.array([each for *_, each in points], np.float64)
            slopes[seed] = float(np.linalg.lstsq(design, top1, rcond=None)[0][1])
    return slopes


def larger_student(results: Results, alpha: float = SMOOTHED, question: str = "2, larger student") -> list[Test]:
    """Question 2 again for a student as large as its teacher, of teachers of one α."""
    tests = []

    def add(statement: str, what: str, values: BySeed) -> None:
        tests.append(planned(question, statement, what, 1, values, results.seeds))

    for T in (3, 64):
        plain = results.cost(PLAIN, alpha, T, LARGE)
        add("cost without a control", f"cost of T = {T}", plain)
        for control in ("match", "adamw"):
            with_it = results.cost(control, alpha, T, LARGE)
            add(f"{control}: cost", f"cost of T = {T} with {control}", with_it)
            add(f"{control}: removed", f"part of the cost of T = {T} removed by {control}", minus(plain, with_it))
    return tests


def other_seeds(directory: Path) -> Results:
    """The results on images of ``--scale studies-other-seeds``, beside those of study-step in a directory."""
    return Results(beside(directory, OTHER_SEEDS), range(51, 56))


def more_teachers(results: Results) -> list[Test]:
    """Question 1 with AdamW at other α, and of a student as large as its plain teacher: a family of tests each."""
    tests = _costs(results, "1, AdamW", "adamw", SMALL, (0.05, 0.2))
    return tests + _costs(results, "2, larger student of the plain teacher", PLAIN, LARGE, (0.0,))


def larger_grid(directory: Path) -> Results:
    """The results of ``--scale studies-larger-student``, beside those of study-step in a directory."""
    return Results(beside(directory, LARGER_GRID), range(61, 66), LARGE)


def larger_grid_tests(results: Results) -> list[Test]:
    """Questions 1, with SGD and with AdamW, and 2, at α = .2, of students as large as their teachers: a family each."""
    tests = paper_statements(results, "1, larger student")
    tests += _costs(results, "1, larger student, AdamW", "adamw", LARGE, SMOOTHINGS)
    return tests + larger_student(results, 0.2, "2, larger student, α = 0.2")


def _costs(results: Results, question: str, variant: str, model: str, alphas: Sequence[float]) -> list[Test]:
    """What T = 3 and 64 cost at each α."""
    tests = []
    for alpha, T in itertools.product(alphas, (3, 64)):
        cost, what = results.cost(variant, alpha, T, model), f"cost of T = {T}, α = {alpha:g}"
        tests.append(planned(question, "1 accuracy falls with T", what, 1, cost, results.seeds))
    return tests
