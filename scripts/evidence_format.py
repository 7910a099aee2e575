"""How the pages of our studies write numbers, tables and the names of variants."""

import re
from collections.abc import Iterable, Mapping, Sequence

from definitions import PLAIN
from image_statements import SEEDS
from planned_tests import BySeed

from lskd.measure.comparisons import mean_test
from lskd.records.formatting import with_spread
from lskd.records.spread import over_seeds

NAMES = {
    PLAIN: "SGD",
    "adamw": "AdamW",
    "match": "`match`",
    "lr-x3": "learning rate × 3",
    "lr-x10": "learning rate × 10",
    "epochs-x4": "4 times the epochs",
    "standardised": "standardised logits",
    "wttm": "`wttm`",
    "teacher-only": "teacher-only tempering",
}
SHOWN = ("holds", "contradicted")  # verdicts of significant tests


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; a sentence where it has no rows."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([f"| {' | '.join(head)} |", "|" + "---|" * len(head), *lines]) if lines else "No runs yet."


def mean(values: BySeed, seeds: int = len(SEEDS)) -> str:
    """Mean ± standard deviation on one line, with n where it is not all seeds; a dash for none."""
    if not values:
        return "–"
    written = with_spread(over_seeds(list(values.values())), with_n=len(values) != seeds)
    return written.replace("-", "−").replace(" ", "\u00a0")


def in_words(what: str) -> str:
    """What is tested, with the names of variants as they are written.

    >>> in_words("cost of T = 3 with lr-x3")
    'cost of T = 3 with learning rate × 3'
    """
    found = re.fullmatch(r"(.* (?:with|by) )(\S+)", what)
    return found[1] + NAMES.get(found[2], found[2]) if found else what


def with_interval(*values: str | float) -> str:
    """A mean and the ends of its interval, without plus signs.

    >>> with_interval(1.5, -1, 2)
    '1.50 (−1.00 to 2.00)'
    """
    mean, low, high = (signed(value).lstrip("+") for value in values)
    return f"{mean} ({low} to {high})"


def signed(value: str | float) -> str:
    """A number of tests.csv with its sign, two decimals."""
    return f"{float(value):+.2f}".replace("-", "−")


def untested(values: BySeed) -> str:
    """A mean over seeds with its interval, for which no test is registered; empty with too few seeds."""
    found = mean_test(list(values.values()))
    return with_interval(sum(values.values()) / len(values), *found[0]) if found else ""


def cell(test: Mapping[str, str]) -> str:
    """The mean of a test with its interval, bold if it is significant; a dash without an interval."""
    if not test.get("low"):
        return "–"
    written = with_interval(test["mean"], test["low"], test["high"])
    return f"**{written}**" if test["verdict"] in SHOWN else written
