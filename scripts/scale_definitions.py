"""Read the scales at which experiments run, from ``scales/``: what the terms of an experiment mean at one size."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import msgspec
from definitions import PLAIN, ROOT, Experiment, Positive, Value, Whole, read_yaml, validated
from msgspec import field

from lskd.io.errors import input_error
from lskd.io.schema import convert

SCALES = ROOT / "scripts" / "scales"


class Limits(TypedDict, total=False):
    """Limits of a job on a cluster."""

    minutes: Positive
    memory_gb: Positive


class Slurm(TypedDict):
    """Limits of jobs that train a model, and of other jobs."""

    train: Limits
    other: Limits


class Speeds(TypedDict):
    """Images per second of a GPU, as somebody has measured them, by timm's name of the model.

    Attributes:
        of: who measured them, and on which GPU.
        train: forward, backward and step.
        ask: the forward pass alone.
    """

    of: str
    train: dict[str, Positive]
    ask: dict[str, Positive]


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
        teacher_per_seed: whether students of different seeds have teachers of different seeds, instead of one.
        speeds: from which the GPU hours of trainings are estimated before any has run.
    """

    name: str
    gpu: Whole
    threads: Positive
    slurm: Slurm
    data: dict[str, dict[str, Any]]
    together: bool = False
    seeds: Positive | None = None
    teacher_per_seed: bool = False
    speeds: Speeds | None = None


class _DataSet(msgspec.Struct, kw_only=True):
    """The settings of a data set, of which dictionaries are options of commands."""

    kind: str
    name: str
    prepare: list[Any]
    first_seed: Whole
    train: dict[str, Any]
    seeds: Positive | None = None  # students of each kind, in place of the scale's number
    variants: dict[str, dict[str, Any]] = {}  # of studies: options of each way to train students
    source: str | None = None
    data_dir: str | None = None
    notes: list[str] = []


class _Images(_DataSet, kw_only=True):
    images: dict[str, Any]
    samples: Positive | None = None  # of the training split, to estimate the time of trainings
    teacher: dict[str, Any]
    student: dict[str, Any] = {}
    models: dict[str, dict[str, Any]] = {}  # none: others' models start from those that are trained on it
    record: dict[str, Any] | None = None
    soft_outputs: dict[str, Any] | None = None
    project: dict[str, Any] | None = None
    sets: dict[str, Any] | None = None
    classes: dict[str, list[str]] = {}
    agreement: str | None = None
    equal_entropy: dict[Value, Value] = {}


class _ImageTraining(msgspec.Struct):
    """The settings of a teacher or a student that are not options of its training."""

    epochs: Positive


class _ImageModel(_ImageTraining):
    model: str


class _Translation(_DataSet, kw_only=True):
    recipes: dict[str, dict[str, Any]]
    record: dict[str, Any] | None = None
    sets: dict[str, Any] | None = None


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


def read_scale(name: str) -> Scale:
    """Read the scale of that name in ``scales/``, or that of another YAML file.

    A scale with ``based_on: NAME`` takes from that one everything that it does not set itself. NAME may be a YAML
    file, whose path is relative to the file that is based on it.

    Raises:
        InputError: there is no such scale, or it is invalid.
    """
    path = _path_of(name)
    content = _with_base(read_yaml(path, "--scale"), path)
    scale = validated(content | {"name": path.stem}, Scale, "--scale", path)
    for data, settings in scale.data.items():
        _check_data(settings, f"{path}: {data}")
    return scale


def _path_of(name: str, beside: Path = Path(), where: str = "--scale") -> Path:
    """The file of a scale, or a YAML file, which is looked for in a directory. Raises InputError, about ``where``."""
    path = beside / name if name.endswith((".yaml", ".yml")) else SCALES / f"{name}.yaml"
    if not path.is_file():
        there = ", ".join(sorted(each.stem for each in SCALES.glob("*.yaml")))
        raise input_error(where, name, f"must be one of {there}, or a YAML file like them")
    return path


def _with_base(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """The settings of a scale with those of the one that it is based on, and so on. Raises InputError."""
    seen = [path]
    while base := content.pop("based_on", None):
        seen.append(_path_of(str(base), seen[-1].parent, f"--scale {seen[-1]}: based_on"))
        if seen[-1] in seen[:-1]:
            raise input_error("--scale", path, f"must not be based on itself: {', '.join(each.name for each in seen)}")
        basis = read_yaml(seen[-1], "--scale")
        if "seeds" in content:  # a number for all data is one in the place of the base's numbers for each
            for settings in filter(lambda each: isinstance(each, dict), (basis.get("data") or {}).values()):
                settings.pop("seeds", None)
        content = merged(basis, content)
    return content


def merged(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Settings with everything of a base that they do not set themselves, at every depth.

    >>> merged({"seeds": 1, "train": {"lr": 0.1, "opt": "sgd"}}, {"seeds": 5, "train": {"lr": 1}})
    {'seeds': 5, 'train': {'lr': 1, 'opt': 'sgd'}}
    """
    both = {name for name in base.keys() & own.keys() if isinstance(base[name], dict) and isinstance(own[name], dict)}
    return base | own | {name: merged(base[name], own[name]) for name in both}


def directory_part(variant: str) -> str:
    """The name of a variant as part of the name of a directory.

    >>> directory_part("lr ×3"), directory_part("Top 4")
    ('lr-x3', 'top-4')
    """
    return re.sub(r"[^a-z0-9.]+", "-", variant.lower().replace("×", "x")).strip("-.")


def _check_variants(variants: dict[str, dict[str, Any]], others: Sequence[str], where: str) -> None:
    """Check that variants get directories that nothing else has. Raises InputError."""
    names = [PLAIN, "", "overhaul", *others]
    for variant in variants:
        name = directory_part(variant)
        if name in names or name.startswith("equal-entropy"):
            raise input_error("--scale", f"{where}: variants: {variant}", f"must have a name that is not {name!r} too")
        names.append(name)


def _check_data(settings: dict[str, Any], where: str) -> None:
    """Check the settings of a data set. Raises InputError."""
    kinds = {"images": _Images, "translation": _Translation}
    if settings.get("kind") not in kinds:
        raise input_error("--scale", where, "must have a kind: images or translation")
    known = validated(settings, kinds[settings["kind"]], "--scale", where)
    _check_variants(known.variants, list(settings.get("recipes", {})), where)
    if isinstance(known, _Images):
        roles = {f"models: {name}": known.student | model for name, model in known.models.items()}
        for name, role in {"teacher": known.teacher, **roles}.items():
            convert(role, _ImageModel if roles else _ImageTraining, f"--scale {where}: {name}")
    else:
        convert(known.train, _TranslationTraining, f"--scale {where}: train")
        for name, recipe in known.recipes.items():
            validated(recipe, _Recipe, "--scale", f"{where}: recipes: {name}")


def check_fits(experiments: Sequence[Experiment], scale: Scale) -> None:
    """Check that a scale has the data, models, classes, recipes and variants of the experiments.

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
        if missing := [name for name in each.variants if name not in {PLAIN: {}} | settings.get("variants", {})]:
            raise input_error("--scale", scale.name, f"has no variant {missing[0]} for {each.name}")
