"""Image-model checkpoints of any origin, read without running code from them, and fitted into a timm model.

A file may be timm's (training checkpoint, weights, safetensors), torchvision's (weights, reference training), of an
ImageNet example script with ``module.`` before every name, or this project's. Its weights fit a model by name, by
timm's own conversion for the model's family, or, where it has torchvision's names for the same network, by order:
then the two networks must be shown to compute the same.
"""

import argparse
import contextlib
import copy
import functools
import inspect
import os
import re
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy
import safetensors
import torch
import torchvision
from timm.models import clean_state_dict, model_entrypoint
from torch import Tensor, nn

from lskd.io import torch_files
from lskd.io.errors import input_error
from lskd.io.files import parse_json, replacing
from lskd_vision.checkpoint_metadata import validate_training_args
from lskd_vision.class_names import names_in, names_of_file

EMA_KEYS = ("state_dict_ema", "model_ema")  # timm's, torchvision's
WEIGHT_KEYS = ("state_dict", "model")
# timm has these under names that its own conversion knows (regnets), or with other parts (the auxiliary classifiers).
NOT_BY_ORDER = ["regnet_*", "googlenet", "inception_v3"]
TOLERANCE = 1e-6  # relative, in float64; another epsilon in the batch norms makes 1e-4 or more


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds of a model.

    Attributes:
        path: the file.
        weights: tensors by name, on the CPU, without the prefixes of wrappers.
        ema: whether they are the exponential moving average.
        arch: the architecture's name as the file tells it, None where it does not.
        args: the options of the training, {} where the file has none.
        provenance: what this project wrote about the training under ``lskd``, {} in files of others.
        class_names: in the order of the model's outputs, None where the file does not tell.
    """

    path: Path
    weights: dict[str, Tensor]
    ema: bool
    arch: str | None
    args: dict
    provenance: dict
    class_names: list[str] | None = None


def save_checkpoint(path: str | os.PathLike, state: dict) -> None:
    """Write ``state`` with torch.save in one step.

    Raises:
        OSError: the file cannot be written, as on a full disk; it is named.
        TypeError: it holds something that :func:`read_state` would refuse; nothing is written.
    """
    with replacing(path) as beside:
        torch_files.save(state, beside)
        with _plain_types_allowed():
            if refused := torch.serialization.get_unsafe_globals_in_checkpoint(beside):
                raise TypeError(f"state: {', '.join(sorted(refused))} (must be plain data and tensors)")


def read_state(path: str | os.PathLike, argument: str, mapped: bool = False) -> dict:
    """All that a checkpoint file holds, on the CPU; nothing in it is run.

    A .safetensors file becomes a state too: ``state_dict``, and what its metadata has of ``arch`` (text), ``args`` and
    ``lskd`` (JSON objects).

    Args:
        path: the file; its suffix tells safetensors from torch.save's format, old or new.
        argument: what errors call it.
        mapped: leave the weights on the disk until they are used.

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
        raise input_error(argument, path, "is truncated or no checkpoint") from error
    if not isinstance(state, dict):
        raise input_error(
            argument, path, f"must be a checkpoint, a dictionary of weights, and is a {type(state).__name__}"
        )
    return state


def read_checkpoint(path: str | os.PathLike, argument: str, use_ema: bool = True) -> Checkpoint:
    """The model in a checkpoint of any of the formats above.

    Args:
        path: the file.
        argument: what errors call it.
        use_ema: take the moving average of the weights where the file has one.

    Raises:
        InputError: as :func:`read_state`, or no weights in the file.
    """
    state = read_state(path, argument)
    keys = [key for key in (*(EMA_KEYS if use_ema else ()), *WEIGHT_KEYS) if isinstance(state.get(key), dict)]
    weights = dict(state[keys[0]] if keys else state)
    weights.pop("n_averaged", None)  # torch's AveragedModel counts
    if not any(isinstance(value, Tensor) for value in weights.values()):
        raise input_error(
            argument, path, f"has no weights, only {', '.join(map(str, list(weights)[:5])) or 'an empty state'}"
        )
    for name, value in weights.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            found = f"{name!r}: {type(value).__name__}"
            raise input_error(argument, path, f"has {found} among its weights, must be names and tensors only")
    weights = {name: value.detach() for name, value in clean_state_dict(weights).items()}
    args = state.get("args")
    args = vars(args) if isinstance(args, argparse.Namespace) else args if isinstance(args, dict) else {}
    arch = next((name for name in (state.get("arch"), args.get("model")) if name and isinstance(name, str)), None)
    provenance = state["lskd"] if isinstance(state.get("lskd"), dict) else {}
    args = validate_training_args(args, bool(provenance), argument, path)
    names = names_in(provenance.get("data")) if provenance else names_of_file(Path(path), state | {"args": args})
    return Checkpoint(Path(path), weights, bool(keys) and keys[0] in EMA_KEYS, arch, args, provenance, names)


def check_finite(weights: dict[str, Tensor], argument: str, value: object) -> None:
    """Check that all weights of a model are finite numbers; errors call it ``argument``, for which ``value`` was given.

    Raises:
        InputError: one is not; the message has the tensor's name.
    """
    for name, tensor in weights.items():
        if wrong := int((~tensor.isfinite()).sum()):
            raise input_error(argument, value, f"has {wrong} of {tensor.numel()} values of {name} that are not finite")


def number_of_classes(weights: dict[str, Tensor], model: nn.Module) -> int | None:
    """How many classes the weights of a checkpoint tell apart, read by the architecture of ``model``.

    ``model`` may have another number of classes, but at least one. None where its classifier is not found in them.
    """
    converted, _ = _converted(weights, model)
    return _classes(converted, model)


def input_channels(weights: dict[str, Tensor], model: nn.Module) -> int | None:
    """How many channels an image must have for the weights of a checkpoint, read by the architecture of ``model``.

    ``model`` may have another number of channels. None where its first convolution is not found in them.
    """
    converted, _ = _converted(weights, model)
    return _channels(converted, model)


def load_weights(model: nn.Module, checkpoint: Checkpoint, argument: str) -> None:
    """Load a checkpoint into a timm model, whose every weight it must have; errors call it ``argument``.

    By name, else by timm's conversion, else by torchvision's order if the two networks compute the same logits for two
    random images. That takes seconds, and a copy of the model in float64.

    Raises:
        InputError: they do not fit; the message has the first difference. ``model`` is left as it was.
    """
    converted, original = _converted(checkpoint.weights, model)
    made_by = f", a checkpoint of {checkpoint.arch}," if checkpoint.arch else ""
    if difference := first_difference(converted, model):
        found, valid = difference
        raise input_error(argument, f"{checkpoint.path}{made_by} has {found}", valid)
    if original and not _compute_the_same(model, converted, original, checkpoint.weights):
        valid = f"must be those of timm's {_architecture(model)}, which with them computes something else"
        raise input_error(argument, f"{checkpoint.path} has weights of torchvision's {original}", valid)
    # All that is left out here are counters that the model has not.
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    model.load_state_dict({name: tensor for name, tensor in converted.items() if shapes.get(name) == tensor.shape})


def _plain_types() -> list:
    """Types that checkpoints hold beside tensors, and whose making runs nothing: options, and metrics of numpy's."""
    multiarray = (numpy._core if hasattr(numpy, "_core") else numpy.core).multiarray
    numbers = ("Bool", "Float16", "Float32", "Float64", "Int32", "Int64")
    # Under the name that the other generation of numpy has for it, too.
    scalars = [(multiarray.scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    return [argparse.Namespace, numpy.dtype, *scalars, *(getattr(numpy.dtypes, f"{name}DType") for name in numbers)]


def _plain_types_allowed():
    """A context in which files may hold them; torch's own would, at its end, also forget what others allow."""
    allowed = torch.serialization.get_safe_globals()
    return torch.serialization.safe_globals([each for each in _plain_types() if each not in allowed])


def _read_safetensors(path: Path) -> dict:
    with safetensors.safe_open(path, framework="pt", device="cpu") as file:
        metadata = file.metadata() or {}
        state = {"state_dict": {name: file.get_tensor(name) for name in file.keys()}}  # noqa: SIM118
    for key in ("args", "lskd"):
        with contextlib.suppress(KeyError, ValueError):  # others may keep something else under these names
            state[key] = parse_json(metadata[key])
    return state | {"arch": metadata.get("arch")}


def _converted(weights: dict[str, Tensor], model: nn.Module) -> tuple[dict[str, Tensor], str | None]:
    """The weights under the model's names, and the torchvision network's name where that was by order.

    The classifier and the first convolution may be of another size. Weights that do not fit come back unchanged.
    """
    if _fits(weights, model):
        return weights, None
    for conversion in _timm_conversions(model):
        # They expect the names of the files that they were made for, and trip over others in any way.
        with contextlib.suppress(Exception):
            arguments = (dict(weights), model)[: len(inspect.signature(conversion).parameters)]
            converted = conversion(*arguments)
            if _fits(converted, model):
                return converted, None
    expected = _without_counters(model.state_dict())
    ours = _without_counters(weights)
    if ours.keys() != expected.keys() and len(ours) == len(expected) and (found := _torchvision_network(ours)):
        network, order = found
        converted = {name: weights[theirs] for name, theirs in zip(expected, order, strict=True)}
        for name, tensor in converted.items():
            if tensor.numel() == expected[name].numel():
                converted[name] = tensor.reshape(expected[name].shape)  # (C, 1, 1) for (C,)
        if _fits(converted, model):
            return converted, network
    return weights, None


def _fits(weights: dict[str, Tensor], model: nn.Module) -> bool:
    """Whether names and shapes are the model's, but for the numbers of classes and input channels."""
    return not _wrong_names(weights, model) and not _wrong_shapes(weights, model, _open_dimensions(model))


def _timm_conversions(model: nn.Module) -> list:
    """timm's functions from others' names to its own, of the file that defines the architecture.

    timm hands them to its builder and keeps them nowhere, so they are found by what timm calls them.
    """
    modules = [type(model).__module__]
    with contextlib.suppress(KeyError):
        modules.insert(0, model_entrypoint(_architecture(model)).__module__)
    named = re.compile(r"checkpoint_filter_fn|(?:pretrained)?_filter_fn|_filter_torchvision_pretrained")
    found = [value for module in modules for name, value in vars(sys.modules[module]).items() if named.fullmatch(name)]
    return list(dict.fromkeys(found))


@functools.cache
def _torchvision_names() -> dict[str, list[str]]:
    """The names of the tensors of torchvision's classification networks, in their order, by network."""
    networks = torchvision.models.list_models(module=torchvision.models, exclude=NOT_BY_ORDER)
    with torch.device("meta"):
        return {network: list(_without_counters(_torchvision_model(network, 1).state_dict())) for network in networks}


def _torchvision_network(weights: dict[str, Tensor]) -> tuple[str, list[str]] | None:
    """The torchvision network with exactly these names and shapes, and its names in its order; None without one."""
    for network, names in _torchvision_names().items():
        if set(names) == weights.keys():
            with torch.device("meta"):
                model = _torchvision_model(network, _length(weights[names[-1]]))
            if not _wrong_shapes(weights, model):
                return network, names
    return None


def _torchvision_model(network: str, classes: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):  # a training after this starts from the same random numbers as without
        return torchvision.models.get_model(network, weights=None, num_classes=classes)


def _length(classifier: Tensor) -> int:
    # The number of classes: the classifier's bias, or its weight where it has none, is last in all of torchvision's.
    return classifier.size(0) if classifier.dim() else 0


def _compute_the_same(model: nn.Module, converted: dict[str, Tensor], network: str, weights: dict[str, Tensor]) -> bool:
    """Whether the timm model gives the logits that torchvision's network gives with the same weights."""
    ours = copy.deepcopy(model).cpu().double().eval()
    ours.load_state_dict(converted)
    theirs = _torchvision_model(network, _length(list(converted.values())[-1])).double().eval()
    theirs.load_state_dict(weights)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, *model.pretrained_cfg["input_size"], dtype=torch.float64, generator=generator)
    with torch.inference_mode():
        found, expected = ours(images), theirs(images)
    # Measured by what depends on the image: the larger rest of a logit may come from the last biases alone.
    depends_on_image = (expected[0] - expected[1]).abs().max()
    return bool(depends_on_image > 0 and (found - expected).abs().max() <= TOLERANCE * depends_on_image)


def first_difference(weights: dict[str, Tensor], model: nn.Module) -> tuple[str, str] | None:
    """What keeps weights from fitting a model, which may be on the meta device: what they have, and what is valid.

    None where they fit.
    """
    architecture = _architecture(model)
    if name := _wrong_names(weights, model):
        if name in weights:
            return f"a tensor {name}", f"must be of {architecture}, which has none"
        return f"no tensor {name}", f"must be of {architecture}, which has one"
    expected = model.state_dict()
    if name := _wrong_shapes(weights, model, _open_dimensions(model)):
        shape = tuple(expected[name].shape)
        return f"{name} of shape {tuple(weights[name].shape)}", f"must be of {architecture}, with shape {shape}"
    if (classes := _classes(weights, model)) != (ours := _classes(expected, model)):
        return f"{classes} classes", f"must be {ours}, as many as the model"
    if (channels := _channels(weights, model)) != (ours := _channels(expected, model)):
        return f"{channels} input channels", f"must be {ours}, as many as the model"
    if name := _wrong_shapes(weights, model):  # the second of two classifiers
        return f"{name} of shape {tuple(weights[name].shape)}", f"must be {tuple(expected[name].shape)}"
    return None


def _wrong_names(weights: dict[str, Tensor], model: nn.Module) -> str | None:
    """The first name of the model that the weights lack, or of the weights that the model lacks."""
    ours, theirs = _without_counters(model.state_dict()), _without_counters(weights)
    return next((name for name in (*ours, *theirs) if name not in theirs or name not in ours), None)


def _wrong_shapes(weights: dict[str, Tensor], model: nn.Module, open_dimensions: dict[str, int] | None = None):
    """The first name whose tensor has not the model's shape, in any dimension but the open one of that name."""

    def fixed(name: str, tensor: Tensor) -> list[int | None]:
        dimension = (open_dimensions or {}).get(name)
        return [None if index == dimension else size for index, size in enumerate(tensor.shape)]

    expected = _without_counters(model.state_dict())
    return next((name for name in expected if fixed(name, weights[name]) != fixed(name, expected[name])), None)


def _without_counters(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    # Old files lack these counts of batch norm's batches, and only a momentum of None would use them.
    return {name: tensor for name, tensor in weights.items() if not name.endswith("num_batches_tracked")}


def _open_dimensions(model: nn.Module) -> dict[str, int]:
    """For each tensor that depends on the number of classes or of input channels, its dimension that does."""
    return dict.fromkeys(_classifiers(model), 0) | dict.fromkeys(_first_convolutions(model), 1)


def _classifiers(model: nn.Module) -> list[str]:
    return [f"{name}.{kind}" for name in _named(model, "classifier") for kind in ("weight", "bias")]


def _first_convolutions(model: nn.Module) -> list[str]:
    return [f"{name}.weight" for name in _named(model, "first_conv")]


def _named(model: nn.Module, role: str) -> tuple[str, ...]:
    """The names of the modules that timm's description gives a role: one, several or none."""
    names = model.pretrained_cfg.get(role) or ()
    return (names,) if isinstance(names, str) else tuple(names)


def _classes(weights: dict[str, Tensor], model: nn.Module) -> int | None:
    return next((len(weights[name]) for name in _classifiers(model) if name in weights and weights[name].dim()), None)


def _channels(weights: dict[str, Tensor], model: nn.Module) -> int | None:
    expected = model.state_dict()
    for name in _first_convolutions(model):
        if name in weights and name in expected and weights[name].dim() > 1:
            # Some stems fold pixels into channels: by the ratio to the model's own.
            return weights[name].size(1) * model.in_chans // expected[name].size(1)
    return None


def _architecture(model: nn.Module) -> str:
    return model.pretrained_cfg.get("architecture") or type(model).__name__
