"""Every change to fairseq that importing this package makes, and why. They help other criterions and tasks too.

1. :func:`trust_checkpoint_types`: torch loads checkpoints with ``weights_only``, which rejects types that fairseq
   itself stores. These are declared safe, so that loading works and still never executes code from a file.
2. :func:`check_after_defaults`: a missing teacher would be noticed only after the student is built and directories are
   made. Options are checked as soon as they are complete, and errors are one line. The data are loaded and checked
   then too, also those of other criterions with the tasks ``translation`` and ours: damaged files, and sentences that
   are too long for a batch, end in tracebacks.
3. :func:`stop_at_nonfinite_gradients`: when gradients are not finite, fairseq ends with a traceback that does not name
   the sentences. With ``--fp16`` it tries smaller loss scales first; with ``--amp`` it skips such a step.
   :func:`remember_samples` keeps the batches for that. It also tells the criterion the number of the update, on
   which a scheduled temperature depends, and which batches count: fairseq tells only the model the former, and
   neither the latter.
4. :func:`close_silently`: a truncated data file causes a second traceback when its half-built data set is deleted.

In :mod:`lskd_fairseq.resuming`:

5. :func:`~resuming.atomic_save`, :func:`~resuming.atomic_copy`: ``checkpoint_last.pt`` and ``checkpoint_best.pt`` are
   copies that fairseq writes in place; a kill while copying leaves a broken file, the one that resuming reads.
   Checkpoints and copies are written beside and renamed.
6. :func:`~resuming.save_with_record`, :func:`~resuming.save_with_progress`, :func:`~resuming.load_with_record`: a
   checkpoint stores how it was made, ``run.json`` is updated with it, and a resumed training keeps its metrics and
   what it has used up of ``--patience``.
7. :func:`~resuming.deterministic_batches`: fairseq groups sentences into batches once, in a random order that depends
   on the epoch in which training started. A resumed training would have other batches, and so other weights, than one
   that was never interrupted.
8. :func:`~resuming.check_resumable`: without ``checkpoint_last.pt`` fairseq starts over in the directory of the run,
   and it resumes from a checkpoint without the optimizer's state as if it had it.
9. :func:`~resuming.skip_ended_training`: a training that has reached ``--max-update`` makes one more update, and one
   that has used up ``--patience`` or ``--stop-time-hours`` continues too, each time it is started again.
10. :func:`~resuming.refuse_misfit_checkpoint`: a checkpoint that does not fit ends in a traceback that hides the
    reason.
11. :func:`~resuming.handle_signals`: Ctrl-C ends in a traceback, SIGTERM silently.
"""

import argparse
import contextlib
import functools
import importlib
import math
from collections.abc import Callable
from typing import Any, NoReturn

import numpy
import torch
from fairseq import checkpoint_utils
from fairseq.data.indexed_dataset import MMapIndexedDataset
from fairseq.file_io import PathManager
from fairseq.tasks import FairseqTask
from fairseq.trainer import Trainer
from omegaconf import DictConfig
from torch import Tensor

from lskd.records import nonfinite_batch
from lskd_fairseq import fairseq_options, options, resuming, run_record, supported, training_checks
from lskd_fairseq.batch import Batch
from lskd_fairseq.criterion import LabelSmoothedKDCriterion
from lskd_fairseq.run_record import RecordedTrainer


def install() -> None:
    """Make the changes, once."""
    if getattr(Trainer, "lskd", False):
        return
    Trainer.lskd = True
    trust_checkpoint_types()
    PathManager.copy = staticmethod(resuming.atomic_copy(PathManager.copy))
    for name, change in (
        ("torch_persistent_save", resuming.atomic_save),
        ("save_checkpoint", resuming.save_with_record),
        ("load_checkpoint", resuming.load_with_record),
    ):
        setattr(checkpoint_utils, name, change(getattr(checkpoint_utils, name)))
    Trainer.save_checkpoint = resuming.save_with_progress(Trainer.save_checkpoint)
    Trainer.load_checkpoint = resuming.refuse_misfit_checkpoint(Trainer.load_checkpoint)
    Trainer.train_step = remember_samples(Trainer.train_step)
    Trainer.clip_grad_norm = stop_at_nonfinite_gradients(Trainer.clip_grad_norm)
    for file in (MMapIndexedDataset, MMapIndexedDataset.Index):
        file.__del__ = close_silently(file.__del__)
    FairseqTask.get_batch_iterator = resuming.deterministic_batches(FairseqTask.get_batch_iterator)
    for module in resuming.train_modules():
        if hasattr(module, "get_valid_stats"):
            for name, change in (
                ("get_valid_stats", keep_validation),
                ("add_defaults", check_after_defaults),
                ("train", resuming.skip_ended_training),
            ):
                setattr(module, name, change(getattr(module, name)))


def trust_checkpoint_types() -> None:
    """Declare the plain data types that fairseq puts into checkpoints as safe to load."""
    multiarray: Any = importlib.import_module(
        "numpy._core.multiarray" if hasattr(numpy, "_core") else "numpy.core.multiarray"
    )
    torch.serialization.add_safe_globals(
        [argparse.Namespace, numpy.ndarray, numpy.dtype, multiarray._reconstruct, multiarray.scalar]
        + [numpy.dtypes.Float64DType, numpy.dtypes.Float32DType, numpy.dtypes.Int64DType, numpy.dtypes.Int32DType]
    )


def close_silently(delete: Callable[..., None]) -> Callable[..., None]:
    """Wrap the deletion of fairseq's data sets: one that failed to open has no files to close."""

    @functools.wraps(delete)
    def close(self: MMapIndexedDataset | MMapIndexedDataset.Index) -> None:
        with contextlib.suppress(AttributeError):
            delete(self)

    return close


def keep_validation(get_valid_stats: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Wrap fairseq's ``get_valid_stats`` to keep the metrics of the first validation subset for the record."""

    @functools.wraps(get_valid_stats)
    def get_and_keep(
        cfg: DictConfig, trainer: RecordedTrainer, stats: dict[str, Any], tracking_best: bool
    ) -> dict[str, Any]:
        if getattr(trainer.task.cfg, "eval_bleu", False):
            stats.setdefault("bleu", 0.0)  # if all translations are empty fairseq logs none, and then fails without it
        with options.exit_on_input_error():
            fairseq_options.check_logged(cfg, stats)
        found = get_valid_stats(cfg, trainer, stats, tracking_best)
        if tracking_best:
            trainer.lskd_validation = dict(found)
        return found

    return get_and_keep


def remember_samples(train_step: Callable[..., dict[str, Any] | None]) -> Callable[..., dict[str, Any] | None]:
    """Wrap fairseq's training step: tell our criterion the update, and keep its batches as ``lskd_samples``."""

    @functools.wraps(train_step)
    def step_and_remember(
        self: RecordedTrainer, samples: list[Batch], *args: Any, **more: Any
    ) -> dict[str, Any] | None:
        self.lskd_samples = samples
        if isinstance(criterion := self.get_criterion(), LabelSmoothedKDCriterion):
            criterion.begin_update(self.get_num_updates(), self.cfg.optimization.max_update, samples)
        try:
            return train_step(self, samples, *args, **more)
        finally:
            vars(self).pop("lskd_samples", None)  # --amp repeats a batch by calling itself

    return step_and_remember


def stop_at_nonfinite_gradients(clip_grad_norm: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Wrap fairseq's gradient clipping: if the gradients or the loss are not finite, exit with status 1.

    fairseq checks the norm later, fails in its own search for the module to blame, and ends with a traceback.
    """

    @functools.wraps(clip_grad_norm)
    def clip_or_stop(self: RecordedTrainer, clip_norm: float) -> Tensor:
        criterion = self.get_criterion()
        if not isinstance(criterion, LabelSmoothedKDCriterion):
            return clip_grad_norm(self, clip_norm)
        loss, criterion.step_loss = torch.as_tensor(criterion.step_loss), 0.0
        try:
            norm = clip_grad_norm(self, clip_norm)
        except FloatingPointError as error:  # of --fp16, when no loss scale was small enough
            _exit_at_batch(self, criterion, str(error))
        if not self.cfg.common.amp and not torch.as_tensor(norm).isfinite().all():
            _exit_at_batch(self, criterion, "the gradients are not finite")
        if not self.cfg.common.amp and not loss.isfinite():  # when a student masks what its teacher does not
            _exit_at_batch(self, criterion, "the loss is not finite")
        return norm

    return clip_or_stop


def _exit_at_batch(trainer: RecordedTrainer, criterion: LabelSmoothedKDCriterion, problem: str) -> NoReturn:
    options.exit_with_error(FloatingPointError(failed_batch(trainer, criterion, problem)), status=1)


def failed_batch(trainer: RecordedTrainer, criterion: LabelSmoothedKDCriterion, problem: str) -> str:
    """The error message for a failed step; the first of its batches whose loss is not finite is saved."""
    settings = run_record.record_of(trainer).configuration
    trainer._set_seed()  # as at the beginning of the step, for the same dropout
    trainer.get_model().train()
    numbers: list[int] = []
    for sample in trainer.lskd_samples:
        sample, _ = trainer._prepare_sample(sample)
        loss, tensors = criterion.examine(trainer.get_model(), sample)
        if not math.isfinite(loss):
            ids = sample["id"].tolist()
            return nonfinite_batch.keep_batch(trainer.cfg.checkpoint.save_dir, ids, loss, settings, tensors)
        numbers += sample["id"].tolist()
    shown = ", ".join(map(str, numbers[: nonfinite_batch.SHOWN]))
    return f"{problem}; the loss of this process's batch, sentences {shown} …, is finite"


def check_after_defaults(add_defaults: Callable[[DictConfig], None]) -> Callable[[DictConfig], None]:
    """Wrap fairseq's ``add_defaults``, its first step with complete options, to check these afterwards."""

    @functools.wraps(add_defaults)
    def add_and_check(cfg: DictConfig) -> None:
        add_defaults(cfg)
        resuming.handle_signals(cfg)
        distils = supported.name_of(cfg.criterion) in options.CRITERIONS
        ours = distils or supported.name_of(cfg.task) in supported.OUR_TASKS
        with options.exit_on_input_error():
            resuming.check_resumable(cfg.checkpoint)
            if ours:
                supported.check_training(cfg)
            if ours or supported.is_translation(supported.name_of(cfg.task)):
                fairseq_options.check_best_metric(cfg)
                training_checks.check_checkpoints(cfg.checkpoint)
            if distils:
                training_checks.check_training(cfg)
            elif ours or supported.name_of(cfg.task) == "translation":
                fairseq_options.check_data(cfg, training_checks.set_up_task(cfg))

    return add_and_check
