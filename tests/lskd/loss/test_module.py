"""DistillationLoss behaves as torch's own losses do."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from lskd import DistillationLoss
from lskd.loss.distillation import distillation_loss

SHAPES = [(5,), (7, 5), (4, 5, 3), (2, 5, 3, 2)]
IGNORED = -100


def logits(shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(shape, generator=generator)).to(dtype)


def targets(shape, classes=5, ignored=0):
    without = shape[:1] + shape[2:] if len(shape) > 1 else ()
    target = torch.randint(0, classes, without, generator=torch.Generator().manual_seed(2))
    if ignored:
        target.view(-1)[:ignored] = IGNORED
    return target


def expected(student, teacher, target, temperature, student_temperature, kd_weight, smoothing, reduction):
    """The formula by torch's functions in float64."""
    student, teacher = student.double(), teacher.double()
    dim = 1 if student.dim() > 1 else 0
    log_p = F.log_softmax(student / student_temperature, dim)
    kl = F.kl_div(log_p, F.softmax(teacher / temperature, dim), reduction="none").sum(dim)
    hard = F.cross_entropy(student, target, reduction="none", label_smoothing=smoothing, ignore_index=IGNORED)
    each = torch.where(target == IGNORED, 0.0, kd_weight * student_temperature**2 * kl + (1 - kd_weight) * hard)
    count = (target != IGNORED).sum()
    return {"none": each, "sum": each.sum(), "mean": each.sum() / count}[reduction]


@settings(deadline=None, max_examples=60)
@given(
    shape=st.sampled_from(SHAPES),
    temperature=st.sampled_from([0.5, 1.0, 3.0, 64.0]),
    student_temperature=st.sampled_from([None, 1.0, 2.0]),
    kd_weight=st.sampled_from([0.0, 0.4, 1.0]),
    smoothing=st.sampled_from([0.0, 0.1]),
    reduction=st.sampled_from(["mean", "sum", "none"]),
    ignored=st.sampled_from([0, 2]),
)
def test_value_and_gradient_are_those_of_torchs_functions_in_float64(
    shape, temperature, student_temperature, kd_weight, smoothing, reduction, ignored
):
    ignored = min(ignored, targets(shape).numel() - 1)
    student, teacher, target = logits(shape, 1), logits(shape, 2), targets(shape, ignored=ignored)
    loss = DistillationLoss(
        temperature,
        student_temperature=student_temperature,
        kd_weight=kd_weight,
        label_smoothing=smoothing,
        reduction=reduction,
    )
    ours, theirs = student.clone().requires_grad_(), student.double().requires_grad_()
    value = loss(ours, teacher, target)
    right = expected(
        theirs, teacher, target, temperature, student_temperature or temperature, kd_weight, smoothing, reduction
    )
    assert value.shape == right.shape
    torch.testing.assert_close(value.double(), right, rtol=1e-5, atol=1e-6)
    weights = torch.rand(right.shape, generator=torch.Generator().manual_seed(3))
    (value * weights).sum().backward()
    (right * weights).sum().backward()
    torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_half_precision_logits_give_a_float32_loss_and_a_gradient_of_their_own_precision(dtype, reduction):
    student, teacher = logits((6, 5), 1, dtype), logits((6, 5), 2, dtype)
    ours = student.clone().requires_grad_()
    value = DistillationLoss(64.0, reduction=reduction)(ours, teacher, targets((6, 5)))
    theirs = student.double().requires_grad_()
    right = expected(theirs, teacher, targets((6, 5)), 64.0, 64.0, 1.0, 0.0, reduction)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), right, rtol=1e-5, atol=1e-8)
    value.sum().backward()
    right.sum().backward()
    assert ours.grad.dtype == dtype
    torch.testing.assert_close(ours.grad, theirs.grad.to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_makes_no_difference(dtype):
    loss, teacher = DistillationLoss(3.0), logits((6, 5), 2, dtype)
    inside, outside = (logits((6, 5), 1, dtype).requires_grad_() for _ in range(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(inside, teacher)
        value.backward()
    right = loss(outside, teacher)
    right.backward()
    assert torch.equal(value, right)
    assert torch.equal(inside.grad, outside.grad)


def test_targets_are_needed_for_hard_labels_alone():
    student, teacher = logits((6, 5), 1), logits((6, 5), 2)
    assert torch.equal(
        DistillationLoss(2.0)(student, teacher), DistillationLoss(2.0)(student, teacher, targets((6, 5)))
    )
    with pytest.raises(ValueError, match=r"^target: None \(must be given for kd_weight = 0.5, below 1\)$"):
        DistillationLoss(kd_weight=0.5)(student, teacher)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_without_targets_no_position_is_ignored_even_if_a_class_is(reduction):
    student, teacher = logits((6, 5), 1), logits((6, 5), 2)
    found = DistillationLoss(2.0, ignore_index=0, reduction=reduction)(student, teacher)
    assert torch.equal(found, DistillationLoss(2.0, reduction=reduction)(student, teacher))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", [(0, 5), (3, 5)])
def test_where_no_position_counts_the_result_is_that_of_cross_entropy(reduction, shape):
    target = torch.full(shape[:1], IGNORED)
    value = DistillationLoss(reduction=reduction)(logits(shape, 1), logits(shape, 2), target)
    right = F.cross_entropy(logits(shape), target, reduction=reduction)
    torch.testing.assert_close(value, right, equal_nan=True)


def test_no_gradient_reaches_the_teacher():
    teacher = logits((6, 5), 2).requires_grad_()
    DistillationLoss()(logits((6, 5), 1).requires_grad_(), teacher).backward()
    assert teacher.grad is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0.0}, r"temperature: 0.0 \(must be"),
        ({"kd_weight": 1.5}, r"kd_weight: 1.5 \(must be"),
        ({"label_smoothing": 1.0}, r"label_smoothing: 1.0 \(must be"),
        ({"reduction": "batchmean"}, r"reduction: 'batchmean' \(must be one of mean, sum, none\)"),
        ({"ignore_index": None}, r"^ignore_index: None \(must be an integer\)$"),
        ({"ignore_index": 1.5}, r"^ignore_index: 1.5 \(must be an integer\)$"),
    ],
)
def test_a_setting_out_of_range_is_named_when_the_loss_is_made(settings, message):
    with pytest.raises(ValueError, match=message):
        DistillationLoss(**settings)


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"^teacher_logits: shape \(6, 4\) \(must be \(6, 5\), as student_logits\)$"):
        DistillationLoss()(logits((6, 5)), logits((6, 4)))
    with pytest.raises(ValueError, match=r"^target: shape \(5,\) \(must be \(6,\)\)$"):
        DistillationLoss()(logits((6, 5)), logits((6, 5)), torch.zeros(5, dtype=torch.long))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[1.0, 2.0]], logits((1, 2))), r"^student_logits: list \(must be a tensor\)$"),
        ((logits((6, 5)), logits((6, 5)).numpy()), r"^teacher_logits: ndarray \(must be a tensor\)$"),
        ((logits((2, 5)), logits((2, 5)), [0, 1]), r"^target: list \(must be a tensor\)$"),
        ((logits(()), logits(())), r"^student_logits: shape \(\) \(must be of at least one class\)$"),
        ((logits((3, 0)), logits((3, 0))), r"^student_logits: shape \(3, 0\) \(must be of at least one class\)$"),
    ],
)
def test_what_is_no_logits_or_target_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        DistillationLoss()(*arguments)


def test_a_second_derivative_is_refused():
    student = logits((6, 5), 1).requires_grad_()
    value = DistillationLoss()(student, logits((6, 5), 2))
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(value, student, create_graph=True)


def test_the_settings_are_shown():
    assert "temperature=2.0, student_temperature=1.0" in repr(DistillationLoss(2.0, student_temperature=1.0))


@pytest.mark.slow
def test_a_compiled_training_step_gives_the_same_gradient():
    model, loss, teacher = torch.nn.Linear(4, 5), DistillationLoss(3.0), logits((6, 5), 2)
    images = logits((6, 4), 3)

    def step(images):
        return loss(model(images), teacher)

    step(images).backward()
    eager = model.weight.grad.clone()
    model.weight.grad = None
    torch.compile(step, backend="aot_eager")(images).backward()
    torch.testing.assert_close(model.weight.grad, eager)


@pytest.mark.slow
def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, lskd; print({'numpy', 'torch', 'msgspec'} & set(sys.modules)); lskd.DistillationLoss"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_a_temperature_that_is_changed_later_tempers_both():
    student, teacher = torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([[0.0, 2.0, 0.0]])
    loss = DistillationLoss(temperature=4.0)
    loss.temperature = 2.0
    assert loss(student, teacher) == DistillationLoss(temperature=2.0)(student, teacher)


def test_a_temperature_in_a_tensor_may_change_in_place():
    student, teacher = torch.randn(4, 5), torch.randn(4, 5)
    temperature = torch.tensor(4.0)
    for value in (4.0, 2.0):
        temperature.fill_(value)
        settings = {"target": torch.zeros(4, dtype=torch.long), "compiled": True}
        found = distillation_loss(student, teacher, temperature=temperature, **settings).loss
        assert found == distillation_loss(student, teacher, temperature=value, **settings).loss
    with pytest.raises(ValueError, match=r"temperature: tensor\(\[1., 2.\]\) \(must be a number from"):
        DistillationLoss(torch.tensor([1.0, 2.0]))
