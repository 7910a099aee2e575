"""Log the rows of ``summary.csv`` to TensorBoard and Weights & Biases, if a flag asks for it."""

import hashlib
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lskd.io.errors import file_error_context, input_error
from lskd_vision.config import RunConfig


class Logs:
    """The TensorBoard and Weights & Biases logs of one run.

    If a file cannot be written, an OSError names TensorBoard's directory.

    Args:
        config: which logs to write, and the project of Weights & Biases.
        directory: the run's directory.
        name: the run's name.
        configuration: the run's configuration, from its record.
        history: rows of ``summary.csv`` so far. They are logged again, as the process may have been killed between a
            checkpoint and its row.

    Raises:
        InputError: a log's package is not installed, or its key is missing.
    """

    def __init__(
        self,
        config: RunConfig,
        directory: Path,
        name: str,
        configuration: Mapping[str, Any],
        history: Sequence[Mapping[str, Any]],
    ) -> None:
        check_logs(config)
        self.tensorboard = self.wandb = None
        self.place = directory / "tensorboard"
        if config.log_tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            # An error of the writing thread is raised at the next call; the thread would also print its traceback.
            if not isinstance(threading.excepthook, WithoutOSErrors):
                threading.excepthook = WithoutOSErrors(threading.excepthook)
            with file_error_context(self.place):
                self.tensorboard = SummaryWriter(self.place, purge_step=1)  # hides what was logged before
        if config.log_wandb:
            import wandb

            # One W&B run for each of our runs, also after a restart; several exist at once in one process.
            self.wandb = wandb.init(
                project=config.wandb_project,
                id=f"{name}-{hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:12]}",
                name=name,
                dir=directory,
                config=configuration,
                resume="allow",
                reinit="create_new",
            )
        for row in history:
            self.add(row)

    def add(self, row: Mapping[str, Any]) -> None:
        """Log a row of ``summary.csv`` at its epoch."""
        metrics = {key: value for key, value in row.items() if isinstance(value, int | float) and key != "epoch"}
        if self.tensorboard:
            with file_error_context(self.place):
                for key, value in metrics.items():
                    self.tensorboard.add_scalar(key.replace("_", "/", 1), value, row["epoch"])
                self.tensorboard.flush()
        if self.wandb and row["epoch"] >= self.wandb.step:
            self.wandb.log(metrics, step=row["epoch"])

    def close(self) -> None:
        """Finish the files."""
        if self.tensorboard:
            with file_error_context(self.place):
                self.tensorboard.close()
        if self.wandb:
            self.wandb.finish()


class WithoutOSErrors:
    """A ``threading.excepthook`` that ignores an OSError and passes other exceptions to ``report``."""

    def __init__(self, report: Callable[[threading.ExceptHookArgs], object]) -> None:
        self.report = report

    def __call__(self, failed: threading.ExceptHookArgs) -> None:
        if not issubclass(failed.exc_type, OSError):
            self.report(failed)


def check_logs(config: RunConfig) -> None:
    """Check that the packages and the key that the logs need are available.

    Raises:
        InputError: one is missing.
    """
    if config.log_tensorboard:
        try:
            import tensorboard  # noqa: F401
        except ImportError:
            raise input_error("--log-tensorboard", True, "needs tensorboard: pip install tensorboard") from None
    if config.log_wandb:
        try:
            import wandb  # noqa: F401
        except ImportError:
            raise input_error("--log-wandb", True, "needs wandb: pip install wandb") from None
        if not os.environ.get("WANDB_API_KEY") and os.environ.get("WANDB_MODE") not in ("offline", "disabled"):
            raise input_error(
                "--log-wandb", True, "needs the key in the environment: WANDB_API_KEY; or WANDB_MODE=offline"
            )
