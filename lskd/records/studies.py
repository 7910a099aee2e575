"""Studies: groups of comparable runs, summarised over seeds.

The runs of a study are comparable: students of one architecture, distilled on the same data from teachers of one
architecture with the same settings, except α of the teacher, T and the seed.
"""

import json
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from lskd.io.errors import input_error
from lskd.records.found_runs import METRICS, Metric, Run
from lskd.records.spread import Spread, spread_of_known

Key = TypeVar("Key")
TIE = 0.005  # smaller differences do not show in two decimals
# Readable names of settings in titles, and the value to show if a record does not have the setting.
SETTING_NAMES = {
    "kd_loss": ("loss", "kl"),
    "kd_nckd_weight": ("weight of the other classes", "8"),
    "kd_gradient_scale": ("gradient scale", "t2"),
    "T of the student": ("T of the student", "that of the teacher"),
    "top-k of the teacher": ("top-k of the teacher", "all"),
    "teacher_topk": ("top-k of the teacher", "all"),
    "opt": ("optimiser", "off"),
    "optimizer._name": ("optimiser", "off"),
    "lr": ("learning rate", "off"),
    "weight_decay": ("weight decay", "off"),
}
MOST_NAMED = 3  # settings in a title
# Beginnings of the names of settings that a model without a teacher lacks, or has other values of.
OF_DISTILLATION = ("kd_", "task_loss", "criterion.", "task._name", "β", "top-k", "T of the student", "α of its own")
TRAINS_NOTHING = ("task.eval_",)  # likewise, of those that change no training
# Settings that have no effect at T = 1: the loss is then the paper's.
PAPERS_AT_ONE = {"kd_loss": '"wttm"', "kd_gradient_scale": '"match"', "T of the student": "1.0"}


class StudyKey(NamedTuple):
    """What the runs of a study share.

    Attributes:
        kind: ``translation`` or ``vision``.
        data: fingerprint of the data.
        teacher: the teachers' architecture; None for runs without a teacher.
        student: the students' architecture.
        settings: their settings, sorted; empty for runs without a teacher, which may differ in theirs.
    """

    kind: str
    data: str | None
    teacher: str | None
    student: str
    settings: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, run: Run, teacher: str | None) -> "StudyKey":
        """The key of a student's study, or without a teacher of the study of a model alone."""
        settings = () if teacher is None else tuple(sorted(run.settings.items()))
        return cls(run.kind, run.record.data.get("fingerprint"), teacher, run.model, settings)


@dataclass
class Study:
    """Comparable students, and their teachers.

    Attributes:
        first: one of its runs, for the properties that all share.
        teacher: the teachers' architecture; None for runs without a teacher.
        students: runs by α of the teacher and T, in order of seeds.
        teachers: runs of the teachers, by α.
        alone: runs of the student's architecture without a teacher, by α of their labels. Those that are trained like
            the students of a study are in no other; the rest are in every one.
        setting: settings that distinguish it from an otherwise equal study, in words; empty if none does.
    """

    first: Run
    teacher: str | None
    students: dict[tuple[float | None, float], list[Run]] = field(default_factory=dict)
    teachers: dict[float | None, list[Run]] = field(default_factory=dict)
    alone: dict[float | None, list[Run]] = field(default_factory=dict)
    setting: str = ""

    @property
    def runs(self) -> list[Run]:
        """All runs, teachers first."""
        return [run for part in (self.teachers, self.students, self.alone) for runs in part.values() for run in runs]

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics of its runs."""
        return METRICS[self.first.kind]

    @property
    def unit(self) -> str:
        """The unit of the first metric: ``%`` or ``BLEU``."""
        return "BLEU" if self.first.kind == "translation" else "%"

    @property
    def subject(self) -> str:
        """Data, and teacher → student."""
        taught = f"{self.teacher} → {self.first.model}" if self.teacher else f"{self.first.model}, without a teacher"
        return f"{self.first.data}: {taught}"

    @property
    def title(self) -> str:
        """The subject, and distinguishing settings."""
        return f"{self.subject}, {self.setting}" if self.setting else self.subject

    @property
    def smoothings(self) -> list[float | None]:
        """α of the teachers, increasing, unknown ones last."""
        return sorted({alpha for alpha, _ in self.students} | set(self.teachers), key=unknown_last)

    @property
    def temperatures(self) -> list[float]:
        """T of the students, increasing."""
        return sorted({temperature for _, temperature in self.students})

    def values(self, alpha: float | None, metric: str) -> dict[float, dict[Hashable, float]]:
        """The metric of the students of one α by T, increasing, then by :func:`pair`; without T where none has it."""
        students = {T: self.students.get((alpha, T), []) for T in self.temperatures}
        values: dict[float, dict[Hashable, float]] = {
            T: {pair(run): run.metrics[metric] for run in runs if run.metrics.get(metric) is not None}
            for T, runs in students.items()
        }
        return {T: each for T, each in values.items() if each}

    def spread(self, alpha: float | None, temperature: float | None, metric: str) -> Spread | None:
        """Spread of students over seeds, or of teachers if ``temperature`` is None; None if no run has the metric.

        For teachers whose own runs were not given, the values come from their students' records, each teacher once.
        """
        if temperature is not None:
            return spread(self.students.get((alpha, temperature), []), metric)
        if alpha in self.teachers:
            return spread(self.teachers[alpha], metric)
        valid: dict[str | None, dict[str, Any]] = {}
        for (smoothing, _), runs in self.students.items():
            if smoothing == alpha:
                valid |= {teacher_of(run): run.teacher.get("valid", {}) for run in runs}
        return spread_of_known(metrics.get(metric) for metrics in valid.values())


def unknown_last(alpha: float | None) -> tuple[bool, float]:
    """A sort key for α that puts unknown ones last."""
    return alpha is None, alpha or 0.0


def pair(run: Run) -> tuple[Any, ...]:
    """The key by which students at different T are paired: the seeds and the teacher."""
    data_seed = run.record.configuration.get("host", {}).get("data_seed")
    return run.record.seed, data_seed, teacher_of(run)


def teacher_of(run: Run) -> str | None:
    """What identifies a student's teacher: the fingerprint of its weights, or its paths if there is none."""
    return run.teacher.get("fingerprint") or ", ".join(run.teacher.get("paths") or []) or None


def spread(runs: Iterable[Run], metric: str) -> Spread | None:
    """Mean, standard deviation and n of a metric over the runs that have it; None if none has."""
    return spread_of_known(run.metrics.get(metric) for run in runs)


def group(runs: Sequence[Run]) -> list[Study]:
    """Group runs into studies, images before translations; students without a temperature are left out.

    Raises:
        InputError: the same student twice, that is, equal settings, teacher and seed in two directories.
    """
    studies: dict[StudyKey, Study] = {}
    for run in runs:
        if run.temperature is not None:
            teachers = [each for each in runs if not each.record.teacher and is_teacher(each, run)]
            model = run.teacher.get("model") or (teachers[0].model if teachers else "teacher")
            study = studies.setdefault(StudyKey.of(run, model), Study(run, model))
            _insert(study.students, (run.label_smoothing, run.temperature), run)
            for each in teachers:
                _insert(study.teachers, each.label_smoothing, each)
    _add_models_alone(studies, runs)
    _tell_apart(list(studies.values()))
    _add_shared_students(studies)
    for study in studies.values():
        study.students = dict(sorted(study.students.items(), key=lambda item: (unknown_last(item[0][0]), item[0][1])))
        _check_once(study)
    return sorted(studies.values(), key=lambda study: (study.first.kind != "vision", study.teacher is None))


def _add_models_alone(studies: dict[StudyKey, Study], runs: Sequence[Run]) -> None:
    """Add models without a teacher to the studies of the same model, or else to a study of their own."""
    placed = {each.directory for study in studies.values() for each in study.runs}
    for run in runs:
        if run.directory in placed or run.learns_without_temperature:
            continue
        alone = StudyKey.of(run, None)
        hosts = [study for key, study in studies.items() if key._replace(teacher=None, settings=()) == alone]
        alike = [study for study in hosts if _trained_alike(run, study.first)]
        for study in alike or hosts or [studies.setdefault(alone, Study(run, None))]:
            _insert(study.alone, run.label_smoothing, run)


def _trained_alike(one: Run, other: Run) -> bool:
    """Whether two runs share all settings of training but those of distillation, such as the learning rate."""
    names = one.settings.keys() | other.settings.keys()
    return all(
        one.settings.get(name) == other.settings.get(name)
        for name in names
        if not name.startswith((*OF_DISTILLATION, *TRAINS_NOTHING))
    )


def _insert(runs: dict[Key, list[Run]], key: Key, run: Run) -> None:
    """Add a run under its key, in order of seeds, once."""
    inserted = runs.setdefault(key, [])
    if run not in inserted:
        inserted.append(run)
        inserted.sort(key=lambda each: (each.record.seed, str(each.directory)))


def is_teacher(run: Run, student: Run) -> bool:
    """Whether a run is a student's teacher, by the end of its checkpoint's path, since directories may be moved."""
    ends = {tuple(Path(path).parts[-3:-1]) for path in student.teacher.get("paths", [])}
    return tuple(run.directory.resolve().parts[-2:]) in ends and run.label_smoothing == student.label_smoothing


def _check_once(study: Study) -> None:
    """Raise InputError if a study has the same run twice."""
    for runs in study.students.values():
        seen: dict[tuple[Any, ...], Run] = {}
        for run in runs:
            other = seen.setdefault(pair(run), run)
            if other is not run:
                raise input_error("runs", run.directory, f"is the same run as {other.directory}; must be given once")
    for runs in study.teachers.values():
        counts = Counter(run.record.seed for run in runs)
        if twice := [run for run in runs if counts[run.record.seed] > 1]:
            raise input_error(
                "runs", twice[1].directory, f"is the same run as {twice[0].directory}; must be given once"
            )


def _tell_apart(studies: Sequence[Study]) -> None:
    """Say of studies of one subject in which settings they differ."""
    for subject in {study.subject for study in studies}:
        same = [study for study in studies if study.subject == subject]
        names = {name for study in same for name in study.first.settings}
        differing = [name for name in names if len({study.first.settings.get(name) for study in same}) > 1]
        known = list(SETTING_NAMES)
        differing.sort(key=lambda name: (known.index(_own(name)) if _own(name) in SETTING_NAMES else len(known), name))
        for study in same:
            said = list(in_words(study.first.settings, differing).items())
            # A setting that a study lacks is named only if it is the first difference, such as the loss.
            named = [f"{word} = {value}" for place, (word, (value, has)) in enumerate(said) if has or place == 0]
            study.setting = ", ".join(named[:MOST_NAMED])


def in_words(settings: Mapping[str, str], names: Iterable[str]) -> dict[str, tuple[str, bool]]:
    """The readable names of settings, with their values and whether they are set; of equal names the first counts.

    >>> in_words({"kd_loss": '"mse"', "lr": "0.0030"}, ["kd_loss", "kd_gradient_scale", "lr", "mixup"])
    {'loss': ('mse', True), 'gradient scale': ('t2', False), 'learning rate': ('0.003', True), 'mixup': ('off', False)}
    """
    said: dict[str, tuple[str, bool]] = {}
    for name in names:
        words, missing = SETTING_NAMES.get(_own(name), (name, "off"))
        value = json.loads(settings.get(name, "null"))
        text = value if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else settings.get(name)
        said.setdefault(words, (text or missing, name in settings))
    return said


def _own(name: str) -> str:
    """A setting's own name, without the section of fairseq's configuration."""
    return name if name in SETTING_NAMES else name.rpartition(".")[2]


def _add_shared_students(studies: Mapping[StudyKey, Study]) -> None:
    """Give studies without students at T = 1 those of the paper's loss, if their settings have no effect at T = 1."""
    for key, study in studies.items():
        settings = study.first.settings
        kept = {name: value for name, value in settings.items() if PAPERS_AT_ONE.get(_own(name)) != value}
        changing = any(_own(name) in ("kd_loss", "kd_temperature_schedule") for name in kept)
        if changing or kept == settings:
            continue
        if paper := studies.get(key._replace(settings=tuple(sorted(kept.items())))):
            for alpha in {alpha for alpha, _ in study.students}:
                if (alpha, 1.0) in paper.students:
                    study.students.setdefault((alpha, 1.0), list(paper.students[alpha, 1.0]))
