"""Read the experiments of the paper and the scales at which they run, from ``experiments/`` and ``scales/``.

An experiment is a table or a figure of the paper in the paper's terms: data, students, α, T, seeds. A scale gives each
of these terms a meaning: which data set, which models, how they are trained. Every experiment runs at every scale that
has its data.
"""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import msgspec
from msgspec import Meta, field

from lskd.io.errors import input_error
from lskd.io.files import parse_yaml
from lskd.io.schema import T, convert

ROOT = Path(__file__).resolve().parent.parent
EXPERIMENTS = ROOT / "scripts" / "experiments"
SCALES = ROOT / "scripts" / "scales"
TRAINS = ("accuracy", "bleu", "eta", "pairwise_eta", "class_accuracy", "projection")  # these need students
SHOWS = (*TRAINS, "entropy", "agreement", "soft_outputs", "mean_outputs")

Whole = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
Value = int | float  # as written: a command line has 1 as 1


@dataclass(frozen=True)
class Experiment:
    """A table or a figure of the paper.

    Attributes:
        id: as the paper numbers it, such as ``2A`` or ``A.1``.
        kind: ``table`` or ``figure``.
        shows: one of :data:`SHOWS`.
        data: the data set, as printed.
        students: models, as printed; empty if only teachers are measured.
        label_smoothing: α of the teachers.
        temperature: T of the students, or of the outputs that are measured.
        matched: for each T of the smoothed teacher here, also the T at which the one without smoothing has the same
            entropy.
        classes: the name of a list of classes of the scale.
        seeds: students of each kind.
        recipes: of translation: the ways to distil, each a result of its own.
        distill_type: ``logit`` or ``overhaul``.
        entropy: the table also has the entropies of the teachers' outputs.
        published: of a figure, what the paper's shows.
        notes: differences to the paper at every scale.
    """

    id: str
    kind: Literal["table", "figure"]
    shows: str
    data: str
    students: tuple[str, ...] = ()
    label_smoothing: tuple[Value, ...] = ()
    temperature: tuple[Value, ...] = ()
    matched: tuple[Value, ...] = ()
    classes: str | None = None
    seeds: Positive = 1
    recipes: tuple[str, ...] = ("paper",)
    distill_type: Literal["logit", "overhaul"] = "logit"
    entropy: bool = False
    published: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its name in the paper."""
        if self.id == "E":
            return "Appendix E"
        return f"{self.kind.capitalize()} {self.id}"


class Limits(TypedDict, total=False):
    """Limits of a job on a cluster."""

    minutes: Positive
    memory_gb: Positive


class Slurm(TypedDict):
    """Limits of jobs that train a model, and of other jobs."""

    train: Limits
    other: Limits


@dataclass(frozen=True)
class Scale:
    """The meaning of the paper's terms at one size.

    Attributes:
        name: of the scale.
        gpu: GPUs of a job that trains or runs a model.
        threads: processor threads of such a job.
        slurm: limits of jobs on a cluster.
        data: settings of each data set, by the paper's name.
        together: one job for all temperatures of a teacher, student and seed, instead of a job for each.
        seeds: students of each kind; None for the experiment's own number.
    """

    name: str
    gpu: Whole
    threads: Positive
    slurm: Slurm
    data: dict[str, dict[str, Any]]
    together: bool = False
    seeds: Positive | None = None


class _DataSet(msgspec.Struct, kw_only=True):
    """The settings of a data set, of which dictionaries are options of commands."""

    kind: str
    name: str
    prepare: list[Any]
    first_seed: Whole
    train: dict[str, Any]
    seeds: Positive | None = None  # students of each kind, in the place of the scale's number
    source: str | None = None
    data_dir: str | None = None
    notes: list[str] = []


class _Images(_DataSet, kw_only=True):
    images: dict[str, Any]
    teacher: dict[str, Any]
    student: dict[str, Any] = {}
    models: dict[str, dict[str, Any]] = {}  # none: others' models start from those that are trained on it
    record: dict[str, Any] | None = None
    soft_outputs: dict[str, Any] | None = None
    project: dict[str, Any] | None = None
    sets: dict[str, Any] | None = None
    classes: dict[str, list[str]] = {}
    agreement: str | None = None
    matched: dict[Value, Value] = {}


class _ImageTraining(msgspec.Struct):
    """The settings of a teacher or a student that are not options of its training."""

    epochs: Positive


class _ImageModel(_ImageTraining):
    model: str


class _Translation(_DataSet, kw_only=True):
    recipes: dict[str, dict[str, Any]]


class _TranslationTraining(msgspec.Struct):
    epochs: Positive = field(name="max-epoch")


class _Transformer(msgspec.Struct):
    name: str
    layers: Positive
    dim: Positive
    ffn: Positive
    heads: Positive


class _Recipe(msgspec.Struct):
    teacher: _Transformer
    student: _Transformer
    distil: dict[str, Any] = {}


def read_yaml(path: Path, argument: str) -> dict[str, Any]:
    """Read the settings in a YAML file.

    Raises:
        InputError: it cannot be read, or holds something else.
    """
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise input_error(argument, path, f"cannot be read as YAML: {error}") from None
    if not isinstance(content, dict):
        raise input_error(argument, path, "must hold settings, one `name: value` a line")
    return content


def checked(content: dict[str, Any], kind: type[T], argument: str, where: object) -> T:
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
    """Read all experiments, by id, with tables and figures in the paper's order.

    Raises:
        InputError: a definition is invalid.
    """
    experiments = {}
    for path in directory.glob("*.yaml"):
        kind, _, name = path.stem.partition("-")
        content = read_yaml(path, "experiment") | {"id": name, "kind": kind}
        experiments[name] = checked(content, Experiment, "experiment", path)
        if experiments[name].shows not in SHOWS:
            raise input_error(f"experiment {path}: shows", content["shows"], f"must be one of {', '.join(SHOWS)}")
    return dict(sorted(experiments.items(), key=lambda item: _order(item[1])))


def _order(experiment: Experiment) -> tuple[str, bool, int, str]:
    """Main tables and figures first, then the appendices by letter."""
    letter, _, number = experiment.id.rpartition(".")
    if experiment.id == "E":
        letter, number = "E", "1"
    digits = "".join(re.findall(r"^\d+", number)) or "0"
    return letter, experiment.kind == "figure", int(digits), number


def chosen(names: Sequence[str], experiments: dict[str, Experiment]) -> list[Experiment]:
    """The experiments with these names: ids in any case, with or without ``table`` or ``figure``; or ``all``.

    Raises:
        InputError: there is no such experiment.
    """
    found = {}
    plain = {name.lower(): name for name in experiments}
    for name in names:
        if name.lower() == "all":
            return list(experiments.values())
        key = re.sub(r"^(table|figure|fig\.?|appendix|app\.?)[\s_-]*", "", name.strip().lower())
        if key not in plain:
            near = difflib.get_close_matches(key, plain, n=3, cutoff=0.4) or plain
            raise input_error("TABLE", name, f"must be all, or of {', '.join(plain[each] for each in near)}")
        found[plain[key]] = experiments[plain[key]]
    return list(found.values())


def read_scale(name: str) -> Scale:
    """Read the scale of that name in ``scales/``, or that of another YAML file.

    Raises:
        InputError: there is no such scale, or it is invalid.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else SCALES / f"{name}.yaml"
    if not path.is_file():
        there = ", ".join(sorted(each.stem for each in SCALES.glob("*.yaml")))
        raise input_error("--scale", name, f"must be one of {there}, or a YAML file like them")
    scale = checked(read_yaml(path, "--scale") | {"name": path.stem}, Scale, "--scale", path)
    for data, settings in scale.data.items():
        _check_data(settings, f"{path}: {data}")
    return scale


def _check_data(settings: dict[str, Any], where: str) -> None:
    """Check the settings of a data set. Raises InputError."""
    kinds = {"images": _Images, "translation": _Translation}
    if settings.get("kind") not in kinds:
        raise input_error("--scale", where, "must have a kind: images or translation")
    known = checked(settings, kinds[settings["kind"]], "--scale", where)
    if isinstance(known, _Images):
        roles = {f"models: {name}": known.student | model for name, model in known.models.items()}
        for name, role in {"teacher": known.teacher, **roles}.items():
            convert(role, _ImageModel if roles else _ImageTraining, f"--scale {where}: {name}")
    else:
        convert(known.train, _TranslationTraining, f"--scale {where}: train")
        for name, recipe in known.recipes.items():
            checked(recipe, _Recipe, "--scale", f"{where}: recipes: {name}")


def check_fits(experiments: Sequence[Experiment], scale: Scale) -> None:
    """Check that a scale has the data, models, classes and recipes of the experiments.

    Raises:
        InputError: it lacks one.
    """
    for each in experiments:
        if each.data not in scale.data:
            raise input_error("--scale", scale.name, f"has no data for {each.name}: {each.data}")
        settings = scale.data[each.data]
        if settings["kind"] == "images":
            if missing := [name for name in each.students if name not in settings["models"]]:
                raise input_error("--scale", scale.name, f"has no model for {missing[0]} of {each.name}")
            if each.classes and each.classes not in settings.get("classes", {}):
                raise input_error("--scale", scale.name, f"has no classes {each.classes} for {each.name}")
        elif missing := [name for name in each.recipes if name not in settings["recipes"]]:
            raise input_error("--scale", scale.name, f"has no recipe {missing[0]} for {each.name}")
