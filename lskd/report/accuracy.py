"""The parts of a report that run records suffice for: accuracy or BLEU by α and T, changes by class."""

from collections.abc import Callable, Sequence

from lskd.paper.published import Figure, counterparts, published
from lskd.records.found_runs import Metric, Run, score_notes
from lskd.records.runs import unfinished
from lskd.records.spread import Spread, over_seeds
from lskd.records.studies import Study, at, number, signed, smoothing, spread
from lskd.report.html import Head, Markup, Notes, Page, code, element, join, paragraph, table
from lskd.report.plots import Series, lines, svg

CLASSES_SHOWN = 30  # all of so many; of more, those that changed most
# Where the paper has not these data: a table of its own data that is nearest in kind, and its student.
NEAREST = {"vision": ("2B", "ResNet-18"), "translation": ("5", "Transformer")}
LEAST_SPAN = 4.0  # points of accuracy or BLEU on the axis, so that small differences look small
UNSCORED = "no figure: lskd nmt score makes BLEU, the last epoch of a training makes accuracy"


def accuracy(page: Page, study: Study) -> None:
    """The α × T table beside the paper's, and both as lines against T."""
    page.heading("BLEU" if study.first.kind == "translation" else "Accuracy", 3)
    own = element("div", *_own_table(study))
    if not study.students:
        page.add(own, paragraph("No students: a teacher alone has no temperature.", class_="absent"))
        return
    theirs, relation = neighbours(study)
    page.add(paragraph(relation), element("div", own, element("div", *_published_table(theirs)), class_="beside"))
    page.add(element("div", _own_lines(page, study), _published_lines(page, theirs), class_="beside"))


def _own_table(study: Study) -> list[Markup]:
    """The table of the runs, with their warnings below it."""
    notes, first = Notes(), study.metrics[0]
    places = [(alpha, T) for alpha in study.smoothings for T in (None, *study.temperatures)]
    sizes = {each.n for place in places if (each := study.spread(*place, first.key))}

    def cell(alpha: float | None, T: float | None, metric: Metric) -> Markup:
        runs = study.teachers.get(alpha, []) if T is None else study.students.get((alpha, T), [])
        texts = [f"Warning of the training: {_of_this(str(text), T)}" for run in runs for text in run.record.warnings]
        texts += [f"{run.name} {short}." for run in runs if (short := unfinished(run.record))]
        value = study.spread(alpha, T, metric.key)
        texts += [UNSCORED] if value is None and runs else []
        marks = map(notes.mark, dict.fromkeys(texts) if metric is first else [])
        return join([number(value, len(sizes) > 1), *marks])

    what = (
        "BLEU, test split, best checkpoint on validation"
        if study.unit == "BLEU"
        else "Accuracy, validation split, last epoch"
    )
    size = f", n = {sizes.pop()} each" if len(sizes) == 1 else " (n)"
    caption = f"These runs. {what}; mean ± σ over seeds{size}. {study.title}"
    content = []
    if study.students:
        content += [_grid(caption, study.smoothings, study.temperatures, study.metrics, cell), notes.markup()]
    for alpha, runs in study.alone.items():
        every = [(metric.title, spread(runs, metric.key)) for metric in study.metrics]
        values = ", ".join(f"{title} {number(value, True)}" for title, value in every if value)
        content.append(
            paragraph(f"{study.first.model} without a teacher, labels of {smoothing(alpha)}: {values or '–'}.")
        )
    signatures = sorted({str(run.figures.get("bleu_signature")) for run in study.runs} - {"None"})
    if signatures:
        content.append(paragraph("sacreBLEU's signature: ", *(code(f"{each} ") for each in signatures), class_="faint"))
    content += [paragraph(note, class_="faint") for note in score_notes(run.figures for run in study.runs)]
    if len(signatures) > 1:
        content.append(paragraph("Scores of different signatures do not compare.", class_="warning"))
    return content


def _of_this(warning: str, T: float | None) -> str:
    """A warning that names T, so that those of different T are one note."""
    return warning if T is None else warning.replace(f"T = {T:g} ", "this T ", 1)


def neighbours(study: Study) -> tuple[list[Figure], str]:
    """The published figures of the same data and models, else those nearest in kind; and what they are, in words."""
    metrics = [metric.published for metric in study.metrics if metric.published]
    teacher, student = (name.partition(",")[0] for name in (study.teacher or "", study.first.model))
    for alpha, T in study.students:
        exact = counterparts(metrics[0], study.first.data, teacher, student, alpha, T) if alpha is not None else []
        if exact:
            chosen, relation = exact[0], "The paper has these data and models: its Table {}, {}."
            break
    else:
        name, model = NEAREST[study.first.kind]
        if study.first.kind == "vision" and len(study.first.record.data.get("classes", [])) >= 500:
            name = "2A"
        chosen = published(name, student=model)[0]
        relation = (
            "No published figures are of these data and these models, as far as the records say. Nearest in kind is "
            "the paper's Table {}, {}."
        )
    if study.first.kind == "translation":
        relation += " Its BLEU looks like that of tokenised, lower-cased text."
    every = published(chosen.table)
    fitting = [each for each in every if each.metric in metrics and each.student in (None, chosen.student)]
    return fitting, relation.format(chosen.table, f"{chosen.data}, {chosen.teacher} → {chosen.student}")


def _published_table(figures: Sequence[Figure]) -> list[Markup]:
    notes, places = Notes(), {(each.label_smoothing, each.temperature, each.metric): each for each in figures}

    def cell(alpha: float | None, T: float | None, metric: Metric) -> Markup:
        if (each := places.get((alpha, T, metric.key))) is None:
            return Markup("–")
        sd = "" if each.standard_deviation is None else f" ± {each.standard_deviation:.2f}"
        return join([f"{each.mean:.2f}{sd}", notes.mark(each.flag)])

    titles = {"top1": "top-1 %", "top5": "top-5 %", "bleu": "BLEU"}
    metrics = tuple(Metric(name, titles[name], name) for name in dict.fromkeys(each.metric for each in figures))
    models = next(f"{each.teacher} → {each.student}" for each in figures if each.student)
    caption = f"Published. Table {figures[0].table}: {figures[0].data}, {models}"
    return [_grid(caption, *_axes(figures), metrics, cell), notes.markup()]


def _axes(figures: Sequence[Figure]) -> tuple[list[float], list[float]]:
    """α and T of published figures."""
    return sorted({each.label_smoothing for each in figures}), sorted({each.temperature for each in figures} - {None})


def _grid(
    caption: str,
    smoothings: Sequence[float | None],
    temperatures: Sequence[float],
    metrics: Sequence[Metric],
    cell: Callable[[float | None, float | None, Metric], Markup],
) -> Markup:
    """A row for the teacher and one for each T of its student, a column for each α and metric."""
    heads: list[list[str | Head]] = [["", *(Head(smoothing(alpha), len(metrics)) for alpha in smoothings)]]
    if len(metrics) > 1:
        heads.append(["", *(metric.title for _ in smoothings for metric in metrics)])
    rows = [
        [name, *(cell(alpha, T, metric) for alpha in smoothings for metric in metrics)]
        for name, T in [("teacher", None), *((f"student, {at(T)}", T) for T in temperatures)]
    ]
    return table(caption, heads, rows)


def _own_lines(page: Page, study: Study) -> Markup:
    metric = study.metrics[0]
    series, rows = [], []
    for alpha in study.smoothings:
        every = [(T, study.spread(alpha, T, metric.key)) for T in study.temperatures]
        found = [(T, each) for T, each in every if each is not None]
        if found:
            values = [each.mean for _, each in found]
            series.append(Series(smoothing(alpha), [T for T, _ in found], values, [each.sd for _, each in found]))
        rows += [[smoothing(alpha), f"{T:g}", f"{each.mean:.2f}", _two(each.sd), str(each.n)] for T, each in found]
    if not series:
        return paragraph("No figures to draw.", class_="absent")
    return page.figure(
        svg(lines(series, "temperature T", metric.title, least_span=LEAST_SPAN)),
        _alt(f"{study.title}: {metric.title}", series),
        f"{study.title}: {metric.title} of the students against T, a line for each α of the teacher"
        + (
            ". Bars: ± σ over seeds, a little to the side of their T."
            if any(any(each.error) for each in series)
            else "; one seed each, so no σ."
        ),
        table(f"{metric.title} by α and T. {study.title}", [["α", "T", metric.title, "σ", "n"]], rows),
        [str(run.directory / "run.json") for runs in study.students.values() for run in runs],
    )


def _published_lines(page: Page, figures: Sequence[Figure]) -> Markup:
    metric = figures[0].metric
    title = "BLEU" if metric == "bleu" else "top-1 %"
    series, rows = [], []
    for alpha in _axes(figures)[0]:
        students = [
            each for each in figures if each.metric == metric and each.temperature and each.label_smoothing == alpha
        ]
        series.append(
            Series(smoothing(alpha), [each.temperature for each in students], [each.mean for each in students])
        )
        rows += [[smoothing(alpha), f"{each.temperature:g}", f"{each.mean:.2f}"] for each in students]
    models = next(f"{each.teacher} → {each.student}" for each in figures if each.student)
    what = f"Table {figures[0].table}, {figures[0].data}, {models}"
    return page.figure(
        svg(lines(series, "temperature T", title)),
        _alt(f"{what}: published {title}", series),
        f"Published, {what}: {title} of the students against T. The axis is another one.",
        table(f"{what}: {title} by α and T", [["α", "T", title]], rows),
        ["lskd/data/published.csv"],
    )


def _alt(what: str, series: Sequence[Series]) -> str:
    """Lines against T in words."""
    each = (
        f"{one.label}: " + ", ".join(f"{y:.2f} at {at(x)}" for x, y in zip(one.x, one.y, strict=True)) for one in series
    )
    return f"{what} against temperature. " + "; ".join(each) + "."


def class_changes(page: Page, study: Study, base: float) -> None:
    """Accuracy of each class at the lowest T or ``base``, and how it changes at others (Tables I.1 to I.3)."""
    if study.first.kind == "translation" or not study.students:
        return
    page.heading("Accuracy by class", 3)
    drawn = []
    for alpha in study.smoothings:
        by_class = {T: _classwise(study.students.get((alpha, T), [])) for T in study.temperatures}
        by_class = {T: found for T, found in by_class.items() if found}
        if len(by_class) < 2:
            continue
        first = base if base in by_class else min(by_class)
        others = [T for T in by_class if first != T]
        names = [name for name in by_class[first] if all(name in by_class[T] for T in others)]
        changes = {name: [by_class[T][name].mean - by_class[first][name].mean for T in others] for name in names}
        shown = sorted(names, key=lambda name: -max(map(abs, changes[name])))[:CLASSES_SHOWN]
        rows = [
            [name, number(by_class[first][name]), *(signed(each, 2) for each in changes[name])]
            for name in names
            if name in set(shown)
        ]
        some = "" if len(shown) == len(names) else f", the {len(shown)} of {len(names)} that change most"
        n = len(study.students[alpha, first])
        caption = (
            f"Teacher with {smoothing(alpha)}: accuracy at {at(first)} in %, and changes in points (n = {n}){some}. "
            f"{study.title}"
        )
        drawn.append(table(caption, [["class", at(first), *map(at, others)]], rows))
    if drawn:
        page.add(
            element("div", *drawn, class_="beside"),
            paragraph(
                "Last epoch, validation split. A class has few images: most changes of single classes are noise.",
                class_="faint",
            ),
        )
    else:
        page.add(
            paragraph(
                "No class-wise accuracy at two temperatures: ",
                code("lskd vision train … --kd-temperature 1 2 3 64"),
                " leaves it in run.json.",
                class_="absent",
            )
        )


def _classwise(runs: Sequence[Run]) -> dict[str, Spread]:
    """Over seeds, of the classes that every run has."""
    each = [run.figures.get("classwise") or {} for run in runs]
    names = [name for name in (each[0] if each else {}) if all(one.get(name) is not None for one in each)]
    return {name: over_seeds([one[name] for one in each]) for name in names}


def _two(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
