"""Effects of the temperature on students, from their run records: the best T, the cost of a T, and what removes it.

An effect compares the students of one teacher (or of teachers that differ only in their seed), trained with the same
settings. Two effects whose settings differ only in the size of the steps show whether a high temperature costs accuracy
because of its soft targets or because its gradients are small: with ``kd_gradient_scale = match`` each gradient has the
size that it would have at T = 1, optimisers such as Adam normalise their steps, a larger learning rate enlarges them.
"""

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from lskd.measure.comparisons import LEVEL, Comparison, Difference, Groups, holm, planned_difference
from lskd.records.spread import Spread, over_seeds
from lskd.records.studies import Study, pair

GRADIENT_SCALE = ("kd_gradient_scale", "criterion.kd_gradient_scale")  # images, translation
# timm's and fairseq's names of optimisers whose step size is proportional to the size of the gradient.
PLAIN_OPTIMISERS = ("sgd", "sgdp", "momentum", "nesterov", "nag")
OPTIMISER = ("opt", "optimizer")
# Settings that may change with the optimiser.
LEARNING_RATE = ("lr", "min_lr", "warmup_lr")
OPTIMISATION = ("lr", "weight_decay", "sched", "warmup", "min_lr", "clip", "momentum", "adam_", "decay_", "opt_")


@dataclass(frozen=True)
class Effect:
    """The results, by temperature, of students with equal settings and equal teachers up to the seed.

    Attributes:
        study: study of the students.
        alpha: α of the teacher.
        values: by T, then by seeds and teacher, the top-1 accuracy of the last epoch in % or the test BLEU.
    """

    study: Study
    alpha: float | None
    values: Mapping[float, Mapping[Hashable, float]]

    @property
    def means(self) -> dict[float, Spread]:
        """The spread over seeds at each T, in increasing order of T."""
        return {T: over_seeds(list(self.values[T].values())) for T in sorted(self.values)}

    @property
    def best(self) -> float:
        """The T with the highest mean; of equal ones the lowest."""
        means = self.means
        return max(means, key=lambda T: (means[T].mean, -T))

    @property
    def against_one(self) -> Comparison | None:
        """The best T against T = 1, see :meth:`Groups.best_against`; None for too few seeds."""
        return Groups(self.values).best_against(1.0)

    @property
    def matched(self) -> bool:
        """Whether each gradient is scaled to the size that it would have at T = 1."""
        settings = self.study.first.settings
        return any(settings.get(name) == '"match"' for name in GRADIENT_SCALE)

    @property
    def optimiser(self) -> str | None:
        """timm's or fairseq's name of the optimiser; None if the record does not have it."""
        settings = self.study.first.settings
        names = (json.loads(settings[name]) for name in ("opt", "optimizer._name", "optimizer") if name in settings)
        return next((name for name in names if isinstance(name, str)), None)

    @property
    def learning_rate(self) -> float | None:
        """timm's ``lr``; None if the record does not have it."""
        rate = json.loads(self.study.first.settings.get("lr", "null"))
        return rate if isinstance(rate, int | float) else None

    @property
    def plain_steps(self) -> bool:
        """Whether the step size is proportional to the gradient's: neither matched nor normalised by the optimiser."""
        return not self.matched and self.optimiser in PLAIN_OPTIMISERS


@dataclass(frozen=True)
class StepControl:
    """The cost of a temperature without and with a control for the step size.

    Attributes:
        temperature: T, above 1.
        plain: the effect without the control.
        control: the effect with ``match``, a larger learning rate or an optimiser that normalises its steps.
        cost: the result at T = 1 less that at T, without the control; None for too few seeds, like the next two.
        cost_controlled: the same with the control.
        removed: ``cost`` less ``cost_controlled``.
        adjusted: the p of these three, adjusted for all temperatures and controls (Holm).
        verdict: how much of the cost the control removes: "all", "part", "none", or "more" if T is then better than
            T = 1; otherwise "no cost" or "cannot tell".
    """

    temperature: float
    plain: Effect
    control: Effect
    cost: Difference | None
    cost_controlled: Difference | None
    removed: Difference | None
    adjusted: tuple[float, float, float] | None = None
    verdict: str = "cannot tell"

    @property
    def name(self) -> str:
        """``match``, the learning rate as an option, or the name of the optimiser."""
        if self.control.matched:
            return "match"
        if self.control.optimiser == self.plain.optimiser:
            return f"--lr {self.control.learning_rate:g}"
        return str(self.control.optimiser)


def effects(studies: Sequence[Study]) -> list[Effect]:
    """The effects in studies; within each study the most smoothed teacher first, and an unknown α last."""
    found = []
    for study in studies:
        metric = study.metrics[0].key
        for alpha in sorted(study.smoothings, key=lambda alpha: -1 if alpha is None else alpha, reverse=True):
            values: dict[float, Mapping[Hashable, float]] = {
                T: {pair(run): run.metrics[metric] for run in runs if run.metrics.get(metric) is not None}
                for (smoothing, T), runs in study.students.items()
                if smoothing == alpha
            }
            if values := {T: each for T, each in values.items() if each}:
                found.append(Effect(study, alpha, values))
    return found


def step_controls(found: Sequence[Effect]) -> list[StepControl]:
    """The costs of temperatures without and with each control of the size of the steps.

    They are ``match``, an optimiser that normalises its steps, and, for the smallest learning rate, each larger one. At
    T = 1 ``match`` is the paper's loss, so students at T = 1 without it count for both.

    Args:
        found: the effects, from :func:`effects`.
    """
    controls = []
    for plain in found:
        smallest = not any(_has_larger_rate(each, plain) for each in found if 1.0 in each.values)
        for control in found if not plain.matched and 1.0 in plain.values else ():
            if _differs_in_steps_alone(plain, control) or (smallest and _has_larger_rate(plain, control)):
                at_one = control.values.get(1.0) or (plain.values[1.0] if control.matched else None)
                higher = sorted(T for T in plain.values.keys() & control.values.keys() if T > 1)
                controls += [_control(plain, control, T, at_one) for T in higher if at_one]
    return _judged(controls)


def _control(plain: Effect, control: Effect, T: float, at_one: Mapping[Hashable, float]) -> StepControl:
    first, later, controlled = plain.values[1.0], plain.values[T], control.values[T]
    cost = planned_difference([(1, first), (-1, later)])
    cost_controlled = planned_difference([(1, at_one), (-1, controlled)])
    if at_one == first:  # both costs include the same students, which cancel
        removed = planned_difference([(1, controlled), (-1, later)])
    else:
        removed = planned_difference([(1, first), (-1, later), (-1, at_one), (1, controlled)])
    return StepControl(T, plain, control, cost, cost_controlled, removed)


def _judged(controls: Sequence[StepControl]) -> list[StepControl]:
    """Add the adjusted p and the verdict to each."""
    tests = [(each.cost, each.cost_controlled, each.removed) for each in controls]
    adjusted = iter(holm([one.p for each in tests for one in each if one is not None]))
    judged = []
    for control, each in zip(controls, tests, strict=True):
        p = [next(adjusted) if one is not None else 1.0 for one in each]
        known = None not in each
        judged.append(
            StepControl(
                control.temperature,
                control.plain,
                control.control,
                *each,
                adjusted=(p[0], p[1], p[2]) if known else None,
                verdict=_verdict(control, p) if known else "cannot tell",
            )
        )
    return judged


def _verdict(control: StepControl, p: Sequence[float]) -> str:
    cost, controlled, removed = control.cost, control.cost_controlled, control.removed
    if cost is None or controlled is None or removed is None:
        return "cannot tell"
    if cost.mean <= 0 or p[0] > LEVEL:
        return "no cost"
    if removed.mean <= 0 or p[2] > LEVEL:
        return "none"
    if p[1] > LEVEL:
        return "all"
    return "part" if controlled.mean > 0 else "more"


def _differing(one: Effect, other: Effect) -> set[str]:
    """The settings in which two effects differ, and what else differs: the kind, data, models, α."""
    ours, theirs = (
        {
            **each.study.first.settings,
            "kind": each.study.first.kind,
            "data": each.study.first.data,
            "student": each.study.first.model,
            "teacher": each.study.teacher,
            "α": each.alpha,
        }
        for each in (one, other)
    )
    return {name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)}


def _has_larger_rate(plain: Effect, control: Effect) -> bool:
    """Whether two effects differ only in the learning rate, that of the control being the larger."""
    one, other = plain.learning_rate, control.learning_rate
    larger = one is not None and other is not None and one < other
    return larger and plain.plain_steps and _differing(plain, control) <= set(LEARNING_RATE)


def _differs_in_steps_alone(plain: Effect, control: Effect) -> bool:
    """Whether two effects differ only in the gradient scale, or only in the optimiser and its settings."""
    differing = _differing(plain, control)
    if control.matched:
        return bool(differing) and differing <= set(GRADIENT_SCALE)
    allowed = (*OPTIMISER, *OPTIMISATION)
    normalised = control.optimiser is not None and control.optimiser not in PLAIN_OPTIMISERS
    named = [(name, name.split(".")[-1]) for name in differing]
    return plain.plain_steps and normalised and all(any(each.startswith(allowed) for each in both) for both in named)
