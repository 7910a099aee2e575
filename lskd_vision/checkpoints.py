"""Read checkpoints of image models from many sources, without running code from them.

A file may come from timm (training checkpoint, weights, safetensors), torchvision (weights, reference training), an
ImageNet example script (``module.`` before every name), Lightning, another training loop (``model_state_dict``,
``net``), or this project. :mod:`lskd_vision.weight_conversion` loads the weights into a model.
"""

import argparse
import contextlib
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import safetensors
import torch
from timm.models import clean_state_dict
from torch import Tensor

from lskd.io import torch_files
from lskd.io.errors import input_error
from lskd.io.files import parse_json, replacing
from lskd_vision.checkpoint_metadata import validate_training_args
from lskd_vision.class_names import names_in, names_of_file

EMA_KEYS = ("state_dict_ema", "model_ema")  # timm's, torchvision's
WEIGHT_KEYS = ("state_dict", "model", "model_state_dict", "net")
WRAPPERS = ("model.", "net.")  # name prefixes of a model that is an attribute of another module, as in Lightning
LIGHTNING = "pytorch-lightning_version"


@dataclass(frozen=True)
class Checkpoint:
    """The model in a checkpoint, and what the file says about its training.

    Attributes:
        path: the file.
        weights: tensors by name, on the CPU, without the prefixes of wrappers.
        ema: whether the weights are the exponential moving average.
        arch: the architecture's name in the file; None if it has none.
        args: the training options; {} if the file has none.
        provenance: this project's training record, stored under ``lskd``; {} in other projects' files.
        class_names: in the order of the model's outputs; None if the file has none.
    """

    path: Path
    weights: dict[str, Tensor]
    ema: bool
    arch: str | None
    args: dict[str, Any]
    provenance: dict[str, Any]
    class_names: list[str] | None = None


def save_checkpoint(path: str | os.PathLike[str], state: Mapping[str, Any]) -> None:
    """Write ``state`` with torch.save, atomically.

    Raises:
        OSError: the file cannot be written, as on a full disk; the message names it.
        TypeError: ``state`` holds a type that :func:`read_state` would reject; nothing is written.
    """
    with replacing(path) as beside:
        torch_files.save(state, beside)
        with _plain_types_allowed():
            if refused := torch.serialization.get_unsafe_globals_in_checkpoint(beside):
                raise TypeError(f"state: {', '.join(sorted(refused))} (must be plain data and tensors)")


def read_state(path: str | os.PathLike[str], argument: str, mapped: bool = False) -> dict[str, Any]:
    """Load everything in a checkpoint file onto the CPU, without running code from it.

    A .safetensors file gives a state too: its tensors as ``state_dict``, and ``arch`` (text), ``args`` and ``lskd``
    (JSON objects) from its metadata.

    Args:
        path: the file; the suffix distinguishes safetensors from torch.save's formats, old and new.
        argument: its name in error messages.
        mapped: map the weights into memory instead of reading them.

    Raises:
        InputError: no such file, empty, truncated, not a checkpoint, or one that would run code.
    """
    path = Path(path)
    if not path.is_file():
        raise input_error(argument, path, "must be the path of an existing checkpoint file")
    if not path.stat().st_size:
        raise input_error(argument, path, "is empty, must be a checkpoint")
    try:
        if path.suffix == ".safetensors":
            return _read_safetensors(path)
        with _plain_types_allowed(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state = torch_files.load_plain(path, mapped)
    except OSError as error:
        raise input_error(argument, path, f"cannot be read: {error.strerror or error}") from error
    except torch_files.CodeError as error:
        raise input_error(argument, path, str(error)) from None
    except Exception as error:  # a damaged file may raise anything inside the unpickler
        raise input_error(argument, path, "is truncated or not a checkpoint") from error
    if not isinstance(state, dict):
        raise input_error(
            argument, path, f"must be a checkpoint, a dictionary of weights, and is a {type(state).__name__}"
        )
    return state


def read_checkpoint(path: str | os.PathLike[str], argument: str, use_ema: bool = True) -> Checkpoint:
    """Read the model in a checkpoint of any supported format.

    Args:
        path: the file.
        argument: its name in error messages.
        use_ema: take the moving average of the weights if the file has one.

    Raises:
        InputError: as for :func:`read_state`; or the file has no weights, or metadata that are not valid.
    """
    state = read_state(path, argument)
    keys = [key for key in (*(EMA_KEYS if use_ema else ()), *WEIGHT_KEYS) if isinstance(state.get(key), dict)]
    weights = dict(state[keys[0]] if keys else state)
    weights.pop("n_averaged", None)  # the counter of torch's AveragedModel
    if not any(isinstance(value, Tensor) for value in weights.values()):
        raise input_error(
            argument, path, f"has no weights, only {', '.join(map(str, list(weights)[:5])) or 'an empty state'}"
        )
    torch_files.check_named_tensors(weights, argument, path)
    weights = clean_state_dict(_unwrapped(clean_state_dict(weights), LIGHTNING in state))
    weights = {name: value.detach() for name, value in weights.items()}
    args = state.get("args")
    args = vars(args) if isinstance(args, argparse.Namespace) else args if isinstance(args, dict) else {}
    arch = next((name for name in (state.get("arch"), args.get("model")) if name and isinstance(name, str)), None)
    provenance = state["lskd"] if isinstance(state.get("lskd"), dict) else {}
    validate_training_args(args, bool(provenance), argument, path)
    names = names_in(provenance.get("data")) if provenance else names_of_file(Path(path), state | {"args": args})
    return Checkpoint(Path(path), weights, bool(keys) and keys[0] in EMA_KEYS, arch, args, provenance, names)


def _unwrapped(weights: dict[str, Tensor], lightning: bool) -> dict[str, Tensor]:
    """Remove the prefix of a wrapper module from the names; in Lightning, also the wrapper's other weights.

    >>> _unwrapped({"model.fc.bias": torch.zeros(2), "criterion.weight": torch.ones(2)}, lightning=True)
    {'fc.bias': tensor([0., 0.])}
    """
    for prefix in WRAPPERS:
        own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        if own and (lightning or len(own) == len(weights)):
            return own
    return weights


def check_finite(weights: Mapping[str, Tensor], argument: str, value: object) -> None:
    """Check that all weights of a model are finite.

    Args:
        weights: tensors by name.
        argument: the model's name in error messages.
        value: the value that was given for it.

    Raises:
        InputError: a weight is not; the message names the tensor.
    """
    for name, tensor in weights.items():
        if wrong := torch_files.count_not_finite(tensor):
            raise input_error(argument, value, f"has {wrong} of {tensor.numel()} values of {name} that are not finite")


def _plain_types() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """Types besides tensors that are safe to load: for training options, and for metrics that are NumPy scalars."""
    multiarray = (numpy._core if hasattr(numpy, "_core") else numpy.core).multiarray
    numbers = ("Bool", "Float16", "Float32", "Float64", "Int32", "Int64")
    # Also under the name in the other major version of numpy.
    scalars = [(multiarray.scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    return [argparse.Namespace, numpy.dtype, *scalars, *(getattr(numpy.dtypes, f"{name}DType") for name in numbers)]


def _plain_types_allowed() -> contextlib.AbstractContextManager[object]:
    """A context that allows plain types; unlike torch's own, it keeps types that were allowed before allowed."""
    allowed = torch.serialization.get_safe_globals()
    return torch.serialization.safe_globals([each for each in _plain_types() if each not in allowed])


def _read_safetensors(path: Path) -> dict[str, Any]:
    with safetensors.safe_open(path, framework="pt", device="cpu") as file:
        metadata = file.metadata() or {}
        state: dict[str, Any] = {"state_dict": {name: file.get_tensor(name) for name in file.keys()}}  # noqa: SIM118
    for key in ("args", "lskd"):
        with contextlib.suppress(KeyError, ValueError):  # other programs may keep something else under these names
            state[key] = parse_json(metadata[key])
    return state | {"arch": metadata.get("arch")}
