"""Check a training before anything is built or written: options, data, teacher, checkpoints."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fairseq import utils
from fairseq.tasks import setup_task
from fairseq.tasks.translation import TranslationTask
from omegaconf import DictConfig

from lskd.io.errors import input_error
from lskd.io.files import check_writable
from lskd.io.joined_paths import joined_paths
from lskd.records.fingerprints import weights_fingerprint
from lskd.records.runs import look_up, read_run
from lskd_fairseq import options
from lskd_fairseq.cache.cached_teacher import CachedTeacher
from lskd_fairseq.checkpoints import check_finite, made_with, read_checkpoint, setting
from lskd_fairseq.fairseq_options import check_data
from lskd_fairseq.run_record import LAST
from lskd_fairseq.teacher import Teacher
from lskd_fairseq.teacher_checks import PairedData, read_paired_data


def check_training(cfg: DictConfig) -> None:
    """Check everything that a training with our criterion needs, except :func:`check_checkpoints`.

    Args:
        cfg: fairseq's complete configuration.

    Raises:
        InputError: a setting is out of range, data are missing or damaged, the teacher cannot be used or does not fit
            the data, or checkpoints would overwrite the teacher's.
    """
    teacher = check_config(cfg)
    if not cfg.checkpoint.no_save:
        check_own_files(cfg.checkpoint.save_dir, teacher, options.teacher_paths(cfg.criterion))
    check_same_teacher(cfg.checkpoint, teacher)


def check_config(cfg: DictConfig) -> Teacher | CachedTeacher:
    """Check the options of the criterion, the data and the teacher, which is built for this and returned."""
    criterion = cfg.criterion
    options.check_criterion(criterion)
    if not criterion.teacher_path and not criterion.teacher_cache:
        raise input_error(
            "--teacher-path", "not given", "name the teacher's checkpoint, as in --teacher-path teacher.pt"
        )
    if criterion.kd_temperature_schedule != "constant" and cfg.optimization.max_update < 2:
        valid = "needs --max-update of at least 2, over which the temperature changes"
        raise input_error("--kd-temperature-schedule", criterion.kd_temperature_schedule, valid)
    paths, caches = options.teacher_paths(criterion), options.teacher_caches(criterion)
    task = set_up_task(cfg)
    options.check_vocabulary(criterion, len(task.target_dictionary))
    validated = [] if cfg.dataset.disable_validation else cfg.dataset.valid_subset.split(",")
    if caches:
        cached = CachedTeacher(caches, PairedData.of(task), criterion.temperature, criterion.teacher_topk)
        check_cached_logits(criterion, cached, cfg.checkpoint.best_checkpoint_metric)
        check_data(cfg, task)
        cached.check_training(utils.split_paths(cfg.task.data), [cfg.dataset.train_subset, *validated], paths)
        return cached
    teacher = Teacher(paths, task)
    source, target = (setting(cfg.model, f"max_{side}_positions") for side in ("source", "target"))
    limits = utils.resolve_max_positions(task.max_positions(), (source, target), cfg.dataset.max_tokens)
    way_out = "--max-{side}-positions {limit} leaves such sentences out"
    check_data(cfg, task, partial(teacher.check_split, task, cfg.dataset.train_subset, limits, way_out))
    for split in validated:  # leaves out no sentence
        teacher.check_split(task, split, limits, "take such sentences out of the data")
    return teacher


def set_up_task(cfg: DictConfig) -> TranslationTask:
    """Set up a training's task, whose data directories are checked first: fairseq reports missing ones in a traceback.

    Raises:
        InputError: a directory is not one of fairseq-preprocess, or has no dictionary.
    """
    first, *others = joined_paths("data", cfg.task.data or "", whole=False)
    for directory in others:
        if not Path(directory).is_dir():
            raise input_error("data", directory, "must be a directory made by fairseq-preprocess")
    read_paired_data(first, setting(cfg.task, "source_lang"), setting(cfg.task, "target_lang"))
    return setup_task(cfg.task)


def check_cached_logits(criterion: options.KDConfig, cached: CachedTeacher, best_metric: str) -> None:
    """Check that a cache has the logits that the loss and the best checkpoint's metric need. Raises InputError."""
    if not any(each.manifest.format == "topk" for each in cached.caches):
        return
    argument, directory = "--teacher-cache", cached.directories[0]
    holds = "holds the largest logits of each token only"
    if criterion.kd_loss != "kl" or criterion.kd_gradient_scale == "match":
        loss = f"--kd-loss {criterion.kd_loss}" if criterion.kd_loss != "kl" else "--kd-gradient-scale match"
        raise input_error(argument, directory, f"{holds}, and {loss} needs all: a cache with --format features")
    if best_metric == "teacher_kl":
        raise input_error(argument, directory, f"{holds}, and --best-checkpoint-metric {best_metric} needs all")
    if criterion.kd_temperature_schedule != "constant" and not criterion.teacher_topk:
        schedule = f"--kd-temperature-schedule {criterion.kd_temperature_schedule}"
        raise input_error(argument, directory, f"{holds}: {schedule} needs --teacher-topk or --format features")


def restored_checkpoint(cfg: DictConfig) -> Path:
    """The checkpoint that a training with these settings resumes from if it exists, by fairseq's rule."""
    last = cfg.restore_file == LAST  # the default is in the run's own directory
    return Path(cfg.save_dir, cfg.restore_file) if last else Path(cfg.restore_file)


def restores_own(cfg: DictConfig) -> bool:
    """Whether a training with these checkpoint settings resumes in its own directory."""
    path = restored_checkpoint(cfg)
    return path.is_file() and path.resolve().parent == Path(cfg.save_dir).resolve()


def check_checkpoints(cfg: DictConfig) -> None:
    """Check the directory for a training's checkpoints, and the checkpoint that it starts from, if any.

    Raises:
        InputError: the directory cannot be written to; the checkpoint is missing, not fairseq's, would execute code, or
            is not finite; or there are two to start from.
    """
    if not cfg.no_save:
        check_writable("--save-dir", Path(cfg.save_dir))
    path = restored_checkpoint(cfg)
    begins = {"--restore-file": path} if path.is_file() or cfg.restore_file != LAST else {}
    if cfg.finetune_from_model and cfg.restore_file != LAST:
        raise input_error("--finetune-from-model", cfg.finetune_from_model, "must be given without --restore-file")
    begins |= {"--finetune-from-model": Path(cfg.finetune_from_model)} if cfg.finetune_from_model else {}
    for argument, path in begins.items():
        check_finite(path, read_checkpoint(path, argument), argument)


def check_own_files(save_dir: str, teacher: Teacher | CachedTeacher, paths: Sequence[str] = ()) -> None:
    """Check that a training does not overwrite its teacher's checkpoint, or resume from it.

    Args:
        save_dir: the directory of the training's checkpoints.
        teacher: its teacher; a cached one has the path that its checkpoint had.
        paths: checkpoints of the teacher that are given beside a cache.

    Raises:
        InputError: the teacher's file, under any name, is a checkpoint in ``save_dir``.
    """
    own = list(Path(save_dir).glob("checkpoint*.pt"))
    for path in (*paths, *teacher.paths):
        same = [each for each in own if Path(path).is_file() and each.samefile(path)]
        # At the path of a cached teacher there may be another checkpoint by now.
        if same and weights_fingerprint(read_checkpoint(path)["model"]) in teacher.fingerprints:
            raise input_error(
                "--save-dir", save_dir, f"holds the teacher's checkpoint {path} as {same[0].name}; name another"
            )


def check_same_teacher(cfg: DictConfig, teacher: Teacher | CachedTeacher) -> None:
    """Check that a training that resumes in its own directory has the same teacher as before.

    Raises:
        InputError: it has another one.
    """
    if not restores_own(cfg):
        return
    path = restored_checkpoint(cfg)
    before = made_with(read_checkpoint(path, "--restore-file")).get("teacher")
    if before is None and (record := read_run(cfg.save_dir)) is not None:
        before = record.teacher
    fingerprint, now = look_up(before, "fingerprint"), teacher.record()
    if not isinstance(before, dict) or not isinstance(fingerprint, str):  # it is unknown, or there was none
        return
    if fingerprint != now["fingerprint"]:
        found = f"holds a training with the teacher {fingerprint[:12]}, and this one is {now['fingerprint'][:12]}"
        raise input_error("--save-dir", cfg.save_dir, f"{found} (SHA-256 of the weights); name another directory")
    if _keeps_topk(before) != _keeps_topk(now):
        kinds = ["the full vocabulary", "a cached top-k"][:: -1 if _keeps_topk(before) else 1]
        found = f"holds a training with {kinds[0]} of this teacher, must resume with that, not with {kinds[1]}"
        raise input_error("--save-dir", cfg.save_dir, f"{found}; or name another directory")


def _keeps_topk(teacher: Mapping[str, Any]) -> bool:
    """Whether a record's teacher is a cache of the k largest logits only."""
    return any(look_up(each, "format") == "topk" for each in teacher.get("cache") or [])
