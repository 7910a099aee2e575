"""Fill the pages that tell of our studies from their committed results, and draw their pictures.

    python scripts/evidence_page.py            # writes the pages and docs/results/studies/*.svg
    python scripts/evidence_page.py --check    # compares the pages with what the committed results give

Text between ``<!-- NAME -->`` and ``<!-- end -->`` is replaced; all else is written by hand and has no numbers.
"""

import argparse
import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from computed_files import computed_parser, write_or_compare
from definitions import PLAIN, ROOT
from image_statements import SEEDS, SMOOTHED, STEP_CONTROLS, Results
from planned_tests import BySeed, read_rows
from study_drawings import draw_cost, draw_drift, draw_temperature, draw_translation
from translation_statements import Translations

from lskd.io.errors import input_error, run_command
from lskd.io.files import write_text
from lskd.measure.comparisons import LEVEL, Groups
from lskd.records.spread import over_seeds
from lskd.records.studies import number

PAGES = (ROOT / "docs" / "evidence.md", ROOT / "docs" / "index.md", ROOT / "README.md")
RESULTS = ROOT / "docs" / "results" / "studies"
ALPHAS, TEMPERATURES = (0.0, 0.05, 0.1, 0.2), (1, 2, 3, 4, 64)


@dataclass(frozen=True)
class Committed:
    """The committed results."""

    images: Results
    translations: Translations

    @classmethod
    def of(cls, directory: Path) -> Self:
        """Those in a directory."""
        return cls(Results(directory), Translations(directory))


# Of each picture: how it is drawn, what it shows in words, and whether there is anything to draw.
PICTURES: dict[str, tuple[Callable[[Committed], str], str, Callable[[Committed], BySeed]]] = {
    "temperature": (
        lambda found: draw_temperature(found.images),
        "Top-1 against the temperature, from a smoothed teacher and another, for steps of several sizes",
        lambda found: found.images.accuracy(PLAIN, SMOOTHED, 1),
    ),
    "cost": (
        lambda found: draw_cost(found.images),
        "What T costs without a control and with each",
        lambda found: found.images.cost(PLAIN, SMOOTHED, 3),
    ),
    "drift": (
        lambda found: draw_drift(found.images),
        "Top-1 against the drift, of students whose steps are right",
        lambda found: found.images.drift("match", SMOOTHED, 3),
    ),
    "bleu": (
        lambda found: draw_translation(found.translations),
        "Test BLEU against the temperature: all tokens, the teacher's top 4, steps as at T = 1",
        lambda found: found.translations.of(PLAIN, SMOOTHED, 1),
    ),
}
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
PLACES = {"other-fonts": "other fonts", "convnext": "a ConvNeXt", "fashion": "Fashion-MNIST"}


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
    """The cost of T and the drift with each control, α = .1."""
    rows = []
    for variant in (PLAIN, *STEP_CONTROLS, "standardised", "wttm", "teacher-only"):
        at_one = mean(results.accuracy(variant, SMOOTHED, 1))
        cells = [at_one, *(mean(results.cost(variant, SMOOTHED, T)) for T in (3, 64))]
        cells += [mean(results.drift(variant, SMOOTHED, T)) for T in (3, 64)]
        if any(cell != "–" for cell in cells[1:]):
            rows.append([NAMES[variant], *cells])
    head = ["", "T = 1, top-1", "cost of T = 3", "cost of T = 64", "η(S1) to T = 3", "η(S1) to T = 64"]
    return markdown(head, rows)


def statements(questions: Sequence[str]) -> Callable[[Path], str]:
    """The tests of questions, a row each."""

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


def in_short(directory: Path) -> str:
    """The answers in numbers, a line each for what has run."""
    rows = {(row["question"], row["statement"], row["what"]): row for row in read_rows(directory / "tests.csv")}

    def told(question: str, statement: str, what: str) -> str | None:
        """The mean of a test with its interval; without one the number of seeds."""
        row = rows.get((question, statement, what), {})
        if not row.get("mean"):
            return None
        mean, low, high = (signed(row[name]).lstrip("+") if row[name] else "" for name in ("mean", "low", "high"))
        return f"{mean} ({low} to {high})" if low else f"{mean} (n = {row['n']})"

    def costs(words: str, question: str, statement: str, what: str) -> list[str]:
        """What T = 3 and 64 cost, if anything is known of both."""
        found = [told(question, statement, what.format(T)) for T in (3, 64)]
        return [f"{words} T = 3 costs {found[0]}, T = 64 {found[1]}"] if all(found) else []

    lines = []
    smoothed = costs("from a smoothed teacher (α = .1)", "1", "1 accuracy falls with T", "cost of T = {}, α = 0.1")
    other = costs("from one without smoothing", "1", "1 accuracy falls with T, α = 0", "cost of T = {}, α = 0")
    if smoothed:
        lines.append(
            "**Top-1 falls with T** (points, 95 %; below 0 is a gain): " + "; ".join([*smoothed, *other]) + "."
        )
    drift = [told("2", "the drift stays with match", f"η(S1) to T = {T} with match") for T in (3, 64)]
    match = costs("with `match`", "2", "match: cost", "cost of T = {} with match")
    if match:
        stays = (
            f"; the drift towards similar classes stays, η(S1) = {drift[0]} % and {drift[1]} %" if all(drift) else ""
        )
        lines.append(
            "**With gradients as large as at T = 1** the smoothed teacher's student: " + match[0] + stays + "."
        )
    slope = told("2", "the drift costs accuracy", "slope of top-1 over η(S1), match and losses")
    if slope:
        lines.append(f"**What the drift costs once the steps are right**: {slope} points for each % of η(S1).")
    return "\n".join(f"- {line}" for line in lines) or "No runs yet."


def elsewhere(directory: Path) -> str:
    """Question 5: of each place the statements that matter most."""
    wanted = ("1 accuracy falls with T", "match: cost", "match: removed", "3 drift towards similar classes")
    rows = []
    for row in read_rows(directory / "tests.csv"):
        where = row["question"].removeprefix("5, ").partition(":")[0]
        if row["question"].startswith("5, ") and row["statement"] in wanted and row["mean"]:
            interval = f"{signed(row['low'])} to {signed(row['high'])}" if row["low"] else "–"
            rows.append([PLACES[where], in_words(row["what"]), signed(row["mean"]), interval, row["n"], row["verdict"]])
    return markdown(["where", "number", "mean", "95 %", "n", "verdict"], rows)


def advice(results: Results) -> str:
    """What following a rule costs against the best T of the same teacher, SGD."""
    rows = []
    for alpha in ALPHAS:
        values: dict[float, BySeed] = {float(T): results.accuracy(PLAIN, alpha, T) for T in TEMPERATURES}
        if any(set(each) != set(SEEDS) for each in values.values()):
            continue
        best = max(sum(each.values()) for each in values.values()) / len(SEEDS)
        lost = {"T = 1": [], "T = 4": [], "runs": []}
        chosen = []
        for seed in SEEDS:
            others = {T: {s: v for s, v in each.items() if s != seed} for T, each in values.items()}
            own = advised(others)
            chosen.append(f"{own:g}")
            for rule, T in (("T = 1", 1.0), ("T = 4", 4.0), ("runs", own)):
                lost[rule].append(best - values[T][seed])
        cells = [number(over_seeds(each)) for each in lost.values()]
        rows.append([f"{alpha:g}", f"{best:.2f}", *cells, ", ".join(chosen)])
    head = ["α", "best mean", "lost by T = 1", "by T = 4", "by the T of one's own runs", "which"]
    return markdown(head, rows)


def advised(values: Mapping[float, BySeed]) -> float:
    """The T that `lskd advise` names from runs: the best if it is above T = 1 by more than chance, else T = 1."""
    found = Groups(values).best_against(1.0)
    return found.higher if found is not None and found.p <= LEVEL else 1.0


def complete(directory: Path) -> str:
    """Which questions have all their runs, and the processor time of those that there are."""
    rows = read_rows(directory / "students.csv")
    if not rows:
        return "**No study has run yet**: what follows fills as they end."
    hours = sum(float(row["seconds"]) for row in rows) / 3600
    verdicts: dict[str, set[str]] = {}
    for row in read_rows(directory / "tests.csv"):
        verdicts.setdefault(row["question"], set()).add(row["verdict"])
    missing = [question for question, found in verdicts.items() if "incomplete" in found]
    students = len([row for row in rows if row["temperature"]])
    said = (
        f"{students} students and {len(rows) - students} models without a teacher, {hours:.1f} core hours of training."
    )
    if missing:
        said += f" Not complete, and so without tests: question {'; '.join(missing)}."
    return said


def picture(name: str, committed: Committed) -> str:
    """The link to a picture, empty where there is nothing to draw yet."""
    _, words, shown = PICTURES[name]
    return f"![{words}](results/studies/{name}.svg)" if shown(committed) else ""


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; a sentence where it has no rows."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([f"| {' | '.join(head)} |", "|" + "---|" * len(head), *lines]) if lines else "No runs yet."


def mean(values: BySeed) -> str:
    """Mean ± standard deviation, with n where it is not all seeds; a dash for none."""
    if not values:
        return "–"
    return number(over_seeds(list(values.values())), with_n=len(values) != len(SEEDS)).replace("-", "−")


def in_words(what: str) -> str:
    """What is tested, with the names of variants as they are written.

    >>> in_words("cost of T = 3 with lr-x3")
    'cost of T = 3 with learning rate × 3'
    """
    found = re.fullmatch(r"(.* (?:with|by) )(\S+)", what)
    return found[1] + NAMES.get(found[2], found[2]) if found else what


def signed(value: str) -> str:
    """A number of tests.csv with its sign, two decimals."""
    return f"{float(value):+.2f}".replace("-", "−")


def filled(page: str, directory: Path) -> str:
    """The page with its blocks for the results in a directory.

    Raises:
        InputError: a block of another name.
    """
    committed = Committed.of(directory)
    results = committed.images
    blocks: dict[str, Callable[[], str]] = {
        "accuracy": lambda: accuracy(results),
        "paper": lambda: statements(["1"])(directory),
        "controls": lambda: controls(results),
        "reasons": lambda: statements(["2"])(directory),
        "larger": lambda: statements(["2, larger student"])(directory),
        "short": lambda: in_short(directory),
        "elsewhere": lambda: elsewhere(directory),
        "translation": lambda: statements(["3"])(directory),
        "advice": lambda: advice(results),
        "complete": lambda: complete(directory),
    } | {name: functools.partial(picture, name, committed) for name in PICTURES}

    def fill(match: re.Match[str]) -> str:
        if match[1] not in blocks:
            raise input_error("page", match[1], f"must be a block of {', '.join(blocks)}")
        return f"<!-- {match[1]} -->\n\n{blocks[match[1]]()}\n\n<!-- end -->"

    return re.sub(r"<!-- (\w+) -->\n.*?<!-- end -->", fill, page, flags=re.DOTALL)


def run(arguments: argparse.Namespace) -> None:
    """Write, or compare."""
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
