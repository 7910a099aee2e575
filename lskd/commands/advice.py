"""The first four parts of the answer of ``lskd advise`` as plain values, for ``--json`` and for the text."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from lskd.commands.effect_tables import as_values, difference_row, smoothing_rows
from lskd.commands.file_logits import FileLogits
from lskd.measure.comparisons import LEAST_SEEDS, LEVEL, Difference, holm
from lskd.measure.recorded_smoothing import Smoothing
from lskd.measure.representations import Representations
from lskd.measure.smoothing_choice import smoothing_choices
from lskd.measure.teacher_outputs import SMALL, teacher_outputs
from lskd.measure.temperature_effects import Effect, StepControl, effects, step_controls
from lskd.paper.evidence import of_the_paper, of_this_project
from lskd.records.fingerprints import is_of_teacher
from lskd.records.found_runs import Run
from lskd.records.studies import Study, group, in_words, spread
from lskd.report.measured_eta import Diffusion, MeanEta, measure_diffusion
from lskd.report.options import Options
from lskd.report.representation_files import RepresentationFiles

Advice = dict[str, Any]  # the whole answer, or one of its parts
Row = dict[str, Any]  # one of several of a kind in a part, such as an effect or a next step


def smoothing_part(smoothing: Smoothing) -> Advice:
    """Part 1: whether the teacher was smoothed, with which α, and how that is known."""
    return {
        "smoothed": smoothing.smoothed,
        "recorded": smoothing.recorded,
        "source": smoothing.source,
        "mixed_labels": smoothing.mixed_labels,
        "estimate": asdict(smoothing.estimate),
        "disagreement": smoothing.disagreement,
        "rests_on": smoothing.rests_on,
    }


def outputs_part(
    teacher: Representations,
    thinned: Representations,
    logits: FileLogits | None,
    temperatures: Sequence[float],
    reason: str,
) -> Advice:
    """Part 2: entropy, non-target probability, and the size of the gradient, by T; or the reason why there are none.

    Args:
        teacher: the teacher's representations.
        thinned: the samples of these that are used.
        logits: logits of these samples; None if there are none.
        temperatures: temperatures of the measures.
        reason: why there are no logits.
    """
    if logits is None:
        return {"rests_on": None, "reason": reason, "by_temperature": [], "small_steps": []}
    found = teacher_outputs(logits, thinned.labels, temperatures)
    rows = [
        {
            "temperature": each.temperature,
            "entropy_nats": each.entropy,
            "non_target_percent": 100 * each.non_target,
            "gradient_at_start": _finite(each.gradient_start),
            "gradient_at_end": _finite(each.gradient_end),
        }
        for each in found
    ]
    split = teacher.provenance.get("split")
    return {
        "rests_on": f"{len(thinned.labels)} samples of "
        + ("an unknown split" if split is None else f"the {split} split"),
        "reason": None,
        "largest_entropy_nats": math.log(len(teacher.class_names)),
        "by_temperature": rows,
        "small_steps": [each.temperature for each in found if each.small_steps],
        "small_steps_are_below": SMALL,
    }


def runs_part(teacher: Representations, runs: Sequence[Run], sets: Path | None) -> Advice:
    """Part 3: what the user's own students show, those of this kind of teacher and others."""
    if not runs:
        none = ("effects", "controls", "smoothings", "eta", "eta_undefined", "without_teacher")
        return {"given": 0, "left_out": 0} | {name: [] for name in none}
    studies = group(runs)
    found = effects(studies)
    ours = [each for each in found if _of_this_teacher(each, teacher)]
    others = [each for each in found if all(each is not one for one in ours)]
    with_ours = [study for study in studies if any(each.study is study for each in ours)]
    beside = [each for each in found if any(each.study is study for study in with_ours)]  # for every α
    # A study without students is of other models, or of another teacher.
    taught = [study for study in with_ours or studies if study.students]
    comparisons = {id(each): comparison for each in found if (comparison := each.against_one)}
    adjusted = dict(zip(comparisons, holm([each.p for each in comparisons.values()]), strict=True))
    options = Options(sets=[sets] if sets else [])
    diffusion = [(study, measure_diffusion(RepresentationFiles(study), options)) for study in with_ours]
    return {
        "given": len(runs),
        "left_out": sum(run.learns_without_temperature for run in runs),
        "effects": [
            _effect(each, of_this, adjusted.get(id(each)))
            for every, of_this in ((ours, True), (others, False))
            for each in every
        ],
        "controls": [_control(each) for each in step_controls(ours)],
        "smoothings": smoothing_rows(smoothing_choices(beside)),
        "eta": [row for study, found in diffusion for row in _eta(study, found)],
        "eta_undefined": [
            {"study": study.title, "label_smoothing": alpha, "split": split, "why": why}
            for study, found in diffusion
            for (split, alpha), why in found.undefined.items()
        ],
        "without_teacher": _alone(taught),
    }


def measured_part(smoothed: bool | None, teacher: Representations) -> Advice:
    """Part 4: what this project and the paper measured for such teachers, or for all teachers if it is not known."""
    return {
        "unit_of_this_kind": "BLEU" if teacher.provenance.get("kind") == "translation" else "%",
        "of_teachers": {True: "smoothed", False: "not smoothed", None: "smoothed or not"}[smoothed],
        "this_project": [each.row() for each in of_this_project(smoothed)],
        "the_paper": [each.row() for each in of_the_paper(smoothed)],
    }


def _of_this_teacher(effect: Effect, teacher: Representations) -> bool:
    """Whether any of the students are of this teacher, by its weights, or else by its path."""
    weights, checkpoint = teacher.provenance.get("fingerprint"), teacher.provenance.get("checkpoint")
    runs = [run for (alpha, _), runs in effect.study.students.items() if alpha == effect.alpha for run in runs]
    if weights is not None:
        return any(is_of_teacher(run.teacher.get("fingerprint"), weights) for run in runs)
    end = Path(checkpoint or "").parts[-3:-1]  # directories may have been moved
    return bool(end) and any(Path(path).parts[-3:-1] == end for run in runs for path in run.teacher.get("paths", []))


def _effect(effect: Effect, ours: bool, p: float | None) -> Row:
    comparison = effect.against_one
    runs = {T: each for (alpha, T), each in effect.study.students.items() if alpha == effect.alpha}
    # Students at T = 1 may be shared from another study, whose options differ.
    own = {T: kept for T, each in runs.items() if (kept := [run for run in each if _is_own(run, effect)])}
    return {
        "study": effect.study.title,
        "student": effect.study.first.model,
        "setting": effect.study.setting,
        "of_this_teacher": ours,
        "first_run": str(next(run.directory for each in (own or runs).values() for run in each)),
        "few_seeds": [T for T, each in effect.means.items() if T in own and each.n < LEAST_SEEDS],
        "label_smoothing": effect.alpha,
        "optimiser": effect.optimiser,
        "learning_rate": effect.learning_rate,
        "matched": effect.matched,
        "plain_steps": effect.plain_steps,
        "unit": effect.study.unit,
        "means": {f"{T:g}": asdict(each) for T, each in effect.means.items()},
        "best": effect.best,
        "difference": None
        if comparison is None or (values := as_values(comparison)) is None
        else values
        | {
            "p_adjusted": p,
            "more_than_chance": p is not None and p <= LEVEL,
            "temperatures": comparison.temperatures,
            "seeds": comparison.seeds,
            "paired": comparison.paired,
        },
    }


def _is_own(run: Run, effect: Effect) -> bool:
    return run.settings == effect.study.first.settings


def _control(control: StepControl) -> Row:
    def row(difference: Difference | None) -> dict[str, float] | None:
        return None if difference is None else difference_row(difference)

    return {
        "study": control.plain.study.title,
        "student": control.plain.study.first.model,
        "setting": control.plain.study.setting,
        "label_smoothing": control.plain.alpha,
        "temperature": control.temperature,
        "control": control.name,
        "cost": row(control.cost),
        "cost_controlled": row(control.cost_controlled),
        "removed": row(control.removed),
        "gained": row(control.gained),
        "means": {
            "T = 1": fmean(control.plain.values[1.0].values()),
            "plain": fmean(control.plain.values[control.temperature].values()),
            "controlled": fmean(control.control.values[control.temperature].values()),
        }
        | ({"T = 1 controlled": fmean(control.at_one.values())} if control.own_at_one else {}),
        "verdict": control.verdict,
    }


def _eta(study: Study, measured: Diffusion) -> list[Row]:
    """η of a study's students, where there are representation files and sets."""
    rows = []
    for split, by_alpha in measured.etas.items():
        for alpha, eta in by_alpha.items():
            mean = MeanEta.of(split, eta)
            row: Row = {
                "study": study.title,
                "setting": study.setting,
                "label_smoothing": alpha,
                "split": split,
                "targets": mean.targets,
            }
            row |= {"change": f"T = {Options.first:g} → {Options.second:g}", "pairs": len(mean.similar)}
            row |= {"similar_percent": fmean(mean.similar), "similar_below_0": mean.signs[0]}
            row |= {"dissimilar_percent": fmean(mean.dissimilar), "dissimilar_above_0": mean.signs[1]}
            row |= {"similar_excluding_0": mean.excluding[0] if mean.excluding else None, "p": mean.p}
            rows.append(row | {"p_isotropic": mean.p_isotropic, "notes": [*eta.notes]})
    return rows


def _alone(studies: Sequence[Study]) -> list[Row]:
    """The results of the students' models without a teacher, those of each training once."""
    groups = {
        tuple(run.directory for run in runs): (study, alpha, runs)
        for study in studies
        for alpha, runs in study.alone.items()
    }
    every = [runs[0].settings for _, _, runs in groups.values()]
    differing = sorted(name for name in {*itertools.chain(*every)} if len({each.get(name) for each in every}) > 1)
    found = []
    for study, alpha, runs in groups.values():
        if each := spread(runs, study.metrics[0].key):
            said = in_words(runs[0].settings, differing).items()
            setting = ", ".join(f"{word} = {value}" for word, (value, _) in said)
            found.append({"model": runs[0].model, "setting": setting, "label_smoothing": alpha, **asdict(each)})
    return found


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
