"""Accuracy or BLEU by α and T: the table of these runs beside the paper's, and line plots of both against T."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lskd.paper.published import Measurement, counterparts, published
from lskd.records.formatting import at, smoothing, with_spread
from lskd.records.found_runs import TITLES, Metric, score_notes
from lskd.records.runs import unfinished
from lskd.records.spread import Spread
from lskd.records.studies import Study, spread
from lskd.report.elements import Cell, Drawing, Head, Missing, Section, Table
from lskd.report.plots import Series, in_drawings, lines, svg

# If the paper does not have these data: its table that is nearest in kind, and the student in it.
NEAREST = {"vision": ("2B", "ResNet-18"), "translation": ("5", "Transformer")}
LEAST_SPAN = 4.0  # least range of the axis in points of accuracy or BLEU, so that small differences look small
UNSCORED = "no result: lskd nmt score makes BLEU, the validation after the last epoch of a training makes accuracy"


@dataclass(frozen=True, kw_only=True)
class AccuracySection(Section):
    """Accuracy or BLEU of a study.

    Attributes:
        scores: scores of teachers and students; None without students.
        without_teacher: results of the student's model without a teacher, a sentence for each α of its labels.
        signatures: sacreBLEU's signatures.
        score_notes: on which text the scores were computed.
        published: the paper's table; None without students.
        relation: how the paper's table relates to these runs.
        drawings: scores against T, of these runs and of the paper.
    """

    template = "accuracy.html"
    scores: Table | None
    without_teacher: Sequence[str]
    signatures: Sequence[str]
    score_notes: Sequence[str]
    published: Table | None
    relation: str
    drawings: Sequence[Drawing | Missing]


def accuracy_section(study: Study) -> AccuracySection:
    """The α × T table beside the paper's, and line plots of both against T."""
    theirs, relation = neighbours(study) if study.students else ([], "")
    return AccuracySection(
        title="BLEU" if study.first.kind == "translation" else "Accuracy",
        scores=_own_table(study) if study.students else None,
        without_teacher=_without_teacher(study),
        signatures=sorted({str(run.metrics.get("bleu_signature")) for run in study.runs} - {"None"}),
        score_notes=score_notes(run.metrics for run in study.runs),
        published=_published_table(theirs) if theirs else None,
        relation=relation,
        drawings=[*_own_lines(study), _published_lines(theirs)] if theirs else [],
    )


def _own_table(study: Study) -> Table:
    """The table of these runs, with their warnings as footnotes."""
    first = study.metrics[0]
    places = [(alpha, T) for alpha in study.smoothings for T in (None, *study.temperatures)]
    sizes = {each.n for place in places if (each := study.spread(*place, first.key))}

    def cell(alpha: float | None, T: float | None, metric: Metric) -> Cell:
        value = study.spread(alpha, T, metric.key)
        text = with_spread(value, len(sizes) > 1)
        if metric is not first:
            return Cell(text)
        runs = study.teachers.get(alpha, []) if T is None else study.students.get((alpha, T), [])
        notes = [f"Warning of the training: {_of_this(each, T)}" for run in runs for each in run.record.warnings]
        notes += [f"{run.name} {short}." for run in runs if (short := unfinished(run.record))]
        notes += [UNSCORED] if value is None and runs else []
        return Cell(text, list(dict.fromkeys(notes)))

    what = (
        "BLEU, test split, best checkpoint on validation"
        if study.unit == "BLEU"
        else "Accuracy, validation split, last epoch"
    )
    size = f", n = {sizes.pop()} each" if len(sizes) == 1 else " (n)"
    caption = f"These runs. {what}; mean ± σ over seeds{size}. {study.title}"
    return _table(caption, study.smoothings, study.temperatures, study.metrics, cell)


def _of_this(warning: str, T: float | None) -> str:
    """Replace T in a warning by "this T", so that warnings for different T become one note."""
    return warning if T is None else warning.replace(f"T = {T:g} ", "this T ", 1)


def _without_teacher(study: Study) -> list[str]:
    sentences = []
    for alpha, runs in study.alone.items():
        every = [(metric.title, spread(runs, metric.key)) for metric in study.metrics]
        values = ", ".join(f"{title} {with_spread(value, True)}" for title, value in every if value)
        sentences.append(f"{study.first.model} without a teacher, labels of {smoothing(alpha)}: {values or '–'}.")
    return sentences


def neighbours(study: Study) -> tuple[list[Measurement], str]:
    """The published results of the same data and models, else those nearest in kind; and their relation, in words."""
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
            "No published results are of these data and these models, as far as the records say. Nearest in kind is "
            "the paper's Table {}, {}."
        )
    if study.first.kind == "translation":
        relation += " Its BLEU looks like that of tokenised, lower-cased text."
    every = published(chosen.table)
    fitting = [each for each in every if each.metric in metrics and each.student in (None, chosen.student)]
    return fitting, relation.format(chosen.table, f"{chosen.data}, {chosen.teacher} → {chosen.student}")


def _published_table(results: Sequence[Measurement]) -> Table:
    places = {(each.label_smoothing, each.temperature, each.metric): each for each in results}

    def cell(alpha: float | None, T: float | None, metric: Metric) -> Cell:
        if (each := places.get((alpha, T, metric.key))) is None:
            return Cell("–")
        sd = "" if each.standard_deviation is None else f" ± {each.standard_deviation:.2f}"
        return Cell(f"{each.mean:.2f}{sd}", [each.flag] if each.flag else [])

    metrics = tuple(Metric(name, name) for name in dict.fromkeys(each.metric for each in results))
    caption = f"Published. Table {results[0].table}: {results[0].data}, {_models(results)}"
    return _table(caption, *_axes(results), metrics, cell)


def _models(results: Sequence[Measurement]) -> str:
    return next(f"{each.teacher} → {each.student}" for each in results if each.student)


def _axes(results: Sequence[Measurement]) -> tuple[list[float], list[float]]:
    """α and T of published results."""
    smoothings = {each.label_smoothing for each in results if each.label_smoothing is not None}
    return sorted(smoothings), sorted({each.temperature for each in results if each.temperature is not None})


def _table(
    caption: str,
    smoothings: Sequence[float | None],
    temperatures: Sequence[float],
    metrics: Sequence[Metric],
    cell: Callable[[float | None, float | None, Metric], Cell],
) -> Table:
    """A table with a row for the teacher and one for each T of its students, and a column for each α and metric."""
    heads: list[list[str | Head]] = [["", *(Head(smoothing(alpha), len(metrics)) for alpha in smoothings)]]
    if len(metrics) > 1:
        heads.append(["", *(metric.title for _ in smoothings for metric in metrics)])
    rows: list[list[str | Cell]] = [
        [name, *(cell(alpha, T, metric) for alpha in smoothings for metric in metrics)]
        for name, T in [("teacher", None), *((f"student, {at(T)}", T) for T in temperatures)]
    ]
    return Table(caption, heads, rows)


def _own_lines(study: Study) -> list[Drawing] | list[Missing]:
    """Line plots with a line for each α of the teacher, as many in a drawing as can be told apart."""
    key, results = study.metrics[0].key, dict[float | None, list[tuple[float, Spread]]]()
    for alpha in study.smoothings:
        every = [(T, study.spread(alpha, T, key)) for T in study.temperatures]
        if found := [(T, each) for T, each in every if each is not None]:
            results[alpha] = found
    if not results:
        return [Missing("No results to draw.")]
    return [_own_drawing(study, dict(part)) for part in in_drawings(list(results.items()))]


def _own_drawing(study: Study, results: Mapping[float | None, Sequence[tuple[float, Spread]]]) -> Drawing:
    metric = study.metrics[0]
    series, rows = [], []
    for alpha, found in results.items():
        values = [each.mean for _, each in found]
        series.append(Series(smoothing(alpha), [T for T, _ in found], values, [each.sd for _, each in found]))
        for T, each in found:
            sd = "–" if each.sd is None else f"{each.sd:.2f}"
            rows.append([smoothing(alpha), f"{T:g}", f"{each.mean:.2f}", sd, str(each.n)])
    errors = (
        ". Bars: ± σ over seeds, a little to the side of their T."
        if any(error is not None for each in series for error in each.error)
        else "; one seed each, so no σ."
    )
    return Drawing(
        svg(lines(series, "temperature T", metric.title, least_span=LEAST_SPAN)),
        _alt(f"{study.title}: {metric.title}", series),
        f"{study.title}: {metric.title} of the students against T, a line for each α of the teacher{errors}",
        [Table(f"{metric.title} by α and T. {study.title}", [["α", "T", metric.title, "σ", "n"]], rows)],
        [
            str(run.directory / "run.json")
            for (alpha, _), runs in study.students.items()
            if alpha in results
            for run in runs
        ],
    )


def _published_lines(results: Sequence[Measurement]) -> Drawing:
    metric = results[0].metric
    title, series = TITLES[metric], []
    for alpha in _axes(results)[0]:
        points = [
            (each.temperature, each.mean)
            for each in results
            if each.metric == metric and each.temperature and each.label_smoothing == alpha
        ]
        series.append(Series(smoothing(alpha), [T for T, _ in points], [mean for _, mean in points]))
    rows = [[each.label, f"{T:g}", f"{mean:.2f}"] for each in series for T, mean in zip(each.x, each.y, strict=True)]
    what = f"Table {results[0].table}, {results[0].data}, {_models(results)}"
    return Drawing(
        svg(lines(series, "temperature T", title)),
        _alt(f"{what}: published {title}", series),
        f"Published, {what}: {title} of the students against T. The axis differs.",
        [Table(f"{what}: {title} by α and T", [["α", "T", title]], rows)],
        ["lskd/data/published.csv"],
    )


def _alt(what: str, series: Sequence[Series]) -> str:
    """Alternative text for lines against T."""
    each = (
        f"{one.label}: " + ", ".join(f"{y:.2f} at {at(x)}" for x, y in zip(one.x, one.y, strict=True)) for one in series
    )
    return f"{what} against temperature. " + "; ".join(each) + "."
