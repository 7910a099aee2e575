"""The registered statements on translation, as planned tests on the committed results (docs/results)."""

import itertools
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from definitions import PLAIN, trained_as
from planned_tests import BySeed, Test, minus, planned, read_rows

SEEDS = range(11, 14)
SMOOTHED = 0.1
LONGER = "epochs-x4"
EN_DE, EN_RU = "en-de", "en-ru"
TEACHER = "teacher"  # the teachers themselves, beside the variants of students
OTHERS = "1, Russian and the paper's code"  # the family of the tests beside English to German with all tokens
AGAIN, AGAIN_SEEDS = "3, other seeds", range(14, 19)  # English to German from the smoothed teacher, once more


def pair_of(row: Mapping[str, str]) -> str:
    """The languages of a row of translations.csv.

    >>> pair_of({"run": "help.en-de.match/transformer-small_a0_T64_s11", "variant": "match"})
    'en-de'
    """
    return row["run"].partition("/")[0].removesuffix(f".{row['variant']}").rpartition(".")[2]


class Translations:
    """The committed results of translation, as numbers by seed.

    Args:
        directory: with translations.csv, translations_eta.csv and translations_epochs.csv of
            ``scripts/collect_results.py``.

    Attributes:
        curves: validation BLEU of each seed by epoch, English to German, by variant, α and T.
    """

    def __init__(self, directory: Path) -> None:
        self.scores: dict[str, dict[tuple[str, str, float, float | None], dict[int, float]]]
        self.scores = {"bleu": defaultdict(dict), "chrf": defaultdict(dict)}
        self._eta: dict[tuple[str, str, float, float | None], dict[int, float]] = defaultdict(dict)
        etas = {row["run"]: float(row["eta_similar_percent"]) for row in read_rows(directory / "translations_eta.csv")}
        self.curves: dict[tuple[str, float, float | None], dict[int, dict[int, float]]] = defaultdict(dict)
        curves: dict[str, dict[int, float]] = defaultdict(dict)
        for row in read_rows(directory / "translations_epochs.csv"):
            curves[row["run"]][int(row["epoch"])] = float(row["valid_bleu"])
        for row in read_rows(directory / "translations.csv"):
            name = row["run"].rpartition("/")[2]
            # Those of the paper's code have a student's shape and name.
            variant = TEACHER if name.startswith("transformer_") and row["variant"] != "mkd" else row["variant"]
            at = re.search(r"_T([\d.]+)_", name)  # that of a student of translations alone too, which has no T
            pair = pair_of(row)
            key = pair, variant, float(row["label_smoothing"]), float(at[1]) if at else None
            for metric, scores in self.scores.items():
                scores[key][int(row["seed"])] = float(row[metric])
            if row["run"] in etas:
                self._eta[key][int(row["seed"])] = etas[row["run"]]
            if row["run"] in curves and pair == EN_DE:
                self.curves[key[1:]][int(row["seed"])] = curves[row["run"]]

    def cost(self, variant: str, alpha: float, T: float, pair: str = EN_DE, metric: str = "bleu") -> BySeed:
        """BLEU, or chrF, at T = 1 minus that at T; at T = 1 of the variant in :func:`trained_as`."""
        return minus(self.of(trained_as(variant, 1), alpha, 1, pair, metric), self.of(variant, alpha, T, pair, metric))

    def of(self, variant: str, alpha: float, T: float | None, pair: str = EN_DE, metric: str = "bleu") -> BySeed:
        """BLEU, or chrF, of students, or of teachers (:data:`TEACHER`); ``T`` is None without a teacher."""
        return self.scores[metric].get((pair, variant, alpha, T), {})

    def drift(self, alpha: float, T: float) -> BySeed:
        """η(S1) from T = 1 to T of plain students."""
        return self._eta.get((EN_DE, PLAIN, alpha, T), {})


def translation(results: Translations) -> list[Test]:
    """Question 3: does translation lose by the temperature, the truncation or the step, and by what does it gain?

    Each of its parts is a family of tests.
    """
    tests = []

    def add(statement: str, what: str, expected: int, values: BySeed, family: str = "") -> None:
        tests.append(planned(f"3.{family or statement[0]}", statement, what, expected, values, SEEDS))

    for pair, alpha, T in itertools.product((EN_DE, EN_RU), (0.0, SMOOTHED), (2, 3, 64)):
        for variant, how in ((PLAIN, "all tokens"), ("mkd", "as the code")):
            add(
                "1 BLEU falls with T",
                f"cost of T = {T}, {pair}, {how}, α = {alpha:g}",
                1,
                results.cost(variant, alpha, T, pair),
                "1" if (pair, variant) == (EN_DE, PLAIN) else OTHERS,
            )
    for alpha in (0.0, SMOOTHED):
        for statement, what, values in _reasons(results, alpha):
            add(statement, f"{what}, α = {alpha:g}", 1, values)
    for T in (3, 64):
        smoothed = results.drift(SMOOTHED, T)
        add("3 drift towards similar words", f"η(S1) to T = {T}, α = 0.1", -1, smoothed)
        add(
            "3 more than from the other teacher",
            f"η(S1) to T = {T}, α = 0.1 less 0",
            -1,
            minus(smoothed, results.drift(0.0, T)),
        )
    for alpha in (0.0, SMOOTHED):
        alone, words = results.of(PLAIN, alpha, None), results.of(PLAIN, alpha, 1)
        sentences, both = results.of("sequence-level", alpha, 1), results.of("both", alpha, 1)
        add("4 word by word", f"word by word less no teacher, α = {alpha:g}", 1, minus(words, alone))
        add("4 sentence by sentence", f"translations less no teacher, α = {alpha:g}", 1, minus(sentences, alone))
        add("4 both", f"both less word by word, α = {alpha:g}", 1, minus(both, words))
    left = results.cost(LONGER, SMOOTHED, 64)
    removed = minus(results.cost(PLAIN, SMOOTHED, 64), left)
    add("5 more updates", "part of the cost of T = 64 removed by four times the epochs", 1, removed)
    add("5 more updates", "cost of T = 64 with four times the epochs", 1, left)
    with_match = results.cost(f"{LONGER}-match", SMOOTHED, 64)
    add("5 the step", "cost of T = 64 with four times the epochs and match", 1, with_match)
    return tests


def _reasons(results: Translations, alpha: float) -> list[tuple[str, str, BySeed]]:
    """Part 2 of question 3 for the students of one teacher: each number's statement, name and values."""
    plain = results.cost(PLAIN, alpha, 64)
    step = [
        ("2 the step", f"part of the cost of T = 64 removed by {each}", minus(plain, results.cost(each, alpha, 64)))
        for each in ("match", "standardised")
    ]
    more = minus(results.cost("top-4", alpha, 64), plain)
    return [*step, ("2 the truncation", "cost of T = 64 with top 4 less with all", more)]


def translation_again(results: Translations) -> list[Test]:
    """Question 3 with other seeds, of ``--scale studies-other-seeds``: one family of tests, of the smoothed teacher."""
    tests = []

    def add(statement: str, what: str, expected: int, values: BySeed) -> None:
        tests.append(planned(AGAIN, statement, what, expected, values, AGAIN_SEEDS))

    short, longer = (results.cost(variant, SMOOTHED, 64) for variant in (PLAIN, LONGER))
    longer_with_match = results.cost(f"{LONGER}-match", SMOOTHED, 64)
    add("1 BLEU falls with T", "cost of T = 3", 1, results.cost(PLAIN, SMOOTHED, 3))
    add("1 BLEU falls with T", "cost of T = 64", 1, short)
    for statement, what, values in _reasons(results, SMOOTHED):
        add(statement, what, 1, values)
    for T in (3, 64):
        add("3 drift towards similar words", f"η(S1) to T = {T}", -1, results.drift(SMOOTHED, T))
    removed = minus(short, longer)
    add("5 more updates", "part of the cost of T = 64 removed by four times the epochs", 1, removed)
    add("5 more updates", "cost of T = 64 with four times the epochs", 1, longer)
    removed = minus(longer, longer_with_match)
    add("5 the step", "part of the cost of T = 64 with four times the epochs removed by match", 1, removed)
    add("5 the step", "cost of T = 64 with four times the epochs and match", 1, longer_with_match)
    return tests
