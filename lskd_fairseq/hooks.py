"""Every change to fairseq that importing this package makes, and why. With another criterion and task they still help.

1. :func:`trust_checkpoint_types`: torch loads checkpoints with ``weights_only``, which refuses the types that fairseq
   itself stores. They are named as safe, so loading works and stays safe: code in a file is never run.
2. :func:`whole_copies`: ``checkpoint_last.pt`` and ``checkpoint_best.pt`` are copies, written in place; a kill while
   copying leaves a broken file, and it is the one that resume reads. Copies are made beside and renamed.
3. :func:`recorded_saving`: a checkpoint remembers how it was made, and ``run.json`` is brought up to date with it.
4. :func:`checked_defaults`: a missing teacher would be noticed after the student is built and directories are made.
   The options are checked as soon as they are complete, and errors end in one line.
5. :func:`same_batches`: fairseq groups sentences into batches once, by a random order that depends on the epoch in
   which training started. A resumed training has other batches than one that was never stopped, and other weights.
6. :func:`stopped_at_nan`: where gradients are no numbers, fairseq ends in a traceback that does not tell the sentences.
   With ``--fp16`` not at once: it tries smaller loss scales first. With ``--amp`` never: it leaves such a step out.
"""

import argparse
import functools
import importlib
import math
import shutil
import sys

import numpy
import torch
from fairseq import checkpoint_utils
from fairseq.data import data_utils
from fairseq.file_io import PathManager
from fairseq.tasks import FairseqTask
from fairseq.trainer import Trainer

from lskd import nan_batch
from lskd.errors import InputError
from lskd.files import replacing
from lskd.runs import write_run
from lskd_fairseq import options, records


def install() -> None:
    """Make the changes, once."""
    if getattr(PathManager.copy, "lskd", False):
        return
    trust_checkpoint_types()
    PathManager.copy = staticmethod(whole_copies(PathManager.copy))
    checkpoint_utils.save_checkpoint = recorded_saving(checkpoint_utils.save_checkpoint)
    Trainer.train_step = remembered_samples(Trainer.train_step)
    Trainer.clip_grad_norm = stopped_at_nan(Trainer.clip_grad_norm)
    FairseqTask.get_batch_iterator = same_batches(FairseqTask.get_batch_iterator)
    # These two are looked up in the module that runs main(), which is __main__ for `python -m fairseq_cli.train`.
    for module in (importlib.import_module("fairseq_cli.train"), sys.modules["__main__"]):
        if hasattr(module, "get_valid_stats"):
            module.get_valid_stats = kept_validation(module.get_valid_stats)
            module.add_defaults = checked_defaults(module.add_defaults)


def trust_checkpoint_types() -> None:
    """Name the plain data types that fairseq puts into checkpoints as safe to load."""
    multiarray = (numpy._core if hasattr(numpy, "_core") else numpy.core).multiarray
    torch.serialization.add_safe_globals(
        [argparse.Namespace, numpy.ndarray, numpy.dtype, multiarray._reconstruct, multiarray.scalar]
        + [numpy.dtypes.Float64DType, numpy.dtypes.Float32DType, numpy.dtypes.Int64DType, numpy.dtypes.Int32DType]
    )


def whole_copies(copy):
    """fairseq's file copy, through a file beside the destination."""

    @functools.wraps(copy)
    def copy_beside(src_path: str, dst_path: str, overwrite: bool = False):
        if PathManager.path_requires_pathmanager(dst_path):
            return copy(src_path, dst_path, overwrite=overwrite)
        with replacing(dst_path) as beside:
            shutil.copyfile(src_path, beside)
        return dst_path

    copy_beside.lskd = True
    return copy_beside


def recorded_saving(save_checkpoint):
    """fairseq's ``save_checkpoint``, with the record of the run put into the checkpoint and beside it."""

    @functools.wraps(save_checkpoint)
    def save_and_record(cfg, trainer, epoch_itr, val_loss):
        if cfg.no_save or not trainer.is_data_parallel_master:
            return save_checkpoint(cfg, trainer, epoch_itr, val_loss)
        record = records.record_of(trainer)
        records.add_validation(record, trainer, epoch_itr)
        trainer.task.state.merge_state_dict({"lskd": records.provenance(record)})
        path = save_checkpoint(cfg, trainer, epoch_itr, val_loss)
        write_run(record, cfg.save_dir)
        return path

    return save_and_record


def kept_validation(get_valid_stats):
    """fairseq's ``get_valid_stats``, with the figures of the first validation subset kept for the record."""

    @functools.wraps(get_valid_stats)
    def get_and_keep(cfg, trainer, stats, tracking_best):
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
    """fairseq's clipping, which tells whether gradients are numbers; where not, the process leaves with status 1.

    Before fairseq looks at their norm, trips over its own search for the module to blame, and ends in a traceback.
    """

    @functools.wraps(clip_grad_norm)
    def clip_or_stop(self, clip_norm):
        criterion = self.get_criterion()
        if not hasattr(criterion, "examine"):
            return clip_grad_norm(self, clip_norm)
        try:
            norm = clip_grad_norm(self, clip_norm)
        except FloatingPointError as error:  # of --fp16, where no scale was small enough
            options.leave(FloatingPointError(failed_batch(self, criterion, error)), status=1)
        if not self.cfg.common.amp and not torch.as_tensor(norm).isfinite().all():
            error = FloatingPointError("the gradients are not finite")
            options.leave(FloatingPointError(failed_batch(self, criterion, error)), status=1)
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
    """fairseq's ``add_defaults``, the first thing its training does with complete options, with our check behind it."""

    @functools.wraps(add_defaults)
    def add_and_check(cfg):
        add_defaults(cfg)
        if getattr(cfg.criterion, "_name", None) in options.CRITERIONS:
            try:
                options.check_config(cfg)
                options.check_restored(cfg.checkpoint)
            except InputError as error:
                options.leave(error)

    return add_and_check


def same_batches(get_batch_iterator):
    """fairseq's ``get_batch_iterator``; batches that are kept for all epochs are made as in the first one."""

    @functools.wraps(get_batch_iterator)
    def get_with_same_batches(self, dataset, *args, seed=1, disable_iterator_cache=False, **options):
        options |= {"seed": seed, "disable_iterator_cache": disable_iterator_cache}
        kept = self.can_reuse_epoch_itr(dataset) and not disable_iterator_cache
        if not kept or options.get("update_epoch_batch_itr"):
            return get_batch_iterator(self, dataset, *args, **options)
        ordered_indices = dataset.ordered_indices

        def ordered_as_in_the_first_epoch():
            with data_utils.numpy_seed(seed + 1):
                return ordered_indices()

        dataset.ordered_indices = ordered_as_in_the_first_epoch
        try:
            return get_batch_iterator(self, dataset, *args, **options)
        finally:
            del dataset.ordered_indices

    return get_with_same_batches
