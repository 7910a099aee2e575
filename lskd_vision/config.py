"""The configuration of a command: frozen, built once by :mod:`lskd_vision.command_line`, and passed on in parts.

Each class is one role. Its fields are named as the flags of :mod:`lskd_vision.options`, which explain them; the
defaults are here. Run records and checkpoints store the fields of all roles in one flat dictionary.
"""

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import torch

from lskd.io.errors import InputError, input_error
from lskd.loss.checks import check_settings
from lskd.loss.schedule import TemperatureSchedule, check_schedule, scheduled_temperature
from lskd.loss.types import GradientScale, LossType, Settings
from lskd_vision.class_order import ClassOrder
from lskd_vision.image_files import ImageMode

Interpolation = Literal["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"]
Schedule = Literal["step", "multistep", "cosine", "tanh", "poly"]
DistillType = Literal["logit", "overhaul"]
# Flags of the arguments of lskd.loss.
LOSS_FLAGS = {
    "loss": "--kd-loss",
    "nckd_weight": "--kd-nckd-weight",
    "gradient_scale": "--kd-gradient-scale",
    "temperature": "--kd-temperature",
    "student_temperature": "--kd-student-temperature",
    "temperature_schedule": "--kd-temperature-schedule",
    "final_temperature": "--kd-final-temperature",
    "label_smoothing": "--smoothing",
}


@dataclass(frozen=True)
class DatasetConfig:
    """Which data set, its splits and the order of its classes."""

    data_dir: Path = Path()
    dataset: str = ""
    train_split: str = "train"
    val_split: str = "validation"
    class_map: str = ""
    class_order: ClassOrder | None = None
    dataset_download: bool = False


@dataclass(frozen=True)
class InputConfig:
    """How an image becomes the input of a model; the model decides what is None."""

    input_img_mode: ImageMode | None = None
    max_pixel_value: float | None = None
    img_size: int | None = None
    input_size: tuple[int, int, int] | None = None
    in_chans: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    interpolation: Interpolation | None = None
    crop_pct: float | None = None


@dataclass(frozen=True)
class LoaderConfig:
    """How batches are loaded."""

    validation_batch_size: int | None = None
    workers: int = 4
    pin_mem: bool = False


@dataclass(frozen=True)
class ModelConfig:
    """The model that is trained. Raises InputError: ``model_kwargs`` has what the data or another flag decides."""

    model: str = "resnet50"
    model_kwargs: Mapping[str, object] = field(default_factory=dict)
    pretrained: bool = False
    initial_checkpoint: Path | None = None
    drop: float | None = None
    drop_path: float | None = None
    grad_checkpointing: bool = False
    sync_bn: bool = False
    model_ema: bool = False
    model_ema_decay: float = 0.9998
    model_ema_warmup: bool = False

    def __post_init__(self) -> None:
        for name in ("name", "argument", "num_classes", "pretrained"):
            if name in self.model_kwargs:
                value = f"{name}={self.model_kwargs[name]}"
                raise input_error("--model-kwargs", value, "is set by the data or by another flag")


@dataclass(frozen=True)
class DistillationConfig:
    """The loss, and the teacher of a student.

    Raises:
        InputError: without a teacher, a field that is about one is not its default; or fields do not fit together.
    """

    kd_model_name: str | None = None
    kd_checkpoint: Path | None = None
    kd_temperature: float = 1.0
    kd_student_temperature: float | None = None
    kd_temperature_schedule: TemperatureSchedule = "constant"
    kd_final_temperature: float | None = None
    kd_loss: LossType = "kl"
    kd_nckd_weight: float | None = None
    kd_gradient_scale: GradientScale = "t2"
    task_loss_weight: float = 0.0
    smoothing: float = 0.0
    kd_distill_type: DistillType = "logit"
    kd_batch_statistics: bool = False

    def __post_init__(self) -> None:
        for each in fields(self):
            if not self.distils and each.name != "smoothing" and (value := getattr(self, each.name)) != each.default:
                raise input_error(flag(each.name), value, "needs a teacher: --kd-checkpoint")
        if self.kd_batch_statistics and self.kd_distill_type != "overhaul":
            raise input_error("--kd-batch-statistics", True, "needs --kd-distill-type overhaul")
        if self.task_loss_weight == 1 and (self.kd_loss != "kl" or self.kd_gradient_scale != "t2"):
            name = "kd_loss" if self.kd_loss != "kl" else "kd_gradient_scale"
            valid = f"must be below 1: {flag(name)} {getattr(self, name)} is of the distillation term"
            raise input_error("--task-loss-weight", 1.0, valid)
        try:
            self.loss_settings()
            check_schedule(self.kd_temperature, self.kd_temperature_schedule, self.kd_final_temperature, self.kd_loss)
        except ValueError as error:
            name, _, rest = str(error).partition(":")
            raise InputError(f"{LOSS_FLAGS[name]}:{rest}") from None

    def loss_settings(self) -> Settings:
        """The settings of the loss, with what follows from others. Raises ValueError: they do not fit together."""
        return check_settings(
            temperature=self.kd_temperature,
            student_temperature=self.kd_student_temperature,
            kd_weight=1 - self.task_loss_weight,
            label_smoothing=self.smoothing,
            loss=self.kd_loss,
            nckd_weight=self.kd_nckd_weight,
            gradient_scale=self.kd_gradient_scale,
        )

    @property
    def distils(self) -> bool:
        """Whether a student is trained."""
        return self.kd_model_name is not None or self.kd_checkpoint is not None

    @property
    def temperature(self) -> float | None:
        """T, where it starts; None without a teacher."""
        return self.kd_temperature if self.distils else None

    def temperature_in(self, epoch: int, epochs: int) -> float:
        """T in an epoch, from 0, of all."""
        progress = epoch / max(1, epochs - 1)
        return scheduled_temperature(
            self.kd_temperature_schedule, self.kd_temperature, self.kd_final_temperature, progress
        )

    @property
    def highest_temperature(self) -> float:
        """The highest T of the training; infinity for the loss that is the limit."""
        return math.inf if self.kd_loss == "mse" else max(self.kd_temperature, self.kd_final_temperature or 0)

    @property
    def name(self) -> str:
        """T, and the loss, its weight and the gradient scale where they are not the paper's, for a run's name.

        >>> DistillationConfig("resnet50", kd_temperature=3.0, kd_loss="decoupled", kd_nckd_weight=2.0).name
        'T3_decoupled2'
        """
        name = f"T{self.kd_temperature:g}"
        if self.kd_final_temperature is not None:
            name += f"to{self.kd_final_temperature:g}{self.kd_temperature_schedule}"
        if self.kd_loss != "kl":
            name += f"_{self.kd_loss}" + ("" if self.kd_nckd_weight is None else f"{self.kd_nckd_weight:g}")
        return name + (f"_{self.kd_gradient_scale}" if self.kd_gradient_scale != "t2" else "")


@dataclass(frozen=True)
class OptimisationConfig:
    """Optimiser and schedule; by default the paper's for an ImageNet teacher. Raises InputError: they do not fit."""

    epochs: int = 90
    batch_size: int = 256
    grad_accum_steps: int = 1
    opt: str = "momentum"
    opt_eps: float | None = None
    opt_betas: tuple[float, ...] | None = None
    momentum: float = 0.9
    weight_decay: float = 1e-4
    filter_bias_and_bn: bool = False
    clip_grad: float | None = None
    clip_mode: Literal["norm", "value", "agc"] = "norm"
    lr: float = 0.1
    sched: Schedule = "step"
    sched_on_updates: bool = False
    decay_milestones: tuple[int, ...] | None = None
    decay_epochs: float = 30
    decay_rate: float = 0.1
    warmup_epochs: int = 0
    warmup_lr: float = 1e-5
    min_lr: float = 0.0

    def __post_init__(self) -> None:
        if self.sched == "multistep" and not self.decay_milestones:
            raise input_error("--sched", "multistep", "needs --decay-milestones")
        check_ascending("--decay-milestones", self.decay_milestones or ())


@dataclass(frozen=True)
class AugmentationConfig:
    """timm's augmentation of training images, and a rotation. Raises InputError: values do not fit together."""

    no_aug: bool = False
    train_crop_mode: Literal["rrc", "rkrc", "rkrr"] | None = None
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    hflip: float = 0.5
    vflip: float = 0.0
    rotation: float = 0.0
    color_jitter: tuple[float, ...] = (0.0,)
    grayscale_prob: float = 0.0
    aa: str | None = None
    reprob: float = 0.0
    remode: Literal["const", "rand", "pixel"] = "pixel"
    recount: int = 1
    train_interpolation: Interpolation | Literal["random"] = "bilinear"

    def __post_init__(self) -> None:
        check_ascending("--scale", self.scale)
        check_ascending("--ratio", self.ratio)
        if len(self.color_jitter) not in (1, 3, 4):
            raise input_error("--color-jitter", spaced(self.color_jitter), "must be one value, 3 or 4")


@dataclass(frozen=True)
class DeviceConfig:
    """Where models compute, and in which precision."""

    device: str = field(default_factory=lambda: "cuda" if torch.cuda.is_available() else "cpu")
    channels_last: bool = False
    amp: bool = False
    amp_dtype: Literal["float16", "bfloat16"] = "float16"

    @property
    def torch_device(self) -> torch.device:
        """The device as torch has it."""
        return torch.device(self.device)

    @property
    def scales_loss(self) -> bool:
        """Whether training scales the loss, as gradients in float16 need it."""
        return self.amp and self.amp_dtype == "float16"

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """A context in which models compute in mixed precision if ``amp``; losses see to their own precision."""
        if not self.amp:
            return contextlib.nullcontext()
        return torch.autocast(self.torch_device.type, dtype=getattr(torch, self.amp_dtype))


@dataclass(frozen=True)
class RunConfig:
    """Random numbers, where results go, how runs are started. Raises InputError: no such folder or compiler."""

    seed: int = 42
    data_seed: int = 42
    output: Path = Path("runs")
    experiment: str | None = None
    resume: bool = False
    group_size: int | None = None
    torchcompile: str | None = None
    log_tensorboard: bool = False
    log_wandb: bool = False
    wandb_project: str = "lskd"
    debug: bool = False

    def __post_init__(self) -> None:
        if (folder := self.experiment) and (Path(folder).name != folder or folder == ".."):
            raise input_error("--experiment", folder, "must be the name of a folder in --output")
        if self.torchcompile and self.torchcompile not in (known := torch.compiler.list_backends(())):
            raise input_error("--torchcompile", self.torchcompile, f"must be one of {', '.join(known)}")


@dataclass(frozen=True)
class Processes:
    """This process among those of torch.distributed."""

    distributed: bool = False
    rank: int = 0
    world_size: int = 1
    local_rank: int = 0


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """The evaluation of models on a data set."""

    dataset: DatasetConfig
    input: InputConfig
    loader: LoaderConfig
    device: DeviceConfig
    processes: Processes = Processes()

    @property
    def validation_batch_size(self) -> int:
        """Images in a batch that is not trained on."""
        return self.loader.validation_batch_size or 256


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(EvaluationConfig):
    """The training of one model; a command that trains several makes one for each.

    Raises:
        InputError: there are too few epochs for a schedule.
    """

    model: ModelConfig
    distillation: DistillationConfig
    optimisation: OptimisationConfig
    augmentation: AugmentationConfig
    run: RunConfig
    config: Path | None = None  # the file from which flags were read

    def __post_init__(self) -> None:
        if (schedule := self.distillation.kd_temperature_schedule) != "constant" and self.optimisation.epochs < 2:
            raise input_error("--kd-temperature-schedule", schedule, "needs --epochs of at least 2")

    @property
    def validation_batch_size(self) -> int:
        """Images in a batch of the validation split."""
        return self.loader.validation_batch_size or self.optimisation.batch_size

    def stored(self) -> dict[str, Any]:
        """The fields of all roles in one dictionary, as run records and checkpoints have them."""
        roles: tuple[Any, ...] = (
            self.dataset,
            self.input,
            self.loader,
            self.model,
            self.distillation,
            self.optimisation,
        )
        roles += (self.augmentation, self.device, self.run, self.processes)
        stored = {"config": self.config} | {name: value for role in roles for name, value in asdict(role).items()}
        if not self.distillation.distils:
            stored["kd_temperature"] = [stored["kd_temperature"]]  # a list since the first version
        return stored


def flag(name: str) -> str:
    """The flag of a field.

    >>> flag("kd_temperature")
    '--kd-temperature'
    """
    return "--" + name.replace("_", "-")


def spaced(value: object) -> str:
    """A value, or several, as on a command line.

    >>> spaced((0.5, 1.0))
    '0.5 1.0'
    """
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def check_ascending(argument: str, values: Sequence[float]) -> None:
    """Check that values ascend. Raises InputError."""
    if list(values) != sorted(values):
        raise input_error(argument, spaced(values), "must ascend")
