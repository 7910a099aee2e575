"""The options of the criterion, and how a fairseq command exits if they cannot be used."""

import contextlib
import queue
import sys
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, Optional

from fairseq.data.iterators import BackgroundConsumer
from fairseq.dataclass import FairseqDataclass
from omegaconf import II, DictConfig

from lskd.io.errors import InputError, input_error, report
from lskd.io.joined_paths import joined_paths
from lskd.loss.checks import check_settings
from lskd.loss.schedule import check_schedule

CRITERIONS = ("label_smoothed_kd", "kd")
# Arguments of lskd.loss whose options here have the prefix kd_.
PREFIXED = ("loss", "nckd_weight", "gradient_scale", "temperature_schedule", "final_temperature")


@dataclass
class KDConfig(FairseqDataclass):
    """Options of the criterion ``label_smoothed_kd``; the defaults are the paper's: pure distillation at T = 1."""

    # Optional[float] rather than float | None: fairseq's option parser does not know the latter.

    temperature: float = field(
        default=1.0,
        metadata={"help": "temperature T of the teacher's distribution, above 0; the paper: 1 from a smoothed teacher"},
    )
    student_temperature: Optional[float] = field(
        default=None,
        metadata={
            "help": "temperature of the student's distribution, default the teacher's; 1 tempers the teacher only (TTM)"
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
            "help": "directory made by `lskd nmt cache`, used instead of running the teacher; several joined by ':'"
        },
    )
    teacher_topk: int = field(
        default=0,
        metadata={"help": "keep only the teacher's k most probable tokens, renormalised; 0 keeps the full vocabulary"},
    )
    kd_loss: str = field(
        default="kl",
        metadata={
            "help": "distillation loss: kl, standardised (z-scored logits), mse (logit matching), decoupled (DKD) or "
            "wttm; TTM is --student-temperature 1"
        },
    )
    kd_nckd_weight: Optional[float] = field(
        default=None, metadata={"help": "decoupled: weight of all tokens but the target, default 8"}
    )
    kd_gradient_scale: str = field(
        default="t2",
        metadata={
            "help": "scale of the distillation gradient: t2, the paper's factor; none, without it; match, scaled so "
            "that the gradient of each batch at the logits has the norm that T = 1 would have"
        },
    )
    kd_temperature_schedule: str = field(
        default="constant",
        metadata={"help": "temperature over the updates up to --max-update: constant, linear or cosine"},
    )
    kd_final_temperature: Optional[float] = field(
        default=None, metadata={"help": "temperature at the last update, if not constant"}
    )
    sentence_avg: bool = II("optimization.sentence_avg")


def student_temperature_of(cfg: KDConfig | DictConfig) -> float:
    """The student's temperature; if none is given the teacher's, or 1 where the loss tempers the teacher only."""
    return check_settings(**loss_arguments(cfg)).student_temperature


def loss_arguments(cfg: KDConfig | DictConfig) -> dict[str, Any]:
    """The arguments of :func:`lskd.loss.distillation.distillation_loss` that are options; α is fairseq's ε here."""
    return {
        "temperature": cfg.temperature,
        "student_temperature": cfg.student_temperature,
        "kd_weight": cfg.kd_weight,
        "label_smoothing": cfg.label_smoothing,
        "teacher_topk": cfg.teacher_topk,
        "loss": cfg.kd_loss,
        "nckd_weight": cfg.kd_nckd_weight,
        "gradient_scale": cfg.kd_gradient_scale,
    }


def paper_alpha(epsilon: float, vocabulary: int) -> float:
    """The paper's α of fairseq's ``--label-smoothing`` ε over a vocabulary of V symbols.

    fairseq gives ε/(V-1) to every wrong symbol, the paper α/V to every symbol.

    >>> paper_alpha(0.1, 11)
    0.11000000000000001
    """
    return epsilon * vocabulary / (vocabulary - 1)


def teacher_paths(cfg: KDConfig) -> list[str]:
    """Absolute paths of the teacher's checkpoints, from where the command was started, also with hydra."""
    return _absolute("--teacher-path", cfg.teacher_path)


def teacher_caches(cfg: KDConfig) -> list[str]:
    """Absolute paths of the directories of cached teachers, likewise."""
    return _absolute("--teacher-cache", cfg.teacher_cache)


def _absolute(argument: str, paths: str | None) -> list[str]:
    from hydra.utils import to_absolute_path

    return [to_absolute_path(path) for path in joined_paths(argument, paths)] if paths else []


def check_criterion(cfg: KDConfig) -> None:
    """Check the criterion's own settings. Raises InputError, naming the flag."""
    try:
        check_settings(**loss_arguments(cfg))
        check_schedule(cfg.temperature, cfg.kd_temperature_schedule, cfg.kd_final_temperature, cfg.kd_loss)
    except ValueError as error:
        name, rest = str(error).split(":", 1)
        name = f"kd_{name}" if name in PREFIXED else name
        raise InputError(f"--{name.replace('_', '-')}:{rest}") from None
    for argument, paths in (("--teacher-path", cfg.teacher_path), ("--teacher-cache", cfg.teacher_cache)):
        if cfg.kd_loss == "wttm" and paths and len(joined_paths(argument, paths)) > 1:
            raise input_error(argument, paths, "must be one: the loss wttm weighs the rows of one teacher")


def check_vocabulary(cfg: KDConfig, vocabulary: int) -> None:
    """Check the settings whose limits depend on the size of the target vocabulary. Raises InputError."""
    if cfg.teacher_topk > vocabulary:
        raise input_error(
            "--teacher-topk", cfg.teacher_topk, f"must be at most {vocabulary}, the size of the vocabulary"
        )
    if paper_alpha(cfg.label_smoothing, vocabulary) >= 1:
        limit = f"{vocabulary - 1}/{vocabulary}, for the {vocabulary} symbols of the vocabulary"
        raise input_error("--label-smoothing", cfg.label_smoothing, f"must be below {limit}")


def exit_with_error(error: Exception, status: int = 2) -> NoReturn:
    """Exit fairseq's process with one line instead of a traceback; ``status`` 2 means invalid input."""
    report(Path(sys.argv[0]).name, error)
    stop_prefetch_threads()
    sys.exit(status)


@contextlib.contextmanager
def exit_on_input_error(*others: type[Exception]) -> Generator[None]:
    """Exit by :func:`exit_with_error` if the block raises InputError, or one of ``others``."""
    try:
        yield
    except (InputError, *others) as error:
        exit_with_error(error)


def stop_prefetch_threads() -> None:
    """End the threads in which fairseq prepares batches: Python aborts if one is inside torch when it exits."""
    loading = [thread for thread in threading.enumerate() if isinstance(thread, BackgroundConsumer)]
    deadline = time.monotonic() + 10
    for thread in loading:
        thread._max_len = 0  # it ends after its current batch, once the queue has space for that
        while thread.is_alive() and time.monotonic() < deadline:
            with contextlib.suppress(queue.Empty):
                thread._queue.get_nowait()
            thread.join(0.01)
