"""Build timm models from a configuration, or rebuild them from a checkpoint of any origin."""

import difflib
from collections.abc import Sequence
from typing import Any

import timm
import torch
from timm.layers import PatchEmbed
from torch import Tensor, nn

from lskd.io.errors import input_error
from lskd_vision.checkpoints import Checkpoint, check_finite, read_checkpoint
from lskd_vision.class_names import check_classes, names_of_pretrained
from lskd_vision.config import InputConfig, ModelConfig
from lskd_vision.timm_model import TimmModel
from lskd_vision.weight_conversion import input_channels, load_weights, number_of_classes


def create(name: str, argument: str, **options: Any) -> TimmModel:
    """Call ``timm.create_model`` with one-line errors; options that are None are left to the model.

    Raises:
        InputError: there is no such model, or it cannot be built with these options.
    """
    plain = name.split(".")[0]
    if ":" not in name and "/" not in name and not timm.is_model(plain):
        near = difflib.get_close_matches(plain, timm.list_models(), n=3)
        raise input_error(argument, name, "must be a timm model" + (f", perhaps {', '.join(near)}" if near else ""))
    try:
        model: Any = timm.create_model(name, **{key: value for key, value in options.items() if value is not None})
    except (TypeError, ValueError, AssertionError, RuntimeError, OSError, KeyError) as error:
        raise input_error(argument, name, f"cannot be made: {type(error).__name__}: {error}") from None
    if not hasattr(model, "num_classes"):  # as with features_only=True
        raise input_error(argument, name, "must give logits, and does not with these --model-kwargs")
    return model


def build(config: ModelConfig, images: InputConfig, class_names: Sequence[str]) -> TimmModel:
    """Build the model to train, its weights initialised from the current state of torch's random generator.

    Args:
        config: the model's name, its options and its initial weights.
        images: its input.
        class_names: the names of the data's K classes.

    Raises:
        InputError: it cannot be built with these options, or its initial weights do not fit it, are not finite, or
            have a classifier for K classes in another order.
    """
    name, options, num_classes = config.model, model_options(config, images), len(class_names)
    model = create(name, "--model", pretrained=config.pretrained, num_classes=num_classes, **options)
    if config.pretrained and model.pretrained_cfg["num_classes"] == num_classes:
        check_classes(num_classes, names_of_pretrained(model, name), class_names, "--pretrained", name)
    if config.initial_checkpoint:
        checkpoint = read_checkpoint(config.initial_checkpoint, "--initial-checkpoint")
        classes = number_of_classes(checkpoint.weights, model) or num_classes
        check_finite(checkpoint.weights, "--initial-checkpoint", checkpoint.path)
        if classes == num_classes:
            check_classes(classes, checkpoint.class_names, class_names, "--initial-checkpoint", checkpoint.path)
            load_weights(model, checkpoint, "--initial-checkpoint")
        else:  # everything but the classifier, which keeps its random weights
            with torch.random.fork_rng(devices=[]):
                twin = create(name, "--model", num_classes=classes, **options)
            load_weights(twin, checkpoint, "--initial-checkpoint")
            new = model.state_dict()
            model.load_state_dict(
                {key: new[key] if new[key].shape != value.shape else value for key, value in twin.state_dict().items()}
            )
    if config.grad_checkpointing:
        model.set_grad_checkpointing(enable=True)
    return model


def meta_model(config: ModelConfig, images: InputConfig, num_classes: int) -> TimmModel:
    """Build the same model on the meta device: its shapes and configuration at no cost.

    Raises:
        InputError: it cannot be built with these options.
    """
    with torch.device("meta"):
        return create(config.model, "--model", num_classes=num_classes, **model_options(config, images))


def parameter_count(model: nn.Module) -> int:
    """The number of a model's parameters, also of one on the meta device."""
    return sum(parameter.numel() for parameter in model.parameters())


def model_options(config: ModelConfig, images: InputConfig) -> dict[str, Any]:
    """A model's options under timm's names; None leaves an option to the model."""
    return {
        "in_chans": images.in_chans or (images.input_size[0] if images.input_size else None),
        "drop_rate": config.drop,
        "drop_path_rate": config.drop_path,
        "img_size": images.img_size if wants_image_size(config.model) else None,
        **config.model_kwargs,
    }


def wants_image_size(name: str) -> bool:
    """Whether timm builds the model for a fixed image size, as it does for Vision Transformers."""
    return timm.is_model(name.split(".")[0]) and bool(timm.get_pretrained_cfg_value(name, "fixed_input_size"))


def check_input(model: TimmModel, input_size: Sequence[int], argument: str, name: object) -> None:
    """Check that a model in eval mode gives logits for an image of size (C, H, W) and uses all of it.

    The model is not changed.

    Raises:
        InputError: it does not.
    """
    _check_patches(model, input_size, argument, name)
    training = model.training
    try:
        with torch.no_grad():
            device = next(model.parameters()).device
            check_logits(model.eval()(torch.zeros(1, *input_size, device=device)), 1, model.num_classes)
    except (AssertionError, RuntimeError, ValueError) as error:
        raise input_error(
            argument, name, f"cannot take images of {by(input_size)}, see --img-size: {first_line(error)}"
        ) from None
    finally:
        model.train(training)


def check_logits(logits: object, images: int, num_classes: int) -> None:
    """Check that a model's output has shape (images, num_classes). Raises ValueError."""
    found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if found != (images, num_classes):
        raise ValueError(f"its output for {images} images is {found}, not the logits {(images, num_classes)}")


def _check_patches(model: TimmModel, input_size: Sequence[int], argument: str, name: object) -> None:
    """Check that an image consists of whole patches: timm would silently ignore the rest."""
    embed = getattr(model, "patch_embed", None)
    if not isinstance(embed, PatchEmbed) or embed.dynamic_img_pad:
        return
    height, width = embed.patch_size
    if input_size[1] % height or input_size[2] % width:
        valid = f"cannot take images of {by(input_size)}, see --img-size: must be of whole patches of {height}x{width}"
        raise input_error(argument, name, valid)


def by(size: Sequence[int]) -> str:
    """Format a size.

    >>> by((3, 224, 224))
    '3x224x224'
    """
    return "x".join(map(str, size))


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its class if it has none."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def rebuild(checkpoint: Checkpoint, name: str | None, argument: str) -> TimmModel:
    """Rebuild a checkpoint's model with its weights: frozen, in eval mode, without consuming random numbers.

    Args:
        checkpoint: a checkpoint of any origin.
        name: the timm model; if None, the one that the checkpoint names.
        argument: the checkpoint's name in error messages.

    Raises:
        InputError: no model is named, or the weights do not fit it.
    """
    if name is None:
        name = checkpoint.arch
        if name is None:
            raise input_error(argument, checkpoint.path, "does not name its model; give the name")
        if {":", "/"} & set(name):
            raise input_error(argument, checkpoint.path, f"is of {name[:80]}, which timm would fetch; name it yourself")
    made = checkpoint.args
    with torch.device("meta"):
        empty = create(name, argument)
    options = {
        "num_classes": number_of_classes(checkpoint.weights, empty) or made.get("num_classes"),
        "in_chans": input_channels(checkpoint.weights, empty),
        "img_size": made.get("img_size") if wants_image_size(name) else None,
        **(made.get("model_kwargs") or {}),
    }
    with torch.device("meta"):
        numbers = parameter_count(create(name, argument, **options))
    if numbers > 2 * sum(each.numel() for each in checkpoint.weights.values()):
        raise input_error(argument, checkpoint.path, f"is too small for a {name} with {numbers} weights")
    with torch.random.fork_rng(devices=[]):
        model = create(name, argument, **options)
    load_weights(model, checkpoint, argument)
    return model.eval().requires_grad_(False)
