import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lskd.loss.distillation import distillation_loss
from lskd.measure.gradient_size import gradient_sizes
from lskd.measure.teacher_outputs import teacher_outputs

logits = st.lists(st.lists(st.floats(-20, 20), min_size=4, max_size=4), min_size=1, max_size=5)


def gradient(student, teacher, temperature):
    """The gradient of the paper's loss at the student's logits, by the training's own loss."""
    z = torch.tensor(student, dtype=torch.float64, requires_grad=True)
    target = torch.zeros(len(student), dtype=torch.long)
    distillation_loss(z, torch.tensor(teacher), target, temperature=temperature).loss.backward()
    return z.grad.numpy()


@given(logits, st.sampled_from([0.5, 2.0, 3.0, 64.0]))
@settings(max_examples=40, deadline=None)
def test_the_size_at_the_start_is_that_of_the_losss_own_gradient(values, T):
    teacher = np.array(values)
    start = np.zeros_like(teacher)
    one, other = (np.linalg.norm(gradient(start, teacher, each)) for each in (1.0, T))
    if one > 1e-6:
        assert gradient_sizes(teacher, [T])[T].start == pytest.approx(other / one, rel=1e-6)


def test_the_size_at_the_end_is_that_of_a_student_with_a_little_noise():
    random = np.random.default_rng(3)
    teacher = random.normal(0, 2, (50, 6))
    noise = 1e-4 * random.normal(size=(200, *teacher.shape))
    squares = [np.mean([(gradient(teacher + each, teacher, T) ** 2).sum() for each in noise]) for T in (1.0, 3.0)]
    assert gradient_sizes(teacher, [3.0])[3.0].end == pytest.approx(np.sqrt(squares[1] / squares[0]), rel=0.02)


def test_chunks_and_samples_count_by_the_square():
    random = np.random.default_rng(4)
    teacher = random.normal(0, 3, (30, 5))
    assert gradient_sizes([teacher[:7], teacher[7:]], [2.0])[2.0].start == pytest.approx(
        gradient_sizes(teacher, [2.0])[2.0].start
    )
    start = [
        T * np.linalg.norm(1 / 5 - np.exp(teacher / T) / np.exp(teacher / T).sum(1, keepdims=True)) for T in (1, 2)
    ]
    assert gradient_sizes(teacher, [2.0])[2.0].start == pytest.approx(start[1] / start[0])


def test_a_teacher_that_says_nothing_has_the_same_gradient_at_every_temperature():
    sizes = gradient_sizes(np.zeros((3, 4)), [2.0])[2.0]
    assert (sizes.start, sizes.end) == (1.0, pytest.approx(1.0))


@pytest.mark.parametrize(
    ("values", "temperatures", "said"),
    [
        (np.zeros((2, 1)), [2.0], "logits: 1 class"),
        (np.zeros((0, 3)), [2.0], "logits: no samples"),
        (np.full((2, 3), np.nan), [2.0], "logits: not a finite number in sample 0"),
        (np.zeros((2, 3)), [0.0], "temperature: 0.0"),
    ],
)
def test_what_has_no_gradient_is_refused(values, temperatures, said):
    with pytest.raises(ValueError, match=said):
        gradient_sizes(values, temperatures)


def test_small_steps_are_those_of_less_than_half_the_gradient_at_the_start():
    random = np.random.default_rng(5)
    labels = np.arange(400) % 200
    teacher = random.normal(0, 0.3, (400, 200))
    teacher[np.arange(400), labels] += 7.4  # as label smoothing of .1 leaves it
    found = teacher_outputs(teacher, labels, [1.0, 1.2, 3.0, 64.0])
    assert [each.small_steps for each in found] == [each.gradient_start < 0.5 for each in found]
    assert [each.small_steps for each in found] == [False, False, True, True]
