"""What a checkpoint tells of its training, checked: the file may come from anyone, and timm believes everything."""

from collections.abc import Callable

from lskd.io.errors import input_error
from lskd.records.runs import is_number
from lskd_vision.class_order import CLASS_ORDERS
from lskd_vision.image_files import MODES

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")
LARGEST = 10_000  # of a model's dimension
# A model's options that would fetch or read other weights than the file's.
NOT_FROM_FILES = {"pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"}
DATA_SETS = ("torch/", "lskd/")  # what is on the disk; others timm would fetch


def validate_training_args(args: dict, ours: bool, argument: str, path: object) -> dict:
    """The options of a training as a checkpoint has them, ``ours`` being one of this project, whose data are used too.

    ``argument`` and ``path`` are what errors call the file.

    Raises:
        InputError: one of those that are used is not what it should be.
    """
    for name, (fits, valid) in (MODEL | (DATA if ours else {})).items():
        if (value := args.get(name)) and not fits(value):
            raise input_error(argument, path, f"has {name} = {_short(value)} among its options, must be {valid}")
    return args


def validate_provenance(provenance: dict, argument: str, path: object) -> dict:
    """What this project's training has written into its checkpoint.

    Raises:
        InputError: a part that is used is not there, or not what it should be.
    """
    try:
        made, classes = provenance["configuration"], provenance["data"]["classes"]
        config = made["host"]["data_config"]
        found = {"mean": config["mean"], "std": config["std"], "label_smoothing": made["label_smoothing"]}
        found |= {"kd_weight": made["kd_weight"], "class_names": classes}
    except (KeyError, TypeError) as error:
        raise input_error(argument, path, f"has a record under 'lskd' that is not whole: {error}") from None
    fits = {"mean": _numbers, "std": _numbers, "label_smoothing": is_number, "class_names": _texts}
    fits["kd_weight"] = lambda value: is_number(value) and value is not None
    for name, value in found.items():
        if not fits[name](value):
            raise input_error(argument, path, f"has {name} = {_short(value)} in its record under 'lskd', which is none")
    return found


def _short(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else text[:60] + "…"


def _numbers(value: object) -> bool:
    return (
        isinstance(value, list | tuple) and bool(value) and all(is_number(each) and each is not None for each in value)
    )


def _texts(value: object) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(each, str) for each in value)


def _size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= LARGEST


def _options(value: object) -> bool:
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value) or NOT_FROM_FILES & value.keys():
        return False
    return all(_moderate(each) for each in value.values())


def _moderate(value: object) -> bool:
    """Whether it is a text, a truth, a number that is not too large, or a short list of them."""
    if isinstance(value, list | tuple):
        return len(value) <= 100 and all(_moderate(each) for each in value)
    if isinstance(value, int | float):
        return abs(value) <= LARGEST
    return value is None or isinstance(value, str)


def _text(value: object) -> bool:
    return isinstance(value, str) and "\0" not in value


def _data_set(value: object) -> bool:
    return _text(value) and value.startswith(DATA_SETS)


MODEL: dict[str, tuple[Callable[[object], bool], str]] = {
    "mean": (_numbers, "numbers"),
    "std": (_numbers, "numbers"),
    "input_size": (
        lambda value: isinstance(value, list | tuple) and len(value) == 3 and all(map(_size, value)),
        "channels, height and width",
    ),
    "img_size": (_size, f"a whole number up to {LARGEST}"),
    "in_chans": (_size, f"a whole number up to {LARGEST}"),
    "num_classes": (lambda value: isinstance(value, int), "a whole number"),
    "crop_pct": (lambda value: is_number(value) and 0 < value <= 1, "above 0 and at most 1"),
    "interpolation": (lambda value: value in INTERPOLATIONS, f"one of {', '.join(INTERPOLATIONS)}"),
    "model_kwargs": (_options, f"options of a model alone, numbers up to {LARGEST}"),
}
DATA = {
    "dataset": (_data_set, "a data set of torchvision or lskd/arrays: name others with --dataset"),
    "class_map": (_text, "a text"),
    "val_split": (_text, "a text"),
    "class_order": (lambda value: value in tuple(CLASS_ORDERS), f"one of {', '.join(CLASS_ORDERS)}"),
    "input_img_mode": (lambda value: value in MODES, f"one of {', '.join(MODES)}"),
    "max_pixel_value": (lambda value: is_number(value) and value > 0, "a number above 0"),
}
