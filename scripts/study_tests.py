"""Test the registered statements on the committed results of our studies: docs/results/studies/tests.csv.

    python scripts/study_tests.py            # writes the file
    python scripts/study_tests.py --check    # compares it with what the committed results give

docs/results/preregistration.md says what is tested and how. A question is tested when all of its runs are there; until
then its statements have their means but no p.
"""

import argparse
from pathlib import Path

from computed_files import computed_parser, write_or_compare
from definitions import ROOT
from image_statements import (
    ELSEWHERE,
    GRID,
    LARGER_GRID,
    OTHER_SEEDS,
    Results,
    beside,
    elsewhere,
    larger_grid,
    larger_grid_tests,
    larger_student,
    more_teachers,
    other_seeds,
    paper_statements,
    reasons,
)
from planned_tests import judged
from translation_statements import Translations, translation, translation_again

from lskd.io.errors import run_command
from lskd.io.tables import csv_text

RESULTS = ROOT / "docs" / "results" / "studies"


def table(directory: Path) -> str:
    """The contents of tests.csv for the results in a directory and in those beside it that are there."""
    grid = Results(beside(directory, GRID))
    tests = [*paper_statements(grid), *reasons(Results(directory)), *larger_student(grid)]
    tests += translation(Translations(directory))
    if (more := beside(directory, OTHER_SEEDS)).is_dir():
        tests += [*more_teachers(other_seeds(directory)), *translation_again(Translations(more))]
    if beside(directory, LARGER_GRID).is_dir():
        tests += larger_grid_tests(larger_grid(directory))
    for where in ELSEWHERE:
        if (other := beside(directory, where)).is_dir():
            tests += elsewhere(where, other)
    return csv_text(judged(tests))


def run(arguments: argparse.Namespace) -> None:
    """Write the file, or compare it."""
    write_or_compare(RESULTS / "tests.csv", table(RESULTS), "study_tests.py", arguments.check)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    return computed_parser(__doc__)


if __name__ == "__main__":
    run_command(parser(), run)
