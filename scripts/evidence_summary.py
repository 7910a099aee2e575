"""What our studies found in short, from the committed results: what T costs, the best students, the drift."""

from pathlib import Path

from definitions import PLAIN
from evidence_format import cell, markdown, mean, untested
from evidence_tables import PLACES, best_mean, grid_means
from image_statements import ELSEWHERE, GRID, SMOOTHED, SMOOTHINGS, Results, beside, drift_slopes
from planned_tests import minus, read_tests

TEACHERS = {0.0: "plain", SMOOTHED: "smoothed"}
RATES = {PLAIN: ".1", "lr-x3": ".3", "lr-x10": "1"}  # learning rates of study-step


def gains(directory: Path) -> str:
    """Differences between students in points of top-1: of smoothed, plain and no teachers; none of it is tested."""
    results, grid = Results(directory), Results(beside(directory, GRID))
    at_one = {
        (rate, alpha): results.accuracy(variant, alpha, 1) for variant, rate in RATES.items() for alpha in TEACHERS
    }
    question_1 = {alpha: grid.accuracy(PLAIN, alpha, 1) for alpha in TEACHERS}
    what = "smoothed teacher minus plain one"
    rows = [("T = 1, rate .1, question 1", what, question_1[SMOOTHED], question_1[0.0])]
    rows += [(f"T = 1, rate {each}", what, at_one[each, SMOOTHED], at_one[each, 0.0]) for each in RATES.values()]
    rows += [
        (f"T = 1, {name} teacher", "rate 1 minus rate .1", at_one["1", alpha], at_one[".1", alpha])
        for alpha, name in TEACHERS.items()
    ]
    alone = grid.accuracy(PLAIN, 0.0, None)
    rows += [
        ("T = 1, rate .1, question 1", f"{name} teacher minus labels", question_1[alpha], alone)
        for alpha, name in TEACHERS.items()
    ]
    for alpha, name in ((0.0, "labels"), (SMOOTHED, "smoothed labels")):
        alone = results.accuracy("lr-x10", alpha, None)
        rows.append(("T = 1, rate 1", f"smoothed teacher minus {name}", at_one["1", SMOOTHED], alone))
    for T in (3, 64):
        matched = results.accuracy("match", SMOOTHED, T)
        told = f"T = {T}, `match`, rate .1 minus T = 1, rate .3"
        rows.append(("smoothed teacher", told, matched, at_one[".3", SMOOTHED]))
    written = [[where, what, untested(minus(one, other))] for where, what, one, other in rows]
    return markdown(["students", "difference", "points"], [row for row in written if row[-1]])


def best_students(directory: Path) -> str:
    """The best students at the usual learning rate by α, and over the rates of study-step, a line each."""
    lines = [_best_students(Results(beside(directory, GRID))), _best_of_rates(Results(directory))]
    return "\n".join(f"- {line}" for line in lines if line) or "No runs yet."


def _best_students(grid: Results) -> str:
    """The best student by α at the usual learning rate; empty without a complete grid."""
    said = []
    for alpha in SMOOTHINGS:
        means = grid_means(grid, alpha)
        if means is None:
            return ""
        best, at = best_mean(means)
        said.append(f"{best:.2f} % from α = {alpha:g} (T = {at})")
    return f"At the usual learning rate of .1: {', '.join(said)}."


def _best_of_rates(results: Results) -> str:
    """The best student of each teacher, and without one, over the learning rates of study-step; empty without them."""
    said = []
    for who, kinds in (
        ("from α = 0", [(0.0, T) for T in (1, 3, 64)]),
        ("from α = 0.1", [(SMOOTHED, T) for T in (1, 3, 64)]),
        ("without a teacher", [(0.0, None), (SMOOTHED, None)]),
    ):
        found = {(rate, *kind): results.accuracy(variant, *kind) for variant, rate in RATES.items() for kind in kinds}
        if any(set(values) != set(results.seeds) for values in found.values()):
            return ""
        means = {kind: sum(values.values()) / len(values) for kind, values in found.items()}
        rate, alpha, T = max(means, key=means.__getitem__)
        with_labels = "" if alpha == 0 else f", labels smoothed by {alpha:g}"
        how = with_labels if T is None else f", T = {T}"
        said.append(f"{max(means.values()):.2f} % {who} (rate {rate}{how})")
    return f"At .1, .3 or 1, with T = 1, 3 or 64: {', '.join(said)}."


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
        table.insert(1, ["the small ResNet, on another processor", cell(again[0]), "–", cell(again[1]), "–"])
    unsmoothed = [untested(results.cost(way, 0.0, T)) for T in (3, 64) for way in (PLAIN, "match")]
    if all(unsmoothed) and table:
        table.append(["the small ResNet, *teacher without smoothing* (not tested)", *unsmoothed])
    head = ["students", *(f"T = {T}, {way}" for T in (3, 64) for way in ("SGD", "`match`"))]
    return markdown(head, table)


def drift_with_match(results: Results) -> str:
    """What each % of η(S1) costs the students of `match` alone, as a sentence which says that it is not registered."""
    slope = untested(drift_slopes(results, ["match"]))
    if not slope:
        return ""
    return (
        f"Not registered, and so no more than a hint: over the students of `match` alone (T = 3 and 64, both teachers) "
        f"top-1 falls by {slope} points for each percentage point by which η(S1) falls."
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
