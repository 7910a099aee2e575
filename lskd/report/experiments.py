"""A page of experiments: of each table of the paper what was measured beside what was printed, and its figures anew."""

import os
from collections.abc import Sequence

from lskd.paper.published import SOURCE, Figure, published
from lskd.paper.results import Result
from lskd.paper.table_layout import WORDS, cell, constants, flags, grid
from lskd.records.studies import at, signed, smoothing
from lskd.report.accuracy import LEAST_SPAN
from lskd.report.contents import Drawing, Experiment, read_contents
from lskd.report.headlines import FIRST
from lskd.report.html import Markup, Notes, Page, code, details, element, join, paragraph, table, text_cell
from lskd.report.origins import described, of_drawing, of_figures
from lskd.report.overview import overview
from lskd.report.page import made, table_of_runs
from lskd.report.plots import COLOURS, HATCHES, Bars, Series, bars, lines, svg

WIDE = 480  # pixels: what is wider than our own drawings is not shrunk on a small screen but scrolls
LONG = 40  # letters: what is longer may break into lines
ROWS_IN_WORDS = 12  # of a drawing's numbers, for those who do not see it
COLUMNS = {
    "label_smoothing": "α",
    "temperature": "T",
    "relative_distance": "d",
    "far_below_second": "classes far below",
}
MEASURED_DIGITS = 2  # of accuracy and BLEU: the third is never worth anything over a few seeds


def experiments_page(path: str | os.PathLike) -> str:
    """The page of the experiments that a file names.

    Args:
        path: FILE.json of `lskd report --contents`, see :func:`lskd.report.contents.read_contents`.

    Raises:
        InputError: what the file says, or a file that it names, cannot be used.
    """
    contents = read_contents(path)
    page = Page(contents.title, join(map(paragraph, contents.intro)), drawing="Drawing")
    overview(page, contents, MEASURED_DIGITS)
    for experiment in contents.experiments:
        page.heading(f"{experiment.name}: {experiment.title}")
        page.add(paragraph("Made by ", code(experiment.command)))
        origins = of_figures(experiment.result.rows) if experiment.result else of_drawing(experiment.drawing.rows)
        whose = element("strong", "; ".join(origins))
        page.add(paragraph("What was measured here is of ", whose, ". The title is the paper's."))
        if experiment.result is not None:
            _tables(page, experiment.result)
            _drawings(page, experiment.result)
            _notes(page, [*experiment.notes, *experiment.result.notes])
            page.add(details(f"Inputs of {experiment.name}", _list(map(code, experiment.result.inputs))))
        else:
            _drawing(page, experiment, experiment.drawing)
            _notes(page, experiment.notes)
    if contents.runs:
        page.heading("How each run was made")
        page.add(table_of_runs(contents.runs), *(details(run.name, made(run)) for run in contents.runs))
    return page.html()


def _tables(page: Page, result: Result) -> None:
    printed, scale = published(result.table), f", scale {result.scale}" if result.scale else ""
    about = described(result.rows)
    own = _grid(f"Measured{scale}" + (f". {about}" if about else ""), result.rows, printed, MEASURED_DIGITS)
    theirs = _grid(f"Published. {SOURCE}: {constants(printed)}", printed, printed, 3)
    page.add(element("div", element("div", *own), element("div", *theirs), class_="beside"))


def _grid(caption: str, figures: Sequence[Figure], like: Sequence[Figure], digits: int) -> list[Markup]:
    """The table, and its flags as footnotes."""
    notes, layout = Notes(), grid(figures, like)
    rows = []
    for names, cells in layout.rows:
        known = [_named(name, value) for name, value in zip(layout.down, names, strict=True) if value is not None]
        row = [", ".join(known) or "all"]
        for figure in cells:
            marks = [] if figure is None else [notes.mark(flag) for flag in flags(figure)]
            text = "–" if figure is None else _cell(figure, digits)
            row.append(join([text, *marks]))
        rows.append(row)
    heads = ["", *layout.titles]
    return [table(caption, [heads], rows), notes.markup()]


def _named(name: str, value: str | float) -> str:
    """What names a row: a model or a class by itself, α and T with their letter."""
    return (
        WORDS[name].format(value).replace(" = ", "\u00a0=\u00a0")
        if name in ("label_smoothing", "temperature")
        else str(value)
    )


def _cell(figure: Figure, digits: int) -> str:
    text = cell(figure, digits if figure.unit in ("%", "BLEU") else 3)
    return text.replace("-", "−", 1) if text.startswith("-") else text


def _notes(page: Page, notes: Sequence[str]) -> None:
    if notes:
        page.add(element("ul", *(element("li", note) for note in dict.fromkeys(notes))))


def _list(items) -> Markup:
    return element("ul", *(element("li", each) for each in items))


def _drawings(page: Page, result: Result) -> None:
    """Accuracy and BLEU against T, η as bars; one drawing for each student."""
    metrics = {row.metric for row in result.rows}
    students = dict.fromkeys(row.student for row in result.rows if row.student)
    drawn = []
    for student in students:
        rows = [row for row in result.rows if row.student == student]
        if metrics & {*FIRST} and "entropy" not in metrics:
            drawn += _lines(page, student, [r for r in rows if r.metric in FIRST and r.temperature], result.inputs)
        elif any(metric.startswith("eta") for metric in metrics):
            drawn += _bars(page, student, rows, result.inputs)
    if drawn:
        page.add(element("div", *drawn, class_="beside"))


def _lines(page: Page, student: str, rows: Sequence[Figure], files: Sequence[str]) -> list[Markup]:
    if len({row.temperature for row in rows}) < 2:
        return []
    smoothings = list(dict.fromkeys(row.label_smoothing for row in rows))
    title = "BLEU" if rows[0].metric == "bleu" else "top-1 %"
    what = f"{title} of {student} against T, measured ({'; '.join(of_figures(rows))})"
    drawn = []
    for start in range(0, len(smoothings), len(COLOURS)):
        chosen = smoothings[start : start + len(COLOURS)]
        by_alpha = {
            alpha: sorted((r for r in rows if r.label_smoothing == alpha), key=lambda row: row.temperature)
            for alpha in chosen
        }
        series = [
            Series(
                smoothing(alpha),
                [row.temperature for row in points],
                [row.mean for row in points],
                [row.standard_deviation for row in points],
            )
            for alpha, points in by_alpha.items()
        ]
        said = "; ".join(
            f"{smoothing(alpha)}: " + ", ".join(f"{row.mean:.2f} at {at(row.temperature)}" for row in points)
            for alpha, points in by_alpha.items()
        )
        numbers = [
            [smoothing(alpha), f"{row.temperature:g}", _cell(row, MEASURED_DIGITS)]
            for alpha, points in by_alpha.items()
            for row in points
        ]
        spread = "Bars: ± σ over seeds." if any(any(each.error) for each in series) else "No σ is known."
        drawn.append(
            page.figure(
                svg(lines(series, "temperature T", title, least_span=LEAST_SPAN)),
                f"{what}. {said}.",
                f"{what}, a line for each α of the teacher. {spread}",
                table(what, [["α", "T", title]], numbers),
                files,
            )
        )
    return drawn


def _bars(page: Page, student: str, rows: Sequence[Figure], files: Sequence[str]) -> list[Markup]:
    """Bars of η(S1) and η(S2) for each target, at most two splits a drawing."""
    splits = list(dict.fromkeys(row.split for row in rows))
    drawn = []
    for start in range(0, len(splits), len(HATCHES) // 2):
        chosen = splits[start : start + len(HATCHES) // 2]
        values = {(row.split, row.metric.endswith("dissimilar"), row.target_class): row for row in rows}
        kinds = [(split, far) for split in chosen for far in (False, True)]
        names = [n for n in dict.fromkeys(r.target_class for r in rows) if all((*kind, n) in values for kind in kinds)]
        if not names:
            continue
        groups, ends = [], [0.0]
        for split, far in kinds:
            each = [values[split, far, name] for name in names]
            intervals = [_interval(row) for row in each]
            groups.append(Bars(_kind(split, far), [row.mean for row in each], intervals))
            ends += [row.mean for row in each] + [end for interval in intervals for end in interval or ()]
        margin = 0.05 * (max(ends) - min(ends) or 1)
        what = f"η of {student} in % for each target class, measured ({'; '.join(of_figures(rows))})"
        cells = {name: [signed(values[split, far, name].mean) for split, far in kinds] for name in names}
        titles = [_kind(split, far) for split, far in kinds]
        said = "; ".join(
            f"{name}: " + ", ".join(f"{title} {value}" for title, value in zip(titles, cells[name], strict=True))
            for name in names
        )
        whiskers = "± σ over seeds" if any(map(_interval, rows)) else "none, since σ is not known"
        drawn.append(
            page.figure(
                svg(bars(list(map(str, names)), groups, "η in %", (min(ends) - margin, max(ends) + margin))),
                f"{what}. {said}.",
                f"{what}. Whiskers: {whiskers}.",
                table(what, [["target", *titles]], [[str(name), *cells[name]] for name in names]),
                files,
            )
        )
    return drawn


def _kind(split: str | None, far: bool) -> str:
    return f"η({'S2' if far else 'S1'})" + (f", {split}" if split else "")


def _interval(row: Figure) -> tuple[float, float] | None:
    sd = row.standard_deviation
    return None if sd is None else (row.mean - sd, row.mean + sd)


# Figures of the paper


def _drawing(page: Page, experiment: Experiment, drawing: Drawing) -> None:
    alike: dict[tuple, list[dict]] = {}
    for row in drawing.rows:
        alike.setdefault(tuple(row), []).append(row)
    tables, origins = [], "; ".join(of_drawing(drawing.rows))
    for number, rows in enumerate(alike.values(), start=1):
        shown = [name for name in rows[0] if any(row[name] is not None for row in rows)]
        part = f", part {number}" if len(alike) > 1 else ""
        cells = [[_written(row[shown[0]]), *(_number_cell(row[name]) for name in shown[1:])] for row in rows]
        whose = "; ".join(of_drawing(rows))
        tables.append(
            table(f"Numbers of {experiment.name}{part} ({whose})", [[_column(name) for name in shown]], cells)
        )
    page.add(
        page.figure(
            drawing.svg,
            f"As the paper's {experiment.name}, of {origins}. {_in_words(drawing.rows)}",
            f"As the paper's {experiment.name} ({experiment.title}), of {origins}.",
            join(tables),
            drawing.files,
            wide=drawing.svg[1] > WIDE,
        ),
        paragraph(element("strong", "In the paper: "), drawing.published),
    )


def _column(name: str) -> str:
    return COLUMNS.get(name, name.replace("_", " "))


def _written(value: str | float | None) -> str:
    if value is None:
        return "–"
    return value if isinstance(value, str) else f"{value:.4g}".replace("-", "−")


def _number_cell(value: str | float | None) -> str:
    text = _written(value)
    return text_cell(text) if len(text) > LONG else text


def _in_words(rows: Sequence[dict]) -> str:
    """The numbers in a sentence a row: what `lskd project` and `lskd entropy` write, else each value with its name."""
    chosen = [row for row in rows if "outputs" in row] or list(rows)
    words = "; ".join(map(_row_in_words, chosen[:ROWS_IN_WORDS]))
    more = len(chosen) - ROWS_IN_WORDS
    return f"{words}; {more} more are in the numbers below." if more > 0 else f"{words}."


def _row_in_words(row: dict) -> str:
    about = [
        row.get("model"),
        *(f"{_column(n)} = {row[n]:g}" for n in ("label_smoothing", "temperature") if _number(row, n)),
    ]
    about = ", ".join(str(each) for each in [*about, row.get("split")] if each)
    if _number(row, "relative_distance"):
        return f"{about}: d = {row['relative_distance']:.3f}"
    if "outputs" in row:
        return f"mean output of {row.get('class')}, {about}: {row['outputs']}"
    return ", ".join(f"{_column(name)} {_written(value)}" for name, value in row.items() if value is not None)


def _number(row: dict, name: str) -> bool:
    return isinstance(row.get(name), int | float)
