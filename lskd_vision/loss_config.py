"""The configuration of the loss: the hard-label loss, and the distillation of a teacher.

Fields have the names of the flags in :mod:`lskd_vision.training_options`.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from lskd.io.errors import InputError, input_error
from lskd.loss.checks import check_settings
from lskd.loss.schedule import TemperatureSchedule, check_schedule, highest_temperature, scheduled_temperature
from lskd.loss.types import GradientScale, LossType, Settings
from lskd_vision.config_values import flag

DistillType = Literal["logit", "overhaul", "token", "feature"]
# The flags for the arguments of lskd.loss.
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

OF_SOFT_TARGETS = {"kd_temperature", "kd_student_temperature", "kd_temperature_schedule", "kd_final_temperature"}
OF_SOFT_TARGETS |= {"kd_loss", "kd_nckd_weight", "kd_gradient_scale"}


@dataclass(frozen=True)
class TaskLossConfig:
    """The hard-label loss. Raises InputError: an option of the binary cross entropy is set without ``bce_loss``."""

    bce_loss: bool = False
    bce_sum: bool = False
    bce_target_thresh: float | None = None
    bce_pos_weight: float | None = None

    def __post_init__(self) -> None:
        for each in fields(self):
            if not self.bce_loss and (value := getattr(self, each.name)) != each.default:
                raise input_error(flag(each.name), value, "needs --bce-loss")


@dataclass(frozen=True)
class DistillationConfig:
    """The distillation loss and the teacher.

    Raises:
        InputError: a field that needs a teacher is set without one; or fields do not fit together.
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
    kd_token_distill_type: Literal["soft", "hard"] = "soft"  # noqa: S105 (no password)

    def __post_init__(self) -> None:
        for each in fields(self):
            if not self.distils and each.name != "smoothing" and (value := getattr(self, each.name)) != each.default:
                raise input_error(flag(each.name), value, "needs a teacher: --kd-checkpoint")
        if self.kd_batch_statistics and self.kd_distill_type != "overhaul":
            raise input_error("--kd-batch-statistics", True, "needs --kd-distill-type overhaul")
        self._check_token()
        self._check_without_soft_targets()
        if self.task_loss_weight == 1 and (self.kd_loss != "kl" or self.kd_gradient_scale != "t2"):
            name = "kd_loss" if self.kd_loss != "kl" else "kd_gradient_scale"
            valid = f"must be below 1: {flag(name)} {getattr(self, name)} applies to the distillation term"
            raise input_error("--task-loss-weight", 1.0, valid)
        try:
            self.loss_settings()
            check_schedule(self.kd_temperature, self.kd_temperature_schedule, self.kd_final_temperature, self.kd_loss)
        except ValueError as error:
            name, _, rest = str(error).partition(":")
            raise InputError(f"{LOSS_FLAGS[name]}:{rest}") from None

    def _check_token(self) -> None:
        """Check the options of distillation with a separate token. Raises InputError."""
        if self.kd_distill_type != "token":
            if self.learns_class:
                raise input_error("--kd-token-distill-type", "hard", "needs --kd-distill-type token")
            return
        if not 0 < self.task_loss_weight < 1:
            valid = "must be above 0 and below 1 for --kd-distill-type token: a head learns the labels, one the teacher"
            raise input_error("--task-loss-weight", self.task_loss_weight, valid)

    def _check_without_soft_targets(self) -> None:
        """Check that no option of soft targets is set where none are learnt. Raises InputError."""
        if self.kd_distill_type == "feature":
            instead = "--kd-distill-type feature learns features, which have no temperature and no other loss"
            if not 0 < self.task_loss_weight < 1:
                valid = "must be above 0 and below 1 for --kd-distill-type feature: labels alone train the last layer"
                raise input_error("--task-loss-weight", self.task_loss_weight, valid)
        elif self.learns_class:
            instead = "--kd-token-distill-type hard learns the teacher's class alone"
        else:
            return
        for each in fields(self):
            if each.name in OF_SOFT_TARGETS and (value := getattr(self, each.name)) != each.default:
                raise input_error(flag(each.name), value, f"must be left out: {instead}")

    def loss_settings(self) -> Settings:
        """The settings of the loss, defaults filled in. Raises ValueError: they do not fit together."""
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
    def learns_class(self) -> bool:
        """Whether the teacher's most probable class is learnt instead of its distribution."""
        return self.kd_token_distill_type == "hard"  # noqa: S105 (no password)

    @property
    def distils(self) -> bool:
        """Whether a student is trained, that is, whether there is a teacher."""
        return self.kd_model_name is not None or self.kd_checkpoint is not None

    @property
    def temperature(self) -> float | None:
        """T at the start of training; None without a teacher."""
        return self.kd_temperature if self.distils else None

    def temperature_in(self, epoch: int, epochs: int) -> float:
        """T in ``epoch``, from 0, of ``epochs``."""
        progress = epoch / max(1, epochs - 1)
        return scheduled_temperature(
            self.kd_temperature_schedule, self.kd_temperature, self.kd_final_temperature, progress
        )

    @property
    def highest_temperature(self) -> float:
        """The highest T of the training; infinity for the loss ``mse``, the limit T → ∞."""
        return highest_temperature(self.kd_loss, self.kd_temperature, self.kd_final_temperature)

    @property
    def name(self) -> str:
        """Part of a run's name: T, and the loss, its weight and the gradient scale if they are not the paper's.

        Feature distillation has no T: it is ``feature``.

        >>> DistillationConfig("resnet50", kd_temperature=3.0, kd_loss="decoupled", kd_nckd_weight=2.0).name
        'T3_decoupled2'
        """
        if self.kd_distill_type == "feature":
            return "feature"
        name = f"T{self.kd_temperature:g}"
        if self.kd_final_temperature is not None:
            name += f"to{self.kd_final_temperature:g}{self.kd_temperature_schedule}"
        if self.kd_loss != "kl":
            name += f"_{self.kd_loss}" + ("" if self.kd_nckd_weight is None else f"{self.kd_nckd_weight:g}")
        return name + (f"_{self.kd_gradient_scale}" if self.kd_gradient_scale != "t2" else "")
