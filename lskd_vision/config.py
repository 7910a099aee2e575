"""The configuration of a command: frozen, built once by :mod:`lskd_vision.command_line`, and passed on in parts.

Each class is one part. Its fields have the names of the flags in :mod:`lskd_vision.options` and
:mod:`lskd_vision.training_options`, which explain them; the defaults are here. Run records and checkpoints store the
fields of all parts in one flat dictionary.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from lskd.io.errors import input_error
from lskd.records.provenance import usable_cores
from lskd_vision.augmentation_config import AugmentationConfig, Interpolation, MixingConfig
from lskd_vision.class_order import ClassOrder
from lskd_vision.config_values import check_ascending, flag
from lskd_vision.image_files import ImageMode
from lskd_vision.loss_config import DistillationConfig, TaskLossConfig

Schedule = Literal["step", "multistep", "cosine", "tanh", "poly", "plateau"]


@dataclass(frozen=True)
class DatasetConfig:
    """The data set, its splits and the order of its classes."""

    data_dir: Path = Path()
    dataset: str = ""
    train_split: str = "train"
    val_split: str = "validation"
    class_map: str = ""
    class_order: ClassOrder | None = None
    dataset_download: bool = False


@dataclass(frozen=True)
class InputConfig:
    """How images are preprocessed for a model; None leaves a field to the model."""

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
    workers: int = field(default_factory=lambda: min(4, usable_cores() or 4))  # torch warns about more than cores
    pin_mem: bool = False


@dataclass(frozen=True)
class ModelConfig:
    """The model to train. Raises InputError: ``model_kwargs`` sets what the data or another flag decides."""

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
class OptimisationConfig:
    """Optimiser and schedule; by default the paper's for an ImageNet teacher. Raises InputError: fields conflict."""

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
    patience_epochs: int = 10
    cooldown_epochs: int = 0
    plateau_mode: Literal["max", "min"] = "max"
    val_interval: int = 1

    def is_validated(self, epoch: int) -> bool:
        """Whether models are validated after ``epoch`` (from 0): every ``val_interval`` epochs, and after the last.

        >>> [epoch for epoch in range(8) if OptimisationConfig(epochs=8, val_interval=3).is_validated(epoch)]
        [2, 5, 7]
        """
        return (epoch + 1) % self.val_interval == 0 or epoch + 1 == self.epochs

    def __post_init__(self) -> None:
        for name in ("patience_epochs", "cooldown_epochs", "plateau_mode"):
            if self.sched != "plateau" and (value := getattr(self, name)) != getattr(OptimisationConfig, name):
                raise input_error(flag(name), value, "needs --sched plateau")
        if self.sched == "plateau" and self.sched_on_updates:
            raise input_error("--sched-on-updates", True, "must be left out: --sched plateau follows the validation")
        if self.sched == "plateau" and self.val_interval > 1:
            raise input_error("--val-interval", self.val_interval, "must be 1: --sched plateau follows the validation")
        if self.sched == "plateau" and self.decay_rate == 1:
            raise input_error("--decay-rate", 1.0, "must be below 1 for --sched plateau")
        if self.sched == "multistep" and not self.decay_milestones:
            raise input_error("--sched", "multistep", "needs --decay-milestones")
        check_ascending("--decay-milestones", self.decay_milestones or ())


@dataclass(frozen=True)
class DeviceConfig:
    """The device and precision in which models compute."""

    device: str = field(default_factory=lambda: "cuda" if torch.cuda.is_available() else "cpu")
    channels_last: bool = False
    amp: bool = False
    amp_dtype: Literal["float16", "bfloat16"] = "float16"

    @property
    def torch_device(self) -> torch.device:
        """The device as a ``torch.device``."""
        return torch.device(self.device)

    @property
    def scales_loss(self) -> bool:
        """Whether training uses loss scaling, which float16 gradients need."""
        return self.amp and self.amp_dtype == "float16"

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """A context in which models compute in mixed precision if ``amp``; losses control their own precision."""
        if not self.amp:
            return contextlib.nullcontext()
        return torch.autocast(self.torch_device.type, dtype=getattr(torch, self.amp_dtype))


@dataclass(frozen=True)
class RunConfig:
    """Seeds, output, and how runs are executed. Raises InputError: invalid folder name or unknown compiler."""

    seed: int = 42
    data_seed: int = 42
    output: Path = Path("runs")
    experiment: str | None = None
    resume: bool = False
    group_size: int | None = None
    torchcompile: str | None = None
    log_interval: int | None = None
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
    """This process's place among the processes of torch.distributed."""

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
        """The number of images in an evaluation batch."""
        return self.loader.validation_batch_size or 256


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(EvaluationConfig):
    """The training of one model; a command that trains several builds one configuration for each.

    Raises:
        InputError: there are too few epochs for a temperature schedule; mixup or cutmix is combined with an odd batch
            size or a loss that needs plain labels; or the loss on the labels has weight 0 but is configured.
    """

    model: ModelConfig
    distillation: DistillationConfig
    optimisation: OptimisationConfig
    augmentation: AugmentationConfig
    run: RunConfig
    task_loss: TaskLossConfig
    mixing: MixingConfig
    config: Path | None = None  # the file from which flags were read

    def __post_init__(self) -> None:
        if (schedule := self.distillation.kd_temperature_schedule) != "constant" and self.optimisation.epochs < 2:
            raise input_error("--kd-temperature-schedule", schedule, "needs --epochs of at least 2")
        if self.mixing.mixes and self.optimisation.batch_size % 2:
            raise input_error("--batch-size", self.optimisation.batch_size, "must be even: images are mixed in pairs")
        if self.mixing.mixes and self.distillation.kd_loss == "decoupled":
            raise input_error("--kd-loss", "decoupled", "needs one label per image; --mixup and --cutmix mix labels")
        if self.task_loss.bce_loss and self.distillation.distils and not self.distillation.task_loss_weight:
            raise input_error("--bce-loss", True, "needs --task-loss-weight: without it labels are not trained on")

    @property
    def validation_batch_size(self) -> int:
        """The number of images in a batch of the validation split."""
        return self.loader.validation_batch_size or self.optimisation.batch_size

    def stored(self) -> dict[str, Any]:
        """The fields of all parts in one dictionary, as stored in run records and checkpoints."""
        roles: tuple[Any, ...] = (
            self.dataset,
            self.input,
            self.loader,
            self.model,
            self.distillation,
            self.optimisation,
        )
        roles += (self.task_loss, self.mixing, self.augmentation, self.device, self.run, self.processes)
        stored = {"config": self.config} | {name: value for role in roles for name, value in asdict(role).items()}
        if not self.distillation.distils:
            stored["kd_temperature"] = [stored["kd_temperature"]]  # has been a list since the first version
        return stored
