"""Calibration, selective risk, neural collapse and fidelity to the teacher, of models on one split.

Everything comes from representation files: calibration (ECE, adaptive ECE, the temperature T* of the best likelihood),
selective risk (AURC), the teacher's non-target probability at each T, and fidelity (agreement, KL) from the samples
whose features were kept, neural collapse (NC1 to NC3) from class moments, the last layer and, for NC1, kept features.
Where only a part was kept, samples are weighted by the counts of their classes, and the table says on how many it
rests. docs/measures.md has the formulas and their pitfalls.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lskd.commands.file_logits import FileLogits
from lskd.io.argument_types import table_file, whole
from lskd.io.errors import error_context, input_error, warn
from lskd.io.output import shown_anyway
from lskd.io.tables import Column, show, write
from lskd.io.temperatures import add_temperatures
from lskd.measure.fidelity import paired
from lskd.measure.model_measures import Basis, Interval, OutputMeasures, measure_fidelity, measure_outputs
from lskd.measure.neural_collapse import NeuralCollapse, neural_collapse
from lskd.measure.representations import Representations, read_representations
from lskd.records.fingerprints import is_of_teacher
from lskd.records.runs import data_name, look_up, teacher_smoothing

EXAMPLE = (
    "lskd measure runs/cub200/*/last.validation.representations.safetensors --teacher "
    "runs/cub200/resnet50_a0.1_s42/last.validation.representations.safetensors"
)
MODEL = (
    Column("file", "file"),
    Column("α", "label_smoothing", ".3g"),
    Column("T", "temperature", ".6g"),
    Column("split", "split"),
)
OUTPUTS = (
    Column("kept", "samples"),
    Column("of", "split_samples"),
    Column("top-1 %", "top1_percent", ".2f"),
    Column("ECE %", "ece_percent", ".2f"),
    Column("95 %", "ece_interval"),
    Column("by chance", "ece_by_chance_percent", ".2f"),
    Column("adaptive", "adaptive_ece_percent", ".2f"),
    Column("NLL", "nll_nats", ".4f"),
    Column("T*", "optimal_temperature", ".4f"),
    Column("AURC %", "aurc_percent", ".3f"),
    Column("95 %", "aurc_interval"),
)
COLLAPSE = (
    Column("classes", "split_classes"),
    Column("NC1", "nc1", ".4g"),
    Column("NC1 ratio", "nc1_ratio", ".4g"),
    Column("NC2 norms", "nc2_norms", ".4f"),
    Column("NC2 angles", "nc2_angles", ".4f"),
    Column("NC3", "nc3", ".4f"),
)
FIDELITY = (
    Column("kept of both", "fidelity_samples"),
    Column("agreement %", "agreement_percent", ".2f"),
    Column("95 %", "agreement_interval"),
    Column("where it is wrong %", "agreement_where_wrong_percent", ".2f"),
    Column("of", "teacher_wrong_samples"),
    Column("KL", "kl_nats", ".4f"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``lskd measure``."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="representations of students, teachers or any models")
    parser.add_argument(
        "--teacher", type=Path, metavar="FILE", help="measure fidelity to it: representations of the same samples"
    )
    add_temperatures(
        parser, [1, 2, 3, 64], "of the non-target probability, or a file of `lskd match-temperature --output`"
    )
    parser.add_argument(
        "--resamples",
        type=int,
        default=500,
        metavar="N",
        help="for the intervals, 100 to 100000; 0: none (default: 500)",
    )
    parser.add_argument("--seed", type=whole, default=1, help="of resampling (default: 1)")
    parser.add_argument("--output", type=table_file, metavar="FILE", help="the table, .csv or .json")


def run(arguments: argparse.Namespace) -> None:
    """Measure every file, write the table, print it."""
    if arguments.resamples and not 100 <= arguments.resamples <= 100_000:
        raise input_error("--resamples", arguments.resamples, "must be 0, for no intervals, or from 100 to 100000")
    files = [(path, read_representations(path)) for path in arguments.files]
    teacher = read_representations(arguments.teacher) if arguments.teacher else None
    pairs = [_paired(path, each, teacher) for path, each in files]
    rows, notes = [], []
    for (path, each), pair in zip(files, pairs, strict=True):
        if not each.moments.counts.any():
            raise input_error("FILE", path, "must hold samples")
        with error_context(path):
            row = _facts(path, each) | _collapse(neural_collapse(each))
            if each.weight is None or not len(each.labels):
                reason = "the last layer" if each.weight is None else "features: none were kept"
                notes.append(f"{path}: measures of outputs are left out, as they need {reason}.")
            else:
                found = measure_outputs(
                    each, FileLogits(path, each), arguments.temperatures, arguments.resamples, arguments.seed
                )
                row |= _outputs(found)
                notes += _notes(path, found)
            if pair:
                row |= _fidelity(path, pair, arguments)
        rows.append(row)
    if teacher is not None:
        notes += _other_teachers(arguments.teacher, teacher, files)
    warn("lskd measure", notes)
    with shown_anyway(_tables(rows, arguments.temperatures, arguments.resamples, teacher is not None)):
        if arguments.output:
            write(arguments.output, [_flat(row, arguments.temperatures, teacher is not None) for row in rows])


def _paired(
    path: str, student: Representations, teacher: Representations | None
) -> tuple[Representations, Representations] | None:
    """A student and its teacher on the same samples; None without a teacher, and for the teacher itself."""
    if teacher is None or _same_model(student, teacher):
        return None
    with error_context(f"{path}: --teacher {teacher.path}"):
        return paired(student, teacher)


def _same_model(one: Representations, other: Representations) -> bool:
    weights = one.provenance.get("fingerprint")
    alike = weights is not None and weights == other.provenance.get("fingerprint")
    return alike or Path(str(one.path)).resolve() == Path(str(other.path)).resolve()


def _other_teachers(path: Path, teacher: Representations, files: Sequence[tuple[str, Representations]]) -> list[str]:
    """A note on each student that was distilled from weights other than the teacher's."""
    own = teacher.provenance.get("fingerprint")
    recorded = [(name, look_up(each.provenance, "teacher", "fingerprint")) for name, each in files]
    return [
        f"{name} was not distilled from {path}, according to its record." for name, known in recorded
        if own is not None and known is not None and not is_of_teacher(known, own)
    ]  # fmt: skip


def _facts(path: str, representations: Representations) -> dict[str, Any]:
    provenance, basis = representations.provenance, Basis.of(representations)
    return {
        "file": path,
        "data": data_name(provenance.get("data")),
        "model": provenance.get("model"),
        "role": "student" if provenance.get("teacher") else "teacher" if "teacher" in provenance else None,
        "label_smoothing": teacher_smoothing(provenance),
        "temperature": look_up(provenance, "configuration", "temperature"),
        "seed": provenance.get("seed"),
        "split": provenance.get("split"),
        "samples": basis.samples,
        "split_samples": basis.of_samples,
        "classes": basis.classes,
        "split_classes": basis.of_classes,
    }


def _collapse(found: NeuralCollapse) -> dict[str, float | None]:
    return {name: getattr(found, name) for name in ("nc1", "nc1_ratio", "nc2_norms", "nc2_angles", "nc3")}


def _outputs(found: OutputMeasures) -> dict[str, Any]:
    return {
        "top1_percent": 100 * found.top1,
        "ece_percent": 100 * found.ece,
        "ece_interval": _percent(found.ece_interval),
        "ece_by_chance_percent": 100 * found.ece_by_chance,
        "adaptive_ece_percent": 100 * found.adaptive_ece,
        "nll_nats": found.nll,
        "optimal_temperature": found.optimal_temperature,
        "aurc_percent": 100 * found.aurc,
        "aurc_interval": _percent(found.aurc_interval),
        "non_target": {T: 100 * value for T, value in found.non_target.items()},
    }


def _fidelity(
    path: str, pair: tuple[Representations, Representations], arguments: argparse.Namespace
) -> dict[str, Any]:
    """The fidelity columns of a row. Raises InputError if a file has no last layer or no features."""
    for each in pair:
        if each.weight is None:
            raise input_error("FILE", each.path, "must hold the last layer, for fidelity")
    logits = FileLogits(path, pair[0]), FileLogits(str(arguments.teacher), pair[1])
    found = measure_fidelity(pair[0], logits, arguments.resamples, arguments.seed)
    wrong = found.agreement_where_wrong
    return {
        "teacher": str(arguments.teacher),
        "fidelity_samples": found.basis.samples,
        "agreement_percent": 100 * found.top1_agreement,
        "agreement_interval": _percent(found.agreement_interval),
        "agreement_where_wrong_percent": None if wrong is None else 100 * wrong,
        "teacher_wrong_samples": found.wrong,
        "kl_nats": found.kl,
    }


def _notes(path: str, found: OutputMeasures) -> list[str]:
    """Notes that a reader of the numbers needs."""
    notes = [] if found.basis.complete else [f"{path}: measures of outputs are of {found.basis}."]
    if found.no_optimum:
        notes.append(f"{path}: {found.no_optimum}.")
    return notes


def _percent(interval: Interval | None) -> Interval | None:
    return None if interval is None else (100 * interval[0], 100 * interval[1])


def _flat(row: dict[str, Any], temperatures: Sequence[float], fidelity: bool) -> dict[str, Any]:
    """A row of the output file: the same keys for all rows; the ends of intervals and each T are separate columns."""
    keys = [column.key for group in (OUTPUTS, COLLAPSE, *[FIDELITY] * fidelity) for column in group]
    flat: dict[str, Any] = {name: row[name] for name in row if name not in keys and name != "non_target"}
    for key in keys:
        if key.endswith("_interval"):
            name = key.removesuffix("_interval")
            flat[f"{name}_low_percent"], flat[f"{name}_high_percent"] = row.get(key) or (None, None)
        else:
            flat[key] = row.get(key)
    return flat | {f"non_target_percent_T{T:g}": row.get("non_target", {}).get(T) for T in temperatures}


def _tables(rows: Sequence[dict[str, Any]], temperatures: Sequence[float], resamples: int, fidelity: bool) -> str:
    """The tables by topic, each with a line on its units."""
    non_target = [Column(f"T = {T:.7g}", f"T{T}", ".4g") for T in temperatures]
    shown = [
        {
            name: f"{value[0]:.2f} to {value[1]:.2f}" if isinstance(value, tuple) else value
            for name, value in row.items()
        }
        | {f"T{T}": value for T, value in row.get("non_target", {}).items()}
        for row in rows
    ]
    tables = [
        (
            OUTPUTS,
            "Calibration and selective risk. α: of a student, its teacher's. By chance: a calibrated model's ECE. "
            "NLL in nats, least at T*.",
        ),
        (
            COLLAPSE,
            "Neural collapse, over all samples of the split; NC1's within-class covariance is of the kept ones.",
        ),
        (non_target, "Probability of all classes but the label at each T, mean in %."),
    ]
    if fidelity:
        tables.insert(
            1,
            (
                FIDELITY,
                "Fidelity: share of samples with the teacher's top-1 class, and of those on which the teacher is wrong "
                "(of: their number); KL(teacher ‖ student) at T = 1, nats.",
            ),
        )
    texts = []
    for columns, about in tables:
        kept = [column for column in columns if resamples or not column.key.endswith("_interval")]
        # The teacher itself has no fidelity values.
        about_these = [row for row in shown if columns is not FIDELITY or "kl_nats" in row]
        texts.append(f"{about}\n\n{show(about_these or shown, [*MODEL, *kept])}")
    return "\n\n".join(texts)
