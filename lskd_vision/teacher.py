"""The teacher: a frozen model in eval mode, outside what is trained, wrapped or saved."""

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from timm.data import ImageNetInfo, infer_imagenet_subset
from timm.task import DistillationTeacher
from timm.utils import unwrap_model
from torch import Tensor, nn

from lskd.errors import bad
from lskd.teacher import weights_fingerprint
from lskd_vision.checkpoints import Checkpoint, read_checkpoint
from lskd_vision.data import per_channel
from lskd_vision.feature_distillation import PreReluFeatures, batch_statistics
from lskd_vision.folding import without_batch_norms
from lskd_vision.models import check_input, create, rebuild
from lskd_vision.told import checked_provenance

logger = logging.getLogger(__name__)


@dataclass
class TeacherOutput:
    """What a teacher says of a batch: ``logits`` (N, K) and, where they are wanted, its ``features``."""

    logits: Tensor
    features: list[Tensor] | None = None


@dataclass
class Normalisation:
    """How the inputs of a batch were normalised: ``mean`` and ``std`` (1, C, 1, 1), of pixels from 0 to 1."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, config: dict, device: torch.device) -> "Normalisation":
        """From timm's data configuration."""
        return cls(*(torch.tensor(config[name], device=device).view(1, -1, 1, 1) for name in ("mean", "std")))


def input_config(model: nn.Module, mean: Sequence[float] | None = None, std: Sequence[float] | None = None) -> dict:
    """timm's configuration of a model, with ``mean`` and ``std`` where they are given, and one value a channel.

    timm would broadcast three means over the image of a model with one channel.
    """
    config = model.pretrained_cfg
    channels = getattr(model, "in_chans", None) or len(config["mean"])
    given = {"mean": mean or config["mean"], "std": std or config["std"]}
    return config | {name: per_channel(values, channels) for name, values in given.items()}


class Teacher:
    """A model that gives logits, and features where they are wanted, for batches as they are given to the student.

    Args:
        model: the teacher, any timm model. It is frozen and put into eval mode.
        name: its name, for reports.
        mean: of its inputs, per channel, of pixels from 0 to 1; its pretrained configuration's when None.
        std: likewise.
        label_smoothing: α it was trained with; None where nobody knows.
        source: where that is known from.
        class_names: of its outputs, in order; None where nobody knows.
        path: of its checkpoint.
        features: also give the four features before a stage's last ReLU (Heo et al. 2019, timm's ResNets alone).
        use_batch_statistics: its BatchNorms use the statistics of the batch, and keep their own.
        device: where it computes.
    """

    def __init__(
        self,
        model: nn.Module,
        name: str = "teacher",
        *,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        label_smoothing: float | None = None,
        source: str = "unknown",
        class_names: list[str] | None = None,
        path: Path | None = None,
        features: bool = False,
        use_batch_statistics: bool = False,
        device: torch.device | None = None,
    ):
        self.name, self.path, self.class_names = name, path, class_names
        self.label_smoothing = {"alpha": label_smoothing, "source": source}
        self.num_classes = model.num_classes
        self.fingerprint = weights_fingerprint(model.state_dict())
        self.valid: dict = {}
        device = device or torch.device("cpu")
        model.pretrained_cfg = input_config(model, mean, std)
        model.eval().requires_grad_(False)
        self.in_chans = len(model.pretrained_cfg["mean"])
        self.wrapped = DistillationTeacher(model.to(device), device=device)
        self.features = PreReluFeatures(model, "--kd-model-name") if features else None
        self.use_batch_statistics = use_batch_statistics

    @property
    def model(self) -> nn.Module:
        """The model itself."""
        return unwrap_model(self.wrapped.model)

    def speed_up(
        self, input_size: tuple[int, int, int], channels_last: bool = False, backend: str | None = None
    ) -> None:
        """Compute the same, but for rounding, in less time: its batch norms folded into its convolutions, and more.

        Args:
            input_size: channels, height and width of its images.
            channels_last: take on that memory layout.
            backend: of torch.compile, which it is compiled with; None: it is not.
        """
        if self.features is None and not self.use_batch_statistics:
            self.wrapped.model = without_batch_norms(self.model, input_size)
        if channels_last:
            self.model.to(memory_format=torch.channels_last)
        if backend:
            self.wrapped.compile(backend=backend)

    @torch.no_grad()
    def __call__(self, images: Tensor, normalisation: Normalisation | None = None) -> TeacherOutput:
        """Its output for ``images`` (N, C, H, W), normalised for the student; for itself where no other is given."""
        images = self._normalised(images, normalisation)
        statistics = batch_statistics(self.model) if self.use_batch_statistics else contextlib.nullcontext()
        with statistics:
            if self.features is not None:
                return TeacherOutput(*self.features(images))
            return TeacherOutput(self.wrapped(images))

    def logits(self, images: Tensor, normalisation: Normalisation | None = None) -> Tensor:
        """Its logits (N, K) alone, always in eval mode: for scoring."""
        with torch.no_grad():
            return self.wrapped(self._normalised(images, normalisation))

    def _normalised(self, images: Tensor, normalisation: Normalisation | None) -> Tensor:
        if normalisation is None:
            return images
        return self.wrapped.normalize_input(images, normalisation.mean, normalisation.std)

    def record(self) -> dict:
        """What a student's run record says of its teacher."""
        return {
            "paths": [str(self.path.resolve())] if self.path else [],
            "model": self.name,
            "fingerprint": self.fingerprint,
            "label_smoothing": self.label_smoothing,
            "valid": self.valid,
        }


def load_teacher(
    name: str | None,
    path: Path | None,
    class_names: list[str],
    input_size: tuple[int, int, int],
    device: torch.device,
    **options,
) -> Teacher:
    """A teacher from a checkpoint of any origin or, without one, timm's pretrained weights of that name; checked.

    Args:
        name: a timm model; the one that the checkpoint names when None.
        path: the checkpoint.
        class_names: of the data, K in the order of their labels.
        input_size: channels, height and width of the student's images.
        device: where it computes.
        options: ``features`` and ``use_batch_statistics`` of :class:`Teacher`.

    Raises:
        InputError: it cannot be loaded safely, or has other classes, another order of them, or other input channels.
    """
    argument = "--kd-checkpoint" if path else "--kd-model-name"
    if path:
        checkpoint = read_checkpoint(path, argument)
        model = rebuild(checkpoint, name, argument)
        known = what_is_known(checkpoint, argument)
        name = name or checkpoint.arch
    else:
        with torch.random.fork_rng(devices=[]):
            model = create(name, argument, pretrained=True)
        known = {"source": "unknown: timm's pretrained weights"}
    value = path or name
    check_classes(model, known.setdefault("class_names", None), class_names, argument, value)
    if getattr(model, "in_chans", input_size[0]) != input_size[0]:
        raise bad(argument, value, f"wants {model.in_chans} input channels (must be the student's {input_size[0]})")
    check_input(model, input_size, argument, value)
    return Teacher(model, name, path=path, device=device, **known, **options)


def what_is_known(checkpoint: Checkpoint, argument: str) -> dict:
    """What a checkpoint tells of its training, as :class:`Teacher` takes it: its α and the source, mean, classes, …

    Raises:
        InputError: it says that this project made it, and does not say how.
    """
    if checkpoint.provenance:
        made = checked_provenance(checkpoint.provenance, argument, checkpoint.path)
        known = {"mean": tuple(made["mean"]), "std": tuple(made["std"]), "class_names": list(made["class_names"])}
        if made["kd_weight"] > 0:
            return known | {"source": "unknown: trained with distillation"}
        return known | {"label_smoothing": made["label_smoothing"], "source": "the teacher's configuration"}
    args = checkpoint.args
    known = {name: tuple(args[name]) for name in ("mean", "std") if args.get(name)}
    if args.get("kd_model_name"):
        return known | {"source": "unknown: trained with distillation"}
    for name in ("smoothing", "label_smoothing"):  # timm's training script, torchvision's
        if isinstance(args.get(name), int | float):
            return known | {"label_smoothing": float(args[name]), "source": "the teacher's configuration"}
    return known | {"source": "unknown: the checkpoint does not tell"}


def imagenet_classes(model: nn.Module) -> list[str] | None:
    """The WordNet ids that a model with ImageNet-1K's classes was trained for; None for any other model."""
    if infer_imagenet_subset(model) != "imagenet-1k" or "in1k" not in str(model.pretrained_cfg.get("tag", "")):
        return None
    info = ImageNetInfo("imagenet-1k")
    return [info.index_to_label_name(index) for index in range(1000)]


def check_classes(model: nn.Module, theirs: list[str] | None, ours: list[str], argument: str, value: object) -> None:
    """Check that a model has the data's classes and, as far as their names are known, in the same order.

    Args:
        model: a timm model.
        theirs: the names of the model's classes, in the order of its outputs; those of ImageNet-1K where it is None and
            the model is one of its.
        ours: the names of the data's.
        argument: what an error calls the model.
        value: what was given for it.

    Raises:
        InputError: they differ. Names that have nothing in common, as of folders with names of their own, say nothing.
    """
    if model.num_classes != len(ours):
        raise bad(argument, value, f"has {model.num_classes} classes (must be the data's {len(ours)})")
    theirs = theirs or imagenet_classes(model)
    if theirs is None or theirs == ours or not set(theirs) & set(ours):
        return
    if len(theirs) != len(ours):
        raise bad(argument, value, f"names {len(theirs)} classes (must be the data's {len(ours)})")
    first = next(number for number, (a, b) in enumerate(zip(theirs, ours, strict=True)) if a != b)
    raise bad(argument, value, f"has {theirs[first]!r} as class {first}, the data have {ours[first]!r}")
