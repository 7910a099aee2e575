"""timm models: built as the command line says, or rebuilt from a checkpoint of any origin."""

import argparse
import difflib
from collections.abc import Sequence

import timm
import torch
from torch import nn

from lskd.errors import bad
from lskd_vision.checkpoints import Checkpoint, input_channels, load_weights, number_of_classes, read_checkpoint


def create(name: str, argument: str, **options) -> nn.Module:
    """``timm.create_model``, with its many errors in one line; options that are None are left to the model.

    Raises:
        InputError: there is no such model, or it cannot be made like this.
    """
    plain = name.split(".")[0]
    if ":" not in name and "/" not in name and not timm.is_model(plain):
        near = difflib.get_close_matches(plain, timm.list_models(), n=3)
        raise bad(argument, name, "must be a timm model" + (f", perhaps {', '.join(near)}" if near else ""))
    try:
        return timm.create_model(name, **{key: value for key, value in options.items() if value is not None})
    except (TypeError, ValueError, AssertionError, RuntimeError, OSError, KeyError) as error:
        raise bad(argument, name, f"cannot be made: {type(error).__name__}: {error}") from None


def build(arguments: argparse.Namespace, name: str, num_classes: int) -> nn.Module:
    """The model that is to be trained, its weights drawn from torch's random numbers as they stand.

    Raises:
        InputError: it cannot be made like this, or ``--initial-checkpoint`` does not fit it.
    """
    options = options_of(arguments, name)
    model = create(name, "--model", pretrained=arguments.pretrained, num_classes=num_classes, **options)
    if arguments.initial_checkpoint:
        checkpoint = read_checkpoint(arguments.initial_checkpoint, "--initial-checkpoint")
        classes = number_of_classes(checkpoint.weights, model) or num_classes
        if classes == num_classes:
            load_weights(model, checkpoint, "--initial-checkpoint")
        else:  # everything but the classifier, which stays as it was drawn
            with torch.random.fork_rng(devices=[]):
                twin = create(name, "--model", num_classes=classes, **options)
            load_weights(twin, checkpoint, "--initial-checkpoint")
            new = model.state_dict()
            model.load_state_dict(
                {key: new[key] if new[key].shape != value.shape else value for key, value in twin.state_dict().items()}
            )
    if arguments.grad_checkpointing:
        model.set_grad_checkpointing(enable=True)
    return model


def outline(arguments: argparse.Namespace, name: str, num_classes: int) -> nn.Module:
    """The same model without weights, at no cost, to ask it things.

    Raises:
        InputError: it cannot be made as the command line says.
    """
    with torch.device("meta"):
        return create(name, "--model", num_classes=num_classes, **options_of(arguments, name))


def options_of(arguments: argparse.Namespace, name: str) -> dict:
    """What the command line says of a model, in timm's words; None is left to the model."""
    return {
        "in_chans": arguments.in_chans or (arguments.input_size[0] if arguments.input_size else None),
        "drop_rate": arguments.drop,
        "drop_path_rate": arguments.drop_path,
        "img_size": arguments.img_size if wants_image_size(name) else None,
        **arguments.model_kwargs,
    }


def wants_image_size(name: str) -> bool:
    """Whether timm builds the model for one image size, as it does Vision Transformers."""
    return timm.is_model(name.split(".")[0]) and bool(timm.get_pretrained_cfg_value(name, "fixed_input_size"))


def check_input(model: nn.Module, input_size: Sequence[int], argument: str, name: str) -> None:
    """Check that a model takes an image of (C, H, W) by giving it one; it stays as it is.

    Raises:
        InputError: it does not.
    """
    training = model.training
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, *input_size))
    except (AssertionError, RuntimeError, ValueError) as error:
        size = "x".join(map(str, input_size))
        raise bad(
            argument, name, f"cannot take images of {size}, see --img-size: {str(error).splitlines()[0]}"
        ) from None
    finally:
        model.train(training)


def rebuild(checkpoint: Checkpoint, name: str | None, argument: str) -> nn.Module:
    """The model of a checkpoint with its weights: frozen, in eval mode, its random numbers taken from nobody.

    Args:
        checkpoint: of any origin.
        name: the timm model; the one that the checkpoint names when None.
        argument: what errors call the checkpoint.

    Raises:
        InputError: no model is named, or the weights do not fit it.
    """
    if name is None and checkpoint.arch is None:
        raise bad(argument, checkpoint.path, "does not say of which model it is; name it")
    if name is None and {":", "/"} & set(checkpoint.arch):
        raise bad(argument, checkpoint.path, f"is of {checkpoint.arch[:80]}, which timm would fetch; name it yourself")
    name = name or checkpoint.arch
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
        numbers = sum(each.numel() for each in create(name, argument, **options).parameters())
    if numbers > 2 * sum(each.numel() for each in checkpoint.weights.values()):
        raise bad(argument, checkpoint.path, f"is too small for a {name} with {numbers} weights")
    with torch.random.fork_rng(devices=[]):
        model = create(name, argument, **options)
    load_weights(model, checkpoint, argument)
    return model.eval().requires_grad_(False)
