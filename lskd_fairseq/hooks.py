"""Every change to fairseq that importing this package makes, and why. With another criterion and task they still help.

1. :func:`trust_checkpoint_types`: torch loads checkpoints with ``weights_only``, which refuses the types that fairseq
   itself stores. They are named as safe, so loading works and stays safe: code in a file is never run.
2. :func:`checked_defaults`: a missing teacher would be noticed after the student is built and directories are made.
   The options are checked as soon as they are complete, and errors end in one line.
3. :func:`stopped_at_nan`: where gradients are no numbers, fairseq ends in a traceback that does not tell the sentences.
   With ``--fp16`` not at once: it tries smaller loss scales first. With ``--amp`` never: it leaves such a step out.
4. :func:`close_silently`: a data set whose file is cut off ends in a second traceback, when it is deleted half-made.

In :mod:`lskd_fairseq.resuming`:

5. :func:`~resuming.atomic_save`, :func:`~resuming.whole_copies`: ``checkpoint_last.pt`` and ``checkpoint_best.pt`` are
   copies, written in place; a kill while copying leaves a broken file, and it is the one that resume reads. Checkpoints
   and copies are made beside and renamed.
6. :func:`~resuming.save_with_record`, :func:`~resuming.saving_with_progress`, :func:`~resuming.recorded_loading`: a
   checkpoint remembers how it was made, ``run.json`` is brought up to date with it, and a training that goes on has
   all figures so far and has used up as much of ``--patience``.
7. :func:`~resuming.deterministic_batches`: fairseq groups sentences into batches once, by a random order that depends
   on the epoch in which training started. A resumed training has other batches than one that was never stopped, and
   other weights.
8. :func:`~resuming.check_whole`: where ``checkpoint_last.pt`` is gone fairseq begins anew in the place of the run, and
   it goes on from a checkpoint without the optimizer's state as if it had it.
9. :func:`~resuming.ended_training`: a training that has reached ``--max-update`` makes one more update, and one that
   has used up ``--patience`` or ``--stop-time-hours`` goes on too, each time that it is started again.
10. :func:`~resuming.refused_checkpoints`: a checkpoint that does not fit ends in a traceback that hides why.
11. :func:`~resuming.handle_signals`: Ctrl-C ends in a traceback, SIGTERM in nothing.
"""

import argparse
import contextlib
import functools
import importlib
import math
import sys

import numpy
import torch
from fairseq import checkpoint_utils
from fairseq.data.indexed_dataset import MMapIndexedDataset
from fairseq.file_io import PathManager
from fairseq.tasks import FairseqTask
from fairseq.trainer import Trainer

from lskd.io.errors import InputError
from lskd.records import nonfinite_batch as nan_batch
from lskd_fairseq import fairseq_options, options, records, resuming, supported, training_checks


def install() -> None:
    """Make the changes, once."""
    if getattr(Trainer, "lskd", False):
        return
    Trainer.lskd = True
    trust_checkpoint_types()
    PathManager.copy = staticmethod(resuming.whole_copies(PathManager.copy))
    for name, change in (
        ("torch_persistent_save", resuming.atomic_save),
        ("save_checkpoint", resuming.save_with_record),
        ("load_checkpoint", resuming.recorded_loading),
    ):
        setattr(checkpoint_utils, name, change(getattr(checkpoint_utils, name)))
    Trainer.save_checkpoint = resuming.saving_with_progress(Trainer.save_checkpoint)
    Trainer.load_checkpoint = resuming.refused_checkpoints(Trainer.load_checkpoint)
    Trainer.train_step = remembered_samples(Trainer.train_step)
    Trainer.clip_grad_norm = stopped_at_nan(Trainer.clip_grad_norm)
    for file in (MMapIndexedDataset, MMapIndexedDataset.Index):
        file.__del__ = close_silently(file.__del__)
    FairseqTask.get_batch_iterator = resuming.deterministic_batches(FairseqTask.get_batch_iterator)
    # These two are looked up in the module that runs main(), which is __main__ for `python -m fairseq_cli.train`.
    for module in (importlib.import_module("fairseq_cli.train"), sys.modules["__main__"]):
        if hasattr(module, "get_valid_stats"):
            module.get_valid_stats = kept_validation(module.get_valid_stats)
            module.add_defaults = checked_defaults(module.add_defaults)
            module.train = resuming.ended_training(module.train)


def trust_checkpoint_types() -> None:
    """Name the plain data types that fairseq puts into checkpoints as safe to load."""
    multiarray = (numpy._core if hasattr(numpy, "_core") else numpy.core).multiarray
    torch.serialization.add_safe_globals(
        [argparse.Namespace, numpy.ndarray, numpy.dtype, multiarray._reconstruct, multiarray.scalar]
        + [numpy.dtypes.Float64DType, numpy.dtypes.Float32DType, numpy.dtypes.Int64DType, numpy.dtypes.Int32DType]
    )


def close_silently(delete):
    """fairseq's closing of a data set's files, also of one that has none yet."""

    @functools.wraps(delete)
    def close(self):
        with contextlib.suppress(AttributeError):
            delete(self)

    return close


def kept_validation(get_valid_stats):
    """fairseq's ``get_valid_stats``, with the figures of the first validation subset kept for the record."""

    @functools.wraps(get_valid_stats)
    def get_and_keep(cfg, trainer, stats, tracking_best):
        if getattr(trainer.task.cfg, "eval_bleu", False):
            stats.setdefault("bleu", 0.0)  # where all translations are empty fairseq logs none, and would look for it
        try:
            fairseq_options.check_logged(cfg, stats)
        except InputError as error:
            options.exit_with_error(error)
        found = get_valid_stats(cfg, trainer, stats, tracking_best)
        if tracking_best:
            trainer.lskd_validation = dict(found)
        return found

    return get_and_keep


def remembered_samples(train_step):
    """fairseq's training step; while it lasts the trainer has its batches as ``lskd_samples``."""

    @functools.wraps(train_step)
    def step_and_remember(self, samples, *args, **more):
        self.lskd_samples = samples
        try:
            return train_step(self, samples, *args, **more)
        finally:
            vars(self).pop("lskd_samples", None)  # --amp tries a batch again from within

    return step_and_remember


def stopped_at_nan(clip_grad_norm):
    """fairseq's clipping, which tells whether gradients and loss are finite; if not, the process leaves with status 1.

    Before fairseq looks at their norm, trips over its own search for the module to blame, and ends in a traceback.
    """

    @functools.wraps(clip_grad_norm)
    def clip_or_stop(self, clip_norm):
        criterion = self.get_criterion()
        if not hasattr(criterion, "examine"):
            return clip_grad_norm(self, clip_norm)
        loss, criterion.step_loss = torch.as_tensor(criterion.step_loss), 0.0
        try:
            norm = clip_grad_norm(self, clip_norm)
        except FloatingPointError as error:  # of --fp16, where no scale was small enough
            options.exit_with_error(FloatingPointError(failed_batch(self, criterion, error)), status=1)
        if not self.cfg.common.amp and not torch.as_tensor(norm).isfinite().all():
            error = FloatingPointError("the gradients are not finite")
            options.exit_with_error(FloatingPointError(failed_batch(self, criterion, error)), status=1)
        if not self.cfg.common.amp and not loss.isfinite():  # where a student masks what its teacher does not
            error = FloatingPointError("the loss is not finite")
            options.exit_with_error(FloatingPointError(failed_batch(self, criterion, error)), status=1)
        return norm

    return clip_or_stop


def failed_batch(trainer, criterion, error: FloatingPointError) -> str:
    """What to tell of a step that failed; the first of its batches whose loss is not finite is kept."""
    settings = records.record_of(trainer).configuration
    trainer._set_seed()  # as at the step's beginning: the same dropout
    trainer.get_model().train()
    numbers: list[int] = []
    for sample in trainer.lskd_samples:
        sample, _ = trainer._prepare_sample(sample)
        loss, tensors = criterion.examine(trainer.get_model(), sample)
        if not math.isfinite(loss):
            ids = sample["id"].tolist()
            return nan_batch.keep_batch(trainer.cfg.checkpoint.save_dir, ids, loss, settings, tensors)
        numbers += sample["id"].tolist()
    shown = ", ".join(map(str, numbers[: nan_batch.SHOWN]))
    return f"{error}; the loss of this process's batch, sentences {shown} …, is finite"


def checked_defaults(add_defaults):
    """fairseq's ``add_defaults``, the first thing its training does with complete options, with our checks behind."""

    @functools.wraps(add_defaults)
    def add_and_check(cfg):
        add_defaults(cfg)
        resuming.handle_signals(cfg)
        distils = supported.name_of(cfg.criterion) in options.CRITERIONS
        ours = distils or supported.name_of(cfg.task) in supported.OUR_TASKS
        try:
            resuming.check_whole(cfg.checkpoint)
            if ours:
                supported.check_training(cfg)
            if ours or supported.is_translation(supported.name_of(cfg.task)):
                fairseq_options.check_best_metric(cfg)
                training_checks.check_checkpoints(cfg.checkpoint)
            if distils:
                training_checks.check_training(cfg)
        except InputError as error:
            options.exit_with_error(error)

    return add_and_check
