"""A teacher's logits for the validation images, kept from one pass over them."""

import pytest
import torch

from lskd_vision.command_line import evaluation_config
from lskd_vision.evaluate import evaluate
from lskd_vision.teacher import Normalisation, Teacher
from lskd_vision.validation_fidelity import TeacherFidelity, ValidationLogits

BATCHES = [(torch.full((size, 1, 2, 2), float(number)), torch.zeros(size).long()) for number, size in enumerate((4, 3))]
CONFIG = evaluation_config({"device": "cpu"})


class Brightness(torch.nn.Module):
    """Two logits that depend on the first pixel, and how often they were computed."""

    num_classes, pretrained_cfg = 2, {"mean": (0.5,), "std": (0.5,), "tag": ""}

    def __init__(self):
        super().__init__()
        self.weight, self.calls = torch.nn.Parameter(torch.zeros(1)), 0

    def forward(self, images):
        self.calls += 1
        return torch.stack([images[:, 0, 0, 0], 0.5 - images[:, 0, 0, 0]], 1)


def student(images):
    return torch.tensor([[1.0, 0.0]]).repeat(len(images), 1)


def validated(logits, times=1, students=1):
    """The fidelity of students after as many validations."""
    for _ in range(times):
        fidelities = [TeacherFidelity(logits) for _ in range(students)] + [None]
        evaluate([student] * (students + 1), BATCHES, 2, CONFIG.device, fidelities=fidelities)
    return [each.metrics() for each in fidelities[:-1]]


@pytest.mark.parametrize(("size", "calls"), [(56, 2), (0, 6)])
def test_a_teacher_is_run_once_for_all_validations_and_once_in_each_without_memory_for_its_logits(size, calls):
    model = Brightness()
    logits = ValidationLogits(Teacher(model), None, CONFIG.device, size)
    first, *others = validated(logits, times=3, students=2)
    assert model.calls == calls
    assert others == [first]
    assert first["teacher_agreement"] == pytest.approx(100 * 3 / 7)  # the first batch is dark


def test_a_pass_that_broke_off_is_completed_by_the_next():
    model = Brightness()
    logits = ValidationLogits(Teacher(model), None, CONFIG.device, 56)
    evaluate([student], BATCHES[:1], 2, CONFIG.device, fidelities=[TeacherFidelity(logits)])
    whole = validated(ValidationLogits(Teacher(Brightness()), None, CONFIG.device))
    assert validated(logits) == validated(logits) == whole
    assert model.calls == 2


def test_students_whose_images_are_normalised_otherwise_share_what_is_kept():
    """The teacher is asked once, and each student's images are turned into its own where it is asked again."""

    class Counted(Brightness):
        calls = 0

        def forward(self, images):
            Counted.calls += 1
            return super().forward(images)

    first = Normalisation(torch.full((1, 1, 1, 1), 0.5), torch.full((1, 1, 1, 1), 0.5))
    second = Normalisation(torch.full((1, 1, 1, 1), 0.25), torch.full((1, 1, 1, 1), 2.0))
    pixels = torch.rand(4, 1, 2, 2)
    kept = ValidationLogits(Teacher(Counted()), first, CONFIG.device, size=10**6)
    assert kept.of_inputs(first) is kept
    other = kept.of_inputs(second)
    expected = kept.batch(0, (pixels - first.mean) / first.std)
    assert torch.equal(other.batch(0, (pixels - second.mean) / second.std), expected)
    assert Counted.calls == 1
    asked_again = ValidationLogits(Teacher(Counted()), first, CONFIG.device).of_inputs(second)
    assert torch.allclose(asked_again.batch(0, (pixels - second.mean) / second.std), expected, atol=1e-6)
    assert Counted.calls == 2
