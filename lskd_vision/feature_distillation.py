"""Feature distillation of Heo et al. 2019, "A Comprehensive Overhaul of Feature Distillation", for timm's ResNets.

The student learns the teacher's features at the end of each stage i = 1..n, before the last ReLU, from a batch of B:

    total = task loss + 10⁻⁴ · (1/B) · Σ_i 2^-(n-i) · Σ_elements partial L2(connector_i(student_i), teacher_i)

Where the teacher's ReLU cuts a feature off, the target is at least the margin, the mean of the channel's negative
values, and a student below its target is not penalised.
"""

import contextlib
import math
from collections.abc import Callable, Generator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.models import group_parameters
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lskd.io.errors import input_error
from lskd_vision.models import by
from lskd_vision.timm_model import TimmModel, architecture

FEATURE_WEIGHT = 1e-4  # of the feature loss relative to the task loss; the authors' value for ImageNet

# The number of the last convolution, batch norm and activation of a block, as in bn3.
LAST = {BasicBlock: 2, Bottleneck: 3}


# ---- the loss


@torch.no_grad()
def margins(batch_norm: nn.BatchNorm2d) -> Tensor:
    """The margin of each channel: E[x | x < 0] of x ~ N(μ, σ²), where μ is the bias and σ the absolute weight.

    With the standard normal density φ and distribution function Φ, it is μ - σ·φ(μ/σ) / Φ(-μ/σ), as in Heo et al.'s
    margin ReLU, and -3σ, as in their code, where Φ(-μ/σ) < 10⁻³. Where σ = 0 it is the limit, min(μ, 0).

    Returns:
        (C,), float32, never above 0.

    Example:
        >>> margins(nn.BatchNorm2d(1))  # of N(0, 1) it is -√(2/π)
        tensor([-0.7979])
    """
    mean, deviation = batch_norm.bias.double(), batch_norm.weight.double().abs()
    ratio = mean / deviation
    negative = torch.special.ndtr(-ratio)
    density = torch.exp(-ratio.square() / 2) / math.sqrt(2 * math.pi)
    margin = torch.where(negative < 1e-3, -3 * deviation, mean - deviation * density / negative)
    return torch.where(deviation == 0, mean.clamp(max=0), margin).float()


def partial_l2(student: Tensor, teacher: Tensor, margin: Tensor) -> Tensor:
    """The sum of (s - t)² over the elements with s > t or t > 0, where t = max(teacher, margin).

    Heo et al.'s partial L2 distance to the teacher's features after their margin ReLU.

    Args:
        student: (B, C, H, W), any floating dtype, connected features before the ReLU.
        teacher: (B, C, H, W), features before the ReLU; no gradient flows into them.
        margin: (C,), see :func:`margins`.

    Returns:
        A scalar, computed in float32.

    Example:
        >>> student, teacher = torch.tensor([3.0, -4.0, 1.0]), torch.tensor([1.0, -2.0, -2.0])
        >>> partial_l2(student.view(1, 1, 1, 3), teacher.view(1, 1, 1, 3), torch.tensor([-0.5]))  # 2² + 0 + 1.5²
        tensor(6.2500)
    """
    target = torch.maximum(teacher.detach().float(), margin.float().view(-1, 1, 1))
    difference = student.float() - target
    ignored = (difference <= 0) & (target <= 0)  # a NaN is never ignored: it must reach the loss
    return difference.masked_fill(ignored, 0).square().sum()


def feature_loss(
    student_features: Sequence[Tensor], teacher_features: Sequence[Tensor], margins: Sequence[Tensor]
) -> Tensor:
    """The partial L2 of n stages, weighted 2^-(n-1), ..., 1/2, 1, summed, and divided by the batch size.

    The caller multiplies it by :data:`FEATURE_WEIGHT`.

    Args:
        student_features: connected features of each stage, first stage first, (B, C, H, W).
        teacher_features: the teacher's, of the same shapes.
        margins: (C,) of each stage.

    Returns:
        A scalar, float32.

    Raises:
        InputError: the features of a stage differ in shape.
    """
    loss = torch.zeros((), device=student_features[0].device)
    stages = zip(student_features, teacher_features, margins, strict=True)
    for stage, (student, teacher, margin) in enumerate(stages, 1):
        if student.shape != teacher.shape:
            found, valid = (by(features.shape[1:]) for features in (student, teacher))
            raise input_error(
                "--model", f"features of {found} in stage {stage}", f"must be {valid}, as --kd-model-name's are"
            )
        loss = loss / 2 + partial_l2(student, teacher, margin)
    return loss / len(student_features[0])


# ---- features of a timm ResNet


class RecordingReLU(nn.ReLU):
    """A ReLU, not in place, that appends its input to the list :attr:`record` while there is one."""

    record: list[Tensor] | None = None

    def forward(self, input: Tensor) -> Tensor:
        """The ReLU of ``input``."""
        if self.record is not None:
            self.record.append(input)
        return F.relu(input)


class PreReluFeatures:
    """Logits and features of a timm ResNet in one forward pass.

    The model keeps its weights and predictions and can still be copied: only the last ReLU of each stage becomes a
    :class:`RecordingReLU`, which keeps no features after the call.

    Args:
        resnet: the model itself, without wrappers.
        argument: the option that chose it, for error messages.

    Raises:
        InputError: the model is not a timm ResNet of basic or bottleneck blocks that end in a ReLU.

    Example:
        >>> import timm
        >>> logits, features = PreReluFeatures(timm.create_model("test_resnet"))(torch.zeros(2, 3, 64, 64))
        >>> [tuple(stage.shape) for stage in features]
        [(2, 32, 16, 16), (2, 48, 8, 8), (2, 192, 4, 4), (2, 96, 2, 2)]
    """

    def __init__(self, resnet: nn.Module, argument: str = "--model") -> None:
        self.resnet = resnet
        for block in last_blocks(resnet, argument):
            setattr(block, f"act{LAST[type(block)]}", RecordingReLU())

    def __call__(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits (B, K), and the outputs of stages 1 to 4 before their last ReLU, (B, C, H, W) each."""
        features: list[Tensor] = []
        activations = [_last(block, "act") for block in last_blocks(self.resnet)]
        try:
            for activation in activations:
                activation.record = features
            return self.resnet(images), features
        finally:
            for activation in activations:
                activation.record = None

    @property
    def channels(self) -> list[int]:
        """The number of channels of each stage's features."""
        return [_last(block, "conv").out_channels for block in last_blocks(self.resnet)]


def last_blocks(resnet: nn.Module, argument: str = "--model") -> list[BasicBlock | Bottleneck]:
    """The last block of each of the four stages.

    Raises:
        InputError: naming ``argument``, see :class:`PreReluFeatures`.
    """
    if isinstance(resnet, ResNet):
        blocks = [getattr(resnet, f"layer{stage}")[-1] for stage in (1, 2, 3, 4)]
        if all(type(block) in LAST and isinstance(_last(block, "act"), nn.ReLU) for block in blocks):
            return blocks
    valid = "must be a timm ResNet with ReLU, such as resnet18 or resnet50, for feature distillation"
    raise input_error(argument, architecture(resnet), valid)


def teacher_batch_norms(resnet: nn.Module) -> list[nn.BatchNorm2d]:
    """The last batch norm before the last ReLU of each stage, from which the authors take the margins.

    Raises:
        InputError: as :class:`PreReluFeatures`, or there is no batch norm with weight and bias.
    """
    norms = [_last(block, "bn") for block in last_blocks(resnet, "--kd-model-name")]
    if not all(isinstance(norm, nn.BatchNorm2d) and norm.affine for norm in norms):
        valid = "must have batch norms with weight and bias, for the margins of features"
        raise input_error("--kd-model-name", architecture(resnet), valid)
    return norms


def _last(block: BasicBlock | Bottleneck, layer: str) -> Any:
    return getattr(block, f"{layer}{LAST[type(block)]}")


@contextlib.contextmanager
def batch_statistics(module: nn.Module) -> Generator[None, None, None]:
    """A context in which the batch norms of ``module`` use the statistics of the batch and do not update their own.

    The authors run their teacher like this. The rest of ``module`` keeps its mode, and everything is restored
    afterwards, also after an exception.

    Example:
        >>> norm = nn.BatchNorm2d(1).eval()
        >>> with batch_statistics(norm):
        ...     round(norm(torch.tensor([5.0, 7.0]).view(2, 1, 1, 1)).mean().item(), 3)
        0.0
        >>> norm.training, norm.running_mean.item()
        (False, 0.0)
    """
    norms = [norm for norm in module.modules() if isinstance(norm, _BatchNorm)]
    flags = [(norm.training, norm.track_running_stats) for norm in norms]
    try:
        for norm in norms:
            norm.training, norm.track_running_stats = True, False
        yield
    finally:
        for norm, (training, track_running_stats) in zip(norms, flags, strict=True):
            norm.training, norm.track_running_stats = training, track_running_stats


# ---- what is trained


class Connectors(nn.ModuleList):
    """A 1×1 convolution and a batch norm for each stage, from the student's number of channels to the teacher's."""

    def __init__(self, student_channels: Sequence[int], teacher_channels: Sequence[int]) -> None:
        super().__init__()
        for student, teacher in zip(student_channels, teacher_channels, strict=True):
            convolution = nn.Conv2d(student, teacher, kernel_size=1, bias=False)
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
            self.append(nn.Sequential(convolution, nn.BatchNorm2d(teacher)))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """The features of each stage (B, C of the student, H, W) as (B, C of the teacher, H, W)."""
        return [connector(stage) for connector, stage in zip(self, features, strict=True)]


class StudentWithConnectors(nn.Module):
    """A student and its connectors as one module, to be optimised, wrapped for several processes and averaged.

    Evaluation, checkpoints and predictions use :attr:`student` alone. Like timm's own module for feature
    distillation, it groups its parameters for timm's optimisers.

    Args:
        student: a timm ResNet.
        teacher_channels: the number of channels of each of the teacher's stages, ``PreReluFeatures(teacher).channels``.

    Raises:
        InputError: the student is not a ResNet with these features, see :class:`PreReluFeatures`.
    """

    def __init__(self, student: TimmModel, teacher_channels: Sequence[int]) -> None:
        super().__init__()
        self.student = student
        self.student_features = PreReluFeatures(student, "--model")
        self.connectors = Connectors(self.student_features.channels, teacher_channels)

    def forward(self, images: Tensor, with_features: bool = False) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Logits (B, K), and with ``with_features`` also the connected features of each stage."""
        if not with_features:
            return self.student(images)
        logits, features = self.student_features(images)
        return logits, self.connectors(features)

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters without weight decay, besides biases and norms."""
        names: Any = getattr(self.student, "no_weight_decay", set)
        return {f"student.{name}" for name in names()}

    def group_matcher(self, coarse: bool = False) -> Callable[[str], int]:
        """A function from a parameter's name to its depth; the connectors are as deep as the student's head."""
        depths: Any = group_parameters(self.student, self.student.group_matcher(coarse=coarse), reverse=True)
        head = max(depths.values())
        return lambda name: depths.get(name.removeprefix("student."), head)
