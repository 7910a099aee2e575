"""Validate the metadata of a checkpoint: it may be untrusted, and timm would accept any value."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from lskd.io.schema import Count, Number, Positive, Text, convert
from lskd_vision.augmentation_config import Interpolation
from lskd_vision.class_order import ClassOrder
from lskd_vision.image_arrays import NAME as ARRAYS
from lskd_vision.image_files import ImageMode

LARGEST = 10_000  # for a model's dimensions and numeric options
# Model options that would make timm download or read other weights than the file's.
NOT_FROM_FILES = {"pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"}

Size = Annotated[int, Meta(gt=0, le=LARGEST)]
Numbers = Annotated[list[Number], Meta(min_length=1)]  # one per channel
ModelOption = Annotated[float, Meta(ge=-LARGEST, le=LARGEST)] | bool | str | None
ModelOptions = Annotated[list[ModelOption], Meta(max_length=100)]


class TrainingArgs(msgspec.Struct):
    """The training options that are used whatever their origin: how to build the model and preprocess images."""

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
    """The training options that are used if they are this project's: the above, and the data set."""

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
    """The parts of this project's training record in a checkpoint that are used."""

    configuration: _Configuration
    data: _Data


class _WithArgs(msgspec.Struct):
    args: TrainingArgs


class _WithOwnArgs(msgspec.Struct):
    args: OwnTrainingArgs


class _WithProvenance(msgspec.Struct):
    lskd: Provenance


def validate_training_args(args: Mapping[str, Any], ours: bool, argument: str, path: object) -> None:
    """Validate the training options stored in a checkpoint.

    Args:
        args: the options by name; empty values count as not given.
        ours: whether the checkpoint is from this project's training.
        argument: the checkpoint's name in error messages.
        path: the checkpoint.

    Raises:
        InputError: an option that is used is not valid.
    """
    names = OwnTrainingArgs.__struct_fields__
    given = {name: args[name] for name in names if name in args and args[name] is not None and args[name] != ""}
    convert({"args": given}, _WithOwnArgs if ours else _WithArgs, f"{argument}: {path}")


def validate_provenance(provenance: Mapping[str, Any], argument: str, path: object) -> Provenance:
    """Validate this project's training record, stored in a checkpoint under ``lskd``.

    Raises:
        InputError: a part that is used is missing or not valid.
    """
    return convert({"lskd": provenance}, _WithProvenance, f"{argument}: {path}").lskd
