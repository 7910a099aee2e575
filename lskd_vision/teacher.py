"""The teacher: a frozen model in eval mode, not trained, wrapped or saved with the student. Loading checks it."""

import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import torch
from timm.task import DistillationTeacher
from timm.utils import unwrap_model
from torch import Tensor

from lskd.io.errors import input_error
from lskd.records.fingerprints import weights_fingerprint
from lskd_vision.checkpoint_metadata import validate_provenance
from lskd_vision.checkpoints import Checkpoint, read_checkpoint
from lskd_vision.class_names import names_of_pretrained
from lskd_vision.data import DataConfig, per_channel
from lskd_vision.feature_distillation import PreReluFeatures, batch_statistics, margins, teacher_batch_norms
from lskd_vision.folding import without_batch_norms
from lskd_vision.models import create, parameter_count, rebuild
from lskd_vision.pooled_features import feature_width, logits_and_features
from lskd_vision.teacher_checks import check_teacher
from lskd_vision.timm_model import TimmModel

# Options of timm's training script and ours, and of torchvision's, that mix labels unless they are 0.
MIXING = ("mixup", "cutmix", "cutmix_minmax", "mixup_alpha", "cutmix_alpha")


@dataclass(frozen=True)
class TeacherOutput:
    """A teacher's output for a batch.

    Attributes:
        logits: (N, K); a list for an ensemble.
        features: if they are distilled, by ``--kd-distill-type``: with ``overhaul`` those of four stages, (N, C, H, W)
            each; with ``feature`` one tensor (N, d).
    """

    logits: Tensor | list[Tensor]
    features: Sequence[Tensor] = ()


class TeacherFacts(TypedDict, total=False):
    """What is known about a teacher's training, as arguments of :class:`Teacher`."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: list[str] | None
    label_smoothing: float | None
    source: str
    mixed_labels: bool


@dataclass(frozen=True)
class Normalisation:
    """How the inputs of a batch were normalised: ``mean`` and ``std`` (1, C, 1, 1), of pixels from 0 to 1."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, config: DataConfig | Mapping[str, Any], device: torch.device) -> "Normalisation":
        """Take it from timm's data configuration."""
        return cls(*(torch.tensor(config[name], device=device).view(1, -1, 1, 1) for name in ("mean", "std")))

    def equals(self, other: "Normalisation") -> bool:
        """Whether both normalise inputs in the same way."""
        return torch.equal(self.mean, other.mean) and torch.equal(self.std, other.std)


def input_config(
    model: TimmModel, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> dict[str, Any]:
    """timm's configuration of a model, with ``mean`` and ``std`` if they are given, one value per channel.

    timm would broadcast three means over the image of a model with one channel.
    """
    config = model.pretrained_cfg
    channels = getattr(model, "in_chans", None) or len(config["mean"])
    given = {"mean": mean or config["mean"], "std": std or config["std"]}
    return config | {name: per_channel(values, channels) for name, values in given.items()}


class Teacher:
    """A frozen model that computes logits, and features if they are distilled, for a student's batches.

    Args:
        model: the teacher, any timm model. It is frozen and put into eval mode.
        name: its name, for reports.
        mean: the mean of its inputs, per channel, for pixels from 0 to 1; that of its pretrained configuration if None.
        std: likewise.
        label_smoothing: the α it was trained with; None if unknown.
        source: how that is known.
        mixed_labels: whether mixup or cutmix mixed its labels, which smooths a teacher too.
        class_names: the names of its outputs, in order; None if unknown.
        path: its checkpoint.
        features: also compute the features before the last ReLU of the four stages (Heo et al. 2019; timm's ResNets).
        pooled_features: also compute the features before the last layer.
        use_batch_statistics: let its BatchNorms use the statistics of the batch, without updating their own.
        device: where it computes.
    """

    def __init__(
        self,
        model: TimmModel,
        name: str = "teacher",
        *,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        label_smoothing: float | None = None,
        source: str = "unknown",
        mixed_labels: bool = False,
        class_names: list[str] | None = None,
        path: Path | None = None,
        features: bool = False,
        pooled_features: bool = False,
        use_batch_statistics: bool = False,
        device: torch.device | None = None,
    ) -> None:
        self.name, self.path, self.class_names = name, path, class_names
        self.label_smoothing: dict[str, Any] = {"alpha": label_smoothing, "source": source}
        self.label_smoothing |= {"mixed_labels": True} if mixed_labels else {}
        self.num_classes = model.num_classes
        self.parameters = parameter_count(model)  # before any are folded
        self.fingerprint = weights_fingerprint(model.state_dict())
        device = device or torch.device("cpu")
        model.pretrained_cfg = input_config(model, mean, std)
        model.eval().requires_grad_(False)
        self.in_chans = len(model.pretrained_cfg["mean"])
        self.wrapped = DistillationTeacher(model.to(device), device=device)
        self.features = PreReluFeatures(model, "--kd-model-name") if features else None
        self.feature_width = feature_width(model, *self.named) if pooled_features else None
        self.use_batch_statistics = use_batch_statistics

    @property
    def named(self) -> tuple[str, object]:
        """The option that chose it, and its value, for error messages."""
        return ("--kd-checkpoint", self.path) if self.path else ("--kd-model-name", self.name)

    @property
    def paths(self) -> list[Path]:
        """Its checkpoints; an ensemble has several."""
        return [self.path] if self.path else []

    @property
    def model(self) -> TimmModel:
        """The model itself."""
        model: Any = unwrap_model(self.wrapped.model)
        return model

    def speed_up(
        self, input_size: tuple[int, int, int], channels_last: bool = False, backend: str | None = None
    ) -> None:
        """Make it faster, with the same output up to rounding: fold its batch norms into its convolutions, and more.

        Args:
            input_size: channels, height and width of its images.
            channels_last: use that memory layout.
            backend: for torch.compile; None for no compilation.
        """
        if self.features is None and not self.use_batch_statistics:
            self.wrapped.model = without_batch_norms(self.model, input_size)
        if channels_last:
            self.model.to(memory_format=torch.channels_last)
        if backend:
            self.wrapped.compile(backend=backend)

    @torch.no_grad()
    def __call__(self, images: Tensor, normalisation: Normalisation | None = None) -> TeacherOutput:
        """The output for ``images`` (N, C, H, W), normalised as given; if None, as the teacher expects them."""
        images = self._normalised(images, normalisation)
        statistics = batch_statistics(self.model) if self.use_batch_statistics else contextlib.nullcontext()
        with statistics:
            if self.features is not None:
                return TeacherOutput(*self.features(images))
            if self.feature_width is not None:
                logits, features = logits_and_features(self.model, images)
                return TeacherOutput(logits, [features])
            return TeacherOutput(self.wrapped(images))

    def margins(self) -> list[Tensor]:
        """The margins (C,) of its stages' features, see :mod:`lskd_vision.feature_distillation`."""
        device = next(self.model.parameters()).device
        return [margins(norm).to(device) for norm in teacher_batch_norms(self.model)]

    def logits(self, images: Tensor, normalisation: Normalisation | None = None) -> Tensor:
        """Only the logits (N, K), always in eval mode, for scoring."""
        with torch.no_grad():
            return self.wrapped(self._normalised(images, normalisation))

    def _normalised(self, images: Tensor, normalisation: Normalisation | None) -> Tensor:
        if normalisation is None:
            return images
        return self.wrapped.normalize_input(images, normalisation.mean, normalisation.std)

    def record(self) -> dict[str, Any]:
        """The teacher's entry in a student's run record, before the teacher is scored."""
        return {
            "paths": [str(path.resolve()) for path in self.paths],
            "model": self.name,
            "fingerprint": self.fingerprint,
            "label_smoothing": self.label_smoothing,
            "valid": {},
        }


def load_teacher(
    name: str | None,
    path: Path | None,
    class_names: list[str],
    input_sizes: Collection[tuple[int, int, int]],
    device: torch.device,
    features: bool = False,
    pooled_features: bool = False,
    use_batch_statistics: bool = False,
) -> Teacher:
    """Load a teacher from a checkpoint of any origin or, without one, timm's pretrained weights, and check it.

    Args:
        name: a timm model; if None, the one that the checkpoint names.
        path: the checkpoint.
        class_names: the names of the data's K classes, in the order of their labels.
        input_sizes: channels, height and width of the students' images.
        device: where it computes.
        features: see :class:`Teacher`.
        pooled_features: likewise.
        use_batch_statistics: likewise.

    Raises:
        InputError: it cannot be loaded safely, has other classes or another order of them, has weights that are not
            finite, or cannot take the students' images.
    """
    argument = "--kd-checkpoint" if path else "--kd-model-name"
    known: TeacherFacts
    if path:
        checkpoint = read_checkpoint(path, argument)
        model = rebuild(checkpoint, name, argument)
        known = what_is_known(checkpoint, argument)
        name = name or checkpoint.arch or path.name
    elif name:
        with torch.random.fork_rng(devices=[]):
            model = create(name, argument, pretrained=True)
        known = {"source": "unknown: timm's pretrained weights"}
        known["class_names"] = names_of_pretrained(model, name)
    else:
        raise input_error(argument, name, "must be given, or --kd-checkpoint")
    value = path or name
    check_teacher(model, known["class_names"], class_names, input_sizes, argument, value)
    return Teacher(
        model,
        name,
        path=path,
        features=features,
        pooled_features=pooled_features,
        use_batch_statistics=use_batch_statistics,
        device=device,
        **known,
    )


def what_is_known(checkpoint: Checkpoint, argument: str) -> TeacherFacts:
    """What a checkpoint says about its training: label smoothing and its source, mixed labels, normalisation, classes.

    Raises:
        InputError: it has a training record of this project that is not valid.
    """
    distilled = "unknown: trained with distillation"
    if checkpoint.provenance:
        provenance = validate_provenance(checkpoint.provenance, argument, checkpoint.path)
        made, images = provenance.configuration, provenance.configuration.host.data_config
        known: TeacherFacts = {"mean": tuple(images.mean), "std": tuple(images.std)}
        known["class_names"] = provenance.data.classes
        if made.kd_weight > 0:
            return known | {"source": distilled}
        return (
            known | {"label_smoothing": made.label_smoothing} | _source(checkpoint.provenance["configuration"]["host"])
        )
    args = checkpoint.args
    known = {"class_names": checkpoint.class_names}
    if args.get("mean"):
        known["mean"] = tuple(args["mean"])
    if args.get("std"):
        known["std"] = tuple(args["std"])
    if args.get("kd_model_name"):
        return known | {"source": distilled}
    for name in ("smoothing", "label_smoothing"):  # timm's training script, torchvision's
        if isinstance(args.get(name), int | float):
            return known | {"label_smoothing": float(args[name])} | _source(args)
    return known | _source(args) | {"source": "unknown: not recorded in the checkpoint"}


def _source(args: Mapping[str, Any]) -> TeacherFacts:
    """The source of α, which is the training's options, and whether these mixed labels."""
    mixes = any(type(args.get(name)) in (int, float, list, tuple) and args[name] for name in MIXING)
    if not mixes or args.get("mixup_prob") == 0:
        return {"source": "the teacher's configuration"}
    return {"source": "the teacher's configuration, which also mixed labels", "mixed_labels": True}
