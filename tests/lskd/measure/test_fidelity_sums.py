import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lskd.measure.fidelity import fidelity
from lskd.measure.fidelity_sums import FidelitySums


def logits_of(seed, n=60, classes=7, dtype=torch.float32):
    return (3 * torch.randn(n, classes, generator=torch.Generator().manual_seed(seed))).to(dtype)


def summed(student, teacher, batch=16):
    sums = FidelitySums()
    for own, theirs in zip(student.split(batch), teacher.split(batch), strict=True):
        sums.update(own, theirs)
    return sums.all_reduce().metrics()


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 999), st.sampled_from([torch.float32, torch.bfloat16]), st.sampled_from([1.0, 1e-4]))
def test_summed_over_batches_they_are_those_of_all_samples_in_float64(seed, dtype, distance):
    """Also of a student near its teacher, and in half precision, where largest logits are equal now and then."""
    teacher = logits_of(seed, dtype=torch.float64)
    student = (teacher + distance * logits_of(seed + 1)).to(dtype)
    teacher = teacher.float()
    expected = fidelity(student.double().numpy(), teacher.double().numpy(), np.zeros(60, int))
    found = summed(student, teacher)
    assert found["teacher_agreement"] == pytest.approx(100 * expected.top1_agreement)
    assert found["teacher_kl"] == pytest.approx(expected.mean_kl, rel=1e-4)


def test_a_student_that_prefers_no_class_agrees_with_its_teacher_on_the_first_class_alone():
    teacher = torch.eye(4)
    assert summed(torch.zeros(4, 4), teacher)["teacher_agreement"] == 25


def test_a_kl_that_is_not_finite_is_none_and_such_a_row_agrees_with_nothing():
    student = torch.tensor([[0.0, 1.0], [torch.nan, 1.0]])
    assert summed(student, torch.tensor([[0.0, 1.0]] * 2)) == {"teacher_agreement": 50, "teacher_kl": None}


def test_of_no_samples_there_is_no_mean():
    sums = FidelitySums()
    sums.update(torch.zeros(0, 3), torch.zeros(0, 3))
    with pytest.raises(ValueError, match=r"^samples: 0 \(must be at least 1"):
        sums.metrics()
