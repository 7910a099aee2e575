"""The paper's tables, as printed, and what is off about them.

Without a table, lists them. α stands across, T down; a mean is followed by ± its standard deviation and, in brackets,
the number of runs where the paper says how many. Footnotes say where a table disagrees with another one, with the text
or with itself.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict

from lskd.errors import InputError
from lskd.published import Figure, published, tables
from lskd.tables import Column, output_file, show, write

EXAMPLE = "lskd published D.1"
SOURCE = "Chandrasegaran et al., ICML 2022"
METRICS = {
    "top1": "top-1 %",
    "top5": "top-5 %",
    "bleu": "BLEU",
    "eta_similar": "η(S1) %",
    "eta_dissimilar": "η(S2) %",
    "eta_pairwise_similar": "η(S1) %",
    "eta_pairwise_dissimilar": "η(S2) %",
    "agreement_similar": "S1",
    "agreement_dissimilar": "S2",
    "entropy": "entropy (nats)",
    "class_accuracy": "top-1 %",
    "count": "classes",
}
WORDS = {"label_smoothing": "α = {:.10g}", "temperature": "T = {:.10g}", "metric": "{}", "split": "{}"}
HEADS = {"student": "student", "target_class": "class", "label_smoothing": "α", "temperature": "T"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``lskd published``."""
    parser.add_argument("table", nargs="?", metavar="TABLE", help="such as 2A, D.1 or I.3")
    parser.add_argument(
        "--output", type=output_file, help="the figures of the table, or of all tables, one a row, .csv or .json"
    )


def run(arguments: argparse.Namespace) -> None:
    """Print the list of tables, or one table; write the figures."""
    names = [arguments.table] if arguments.table is not None else list(tables())
    try:
        figures = [figure for name in names for figure in published(name)]
    except ValueError as error:
        raise InputError(str(error)) from None
    if arguments.output:
        write(arguments.output, [asdict(figure) for figure in figures], {"source": SOURCE})
    if arguments.table is None:
        rows = [{"table": name, "content": f"  {content}"} for name, content in tables().items()]
        print("\n".join(f"{row['table']:<5}{row['content']}" for row in rows))
    else:
        print(f"{arguments.table}: {tables()[arguments.table]} ({SOURCE})\n{_constants(figures)}\n")
        print(_grid(figures))


def _constants(figures: Sequence[Figure]) -> str:
    """What all figures of a table have in common."""
    common = figures[0]
    words = {"data": "{}", "teacher": "teacher {}", "student": "student {}", "distill_type": "{}"}
    words |= {"split": "{}", "label_smoothing": "α = {:.10g}", "temperature": "T = {:.10g}"}
    words |= {"reference_temperature": "against T = {:g}", "metric": "{}"}
    same = [name for name in words if not _varies(figures, name) and getattr(common, name) is not None]
    return ", ".join(words[name].format(_shown(common, name)) for name in same if getattr(common, name) != "logit")


def _grid(figures: Sequence[Figure]) -> str:
    """Rows by columns, and the flags as footnotes."""
    down, across = _axes(figures)
    flags = list(dict.fromkeys(flag for figure in figures for flag in _flags(figure)))
    marked = [flag for flag in flags if any(flag not in _flags(figure) for figure in figures)]
    rows: dict[tuple, dict] = {}
    for figure in figures:
        row = rows.setdefault(_key(figure, down), {HEADS[name]: _shown(figure, name) for name in down})
        marks = [str(number) for number, flag in enumerate(marked, start=1) if flag in _flags(figure)]
        row[_title(figure, across)] = _cell(figure) + (f" [{','.join(marks)}]" if marks else "")
    columns = [Column(HEADS[name], HEADS[name], ".10g" if name in WORDS else "") for name in down]
    columns += [Column(title, title) for title in _titles(figures, across)]
    notes = [f"[{number}] {flag}" for number, flag in enumerate(marked, start=1)]
    notes += [f"all: {flag}" for flag in flags if flag not in marked]
    return "\n".join([show(list(rows.values()), columns), *([""] if notes else []), *notes])


def _axes(figures: Sequence[Figure]) -> tuple[list[str], list[str]]:
    """The fields down and across: T goes down where α goes across, and α only where every row has every α."""
    varying = [name for name in ("student", "target_class", "label_smoothing", "temperature") if _varies(figures, name)]
    others = [name for name in ("split", "metric") if _varies(figures, name)] or ["metric"]
    if "label_smoothing" not in varying:
        across = [name for name in varying if name == "temperature"] + others
        return [name for name in varying if name != "temperature"], across
    down, across = [name for name in varying if name != "label_smoothing"], [*others, "label_smoothing"]
    rows, columns = ({_key(figure, names) for figure in figures} for names in (down, across))
    return (down, across) if len(rows) * len(columns) == len(figures) else (varying, others)


def _titles(figures: Sequence[Figure], across: Sequence[str]) -> list[str]:
    """The columns' titles: α and T ascending, other fields in the order in which the table has them."""
    orders = {name: list(dict.fromkeys(getattr(figure, name) for figure in figures)) for name in across}
    orders |= {name: sorted(orders[name]) for name in ("label_smoothing", "temperature") if name in across}
    ordered = sorted(figures, key=lambda figure: [orders[name].index(getattr(figure, name)) for name in across])
    return list(dict.fromkeys(_title(figure, across) for figure in ordered))


def _title(figure: Figure, across: Sequence[str]) -> str:
    known = [name for name in across if getattr(figure, name) is not None]
    return " ".join(WORDS[name].format(_shown(figure, name)) for name in known)


def _flags(figure: Figure) -> list[str]:
    return figure.flag.split(" | ") if figure.flag else []


def _cell(figure: Figure) -> str:
    text = f"{figure.mean:.0f}" if figure.unit == "classes" else f"{figure.mean:.3f}"
    if figure.standard_deviation is not None:
        text += f" ± {figure.standard_deviation:.3f}"
    return text if figure.n is None else f"{text} ({figure.n})"


def _shown(figure: Figure, name: str) -> str | float | None:
    if name == "metric":
        return METRICS[figure.metric]
    return f"teacher {figure.teacher}" if name == "student" and figure.student is None else getattr(figure, name)


def _varies(figures: Sequence[Figure], name: str) -> bool:
    return len({getattr(figure, name) for figure in figures}) > 1


def _key(figure: Figure, names: Sequence[str]) -> tuple:
    return tuple(getattr(figure, name) for name in names)
