"""The tasks of ``--kd-distill-type``, which distil features or a separate token, besides or instead of the logits.

To add a kind, add a class here, a value of ``--kd-distill-type``, and a line in :func:`make_task`.
"""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from timm.task import ClassificationTask, TrainingTask
from timm.utils import unwrap_model
from torch import Tensor, nn

from lskd.io.errors import input_error
from lskd_vision.feature_distillation import FEATURE_WEIGHT, feature_loss
from lskd_vision.loss_config import DistillationConfig, TaskLossConfig
from lskd_vision.task import DistillationTask
from lskd_vision.task_losses import make_task_loss
from lskd_vision.teacher import Normalisation, Teacher, TeacherOutput


class _WithLayersBeside(DistillationTask):
    """A task whose student is trained with extra layers that map its features to the teacher's.

    The trained module has the student as ``student``, and the layers, or None, under the name :attr:`beside`;
    checkpoints keep the two apart, so that the student's weights are those of a plain model.
    """

    beside: ClassVar[str]

    def get_eval_model(self, module: nn.Module | None = None, ema: bool = False) -> nn.Module | None:
        """The student alone, for validation and checkpoints."""
        module = module if module is not None else self.get_trainable_module(ema=ema)
        return None if module is None else unwrap_model(module).student

    def get_task_state(self, module: nn.Module | None = None, ema: bool = False) -> dict[str, Any]:
        """The weights of the layers, for checkpoints; empty if there are none."""
        layers = self._layers(ema)
        return {self.beside: layers.state_dict()} if layers is not None else {}

    def load_task_state(
        self, state: dict[str, Any] | None, strict: bool = True, module: nn.Module | None = None, ema: bool = False
    ) -> None:
        """Restore the layers from a checkpoint."""
        if state and (layers := self._layers(ema)) is not None:
            layers.load_state_dict(state[self.beside], strict=strict)

    def get_clip_parameters(self, exclude_head: bool = False) -> list[nn.Parameter]:
        """The parameters whose gradients are clipped; ``exclude_head`` leaves out the student's last layer."""
        student = list(unwrap_model(self.trainable_module).student.parameters())
        layers = self._layers(ema=False)
        return student[: -2 if exclude_head else None] + ([] if layers is None else list(layers.parameters()))

    def _layers(self, ema: bool) -> nn.Module | None:
        module = self.get_trainable_module(ema=ema)
        return None if module is None else getattr(unwrap_model(module), self.beside)


class OverhaulDistillationTask(_WithLayersBeside):
    """Heo et al. 2019: feature distillation before the last ReLU of four stages, with distillation as the task loss.

    The trained module is the student with its connectors. The scalars include the weighted ``feature_loss``.
    """

    beside = "connectors"

    def __init__(
        self, model: nn.Module, teacher: Teacher | None = None, *, margins: list[Tensor], **settings: Any
    ) -> None:
        super().__init__(model, teacher, **settings)
        self.margins = margins

    def forward(self, input: Tensor, target: Tensor, teacher_output: TeacherOutput | None = None) -> dict[str, Tensor]:
        """As :meth:`DistillationTask.forward`; the teacher's output must include its features."""
        teacher_output = teacher_output or self._run_teacher(input)
        logits, features = self.trainable_module(input, with_features=True)
        result = self._losses(logits, target, teacher_output)
        weighted = FEATURE_WEIGHT * feature_loss(features, teacher_output.features, self.margins)
        return result | {"loss": result["loss"] + weighted, "feature_loss": weighted.detach()}


class FeatureDistillationTask(_WithLayersBeside):
    """timm's task of this name: the student's penultimate features learn the teacher's, and its logits the labels.

    The loss is ``(1-w)·mean((f_student - f_teacher)²) + w·H(y, p)``, with the mean over images and features; the
    student's features are projected to the teacher's width if it differs. Both terms are computed in float32. The
    teacher's logits are only compared with the student's, for the scalars.

    Args:
        model: the student with its projection, see :func:`lskd_vision.pooled_features.with_projection`.
        teacher: one that gives these features.
        task_loss_weight: w, the weight of the hard-label loss, between 0 and 1.
        criterion: the hard-label loss.
        settings: as for :class:`DistillationTask`; there is no temperature.
    """

    beside = "projection"

    def __init__(
        self,
        model: nn.Module,
        teacher: Teacher | None = None,
        *,
        task_loss_weight: float,
        criterion: nn.Module,
        **settings: Any,
    ) -> None:
        super().__init__(model, teacher, criterion=criterion, **settings | {"kd_weight": 1.0})
        self.task_loss_weight = task_loss_weight

    def forward(self, input: Tensor, target: Tensor, teacher_output: TeacherOutput | None = None) -> dict[str, Tensor]:
        """As :meth:`DistillationTask.forward`; ``kd_loss`` is the mean squared error of the features."""
        teacher_output = teacher_output or self._run_teacher(input)
        logits, features = self.trainable_module(input)
        result = _without_gradients(self._losses(logits.detach(), target, teacher_output))
        (wanted,) = teacher_output.features
        loss, task_loss = F.mse_loss(features.float(), wanted.float()), self.criterion(logits, target)
        of_labels = _of_labels(logits, target, task_loss, loss, self.task_loss_weight)
        return result | {"kd_loss": loss.detach()} | of_labels


class TokenDistillationTask(DistillationTask):
    """Distil into a model with a second head, such as a distilled DeiT: labels train one head, the teacher the other.

    In evaluation the model's logits are the mean of the two. As in timm's task of this name; the distillation term is
    any of :class:`DistillationTask`, or with ``hard`` the cross entropy with the teacher's class.

    Args:
        model: with distilled training switched on, see :func:`train_both_heads`.
        teacher: as for :class:`DistillationTask`.
        task_loss_weight: the weight w of the hard-label loss, between 0 and 1; the distillation term has 1-w.
        criterion: the hard-label loss.
        hard: learn only the teacher's class.
        settings: as for :class:`DistillationTask`.
    """

    def __init__(
        self,
        model: nn.Module,
        teacher: Teacher | None = None,
        *,
        task_loss_weight: float,
        criterion: nn.Module,
        hard: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(model, teacher, criterion=criterion, **settings | {"kd_weight": 1.0})
        self.task_loss_weight, self.hard = task_loss_weight, hard

    def forward(self, input: Tensor, target: Tensor, teacher_output: TeacherOutput | None = None) -> dict[str, Tensor]:
        """As :meth:`DistillationTask.forward`; ``output``, ``task_loss`` and ``nll_loss`` are of the labels' head."""
        teacher_output = teacher_output or self._run_teacher(input)
        of_labels, of_teacher = self.trainable_module(input)
        result = self._losses(of_teacher, target, teacher_output)
        if self.hard:
            if isinstance(teacher_output.logits, list):
                raise ValueError("teacher_output: several teachers' logits (must be one's, whose class is learnt)")
            loss = F.cross_entropy(of_teacher.float(), teacher_output.logits.argmax(1))
            result = _without_gradients(result) | {"loss": loss, "kd_loss": loss.detach()}
        task_loss = self.criterion(of_labels, target)
        return result | _of_labels(of_labels, target, task_loss, result["loss"], self.task_loss_weight)


def _of_labels(
    logits: Tensor, target: Tensor, task_loss: Tensor, kd_loss: Tensor, task_loss_weight: float
) -> dict[str, Tensor]:
    """The results of a task that depend on the logits that labels train, including the total loss."""
    return {
        "loss": (1 - task_loss_weight) * kd_loss + task_loss_weight * task_loss,
        "output": logits,
        "task_loss": task_loss.detach(),
        "nll_loss": F.cross_entropy(logits.detach().float(), target),
    }


def _without_gradients(result: dict[str, Tensor]) -> dict[str, Tensor]:
    """A task's result without the squared norms of a gradient that is not used."""
    return {name: value for name, value in result.items() if not name.startswith("gradient_square")}


def train_both_heads(model: nn.Module, name: str) -> None:
    """Make a model return the logits of both heads in training.

    Raises:
        InputError: naming ``--model``: it has only one head.
    """
    switch: Any = getattr(model, "set_distilled_training", None)
    if switch is None:
        valid = "must have a head for the teacher, as deit_tiny_distilled_patch16_224, for --kd-distill-type token"
        raise input_error("--model", name, valid)
    switch(True)


def make_task(
    model: nn.Module,
    config: DistillationConfig,
    teacher: Teacher | None,
    normalisation: Normalisation,
    device: torch.device,
    task_loss: TaskLossConfig,
) -> TrainingTask:
    """Make the task of a model in training: timm's classification without a teacher, distillation with one.

    Args:
        model: on ``device``; with its connectors or its projection if features are distilled.
        config: the configuration of distillation.
        teacher: the teacher, if the model is a student.
        normalisation: that of the model's inputs.
        device: the model's device.
        task_loss: the configuration of the hard-label loss.
    """
    criterion = make_task_loss(task_loss, config.smoothing)
    if teacher is None:
        return ClassificationTask(model, criterion=criterion, device=device, verbose=False)
    settings: dict[str, Any] = {
        "temperature": config.kd_temperature,
        "student_temperature": config.kd_student_temperature,
        "kd_weight": 1 - config.task_loss_weight,
        "label_smoothing": config.smoothing,
        "criterion": criterion if task_loss.bce_loss else None,
        "loss": config.kd_loss,
        "nckd_weight": config.kd_nckd_weight,
        "gradient_scale": config.kd_gradient_scale,
        "normalisation": normalisation,
        "device": device,
    }
    if config.kd_distill_type == "overhaul":
        return OverhaulDistillationTask(model, teacher, margins=teacher.margins(), **settings)
    if config.kd_distill_type in ("token", "feature"):
        settings |= {"criterion": criterion, "task_loss_weight": config.task_loss_weight}
    if config.kd_distill_type == "token":
        return TokenDistillationTask(model, teacher, hard=config.learns_class, **settings)
    if config.kd_distill_type == "feature":
        return FeatureDistillationTask(model, teacher, **settings)
    return DistillationTask(model, teacher, **settings)
