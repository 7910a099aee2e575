"""What the experiments are and at which scale they run, read from ``experiments/`` and ``scales/``.

An experiment is a table or a figure of the paper in the paper's words: data, students, α, T, seeds. A scale says what
stands for these words: which data set, which models, how they are trained. Every experiment runs at every scale that
has its data.
"""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from lskd.io.errors import input_error
from lskd.io.files import parse_yaml

ROOT = Path(__file__).resolve().parent.parent
EXPERIMENTS = ROOT / "scripts" / "experiments"
SCALES = ROOT / "scripts" / "scales"
TRAINS = ("accuracy", "bleu", "eta", "pairwise_eta", "class_accuracy", "projection")  # students are needed
SHOWS = (*TRAINS, "entropy", "agreement", "soft_outputs", "mean_outputs")
SCALE_KEYS = {"gpu", "threads", "together", "seeds", "slurm", "data"}
DATA_KEYS = {"kind", "name", "source", "prepare", "data_dir", "first_seed", "train", "notes"}
DATA_KEYS |= {"images", "teacher", "student", "models", "record", "soft_outputs", "project", "sets", "classes"}
DATA_KEYS |= {"agreement", "matched", "recipes"}


@dataclass(frozen=True)
class Experiment:
    """A table or a figure of the paper.

    Attributes:
        id: as the paper numbers it, such as ``2A`` or ``A.1``.
        kind: ``table`` or ``figure``.
        shows: one of :data:`SHOWS`.
        data: the data set, as printed.
        students: models, as printed; none where teachers alone are measured.
        label_smoothing: α of the teachers.
        temperature: T of the students, or of the outputs that are measured.
        matched: for each T of the smoothed teacher here, also the T at which the one without smoothing has its entropy.
        classes: the name of a list of classes of the scale.
        seeds: students of each kind.
        recipes: of translation, the ways to distil, each a result of its own.
        distill_type: ``logit`` or ``overhaul``.
        entropy: the table also has the entropies of the teachers' outputs.
        published: of a figure, what the paper's shows.
        notes: where it differs from the paper at every scale.
    """

    id: str
    kind: str
    shows: str
    data: str
    students: tuple[str, ...] = ()
    label_smoothing: tuple[float, ...] = ()
    temperature: tuple[float, ...] = ()
    matched: tuple[float, ...] = ()
    classes: str | None = None
    seeds: int = 1
    recipes: tuple[str, ...] = ("paper",)
    distill_type: str = "logit"
    entropy: bool = False
    published: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """As it is called in words."""
        if self.id == "E":
            return "Appendix E"
        return f"{self.kind.capitalize()} {self.id}"


@dataclass(frozen=True)
class Scale:
    """What stands for the paper's words; ``data`` by the paper's names of the data sets.

    Attributes:
        name: of the scale.
        gpu: GPUs of a job that trains or runs a model.
        threads: processor threads of such a job.
        together: one job for all temperatures of a teacher, student and seed, instead of a job for each.
        seeds: students of each kind where the experiment's own number is too many; None for that.
        slurm: minutes and gigabytes of ``train`` and of ``other`` jobs.
        data: settings of each data set.
    """

    name: str
    gpu: int
    threads: int
    together: bool
    seeds: int | None
    slurm: dict[str, Any]
    data: dict[str, dict[str, Any]]


def read_yaml(path: Path, argument: str) -> dict[str, Any]:
    """The settings in a YAML file.

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


def read_experiments(directory: Path = EXPERIMENTS) -> dict[str, Experiment]:
    """All experiments by id, tables and figures in the paper's order.

    Raises:
        InputError: a definition that is not one.
    """
    known = {field.name for field in fields(Experiment)} - {"id", "kind"}
    experiments = {}
    for path in directory.glob("*.yaml"):
        kind, _, name = path.stem.partition("-")
        content = read_yaml(path, "experiment")
        if odd := content.keys() - known:
            raise input_error("experiment", path, f"has no setting {min(odd)}; must be of {', '.join(sorted(known))}")
        if kind not in ("table", "figure") or content.get("shows") not in SHOWS or "data" not in content:
            raise input_error("experiment", path, f"must say which data, and what it shows: {', '.join(SHOWS)}")
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}
        experiments[name] = Experiment(name, kind, **values)
    return dict(sorted(experiments.items(), key=lambda item: _order(item[1])))


def _order(experiment: Experiment) -> tuple[Any, ...]:
    """Main tables and figures first, then the appendices by letter."""
    letter, _, number = experiment.id.rpartition(".")
    if experiment.id == "E":
        letter, number = "E", "1"
    digits = re.match(r"\d+", number)
    return letter, experiment.kind == "figure", int(digits[0]), number


def chosen(names: Sequence[str], experiments: dict[str, Experiment]) -> list[Experiment]:
    """The experiments that a user names: ids in any case, with or without ``table`` or ``figure``; or ``all``.

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
    """The scale of that name in ``scales/``, or of a YAML file of one's own.

    Raises:
        InputError: there is none, or it is not a scale.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else SCALES / f"{name}.yaml"
    if not path.is_file():
        there = ", ".join(sorted(each.stem for each in SCALES.glob("*.yaml")))
        raise input_error("--scale", name, f"must be one of {there}, or a YAML file like them")
    content = read_yaml(path, "--scale")
    if odd := content.keys() - SCALE_KEYS:
        raise input_error("--scale", path, f"has no setting {min(odd)}; must be of {', '.join(sorted(SCALE_KEYS))}")
    if missing := {"gpu", "threads", "slurm", "data"} - content.keys():
        raise input_error("--scale", path, f"lacks {min(missing)}")
    for name, least in (("gpu", 0), ("threads", 1), ("seeds", 1)):
        if name != "seeds" or content.get(name) is not None:
            _check_whole(path, name, content[name], least)
    for name, kind, valid in (
        ("together", bool, "true or false"),
        ("slurm", dict, "settings"),
        ("data", dict, "settings of each data set"),
    ):
        if not isinstance(value := content.get(name, kind()), kind):
            raise input_error(f"--scale {path}: {name}", value, f"must be {valid}")
    for data, settings in content["data"].items():
        if not isinstance(settings, dict):
            raise input_error("--scale", f"{path}: {data}", "must hold settings")
        if odd := settings.keys() - DATA_KEYS:
            raise input_error("--scale", f"{path}: {data}", f"has no setting {min(odd)}")
        if settings.get("kind") not in ("images", "translation"):
            raise input_error("--scale", f"{path}: {data}", "must have a kind: images or translation")
        if missing := {"name", "prepare", "first_seed", "train"} - settings.keys():
            raise input_error("--scale", f"{path}: {data}", f"lacks {min(missing)}")
        _check_whole(path, f"{data}: first_seed", settings["first_seed"], 0)
        _check_trainings(path, data, settings)
    return Scale(
        path.stem,
        content["gpu"],
        content["threads"],
        content.get("together", False),
        content.get("seeds"),
        content["slurm"],
        content["data"],
    )


def _check_trainings(path: Path, data: str, settings: dict[str, Any]) -> None:
    """Check what a data set's models are and how long they are trained. Raises InputError."""

    def section(name: str, within: dict[str, Any]) -> dict[str, Any]:
        *_, key = name.split(": ")
        if not isinstance(found := within.get(key), dict):
            raise input_error(f"--scale {path}: {data}: {name}", found, "must hold settings")
        return found

    train = section("train", settings)
    if settings["kind"] == "images":
        teacher, student, models = (section(name, settings) for name in ("teacher", "student", "models"))
        roles = {"teacher": teacher}
        roles |= {f"models: {name}": student | section(f"models: {name}", models) for name in models}
        for name, role in roles.items():
            if not isinstance(role.get("model"), str):
                raise input_error(f"--scale {path}: {data}: {name}: model", role.get("model"), "must be a timm model")
            _check_whole(path, f"{data}: {name}: epochs", role.get("epochs"), 1)
        return
    _check_whole(path, f"{data}: train: max-epoch", train.get("max-epoch"), 1)
    recipes = section("recipes", settings)
    for name in recipes:
        recipe = section(f"recipes: {name}", recipes)
        for role in ("teacher", "student"):
            shape = section(f"recipes: {name}: {role}", recipe)
            for size in ("layers", "dim", "ffn", "heads"):
                _check_whole(path, f"{data}: recipes: {name}: {role}: {size}", shape.get(size), 1)


def _check_whole(path: Path, name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise input_error(f"--scale {path}: {name}", value, f"must be a whole number, {least} or more")


def check_fits(experiments: Sequence[Experiment], scale: Scale) -> None:
    """Check that a scale has what the experiments speak of.

    Raises:
        InputError: it has not.
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
