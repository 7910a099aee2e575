"""The run record of an image model: what it was made with, and whether a directory holds the same run already."""

import itertools
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from timm.utils import NativeScaler
from torch import Tensor
from torch.utils.data import Dataset

from lskd.io.errors import InputError, input_error
from lskd.measure.teacher_smoothing import temperature_warnings
from lskd.records.determinism import nondeterminism, switches
from lskd.records.runs import RunRecord, look_up, read_run
from lskd_vision.checkpoints import Checkpoint, first_difference, read_state
from lskd_vision.data import fingerprint, read_split
from lskd_vision.models import meta_model

# Options that say where and beside whom a run is trained, and not what comes of it.
INDIFFERENT = {"output", "experiment", "resume", "group_size", "workers", "pin_mem", "device", "debug", "config"}
INDIFFERENT |= {"log_tensorboard", "log_wandb", "wandb_project", "dataset_download", "data_dir", "kd_checkpoint"}
INDIFFERENT |= {"rank", "local_rank", "distributed", "validation_batch_size"}
PREPARATION = ("input_img_mode", "max_pixel_value")  # of an image, beside the data configuration
TELLS_APART = {
    "--model": lambda run: run.setting.model,
    "--smoothing": lambda run: run.setting.smoothing,
    "--kd-temperature": lambda run: run.setting.temperature,
    "--kd-checkpoint": lambda run: run.teacher and (run.teacher.path or run.teacher.name),
}
CHECKPOINTS = LAST, BEST = "last.pth.tar", "model_best.pth.tar"  # of every run, in its directory


def new_record(run) -> RunRecord:
    """The record of a :class:`lskd_vision.run.Run` that begins."""
    arguments, teacher, temperature = run.arguments, run.teacher, run.setting.temperature
    configuration = {
        "temperature": temperature,
        "student_temperature": teacher and (arguments.kd_student_temperature or temperature),
        "kd_weight": 1 - arguments.task_loss_weight if teacher else 0.0,
        "label_smoothing": run.setting.smoothing,
        "teacher_topk": 0,
        "model": run.setting.model,
        "host": plain(own_arguments(run)) | {"data_config": plain(run.config)},
    }
    return RunRecord(
        configuration=configuration,
        seed=run.setting.seed,
        data=run.data_record,
        teacher=run.teacher_record,
        warnings=temperature_warnings(run.teacher_record["label_smoothing"], temperature) if teacher else [],
        nondeterminism=nondeterminism(
            run.device.type,
            arguments.world_size,
            compiled=bool(teacher or arguments.torchcompile),  # the distillation loss is, on a GPU
            switches=switches(),
        ),
    )


def own_arguments(run) -> dict:
    """The command line as it would be for this run alone."""
    own = {"model": run.setting.model, "seed": run.setting.seed, "smoothing": run.setting.smoothing}
    if run.teacher is not None:
        own |= {"kd_temperature": run.setting.temperature, "kd_model_name": run.teacher.name}
        own |= {"kd_checkpoint": run.teacher.path}
    own |= {"num_classes": len(run.data_record["classes"])}
    return vars(run.arguments) | own


def check_directories_differ(runs: Sequence) -> None:
    """Check that no two runs of a command have the same directory, whose name has six digits of α and T.

    Raises:
        InputError: two have; the message has what tells them apart.
    """
    for first, second in itertools.combinations(runs, 2):
        if first.directory == second.directory:
            ours, theirs = ({option: tell(run) for option, tell in TELLS_APART.items()} for run in (first, second))
            option = next(option for option in ours if ours[option] != theirs[option])
            both = f"and {ours[option]} would both write {first.directory}"
            raise input_error(option, theirs[option], both)


def check_directory(run) -> int:
    """Check that what is in the run's directory is this run, and that it may go on: all that it needs is there.

    Returns:
        How many epochs its record has.

    Raises:
        InputError: it is something else or another run, or the teacher's own; ``--resume`` is not given; or a
            part of the run is gone.
    """
    _check_own_files(run)
    last = run.directory / LAST
    record = read_run(run.directory)
    if record is None:
        if last.exists():
            raise input_error(
                "--output", run.directory, f"has a {LAST} and no run.json: put it back, or remove the directory"
            )
        # A kill while the first record was written leaves a hidden file.
        if run.directory.exists() and any(not path.name.startswith(".") for path in run.directory.iterdir()):
            raise input_error("--output", run.directory, "must be new, or hold a run")
        return 0
    if difference := another_run(run, asdict(record)):
        raise input_error("--output", run.directory, f"holds another run: {difference}")
    if not run.arguments.resume:
        raise input_error("--output", run.directory, "holds this run already; --resume goes on with it")
    epochs = len(record.history)
    if epochs >= run.arguments.epochs:  # it has ended: its checkpoints may be elsewhere
        return epochs
    for path in map(run.directory.joinpath, CHECKPOINTS):
        if epochs and not path.exists():
            valid = f"is gone, and run.json has {epochs} epochs: put it back, or remove the directory to begin anew"
            raise input_error("--resume", path, valid)
    if last.exists():
        check_state(run, last)
    return epochs


def check_state(run, path: Path) -> None:
    """Check that a checkpoint is of this run, and that it has all that the run goes on from.

    Raises:
        InputError: it is not, has not, or cannot be read.
    """
    state = read_state(path, "--resume", mapped=True)
    needed = {"state_dict", "optimizer", "epoch", "lskd"}
    needed |= {"state_dict_ema"} if run.arguments.model_ema else set()
    needed |= {"task_state"} if run.overhaul else set()
    needed |= {NativeScaler.state_dict_key} if run.scales_loss else set()
    missing = needed - state.keys()
    made = state["lskd"] if isinstance(state.get("lskd"), dict) else {}
    missing |= {"configuration", "data", "teacher", "history", "best", "seconds", "valid"} - made.keys()
    if missing:
        raise input_error(
            "--resume", path, f"lacks {', '.join(sorted(missing))}: put back the one that the run has written"
        )
    if difference := another_run(run, made):
        raise input_error("--resume", path, f"is of another run: {difference}")
    model = meta_model(run.arguments, run.setting.model, len(run.data_record["classes"]))
    for key in ("state_dict", "state_dict_ema")[: 1 + run.arguments.model_ema]:
        weights = state[key]
        if not isinstance(weights, dict) or not all(isinstance(each, Tensor) for each in weights.values()):
            raise input_error("--resume", path, f"does not fit the run: {key} must hold tensors")
        if difference := first_difference(weights, model):
            raise input_error("--resume", path, f"does not fit the run: {key} has {', '.join(difference)}")


def another_run(run, made: dict) -> str | None:
    """How a run differs from this one, None where it does not.

    Args:
        run: this one.
        made: how the other was made, as a run record or a checkpoint has it.
    """
    ours, theirs = own_settings(plain(own_arguments(run))), own_settings(look_up(made, "configuration", "host") or {})
    if differing := [name for name in ours if ours[name] != theirs.get(name)]:
        return f"{differing[0].replace('_', '-')} differs"
    if run.data_record["fingerprint"] != look_up(made, "data", "fingerprint"):
        return "the data differ"
    if run.teacher is not None and run.teacher.fingerprint != (theirs := look_up(made, "teacher", "fingerprint")):
        found = f"its weights were {str(theirs)[:12]}, and are {run.teacher.fingerprint[:12]} (SHA-256)"
        return f"the teacher differs, {found}"
    return None


def own_record(checkpoint: Checkpoint) -> RunRecord | None:
    """The record of the run that has written a checkpoint, where it still lies beside it."""
    record = read_run(checkpoint.path.parent)
    ours = record is not None and record.configuration == checkpoint.provenance.get("configuration")
    return record if ours else None


def other_images(record: RunRecord, arguments, split: str, data: Dataset, config: dict) -> str | None:
    """How images differ from those that a run was validated on, or from another split of its data; None if they do not.

    Args:
        record: of the run.
        arguments: the command line that has loaded the images.
        split: its name.
        data: the split.
        config: how an image becomes an input, see :func:`lskd_vision.data.data_config`.
    """
    host = record.configuration["host"]
    theirs = host["data_config"] | {name: host.get(name) for name in PREPARATION}
    ours = plain(config | {name: getattr(arguments, name) for name in PREPARATION})
    for name, value in ours.items():
        if value != theirs.get(name):
            return f"{name} is {value}, and was {theirs.get(name)} in the training"
    if _is_of(record.data, host, arguments, split, data):
        return None
    return f"{arguments.data_dir}, split {split}, has other images or labels than the run's data"


def _is_of(recorded: dict, host: dict, arguments, split: str, data: Dataset) -> bool:
    """Whether a split is of the data in a run's record."""
    known = recorded.get("split_fingerprints", {})  # earlier versions wrote one of both splits together
    if split in known:
        return fingerprint(data) == known[split]
    names = host["train_split"], host["val_split"]
    try:
        splits = [data if name == split else read_split(arguments, name) for name in names]
    except (InputError, OSError):
        return False
    return fingerprint(*splits) == recorded["fingerprint"]


def _check_own_files(run) -> None:
    """Check that a run does not replace its teacher's checkpoint. Raises InputError."""
    teacher = run.teacher and run.teacher.path
    for own in map(run.directory.joinpath, CHECKPOINTS):
        if teacher and own.exists() and own.samefile(teacher):
            raise input_error(
                "--kd-checkpoint", teacher, f"is {own}, which this student would replace; name another --output"
            )


def plain(values: dict) -> dict:
    """``values`` as JSON and safe checkpoints hold them: paths become text, tuples lists."""

    def convert(value):
        if isinstance(value, Path):
            return str(value)
        if isinstance(value, list | tuple):
            return [convert(each) for each in value]
        if isinstance(value, dict):
            return {str(key): convert(each) for key, each in value.items()}
        return value

    return {key: convert(value) for key, value in values.items()}


def own_settings(arguments: dict) -> dict:
    """The settings that decide what comes of a run."""
    return {key: value for key, value in arguments.items() if key not in INDIFFERENT and key != "data_config"}
