"""An ensemble of teachers: the mean of their probabilities, each computed at temperature T."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from lskd.measure.teacher_smoothing import of_several
from lskd.records.fingerprints import joint_fingerprint
from lskd_vision.feature_distillation import PreReluFeatures
from lskd_vision.teacher import Normalisation, Teacher, TeacherOutput


class Ensemble(Teacher):
    """Teachers whose probabilities are averaged: at T, the target is the mean of softmax(z_i / T).

    Its α is that of its most smoothed member, as in translation.

    Args:
        members: at least two teachers on the same device, whose features are not distilled.
    """

    def __init__(self, members: Sequence[Teacher]) -> None:
        first = members[0]
        self.members = members
        counts = Counter(each.name for each in members)
        self.name = "+".join(f"{n}×{name}" if n > 1 else name for name, n in counts.items())
        self.path = Path(os.pathsep.join(map(str, self.paths)))  # as it was given
        self.class_names = next((each.class_names for each in members if each.class_names), None)
        self.label_smoothing = of_several([each.label_smoothing for each in members])
        self.num_classes, self.in_chans = first.num_classes, first.in_chans
        self.parameters = sum(each.parameters for each in members)
        self.fingerprint = joint_fingerprint([each.fingerprint for each in members])
        self.features: PreReluFeatures | None = None
        self.feature_width: int | None = None
        self.use_batch_statistics = False

    @property
    def paths(self) -> list[Path]:
        """The checkpoints of all members."""
        return [path for each in self.members for path in each.paths]

    def speed_up(
        self, input_size: tuple[int, int, int], channels_last: bool = False, backend: str | None = None
    ) -> None:
        """Apply :meth:`Teacher.speed_up` to each member."""
        for each in self.members:
            each.speed_up(input_size, channels_last, backend)

    def __call__(self, images: Tensor, normalisation: Normalisation | None = None) -> TeacherOutput:
        """The logits (N, K) of each member; the loss averages their probabilities."""
        return TeacherOutput([each.logits(images, normalisation) for each in self.members])

    def logits(self, images: Tensor, normalisation: Normalisation | None = None) -> Tensor:
        """The log of the members' mean probabilities (N, K) at T = 1, for scoring."""
        logits = torch.stack([each.logits(images, normalisation).float() for each in self.members])
        return torch.log_softmax(logits, 2).logsumexp(0) - torch.tensor(float(len(self.members))).log()
