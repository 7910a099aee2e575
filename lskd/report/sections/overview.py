"""The overview of a page of experiments: a line for each, and the significance of differences between temperatures."""

from dataclasses import dataclass

from lskd.measure.comparisons import LEAST_SEEDS
from lskd.paper.published import published
from lskd.paper.results import Result
from lskd.report.claims import adjusted
from lskd.report.contents import Contents, StudySummary
from lskd.report.elements import Cell, Section, Table
from lskd.report.headlines import compared, headline


@dataclass(frozen=True, kw_only=True)
class OverviewSection(Section):
    """A table with a row for each experiment, and how to read it."""

    template = "overview.html"
    table: Table
    explanation: str


def overview_section(contents: Contents, digits: int) -> OverviewSection:
    """One line on each experiment's results, beside the published ones; p is adjusted over the whole page.

    Args:
        contents: the content of the page.
        digits: digits of measured accuracy and BLEU.
    """
    results = [each.outcome for each in contents.experiments if isinstance(each.outcome, Result)]
    measured = adjusted({each: each.p for result in results for each in compared(result.rows)})
    printed = adjusted({each: each.p for result in results for each in compared(published(result.table))})
    lines = []
    for experiment in contents.experiments:
        outcome = experiment.outcome
        if isinstance(outcome, Result):
            said = [headline(outcome.rows, measured, digits), headline(published(outcome.table), printed, 3)]
        elif isinstance(outcome, StudySummary):
            said = ["means by T, and a page of its runs", "–"]
        else:
            said = ["a drawing and its numbers", outcome.published]
        lines.append([experiment.name, experiment.title, *said])
    text = " ".join(cell for line in lines for cell in line)
    explanation = "Means over seeds ± standard deviation (number of seeds); without ± it is not known. "
    if "lowest" in text:
        explanation += (
            "The highest and the lowest T are named by their means; whether one is better than the other only the test "
            "tells: the studentised range, which allows for their choice, p adjusted for all that a column compares "
            f"(Holm; measured {len(measured)}, published {len(printed)}). No test: fewer than {LEAST_SEEDS} seeds, or "
            "their spread is not known; then nothing is claimed of T. "
        )
    if "η" in text:
        explanation += "Signs of η are only counted: targets share classes."
    scale = f", scale {contents.scale}" if contents.scale else ""
    heads = ["", "what it shows", "measured here", "published"]
    rows: list[list[str | Cell]] = [[name, *(Cell(each, prose=True) for each in cells)] for name, *cells in lines]
    table = Table(f"The experiments{scale}", [heads], rows)
    return OverviewSection(title="Overview", table=table, explanation=explanation)
