"""What our studies found in short, from the committed results: what T costs, the best students, the drift."""

from pathlib import Path

from definitions import PLAIN
from evidence_format import cell, markdown, mean, untested
from evidence_tables import ALPHAS, PLACES, best_mean, grid_means
from image_statements import ELSEWHERE, GRID, SMOOTHED, Results, beside, drift_slopes
from planned_tests import Row, minus, read_rows


def in_short(directory: Path) -> str:
    """The answers in numbers: what T costs as a table, then the best students and what else bears on the answers."""
    if not (table := costs(directory)):
        return "No runs yet."
    lines = [_best_students(beside(directory, GRID)), *baselines(directory)]
    return "\n".join([table, "", *(f"- {line}" for line in lines if line)])


def baselines(directory: Path) -> list[str]:
    """What a teacher, its smoothing, and a higher T with matched steps gain: a line each, none of it registered."""
    results, grid = Results(directory), Results(beside(directory, GRID))
    lines = []
    alone = grid.accuracy(PLAIN, 0.0, None)
    taught = [untested(minus(grid.accuracy(PLAIN, alpha, 1), alone)) for alpha in (0.0, SMOOTHED)]
    if all(taught):
        lines.append(
            "**A teacher** is not shown to help in so short a training (not registered): the small ResNet distilled at "
            f"T = 1 minus the same trained on labels: {taught[0]} points with the plain teacher, {taught[1]} with the "
            "smoothed one."
        )
    gains = {
        f"SGD at learning rate {rate}": untested(
            minus(results.accuracy(variant, SMOOTHED, 1), results.accuracy(variant, 0.0, 1))
        )
        for variant, rate in ((PLAIN, ".1"), ("lr-x3", ".3"), ("lr-x10", "1"))
    }
    if all(gains.values()):
        told = "; ".join(f"{name} {gain}" for name, gain in gains.items())
        lines.append(
            "**Smoothing the teacher** is seen to help at T = 1 only at the largest learning rate (not registered): "
            f"students of the smoothed teacher minus those of the plain one, {told}."
        )
    tuned = results.accuracy("lr-x3", SMOOTHED, 1)
    matched = [untested(minus(results.accuracy("match", SMOOTHED, T), tuned)) for T in (3, 64)]
    if all(matched):
        lines.append(
            "**A larger learning rate at T = 1 does as well** (not registered): for students of the smoothed teacher, "
            f"T = 3 and 64 with `match` minus T = 1 at learning rate .3 is {matched[0]} and {matched[1]} points."
        )
    return lines


def costs(directory: Path) -> str:
    """What T costs a smoothed teacher's students with plain steps and ``match``, a row for each kind of students."""
    results, rows = Results(directory), read_tests(directory)
    questions = {"a small ResNet": "2", "a ResNet as large as its teacher": "2, larger student"}
    questions |= {PLACES[where]: f"5, {where}: 2" for where in ELSEWHERE}
    table = []
    for name, question in questions.items():
        names = [("cost without a control", "cost of T = {}"), ("match: cost", "cost of T = {} with match")]
        tests = [rows.get((question, statement, what.format(T)), {}) for T in (3, 64) for statement, what in names]
        if all(test.get("low") for test in tests):
            table.append([name, *map(cell, tests)])
    again = [rows.get(("1", "1 accuracy falls with T", f"cost of T = {T}, α = 0.1"), {}) for T in (3, 64)]
    if table and all(test.get("low") for test in again):
        table.insert(1, ["the small ResNet, other runs with the same seeds", cell(again[0]), "–", cell(again[1]), "–"])
    unsmoothed = [untested(results.cost(way, 0.0, T)) for T in (3, 64) for way in (PLAIN, "match")]
    if all(unsmoothed) and table:
        table.append(["the small ResNet, *teacher without smoothing* (not tested)", *unsmoothed])
    head = ["students", *(f"T = {T}, {way}" for T in (3, 64) for way in ("SGD", "`match`"))]
    return markdown(head, table) if table else ""


def read_tests(directory: Path) -> dict[tuple[str, str, str], Row]:
    """The rows of tests.csv by question, statement and number."""
    return {(row["question"], row["statement"], row["what"]): row for row in read_rows(directory / "tests.csv")}


def drift_with_match(results: Results) -> str:
    """What each % of η(S1) costs the students of `match` alone, as a sentence which says that it is not registered."""
    slope = untested(drift_slopes(results, ["match"]))
    if not slope:
        return ""
    return (
        f"Not registered, and so no more than a hint: over the students of `match` alone (T = 3 and 64, both teachers) "
        f"top-1 falls by {slope} points for each percentage point by which η(S1) falls."
    )


def _best_students(directory: Path) -> str:
    """The best student by α, and what T = 1 and T = 4 lose against it; empty without a complete grid."""
    results, said, lost = Results(directory), [], {1: [], 4: []}
    for alpha in ALPHAS:
        means = grid_means(results, alpha)
        if means is None:
            return ""
        best, at = best_mean(means)
        said.append(f"{best:.2f} % from α = {alpha:g} (T = {at})")
        for T, each in lost.items():
            each.append(f"{best - means[T]:.2f}")
    return (
        f"**The best students** of plain SGD (means, not tested): {', '.join(said)}. T = 1 loses {', '.join(lost[1])} "
        f"points of these, T = 4, the default of some tools, {', '.join(lost[4])}."
    )


def with_adamw(results: Results) -> str:
    """What T costs students of a smoothed teacher with AdamW, as a sentence, where no test is registered for it."""
    found = [untested(results.cost("adamw", SMOOTHED, T)) for T in (3, 64)]
    if not all(found):
        return ""
    at_one = mean(results.accuracy("adamw", SMOOTHED, 1))
    return (
        f"Not registered: trained with AdamW its students have {at_one} % at T = 1, and T = 3 costs {found[0]}, "
        f"T = 64 {found[1]} points."
    )
