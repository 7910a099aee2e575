"""Load the weights of a checkpoint into a timm model: by name, by timm's own conversion, or by torchvision's order.

timm's conversion is that of the model's family. Weights with torchvision's names for the same network are matched by
order, and the two networks are then checked to compute the same.
"""

import contextlib
import copy
import functools
import inspect
import re
import sys
from collections.abc import Callable, Mapping

import torch
import torchvision
from timm.models import model_entrypoint
from torch import Tensor, nn

from lskd.io.errors import input_error
from lskd_vision.checkpoints import Checkpoint
from lskd_vision.timm_model import TimmModel, architecture

# timm's own conversion knows these names (regnets), or timm's model has other parts (the auxiliary classifiers).
NOT_BY_ORDER = ["regnet_*", "googlenet", "inception_v3"]
TOLERANCE = 1e-6  # relative, in float64; a different epsilon in the batch norms gives 1e-4 or more


def number_of_classes(weights: Mapping[str, Tensor], model: TimmModel) -> int | None:
    """The number of classes of a checkpoint that has the architecture of ``model``.

    ``model`` may have a different number of classes, but at least one. None if its classifier is not in the weights.
    """
    converted, _ = _converted(weights, model)
    return _classes(converted, model)


def input_channels(weights: Mapping[str, Tensor], model: TimmModel) -> int | None:
    """The number of input channels of a checkpoint that has the architecture of ``model``.

    ``model`` may have a different number of channels. None if its first convolution is not in the weights.
    """
    converted, _ = _converted(weights, model)
    return _channels(converted, model)


def load_weights(model: TimmModel, checkpoint: Checkpoint, argument: str) -> None:
    """Load a checkpoint into a timm model; it must have every weight of the model.

    By name, else by timm's conversion, else by torchvision's order if the two networks compute the same logits for two
    random images. This check takes seconds, and a copy of the model in float64.

    Args:
        model: the model.
        checkpoint: its weights.
        argument: the checkpoint's name in error messages.

    Raises:
        InputError: the weights do not fit; the message names the first difference. ``model`` is unchanged.
    """
    converted, original = _converted(checkpoint.weights, model)
    made_by = f", a checkpoint of {checkpoint.arch}," if checkpoint.arch else ""
    if difference := first_difference(converted, model):
        found, valid = difference
        raise input_error(argument, f"{checkpoint.path}{made_by} has {found}", valid)
    if original and not _compute_the_same(model, converted, original, checkpoint.weights):
        valid = f"do not fit timm's {architecture(model)}, whose outputs differ with them"
        raise input_error(argument, f"{checkpoint.path} has weights of torchvision's {original}", valid)
    # Only counters that the model does not have are left out here.
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    model.load_state_dict({name: tensor for name, tensor in converted.items() if shapes.get(name) == tensor.shape})


def _converted(weights: Mapping[str, Tensor], model: TimmModel) -> tuple[Mapping[str, Tensor], str | None]:
    """The weights under the model's names, and the name of the torchvision network if they were matched by order.

    The classifier and the first convolution may differ in size. Weights that do not fit are returned unchanged.
    """
    if _fits(weights, model):
        return weights, None
    for conversion in _timm_conversions(model):
        # Each expects the names of certain files, and may raise anything for others.
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


def _fits(weights: Mapping[str, Tensor], model: TimmModel) -> bool:
    """Whether names and shapes are the model's, up to the numbers of classes and input channels."""
    return not _wrong_names(weights, model) and not _wrong_shapes(weights, model, _open_dimensions(model))


def _timm_conversions(model: TimmModel) -> list[Callable[..., dict[str, Tensor]]]:
    """timm's functions that convert the names of other libraries, from the file that defines the architecture.

    timm has no registry of them, so they are found by the names that timm gives them.
    """
    modules = [type(model).__module__]
    with contextlib.suppress(KeyError):
        modules.insert(0, model_entrypoint(architecture(model)).__module__)
    named = re.compile(r"checkpoint_filter_fn|(?:pretrained)?_filter_fn|_filter_torchvision_pretrained")
    found = [value for module in modules for name, value in vars(sys.modules[module]).items() if named.fullmatch(name)]
    return list(dict.fromkeys(found))


def _torchvision_network(weights: Mapping[str, Tensor]) -> tuple[str, list[str]] | None:
    """The torchvision network with exactly these names and shapes, and its names in order; None if there is none."""
    for network in _candidates(weights):
        names = _names(network)
        if set(names) == weights.keys():
            with torch.device("meta"):
                model = _torchvision_model(network, _length(weights[names[-1]]))
            if not _wrong_shapes(weights, model):
                return network, names
    return None


def _candidates(weights: Mapping[str, Tensor]) -> list[str]:
    """torchvision's classification networks that may have these names, likely ones first.

    Building all of them takes 15 seconds. The networks of a torchvision module have the names of their first layer in
    common, so one network of each module tells which modules to build.
    """
    common = {family: len(weights.keys() & set(_names(family[0]))) for family in _families()}
    likely = sorted((family for family in common if common[family]), key=lambda family: -common[family])
    return [network for family in likely for network in family]


@functools.cache
def _families() -> list[tuple[str, ...]]:
    """torchvision's classification networks by the module that defines them."""
    families: dict[str, list[str]] = {}
    for network in torchvision.models.list_models(module=torchvision.models, exclude=NOT_BY_ORDER):
        families.setdefault(torchvision.models.get_model_builder(network).__module__, []).append(network)
    return list(map(tuple, families.values()))


@functools.cache
def _names(network: str) -> list[str]:
    """The names of the tensors of a torchvision network, in their order."""
    with torch.device("meta"):
        return list(_without_counters(_torchvision_model(network, 1).state_dict()))


def _torchvision_model(network: str, classes: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):  # does not change the random numbers of a later training
        return torchvision.models.get_model(network, weights=None, num_classes=classes)


def _length(classifier: Tensor) -> int:
    # The number of classes: the classifier's bias, or its weight where it has none, is last in all of torchvision's.
    return classifier.size(0) if classifier.dim() else 0


def _compute_the_same(
    model: TimmModel, converted: Mapping[str, Tensor], network: str, weights: Mapping[str, Tensor]
) -> bool:
    """Whether the timm model gives the logits that torchvision's network gives with the same weights."""
    ours = copy.deepcopy(model).cpu().double().eval()
    ours.load_state_dict(converted)
    theirs = _torchvision_model(network, _length(list(converted.values())[-1])).double().eval()
    theirs.load_state_dict(weights)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, *model.pretrained_cfg["input_size"], dtype=torch.float64, generator=generator)
    with torch.inference_mode():
        found, expected = ours(images), theirs(images)
    # Relative to what depends on the image: the larger part of a logit may come from the last biases alone.
    depends_on_image = (expected[0] - expected[1]).abs().max()
    return bool(depends_on_image > 0 and (found - expected).abs().max() <= TOLERANCE * depends_on_image)


def first_difference(weights: Mapping[str, Tensor], model: TimmModel) -> tuple[str, str] | None:
    """The first reason why weights do not fit a model: what they have, and what is valid. None if they fit.

    The model may be on the meta device.
    """
    wanted = architecture(model)
    if name := _wrong_names(weights, model):
        if name in weights:
            return f"a tensor {name}", f"must be of {wanted}, which has none"
        return f"no tensor {name}", f"must be of {wanted}, which has one"
    expected = model.state_dict()
    if name := _wrong_shapes(weights, model, _open_dimensions(model)):
        shape = tuple(expected[name].shape)
        return f"{name} of shape {tuple(weights[name].shape)}", f"must be of {wanted}, with shape {shape}"
    if (classes := _classes(weights, model)) != (ours := _classes(expected, model)):
        return f"{classes} classes", f"must be {ours}, as many as the model"
    if (channels := _channels(weights, model)) != (ours := _channels(expected, model)):
        return f"{channels} input channels", f"must be {ours}, as many as the model"
    if name := _wrong_shapes(weights, model):  # the second of two classifiers
        return f"{name} of shape {tuple(weights[name].shape)}", f"must be {tuple(expected[name].shape)}"
    return None


def _wrong_names(weights: Mapping[str, Tensor], model: nn.Module) -> str | None:
    """The first name of the model that the weights lack, or of the weights that the model lacks."""
    ours, theirs = _without_counters(model.state_dict()), _without_counters(weights)
    return next((name for name in (*ours, *theirs) if name not in theirs or name not in ours), None)


def _wrong_shapes(
    weights: Mapping[str, Tensor], model: nn.Module, open_dimensions: Mapping[str, int] | None = None
) -> str | None:
    """The first name whose tensor differs from the model's in shape, apart from its open dimension."""

    def fixed(name: str, tensor: Tensor) -> list[int | None]:
        dimension = (open_dimensions or {}).get(name)
        return [None if index == dimension else size for index, size in enumerate(tensor.shape)]

    expected = _without_counters(model.state_dict())
    return next((name for name in expected if fixed(name, weights[name]) != fixed(name, expected[name])), None)


def _without_counters(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # Old files lack batch norm's counters of batches, and only a momentum of None would use them.
    return {name: tensor for name, tensor in weights.items() if not name.endswith("num_batches_tracked")}


def _open_dimensions(model: TimmModel) -> dict[str, int]:
    """By tensor, the dimension that is the number of classes or of input channels."""
    return dict.fromkeys(_classifiers(model), 0) | dict.fromkeys(_first_convolutions(model), 1)


def _classifiers(model: TimmModel) -> list[str]:
    return [f"{name}.{kind}" for name in _named(model, "classifier") for kind in ("weight", "bias")]


def _first_convolutions(model: TimmModel) -> list[str]:
    return [f"{name}.weight" for name in _named(model, "first_conv")]


def _named(model: TimmModel, role: str) -> tuple[str, ...]:
    """The names of the modules to which timm's configuration gives a role: one, several or none."""
    names = model.pretrained_cfg.get(role) or ()
    return (names,) if isinstance(names, str) else tuple(names)


def _classes(weights: Mapping[str, Tensor], model: TimmModel) -> int | None:
    return next((len(weights[name]) for name in _classifiers(model) if name in weights and weights[name].dim()), None)


def _channels(weights: Mapping[str, Tensor], model: TimmModel) -> int | None:
    expected = model.state_dict()
    for name in _first_convolutions(model):
        if name in weights and name in expected and weights[name].dim() > 1:
            # Some stems fold pixels into channels: scale by the ratio in the model itself.
            return weights[name].size(1) * model.in_chans // expected[name].size(1)
    return None
