"""Report training in lines: what is trained, then one line per epoch and model, also in ``train.log``."""

from collections.abc import Mapping, Sequence
from typing import Any

from tqdm import tqdm

from lskd.records.runs import RunRecord, data_name

LOG = "train.log"  # in the directory of a run
RECENT = 5  # epochs from whose mean duration the time left is estimated


def data_line(record: Mapping[str, Any]) -> str:
    """Describe the data of a run.

    >>> data_line({"dataset": "folders", "path": "/data/cub200", "splits": {"train": 60, "val": 30}, "classes": "ab"})
    'data     cub200: 60 images in train, 30 in val, 2 classes; /data/cub200'
    """
    splits = [f"{count} in {name}" for name, count in record["splits"].items()]
    counts = ", ".join(splits).replace(" in ", " images in ", 1)
    return f"data     {data_name(record)}: {counts}, {len(record['classes'])} classes; {record['path']}"


def model_line(name: str, parameters: int) -> str:
    """Describe a model and its size.

    >>> model_line("resnet18", 11689512)
    'model    resnet18: 11.69 M parameters'
    """
    return f"model    {name}: {parameters / 1e6:.2f} M parameters"


def teacher_line(record: Mapping[str, Any], parameters: int) -> str:
    """Describe a teacher: its origin, size, label smoothing and how that is known, and validation score.

    Args:
        record: the teacher's entry in a student's run record.
        parameters: the teacher's number of parameters.
    """
    alpha, source = (record["label_smoothing"][key] for key in ("alpha", "source"))
    smoothing = f"α {source}" if alpha is None else f"α = {alpha:g} ({source})"
    size = f"{record['model']}, {parameters / 1e6:.2f} M parameters"
    name = f"{', '.join(record['paths'])} ({size})" if record["paths"] else size
    valid = record["valid"]
    return f"teacher  {name}: {smoothing}; validation top-1 {valid['top1']:.2f} %, top-5 {valid['top5']:.2f} %"


def epoch_line(history: Sequence[Mapping[str, Any]], epochs: int, images: int) -> str:
    """Describe the last epoch of a run: its training loss and learning rate, and the validation scores, if any.

    ``images/s`` are the model's training images per second of wall-clock time of the epoch, validation and checkpoints
    included. Models that are trained in one process share this time: each of N has 1/N of the rate of one alone.
    ``left`` is the time until training ends, if each epoch takes as long as the mean of the last :data:`RECENT`.

    Args:
        history: rows of ``summary.csv``, at least one. If they have scores of a moving average, these are shown.
        epochs: the number of epochs of the whole training.
        images: the number of training images in one epoch.
    """
    row, done = history[-1], history[-1]["epoch"]
    last = seconds_per_epoch(history, 1)
    rate = images / max(last, 0.05)  # seconds are rounded to .1
    left = (epochs - done) * seconds_per_epoch(history, RECENT)
    ema = "_ema" if "valid_top1_ema" in row else ""
    scores = [f"{'not validated':<30}"]
    if "valid_top1" in row:
        scores = [f"{name} {row[f'valid_{key}{ema}']:6.2f} %" for name, key in (("top-1", "top1"), ("top-5", "top5"))]
    cells = [f"epoch {done:>{len(str(epochs))}}/{epochs}", f"loss {row['train_loss']:<#9.4g}", *scores]
    cells[-1] += " (EMA)" if ema else ""
    cells += [f"lr {row['lr']:<9.3g}", f"{rate:>6.{0 if rate >= 10 else 2}f} images/s"]
    return "  ".join([*cells, f"{tqdm.format_interval(left)} left"])


def batch_line(epoch: int, epochs: int, batch: int, batches: int, loss: float, rate: float, speed: float) -> str:
    """Describe the current epoch of a run so far.

    >>> batch_line(2, 90, 50, 1251, 6.9077, 0.1, 812.3)
    'epoch  2/90  batch   50/1251  loss 6.908      lr 0.1        812 images/s'

    Args:
        epoch: from 1.
        epochs: how many there are.
        batch: the batch's number in the epoch, from 1.
        batches: how many there are.
        loss: its mean over the epoch so far, of this process.
        rate: the learning rate.
        speed: images per second of all processes.
    """
    place = f"epoch {epoch:>{len(str(epochs))}}/{epochs}  batch {batch:>{len(str(batches))}}/{batches}"
    return f"{place}  loss {loss:<#9.4g}  lr {rate:<9.3g}  {speed:.{0 if speed >= 10 else 2}f} images/s"


def seconds_per_epoch(history: Sequence[Mapping[str, Any]], recent: int) -> float:
    """The mean duration of the last ``recent`` epochs, or of all if there are fewer.

    Args:
        history: rows with the seconds that all epochs so far have taken.
        recent: at least 1.
    """
    recent = min(recent, len(history))
    before = history[-recent - 1]["seconds"] if recent < len(history) else 0.0
    return (history[-1]["seconds"] - before) / recent


def log_text(name: str, record: RunRecord, parameters: int, teacher_parameters: int, images: int) -> str:
    """The ``train.log`` of a run: its data, model and teacher, then for each epoch the run's name and the epoch's line.

    Args:
        name: the run's name.
        record: the run's record.
        parameters: the model's number of parameters.
        teacher_parameters: the teacher's, if there is one.
        images: the number of training images in one epoch.
    """
    made, history = record.configuration, record.history
    lines = [data_line(record.data), model_line(made["model"], parameters)]
    lines += [teacher_line(record.teacher, teacher_parameters)] if record.teacher else []
    for number in range(len(history)):
        lines.append(f"{name}  {epoch_line(history[: number + 1], made['host']['epochs'], images)}")
    return "\n".join(lines) + "\n"
