"""Find the class names of a model, and compare them with those of the data."""

import functools
import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import huggingface_hub
import torchvision
from timm.data import ImageNetInfo, infer_imagenet_subset
from timm.models import parse_model_name

from lskd.io.errors import input_error
from lskd.io.files import parse_json, sha256
from lskd.measure.wordnet import imagenet_classes
from lskd_vision.other_order import OtherOrder
from lskd_vision.timm_model import TimmModel

logger = logging.getLogger(__name__)
LISTS = ("label_names", "class_names", "classes", "categories", "CLASSES")
BY_INDEX = ("label_names", "id2label", "idx_to_class")
BY_NAME = ("label2id", "class_to_idx")
NESTED = ("meta", "pretrained_cfg")  # in OpenMMLab's checkpoints; in timm's config.json
HUGGING_FACE = re.compile(r"(pytorch_)?model\.(safetensors|bin|pth)")  # weights with a config.json beside them
WNID = re.compile(r"n\d{8}(?!\d)")


def names_in(content: object) -> list[str] | None:
    """Find the class names in a checkpoint or a config.json, under any of the usual keys.

    >>> names_in({"id2label": {"1": "dog", "0": "cat"}}), names_in({"class_to_idx": {"dog": 1, "cat": 0}})
    (['cat', 'dog'], ['cat', 'dog'])
    """
    if not isinstance(content, Mapping):
        return None
    found: list[object] = [content.get(key) for key in LISTS]
    found += [_in_order(content[key].items()) for key in BY_INDEX if isinstance(content.get(key), Mapping)]
    by_name = [content[key] for key in BY_NAME if isinstance(content.get(key), Mapping)]
    found += [_in_order((index, name) for name, index in names.items()) for names in by_name]
    for names in found:
        if isinstance(names, (list, tuple)) and len(names) > 1 and all(isinstance(name, str) for name in names):
            return list(names)
    return next((names for key in NESTED if (names := names_in(content.get(key)))), None)


def _in_order(pairs: Iterable[tuple[Any, Any]]) -> list[Any] | None:
    """Sort names by index, from (index, name) pairs; None unless the indices are 0, 1, 2, …."""
    try:
        names = {int(index): name for index, name in pairs}
    except (OverflowError, TypeError, ValueError):
        return None
    return [names[index] for index in range(len(names))] if names.keys() == set(range(len(names))) else None


def names_of_file(path: Path, content: Mapping[str, Any]) -> list[str] | None:
    """Find the class names of another project's checkpoint: in it, in a config.json beside it, or in torchvision.

    Args:
        path: the checkpoint.
        content: its content.
    """
    if names := names_in(content) or names_in(content.get("args")):
        return names
    if HUGGING_FACE.fullmatch(path.name) and (config := _config_in(path.parent)):
        pretrained_cfg = config.get("pretrained_cfg")
        return names_in(config) or _imagenet_names(
            (pretrained_cfg if isinstance(pretrained_cfg, dict) else {}) | config
        )
    return _torchvision_names(path)


def names_of_pretrained(model: TimmModel, name: str) -> list[str] | None:
    """Find the class names of a pretrained model that timm loaded by ``name``.

    timm's own label names, else those of the folder or repository, else ImageNet's synset ids if the weights' tag
    names ImageNet; else None.
    """
    source, place = parse_model_name(name) if ":" in name else ("", name)
    names = names_in(model.pretrained_cfg)
    if names is None and source == "local-dir":
        names = names_in(_config_in(Path(place)))
    elif names is None and source == "hf-hub":
        repository, _, revision = place.partition("@")
        # It is in the cache: timm has built the model from it.
        config = huggingface_hub.try_to_load_from_cache(repository, "config.json", revision=revision or None)
        names = names_in(_config_in(Path(config).parent)) if isinstance(config, str) else None
    return names or _imagenet_names(model.pretrained_cfg | {"num_classes": model.num_classes})


def _config_in(folder: Path) -> dict[str, Any] | None:
    try:
        config = parse_json((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return config if isinstance(config, dict) else None


def _imagenet_names(pretrained_cfg: Mapping[str, Any]) -> list[str] | None:
    """Synset ids, if the configuration's tag says that training ended on a subset of ImageNet, such as in1k."""
    known = isinstance(pretrained_cfg.get("num_classes"), int)
    subset = infer_imagenet_subset(dict(pretrained_cfg)) if known else None
    of_imagenet = re.search(r"in(1|12|21|22)k", str(pretrained_cfg.get("tag")))
    return list(ImageNetInfo(subset).label_names()) if subset and of_imagenet else None


@functools.cache
def _torchvision_categories() -> dict[str, list[str]]:
    """Class names of torchvision's weights, by the first digits of their SHA-256, which end each file's name."""
    networks = torchvision.models.list_models(module=torchvision.models)
    weights = [each for network in networks for each in torchvision.models.get_model_weights(network)]
    return {Path(each.url).stem.rpartition("-")[2]: each.meta["categories"] for each in weights}


def _torchvision_names(path: Path) -> list[str] | None:
    if path.suffix != ".pth":
        return None
    return _torchvision_categories().get(sha256(path)[:8])


# ---- comparing


def check_classes(
    num_classes: int, theirs: Sequence[str] | None, ours: Sequence[str], argument: str, value: object
) -> None:
    """Check that a model has the data's classes, in the same order if the names can be compared.

    Names are compared as they are, then without case and punctuation; those of ImageNet's classes also as synset id,
    description or lemma: ``n01440764``, ``tench, Tinca tinca``, ``tench``. If the names cannot be compared, a warning
    is logged once.

    Args:
        num_classes: the model's number of classes.
        theirs: the names of the model's classes, in the order of its outputs; None if unknown.
        ours: the names of the data's K classes.
        argument: the model's name in error messages.
        value: the value that was given for it.

    Raises:
        InputError: the classes differ; the message names the first difference.
    """
    if num_classes != len(ours):
        raise input_error(argument, value, f"has {num_classes} classes, must be the data's {len(ours)}")
    if theirs is None:
        say_once(f"{argument}: {value} (has no class names: cannot check that their order matches the data)")
    elif len(theirs) != len(ours):
        raise input_error(argument, value, f"names {len(theirs)} classes, must be the data's {len(ours)}")
    elif not (set(theirs) & set(ours) or _all_readings(theirs) & _all_readings(ours)):
        names = f"{theirs[0]!r}, …, the data's {ours[0]!r}, …"
        say_once(f"{argument}: {value} (names its classes {names}: nothing in common, their order is not compared)")
    else:
        _check_order(theirs, ours, argument, value)


def _check_order(theirs: Sequence[str], ours: Sequence[str], argument: str, value: object) -> None:
    exact = _unique(theirs) & _unique(ours)
    for number, (one, other) in enumerate(zip(theirs, ours, strict=True)):
        if not _same_class(one, other, exact):
            order = OtherOrder.of(ours)
            hint = ""
            if order is not None and list(theirs) == order.sort(ours):
                hint = f"; --class-order {order.name} gives them the model's order"
            raise input_error(argument, value, f"has {one!r} as class {number}, the data have {other!r}{hint}")


def _same_class(one: str, other: str, exact: set[str]) -> bool:
    """Whether two names mean the same class; names in ``exact``, found on both sides, only match themselves."""
    if one == other or one in exact or other in exact:
        return one == other
    if (first := WNID.match(one)) and (second := WNID.match(other)):
        return first[0] == second[0]
    return bool(_readings(one) & _readings(other))


def _unique(names: Sequence[str]) -> set[str]:
    return {name for name, times in Counter(names).items() if times == 1}


def _all_readings(names: Sequence[str]) -> frozenset[str]:
    return frozenset().union(*map(_readings, names))


@functools.lru_cache(maxsize=100_000)
def _readings(name: str) -> frozenset[str]:
    """The forms in which a name is compared: whole, its parts between commas, without parentheses, as synset ids.

    >>> sorted(_readings("tench, Tinca tinca"))
    ['n01440764', 'tench', 'tench tinca tinca', 'tinca tinca']
    """
    text = re.sub(r"^\d+[\W_]+(?=.*[^\W\d])", "", name)  # 001.Black_footed_Albatross
    words = {_words(part) for part in (name, text, *text.split(","), re.sub(r"\(.*?\)", "", text))} - {""}
    synsets = {wnid for each in words for wnid in _synsets().get(each, ())}
    return frozenset(words | synsets | ({found[0]} if (found := WNID.match(name)) else set()))


def _words(text: str) -> str:
    return re.sub(r"[\W_]+", " ", unicodedata.normalize("NFC", text).casefold()).strip()


@functools.cache
def _synsets() -> dict[str, set[str]]:
    """Synset ids of ImageNet-1K's classes, by every name that timm, torchvision or this project has for them."""
    info = ImageNetInfo("imagenet-1k")
    torchvisions = torchvision.models.ResNet18_Weights.DEFAULT.meta["categories"]
    found: dict[str, set[str]] = {}
    for wnid, theirs in zip(info.label_names(), torchvisions, strict=True):
        description = info.label_name_to_description(wnid)
        for text in (*description.split(","), description, theirs, imagenet_classes()[wnid]):
            found.setdefault(_words(text), set()).add(wnid)
    return found


@functools.cache
def say_once(line: str) -> None:
    """Log a warning, once per process."""
    logger.warning(line)
