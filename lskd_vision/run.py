"""One model in training, teacher or student: its task, optimiser, schedule, random numbers, checkpoints and record.

A run keeps everything that is its own. Runs that are trained in one process share what is not: images and teachers.
"""

import argparse
import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from timm.optim import create_optimizer_v2, optimizer_kwargs
from timm.scheduler import create_scheduler_v2
from timm.task import ClassificationTask, TrainingTask
from timm.utils import NativeScaler, dispatch_clip_grad, distribute_bn
from torch import Tensor, nn
from torch.nn import SyncBatchNorm

from lskd.io.errors import input_error
from lskd.records.nonfinite_batch import keep_batch
from lskd.records.runs import now, read_run, write_training_record
from lskd_vision.checkpoints import read_state, save_checkpoint
from lskd_vision.feature_distillation import StudentWithConnectors, margins, teacher_batch_norms
from lskd_vision.models import build, first_line
from lskd_vision.precision import autocast
from lskd_vision.randomness import RandomStream
from lskd_vision.records import BEST, LAST, new_record, own_arguments, plain
from lskd_vision.task import DistillationTask, OverhaulDistillationTask, SmoothedCrossEntropy
from lskd_vision.teacher import Normalisation, Teacher, TeacherOutput

OVERFLOWS = 20  # steps in a row: in as many, fairseq's scale comes to its smallest


@dataclass(frozen=True)
class Setting:
    """What tells one run of a command from another.

    Attributes:
        model: timm's name.
        seed: of weights and dropout.
        smoothing: α of the labels.
        temperature: T; None for a model that has no teacher.
        teacher: its number among the teachers; None likewise.
    """

    model: str
    seed: int
    smoothing: float
    temperature: float | None = None
    teacher: int | None = None


class Run:
    """A model in training.

    Args:
        setting: what is its own.
        arguments: the command line.
        teacher: of a student.
        data_name: of the data set, for the directory.
        data_record: what its record says of the data.
        config: timm's data configuration, see :func:`lskd_vision.data.data_config`.
    """

    def __init__(
        self,
        setting: Setting,
        arguments: argparse.Namespace,
        teacher: Teacher | None,
        data_name: str,
        data_record: dict,
        config: dict,
    ):
        self.setting, self.arguments, self.teacher = setting, arguments, teacher
        self.data_record, self.config = data_record, config
        self.directory = arguments.output / (arguments.experiment or data_name) / self.name
        self.teacher_record = teacher and teacher.record()  # with its score, when it is known
        self.next_epoch = 0
        self.best: float | None = None
        self.failure: str | None = None
        self.overflows = 0  # losses in a row that were not finite

    @property
    def name(self) -> str:
        """``<model>_a<α>_T<T>_s<seed>``; α is the teacher's of a student, the model's own of a teacher."""
        model = self.setting.model.replace("/", "-").replace(":", "-")
        if self.teacher is None:
            return f"{model}_a{self.setting.smoothing:g}_s{self.setting.seed}"
        alpha = self.teacher.label_smoothing["alpha"]
        known = "unknown" if alpha is None else f"{alpha:g}"
        return f"{model}_a{known}_T{self.setting.temperature:g}_s{self.setting.seed}"

    def build_model(self) -> nn.Module:
        """The model as it is before the first step: a function of ``--seed`` and the options alone."""
        with RandomStream(torch.device("cpu"), self.setting.seed):
            model = build(self.arguments, self.setting.model, self.data_record["classes"])
            if self.overhaul:
                model = StudentWithConnectors(model, self.teacher.features.channels)
        return model

    @property
    def overhaul(self) -> bool:
        """Whether features are distilled too."""
        return self.teacher is not None and self.arguments.kd_distill_type == "overhaul"

    @property
    def scales_loss(self) -> bool:
        """Whether the loss is scaled, as half precision needs it."""
        return self.arguments.amp and self.arguments.amp_dtype == "float16"

    @property
    def kind(self) -> tuple:
        """Equal for runs whose models are alike but for the weights that they begin with."""
        return self.setting.model, self.setting.teacher if self.overhaul else None

    def margins(self, device: torch.device) -> list[Tensor]:
        """The margins of the teacher's stages, see :mod:`lskd_vision.feature_distillation`."""
        return [margins(norm).to(device) for norm in teacher_batch_norms(self.teacher.model)]

    def start(self, device: torch.device, batches_per_epoch: int) -> None:
        """Make everything that training needs, and go on from the last checkpoint where there is one.

        Args:
            device: where to train.
            batches_per_epoch: of this process.
        """
        arguments = self.arguments
        self.device = device
        model = self.build_model().to(device)
        if arguments.channels_last:
            model = model.to(memory_format=torch.channels_last)
        if arguments.sync_bn and arguments.distributed:
            model = SyncBatchNorm.convert_sync_batchnorm(model)
        self.task = self.make_task(model)
        options = optimizer_kwargs(arguments) | {"lr": arguments.lr}
        try:
            self.optimizer = create_optimizer_v2(
                self.task.get_trainable_module(), **options, filter_bias_and_bn=arguments.filter_bias_and_bn
            )
        except (AssertionError, TypeError, ValueError) as error:
            raise input_error("--opt", arguments.opt, f"cannot be made: {error}") from None
        self.updates_per_epoch = math.ceil(batches_per_epoch / arguments.grad_accum_steps)
        self.batches_per_epoch = batches_per_epoch
        self.scheduler, _ = create_scheduler_v2(
            self.optimizer,
            sched=arguments.sched,
            num_epochs=arguments.epochs,
            decay_epochs=arguments.decay_epochs,
            decay_milestones=arguments.decay_milestones or (),
            decay_rate=arguments.decay_rate,
            warmup_epochs=arguments.warmup_epochs,
            warmup_lr=arguments.warmup_lr,
            min_lr=arguments.min_lr,
            step_on_epochs=not arguments.sched_on_updates,
            updates_per_epoch=self.updates_per_epoch,
        )
        self.scaler = NativeScaler(device=device.type) if self.scales_loss else None
        if arguments.torchcompile:
            self.task.compile(backend=arguments.torchcompile)
        if arguments.model_ema:
            self.task.setup_ema(decay=arguments.model_ema_decay, use_warmup=arguments.model_ema_warmup)
        self.record = new_record(self)
        self.seconds = 0.0
        if self.next_epoch or (self.directory / LAST).exists():
            self.restore()
        if arguments.distributed:
            self.task.prepare_distributed(device_ids=[device] if device.type == "cuda" else None)
        if arguments.sched_on_updates:
            self.scheduler.step_update(self.next_epoch * self.updates_per_epoch)
        else:
            self.scheduler.step(self.next_epoch)

    def make_task(self, model: nn.Module) -> TrainingTask:
        """timm's classification task for a teacher, ours for a student."""
        device = self.device
        if self.teacher is None:
            smoothing = SmoothedCrossEntropy(label_smoothing=self.setting.smoothing)
            return ClassificationTask(model, criterion=smoothing, device=device, verbose=False)
        settings = {
            "temperature": self.setting.temperature,
            "student_temperature": self.arguments.kd_student_temperature,
            "kd_weight": 1 - self.arguments.task_loss_weight,
            "label_smoothing": self.setting.smoothing,
            "normalisation": Normalisation.of(self.config, device),
            "device": device,
        }
        if self.overhaul:
            return OverhaulDistillationTask(model, self.teacher, margins=self.margins(device), **settings)
        return DistillationTask(model, self.teacher, **settings)

    def begin_epoch(
        self, epoch: int, ids_of: Callable[[int], list] = lambda batch: [f"batch {batch}"], together: int = 1
    ) -> None:
        """Before the first batch of an epoch.

        Args:
            epoch: from 0.
            ids_of: tells which images a batch of it has, for messages.
            together: how many models are trained in this process in this epoch: they share its time.
        """
        self.ids_of, self.together = ids_of, together
        self.task.train()
        self.optimizer.zero_grad()
        self.sums: dict[str, Tensor] = {}
        self.images: int | Tensor = 0
        self.before: tuple | None = None  # what look_back looks at
        self.began = time.monotonic()
        self.random = RandomStream(self.device, self.setting.seed, epoch, self.arguments.rank)

    def step(
        self, images: Tensor, target: Tensor, teacher_output: TeacherOutput | None, epoch: int, batch: int
    ) -> None:
        """Forward, backward and, where a group of batches is complete, an update.

        Args:
            images: (N, C, H, W), normalised as the run's data configuration says.
            target: (N,) labels.
            teacher_output: of the same images.
            epoch: from 0.
            batch: of the epoch, from 0.
        """
        together = self.arguments.grad_accum_steps
        first = batch // together * together
        of_group = min(together, self.batches_per_epoch - first)  # the last group of an epoch may be smaller
        complete = batch == first + of_group - 1
        updates = epoch * self.updates_per_epoch + batch // together + 1  # after this one
        self.look_back()
        if self.failure and not self.arguments.distributed:
            return
        with self.random, contextlib.nullcontext() if complete else self.task.no_sync():
            with autocast(self.arguments, self.device):
                result = self.task(images, target, teacher_output) if self.teacher else self.task(images, target)
            loss = result["loss"] / of_group
            self.backward(loss, complete)
        if complete:
            self.optimizer.zero_grad()
            self.task.update_ema(step=updates)
            self.scheduler.step_update(updates)
        taught = () if teacher_output is None else (teacher_output.logits,)
        self.before = (batch, result["loss"].detach(), target, result["output"].detach(), *taught)
        counted, images = True, len(target)
        if self.scaler is not None:  # it skips what has overflowed; so do the means
            counted = result["loss"].detach().isfinite()
            images = counted * images
        self.images += images
        for name, value in result.items():
            if name != "output":
                value = value.detach().double()
                value = value if counted is True else torch.where(counted, value, 0)
                self.sums[name] = self.sums.get(name, 0) + value * images

    def look_back(self) -> None:
        """Fail where the loss of the step before was no number, and keep its batch. By now, a GPU is done with it.

        In half precision with a scaler only after :data:`OVERFLOWS` steps in a row: it makes its scale smaller. Of
        several processes none may leave the others waiting: the training ends with the epoch.
        """
        if self.before is None:
            return
        (batch, loss, target, *logits), self.before = self.before, None
        loss = loss.item()
        self.overflows = 0 if math.isfinite(loss) else self.overflows + 1
        if self.failure or self.overflows < (OVERFLOWS if self.scaler is not None else 1):
            return
        names = ("student_logits", "teacher_logits")[: len(logits)]
        tensors = {"target": target} | dict(zip(names, logits, strict=True))
        ids = self.ids_of(batch)
        self.failure = keep_batch(self.directory, ids, loss, self.record.configuration, tensors)

    def backward(self, loss: Tensor, complete: bool) -> None:
        """Add the gradient of ``loss`` and, where the group is ``complete``, let the optimiser use it."""
        clip, mode = self.arguments.clip_grad, self.arguments.clip_mode
        parameters = list(self.task.get_clip_parameters(exclude_head=mode == "agc")) if clip else None
        if self.scaler is not None:
            self.scaler(
                loss, self.optimizer, clip_grad=clip, clip_mode=mode, parameters=parameters, need_update=complete
            )
            return
        loss.backward()
        if complete:
            if clip:
                dispatch_clip_grad(parameters, value=clip, mode=mode)
            self.optimizer.step()

    def mean_loss(self) -> float:
        """The mean loss of the epoch so far, of this process."""
        return float(self.sums["loss"] / self.images)

    def end_epoch(self) -> dict[str, float]:
        """The means of the epoch over all processes; afterwards all of them have the same BatchNorm statistics."""
        self.look_back()
        names = sorted(self.sums)
        images = torch.as_tensor(self.images, dtype=torch.float64, device=self.device)
        sums = torch.stack([*(self.sums[name] for name in names), images])
        if self.arguments.distributed:
            torch.distributed.all_reduce(sums)
            for ema in (False, True)[: 1 + self.task.has_ema()]:
                distribute_bn(self.task.get_trainable_module(ema=ema), self.arguments.world_size, reduce=True)
        *values, images = sums.tolist()
        means = {f"train_{name}": value / images for name, value in zip(names, values, strict=True)}
        if not math.isfinite(means["train_loss"]) and not self.failure:
            self.failure = f"the loss of epoch {self.next_epoch + 1} is {means['train_loss']}; try a smaller --lr"
        return means

    def finish_epoch(self, epoch: int, training: dict[str, float], validation: dict[str, dict]) -> None:
        """Record an epoch, save the checkpoints, move the schedule on.

        Args:
            epoch: from 0.
            training: means, from :meth:`end_epoch`.
            validation: by model, ``""`` and ``"_ema"``: :func:`lskd.measure.accuracy.accuracy_figures`.
        """
        rate = self.optimizer.param_groups[0]["lr"]
        self.seconds += time.monotonic() - self.began
        self.next_epoch = epoch + 1
        if self.arguments.sched_on_updates:
            self.scheduler.step_update(self.next_epoch * self.updates_per_epoch)
        else:
            self.scheduler.step(self.next_epoch)
        row = {"epoch": epoch + 1, "updates": self.next_epoch * self.updates_per_epoch, "time": now()}
        row |= {"seconds": round(self.seconds, 1), "together": self.together, "lr": rate} | training
        for suffix, figures in validation.items():
            row |= {f"valid_{key}{suffix}": figures[key] for key in ("top1", "top5", "nll_loss")}
        self.record.add_validation(row)
        score = row[f"valid_top1{'_ema' if '_ema' in validation else ''}"]
        better = self.best is None or score > self.best
        self.best = score if better else self.best
        for name in [LAST] + [BEST] * better:
            self.record.figures.get("valid", {}).pop(name, None)
            for suffix, figures in validation.items():
                self.record.add_figures("valid", name, {f"{key}{suffix}": value for key, value in figures.items()})
        if self.arguments.rank == 0:
            state = self.state(epoch, score)
            # The best first: a kill between the two repeats the epoch, and comes to the same.
            for name in [BEST] * better + [LAST]:
                save_checkpoint(self.directory / name, state)
            write_training_record(self.record, self.directory, [LAST] + [BEST] * better)

    def state(self, epoch: int, score: float) -> dict:
        """A checkpoint in timm's format, of plain values; ``lskd`` says how it was made."""
        arguments = plain(own_arguments(self))
        state = {"epoch": epoch, "arch": self.setting.model, "version": 2, "args": arguments, "metric": score}
        state |= {"optimizer": self.optimizer.state_dict(), "scheduler": self.scheduler.state_dict()}
        state |= self.task.get_checkpoint_state()
        state |= self.task.get_checkpoint_state(ema=True)
        if self.scaler is not None:
            state[self.scaler.state_dict_key] = self.scaler.state_dict()
        keys = ("configuration", "seed", "data", "teacher", "versions", "hardware", "revision", "history")
        keys += ("nondeterminism",)
        state["lskd"] = {key: getattr(self.record, key) for key in keys}
        state["lskd"] |= {"best": self.best, "seconds": self.seconds, "valid": self.record.figures["valid"]}
        return state

    def restore(self) -> None:
        """Go on from the last checkpoint, which is whole even where a kill kept the record from being written."""
        path = self.directory / LAST
        state = read_state(path, "--resume")
        try:
            self.task.load_checkpoint_state(state["state_dict"], state.get("task_state"))
            if self.task.has_ema():
                self.task.load_checkpoint_state(state["state_dict_ema"], state.get("task_state_ema"), ema=True)
            self.optimizer.load_state_dict(state["optimizer"])
            if self.scaler is not None:
                self.scaler.load_state_dict(state[self.scaler.state_dict_key])
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise input_error("--resume", path, f"does not fit the run: {first_line(error)}") from None
        self.next_epoch = state["epoch"] + 1
        self.best, self.seconds = state["lskd"]["best"], state["lskd"]["seconds"]
        earlier = read_run(self.directory)
        self.record.started, self.record.figures = earlier.started, earlier.figures
        self.record.figures["valid"], self.record.history = state["lskd"]["valid"], state["lskd"]["history"]

    def free(self) -> None:
        """Let go of everything that takes memory."""
        for name in ("task", "optimizer", "scheduler", "scaler"):
            self.__dict__.pop(name, None)
