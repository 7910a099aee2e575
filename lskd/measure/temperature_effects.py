"""Effects of the temperature on students, from their run records: the best T, the cost of a T, and what removes it.

An effect compares the students of one teacher (or of teachers that differ only in their seed), trained with the same
settings. Two effects whose settings differ only in the size of the steps show whether a high temperature costs accuracy
because of its soft targets or because its gradients are small: with ``kd_gradient_scale = match`` each gradient has the
size that it would have at T = 1, optimisers such as Adam normalise their steps, a larger learning rate enlarges them.
"""

import itertools
import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

from lskd.measure.comparisons import LEAST_SEEDS, LEVEL, Comparison, Difference, Groups, holm, planned_difference
from lskd.records.spread import Spread, over_seeds
from lskd.records.studies import Study

GRADIENT_SCALE = ("kd_gradient_scale", "criterion.kd_gradient_scale")  # images, translation
# What timm's and fairseq's optimisers have in their names if their step size is proportional to the gradient's.
PLAIN_OPTIMISERS = ("sgd", "momentum", "nesterov", "nag")
OPTIMISER = ("opt", "optimizer")
SECTIONS = ("optimizer.", "lr_scheduler.")  # fairseq's, of settings that may change with the optimiser
LEARNING_RATE = ("lr", "min_lr", "warmup_lr")  # settings that may change with the learning rate
# Settings that may change with the optimiser.
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
        """timm's ``lr``, of images; None if the record does not have it."""
        rate = json.loads(self.study.first.settings.get("lr", "null"))
        return rate if isinstance(rate, int | float) else None

    @property
    def plain_steps(self) -> bool:
        """Whether the step size is proportional to the gradient's: neither matched nor normalised by the optimiser."""
        return not self.matched and self.optimiser is not None and not self.normalised

    @property
    def normalised(self) -> bool:
        """Whether the optimiser normalises its steps."""
        return self.optimiser is not None and not any(name in self.optimiser for name in PLAIN_OPTIMISERS)

    def usable(self, T: float) -> bool:
        """Whether there are enough students for the cost of a temperature."""
        return all(len(self.values.get(each, ())) >= LEAST_SEEDS for each in (1.0, T))


@dataclass(frozen=True)
class StepControl:
    """The cost of a temperature without and with a control for the step size.

    Attributes:
        temperature: T, above 1.
        plain: the effect without the control.
        control: the effect with ``match``, a larger learning rate or an optimiser that normalises its steps.
        at_one: the control's results at T = 1, or those without it if it changes nothing there.
        cost: the result at T = 1 less that at T, without the control; None for too few seeds, like the next three.
        cost_controlled: the same with the control.
        removed: ``cost`` less ``cost_controlled``.
        gained: the result at T with the control less that without; ``removed`` where both have the same students at
            T = 1.
        verdict: how much of the cost the control removes: "all", "part", "none", or "more" if T is then better than
            T = 1; otherwise "no cost" or "cannot tell". It removes some if ``removed`` and ``gained`` are both above 0
            beyond chance, for a cost also falls if T = 1 gets worse. p is adjusted for all costs of all temperatures
            and controls (Holm).
    """

    temperature: float
    plain: Effect
    control: Effect
    at_one: Mapping[Hashable, float]
    cost: Difference | None
    cost_controlled: Difference | None
    removed: Difference | None
    gained: Difference | None
    verdict: str = "cannot tell"

    @property
    def name(self) -> str:
        """``match``, the learning rate as an option, or the optimiser with its learning rate."""
        if self.control.matched:
            return "match"
        rate = self.control.learning_rate
        option = "" if rate is None else f"--lr {rate:g}"
        if self.control.optimiser == self.plain.optimiser:
            return option
        return f"{self.control.optimiser} {option}".strip()

    @property
    def own_at_one(self) -> bool:
        """Whether the control has students at T = 1 of its own."""
        return self.at_one != self.plain.values[1.0]


def effects(studies: Sequence[Study]) -> list[Effect]:
    """The effects in studies; within each study the most smoothed teacher first, and an unknown α last."""
    found = []
    for study in studies:
        metric = study.metrics[0].key
        alphas = sorted(study.smoothings, key=lambda alpha: -1 if alpha is None else alpha, reverse=True)
        found += [Effect(study, alpha, values) for alpha in alphas if (values := study.values(alpha, metric))]
    return found


def step_controls(found: Sequence[Effect]) -> list[StepControl]:
    """The costs of temperatures without and with each control of the size of the steps.

    They are ``match``, an optimiser that normalises its steps, and, of images, a larger learning rate. The latter two
    have students at T = 1 of their own, and are compared with the smallest learning rate that has enough students. At
    T = 1 ``match`` is the paper's loss, so students at T = 1 without it count for both.

    Args:
        found: the effects, from :func:`effects`.
    """
    controls = []
    for plain, control in itertools.product(found, found):
        if not _controls(plain, control):
            continue
        higher = sorted(T for T in plain.values.keys() & control.values.keys() if T > 1)
        compared = [T for T in higher if control.matched or plain is _baseline(found, control, T)]
        controls += [_control(plain, control, T) for T in compared]
    return _judged(controls)


def _baseline(found: Sequence[Effect], control: Effect, T: float) -> Effect:
    """Of the effects that a control is for, that with the smallest learning rate, if possible with enough students."""
    known = [each for each in found if T in each.values and _controls(each, control)]
    return min(known, key=lambda each: (not each.usable(T), each.learning_rate or 0.0))


def _control(plain: Effect, control: Effect, T: float) -> StepControl:
    first, later, controlled = plain.values[1.0], plain.values[T], control.values[T]
    at_one = control.values.get(1.0) or first
    cost = planned_difference([(1, first), (-1, later)])
    cost_controlled = planned_difference([(1, at_one), (-1, controlled)])
    gained = planned_difference([(1, controlled), (-1, later)])
    # Where both costs include the same students at T = 1, these cancel.
    same = at_one == first
    removed = gained if same else planned_difference([(1, first), (-1, later), (-1, at_one), (1, controlled)])
    return StepControl(T, plain, control, at_one, cost, cost_controlled, removed, gained)


def _judged(controls: Sequence[StepControl]) -> list[StepControl]:
    """Add the verdict to each."""
    tests = [_tests(each) for each in controls]
    p = [(each[0].p, each[1].p, max(each[2].p, each[3].p)) for each in tests if each]
    adjusted = iter(holm([value for each in p for value in each]))
    judged = []
    for control, each in zip(controls, tests, strict=True):
        if each is None:
            judged.append(control)
        else:
            judged.append(replace(control, verdict=_verdict(*each, [next(adjusted) for _ in range(3)])))
    return judged


def _tests(control: StepControl) -> tuple[Difference, Difference, Difference, Difference] | None:
    """The cost, that with the control, what it removes and what T gains by it; None where seeds are too few."""
    cost, controlled, removed, gained = control.cost, control.cost_controlled, control.removed, control.gained
    if cost is None or controlled is None or removed is None or gained is None:
        return None
    return cost, controlled, removed, gained


def _verdict(
    cost: Difference, controlled: Difference, removed: Difference, gained: Difference, p: Sequence[float]
) -> str:
    """How much of a cost a control removes, by the adjusted p of the cost, of what is left and of what is removed."""
    if cost.difference <= 0 or p[0] > LEVEL:
        return "no cost"
    if min(removed.difference, gained.difference) <= 0 or p[2] > LEVEL:
        return "none"
    if p[1] > LEVEL:
        return "all"
    return "part" if controlled.difference > 0 else "more"


def _controls(plain: Effect, control: Effect) -> bool:
    """Whether students differ from plain ones in the size of their steps alone, and have some at T = 1 to compare."""
    if plain.matched or 1.0 not in plain.values:
        return False
    differing = _differing(plain, control)
    if control.matched:
        return bool(differing) and differing <= set(GRADIENT_SCALE)
    if 1.0 not in control.values:
        return False
    if not control.normalised:
        return _has_larger_rate(plain, control)
    return plain.plain_steps and all(
        name in OPTIMISER or name.startswith(SECTIONS) or name.split(".")[-1].startswith(OPTIMISATION)
        for name in differing
    )


def _has_larger_rate(plain: Effect, control: Effect) -> bool:
    """Whether two effects of plain steps differ only in the learning rate, that of the second being the larger."""
    one, other = plain.learning_rate, control.learning_rate
    larger = one is not None and other is not None and one < other
    return larger and plain.plain_steps and _differing(plain, control) <= set(LEARNING_RATE)


def _differing(one: Effect, other: Effect) -> set[str]:
    """The settings in which two effects differ, and ``students`` if their kind, data, models or α do."""
    ours, theirs = one.study.first.settings, other.study.first.settings
    differing = {name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)}
    about, about_other = (
        (each.study.first.kind, each.study.first.record.data.get("fingerprint"), each.study.first.data)
        + (each.study.first.model, each.study.teacher, each.alpha)
        for each in (one, other)
    )
    return differing if about == about_other else differing | {"students"}
