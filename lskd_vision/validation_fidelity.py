"""Fidelity of students to their teachers on the validation split, in every epoch, from one pass of each teacher.

Validation images are not augmented and come in one order, so a teacher's logits for them are the same in every epoch.
"""

from torch import Tensor

from lskd.measure.fidelity_sums import FidelitySums
from lskd_vision.config import DeviceConfig
from lskd_vision.teacher import Normalisation, Teacher

# Of the logits that one process keeps, of all its teachers: ten teachers of ImageNet-1K.
KEPT_BYTES = 2 * 2**30


class ValidationLogits:
    """A teacher's logits for the validation images of this process, kept from the first pass over them.

    They take 4·N·K bytes of the computer's memory, not the GPU's: 200 MB for ImageNet-1K's 50 000 images. The teacher
    is in eval mode, as it is scored, also where training uses the statistics of its batches.

    Args:
        teacher: whose.
        normalisation: of the images.
        device: of the images, and in which precision the teacher computes.
        size: of them, in bytes; 0 if there is no memory for them, and each pass runs the teacher again.
    """

    def __init__(
        self, teacher: Teacher, normalisation: Normalisation | None, device: DeviceConfig, size: int = 0
    ) -> None:
        self.teacher, self.normalisation, self.device, self.size = teacher, normalisation, device, size
        self._batches: list[Tensor] = []
        self._latest: tuple[int, Tensor] | None = None  # several students need it in turn

    def of_inputs(self, normalisation: Normalisation) -> "ValidationLogits":
        """The same logits for students whose images are normalised otherwise: what is kept is shared."""
        if self.normalisation is not None and normalisation.equals(self.normalisation):
            return self
        other = ValidationLogits(self.teacher, normalisation, self.device, self.size)
        other._batches = self._batches
        return other

    def batch(self, number: int, images: Tensor) -> Tensor:
        """The logits (N, K), float32, of a batch.

        Args:
            number: of the batch, from 0; the batches of every pass are the same.
            images: (N, C, H, W), its own.
        """
        if self._latest is None or self._latest[0] != number:
            self._latest = number, self._logits(number, images)
        return self._latest[1]

    def _logits(self, number: int, images: Tensor) -> Tensor:
        if number < len(self._batches):
            return self._batches[number].to(images.device)
        with self.device.autocast():
            logits = self.teacher.logits(images, self.normalisation).float()
        if self.size and number == len(self._batches):
            self._batches.append(logits.cpu())
        return logits


class TeacherFidelity:
    """A student's fidelity to its teacher in one pass over the validation images."""

    def __init__(self, teacher: ValidationLogits) -> None:
        self.teacher = teacher
        self.sums = FidelitySums(teacher.device.torch_device)

    def update(self, number: int, images: Tensor, logits: Tensor) -> None:
        """Add a batch: its number, its images (N, C, H, W) and the student's logits (N, K)."""
        self.sums.update(logits, self.teacher.batch(number, images))

    def metrics(self) -> dict[str, float | None]:
        """Of the images of all processes, see :meth:`lskd.measure.fidelity_sums.FidelitySums.metrics`."""
        return self.sums.all_reduce().metrics()
