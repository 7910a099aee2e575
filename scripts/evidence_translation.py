"""The tables on translation of our studies' pages, as markdown, from the committed results."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from definitions import PLAIN
from evidence_format import cell, markdown, mean, with_interval
from planned_tests import BySeed, Row, read_rows
from translation_statements import (
    AGAIN,
    AGAIN_SEEDS,
    EN_DE,
    EN_RU,
    LONGER,
    SEEDS,
    SMOOTHED,
    TEACHER,
    Translations,
    pair_of,
)

from lskd.measure.comparisons import LEVEL, holm, mean_test

TEMPERATURES = (1, 2, 3, 64)
# How students are trained.
WAYS = {
    PLAIN: "all tokens",
    "match": "`match`",
    "standardised": "standardised logits",
    "top-4": "the teacher's top 4",
}
WAYS |= {
    LONGER if variant == PLAIN else f"{LONGER}-{variant}": f"{name}, 20 epochs" for variant, name in list(WAYS.items())
}


def bleu(translations: Translations, seeds: int = len(SEEDS)) -> str:
    """BLEU of each way to distil by α and T, English to German; last those of the longer trainings.

    Args:
        translations: of the studies.
        seeds: theirs; n is written where there are fewer.
    """
    kinds = (
        (name, alpha, [translations.of(variant, alpha, T) for T in (*TEMPERATURES, None)])
        for variant, name in (WAYS | {TEACHER: "the teachers themselves"}).items()
        for alpha in (0.0, SMOOTHED)
    )
    return _bleu_by_temperature(kinds, seeds)


def bleu_elsewhere(translations: Translations) -> str:
    """BLEU by α and T of the students of the tests that are not on English to German with all tokens."""
    kinds = {
        "English to Russian, all tokens": (PLAIN, EN_RU),
        "English to German, as the paper's code distils": ("mkd", EN_DE),
        "English to Russian, as the paper's code distils": ("mkd", EN_RU),
    }
    return _bleu_by_temperature(
        (name, alpha, [translations.of(variant, alpha, T, pair) for T in (*TEMPERATURES, None)])
        for name, (variant, pair) in kinds.items()
        for alpha in (0.0, SMOOTHED)
    )


def _bleu_by_temperature(kinds: Iterable[tuple[str, float, Sequence[BySeed]]], seeds: int = len(SEEDS)) -> str:
    """A table of names, α and BLEU at each T, without the kinds that have not been trained."""
    rows = [[name, f"{alpha:g}", *(mean(each, seeds) for each in found)] for name, alpha, found in kinds if any(found)]
    head = ["", "α", *(f"T = {T}" for T in TEMPERATURES), "no teacher"]
    width = len(head) - all(row[-1] == "–" for row in rows)
    return markdown(head[:width], [row[:width] for row in rows])


def ways(translations: Translations) -> str:
    """BLEU and chrF of students that learn in each way from a teacher, English to German, T = 1."""
    kinds = {
        "no teacher": (PLAIN, None),
        "word by word": (PLAIN, 1.0),
        "the teacher's translations": ("sequence-level", 1.0),
        "its translations, word by word": ("both", 1.0),
    }
    rows = []
    for alpha in (0.0, SMOOTHED):
        for name, (variant, T) in kinds.items():
            scores = [translations.of(variant, alpha, T, metric=metric) for metric in ("bleu", "chrf")]
            if scores[0]:
                rows.append([name, f"{alpha:g}", *(mean(each, len(SEEDS)) for each in scores)])
    return markdown(["", "α", "BLEU", "chrF"], rows)


def sentence_tests(directory: Path) -> str:
    """The number of students with a lower BLEU, and chrF, than at T = 1 by the paired tests over sentences (Holm)."""
    about = {row["run"]: row for row in read_rows(directory / "translations.csv")}
    rows = read_rows(directory / "translations_paired.csv")
    found: dict[tuple[str, ...], list[str]] = {}
    for metric in ("bleu", "chrf"):
        adjusted = holm([float(row[f"{metric}_p"]) for row in rows])
        lower: dict[tuple[str, ...], list[bool]] = {}
        for row, p in zip(rows, adjusted, strict=True):
            run = about[row["run"]]
            kind = pair_of(run), run["variant"], run["label_smoothing"], run["temperature"]
            lower.setdefault(kind, []).append(p <= LEVEL and float(row[f"{metric}_difference"]) < 0)
        for kind, each in lower.items():
            found.setdefault(kind, []).append(f"{sum(each)} of {len(each)}")
    names = WAYS | {"mkd": "as the code"}
    lines = [
        [pair, names[variant], f"{float(alpha):g}", T, *found[pair, variant, alpha, T]]
        for pair, variant, alpha, T in sorted(found)
    ]
    return markdown(["", "", "α", "T", "BLEU lower", "chrF lower"], lines)


def chrf_costs(translations: Translations) -> str:
    """What T costs in chrF, English to German with all tokens; p adjusted for the six rows by Holm's method."""
    found = {}
    for alpha in (0.0, SMOOTHED):
        for T in TEMPERATURES[1:]:
            costs = translations.cost(PLAIN, alpha, T, metric="chrf")
            if tested := mean_test(list(costs.values())):
                found[alpha, T] = sum(costs.values()) / len(costs), *tested
    adjusted = holm([p for *_, p in found.values()])
    rows = [
        [f"{T:g}", f"{alpha:g}", with_interval(average, *interval), f"{p:.2g}"]
        for ((alpha, T), (average, interval, _)), p in zip(found.items(), adjusted, strict=True)
    ]
    return markdown(["T", "α", "cost in chrF", "p, adjusted"], rows)


def collapse(tests: Mapping[tuple[str, str, str], Row]) -> str:
    """What costs at T = 64, English to German: the answer for each suspected reason, in BLEU."""

    def of_each_teacher(statement: str, what: str, question: str = "3.2", languages: str = "") -> list[str]:
        """The number from the plain teacher, from the smoothed one, and from the latter with other seeds."""
        of = [(question, f"{what}{languages}, α = {alpha:g}") for alpha in (0.0, SMOOTHED)] + [(AGAIN, what)]
        return [cell(tests.get((family, statement, name), {})) for family, name in of]

    def of_smoothed_alone(statement: str, what: str) -> list[str]:
        return ["–", *(cell(tests.get((family, statement, what), {})) for family in ("3.5", AGAIN))]

    part, updates, step = "part of the cost of T = 64", "5 more updates", "5 the step"
    left = f"{part} with four times the epochs removed by match"
    rows = [
        [
            "",
            "cost of T = 64",
            *of_each_teacher("1 BLEU falls with T", "cost of T = 64", "3.1", f", {EN_DE}, all tokens"),
        ],
        ["the step", "part that `match` removes", *of_each_teacher("2 the step", f"{part} removed by match")],
        ["", "part that standardised logits remove", *of_each_teacher("2 the step", f"{part} removed by standardised")],
        [
            "too few updates",
            "part that four times the epochs remove",
            *of_smoothed_alone(updates, f"{part} removed by four times the epochs"),
        ],
        ["", "and what `match` removes of the rest", *of_smoothed_alone(step, left)],
        [
            "neither of the two",
            "cost that is left with both",
            *of_smoothed_alone(step, "cost of T = 64 with four times the epochs and match"),
        ],
        [
            "the truncation",
            "cost that the teacher's top 4 alone add",
            *of_each_teacher("2 the truncation", "cost of T = 64 with top 4 less with all"),
        ],
    ]
    known = any(each != "–" for _, _, *numbers in rows for each in numbers)
    n, again = f"n = {len(SEEDS)}", f"other seeds, n = {len(AGAIN_SEEDS)}"
    head = ["reason", "number, in BLEU", f"α = 0, {n}", f"α = 0.1, {n}", f"α = 0.1, {again}"]
    return markdown(head, rows if known else [])
