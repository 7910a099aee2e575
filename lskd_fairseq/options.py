"""The options of the criterion, and what is refused before anything is built or written."""

import contextlib
import queue
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn, Optional

from fairseq import utils
from fairseq.data import Dictionary, data_utils
from fairseq.data.iterators import BackgroundConsumer
from fairseq.dataclass import FairseqDataclass
from fairseq.tasks import setup_task
from omegaconf import II, DictConfig

from lskd.distillation import check_settings
from lskd.errors import InputError, bad, report
from lskd.files import check_writable
from lskd_fairseq.text import load_dictionary

CRITERIONS = ("label_smoothed_kd", "kd")
LAST = "checkpoint_last.pt"  # of --restore-file, by default


@dataclass
class KDConfig(FairseqDataclass):
    """Options of the criterion ``label_smoothed_kd``; the defaults are the paper's: pure distillation at T = 1."""

    # Optional[float] and not float | None: it is what fairseq's option parser understands.

    temperature: float = field(
        default=1.0,
        metadata={"help": "temperature T of the teacher's distribution, above 0; the paper: 1 from a smoothed teacher"},
    )
    student_temperature: Optional[float] = field(
        default=None,
        metadata={
            "help": "temperature of the student's distribution, default the teacher's; 1 tempers the teacher only"
        },
    )
    kd_weight: float = field(
        default=1.0,
        metadata={"help": "weight β of the distillation loss, 0 to 1; the hard-label loss has 1 - β"},
    )
    label_smoothing: float = field(
        default=0.0,
        metadata={
            "help": "epsilon of the hard-label loss, as in label_smoothed_cross_entropy; no effect at kd-weight 1"
        },
    )
    teacher_path: Optional[str] = field(
        default=None,
        metadata={"help": "checkpoint of the teacher; several, joined by ':', are averaged in probability"},
    )
    teacher_cache: Optional[str] = field(
        default=None,
        metadata={
            "help": "directory of lskd_fairseq.cache_teacher, in the place of the teacher's forward; several by ':'"
        },
    )
    teacher_topk: int = field(
        default=0,
        metadata={"help": "keep only the teacher's k most probable symbols, renormalised; 0 keeps the full vocabulary"},
    )
    sentence_avg: bool = II("optimization.sentence_avg")


def student_temperature_of(cfg: KDConfig) -> float:
    """The student's temperature: its own, or the teacher's where none is given."""
    return cfg.temperature if cfg.student_temperature is None else cfg.student_temperature


def paper_alpha(epsilon: float, vocabulary: int) -> float:
    """The paper's α of fairseq's ``--label-smoothing`` ε over a vocabulary of V symbols.

    fairseq gives ε/(V-1) to every wrong symbol, the paper α/V to every symbol.

    >>> paper_alpha(0.1, 11)
    0.11000000000000001
    """
    return epsilon * vocabulary / (vocabulary - 1)


def teacher_paths(cfg: KDConfig) -> list[str]:
    """The teacher's checkpoints, absolute; relative to where the command was started, also below hydra."""
    return _absolute(cfg.teacher_path)


def teacher_caches(cfg: KDConfig) -> list[str]:
    """The directories of cached teachers, absolute likewise."""
    return _absolute(cfg.teacher_cache)


def _absolute(paths: str | None) -> list[str]:
    from hydra.utils import to_absolute_path

    return [to_absolute_path(path) for path in utils.split_paths(paths)] if paths else []


def check_config(cfg: DictConfig) -> None:
    """Check everything that the criterion of a whole fairseq configuration needs, cheaply.

    Raises:
        InputError: a setting out of range, data that are missing or damaged, a teacher that is missing, unreadable, or
            of another vocabulary, a cache of other data or of another teacher.
    """
    from lskd_fairseq.supported import check_checkpoint
    from lskd_fairseq.teacher import check_dictionaries, read_checkpoint
    from lskd_fairseq.teacher_cache import CachedTeacher
    from lskd_fairseq.training_options import check_data

    criterion = cfg.criterion
    check_criterion(criterion)
    if not criterion.teacher_path and not criterion.teacher_cache:
        raise bad("--teacher-path", "not given", "name the teacher's checkpoint, as in --teacher-path teacher.pt")
    dictionaries = _dictionaries(cfg.task)
    for path in teacher_paths(criterion):
        state = read_checkpoint(path, "--teacher-path")
        check_checkpoint("--teacher-path", path, state)
        check_dictionaries(path, state, *dictionaries)
    if criterion.teacher_topk > (symbols := len(dictionaries[1])):
        raise bad("--teacher-topk", criterion.teacher_topk, f"must be at most {symbols}, the number of symbols")
    check_data(cfg, setup_task(cfg.task))
    data, splits = utils.split_paths(cfg.task.data), [cfg.dataset.train_subset]
    splits += [] if cfg.dataset.disable_validation else cfg.dataset.valid_subset.split(",")
    if caches := teacher_caches(criterion):
        teacher = CachedTeacher(caches, *dictionaries, criterion.temperature, criterion.teacher_topk)
        teacher.check_training(data, splits, teacher_paths(criterion))


def restored_checkpoint(cfg: DictConfig) -> Path:
    """Where a training with these settings of checkpoints goes on, if there is one: fairseq's rule."""
    last = cfg.restore_file == LAST  # by default: the one in the run's own directory
    return Path(cfg.save_dir, cfg.restore_file) if last else Path(cfg.restore_file)


def check_checkpoints(cfg: DictConfig) -> None:
    """Check where a training with these settings writes checkpoints, and the one that it goes on from, if any.

    Raises:
        InputError: the directory cannot be written; the checkpoint is not there, not fairseq's, or would run code.
    """
    from lskd_fairseq.teacher import read_checkpoint

    if not cfg.no_save:
        check_writable("--save-dir", Path(cfg.save_dir))
    path = restored_checkpoint(cfg)
    begins = {"--restore-file": path} if path.is_file() or cfg.restore_file != LAST else {}
    begins |= {"--finetune-from-model": Path(cfg.finetune_from_model)} if cfg.finetune_from_model else {}
    for argument, path in begins.items():
        read_checkpoint(path, argument)


def check_criterion(cfg: KDConfig) -> None:
    """Check the criterion's own settings. Raises InputError, naming the flag."""
    try:
        check_settings(
            cfg.temperature, student_temperature_of(cfg), cfg.kd_weight, cfg.label_smoothing, cfg.teacher_topk
        )
    except ValueError as error:
        name, rest = str(error).split(":", 1)
        raise InputError(f"--{name.replace('_', '-')}:{rest}") from None


def _dictionaries(task: DictConfig) -> tuple[Dictionary, Dictionary]:
    data = utils.split_paths(task.data or "")
    if not data or not all(Path(each).is_dir() for each in data):
        raise bad("data", task.data, "must be a directory made by fairseq-preprocess, or several joined by ':'")
    source, target = task.source_lang, task.target_lang
    if source is None or target is None:
        source, target = data_utils.infer_language_pair(data[0])
    dictionaries = []
    for language in (source, target):
        path = Path(data[0]) / f"dict.{language}.txt"
        if not path.is_file():
            raise bad("data", data[0], f"has no dict.{language}.txt; must be made by fairseq-preprocess")
        dictionaries.append(load_dictionary(path))
    return tuple(dictionaries)


def leave(error: Exception, status: int = 2) -> NoReturn:
    """End fairseq's process with one line: fairseq itself would print a traceback. ``status``: 2 is of wrong input."""
    report(Path(sys.argv[0]).name, error)
    end_loading()
    sys.exit(status)


def end_loading() -> None:
    """End the threads in which fairseq prepares batches: Python aborts where one is in torch's code while it ends."""
    loading = [thread for thread in threading.enumerate() if isinstance(thread, BackgroundConsumer)]
    deadline = time.monotonic() + 10
    for thread in loading:
        thread._max_len = 0  # it ends after the batch that it is at, once there is room for that
        while thread.is_alive() and time.monotonic() < deadline:
            with contextlib.suppress(queue.Empty):
                thread._queue.get_nowait()
            thread.join(0.01)
