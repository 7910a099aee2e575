"""Tables of what no test was registered for, from the committed results: each says so where it stands."""

from collections.abc import Mapping

from definitions import PLAIN
from evidence_format import NAMES, markdown, untested
from image_statements import LARGE, SMOOTHED, Results
from planned_tests import minus


def drift_from_both(kinds: Mapping[str, Results]) -> str:
    """η(S1) and η(S2) to T = 3 and 64, for students of the smoothed and of the plain teacher."""
    rows = []
    for name, results in kinds.items():
        for alpha in (SMOOTHED, 0.0):
            cells = [
                untested(results.drift(PLAIN, alpha, T, dissimilar=each)) for each in (False, True) for T in (3, 64)
            ]
            if all(cells):
                rows.append([name, f"{alpha:g}", *cells])
    return markdown(["students", "α", *(f"η({sets}) to T = {T}" for sets in ("S1", "S2") for T in (3, 64))], rows)


def cost_from_smoothing(results: Results) -> str:
    """The cost of T from the smoothed teacher minus that from the plain one, with each size of the steps."""
    rows = []
    for variant in (PLAIN, "lr-x3", "lr-x10", "match"):
        costs = [(results.cost(variant, SMOOTHED, T), results.cost(variant, 0.0, T)) for T in (3, 64)]
        cells = [untested(minus(*each)) for each in costs]
        if all(cells):
            rows.append([NAMES[variant], *cells])
    return markdown(["", "T = 3", "T = 64"], rows)


def collapse_of_both(kinds: Mapping[str, Results]) -> str:
    """Both measures of NC1, of the smoothed teacher minus the plain one, and of their students at T = 1."""
    rows = []
    for name, results in kinds.items():
        cells = [
            untested(minus(results.measure(measure, model, SMOOTHED, T), results.measure(measure, model, 0.0, T)))
            for measure in ("nc1", "nc1_ratio")
            for model, T in ((LARGE, None), (results.student, 1.0))
        ]
        if all(cells):
            rows.append([name, *cells])
    heads = [f"{measure}, {who}" for measure in ("NC1", "NC1 ratio") for who in ("teachers", "students")]
    return markdown(["letters or data", *heads], rows)
