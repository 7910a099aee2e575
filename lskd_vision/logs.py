"""TensorBoard and Weights & Biases, where they are asked for: the rows of ``summary.csv`` as curves."""

import argparse
import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

from lskd.io.errors import file_error_context, input_error


class Logs:
    """Writers of one run's figures.

    A file that cannot be written is an OSError that names TensorBoard's directory.

    Args:
        arguments: the command line.
        directory: of the run.
        name: of the run.
        configuration: from its record.
        history: rows of ``summary.csv`` that the run has already. They are logged anew, as a kill may have come between
            a checkpoint and its row.

    Raises:
        InputError: what is asked for is not installed, or has no key.
    """

    def __init__(
        self, arguments: argparse.Namespace, directory: Path, name: str, configuration: dict, history: list[dict]
    ):
        check_logs(arguments)
        self.tensorboard = self.wandb = None
        self.place = directory / "tensorboard"
        if arguments.log_tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            # The error of the thread that writes is raised where we write to it; by itself it would print a traceback.
            threading.excepthook = without_system_errors(threading.excepthook)
            with file_error_context(self.place):
                self.tensorboard = SummaryWriter(self.place, purge_step=1)  # hides what was logged before
        if arguments.log_wandb:
            import wandb

            # One run of theirs for one of ours, also after a restart; several live beside each other in one process.
            self.wandb = wandb.init(
                project=arguments.wandb_project,
                id=f"{name}-{hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:12]}",
                name=name,
                dir=directory,
                config=configuration,
                resume="allow",
                reinit="create_new",
            )
        for row in history:
            self.add(row)

    def add(self, row: dict) -> None:
        """Log a row of ``summary.csv``, by its epoch."""
        figures = {key: value for key, value in row.items() if isinstance(value, int | float) and key != "epoch"}
        if self.tensorboard:
            with file_error_context(self.place):
                for key, value in figures.items():
                    self.tensorboard.add_scalar(key.replace("_", "/", 1), value, row["epoch"])
                self.tensorboard.flush()
        if self.wandb and row["epoch"] >= self.wandb.step:
            self.wandb.log(figures, step=row["epoch"])

    def close(self) -> None:
        """Finish the files."""
        if self.tensorboard:
            with file_error_context(self.place):
                self.tensorboard.close()
        if self.wandb:
            self.wandb.finish()


def without_system_errors(report: Callable) -> Callable:
    """``threading.excepthook`` that says nothing of an OSError."""
    if getattr(report, "lskd", False):
        return report

    def report_others(failed) -> None:
        if not issubclass(failed.exc_type, OSError):
            report(failed)

    report_others.lskd = True
    return report_others


def check_logs(arguments: argparse.Namespace) -> None:
    """Check, before anything is made, that what is asked for can be had.

    Raises:
        InputError: it cannot.
    """
    if arguments.log_tensorboard:
        try:
            import tensorboard  # noqa: F401
        except ImportError:
            raise input_error("--log-tensorboard", True, "needs tensorboard: pip install tensorboard") from None
    if arguments.log_wandb:
        try:
            import wandb  # noqa: F401
        except ImportError:
            raise input_error("--log-wandb", True, "needs wandb: pip install wandb") from None
        if not os.environ.get("WANDB_API_KEY") and os.environ.get("WANDB_MODE") not in ("offline", "disabled"):
            raise input_error(
                "--log-wandb", True, "needs the key in the environment: WANDB_API_KEY; or WANDB_MODE=offline"
            )
