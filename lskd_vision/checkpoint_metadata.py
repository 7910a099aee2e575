"""Validate the metadata of a checkpoint, which may come from anyone: timm would take every value as it is."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from lskd.io.schema import Count, Number, Positive, Text, convert
from lskd_vision.augmentation_config import Interpolation
from lskd_vision.class_order import ClassOrder
from lskd_vision.image_arrays import NAME as ARRAYS
from lskd_vision.image_files import ImageMode

LARGEST = 10_000  # of a model's dimension
# Options of a model that would make timm fetch or read other weights than the file's.
NOT_FROM_FILES = {"pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"}

Size = Annotated[int, Meta(gt=0, le=LARGEST)]
Numbers = Annotated[list[Number], Meta(min_length=1)]  # a channel each
ModelOption = Annotated[float, Meta(ge=-LARGEST, le=LARGEST)] | bool | str | None
ModelOptions = Annotated[list[ModelOption], Meta(max_length=100)]


class TrainingArgs(msgspec.Struct):
    """The options of any training that are used: how its model is built, and how an image becomes its input."""

    mean: Numbers | None = None
    std: Numbers | None = None
    input_size: tuple[Size, Size, Size] | None = None
    img_size: Size | None = None
    in_chans: Size | None = None
    num_classes: Count | None = None
    crop_pct: Annotated[float, Meta(gt=0, le=1)] | None = None
    interpolation: Interpolation | None = None
    model_kwargs: dict[str, ModelOption | Annotated[list[ModelOption | ModelOptions], Meta(max_length=100)]] = {}

    def __post_init__(self) -> None:
        if refused := sorted(NOT_FROM_FILES & self.model_kwargs.keys()):
            raise ValueError(f"model_kwargs must be without {', '.join(refused)}")


class OwnTrainingArgs(TrainingArgs):
    """The options of this project's training, whose data set is used too."""

    dataset: Text = ""
    class_map: Text = ""
    val_split: Text = ""
    class_order: ClassOrder | None = None
    input_img_mode: ImageMode | None = None
    max_pixel_value: Positive | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dataset and not self.dataset.startswith("torch/") and self.dataset != ARRAYS:  # timm would fetch others
            raise ValueError(f"dataset must be a data set of torchvision or {ARRAYS}: name others with --dataset")


class _DataConfig(msgspec.Struct):
    mean: Numbers
    std: Numbers


class _Host(msgspec.Struct):
    data_config: _DataConfig


class _Configuration(msgspec.Struct):
    host: _Host
    kd_weight: Number
    label_smoothing: Number | None


class _Data(msgspec.Struct):
    classes: Annotated[list[str], Meta(min_length=1)]


class Provenance(msgspec.Struct):
    """What this project's training has written about itself, as far as it is used."""

    configuration: _Configuration
    data: _Data


class _WithArgs(msgspec.Struct):
    args: TrainingArgs


class _WithOwnArgs(msgspec.Struct):
    args: OwnTrainingArgs


class _WithProvenance(msgspec.Struct):
    lskd: Provenance


def validate_training_args(args: Mapping[str, Any], ours: bool, argument: str, path: object) -> None:
    """Validate the options of a training.

    Args:
        args: by name; empty ones count as not given.
        ours: whether it is this project's training.
        argument: what errors call the checkpoint.
        path: of the checkpoint.

    Raises:
        InputError: one of those that are used is not valid.
    """
    names = OwnTrainingArgs.__struct_fields__
    given = {name: args[name] for name in names if name in args and args[name] is not None and args[name] != ""}
    convert({"args": given}, _WithOwnArgs if ours else _WithArgs, f"{argument}: {path}")


def validate_provenance(provenance: Mapping[str, Any], argument: str, path: object) -> Provenance:
    """Validate what this project's training has written about itself, ``lskd`` in the checkpoint.

    Raises:
        InputError: a part that is used is missing or not valid.
    """
    return convert({"lskd": provenance}, _WithProvenance, f"{argument}: {path}").lskd
