"""Tests that were planned before the runs: numbers by seed, their intervals and p, and the verdict of each question."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lskd.io.errors import input_error
from lskd.measure.comparisons import LEVEL, holm, mean_test

BySeed = Mapping[Any, float]


@dataclass(frozen=True)
class Test:
    """One number that is tested against 0.

    Attributes:
        question: the question whose tests are adjusted together.
        statement: the statement that it belongs to.
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


def minus(one: BySeed, other: BySeed) -> dict[int, float]:
    """The difference within each seed that has both."""
    return {seed: one[seed] - other[seed] for seed in one.keys() & other.keys()}


def planned(question: str, statement: str, what: str, expected: int, values: BySeed, seeds: Sequence[int]) -> Test:
    """A t-test of a mean over the seeds; no interval and p unless all of them are there."""
    mean = float(np.mean(list(values.values()))) if values else None
    found = mean_test([values[seed] for seed in seeds]) if set(values) == set(seeds) else None
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
    return "" if value is None else f"{value:.6f}"


class Row(dict[str, str]):
    """A row of a committed table; a column that it lacks is an InputError."""

    def __missing__(self, name: str) -> str:
        raise input_error("results", ", ".join(map(str, self)), f"must be a table with the column {name}")


def read_rows(path: Path) -> list[Row]:
    """The rows of a committed table, none where there is no such file."""
    if not path.is_file():
        return []
    return [Row(row) for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines())]


def read_tests(directory: Path) -> dict[tuple[str, str, str], Row]:
    """The rows of tests.csv by question, statement and number."""
    return {(row["question"], row["statement"], row["what"]): row for row in read_rows(directory / "tests.csv")}
