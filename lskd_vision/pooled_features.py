"""Pooled features before the last layer of a timm model, and a student's projection to its teacher's width.

As in timm's feature distillation: the output of ``forward_head`` with ``pre_logits``, and a linear layer with bias.
"""

from typing import Any

from timm.task.distillation import FeatureDistillationTrainableModule
from torch import Tensor, nn

from lskd.io.errors import input_error
from lskd_vision.models import by
from lskd_vision.timm_model import TimmModel


class StudentWithProjection(FeatureDistillationTrainableModule):
    """A student and its projection, if any, as one module, to be optimised, wrapped for several processes and averaged.

    timm's own module: from images to logits (N, K) and features (N, d of the teacher). Evaluation, checkpoints and
    predictions use :attr:`student` alone.
    """

    student: Any  # a TimmModel


def feature_width(model: TimmModel, argument: str, name: object) -> int:
    """The number of features before its last layer that a model declares.

    Args:
        model: any model; may be on the meta device.
        argument: the option that chose it, for error messages.
        name: the value of that option, likewise.

    Raises:
        InputError: it declares none, or cannot be run up to its features.

    >>> import timm
    >>> feature_width(timm.create_model("test_mambaout"), "--model", "test_mambaout")
    256
    """
    width: Any = getattr(model, "head_hidden_size", None) or getattr(model, "num_features", None)
    if not isinstance(width, int) or not all(hasattr(model, each) for each in ("forward_features", "forward_head")):
        valid = "must be a model that gives its features before the last layer, for --kd-distill-type feature"
        raise input_error(argument, name, valid)
    return width


def logits_and_features(model: TimmModel, images: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (N, K) and features (N, d) of images (N, C, H, W), from one forward pass up to the pooling.

    >>> import timm, torch
    >>> model = timm.create_model("test_resnet", num_classes=10)
    >>> [tuple(each.shape) for each in logits_and_features(model, torch.zeros(2, 3, 64, 64))]
    [(2, 10), (2, 96)]
    """
    features = model.forward_features(images)
    return model.forward_head(features), model.forward_head(features, pre_logits=True)


def with_projection(student: TimmModel, name: str, teacher_width: int) -> StudentWithProjection:
    """Add to a student a linear layer from the width of its features to its teacher's, if they differ.

    The layer is initialised from the current state of torch's random generator.

    Args:
        student: any timm model.
        name: its name, for errors.
        teacher_width: d.

    Raises:
        InputError: naming ``--model``, see :func:`feature_width`.
    """
    width = feature_width(student, "--model", name)
    return StudentWithProjection(student, nn.Linear(width, teacher_width) if width != teacher_width else None)


def check_width(model: TimmModel, images: Tensor, argument: str, name: object) -> None:
    """Check that a model gives a feature vector of the declared length for each image.

    Args:
        model: the model.
        images: (N, C, H, W), a few.
        argument: the option that chose it, for error messages.
        name: the value of that option, likewise.

    Raises:
        InputError: it does not.
    """
    width = feature_width(model, argument, name)
    try:
        found = tuple(logits_and_features(model, images)[1].shape)
    except (AttributeError, NotImplementedError, TypeError):  # forward_head without pre_logits, or several outputs
        found = None
    if found != (len(images), width):
        has = "none" if found is None else by(found[1:])
        valid = f"must give {width} features an image before its last layer, for --kd-distill-type feature: {has}"
        raise input_error(argument, name, valid)
