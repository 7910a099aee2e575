"""Advise at which temperature to distil a teacher, and why.

For each teacher it prints whether it was trained with label smoothing, as recorded in its file and as estimated from
its outputs, and what the paper found for such teachers. The estimate needs the last layer and some features, no labels.
"""

import argparse
import dataclasses
from typing import Any

from lskd.commands.file_logits import Logits
from lskd.io.errors import InputError, error_context
from lskd.io.tables import Column, output_file, show, write
from lskd.measure.representations import Representations, read_representations
from lskd.measure.smoothing_estimate import WEAKEST, SmoothingEstimate, estimate_label_smoothing
from lskd.paper.published import published

EXAMPLE = "lskd advise runs/imagenet/resnet50_a0.1_s42/last.validation.representations.safetensors"
SAMPLES = 20_000  # evenly spread; more than enough for the estimate
TEMPERATURES = (1, 2, 3, 64)  # the paper's
TABLES = (("2A", "top1"), ("2B", "top1"), ("4", "top1"), ("5", "bleu"), ("B.2", "bleu"))
ADVICE = {
    True: "T = 1. The paper's rule of thumb: a label-smoothed teacher with a low temperature. Higher ones draw the\n"
    "student's classes towards those they resemble, and undo what the smoothing has gained.",
    False: "try T in 1, 2, 3, 4 and choose on validation data. There is no rule without label smoothing: a higher T\n"
    "helped some students of fine-grained classes and compact ones (Tables 2B, 4), and others not. The paper\n"
    "tried 1, 2, 3 and 64, and 64 was the worst for every student below. Or smooth a teacher, and take T = 1.",
    None: "start at T = 1 and choose among 1, 2, 3, 4 on validation data. Nothing here says whether this teacher was\n"
    "smoothed. If it was, T = 1 is the paper's rule; if not, T = 1 was the best or less than a point behind.\n"
    "The teacher's own training configuration would settle it.",
}
LIMITS = (
    "Means of the paper's runs, of one α (0.1), a few pairs of models and its training recipes: what is best for your\n"
    "own data is for validation data to say."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``lskd advise``."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="representations of a teacher, or of several")
    parser.add_argument("--output", type=output_file, metavar="FILE", help="the answers, .csv or .json")


def run(arguments: argparse.Namespace) -> None:
    """Print what is known about each teacher, the advice and its reasons; write the answers."""
    answers = [_answer(file) for file in arguments.files]
    if arguments.output:
        flat = arguments.output.suffix == ".csv"
        rows = [row | {"temperatures": " ".join(map(str, row["temperatures"]))} if flat else row for row, _ in answers]
        write(arguments.output, rows)
    smoothed = {row["smoothed"] for row, _ in answers}
    print("\n\n".join(text for _, text in answers))
    print(f"\n{_evidence(smoothed.pop() if len(smoothed) == 1 else None)}\n\n{LIMITS}")


def _answer(path: str) -> tuple[dict[str, Any], str]:
    """What is known about a teacher and what follows, as a row and in words."""
    representations = read_representations(path)
    recorded, source = recorded_alpha(representations.provenance)
    estimate = _estimate(path, representations)
    smoothed = recorded > 0 if recorded is not None else {"smoothed": True, "not smoothed": False}.get(estimate.verdict)
    disagreement = disagrees(recorded, estimate)
    row = {"file": path, "label_smoothing": recorded, "source": source}
    row |= {f"estimated_{name}": value for name, value in dataclasses.asdict(estimate).items()}
    row |= {"smoothed": smoothed, "disagreement": disagreement, "temperatures": [1] if smoothed else [1, 2, 3, 4]}
    text = [
        f"teacher    {representations.provenance.get('model') or path}",
        f"recorded   {source if recorded is None else f'label smoothing α = {recorded:.3g} ({source})'}",
        f"estimated  {_said(estimate)}",
        *([f"These disagree: {disagreement}. The advice follows the record."] if disagreement else []),
        f"rests on   {_basis(recorded, estimate)}",
        f"\nadvice     {_indented(ADVICE[smoothed])}",
    ]
    return row, "\n".join(text)


def recorded_alpha(provenance: dict[str, Any]) -> tuple[float | None, str]:
    """The α of the model's own training as its provenance records it, and the source of that.

    A student is trained on its teacher's outputs: its own α has no effect, and None is returned.

    >>> recorded_alpha({"configuration": {"label_smoothing": 0.1, "kd_weight": 0.0}})
    (0.1, "the model's configuration")
    """
    configuration = provenance.get("configuration") or {}
    teacher = provenance.get("teacher") or {}
    if configuration.get("kd_weight") or teacher:
        smoothing = teacher.get("label_smoothing") or {}
        alpha, temperature = smoothing.get("alpha"), configuration.get("temperature")
        of = "a teacher of unknown α" if alpha is None else f"a teacher with α = {alpha:.3g}"
        return None, f"trained by distillation from {of}" + (f" at T = {temperature:g}" if temperature else "")
    alpha = configuration.get("label_smoothing")
    if isinstance(alpha, int | float) and 0 <= alpha <= 1:
        return float(alpha), "the model's configuration"
    return None, "not in the file"


def disagrees(recorded: float | None, estimate: SmoothingEstimate) -> str | None:
    """How a recorded α disagrees with the estimate; None if it does not.

    >>> disagrees(0.0, SmoothingEstimate(0.1, 0.06, 0.16, "smoothed", ""))
    'no smoothing is recorded, and the outputs look smoothed'
    """
    if recorded is None or estimate.alpha is None:
        return None
    if recorded < WEAKEST and estimate.verdict == "smoothed":
        how = "no smoothing" if recorded == 0 else f"α = {recorded:.3g}"
        return f"{how} is recorded, and the outputs look smoothed"
    if recorded >= WEAKEST and estimate.verdict == "not smoothed":
        return f"α = {recorded:.3g} is recorded, and the outputs look as without smoothing"
    if estimate.low is not None and estimate.high is not None and not estimate.low <= recorded <= estimate.high:
        return f"α = {recorded:.3g} is recorded, and the outputs look like {estimate.low:.2g} to {estimate.high:.2g}"
    return None


def _estimate(path: str, representations: Representations) -> SmoothingEstimate:
    try:
        logits = Logits(path, representations.thinned(SAMPLES))
    except InputError as error:  # no last layer or no features: there is advice without an estimate
        return SmoothingEstimate(None, None, None, "cannot tell", str(error))
    with error_context(path):
        return estimate_label_smoothing(logits)


def _basis(recorded: float | None, estimate: SmoothingEstimate) -> str:
    """What the advice rests on."""
    if recorded is not None:
        return "the record"
    if estimate.verdict == "cannot tell":
        return "the paper's results alone: neither the record nor the outputs show whether it was smoothed"
    return "the outputs alone, which cannot separate a model's own smoothing from its teacher's or from wrong labels"


def _said(estimate: SmoothingEstimate) -> str:
    if estimate.verdict == "smoothed":
        return f"smoothed, α between {estimate.low:.2g} and {estimate.high:.2g}: {estimate.reason}"
    if estimate.verdict == "not smoothed":
        return f"not smoothed, α below {estimate.high:.2g}: {estimate.reason}"
    return f"cannot tell: {estimate.reason}"


def _evidence(smoothed: bool | None) -> str:
    """A table of the paper's students of such teachers."""
    rows = []
    for table, metric in TABLES:
        students: dict[tuple[str, float], dict[float, float]] = {}
        measurements = published(table, metric=metric)
        for each in measurements:
            if each.student and each.temperature is not None and each.label_smoothing is not None:
                by_temperature = students.setdefault((each.student, each.label_smoothing), {})
                by_temperature[each.temperature] = each.mean
        for (student, alpha), means in students.items():
            if smoothed is None or smoothed == (alpha > 0):
                row = {"table": table, "data": measurements[0].data, "student": student, "alpha": alpha}
                row |= {f"T{each}": means.get(each) for each in TEMPERATURES}
                rows.append(row | {"best": max(means, key=means.__getitem__)})
    columns = [Column("table", "table"), Column("data", "data"), Column("student", "student")]
    columns += [Column("α", "alpha", "g"), *(Column(f"T = {each}", f"T{each}", ".2f") for each in TEMPERATURES)]
    unit = "The paper's students, top-1 in % (translation: BLEU)"
    return f"{unit}:\n" + show(rows, [*columns, Column("best T", "best", "g")])


def _indented(text: str) -> str:
    return text.replace("\n", "\n           ")
