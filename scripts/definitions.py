"""Read the experiments from ``experiments/``: the tables and figures of the paper, and studies of our own.

An experiment is in the paper's terms: data, students, α, T, seeds. A scale gives each of these terms a meaning: which
data set, which models, how they are trained (``scale_definitions.py``). Every experiment runs at every scale that has
its data.
"""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from lskd.io.errors import input_error
from lskd.io.files import parse_yaml
from lskd.io.schema import T, convert

ROOT = Path(__file__).resolve().parent.parent
EXPERIMENTS = ROOT / "scripts" / "experiments"
PLAIN = "plain"  # the variant without options: students as the paper trains them
# Variants that equal another at T = 1, and so have that one's students there.
AT_T_1 = {"match": PLAIN, "wttm": PLAIN, "teacher-only": PLAIN, "epochs-x4-match": "epochs-x4"}
TRAINS = ("accuracy", "bleu", "eta", "pairwise_eta", "class_accuracy", "projection", "study")  # these need students
SHOWS = (*TRAINS, "entropy", "agreement", "soft_outputs", "mean_outputs")

Whole = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
Value = int | float  # as written: a command line has 1 as 1


def trained_as(variant: str, T: float | None) -> str:
    """The variant whose students at T are those of this one.

    >>> trained_as("match", 1), trained_as("match", 64)
    ('plain', 'match')
    """
    return AT_T_1.get(variant, variant) if T == 1 else variant


@dataclass(frozen=True)
class Experiment:
    """A table or a figure of the paper, or a study of our own.

    Attributes:
        id: the paper's number, such as ``2A`` or ``A.1``; for a study its name, such as ``study-losses``.
        kind: ``table``, ``figure`` or ``study``.
        shows: one of :data:`SHOWS`.
        data: the data set, as printed.
        students: models, as printed; empty if only teachers are measured.
        label_smoothing: α of the teachers.
        temperature: T of the students, or of the outputs that are measured.
        equal_entropy: for each T of the smoothed teacher here, also the T at which the one without smoothing has the
            same entropy.
        classes: the name of a list of classes of the scale.
        seeds: students of each kind.
        recipes: of translation: the ways to distil, each a result of its own.
        distill_type: ``logit`` or ``overhaul``.
        entropy: the table also has the entropies of the teachers' outputs.
        published: of a figure, what the one in the paper shows.
        notes: differences from the paper at every scale.
        title: of a study.
        question: that a study answers.
        variants: of a study: the ways to train students, as the scale names them, and :data:`PLAIN`.
        only: for variants that are not trained at every T: the T at which they are.
        without_teacher: of a study: α of the labels of models without a teacher, in each variant that does not change
            how a teacher is followed.
        eta: of a study of images: the T between which η is measured, from the first to each other one, if the scale
            has sets; empty for none.
    """

    id: str
    kind: Literal["table", "figure", "study"]
    shows: str
    data: str
    students: tuple[str, ...] = ()
    label_smoothing: tuple[Value, ...] = ()
    temperature: tuple[Value, ...] = ()
    equal_entropy: tuple[Value, ...] = ()
    classes: str | None = None
    seeds: Positive = 1
    recipes: tuple[str, ...] = ("paper",)
    distill_type: Literal["logit", "overhaul"] = "logit"
    entropy: bool = False
    published: str | None = None
    notes: tuple[str, ...] = ()
    title: str | None = None
    question: str | None = None
    variants: tuple[str, ...] = (PLAIN,)
    only: dict[str, tuple[Value, ...]] = field(default_factory=dict)
    without_teacher: tuple[Value, ...] = ()
    eta: tuple[Value, ...] = ()

    @property
    def name(self) -> str:
        """Its name in the paper; of a study its id."""
        if self.kind == "study":
            return self.id
        if self.id == "E":
            return "Appendix E"
        return f"{self.kind.capitalize()} {self.id}"


def read_yaml(path: Path, argument: str) -> dict[str, Any]:
    """Read the settings in a YAML file.

    Raises:
        InputError: it cannot be read, or does not hold settings.
    """
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise input_error(argument, path, f"cannot be read as YAML: {error}") from None
    if not isinstance(content, dict):
        raise input_error(argument, path, "must hold settings, one `name: value` a line")
    return content


def validated(content: dict[str, Any], kind: type[T], argument: str, where: object) -> T:
    """Convert settings to a class whose fields are all that they may have.

    Raises:
        InputError: an unknown or missing setting, or a value of another type or out of range.
    """
    info: Any = msgspec.inspect.type_info(kind)
    fields = {field.encode_name: field.required for field in info.fields}
    if odd := content.keys() - fields.keys():
        raise input_error(argument, where, f"has no setting {min(odd)}; must be of {', '.join(sorted(fields))}")
    if missing := {name for name, required in fields.items() if required} - content.keys():
        raise input_error(argument, where, f"lacks {min(missing)}")
    return convert(content, kind, f"{argument} {where}")


def read_experiments(directory: Path = EXPERIMENTS) -> dict[str, Experiment]:
    """Read all experiments, by id: tables and figures in the paper's order, then studies.

    Raises:
        InputError: a definition is invalid.
    """
    experiments = {}
    for path in directory.glob("*.yaml"):
        kind, _, name = path.stem.partition("-")
        name = path.stem if kind == "study" else name
        content = read_yaml(path, "experiment") | {"id": name, "kind": kind}
        experiments[name] = validated(content, Experiment, "experiment", path)
        if experiments[name].shows not in SHOWS:
            raise input_error(f"experiment {path}: shows", content["shows"], f"must be one of {', '.join(SHOWS)}")
        _check_study(experiments[name], path)
    return dict(sorted(experiments.items(), key=lambda item: _order(item[1])))


def _check_study(experiment: Experiment, path: Path) -> None:
    """Check what only studies have. Raises InputError."""
    where = f"experiment {path}"
    if (experiment.kind == "study") != (experiment.shows == "study"):
        raise input_error(f"{where}: shows", experiment.shows, "must be study in study-NAME.yaml, and only there")
    if experiment.kind == "study" and not (experiment.title and experiment.question):
        raise input_error(where, "title, question", "must be there")
    for variant, temperatures in experiment.only.items():
        if variant not in experiment.variants:
            raise input_error(f"{where}: only", variant, f"must be of {', '.join(experiment.variants)}")
        if not set(temperatures) <= set(experiment.temperature):
            raise input_error(f"{where}: only: {variant}", list(temperatures), "must be of the temperatures")
    if experiment.eta and (len(experiment.eta) < 2 or not set(experiment.eta) <= set(experiment.temperature)):
        raise input_error(f"{where}: eta", list(experiment.eta), "must be two or more of the temperatures")


def _order(experiment: Experiment) -> tuple[bool, str, bool, int, str]:
    """Main tables and figures first, then the appendices by letter, then studies by name."""
    if experiment.kind == "study":
        return True, experiment.id, False, 0, ""
    letter, _, number = experiment.id.rpartition(".")
    if experiment.id == "E":
        letter, number = "E", "1"
    digits = "".join(re.findall(r"^\d+", number)) or "0"
    return False, letter, experiment.kind == "figure", int(digits), number


def chosen(names: Sequence[str], experiments: dict[str, Experiment]) -> list[Experiment]:
    """The experiments with these names, each once.

    Args:
        names: ids in any case, with or without ``table`` or ``figure``; ``all``, the paper's; or ``studies``, ours.
        experiments: by id.

    Raises:
        InputError: there is no such experiment.
    """
    found: dict[str, Experiment] = {}
    plain = {name.lower(): name for name in experiments}
    for name in names:
        if name.lower() in ("all", "studies"):
            ours = name.lower() == "studies"
            found |= {id: each for id, each in experiments.items() if (each.kind == "study") == ours}
            continue
        key = re.sub(r"^(table|figure|fig\.?|appendix|app\.?)[\s_-]*", "", name.strip().lower())
        key = re.sub(r"^study[\s_]+", "study-", key)
        if key not in plain:
            near = difflib.get_close_matches(key, plain, n=3, cutoff=0.4)
            such = (
                f"one such as {', '.join(plain[each] for each in near)}"
                if near
                else f"one of {', '.join(plain.values())}"
            )
            valid = f"must be all, studies, or {such}"
            raise input_error("TABLE", name, valid)
        found[plain[key]] = experiments[plain[key]]
    return list(found.values())
