"""The tables on images of our studies' pages, as markdown, from the committed results."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from definitions import PLAIN
from evidence_format import NAMES, cell, in_words, markdown, mean, signed, untested
from image_statements import (
    ELSEWHERE,
    GRID,
    LARGER_GRID,
    OTHER_SEEDS,
    SEEDS,
    SMOOTHED,
    SMOOTHINGS,
    STEP_CONTROLS,
    Results,
    beside,
)
from planned_tests import BySeed, Row, read_rows

TEMPERATURES = (1, 2, 3, 4, 64)
# For each rule the T that it names, from a row of advice.csv.
RULES: dict[str, Callable[[Mapping[str, str]], int]] = {
    "T = 1": lambda row: 1,
    "T = 4": lambda row: 4,
    "the advice from runs": lambda row: int(row["runs"]),
}
PLACES = {"other-fonts": "a small ResNet, other fonts", "convnext": "a ConvNeXt", "fashion": "Fashion-MNIST"}


def accuracy(*results: Results) -> str:
    """Means by optimiser, α and T; of several results each row is of those that have the most seeds."""
    rows = []
    for variant in (PLAIN, "match", "adamw"):
        for alpha in SMOOTHINGS:
            of = max(results, key=lambda each: len(each.accuracy(variant, alpha, 64)))
            cells = [mean(of.accuracy(variant, alpha, T)) for T in TEMPERATURES]
            cells.append(mean(of.accuracy(variant, alpha, None)))
            if any(cell != "–" for cell in cells[1:]):  # at T = 1 match has the students of SGD
                rows.append([NAMES[variant], f"{alpha:g}", *cells])
    return markdown(["", "α", *(f"T = {T:g}" for T in TEMPERATURES), "no teacher"], rows)


def controls(results: Results) -> str:
    """The cost of T and the drift with each control, for students of both teachers."""
    rows = []
    for variant in (PLAIN, *STEP_CONTROLS, "standardised", "wttm", "teacher-only"):
        for alpha in (SMOOTHED, 0.0):
            cells = [mean(results.accuracy(variant, alpha, 1))]
            cells += [mean(results.cost(variant, alpha, T)) for T in (3, 64)]
            cells += [mean(results.drift(variant, alpha, T)) for T in (3, 64)]
            if any(cell != "–" for cell in cells[1:]):
                rows.append([NAMES[variant], f"{alpha:g}", *cells])
    head = ["", "α", "T = 1, top-1", "cost of T = 3", "cost of T = 64", "η(S1) to T = 3", "η(S1) to T = 64"]
    return markdown(head, rows)


def readings(results: Results) -> str:
    """Fidelity, calibration and collapse of the students beside their accuracy, by way of training, α and T."""
    columns = {
        "agreement with the teacher, %": "valid_teacher_agreement",
        "ECE, %": "ece_percent",
        "T of the best calibration": "optimal_temperature",
        "NC1 ratio": "nc1_ratio",
        "NC2, angles": "nc2_angles",
        "NC3": "nc3",
    }
    rows = []
    for variant in (PLAIN, "match", "lr-x10"):
        for alpha in (SMOOTHED, 0.0):
            for T in (1, 3, 64):
                cells = [results.measure(name, results.student, alpha, T, variant) for name in columns.values()]
                if all(cells):
                    top1 = results.accuracy(variant, alpha, T)
                    rows.append([NAMES[variant], f"{alpha:g}", str(T), *map(mean, [top1, *cells])])
    return markdown(["", "α", "T", "top-1, %", *columns], rows)


def falls(tests: Mapping[tuple[str, str, str], Row]) -> str:
    """Question 1: what T costs students of a smoothed teacher, those of the other, and by how much more the former."""
    rows = []
    for name, statement, of in (
        ("smoothed (α = 0.1)", "1 accuracy falls with T", "α = 0.1"),
        ("plain (α = 0)", "1 accuracy falls with T, α = 0", "α = 0"),
        ("difference", "1 more from a smoothed teacher", "α = 0.1 less 0"),
    ):
        found = [tests.get(("1", statement, f"cost of T = {T}, {of}"), {}) for T in TEMPERATURES[1:]]
        if any(found):
            rows.append([name, *map(cell, found)])
    return markdown(["teacher", *(f"T = {T}" for T in TEMPERATURES[1:])], rows)


def drifts(results: Results, tests: Mapping[tuple[str, str, str], Row]) -> str:
    """What T costs beside the drift, for steps of several sizes, from both teachers; bold what a test shows."""

    def written(values: BySeed, alpha: float, statement: str, what: str) -> str:
        """A mean with its interval, as its test is written if it has one; empty with too few seeds."""
        test = tests.get(("2", statement, what), {}) if alpha == SMOOTHED else {}
        return cell(test) if values and test.get("low") else untested(values)

    rows = []
    for alpha in (SMOOTHED, 0.0):
        for variant in (PLAIN, "lr-x3", "lr-x10", "match"):
            statement, with_it = f"{variant}: cost", f" with {variant}"
            if variant == PLAIN:
                statement, with_it = "cost without a control", ""
            cells = [
                written(results.cost(variant, alpha, T), alpha, statement, f"cost of T = {T}{with_it}") for T in (3, 64)
            ]
            statement = f"the drift stays{with_it}"
            cells += [
                written(results.drift(variant, alpha, T), alpha, statement, f"η(S1) to T = {T}{with_it}")
                for T in (3, 64)
            ]
            if all(cells):
                rows.append([NAMES[variant], f"{alpha:g}", *cells])
    return markdown(["", "α", "cost of T = 3", "cost of T = 64", "η(S1) to T = 3, %", "η(S1) to T = 64, %"], rows)


def statements(questions: Sequence[str]) -> Callable[[Path], str]:
    """The tests of some questions, a row each."""

    def table(directory: Path) -> str:
        rows = []
        for row in read_rows(directory / "tests.csv"):
            if row["question"] in questions and row["mean"]:
                interval = f"{signed(row['low'])} to {signed(row['high'])}" if row["low"] else "–"
                said = [
                    in_words(row["what"]),
                    row["expected"],
                    signed(row["mean"]),
                    interval,
                    row["n"],
                    row["p_adjusted"] or "–",
                ]
                rows.append([*said, row["verdict"]])
        return markdown(["number", "expected", "mean", "95 %", "n", "p, adjusted", "verdict"], rows)

    return table


def held(directory: Path) -> str:
    """For each statement of the paper, how many of its tests hold; empty until all have a verdict."""
    verdicts: dict[str, list[str]] = {}
    for row in read_rows(directory / "tests.csv"):
        if row["question"] == "1":
            verdicts.setdefault(row["statement"].partition(" ")[2], []).append(row["verdict"])
    kinds = ("holds", "contradicted", "not shown")
    if "incomplete" in {verdict for found in verdicts.values() for verdict in found}:
        return ""
    rows = [[name, *(str(found.count(kind) or "") for kind in kinds)] for name, found in verdicts.items()]
    return markdown(["statement of the paper", *kinds], rows)


def elsewhere(directory: Path) -> str:
    """Question 5: every test of each case."""
    rows = []
    for row in read_rows(directory / "tests.csv"):
        where = row["question"].removeprefix("5, ").partition(":")[0]
        if row["question"].startswith("5, ") and row["mean"]:
            interval = f"{signed(row['low'])} to {signed(row['high'])}" if row["low"] else "–"
            said = [PLACES[where], in_words(row["what"]), row["expected"], signed(row["mean"]), interval, row["n"]]
            rows.append([*said, row["p_adjusted"] or "–", row["verdict"]])
    return markdown(["where", "number", "expected", "mean", "95 %", "n", "p, adjusted", "verdict"], rows)


def grid_means(results: Results, alpha: float) -> dict[int, float] | None:
    """Mean top-1 of SGD by T; None where a seed is missing."""
    values = {T: results.accuracy(PLAIN, alpha, T) for T in TEMPERATURES}
    if any(set(each) != set(SEEDS) for each in values.values()):
        return None
    return {T: sum(each.values()) / len(SEEDS) for T, each in values.items()}


def best_mean(means: Mapping[int, float]) -> tuple[float, str]:
    """The highest mean, and the T that have it as it is printed.

    >>> best_mean({1: 87.3, 3: 89.0622, 4: 89.0621})
    (89.0622, '3 or 4')
    """
    best = max(means.values())
    return best, " or ".join(str(T) for T, mean in means.items() if f"{mean:.2f}" == f"{best:.2f}")


def advice(directory: Path) -> str:
    """What following a rule costs against the best T of the same teacher, SGD.

    Args:
        directory: with advice.csv of ``scripts/followed_advice.py`` beside the results of the students.
    """
    results, rows = Results(directory), []
    named = {(float(row["label_smoothing"]), int(row["seed"])): row for row in read_rows(directory / "advice.csv")}
    for alpha in SMOOTHINGS:
        means = grid_means(results, alpha)
        if means is None or any((alpha, seed) not in named for seed in SEEDS):
            continue
        best, at = best_mean(means)
        values = {T: results.accuracy(PLAIN, alpha, T) for T in TEMPERATURES}
        highest = values[max(means, key=means.__getitem__)]
        lost: list[BySeed] = [{s: highest[s] - values[T(named[alpha, s])][s] for s in SEEDS} for T in RULES.values()]
        alone = {row["alone"].replace(" ", ", ") for (of, _), row in named.items() if of == alpha}
        chosen = [row["runs"] for (of, _), row in named.items() if of == alpha]
        rows.append([f"{alpha:g}", f"{best:.2f} at T = {at}", " or ".join(alone), ", ".join(chosen), *map(mean, lost)])
    head = ["α", "best", "named from the teacher alone", "from runs of the other seeds"]
    return markdown([*head, *(f"lost by {rule}" for rule in RULES)], rows)


def followed(directory: Path) -> str:
    """For each rule the points lost against each teacher's own best T, and the number of teachers for which it is best.

    Args:
        directory: as for :func:`advice`.
    """
    results = Results(directory)
    advised = {(float(row["label_smoothing"]), int(row["seed"])): row for row in read_rows(directory / "advice.csv")}
    cells: dict[str, list[str]] = {}
    alphas = [alpha for alpha in SMOOTHINGS if all((alpha, seed) in advised for seed in SEEDS)]
    for alpha in alphas:
        top1 = {T: results.accuracy(PLAIN, alpha, T) for T in TEMPERATURES}
        for name, rule in RULES.items():
            cells.setdefault(name, []).append(_lost(top1, {seed: rule(advised[alpha, seed]) for seed in SEEDS}))
        others = {
            seed: max(TEMPERATURES, key=lambda T, seed=seed: sum(top1[T][each] for each in SEEDS if each != seed))
            for seed in SEEDS
        }
        cells.setdefault("the highest mean of the other seeds", []).append(_lost(top1, others))
    return markdown(["rule", *(f"α = {alpha:g}" for alpha in alphas)], [[name, *each] for name, each in cells.items()])


def _lost(top1: Mapping[int, BySeed], chosen: Mapping[int, int]) -> str:
    """The mean over teachers of top-1 at their best T minus that at the chosen one, and for how many it is the best."""
    lost = {seed: max(each[seed] for each in top1.values()) - top1[T][seed] for seed, T in chosen.items()}
    best = sum(f"{points:.2f}" == "0.00" for points in lost.values())
    return f"{sum(lost.values()) / len(lost):.2f} (best for {best} of {len(lost)})"


def complete(directory: Path) -> str:
    """Which questions have all their runs, and the processor time of those that there are."""
    places = [directory, *(beside(directory, name) for name in (GRID, OTHER_SEEDS, LARGER_GRID, *ELSEWHERE))]
    rows = [row for place in places for row in read_rows(place / "students.csv")]
    if not rows:
        return "**No study has run yet**: what follows fills as they end."
    hours = sum(float(row["seconds"]) for row in rows) / 3600
    # Models that came out equal on two machines are counted once.
    rows = list({tuple(value for name, value in row.items() if name != "seconds"): row for row in rows}.values())
    verdicts: dict[str, set[str]] = {}
    for row in read_rows(directory / "tests.csv"):
        verdicts.setdefault(row["question"], set()).add(row["verdict"])
    missing = [question for question, found in verdicts.items() if "incomplete" in found]
    missing += [f"5, {PLACES[where]}" for where in ELSEWHERE if not beside(directory, where).is_dir()]
    students = len([row for row in rows if row["temperature"]])
    said = f"Images: {students} students and {len(rows) - students} models without a teacher, {hours:.1f} core hours of"
    said += " training."
    if translations := [row for place in places for row in read_rows(place / "translations.csv")]:
        timed = [float(row["seconds"]) for row in translations if row["seconds"]]
        said += (
            f" Translation: {len(translations)} models; {len(timed)} of them took {sum(timed) / 3600:.1f} core hours."
        )
        hours = round(hours, 1) + round(sum(timed) / 3600, 1)
        said += f" Together at least {hours:.1f} core hours."
    if missing:
        said += f" Not complete, and so not tested: question {'; '.join(missing)}."
    return said
