"""The updates of one model: optimiser, learning-rate schedule, loss scaling and gradient accumulation."""

import math
import warnings
from typing import Any

from timm.optim import create_optimizer_v2, optimizer_kwargs
from timm.scheduler import PlateauLRScheduler, create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from timm.task import TrainingTask
from timm.utils import NativeScaler, dispatch_clip_grad
from torch import Tensor
from torch.optim import Optimizer

from lskd.io.errors import input_error
from lskd_vision.config import OptimisationConfig

# The state of the schedule "plateau", with types.
PLATEAU_STATE: dict[str, type] = {"best": float, "num_bad_epochs": int, "cooldown_counter": int, "last_epoch": int}


class Optimisation:
    """The optimiser, learning-rate schedule and loss scaler of one model.

    Args:
        config: optimiser and schedule.
        task: the model in training.
        batches_per_epoch: the number of batches of this process.
        scaled_on: the type of the device if the loss is scaled, as float16 needs; None for no loss scaling.

    Attributes:
        updates_per_epoch: fewer than batches if gradients are accumulated.

    Raises:
        InputError: timm cannot make the optimiser.
    """

    def __init__(
        self, config: OptimisationConfig, task: TrainingTask, batches_per_epoch: int, scaled_on: str | None = None
    ) -> None:
        self.config, self.task, self.batches_per_epoch = config, task, batches_per_epoch
        self.updates_per_epoch = math.ceil(batches_per_epoch / config.grad_accum_steps)
        module: Any = task.get_trainable_module()
        try:
            self.optimizer = create_optimizer_v2(
                module, **optimizer_kwargs(config), filter_bias_and_bn=config.filter_bias_and_bn
            )
        except (AssertionError, IndexError, TypeError, ValueError) as error:
            raise input_error("--opt", config.opt, f"cannot be made: {error}") from None
        self.scheduler = make_scheduler(config, self.optimizer, self.updates_per_epoch)
        self.scaler = NativeScaler(device=scaled_on) if scaled_on else None

    @property
    def rate(self) -> float:
        """The learning rate of the next update."""
        return self.optimizer.param_groups[0]["lr"]

    def begin_epoch(self, epoch: int, score: float | None = None) -> None:
        """Set the learning rate of an epoch.

        Args:
            epoch: from 0.
            score: the validation score after the previous epoch, for ``plateau``; None when training starts or resumes.
        """
        if self.config.sched_on_updates:
            self.scheduler.step_update(epoch * self.updates_per_epoch)
        elif epoch or not isinstance(self.scheduler, PlateauLRScheduler):  # at epoch 0 it would set the warm-up rate
            self.scheduler.step(epoch, score)

    def group_of(self, batch: int) -> tuple[int, bool]:
        """How many batches are accumulated for this one's update, and whether it is the last of them."""
        together = self.config.grad_accum_steps
        first = batch // together * together
        size = min(together, self.batches_per_epoch - first)  # the last group of an epoch may be smaller
        return size, batch == first + size - 1

    def backward(self, loss: Tensor, update: bool) -> None:
        """Accumulate the gradient of ``loss``; with ``update``, clip the sum and take an optimiser step."""
        clip, mode = self.config.clip_grad, self.config.clip_mode
        parameters = list(self.task.get_clip_parameters(exclude_head=mode == "agc")) if clip else None
        if self.scaler is not None:
            self.scaler(loss, self.optimizer, clip_grad=clip, clip_mode=mode, parameters=parameters, need_update=update)
            return
        loss.backward()
        if update:
            if clip:
                dispatch_clip_grad(parameters, value=clip, mode=mode)
            self.optimizer.step()

    def end_update(self, epoch: int, batch: int) -> None:
        """After an update: clear gradients, and update the moving average of the weights and the schedule."""
        updates = epoch * self.updates_per_epoch + batch // self.config.grad_accum_steps + 1
        self.optimizer.zero_grad()
        self.task.update_ema(step=updates)
        self.scheduler.step_update(updates)

    def state(self) -> dict[str, Any]:
        """The state to save in a checkpoint."""
        state = {"optimizer": self.optimizer.state_dict(), "scheduler": self.scheduler.state_dict()}
        if isinstance(self.scheduler, PlateauLRScheduler):
            plateau = self.scheduler.lr_scheduler
            state["scheduler"] = {name: getattr(plateau, name) for name in PLATEAU_STATE}
        return state | ({} if self.scaler is None else {self.scaler.state_dict_key: self.scaler.state_dict()})

    def restore(self, state: dict[str, Any]) -> None:
        """Restore the state from a checkpoint; schedules other than plateau depend on the epoch alone.

        Raises:
            KeyError, TypeError, ValueError: the state is not from this training.
        """
        self.optimizer.load_state_dict(state["optimizer"])  # includes the learning rate
        if isinstance(self.scheduler, PlateauLRScheduler):
            for name, kind in PLATEAU_STATE.items():
                setattr(self.scheduler.lr_scheduler, name, kind(state["scheduler"][name]))
        if self.scaler is not None:
            self.scaler.load_state_dict(state[self.scaler.state_dict_key])


def make_scheduler(config: OptimisationConfig, optimizer: Optimizer, updates_per_epoch: int) -> Scheduler:
    """Make timm's learning-rate schedule."""
    if config.sched == "plateau":
        with warnings.catch_warnings():
            # timm would not save its state; here it is saved.
            warnings.simplefilter("ignore", FutureWarning)
            return PlateauLRScheduler(
                optimizer,
                decay_rate=config.decay_rate,
                patience_t=config.patience_epochs,
                cooldown_t=config.cooldown_epochs,
                warmup_t=config.warmup_epochs,
                warmup_lr_init=config.warmup_lr,
                lr_min=config.min_lr,
                mode=config.plateau_mode,
            )
    scheduler, _ = create_scheduler_v2(
        optimizer,
        sched=config.sched,
        num_epochs=config.epochs,
        decay_epochs=config.decay_epochs,
        decay_milestones=list(config.decay_milestones or ()),
        decay_rate=config.decay_rate,
        warmup_epochs=config.warmup_epochs,
        warmup_lr=config.warmup_lr,
        min_lr=config.min_lr,
        step_on_epochs=not config.sched_on_updates,
        updates_per_epoch=updates_per_epoch,
    )
    return scheduler
