"""Fill the pages about our studies from the committed results, and draw their pictures.

    python scripts/evidence_page.py            # writes the pages and docs/results/studies/*.svg
    python scripts/evidence_page.py --check    # compares the pages with what the committed results give

Text between ``<!-- NAME -->`` and ``<!-- end -->`` is replaced, and a number before ``<!-- QUESTION | TEST -->`` by
that test's mean; all else is written by hand.
"""

import argparse
import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from computed_files import computed_parser, write_or_compare
from definitions import PLAIN, ROOT
from evidence_format import signed
from evidence_not_registered import collapse_of_both, cost_from_smoothing, drift_from_both
from evidence_summary import best_students, costs, drift_with_match, gains, with_adamw
from evidence_tables import (
    PLACES,
    accuracy,
    advice,
    complete,
    controls,
    drifts,
    elsewhere,
    falls,
    followed,
    held,
    readings,
    statements,
)
from evidence_translation import bleu, bleu_elsewhere, chrf_costs, collapse, sentence_tests, ways
from image_statements import (
    ELSEWHERE,
    GRID,
    LARGE,
    OTHER_SEEDS,
    SMOOTHED,
    Results,
    beside,
    larger_grid,
    other_seeds,
    place,
)
from planned_tests import BySeed, read_tests
from study_drawings import (
    draw_cost,
    draw_curves,
    draw_drift,
    draw_kinds,
    draw_temperature,
    draw_translation,
    draw_updates,
)
from translation_statements import AGAIN, AGAIN_SEEDS, LONGER, OTHERS, Translations

from lskd.io.errors import input_error, run_command
from lskd.io.files import write_text

PAGES = (*(ROOT / "docs" / name for name in ("evidence.md", "evidence-details.md", "index.md")), ROOT / "README.md")
RESULTS = ROOT / "docs" / "results" / "studies"


@dataclass(frozen=True)
class Committed:
    """The committed results.

    Attributes:
        images: of study-step, with its other controls and losses.
        grid: of study-optimiser and study-model.
        translations: of the studies of translation.
        other_translations: of those with other seeds.
        other_images: of images with other seeds.
        larger_grid: of students as large as their teachers, at every α and T.
        kinds: of the letters, of a larger student, and of each case of question 5 that has run, by their names.
    """

    images: Results
    grid: Results
    translations: Translations
    other_translations: Translations
    other_images: Results
    larger_grid: Results
    kinds: dict[str, Results]

    @classmethod
    def of(cls, directory: Path) -> Self:
        """The results in a directory, and in those beside it."""
        images, grid = Results(directory), beside(directory, GRID)
        larger = Results(grid, student=LARGE)
        kinds = {"a small ResNet": images} | ({"a larger ResNet": larger} if larger.cost(PLAIN, SMOOTHED, 3) else {})
        kinds |= {
            PLACES[where]: place(where, found) for where in ELSEWHERE if (found := beside(directory, where)).is_dir()
        }
        others = Translations(beside(directory, OTHER_SEEDS)), other_seeds(directory), larger_grid(directory)
        return cls(images, Results(grid), Translations(directory), *others, kinds)

    @property
    def of_question_1(self) -> dict[str, Results]:
        """The results that answer question 1, by kind of students."""
        places = {name: results for name, results in self.kinds.items() if name in PLACES.values()}
        return {"a small ResNet": self.grid, "a ResNet as large as its teacher": self.larger_grid} | places


# Of each picture: how it is drawn, what it shows in words, and whether there is anything to draw.
PICTURES: dict[str, tuple[Callable[[Committed], str], str, Callable[[Committed], BySeed]]] = {
    "temperature": (
        lambda found: draw_temperature(found.grid, found.images),
        "Top-1 against the temperature, for students of a smoothed and of a plain teacher, with steps of several sizes",
        lambda found: found.grid.accuracy(PLAIN, SMOOTHED, 1),
    ),
    "cost": (
        lambda found: draw_cost(found.images),
        "What T costs without a control and with each",
        lambda found: found.images.cost(PLAIN, SMOOTHED, 3),
    ),
    "kinds": (
        lambda found: draw_kinds(found.kinds),
        "What T = 3 and 64 cost each kind of students, with plain SGD and with match",
        lambda found: found.images.cost(PLAIN, SMOOTHED, 3) if len(found.kinds) > 1 else {},
    ),
    "drift": (
        lambda found: draw_drift(found.images),
        "What T costs against the drift towards similar letters, for steps of several sizes",
        lambda found: found.images.drift("match", SMOOTHED, 3),
    ),
    "curves": (
        lambda found: draw_curves(found.images),
        "Validation top-1 against the epoch at T = 1, 3 and 64: SGD, match, a larger rate, more epochs",
        lambda found: found.images.cost("match", SMOOTHED, 3),
    ),
    "bleu": (
        lambda found: draw_translation(found.translations),
        "Test BLEU against the temperature: all tokens, the teacher's top 4, match",
        lambda found: found.translations.cost(PLAIN, SMOOTHED, 3),
    ),
    "updates": (
        lambda found: draw_updates(found.other_translations),
        "Validation BLEU against the epoch, at T = 1, and at T = 64 with each way to distil",
        lambda found: found.other_translations.cost(LONGER, SMOOTHED, 64),
    ),
}


def picture(name: str, committed: Committed) -> str:
    """The link to a picture, empty where there is nothing to draw yet."""
    _, words, shown = PICTURES[name]
    return f"![{words}](results/studies/{name}.svg)" if shown(committed) else ""


def filled(page: str, directory: Path) -> str:
    """The page with its blocks filled from the results in a directory.

    Raises:
        InputError: the page has an unknown block.
    """
    committed = Committed.of(directory)
    results, grid, tests = committed.images, committed.grid, read_tests(directory)
    blocks: dict[str, Callable[[], str]] = {
        "accuracy": lambda: accuracy(grid, committed.other_images),
        "falls": lambda: falls(tests),
        "drifts": lambda: drifts(results, tests),
        "drift_from_both": lambda: drift_from_both(committed.of_question_1),
        "collapse_of_both": lambda: collapse_of_both(committed.of_question_1),
        "cost_from_smoothing": lambda: cost_from_smoothing(results),
        "held": lambda: held(directory),
        "paper": lambda: statements(["1"])(directory),
        "controls": lambda: controls(results),
        "readings": lambda: readings(results),
        "reasons": lambda: statements(["2"])(directory),
        "larger": lambda: statements(["2, larger student"])(directory),
        "match": lambda: drift_with_match(results),
        "costs": lambda: costs(directory),
        "gains": lambda: gains(directory),
        "best": lambda: best_students(directory),
        "elsewhere": lambda: elsewhere(directory),
        "adamw": lambda: with_adamw(place("convnext", beside(directory, "convnext"))),
        "translation": lambda: statements(["3.1", "3.2"])(directory),
        "translated": lambda: bleu(committed.translations),
        "chrf": lambda: chrf_costs(committed.translations),
        "collapse": lambda: collapse(tests),
        "words": lambda: statements(["3.3"])(directory),
        "distilling": lambda: statements(["3.4"])(directory),
        "longer": lambda: statements(["3.5"])(directory),
        "elsewhere_translated": lambda: bleu_elsewhere(committed.translations),
        "sentences": lambda: sentence_tests(directory),
        "russian": lambda: statements([f"3.{OTHERS}"])(directory),
        "again": lambda: statements([AGAIN])(directory),
        "translated_again": lambda: bleu(committed.other_translations, len(AGAIN_SEEDS)),
        "sentences_again": lambda: sentence_tests(beside(directory, OTHER_SEEDS)),
        "adamw_grid": lambda: statements(["1, AdamW"])(directory),
        "larger_accuracy": lambda: accuracy(committed.larger_grid),
        "larger_paper": lambda: statements(["1, larger student"])(directory),
        "larger_adamw": lambda: statements(["1, larger student, AdamW"])(directory),
        "larger_reasons": lambda: statements(["2, larger student, α = 0.2"])(directory),
        "larger_of_plain": lambda: statements(["2, larger student of the plain teacher"])(directory),
        "ways": lambda: ways(committed.translations),
        "followed": lambda: followed(beside(directory, GRID)),
        "advice": lambda: advice(beside(directory, GRID)),
        "complete": lambda: complete(directory),
    } | {name: functools.partial(picture, name, committed) for name in PICTURES}

    def fill(match: re.Match[str]) -> str:
        if match[1] not in blocks:
            raise input_error("page", match[1], f"must be a block of {', '.join(blocks)}")
        return f"<!-- {match[1]} -->\n\n{blocks[match[1]]()}\n\n<!-- end -->"

    def number(match: re.Match[str]) -> str:
        means = [row["mean"] for row in tests.values() if (row["question"], row["what"]) == match.groups()]
        if len(means) != 1:
            raise input_error("page", match[0], f"must name one test of tests.csv, not {len(means)}")
        return f"{signed(means[0]).lstrip('+')}<!-- {match[1]} | {match[2]} -->"

    page = re.sub(r"[−\d.]*<!-- ([^|>]+) \| ([^>]+) -->", number, page)
    return re.sub(r"<!-- (\w+) -->\n.*?<!-- end -->", fill, page, flags=re.DOTALL)


def run(arguments: argparse.Namespace) -> None:
    """Write the pages and pictures, or compare the pages."""
    for page in PAGES:
        text = filled(page.read_text(encoding="utf-8"), RESULTS)
        write_or_compare(page, text, "evidence_page.py", arguments.check)
    if arguments.check:
        return
    committed = Committed.of(RESULTS)
    for name, (drawing, _, shown) in PICTURES.items():
        if shown(committed):
            write_text(RESULTS / f"{name}.svg", drawing(committed))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    return computed_parser(__doc__)


if __name__ == "__main__":
    run_command(parser(), run)
