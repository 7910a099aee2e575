"""Fidelity of students to their teachers on the validation split, in every epoch, from one pass of each teacher.

Validation images are not augmented and their order is fixed: a teacher's logits for them are the same in every epoch.
"""

from torch import Tensor

from lskd.measure.fidelity_sums import FidelitySums
from lskd_vision.config import DeviceConfig
from lskd_vision.teacher import Normalisation, Teacher

# The limit for the logits of all teachers that one process keeps: those of ten teachers for ImageNet-1K.
KEPT_BYTES = 2 * 2**30


class ValidationLogits:
    """A teacher's logits for the validation images of this process, kept from the first pass over them.

    They take 4·N·K bytes of CPU memory: 200 MB for ImageNet-1K's 50 000 images. The teacher is in eval mode, as when it
    is scored, even if training uses its batch statistics.

    Args:
        teacher: the teacher.
        normalisation: that of the images.
        device: the device of the images, and the precision in which the teacher computes.
        size: the size of the logits in bytes; 0 if there is no memory for them, and each pass runs the teacher again.
    """

    def __init__(
        self, teacher: Teacher, normalisation: Normalisation | None, device: DeviceConfig, size: int = 0
    ) -> None:
        self.teacher, self.normalisation, self.device, self.size = teacher, normalisation, device, size
        self._batches: list[Tensor] = []
        self._latest: tuple[int, Tensor] | None = None  # several students need it in turn

    def of_inputs(self, normalisation: Normalisation) -> "ValidationLogits":
        """The same logits for students whose images are normalised differently: stored logits are shared."""
        if self.normalisation is not None and normalisation.equals(self.normalisation):
            return self
        other = ValidationLogits(self.teacher, normalisation, self.device, self.size)
        other._batches = self._batches
        return other

    def batch(self, number: int, images: Tensor) -> Tensor:
        """The logits (N, K), float32, of a batch.

        Args:
            number: the batch's number, from 0; the batches of every pass are the same.
            images: (N, C, H, W), the batch.
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
        """The fidelity on the images of all processes, see :meth:`lskd.measure.fidelity_sums.FidelitySums.metrics`."""
        return self.sums.all_reduce().metrics()
