"""What fairseq lacks for a training that is ended from outside and goes on: the changes that hooks.py makes for it.

Killed at any moment, the same command goes on from ``checkpoint_last.pt``, to the same weights and the same figures as
if it had never been stopped. ``make torture`` tries it.
"""

import atexit
import functools
import importlib
import logging
import os
import shutil
import signal
import sys
from pathlib import Path

from fairseq.data import data_utils
from fairseq.distributed.utils import is_master
from fairseq.file_io import PathManager
from omegaconf import DictConfig

from lskd.io import torch_files
from lskd.io.errors import LONGEST, InputError, input_error
from lskd.io.files import remove_partials, replacing
from lskd.records.runs import read_run
from lskd_fairseq import options, records
from lskd_fairseq.training_checks import restores_own

logger = logging.getLogger(__name__)
PROGRESS = "lskd_progress"  # its key in a checkpoint's extra state: what a training that goes on has to know
INTERRUPTED = 130  # exit status, as shells give it to what Ctrl-C has ended


def check_whole(cfg: DictConfig) -> None:
    """Check that a training with these settings of checkpoints goes on from all that it has left, or begins anew.

    fairseq begins anew where ``checkpoint_last.pt`` is gone, in the place of what it did before, and goes on from a
    checkpoint without the optimizer's state in the middle of the data with the schedule at its beginning.

    Raises:
        InputError: the run's record has updates, and its last checkpoint is gone; or the checkpoint has no state of the
            optimizer, and ``--reset-optimizer`` is not given.
    """
    own = cfg.restore_file == "checkpoint_last.pt"  # fairseq's default, the one in the run's directory
    path = Path(cfg.save_dir, cfg.restore_file) if own else Path(cfg.restore_file)
    gone = not list(Path(cfg.save_dir).glob("checkpoint_last*.pt"))  # several: a part for each process
    if own and gone and not (cfg.no_save or cfg.no_last_checkpoints or cfg.continue_once):
        record = read_run(cfg.save_dir)
        if record is not None and record.history:
            updates = record.history[-1].get("updates")
            found = f"has a run.json of {updates} updates and no {cfg.restore_file}: put it back, name another with"
            raise input_error(
                "--save-dir", cfg.save_dir, f"{found} --restore-file, or remove the directory to begin anew"
            )
    if not path.is_file() or cfg.reset_optimizer:
        return
    try:
        state = torch_files.load_plain(path, mapped=True)
    except Exception:  # a file that cannot be read is refused as such
        return
    history = state.get("optimizer_history") if isinstance(state, dict) else None
    older = isinstance(history, list) and bool(history) and "optimizer" in history[-1]
    if isinstance(state, dict) and not older and not {"last_optimizer_state", "optimizer"} & state.keys():
        wanted = "to train on from its weights give --reset-optimizer --reset-lr-scheduler --reset-dataloader"
        raise input_error(
            "--restore-file", path, f"has no state of the optimizer to go on with: {wanted} --reset-meters"
        )


def atomic_save(torch_persistent_save):
    """fairseq's writing of a checkpoint, through a file beside, synced to disk; where it fails, nothing is left of it.

    fairseq tries a full disk three times, prints a traceback, and keeps what it could write.
    """

    @functools.wraps(torch_persistent_save)
    def save_whole(state, filename, async_write=False):
        if async_write or PathManager.path_requires_pathmanager(filename):
            return torch_persistent_save(state, filename, async_write)
        with replacing(filename) as beside:
            torch_files.save(state, beside)

    return save_whole


def whole_copies(copy):
    """fairseq's file copy, through a file beside the destination."""

    @functools.wraps(copy)
    def copy_beside(src_path: str, dst_path: str, overwrite: bool = False):
        if PathManager.path_requires_pathmanager(dst_path):
            return copy(src_path, dst_path, overwrite=overwrite)
        with replacing(dst_path) as beside:
            shutil.copyfile(src_path, beside)
        return dst_path

    return copy_beside


def save_with_record(save_checkpoint):
    """fairseq's ``save_checkpoint``, with the record of the run put into the checkpoint and beside it.

    A disk that is full ends the training in one line; the checkpoints before stay whole.
    """

    @functools.wraps(save_checkpoint)
    def save_and_record(cfg, trainer, epoch_itr, val_loss):
        if cfg.no_save or not trainer.is_data_parallel_master:
            return save_checkpoint(cfg, trainer, epoch_itr, val_loss)
        record = records.record_of(trainer)
        records.add_validation(record, trainer, epoch_itr)
        trainer.task.state.merge_state_dict({"lskd": records.provenance(record)})
        try:
            path = save_checkpoint(cfg, trainer, epoch_itr, val_loss)
            records.write_record(record, cfg.save_dir)
        except (InputError, OSError) as error:
            options.exit_with_error(error)
        return path

    return save_and_record


def saving_with_progress(save_checkpoint):
    """The trainer's ``save_checkpoint``, which also keeps the figures so far, and of ``--patience`` what is used up."""

    @functools.wraps(save_checkpoint)
    def save_with_progress(self, filename, extra_state):
        progress = {"history": records.record_of(self).history, "patience": _patience()}
        return save_checkpoint(self, filename, extra_state | {PROGRESS: progress})

    return save_with_progress


def recorded_loading(load_checkpoint):
    """fairseq's ``load_checkpoint``; a run that goes on in its directory gets back its figures and its patience.

    A kill may have come between the checkpoint and the record of the run: the record is brought up to date.
    """

    @functools.wraps(load_checkpoint)
    def load_and_record(cfg, trainer, **passthrough_args):
        own = restores_own(cfg)
        if trainer.is_data_parallel_master and not cfg.no_save:
            remove_partials(cfg.save_dir)
        found = load_checkpoint(cfg, trainer, **passthrough_args)
        if own and found[0] is not None:
            history, patience = _progress(found[0])
            for function in _early_stopping():
                vars(function).update(patience)
            if trainer.is_data_parallel_master and not cfg.no_save:
                record = records.record_of(trainer)
                if history and history != record.history:
                    records.put_history(record, history)
                    records.write_record(record, cfg.save_dir)
        return found

    return load_and_record


def refused_checkpoints(load_checkpoint):
    """The trainer's ``load_checkpoint``; one of another model, criterion or optimizer ends in a line that says so."""

    @functools.wraps(load_checkpoint)
    def load_or_refuse(self, filename, *args, **options_of_it):
        try:
            return load_checkpoint(self, filename, *args, **options_of_it)
        except Exception as error:  # fairseq has no type of its own, and hides the reason behind another error
            finetuned = self.cfg.checkpoint.finetune_from_model == filename
            reason = " ".join(str(error.__context__ or error).split())
            reason = reason if len(reason) <= LONGEST else reason[:LONGEST] + "…"
            argument = "--finetune-from-model" if finetuned else "--restore-file"
            options.exit_with_error(input_error(argument, filename, f"must fit this training: {reason}"))

    return load_or_refuse


def ended_training(train):
    """fairseq's training of an epoch, left out where the training has come to its end before.

    fairseq looks whether that is so after an update, and a training that is started again would make one more.
    """

    @functools.wraps(train)
    def train_or_end(cfg, trainer, task, epoch_itr):
        limits = cfg.optimization
        reached = {
            "--max-update": 0 < limits.max_update <= trainer.get_num_updates(),
            "--stop-time-hours": 0 < limits.stop_time_hours * 3600 < trainer.cumulative_training_time(),
            "--patience": 0 < cfg.checkpoint.patience <= _patience().get("num_runs", 0),
        }
        if ended := [name for name, so in reached.items() if so]:
            logger.info(f"the training has ended before, by {ended[0]}: there is nothing to do")
            return [None], True
        return train(cfg, trainer, task, epoch_itr)

    return train_or_end


def _progress(extra_state: dict) -> tuple[list[dict], dict]:
    """The figures and the patience in a checkpoint's extra state, empty where they are not ours."""
    progress = extra_state.get(PROGRESS)
    progress = progress if isinstance(progress, dict) else {}
    history, patience = progress.get("history"), progress.get("patience")
    rows = isinstance(history, list) and all(isinstance(row, dict) and "updates" in row for row in history)
    numbers = isinstance(patience, dict) and all(isinstance(value, int | float) for value in patience.values())
    return (history if rows else []), (patience if numbers else {})


def _early_stopping() -> list:
    """fairseq's ``should_stop_early`` in every module that may run; it keeps what it knows in its own attributes."""
    modules = (importlib.import_module("fairseq_cli.train"), sys.modules["__main__"])
    return [module.should_stop_early for module in modules if hasattr(module, "should_stop_early")]


def _patience() -> dict:
    """What fairseq's ``--patience`` remembers in this process: the best figure, and how often it was not reached."""
    known = [vars(function) for function in _early_stopping() if hasattr(function, "best")]
    return {name: float(known[0][name]) for name in ("best", "num_runs")} if known else {}


def deterministic_batches(get_batch_iterator):
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


def handle_signals(cfg) -> None:
    """Let Ctrl-C, and SIGTERM with which schedulers end a job, end a training with a line that says how to go on."""
    process, last = os.getpid(), Path(cfg.checkpoint.save_dir, "checkpoint_last.pt")

    def stop(*_):
        if os.getpid() != process:  # a loader process: the training ends it
            raise KeyboardInterrupt
        if is_master(cfg.distributed_training):
            how = f"goes on from {last}" if last.exists() else "begins anew, there is no checkpoint yet"
            os.write(2, f"\n{Path(sys.argv[0]).name}: interrupted; the same command {how}\n".encode())
        atexit.register(options.stop_prefetch_threads)  # not here: what was interrupted may hold the queue's lock
        sys.exit(INTERRUPTED)

    signal.signal(signal.SIGTERM, stop)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as of what a shell has started in the background
        signal.signal(signal.SIGINT, stop)
