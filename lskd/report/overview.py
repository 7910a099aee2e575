"""The overview of a page of experiments: a line for each, and what the differences between temperatures are worth."""

from lskd.measure.comparisons import LEAST_SEEDS
from lskd.paper.published import published
from lskd.report.claims import adjusted
from lskd.report.contents import Contents
from lskd.report.headlines import compared, headline
from lskd.report.html import Page, paragraph, table, text_cell


def overview(page: Page, contents: Contents, digits: int) -> None:
    """What each experiment gave, in a line, beside what is published; differences are tested over the whole page.

    Args:
        page: that begins.
        contents: what is on it.
        digits: of measured accuracy and BLEU.
    """
    page.heading("Overview")
    results = [experiment.result for experiment in contents.experiments if experiment.result is not None]
    measured = adjusted({each: each.p for result in results for each in compared(result.rows)})
    printed = adjusted({each: each.p for result in results for each in compared(published(result.table))})
    rows = []
    for experiment in contents.experiments:
        says = ["a drawing and its numbers", experiment.drawing.published] if experiment.drawing else []
        if (result := experiment.result) is not None:
            says = [headline(result.rows, measured, digits), headline(published(result.table), printed, 3)]
        rows.append([experiment.name, text_cell(experiment.title), *map(text_cell, says)])
    scale = f", scale {contents.scale}" if contents.scale else ""
    page.add(table(f"The experiments{scale}", [["", "what the paper's shows", "measured here", "published"]], rows))
    words = "Means over seeds ± standard deviation (number of seeds); without ± it is not known. "
    if any("lowest" in str(cell) for row in rows for cell in row):
        words += (
            "The highest and the lowest T are named by their means; whether one is better than the other only the test "
            "tells: the studentised range, which allows for their choice, p adjusted for all that a column compares "
            f"(Holm; measured {len(measured)}, published {len(printed)}). No test: fewer than {LEAST_SEEDS} seeds, or "
            "their spread is not known; then nothing is claimed of T. "
        )
    if any("η" in str(cell) for row in rows for cell in row):
        words += "Signs of η are only counted: targets share classes."
    page.add(paragraph(words, class_="faint"))
