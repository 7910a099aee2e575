"""What fairseq lacks to resume an interrupted training; hooks.py installs these changes.

A training that is killed at any moment resumes with the same command from ``checkpoint_last.pt``, and reaches the same
weights and metrics as if it had never been interrupted. ``make torture`` tests it.
"""

import atexit
import functools
import importlib
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fairseq.data import FairseqDataset, data_utils
from fairseq.data.iterators import EpochBatchIterator
from fairseq.distributed.utils import is_master
from fairseq.file_io import PathManager
from fairseq.tasks import FairseqTask
from numpy.typing import NDArray
from omegaconf import DictConfig

from lskd.io import torch_files
from lskd.io.errors import LONGEST, input_error
from lskd.io.files import remove_partials, replacing
from lskd.records.runs import read_run
from lskd_fairseq import options, run_record
from lskd_fairseq.run_record import LAST, RecordedTrainer
from lskd_fairseq.training_checks import restored_checkpoint, restores_own

logger = logging.getLogger(__name__)
PROGRESS = "lskd_progress"  # key in a checkpoint's extra state: metrics so far, and what is used up of --patience
INTERRUPTED = 130  # exit status, as shells report Ctrl-C


def check_resumable(cfg: DictConfig) -> None:
    """Check that a training with these checkpoint settings resumes from its complete state, or starts in a new place.

    Without ``checkpoint_last.pt`` fairseq starts over and overwrites the run; from a checkpoint without the optimizer's
    state it continues in the middle of the data with the learning rate schedule at its start.

    Raises:
        InputError: the run's record has updates, and its last checkpoint is missing; or the checkpoint has no optimizer
            state, and ``--reset-optimizer`` is not given.
    """
    path = restored_checkpoint(cfg)
    missing = not list(Path(cfg.save_dir).glob("checkpoint_last*.pt"))  # several: a part for each process
    if cfg.restore_file == LAST and missing and not (cfg.no_save or cfg.no_last_checkpoints or cfg.continue_once):
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
    except Exception:  # an unreadable file is rejected by check_checkpoints
        return
    history = state.get("optimizer_history") if isinstance(state, dict) else None
    older = isinstance(history, list) and bool(history) and "optimizer" in history[-1]
    if isinstance(state, dict) and not older and not {"last_optimizer_state", "optimizer"} & state.keys():
        wanted = "to train on from its weights give --reset-optimizer --reset-lr-scheduler --reset-dataloader"
        raise input_error("--restore-file", path, f"has no optimizer state to resume with: {wanted} --reset-meters")


def atomic_save(torch_persistent_save: Callable[..., None]) -> Callable[..., None]:
    """Wrap fairseq's writing of a checkpoint: write a file beside, sync it, rename it; on failure leave nothing.

    On a full disk fairseq tries three times, prints a traceback, and keeps the incomplete file.
    """

    @functools.wraps(torch_persistent_save)
    def save_whole(state: dict[str, Any], filename: str, async_write: bool = False) -> None:
        if async_write or PathManager.path_requires_pathmanager(filename):
            return torch_persistent_save(state, filename, async_write)
        with replacing(filename) as beside:
            torch_files.save(state, beside)

    return save_whole


def atomic_copy(copy: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap fairseq's file copy: copy to a file beside the destination, and rename it."""

    @functools.wraps(copy)
    def copy_beside(src_path: str, dst_path: str, overwrite: bool = False) -> Any:
        if PathManager.path_requires_pathmanager(dst_path):
            return copy(src_path, dst_path, overwrite=overwrite)
        with replacing(dst_path) as beside:
            shutil.copyfile(src_path, beside)
        return dst_path

    return copy_beside


def save_with_record(save_checkpoint: Callable[..., str | None]) -> Callable[..., str | None]:
    """Wrap fairseq's ``save_checkpoint`` to store the run's record in the checkpoint and beside it.

    A full disk ends the training with one line; earlier checkpoints stay intact.
    """

    @functools.wraps(save_checkpoint)
    def save_and_record(
        cfg: DictConfig, trainer: RecordedTrainer, epoch_itr: EpochBatchIterator, val_loss: float | None
    ) -> str | None:
        if cfg.no_save or not trainer.is_data_parallel_master:
            return save_checkpoint(cfg, trainer, epoch_itr, val_loss)
        record = run_record.record_of(trainer)
        run_record.add_validation(record, trainer, epoch_itr)
        trainer.task.state.merge_state_dict({"lskd": run_record.provenance(record)})
        with options.exit_on_input_error(OSError):
            path = save_checkpoint(cfg, trainer, epoch_itr, val_loss)
            run_record.write_record(record, cfg.save_dir)
        return path

    return save_and_record


def save_with_progress(save_checkpoint: Callable[..., None]) -> Callable[..., None]:
    """Wrap the trainer's ``save_checkpoint`` to also store the metrics so far and what is used up of ``--patience``."""

    @functools.wraps(save_checkpoint)
    def save_and_add_progress(self: RecordedTrainer, filename: str, extra_state: dict[str, Any]) -> None:
        progress = {"history": run_record.record_of(self).history, "patience": _patience()}
        return save_checkpoint(self, filename, extra_state | {PROGRESS: progress})

    return save_and_add_progress


def load_with_record(load_checkpoint: Callable[..., tuple[Any, Any]]) -> Callable[..., tuple[Any, Any]]:
    """Wrap fairseq's ``load_checkpoint``: a run that resumes in its directory gets its metrics and patience back.

    The run may have been killed after the checkpoint and before its record: then the record is updated.
    """

    @functools.wraps(load_checkpoint)
    def load_and_record(cfg: DictConfig, trainer: RecordedTrainer, **passthrough_args: Any) -> tuple[Any, Any]:
        own = restores_own(cfg)
        if trainer.is_data_parallel_master and not cfg.no_save:
            remove_partials(cfg.save_dir)
        found = load_checkpoint(cfg, trainer, **passthrough_args)
        if own and found[0] is not None:
            history, patience = _progress(found[0])
            for function in _early_stopping():
                vars(function).update(patience)
            if trainer.is_data_parallel_master and not cfg.no_save:
                record = run_record.record_of(trainer)
                if history and history != record.history:
                    run_record.put_history(record, history)
                    run_record.write_record(record, cfg.save_dir)
        return found

    return load_and_record


def refuse_misfit_checkpoint(load_checkpoint: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the trainer's ``load_checkpoint``: one of another model, criterion or optimizer is a one-line error."""

    @functools.wraps(load_checkpoint)
    def load_or_refuse(self: RecordedTrainer, filename: str, *args: Any, **more: Any) -> Any:
        try:
            return load_checkpoint(self, filename, *args, **more)
        except Exception as error:  # fairseq has no error type of its own, and hides the reason behind another error
            finetuned = self.cfg.checkpoint.finetune_from_model == filename
            reason = " ".join(str(error.__context__ or error).split())
            reason = reason if len(reason) <= LONGEST else reason[:LONGEST] + "…"
            argument = "--finetune-from-model" if finetuned else "--restore-file"
            options.exit_with_error(input_error(argument, filename, f"must fit this training: {reason}"))

    return load_or_refuse


def skip_ended_training(
    train: Callable[..., tuple[list[float | None], bool]],
) -> Callable[..., tuple[list[float | None], bool]]:
    """Wrap fairseq's training of an epoch: skip it if the training has already ended.

    fairseq checks that only after an update, so a training that is started again would make one more.
    """

    @functools.wraps(train)
    def train_or_end(
        cfg: DictConfig, trainer: RecordedTrainer, task: FairseqTask, epoch_itr: EpochBatchIterator
    ) -> tuple[list[float | None], bool]:
        limits = cfg.optimization
        reached = {
            "--max-update": 0 < limits.max_update <= trainer.get_num_updates(),
            "--stop-time-hours": 0 < limits.stop_time_hours * 3600 < trainer.cumulative_training_time(),
            "--patience": 0 < cfg.checkpoint.patience <= _patience().get("num_runs", 0),
        }
        if ended := [name for name, so in reached.items() if so]:
            logger.info(f"the training has already ended by {ended[0]}: nothing to do")
            return [None], True
        return train(cfg, trainer, task, epoch_itr)

    return train_or_end


def _progress(extra_state: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """The history and the patience in a checkpoint's extra state, empty if this project did not write them."""
    progress = extra_state.get(PROGRESS)
    progress = progress if isinstance(progress, dict) else {}
    history, patience = progress.get("history"), progress.get("patience")
    rows = isinstance(history, list) and all(isinstance(row, dict) and "updates" in row for row in history)
    numbers = isinstance(patience, dict) and all(isinstance(value, int | float) for value in patience.values())
    return (history if rows else []), (patience if numbers else {})


def train_modules() -> tuple[Any, Any]:
    """The modules that may run fairseq's training: for ``python -m fairseq_cli.train``, functions are in __main__."""
    return importlib.import_module("fairseq_cli.train"), sys.modules["__main__"]


def _early_stopping() -> list[Callable[..., bool]]:
    """fairseq's ``should_stop_early`` in every module that may run; its attributes hold its state."""
    return [module.should_stop_early for module in train_modules() if hasattr(module, "should_stop_early")]


def _patience() -> dict[str, float]:
    """The state of fairseq's ``--patience`` in this process: the best value, and how often it was not reached."""
    known = [vars(function) for function in _early_stopping() if hasattr(function, "best")]
    return {name: float(known[0][name]) for name in ("best", "num_runs")} if known else {}


def deterministic_batches(get_batch_iterator: Callable[..., EpochBatchIterator]) -> Callable[..., EpochBatchIterator]:
    """Wrap fairseq's ``get_batch_iterator``: batches that are kept for all epochs are made as in the first one."""

    @functools.wraps(get_batch_iterator)
    def get_with_same_batches(
        self: FairseqTask,
        dataset: FairseqDataset,
        *args: Any,
        seed: int = 1,
        disable_iterator_cache: bool = False,
        **options: Any,
    ) -> EpochBatchIterator:
        options |= {"seed": seed, "disable_iterator_cache": disable_iterator_cache}
        kept = self.can_reuse_epoch_itr(dataset) and not disable_iterator_cache
        if not kept or options.get("update_epoch_batch_itr"):
            return get_batch_iterator(self, dataset, *args, **options)
        ordered_indices = dataset.ordered_indices

        def ordered_as_in_the_first_epoch() -> NDArray[np.int64]:
            with data_utils.numpy_seed(seed + 1):
                return ordered_indices()

        dataset.ordered_indices = ordered_as_in_the_first_epoch
        try:
            return get_batch_iterator(self, dataset, *args, **options)
        finally:
            del dataset.ordered_indices

    return get_with_same_batches


def handle_signals(cfg: DictConfig) -> None:
    """Make Ctrl-C and SIGTERM, with which schedulers end a job, end training with a line on how to resume it."""
    process, last = os.getpid(), Path(cfg.checkpoint.save_dir, LAST)

    def stop(*_: object) -> None:
        if os.getpid() != process:  # a loader process: the training ends it
            raise KeyboardInterrupt
        if is_master(cfg.distributed_training):
            how = f"resumes from {last}" if last.exists() else "begins anew, there is no checkpoint yet"
            os.write(2, f"\n{Path(sys.argv[0]).name}: interrupted; the same command {how}\n".encode())
        atexit.register(options.stop_prefetch_threads)  # not here: the interrupted code may hold the queue's lock
        sys.exit(INTERRUPTED)

    signal.signal(signal.SIGTERM, stop)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # a shell ignores it for a job in the background
        signal.signal(signal.SIGINT, stop)
