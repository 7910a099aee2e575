"""The tables and sentences of our studies' pages, as markdown, from the committed results."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from definitions import PLAIN
from image_statements import ELSEWHERE, GRID, SEEDS, SMOOTHED, STEP_CONTROLS, Results, beside
from planned_tests import BySeed, read_rows
from translation_statements import EN_DE, EN_RU, LONGER, Translations
from translation_statements import SEEDS as OF_TRANSLATION

from lskd.measure.comparisons import mean_test
from lskd.records.spread import over_seeds
from lskd.records.studies import number

ALPHAS, TEMPERATURES = (0.0, 0.05, 0.1, 0.2), (1, 2, 3, 4, 64)
BLEU_TEMPERATURES = (1, 2, 3, 64)
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
# For each rule the T that it names, from a row of advice.csv.
RULES: dict[str, Callable[[Mapping[str, str]], int]] = {
    "T = 1": lambda row: 1,
    "T = 4": lambda row: 4,
    "the advice from runs": lambda row: int(row["runs"]),
}
PLACES = {"other-fonts": "a small ResNet, other fonts", "convnext": "a ConvNeXt", "fashion": "Fashion-MNIST"}


def accuracy(results: Results) -> str:
    """Means by optimiser, α and T."""
    rows = []
    for variant in (PLAIN, "adamw"):
        for alpha in ALPHAS:
            cells = [mean(results.accuracy(variant, alpha, T)) for T in TEMPERATURES]
            cells.append(mean(results.accuracy(variant, alpha, None)))
            if any(cell != "–" for cell in cells):
                rows.append([NAMES[variant], f"{alpha:g}", *cells])
    return markdown(["", "α", *(f"T = {T:g}" for T in TEMPERATURES), "no teacher"], rows)


def controls(results: Results) -> str:
    """The cost of T and the drift with each control, for students of both teachers."""
    rows = []
    for variant in (PLAIN, *STEP_CONTROLS, "standardised", "wttm", "teacher-only"):
        for alpha in (SMOOTHED, 0.0):
            cells = [mean(results.accuracy(variant, alpha, 1))]
            cells += [mean(results.cost(variant, alpha, T)) for T in (3, 64)]
            cells += [mean(results.drift(variant, alpha, T)) for T in (3, 64)]
            if any(cell != "–" for cell in cells[1:]):
                rows.append([NAMES[variant], f"{alpha:g}", *cells])
    head = ["", "α", "T = 1, top-1", "cost of T = 3", "cost of T = 64", "η(S1) to T = 3", "η(S1) to T = 64"]
    return markdown(head, rows)


def readings(results: Results) -> str:
    """Fidelity, calibration and collapse of the students beside their accuracy, by way of training, α and T."""
    columns = {
        "agreement with the teacher, %": "valid_teacher_agreement",
        "ECE, %": "ece_percent",
        "T of the best calibration": "optimal_temperature",
        "NC1 ratio": "nc1_ratio",
        "NC2, angles": "nc2_angles",
        "NC3": "nc3",
    }
    rows = []
    for variant in (PLAIN, "match", "lr-x10"):
        for alpha in (SMOOTHED, 0.0):
            for T in (1, 3, 64):
                cells = [results.measure(name, results.student, alpha, T, variant) for name in columns.values()]
                if all(cells):
                    top1 = results.accuracy(variant, alpha, T)
                    rows.append([NAMES[variant], f"{alpha:g}", str(T), *map(mean, [top1, *cells])])
    return markdown(["", "α", "T", "top-1, %", *columns], rows)


def statements(questions: Sequence[str]) -> Callable[[Path], str]:
    """The tests of some questions, a row each."""

    def table(directory: Path) -> str:
        rows = []
        for row in read_rows(directory / "tests.csv"):
            if row["question"] in questions and row["mean"]:
                interval = f"{signed(row['low'])} to {signed(row['high'])}" if row["low"] else "–"
                said = [
                    in_words(row["what"]),
                    row["expected"],
                    signed(row["mean"]),
                    interval,
                    row["n"],
                    row["p_adjusted"] or "–",
                ]
                rows.append([*said, row["verdict"]])
        return markdown(["number", "expected", "mean", "95 %", "n", "p, adjusted", "verdict"], rows)

    return table


def held(directory: Path) -> str:
    """For each statement of the paper, how many of its tests hold; empty until all have a verdict."""
    verdicts: dict[str, list[str]] = {}
    for row in read_rows(directory / "tests.csv"):
        if row["question"] == "1":
            verdicts.setdefault(row["statement"].partition(" ")[2], []).append(row["verdict"])
    kinds = ("holds", "contradicted", "not shown")
    if "incomplete" in {verdict for found in verdicts.values() for verdict in found}:
        return ""
    rows = [[name, *(str(found.count(kind) or "") for kind in kinds)] for name, found in verdicts.items()]
    return markdown(["statement of the paper", *kinds], rows)


def untested(values: BySeed) -> str:
    """A mean over seeds with its interval, of a number without a registered test; empty with too few seeds."""
    found = mean_test(list(values.values()))
    return with_interval(sum(values.values()) / len(values), *found[0]) if found else ""


def elsewhere(directory: Path) -> str:
    """Question 5: for each case, the statements that matter most."""
    wanted = ("1 accuracy falls with T", "1 accuracy falls with T, α = 0", "match: cost", "match: removed")
    wanted += ("lr-x10: removed", "adamw: cost", "3 drift towards similar classes", "the drift stays with match")
    rows = []
    for row in read_rows(directory / "tests.csv"):
        where = row["question"].removeprefix("5, ").partition(":")[0]
        if row["question"].startswith("5, ") and row["statement"] in wanted and row["mean"]:
            interval = f"{signed(row['low'])} to {signed(row['high'])}" if row["low"] else "–"
            rows.append([PLACES[where], in_words(row["what"]), signed(row["mean"]), interval, row["n"], row["verdict"]])
    return markdown(["where", "number", "mean", "95 %", "n", "verdict"], rows)


def bleu(translations: Translations) -> str:
    """BLEU of each way to distil by α and T, English to German; last those of the longer trainings."""
    short = {
        PLAIN: "all tokens",
        "match": "`match`",
        "standardised": "standardised logits",
        "top-4": "the teacher's top 4",
    }
    names = short | {f"{LONGER}-{variant}": f"{name}, 20 epochs" for variant, name in short.items() if variant != PLAIN}
    names |= {LONGER: f"{short[PLAIN]}, 20 epochs"}
    return _bleu_by_temperature(
        (name, alpha, [translations.of(variant, alpha, T) for T in BLEU_TEMPERATURES])
        for variant, name in names.items()
        for alpha in (0.0, SMOOTHED)
    )


def bleu_elsewhere(translations: Translations) -> str:
    """BLEU by α and T of the students of the tests that are not on English to German with all tokens."""
    kinds = {
        "English to Russian, all tokens": (PLAIN, EN_RU),
        "English to German, as the paper's code distils": ("mkd", EN_DE),
        "English to Russian, as the paper's code distils": ("mkd", EN_RU),
    }
    return _bleu_by_temperature(
        (name, alpha, [translations.of(variant, alpha, T, pair) for T in BLEU_TEMPERATURES])
        for name, (variant, pair) in kinds.items()
        for alpha in (0.0, SMOOTHED)
    )


def _bleu_by_temperature(kinds: Iterable[tuple[str, float, Sequence[BySeed]]]) -> str:
    """A table of names, α and BLEU at each T, without the kinds that have not been trained."""
    rows = [
        [name, f"{alpha:g}", *(mean(each, len(OF_TRANSLATION)) for each in found)]
        for name, alpha, found in kinds
        if any(found)
    ]
    return markdown(["", "α", *(f"T = {T}" for T in BLEU_TEMPERATURES)], rows)


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
                rows.append([name, f"{alpha:g}", *(mean(each, len(OF_TRANSLATION)) for each in scores)])
    return markdown(["", "α", "BLEU", "chrF"], rows)


def grid_means(results: Results, alpha: float) -> dict[int, float] | None:
    """Mean top-1 of SGD by T; None where a seed is missing."""
    values = {T: results.accuracy(PLAIN, alpha, T) for T in TEMPERATURES}
    if any(set(each) != set(SEEDS) for each in values.values()):
        return None
    return {T: sum(each.values()) / len(SEEDS) for T, each in values.items()}


def best_mean(means: Mapping[int, float]) -> tuple[float, str]:
    """The highest mean, and the T that have it as it is printed.

    >>> best_mean({1: 87.3, 3: 89.0622, 4: 89.0621})
    (89.0622, '3 or 4')
    """
    best = max(means.values())
    return best, " or ".join(str(T) for T, mean in means.items() if f"{mean:.2f}" == f"{best:.2f}")


def advice(directory: Path) -> str:
    """What following a rule costs against the best T of the same teacher, SGD.

    Args:
        directory: with advice.csv of ``scripts/followed_advice.py`` beside the results of the students.
    """
    results, rows = Results(directory), []
    named = {(float(row["label_smoothing"]), int(row["seed"])): row for row in read_rows(directory / "advice.csv")}
    for alpha in ALPHAS:
        means = grid_means(results, alpha)
        if means is None or any((alpha, seed) not in named for seed in SEEDS):
            continue
        best, at = best_mean(means)
        values = {T: results.accuracy(PLAIN, alpha, T) for T in TEMPERATURES}
        highest = values[max(means, key=means.__getitem__)]
        lost: list[BySeed] = [{s: highest[s] - values[T(named[alpha, s])][s] for s in SEEDS} for T in RULES.values()]
        alone = {row["alone"].replace(" ", ", ") for (of, _), row in named.items() if of == alpha}
        chosen = [row["runs"] for (of, _), row in named.items() if of == alpha]
        rows.append([f"{alpha:g}", f"{best:.2f} at T = {at}", " or ".join(alone), ", ".join(chosen), *map(mean, lost)])
    head = ["α", "best", "named from the teacher alone", "from runs of the other seeds"]
    return markdown([*head, *(f"lost by {rule}" for rule in RULES)], rows)


def complete(directory: Path) -> str:
    """Which questions have all their runs, and the processor time of those that there are."""
    places = [directory, *(beside(directory, name) for name in (GRID, *ELSEWHERE))]
    rows = [row for place in places for row in read_rows(place / "students.csv")]
    if not rows:
        return "**No study has run yet**: what follows fills as they end."
    hours = sum(float(row["seconds"]) for row in rows) / 3600
    # Models that came out equal on two machines are counted once.
    rows = list({tuple(value for name, value in row.items() if name != "seconds"): row for row in rows}.values())
    verdicts: dict[str, set[str]] = {}
    for row in read_rows(directory / "tests.csv"):
        verdicts.setdefault(row["question"], set()).add(row["verdict"])
    missing = [question for question, found in verdicts.items() if "incomplete" in found]
    missing += [f"5, {PLACES[where]}" for where in ELSEWHERE if not beside(directory, where).is_dir()]
    students = len([row for row in rows if row["temperature"]])
    said = f"Images: {students} students and {len(rows) - students} models without a teacher, {hours:.1f} core hours of"
    said += " training."
    if translations := read_rows(directory / "translations.csv"):
        timed = [float(row["seconds"]) for row in translations if row["seconds"]]
        said += (
            f" Translation: {len(translations)} models; {len(timed)} of them took {sum(timed) / 3600:.1f} core hours."
        )
    if missing:
        said += f" Not complete, and so not tested: question {'; '.join(missing)}."
    return said


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; a sentence where it has no rows."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([f"| {' | '.join(head)} |", "|" + "---|" * len(head), *lines]) if lines else "No runs yet."


def mean(values: BySeed, seeds: int = len(SEEDS)) -> str:
    """Mean ± standard deviation on one line, with n where it is not all seeds; a dash for none."""
    if not values:
        return "–"
    written = number(over_seeds(list(values.values())), with_n=len(values) != seeds)
    return written.replace("-", "−").replace(" ", "\u00a0")


def in_words(what: str) -> str:
    """What is tested, with the names of variants as they are written.

    >>> in_words("cost of T = 3 with lr-x3")
    'cost of T = 3 with learning rate × 3'
    """
    found = re.fullmatch(r"(.* (?:with|by) )(\S+)", what)
    return found[1] + NAMES.get(found[2], found[2]) if found else what


def with_interval(*values: str | float, note: str = "") -> str:
    """A mean and the ends of its interval, without plus signs.

    >>> with_interval(1.5, -1, 2, note="not shown")
    '1.50 (−1.00 to 2.00, not shown)'
    """
    mean, low, high = (signed(value).lstrip("+") for value in values)
    return f"{mean} ({low} to {high}{note and f', {note}'})"


def signed(value: str | float) -> str:
    """A number of tests.csv with its sign, two decimals."""
    return f"{float(value):+.2f}".replace("-", "−")
