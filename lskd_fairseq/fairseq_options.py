"""Check fairseq's own options of a training: the metric of the best checkpoint, sentence lengths, max-tokens.

fairseq itself fails after the first epoch, before anything is saved, or with a traceback.
"""

from collections.abc import Callable, Mapping

import numpy as np
from fairseq import utils
from fairseq.tasks.translation import TranslationTask
from numpy.typing import NDArray
from omegaconf import DictConfig

from lskd.io.errors import input_error
from lskd_fairseq import options
from lskd_fairseq.splits import cached_parts, load_split
from lskd_fairseq.supported import OUR_TASKS, name_of
from lskd_fairseq.translate import check_lengths

COMMON = ("loss", "nll_loss", "ppl")
LOGGED = {  # metrics of a validation, by criterion
    **dict.fromkeys(options.CRITERIONS, (*COMMON, "kd_loss", "teacher_entropy", "teacher_agreement", "teacher_kl")),
    "label_smoothed_cross_entropy": COMMON,
    "label_smoothed_cross_entropy_with_alignment": (*COMMON, "alignment_loss"),
    "label_smoothed_cross_entropy_with_rdrop": COMMON,  # in validation its rdrop_kl_loss is 0, and not logged
}
NO_METRICS = ("bsz", "wpb", "wps")  # speed, which fairseq logs beside the metrics
HIGHER_IS_BETTER = ("bleu", "teacher_agreement", "accuracy")


def check_best_metric(cfg: DictConfig) -> None:
    """Check that validation logs ``--best-checkpoint-metric``, and that it is maximised only if higher is better.

    A criterion that is not in :data:`LOGGED` may log anything: :func:`check_logged` checks it after a validation.

    Raises:
        InputError: the metric is not logged, or ``--maximize-best-checkpoint-metric`` is the wrong way round.
    """
    metric, maximize = cfg.checkpoint.best_checkpoint_metric, cfg.checkpoint.maximize_best_checkpoint_metric
    known = LOGGED.get(name_of(cfg.criterion) or "")
    if name_of(cfg.criterion) in ("cross_entropy", "adaptive_loss"):  # log nll_loss only if it differs from the loss
        known = COMMON if cfg.optimization.sentence_avg else ("loss", "ppl")
    if cfg.dataset.disable_validation or known is None:
        return
    if cfg.criterion.get("report_accuracy"):
        known += ("accuracy", "n_correct", "total")
    if metric == "bleu" and not cfg.task.get("eval_bleu"):
        raise input_error("--best-checkpoint-metric", metric, "must come with --eval-bleu")
    if metric not in (*known, "bleu"):
        also = "" if cfg.task.get("eval_bleu") else " with --eval-bleu"
        raise input_error("--best-checkpoint-metric", metric, f"must be one of {', '.join(known)}, or bleu{also}")
    if metric in HIGHER_IS_BETTER and not maximize:
        raise input_error("--best-checkpoint-metric", metric, "must come with --maximize-best-checkpoint-metric")
    if metric in (*COMMON, "kd_loss", "teacher_kl", "alignment_loss") and maximize:
        raise input_error("--maximize-best-checkpoint-metric", f"set for {metric}", "must be left out: lower is better")


def check_logged(cfg: DictConfig, logged: Mapping[str, object]) -> None:
    """Check that a validation has logged the metric of the best checkpoint: fairseq would end with a traceback.

    Raises:
        InputError: it has not.
    """
    if (metric := cfg.checkpoint.best_checkpoint_metric) not in logged:
        numbers = sorted(name for name in logged if name not in NO_METRICS)
        raise input_error("--best-checkpoint-metric", metric, f"must be one of {', '.join(numbers)}")


def check_data(cfg: DictConfig, task: TranslationTask, check_shard: Callable[[], None] = lambda: None) -> None:
    """Check the data of a training: every shard is complete, and no sentence is too long for a score or a batch.

    Args:
        cfg: fairseq's complete configuration.
        task: its translation task.
        check_shard: called for each data directory, with its training split loaded.

    Raises:
        InputError: a shard is damaged, or a sentence is too long.
    """
    train, dataset = cfg.dataset.train_subset, cfg.dataset
    directories = utils.split_paths(cfg.task.data)
    for epoch, directory in reversed([*enumerate(directories, 1)]):  # the first one stays loaded
        load_split(task, directory, train, True, "--train-subset", epoch)
        if cached_parts(task.dataset(train)):
            found = cfg.task.get("dataset_impl") or "not given"
            raise input_error("--dataset-impl", found, f"must be lazy for the old format that {directory} is in")
        shortest = int(_lengths(task, train).min())
        if dataset.max_tokens is not None and shortest > dataset.max_tokens:
            raise input_error(
                "--max-tokens", dataset.max_tokens, f"must be at least {shortest}, or {train} has no batches"
            )
        check_shard()
    if dataset.disable_validation:
        return
    ours = name_of(cfg.task) in OUR_TASKS
    may_skip = dataset.skip_invalid_size_inputs_valid_test and not ours
    limits, most = task.max_positions(), dataset.max_tokens_valid
    way_out = "; raise --max-source-positions and --max-target-positions, or take such sentences out of the data"
    way_out += "" if ours else ", or give --skip-invalid-size-inputs-valid-test"
    for split in dataset.valid_subset.split(","):
        load_split(task, directories[0], split, argument="--valid-subset")
        if not may_skip:
            check_lengths(task.dataset(split), split, limits, way_out)
        kept, _ = task.dataset(split).filter_indices_by_size(np.arange(len(task.dataset(split))), limits)
        longest = int(_lengths(task, split)[kept].max(initial=0))
        if most is not None and longest > most:
            argument = "--max-tokens" if most == dataset.max_tokens else "--max-tokens-valid"
            raise input_error(argument, most, f"must be at least {longest}, the longest sentence of {split}")


def _lengths(task: TranslationTask, split: str) -> NDArray[np.int64]:
    """The number of tokens that each sentence counts for in a batch: that of its longer side."""
    dataset = task.dataset(split)
    return np.asarray(dataset.num_tokens_vec(np.arange(len(dataset))))
