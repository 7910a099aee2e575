"""fairseq's checkpoints: read without running anything in them, and built into a model."""

import copy
import re
from pathlib import Path

import torch
from fairseq import checkpoint_utils
from fairseq.dataclass.utils import convert_namespace_to_omegaconf, overwrite_args_by_name
from fairseq.models import BaseFairseqModel
from fairseq.tasks import FairseqTask, setup_task
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from lskd.io.errors import input_error
from lskd.io.torch_files import CodeError, load_plain
from lskd.records.runs import look_up
from lskd_fairseq.options import paper_alpha

POSITIONS = 1_000_000  # of a sentence, for which a model may keep a table; fairseq's own default is a thousandth
NAMED = 3  # weights in a message


def read_checkpoint(path: str | Path, argument: str = "checkpoint") -> dict:
    """A fairseq checkpoint's content, without running anything in it and without reading the weights before use.

    ``argument`` is what errors call it.

    Raises:
        InputError: no such file, not a fairseq checkpoint, or one that would run code.
    """
    if not Path(path).is_file():
        raise input_error(argument, path or "''", "must be the path of an existing checkpoint file")
    try:
        state = load_plain(path, mapped=True)
    except CodeError as error:
        raise input_error(argument, path, str(error)) from None
    except Exception as error:  # a damaged file may raise anything inside the unpickler
        why = readable(error).split(". ")[0] if str(error).strip() else "empty file"
        raise input_error(argument, path, f"cannot be read as a fairseq checkpoint: {why}") from None
    if (
        not isinstance(state, dict)
        or not isinstance(state.get("model"), dict)
        or not (state.get("cfg") or state.get("args"))
    ):
        raise input_error(argument, path, "must be a fairseq checkpoint: it lacks the model or its configuration")
    for name, value in state["model"].items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            found = f"{name!r}: {type(value).__name__}"
            raise input_error(argument, path, f"has {found} among its weights, must be names and tensors only")
        if value.device.type != "cpu":  # what is nowhere stays nowhere
            raise input_error(argument, path, f"has {name!r} on the device {value.device}, must be stored in the file")
    _check_proportion(path, state, argument)
    return state


def _check_proportion(path: str | Path, state: dict, argument: str) -> None:
    """Check that the model that fairseq would build of the configuration is not far larger than the weights.

    Raises:
        InputError: it has more layers or dimensions than these, or very many positions.
    """
    options = look_up(state, "cfg", "model") or state.get("args") or {}
    options = dict(options) if isinstance(options, dict) else dict(getattr(options, "__dict__", {}))
    for side in ("encoder", "decoder"):
        if isinstance(section := options.pop(side, None), dict):  # hydra's, beside which are defaults that do not count
            options = {name: value for name, value in options.items() if not str(name).startswith(f"{side}_")}
            options |= {f"{side}_{name}": value for name, value in section.items()}
    dimension = max((size for tensor in state["model"].values() for size in tensor.shape), default=0)
    most = {"_embed_dim": dimension, "_layers": len(state["model"]), "_positions": POSITIONS}
    for name, value in options.items():
        limit = next((each for end, each in most.items() if str(name).endswith(end)), None)
        if state["model"] and limit is not None and isinstance(value, int) and value > limit:
            raise input_error(
                argument, path, f"has {name} = {value:.6g}, must be at most {limit}, in proportion to its weights"
            )


def check_finite(path: str | Path, state: dict, argument: str) -> None:
    """Check that the weights of a checkpoint are numbers.

    Raises:
        InputError: one is NaN or infinite; the message names its tensor.
    """
    for name, tensor in state["model"].items():
        values = tensor.float() if tensor.element_size() == 1 else tensor  # torch cannot ask all of the small types
        if tensor.is_floating_point() and (wrong := int((~values.isfinite()).sum())):
            found = f"{wrong} of the {tensor.numel()} numbers of its weight {name} are NaN or infinite"
            raise input_error(argument, path, f"{found}, must be finite")


def own_task(path: str, state: dict, data: str, argument: str) -> FairseqTask:
    """The task that a checkpoint was trained with, on other data.

    Raises:
        InputError: fairseq cannot set it up; the message has the reason.
    """
    try:
        cfg = copy.deepcopy(checkpoint_config(state))  # what is a Namespace in it is the state's own
        overwrite_args_by_name(cfg, {"data": data, "eval_bleu": False})
        return setup_task(cfg.task, from_checkpoint=True)
    except Exception as error:  # whatever fairseq trips over in a configuration that others may have written
        raise input_error(argument, path, f"cannot be used on {data}: {readable(error)}") from None


def build_model(path: str, task: FairseqTask, argument: str) -> BaseFairseqModel:
    """The model in a checkpoint, of :func:`own_task`: it may change its task.

    No random numbers are used up: a student starts as it would without a teacher.

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
    """What an error says, in one line; of a long list of weights, how many there are and the first few.

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


def _first_names(names: re.Match) -> str:
    found = re.findall('"[^"]+"', names[0])
    return ", ".join(found[:NAMED]) + (f" and {len(found) - NAMED} more" if len(found) > NAMED else "")


def checkpoint_config(state: dict) -> DictConfig:
    """The configuration in a checkpoint, also in one made before fairseq had structured configurations."""
    if state.get("cfg"):
        return OmegaConf.create(state["cfg"], flags={"allow_objects": True})
    return convert_namespace_to_omegaconf(state["args"])


def setting(section: object, name: str) -> object:
    """A setting in a section of fairseq's configuration, which may be a Namespace; None where it is not there."""
    return section.get(name) if isinstance(section, DictConfig) else getattr(section, name, None)


def made_with(state: dict) -> dict:
    """What this project wrote into a checkpoint about its training; empty in those of others.

    See :func:`lskd_fairseq.records.provenance`. An export has it at its top, a training's checkpoint in ``task_state``.
    """
    made = state.get("lskd") or look_up(state, "task_state", "lskd")
    return made if isinstance(made, dict) else {}


def smoothing_of_training(state: dict, vocabulary: int) -> dict:
    """What a checkpoint's own configuration says of its label smoothing.

    Returns:
        ``alpha``: the paper's α, None where the configuration does not tell; ``epsilon``: fairseq's; ``source``.
    """
    try:
        name, epsilon = _criterion(state)
    except Exception:  # OmegaConf may raise anything, and others may have written anything
        name, epsilon = "a configuration that is not whole", None
    if epsilon is None:
        return {"alpha": None, "epsilon": None, "source": f"unknown: trained with {name or 'distillation'}"}
    return {"alpha": paper_alpha(epsilon, vocabulary), "epsilon": epsilon, "source": "the teacher's configuration"}


def _criterion(state: dict) -> tuple[str | None, float | None]:
    """The name of the criterion, and its ε where labels were smoothed or not; None for what is not known."""
    criterion = checkpoint_config(state).get("criterion") or {}
    name = criterion if isinstance(criterion, str) else criterion.get("_name")
    if not criterion:  # an export keeps what it remembers of its training, and not the configuration
        made = made_with(state).get("configuration", {})
        criterion = made | ({"label_smoothing": made["label_smoothing_epsilon"]} if made else {})
    if name == "cross_entropy":
        return name, 0.0
    if "label_smoothing" not in criterion or criterion.get("kd_weight", 0) >= 1:
        return name, None
    if not 0 <= (epsilon := float(criterion["label_smoothing"])) < 1:
        raise ValueError(f"label_smoothing = {epsilon}")
    return name, epsilon
