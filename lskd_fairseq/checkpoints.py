"""Read fairseq's checkpoints without executing code from them, and build their models."""

import copy
import errno
import re
from pathlib import Path
from typing import Any

import torch
from fairseq import checkpoint_utils
from fairseq.dataclass.utils import convert_namespace_to_omegaconf, overwrite_args_by_name
from fairseq.models import BaseFairseqModel
from fairseq.tasks import FairseqTask, setup_task
from fairseq.tasks.translation import TranslationTask
from omegaconf import DictConfig, OmegaConf

from lskd.io.errors import input_error
from lskd.io.torch_files import CodeError, check_named_tensors, count_not_finite, load_plain
from lskd.measure.teacher_smoothing import LabelSmoothing
from lskd.records.runs import look_up
from lskd_fairseq.options import paper_alpha

MAX_POSITIONS = 1_000_000  # rows of a model's table of positions; fairseq's own default is a thousandth of that
NAMED = 3  # weights that a message names
UNUSED = ".conv.conv_bias"  # of a dynamic convolution: fairseq neither initialises nor uses it, so it may hold anything

State = dict[str, Any]  # the content of a checkpoint


def read_checkpoint(path: str | Path, argument: str = "checkpoint") -> State:
    """Read a fairseq checkpoint without executing code from it; its weights are memory-mapped.

    Args:
        path: the checkpoint.
        argument: its name in error messages.

    Raises:
        InputError: no such file, not a fairseq checkpoint, or one that would execute code.
    """
    if not Path(path).is_file():
        raise input_error(argument, path or "''", "must be the path of an existing checkpoint file")
    try:
        state = load_plain(path, mapped=True)
    except CodeError as error:
        raise input_error(argument, path, str(error)) from None
    except Exception as error:  # a damaged file may raise anything inside the unpickler
        why = readable(error).split(". ")[0] if str(error).strip() else "empty file"
        if getattr(error, "errno", None) == errno.EINVAL:  # of a file too short to be mapped
            why = "it is truncated"
        raise input_error(argument, path, f"cannot be read as a fairseq checkpoint: {why}") from None
    if (
        not isinstance(state, dict)
        or not isinstance(state.get("model"), dict)
        or not (state.get("cfg") or state.get("args"))
    ):
        raise input_error(argument, path, "must be a fairseq checkpoint: it lacks the model or its configuration")
    check_named_tensors(state["model"], argument, path)
    for name, value in state["model"].items():
        if value.device.type != "cpu":  # a tensor of torch's device "meta" has no values
            raise input_error(argument, path, f"has {name!r} on the device {value.device}, must be stored in the file")
    _check_proportion(path, state, argument)
    return state


def _check_proportion(path: str | Path, state: State, argument: str) -> None:
    """Check that the configuration does not make fairseq build a model far larger than the stored weights.

    Raises:
        InputError: it has more layers or dimensions than the weights, or too many positions.
    """
    options = look_up(state, "cfg", "model") or state.get("args") or {}
    options = dict(options) if isinstance(options, dict) else dict(getattr(options, "__dict__", {}))
    for side in ("encoder", "decoder"):
        if isinstance(section := options.pop(side, None), dict):  # hydra's: it overrides the flat defaults beside it
            options = {name: value for name, value in options.items() if not str(name).startswith(f"{side}_")}
            options |= {f"{side}_{name}": value for name, value in section.items()}
    dimension = max((size for tensor in state["model"].values() for size in tensor.shape), default=0)
    most = {"_embed_dim": dimension, "_layers": len(state["model"]), "_positions": MAX_POSITIONS}
    for name, value in options.items():
        limit = next((each for end, each in most.items() if str(name).endswith(end)), None)
        if state["model"] and limit is not None and isinstance(value, int) and value > limit:
            raise input_error(
                argument, path, f"has {name} = {value:.6g}, must be at most {limit}, in proportion to its weights"
            )


def check_finite(path: str | Path, state: State, argument: str) -> None:
    """Check that all weights of a checkpoint are finite, but those of :data:`UNUSED`.

    Raises:
        InputError: a weight is NaN or infinite; the message names its tensor.
    """
    for name, tensor in state["model"].items():
        if tensor.is_floating_point() and not name.endswith(UNUSED) and (wrong := count_not_finite(tensor)):
            found = f"{wrong} of the {tensor.numel()} numbers of its weight {name} are NaN or infinite"
            raise input_error(argument, path, f"{found}, must be finite")


def own_task(path: str, state: State, data: str, argument: str) -> TranslationTask:
    """Set up the translation task that a checkpoint was trained with, on other data.

    Raises:
        InputError: fairseq cannot set it up; the message has the reason.
    """
    try:
        cfg = copy.deepcopy(checkpoint_config(state))  # a Namespace in it is shared with the state
        overwrite_args_by_name(cfg, {"data": data, "eval_bleu": False})
        task: Any = setup_task(cfg.task, from_checkpoint=True)
    except Exception as error:  # an untrusted configuration may raise anything inside fairseq
        raise input_error(argument, path, f"cannot be used on {data}: {readable(error)}") from None
    return task


def build_model(path: str, task: FairseqTask, argument: str) -> BaseFairseqModel:
    """Build the model of a checkpoint and load its weights.

    The state of the random number generator is restored, so that a student starts as it would without a teacher.

    Args:
        path: the checkpoint.
        task: from :func:`own_task`; building the model may change it.
        argument: the checkpoint's name in error messages.

    Raises:
        InputError: the weights do not fit the configuration, or fairseq cannot build it; the message has the reason.
    """
    with torch.random.fork_rng(devices=[]):
        try:
            (model,), *_ = checkpoint_utils.load_model_ensemble_and_task([path], task=task)
        except Exception as error:  # likewise
            raise input_error(argument, path, f"cannot be built: {readable(error)}") from None
    return model


def readable(error: Exception) -> str:
    """An error's message in one line; a long list of weights is cut to the first few and their number.

    >>> print(readable(RuntimeError('Error(s) in loading state_dict for M:\\n\\tMissing key(s) in state_dict: "a". ')))
    Missing key(s) in state_dict: "a".
    >>> readable(KeyError())
    'KeyError'
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if "loading state_dict" not in lines[0]:
        return lines[0]
    mismatches = [line for line in lines[1:] if line.startswith("size mismatch")]
    others = [re.sub(r'("[^"]+"(?:, )?)+', _first_names, line) for line in lines[1:] if line not in mismatches]
    more = [f"and {len(mismatches) - NAMED} other size mismatches"] if len(mismatches) > NAMED else []
    return " ".join(others + mismatches[:NAMED] + more) or lines[0]


def _first_names(names: re.Match[str]) -> str:
    found = re.findall('"[^"]+"', names[0])
    return ", ".join(found[:NAMED]) + (f" and {len(found) - NAMED} more" if len(found) > NAMED else "")


def checkpoint_config(state: State) -> DictConfig:
    """The configuration in a checkpoint, converted if it is from before fairseq had structured configurations."""
    if state.get("cfg"):
        return OmegaConf.create(state["cfg"], flags={"allow_objects": True})
    return convert_namespace_to_omegaconf(state["args"])


def setting(section: object, name: str) -> Any:
    """A setting in a section of fairseq's configuration, which may be a Namespace; None if it is missing."""
    return section.get(name) if isinstance(section, DictConfig) else getattr(section, name, None)


def made_with(state: State) -> dict[str, Any]:
    """The provenance that this project stored in a checkpoint; empty if another program wrote it.

    See :func:`lskd_fairseq.run_record.provenance`. An export has it at the top level, a checkpoint of a training in
    ``task_state``.
    """
    made = state.get("lskd") or look_up(state, "task_state", "lskd")
    return made if isinstance(made, dict) else {}


def smoothing_of_training(state: State, vocabulary: int) -> LabelSmoothing:
    """The label smoothing that a checkpoint's configuration records.

    Returns:
        ``alpha``: the paper's α, None if the configuration does not record it; ``epsilon``: fairseq's; ``source``.
    """
    try:
        name, epsilon = _criterion(state)
    except Exception:  # an untrusted configuration may raise anything inside OmegaConf
        name, epsilon = "an incomplete configuration", None
    if epsilon is None:
        return {"alpha": None, "epsilon": None, "source": f"unknown: trained with {name or 'distillation'}"}
    return {"alpha": paper_alpha(epsilon, vocabulary), "epsilon": epsilon, "source": "the teacher's configuration"}


def _criterion(state: State) -> tuple[str | None, float | None]:
    """The criterion's name and its ε, 0 without smoothing; None for what is unknown."""
    criterion = checkpoint_config(state).get("criterion") or {}
    name = criterion if isinstance(criterion, str) else criterion.get("_name")
    if not criterion:  # an export has the provenance instead of the configuration
        made = made_with(state).get("configuration", {})
        criterion = made | ({"label_smoothing": made["label_smoothing_epsilon"]} if made else {})
    if name == "cross_entropy":
        return name, 0.0
    if "label_smoothing" not in criterion or criterion.get("kd_weight", 0) > 0:
        return name, None  # a distilled model also learns its teacher's smoothing
    if not 0 <= (epsilon := float(criterion["label_smoothing"])) < 1:
        raise ValueError(f"label_smoothing = {epsilon}")
    return name, epsilon
