"""A timm task for distillation: the forward pass and the loss of one student, for any timm models.

A teacher's output can be passed in, so that many students share one forward pass of their teacher. Tasks that distil
features or a separate token are in :mod:`lskd_vision.task_kinds`.
"""

from typing import Any

import torch
import torch.nn.functional as F
from timm.task import ClassificationTask
from timm.utils import unwrap_model
from torch import Tensor, nn

from lskd.loss.checks import check_settings
from lskd.loss.distillation import distillation_loss
from lskd.loss.types import GradientScale, LossType, MeasuredSums
from lskd_vision.task_losses import SmoothedCrossEntropy
from lskd_vision.teacher import Normalisation, Teacher, TeacherOutput, input_config


class DistillationTask(ClassificationTask):
    """Distil a student: ``(1-β)·H(y, p) + β·T_s²·KL(p_teacher(T) ‖ p_student(T_s))``, the mean over images.

    The loss is computed in float32 whatever the model's precision (:mod:`lskd.loss.distillation`). The teacher is held
    outside the module: it is not trained, wrapped, or saved with the student.

    Args:
        model: the student, a timm model.
        teacher: its teacher; may be None if every call passes the teacher's output.
        temperature: T, from 10⁻⁶ to 10⁵.
        student_temperature: the student's own temperature; when None, T, or 1 for the losses ``mse`` and ``wttm``.
        kd_weight: β, in [0, 1]; the paper's 1 leaves the hard labels out.
        label_smoothing: α of the hard-label loss, in [0, 1).
        criterion: a hard-label loss of logits and labels to use instead of H; it smooths labels itself.
        loss: the distillation term; for this and the next two, see :func:`lskd.loss.distillation.distillation_loss`.
        nckd_weight: for the loss ``decoupled``.
        gradient_scale: for the distillation term; ``match`` is over the batch of all processes.
        normalisation: that of the student's inputs, which are renormalised for the teacher; the model's own when None.
        device: the student's device.

    Raises:
        ValueError: a setting is out of range, or cannot be combined with the loss.
    """

    def __init__(
        self,
        model: nn.Module,
        teacher: Teacher | None = None,
        *,
        temperature: float = 1.0,
        student_temperature: float | None = None,
        kd_weight: float = 1.0,
        label_smoothing: float = 0.0,
        criterion: nn.Module | None = None,
        loss: LossType = "kl",
        nckd_weight: float | None = None,
        gradient_scale: GradientScale = "t2",
        normalisation: Normalisation | None = None,
        device: torch.device | None = None,
    ) -> None:
        # For plain labels, distillation_loss computes H.
        self.fused_task_loss = criterion is None
        criterion = criterion or SmoothedCrossEntropy(label_smoothing=label_smoothing)
        super().__init__(model, criterion=criterion, device=device, verbose=False)
        self.settings: dict[str, Any] = {
            "temperature": temperature,
            "student_temperature": student_temperature,
            "kd_weight": kd_weight,
            "label_smoothing": label_smoothing,
            "loss": loss,
            "nckd_weight": nckd_weight,
            "gradient_scale": gradient_scale,
        }
        check_settings(**self.settings)
        self.teacher = [teacher]  # in a list, so that nn.Module does not register it
        if teacher is not None and normalisation is None:
            normalisation = Normalisation.of(input_config(unwrap_model(self.get_eval_model())), self.device)
        self.normalisation = normalisation

    def forward(self, input: Tensor, target: Tensor, teacher_output: TeacherOutput | None = None) -> dict[str, Tensor]:
        """Compute the loss of a batch, and the other scalars that are logged.

        Args:
            input: (N, C, H, W), normalised for the student.
            target: (N,) class indices, or (N, K) mixed labels.
            teacher_output: for the same images; when None, the task's own teacher computes it.

        Returns:
            ``output`` (N, K), the student's logits, and scalars, means over the images, in nats: ``loss``, which is
            differentiable, ``kd_loss`` (T_s²·KL), ``task_loss`` (hard labels, smoothed), ``nll_loss`` (T = 1, not
            smoothed), ``teacher_entropy`` (at T); ``teacher_agreement`` in %. All are 0 for an empty batch. In training
            also ``gradient_square`` and ``gradient_square_t1``, see :class:`lskd.loss.types.MeasuredSums`.
        """
        teacher_output = teacher_output or self._run_teacher(input)
        return self._losses(self.trainable_module(input), target, teacher_output)

    def _run_teacher(self, images: Tensor) -> TeacherOutput:
        if (teacher := self.teacher[0]) is None:
            raise ValueError("teacher_output: None (must be given, the task has no teacher)")
        return teacher(images, self.normalisation)

    def _losses(self, logits: Tensor, target: Tensor, teacher_output: TeacherOutput) -> dict[str, Tensor]:
        images, mixed = max(1, len(target)), target.dim() == 2
        if mixed and self.settings["loss"] == "decoupled":
            raise ValueError(
                "target: mixed labels (must be one label per image: the loss decoupled treats the label separately)"
            )
        labels = target.argmax(1) if mixed else target
        separate = mixed or not self.fused_task_loss
        # The batches of several processes, of the same size, are matched as one.
        all_reduce = torch.distributed.all_reduce if torch.distributed.is_initialized() else None
        settings: dict[str, Any] = self.settings | ({"kd_weight": 1.0} if separate else {})
        sums = distillation_loss(
            logits, teacher_output.logits, labels, measure_gradient=True, all_reduce=all_reduce, **settings
        )
        loss, task_loss, nll_loss = sums.loss / images, sums.hard_loss / images, sums.nll_loss / images
        if separate and len(target):
            loss, task_loss = self._with_criterion(loss, logits, target)
        if mixed and len(target):
            nll_loss = F.cross_entropy(logits.detach().float(), target)
        measured = {}
        if isinstance(sums, MeasuredSums):
            measured = {name: getattr(sums, name) / images for name in ("gradient_square", "gradient_square_t1")}
        return measured | {
            "loss": loss,
            "output": logits,
            "task_loss": task_loss,
            "kd_loss": sums.kd_loss / images,
            "nll_loss": nll_loss,
            "teacher_entropy": sums.teacher_entropy / images,
            "teacher_agreement": 100 * sums.agreement / images,
        }

    def _with_criterion(self, kd_loss: Tensor, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The loss and its hard-label term; a term of weight 0 is left out, even if it is not finite."""
        kd_weight = self.settings["kd_weight"]
        task_loss = self.criterion(logits if kd_weight < 1 else logits.detach(), target)
        if kd_weight in (0, 1):
            return (kd_loss if kd_weight else task_loss), task_loss
        return kd_weight * kd_loss + (1 - kd_weight) * task_loss, task_loss
