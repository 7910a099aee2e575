"""Check the directory of a run before it starts: whether it holds the same run already, and all to resume from."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from timm.utils import NativeScaler
from torch import Tensor

from lskd.io.errors import input_error
from lskd.records.runs import ADDED_OPTIONS, look_up, read_run
from lskd_vision.checkpoints import read_state
from lskd_vision.models import meta_model
from lskd_vision.pooled_features import feature_width
from lskd_vision.run import TrainingRun
from lskd_vision.run_record import BEST, CHECKPOINTS, LAST, own_settings, stored_args
from lskd_vision.timm_model import TimmModel
from lskd_vision.weight_conversion import first_difference

DIFFERENCES: dict[str, Callable[[TrainingRun], object]] = {
    "--model": lambda run: run.config.model.model,
    "--smoothing": lambda run: run.config.distillation.smoothing,
    "--kd-temperature": lambda run: run.config.distillation.temperature,
    "--kd-checkpoint": lambda run: run.teacher and (run.teacher.path or run.teacher.name),
}


def check_directories_differ(runs: Sequence[TrainingRun]) -> None:
    """Check that no two runs of a command have the same directory, whose name has only six digits of α and T.

    Raises:
        InputError: two have; the message names the flag in which they differ.
    """
    for first, second in itertools.combinations(runs, 2):
        if first.directory == second.directory:
            ours, theirs = ({option: value(run) for option, value in DIFFERENCES.items()} for run in (first, second))
            option = next(option for option in ours if ours[option] != theirs[option])
            both = f"and {ours[option]} would both write {first.directory}"
            raise input_error(option, theirs[option], both)


def check_directory(run: TrainingRun) -> int:
    """Check that a run's directory is new, or holds this run with everything to resume from.

    Returns:
        The number of epochs in its record.

    Raises:
        InputError: it holds something else, another run, or the run's teacher; ``--resume`` is not given; or a part of
            the run is missing.
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
    if difference := another_run(run, msgspec.structs.asdict(record)):
        raise input_error("--output", run.directory, f"holds another run: {difference}")
    if not run.config.run.resume:
        raise input_error("--output", run.directory, "holds this run already; --resume resumes it")
    epochs = len(record.history)
    if epochs >= run.config.optimisation.epochs:  # it has ended: its checkpoints may be elsewhere
        return epochs
    for path in map(run.directory.joinpath, CHECKPOINTS):
        validated = path.name != BEST or BEST in record.metrics.get("valid", {})  # else there is no best one yet
        if epochs and validated and not path.exists():
            has = f"run.json has {epochs} epoch{'s' * (epochs > 1)}"
            valid = f"is gone, and {has}: put it back, or remove the directory to begin anew"
            raise input_error("--resume", path, valid)
    if last.exists():
        check_state(run, last)
    return epochs


def is_of_its_teacher(run: TrainingRun) -> bool:
    """Whether a run's directory holds a student of the same teacher, as after a command with this teacher alone."""
    record = read_run(run.directory)
    of = look_up(msgspec.structs.asdict(record), "teacher", "fingerprint") if record else None
    return of is not None and run.teacher is not None and of == run.teacher.fingerprint


def check_state(run: TrainingRun, path: Path) -> None:
    """Check that a checkpoint belongs to this run, and has everything to resume from.

    Raises:
        InputError: it is of another run, lacks something, or cannot be read.
    """
    state = read_state(path, "--resume", mapped=True)
    needed = {"state_dict", "optimizer", "epoch", "lskd"}
    needed |= {"state_dict_ema"} if run.config.model.model_ema else set()
    model = meta_model(run.config.model, run.config.input, len(run.class_names))
    needed |= {"task_state"} if _has_layers_beside(run, model) else set()
    needed |= {"scheduler"} if run.config.optimisation.sched == "plateau" else set()
    needed |= {NativeScaler.state_dict_key} if run.config.device.scales_loss else set()
    missing = needed - state.keys()
    made = state["lskd"] if isinstance(state.get("lskd"), dict) else {}
    missing |= {"configuration", "data", "teacher", "history", "best", "seconds", "valid"} - made.keys()
    if missing:
        raise input_error(
            "--resume", path, f"lacks {', '.join(sorted(missing))}: restore the checkpoint that the run wrote"
        )
    if difference := another_run(run, made):
        raise input_error("--resume", path, f"is of another run: {difference}")
    for key in ("state_dict", "state_dict_ema")[: 1 + run.config.model.model_ema]:
        weights = state[key]
        if not isinstance(weights, dict) or not all(isinstance(each, Tensor) for each in weights.values()):
            raise input_error("--resume", path, f"does not fit the run: {key} must hold tensors")
        if misfit := first_difference(weights, model):
            raise input_error("--resume", path, f"does not fit the run: {key} has {', '.join(misfit)}")


def _has_layers_beside(run: TrainingRun, model: TimmModel) -> bool:
    """Whether extra layers are trained with a run's student, to map its features to the teacher's."""
    if run.teacher is None or not run.distils_features:
        return False
    width = run.teacher.feature_width  # None: features of stages
    return width is None or width != feature_width(model, "--model", run.config.model.model)


def another_run(run: TrainingRun, made: Mapping[str, Any]) -> str | None:
    """The first setting in which another run differs from this one; None if they are the same.

    Args:
        run: this one.
        made: the other's settings, data and teacher, from a run record or a checkpoint.
    """
    host = look_up(made, "configuration", "host")
    ours = own_settings(stored_args(run.config, len(run.class_names)))
    theirs = own_settings(host if isinstance(host, dict) else {})
    if differing := [name for name in ours if ours[name] != theirs.get(name, ADDED_OPTIONS.get(name))]:
        return f"{differing[0].replace('_', '-')} differs"
    if run.data_record["fingerprint"] != look_up(made, "data", "fingerprint"):
        return "the data differ"
    if run.teacher is not None and run.teacher.fingerprint != (other := look_up(made, "teacher", "fingerprint")):
        found = f"its weights were {str(other)[:12]}, and are {run.teacher.fingerprint[:12]} (SHA-256)"
        return f"the teacher differs, {found}"
    return None


def _check_own_files(run: TrainingRun) -> None:
    """Check that a run does not overwrite its teacher's checkpoint. Raises InputError."""
    for teacher in run.teacher.paths if run.teacher else []:
        for own in map(run.directory.joinpath, CHECKPOINTS):
            if own.exists() and own.samefile(teacher):
                valid = f"is {own}, which this student would replace; name another --output"
                raise input_error("--kd-checkpoint", teacher, valid)
