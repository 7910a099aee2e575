"""The lines that training prints about several runs: at the start, within an epoch, and at the end."""

import time
from collections import Counter
from collections.abc import Sequence

from lskd.records.runs import read_run
from lskd_vision.progress import batch_line, model_line, teacher_line
from lskd_vision.run import TrainingRun
from lskd_vision.run_record import BEST, LAST


def start_lines(runs: Sequence[TrainingRun], groups: Sequence[Sequence[TrainingRun]], data_name: str) -> list[str]:
    """Describe what is trained: the number of runs, the models and the teachers; the data have separate lines.

    Args:
        runs: all runs of the command.
        groups: the unfinished runs, in groups that are trained one after the other.
        data_name: the data set's name.
    """
    unfinished = [run for group in groups for run in group]
    parts = [f"runs     {len(runs)} of {runs[0].config.optimisation.epochs} epochs each on {data_name}"]
    parts += [f"{ended} ended before"] if (ended := len(runs) - len(unfinished)) else []
    resumed = Counter(run.next_epoch for run in unfinished if run.next_epoch)
    parts += [f"{count} resumed after epoch {epoch}" for epoch, count in sorted(resumed.items())]
    parts += [f"in {len(groups)} groups, one after the other"] if len(groups) > 1 else []
    models = Counter((run.config.model.model, run.parameters) for run in unfinished)
    teachers = [
        (run.teacher_record, run.teacher.parameters) for run in unfinished if run.teacher and run.teacher_record
    ]
    return [
        "; ".join([*parts, f"in {runs[0].directory.parent}"]),
        *(f"{model_line(*model)}, {count} {'run' if count == 1 else 'runs'}" for model, count in models.items()),
        *dict.fromkeys(teacher_line(*teacher) for teacher in teachers),
    ]


def batch_lines(runs: Sequence[TrainingRun], batch: int, batches: int) -> list[str]:
    """A line for each run that has not failed, after batch ``batch``, from 1, of the epoch's ``batches``."""
    lines = []
    width = max(len(run.name) for run in runs)
    for run in runs:
        if not run.failure:
            epochs, rate = run.config.optimisation.epochs, run.optimisation.rate
            images = float(run.means.images) * run.config.processes.world_size
            speed = images / max(time.monotonic() - run.began, 1e-3)
            line = batch_line(run.next_epoch + 1, epochs, batch, batches, run.means.loss, rate, speed)
            lines.append(f"{run.name:<{width}}  {line}")
    return lines


def table(runs: Sequence[TrainingRun]) -> str:
    """The results of the runs: best and last accuracy on the validation split, and their directory.

    If there is a moving average of the weights, its accuracy is shown, by which the best checkpoint is chosen.
    """
    width = max(len(run.name) for run in runs)
    lines = [f"{'run':<{width}} {'best top-1':>12} {'last top-1':>12}"]
    for run in runs:
        record = None if run.failure else read_run(run.directory)
        if record is None:
            lines.append(f"{run.name:<{width}} failed: {run.failure}")
            continue
        ema = "top1_ema" in record.metrics["valid"][LAST]
        best, last = (record.metrics["valid"][name]["top1_ema" if ema else "top1"] for name in (BEST, LAST))
        lines.append(f"{run.name:<{width}} {best:>10.2f} % {last:>10.2f} %" + " (EMA)" * ema)
    return "\n".join([*lines, f"in {runs[0].directory.parent}"])
