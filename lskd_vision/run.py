"""One model in training, teacher or student: its task, optimisation, random numbers, checkpoints and record.

A run holds what belongs to its model alone. Runs that are trained in one process share images and teachers.
"""

import contextlib
import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from timm.utils import distribute_bn
from torch import Tensor
from torch.nn import SyncBatchNorm

from lskd.io.errors import input_error
from lskd.io.files import write_text
from lskd.records.nonfinite_batch import keep_batch
from lskd.records.provenance import now
from lskd.records.runs import read_run, write_training_record
from lskd_vision.checkpoints import read_state, save_checkpoint
from lskd_vision.config import TrainingConfig
from lskd_vision.data import DataConfig
from lskd_vision.epoch_means import EpochMeans
from lskd_vision.feature_distillation import StudentWithConnectors
from lskd_vision.last_step import LastStep
from lskd_vision.models import build, first_line, meta_model, parameter_count
from lskd_vision.optimisation import Optimisation
from lskd_vision.pooled_features import StudentWithProjection, with_projection
from lskd_vision.progress import LOG, log_text
from lskd_vision.randomness import RandomStream
from lskd_vision.run_record import BEST, LAST, new_record, stored_args
from lskd_vision.task import DistillationTask
from lskd_vision.task_kinds import make_task, train_both_heads
from lskd_vision.teacher import Normalisation, Teacher, TeacherOutput
from lskd_vision.timm_model import TimmModel
from lskd_vision.validation_fidelity import ValidationLogits

VALIDATED = ("top1", "top5", "nll_loss", "teacher_agreement", "teacher_kl")  # what a row of history has of a validation
OVERFLOWS = 20  # in a row; after as many, fairseq's loss scale is at its minimum
# The parts of the record that a checkpoint has too.
COPIED = ("configuration", "seed", "data", "teacher", "versions", "hardware", "revision", "history", "nondeterminism")


class TrainingRun:
    """A model in training.

    Args:
        config: the configuration of this training.
        teacher: the teacher, if the model is a student.
        data_name: the data set's name, for the directory.
        data_record: the description of the data in the run record.
        data_config: the model's data configuration.
        names_teacher: whether the run's name identifies its teacher, as the command has several with the same α.
    """

    def __init__(
        self,
        config: TrainingConfig,
        teacher: Teacher | None,
        data_name: str,
        data_record: dict[str, Any],
        data_config: DataConfig,
        names_teacher: bool = False,
    ) -> None:
        self.config, self.teacher, self.names_teacher = config, teacher, names_teacher
        self.data_record, self.data_config = data_record, data_config
        self.directory = config.run.output / (config.run.experiment or data_name) / self.name
        self.teacher_record = teacher.record() if teacher else None  # with its score, once it is known
        self.teacher_logits: ValidationLogits | None = None  # of a student, once its teacher is scored
        self.next_epoch = 0
        self.best: float | None = None
        self.failure: str | None = None
        self.overflows = 0  # losses in a row that were not finite

    @property
    def name(self) -> str:
        """``<model>_a<α>_T<T>_s<seed>`` for a student, with its teacher's α; ``<model>_a<α>_s<seed>`` for a teacher.

        T is followed by the settings of the loss that are not the paper's, see :attr:`DistillationConfig.name`; and,
        if a command has several teachers with the same α, by ``_t`` and the first digits of this one's fingerprint.
        """
        model, seed = self.config.model.model.replace("/", "-").replace(":", "-"), self.config.run.seed
        if self.teacher is None:
            return f"{model}_a{self.config.distillation.smoothing:g}_s{seed}"
        alpha = self.teacher.label_smoothing["alpha"]
        known = "unknown" if alpha is None else f"{alpha:g}"
        which = f"_t{self.teacher.fingerprint[:6]}" if self.names_teacher else ""
        return f"{model}_a{known}_{self.config.distillation.name}{which}_s{seed}"

    @property
    def class_names(self) -> list[str]:
        """The data's class names, in the order of their labels."""
        return self.data_record["classes"]

    @property
    def distils_features(self) -> bool:
        """Whether features are distilled, alone or with the logits."""
        return self.config.distillation.kd_distill_type in ("overhaul", "feature")

    @property
    def kind(self) -> tuple[str, Teacher | None]:
        """A key that is equal for runs whose models differ only in their initial weights."""
        return self.config.model.model, self.teacher if self.distils_features else None

    @functools.cached_property
    def parameters(self) -> int:
        """The model's number of parameters, without the layers that feature distillation adds."""
        return parameter_count(meta_model(self.config.model, self.config.input, len(self.class_names)))

    def build_model(self) -> TimmModel | StudentWithConnectors | StudentWithProjection:
        """Build the initial model, which depends on ``--seed`` and the model's options alone."""
        with RandomStream(torch.device("cpu"), self.config.run.seed):
            model = build(self.config.model, self.config.input, self.class_names)
            if self.config.distillation.kd_distill_type == "token":
                train_both_heads(model, self.config.model.model)
            if self.teacher is not None and self.teacher.features is not None:  # they are distilled too
                return StudentWithConnectors(model, self.teacher.features.channels)
            if self.teacher is not None and self.teacher.feature_width is not None:
                return with_projection(model, self.config.model.model, self.teacher.feature_width)
        return model

    def start(self, batches_per_epoch: int) -> None:
        """Make everything that training needs, and resume from the last checkpoint if there is one.

        Args:
            batches_per_epoch: the number of batches of this process.
        """
        config, device = self.config, self.config.device.torch_device
        self.images_per_epoch = batches_per_epoch * config.optimisation.batch_size * config.processes.world_size
        model = self.build_model().to(device)
        if config.device.channels_last:
            model = model.to(memory_format=torch.channels_last)
        if config.model.sync_bn and config.processes.distributed:
            model = SyncBatchNorm.convert_sync_batchnorm(model)
        normalisation = Normalisation.of(self.data_config, device)
        self.task = make_task(model, config.distillation, self.teacher, normalisation, device, config.task_loss)
        scaled_on = device.type if config.device.scales_loss else None
        self.optimisation = Optimisation(config.optimisation, self.task, batches_per_epoch, scaled_on)
        if config.run.torchcompile:
            self.task.compile(backend=config.run.torchcompile)
        if config.model.model_ema:
            self.task.setup_ema(decay=config.model.model_ema_decay, use_warmup=config.model.model_ema_warmup)
        self.record = new_record(self.config, self.data_config, self.data_record, self.teacher_record)
        self.seconds = 0.0
        if self.next_epoch or (self.directory / LAST).exists():
            self.restore()
        if config.processes.distributed:
            self.task.prepare_distributed(device_ids=[device] if device.type == "cuda" else None)
        self.optimisation.begin_epoch(self.next_epoch)

    def begin_epoch(
        self,
        epoch: int,
        ids_of: Callable[[int], Sequence[object]] = lambda batch: [f"batch {batch}"],
        together: int = 1,
    ) -> None:
        """Prepare for the first batch of an epoch.

        Args:
            epoch: from 0.
            ids_of: gives the images of a batch, for messages.
            together: how many models are trained in this process in this epoch, sharing its time.
        """
        self.ids_of, self.together = ids_of, together
        if isinstance(self.task, DistillationTask):
            epochs = self.config.optimisation.epochs
            self.task.settings["temperature"] = self.config.distillation.temperature_in(epoch, epochs)
        self.task.train()
        self.optimisation.optimizer.zero_grad()
        self.means = EpochMeans(self.config.device.torch_device, self.config.device.scales_loss)
        self.last_step: LastStep | None = None  # for check_last_step
        self.began = time.monotonic()
        device, seed = self.config.device.torch_device, self.config.run.seed
        self.random = RandomStream(device, seed, epoch, self.config.processes.rank)

    def step(
        self, images: Tensor, target: Tensor, teacher_output: TeacherOutput | None, epoch: int, batch: int
    ) -> None:
        """Run forward and backward and, if a group of batches is complete, an update.

        Args:
            images: (N, C, H, W), normalised as the run's data configuration says.
            target: (N,) labels, or (N, K) mixed labels.
            teacher_output: for the same images.
            epoch: from 0.
            batch: the batch's number in the epoch, from 0.
        """
        together, complete = self.optimisation.group_of(batch)
        self.check_last_step()
        if self.failure and not self.config.processes.distributed:
            return
        with self.random, contextlib.nullcontext() if complete else self.task.no_sync():
            with self.config.device.autocast():
                result = self.task(images, target, teacher_output) if self.teacher else self.task(images, target)
            self.optimisation.backward(result["loss"] / together, complete)
        if complete:
            self.optimisation.end_update(epoch, batch)
        taught = None if teacher_output is None else teacher_output.logits
        self.last_step = LastStep(batch, result["loss"].detach(), target, result["output"].detach(), taught)
        self.means.add(result, len(target))

    def check_last_step(self) -> None:
        """Fail if the loss of the last step was not finite, and save its batch. By now, a GPU has computed it.

        With a loss scaler, which reduces its scale, fail only after :data:`OVERFLOWS` such steps in a row. With several
        processes, training only ends with the epoch, so that none waits for another.
        """
        if self.last_step is None:
            return
        step, self.last_step = self.last_step, None
        loss = step.loss.item()
        self.overflows = 0 if math.isfinite(loss) else self.overflows + 1
        if self.failure or self.overflows < (OVERFLOWS if self.config.device.scales_loss else 1):
            return
        ids, settings = self.ids_of(step.batch), self.record.configuration
        self.failure = keep_batch(self.directory, ids, loss, settings, step.tensors())

    def end_epoch(self) -> dict[str, float]:
        """Return the means of the epoch over all processes, and average their BatchNorm statistics."""
        self.check_last_step()
        means = self.means.of_all_processes()
        if self.config.processes.distributed:
            for ema in (False, True)[: 1 + self.task.has_ema()]:
                distribute_bn(self.task.get_trainable_module(ema=ema), self.config.processes.world_size, reduce=True)
            failed = torch.tensor(float(self.failure is not None), device=self.config.device.torch_device)
            torch.distributed.all_reduce(failed, torch.distributed.ReduceOp.MAX)
            if failed and not self.failure:  # all processes leave the run out, or the next collective would not match
                self.failure = "the loss was not finite in another process"
        if not math.isfinite(means["train_loss"]) and not self.failure:
            self.failure = f"the loss of epoch {self.next_epoch + 1} is {means['train_loss']}; try a smaller --lr"
        return means

    def finish_epoch(
        self, epoch: int, training: Mapping[str, float], validation: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Record an epoch, save the checkpoints and set the learning rate of the next.

        Args:
            epoch: from 0.
            training: means, from :meth:`end_epoch`.
            validation: for the weights, ``""``, and their average, ``"_ema"``:
                :func:`lskd.measure.accuracy.accuracy_metrics`, and a student's fidelity to its teacher; empty after an
                epoch without validation.
        """
        self.seconds += time.monotonic() - self.began
        self.next_epoch = epoch + 1
        row = self._history_row(epoch, training, validation)
        self.record.add_validation(row)
        suffix = "_ema" if "_ema" in validation else ""
        score = row.get(f"valid_top1{suffix}")
        loss = row.get(f"valid_nll_loss{suffix}")  # None where it is not finite
        by_loss = self.config.optimisation.plateau_mode == "min"
        self.optimisation.begin_epoch(self.next_epoch, (math.inf if loss is None else loss) if by_loss else score)
        better = score is not None and (self.best is None or score > self.best)
        self.best = score if better else self.best
        names = [LAST] + [BEST] * better
        for name in names:
            self.record.metrics.get("valid", {}).pop(name, None)
            for suffix, metrics in validation.items():
                self.record.add_metrics("valid", name, {f"{key}{suffix}": value for key, value in metrics.items()})
        if self.config.processes.rank == 0:
            self._save(names, self.state(epoch, score))

    def _history_row(
        self, epoch: int, training: Mapping[str, float], validation: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, Any]:
        """The record's row of an epoch, with the learning rate that it had."""
        updates = (epoch + 1) * self.optimisation.updates_per_epoch
        row: dict[str, Any] = {"epoch": epoch + 1, "updates": updates, "time": now()}
        row |= {"seconds": round(self.seconds, 1), "together": self.together, "lr": self.optimisation.rate}
        row |= {name: value if math.isfinite(value) else None for name, value in training.items()}
        if self.config.distillation.kd_temperature_schedule != "constant":
            row["kd_temperature"] = self.config.distillation.temperature_in(epoch, self.config.optimisation.epochs)
        for suffix, metrics in validation.items():
            row |= {f"valid_{key}{suffix}": metrics[key] for key in VALIDATED if key in metrics}
        return row

    def _save(self, names: Sequence[str], state: Mapping[str, Any]) -> None:
        """Write the checkpoints, ``train.log`` and ``run.json``, in this order.

        The best checkpoint is first: after a kill between the two, the epoch is repeated with the same result.
        ``run.json`` is last, because a run that has ended according to its record is not resumed.
        """
        for name in reversed(names):
            save_checkpoint(self.directory / name, state)
        self.write_log()
        write_training_record(self.record, self.directory, names)

    def write_log(self) -> None:
        """Rewrite ``train.log`` from the record, so that it has each epoch once even after a kill and a resumption."""
        sizes = self.parameters, self.teacher.parameters if self.teacher else 0
        write_text(self.directory / LOG, log_text(self.name, self.record, *sizes, self.images_per_epoch))

    def state(self, epoch: int, score: float | None) -> dict[str, Any]:
        """A checkpoint in timm's format, of plain values; ``lskd`` holds this project's record of the training."""
        args = stored_args(self.config, len(self.class_names))
        state = {"epoch": epoch, "arch": self.config.model.model, "version": 2, "args": args, "metric": score}
        state |= self.optimisation.state()
        state |= self.task.get_checkpoint_state()
        state |= self.task.get_checkpoint_state(ema=True)
        state["lskd"] = {key: getattr(self.record, key) for key in COPIED}
        state["lskd"] |= {"best": self.best, "seconds": self.seconds, "valid": self.record.metrics.get("valid", {})}
        return state

    def restore(self) -> None:
        """Resume from the last checkpoint, which is complete even if a kill kept the record from being written."""
        path = self.directory / LAST
        state = read_state(path, "--resume")
        try:
            self.task.load_checkpoint_state(state["state_dict"], state.get("task_state"))
            if self.task.has_ema():
                self.task.load_checkpoint_state(state["state_dict_ema"], state.get("task_state_ema"), ema=True)
            self.optimisation.restore(state)
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise input_error("--resume", path, f"does not fit the run: {first_line(error)}") from None
        self.next_epoch = state["epoch"] + 1
        self.best, self.seconds = state["lskd"]["best"], state["lskd"]["seconds"]
        if (earlier := read_run(self.directory)) is None:
            raise input_error("--resume", path, "must have its run.json beside it")
        self.record.started, self.record.metrics = earlier.started, earlier.metrics
        self.record.metrics["valid"], self.record.history = state["lskd"]["valid"], state["lskd"]["history"]

    def free(self) -> None:
        """Release everything that takes memory."""
        for name in ("task", "optimisation"):
            self.__dict__.pop(name, None)
