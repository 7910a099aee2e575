import functools
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from lskd.loss import distillation
from lskd.loss.checks import HIGHEST_T, LOWEST_T, check_settings
from lskd.loss.distillation import ProjectedLogits, TopkLogits, distillation_loss
from lskd.loss.reference import reference_loss, teacher_distribution

TEMPERATURES = (1.0, 2.0, 3.0, 64.0)
STUDENTS = ("random, scale 3", "random, scale 30", "within .1 of its teacher")
HALF = (torch.bfloat16, torch.float16)
SAME_FORM = [HealthCheck.function_scoped_fixture]  # of all examples


@pytest.fixture(params=["chunks in float64", "fused in float32"], autouse=True)
def form(request, monkeypatch):
    """Both forms of the loss have to pass: the processor's, and the GPU's, which is run here without being compiled."""
    if request.param == "fused in float32":
        monkeypatch.setattr(torch, "compile", lambda function, **options: function)
        compiled = functools.partial(distillation.distillation_loss, compiled=True)
        monkeypatch.setitem(globals(), "distillation_loss", compiled)
    distillation._fused_rows.cache_clear()
    yield request.param
    distillation._fused_rows.cache_clear()


def reference(student, teachers, target, *, temperature=1.0, student_temperature=None, teacher_topk=0, **options):
    """The sums by the formulas as they are written, in float64, and ``gradient`` by autograd."""
    teachers = [teachers] if isinstance(teachers, torch.Tensor) else teachers
    p_t = teacher_distribution(teachers, temperature, teacher_topk)
    z = student.detach().double().requires_grad_()
    student_temperature = student_temperature or temperature
    sums = reference_loss(z, p_t, target, student_temperature=student_temperature, **options)
    (gradient,) = torch.autograd.grad(sums.loss, z)
    return SimpleNamespace(**{name: value.detach() for name, value in vars(sums).items()}, gradient=gradient)


def with_gradient(student, teachers, target, **options):
    """The sums, and the gradient of ``loss`` in float64."""
    leaf = student.detach().clone().requires_grad_()
    sums = distillation_loss(leaf, teachers, target, **options)
    sums.loss.backward()
    assert leaf.grad.dtype == student.dtype
    return sums, leaf.grad.double()


def relative_error(found, expected):
    return ((found.double() - expected).norm() / expected.norm()).item()


def make(kind="random, scale 3", rows=8, vocabulary=1000, seed=1):
    """Student, teacher and target."""
    generator = torch.Generator().manual_seed(seed)
    scale = 30.0 if kind == "random, scale 30" else 3.0
    teacher = scale * torch.randn(rows, vocabulary, generator=generator)
    if kind == "within .1 of its teacher":
        student = teacher + 0.2 * torch.rand(rows, vocabulary, generator=generator) - 0.1
    else:
        student = scale * torch.randn(rows, vocabulary, generator=generator)
    return student, teacher, torch.randint(vocabulary, (rows,), generator=generator)


def assert_matches(sums, gradient, expected):
    assert relative_error(gradient, expected.gradient) <= 1e-5
    for name in ("loss", "kd_loss", "hard_loss", "nll_loss", "teacher_entropy"):
        found = getattr(sums, name).item()
        assert found == pytest.approx(getattr(expected, name).item(), rel=1e-5, abs=1e-6), name
    assert sums.agreement.item() == expected.agreement


@pytest.mark.parametrize("kind", STUDENTS)
@pytest.mark.parametrize("vocabulary", [10, 1000, 10000])
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_float32_loss_and_gradient_are_those_of_float64(temperature, vocabulary, kind):
    student, teacher, target = make(kind, vocabulary=vocabulary)
    sums, gradient = with_gradient(student, teacher, target, temperature=temperature)
    expected = reference(student, teacher, target, temperature=temperature)
    assert relative_error(gradient, expected.gradient) <= 1e-5
    assert sums.kd_loss.item() == pytest.approx(expected.kd_loss.item(), rel=1e-4, abs=0)
    assert sums.loss.item() == pytest.approx(expected.loss.item(), rel=1e-4, abs=0)
    assert sums.nll_loss.item() == pytest.approx(expected.nll_loss.item(), rel=1e-5)
    assert sums.teacher_entropy.item() == pytest.approx(expected.teacher_entropy.item(), rel=1e-5)
    assert sums.agreement.item() == expected.agreement


def test_the_divergence_of_a_student_near_its_teacher_is_off_by_less_than_5e_6_on_average():
    errors = []
    for seed in range(40):
        student, teacher, target = make("within .1 of its teacher", rows=1, seed=seed)
        found = distillation_loss(student, teacher, target, temperature=64.0).kd_loss.item()
        errors.append(abs(found / reference(student, teacher, target, temperature=64.0).kd_loss.item() - 1))
    assert sum(errors) / 40 <= 5e-6


@pytest.mark.parametrize("options", [{}, {"student_temperature": 3.0}, {"teacher_topk": 1000}])
def test_rounding_leaves_no_divergence_below_zero(options):
    for seed in range(20):
        _, teacher, target = make(rows=1, seed=seed)
        student = 1.5 * teacher + 5 if "student_temperature" in options else teacher + 5
        sums = distillation_loss(student, teacher, target, temperature=2.0, **options)
        assert 0 <= sums.kd_loss.item() < 1e-5


@pytest.mark.parametrize("kind", STUDENTS)
@pytest.mark.parametrize("vocabulary", [10, 1000, 10000])
@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_half_precision_inputs_cost_nothing_but_the_rounding_of_the_gradient(dtype, temperature, vocabulary, kind):
    """The value is float64's of the rounded logits. The float32 gradient cannot be seen before it is rounded, so the
    returned one has to be the rounding of some number within 1e-5 (and 1e-7 of the row's largest) of float64's."""
    student, teacher, target = make(kind, vocabulary=vocabulary)
    student, teacher = student.to(dtype), teacher.to(dtype)
    sums, gradient = with_gradient(student, teacher, target, temperature=temperature)
    expected = reference(student, teacher, target, temperature=temperature)
    assert sums.loss.dtype == torch.float32
    assert sums.kd_loss.item() == pytest.approx(expected.kd_loss.item(), rel=1e-4, abs=0)
    assert sums.nll_loss.item() == pytest.approx(expected.nll_loss.item(), rel=1e-5)
    exact = expected.gradient
    slack = 1e-5 * exact.abs() + 1e-7 * exact.abs().amax(1, keepdim=True)
    assert ((exact - slack).to(dtype).double() <= gradient).all()
    assert (gradient <= (exact + slack).to(dtype).double()).all()
    _, before_rounding = with_gradient(student.float(), teacher, target, temperature=temperature)
    assert relative_error(before_rounding, exact) <= 1e-5


@pytest.mark.parametrize("factor", [1 / 1024, 65536 / 1000])
@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_half_precision_gradients_times_a_factor_are_rounded_once(dtype, factor):
    student, teacher, target = make(rows=4, vocabulary=1000)
    leaf = student.to(dtype).requires_grad_()
    (factor * distillation_loss(leaf, teacher, target).loss).backward()
    exact = factor * reference(student.to(dtype), teacher, target).gradient
    rounding = {torch.float16: 2**-11, torch.bfloat16: 2**-8}[dtype]
    smallest = 2**-25 if dtype == torch.float16 else 0
    assert ((leaf.grad.double() - exact).abs() <= (rounding + 1e-4) * exact.abs() + 1e-6 * factor + smallest).all()


def test_a_gradient_is_handed_over_once_so_that_it_need_not_be_copied():
    student, teacher, target = make(vocabulary=10)
    loss = distillation_loss(student.requires_grad_(), teacher, target).loss
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="backward was already called"):
        loss.backward()


def test_the_same_loss_computed_in_bfloat16_would_be_wrong_by_more_than_a_quarter():
    student, teacher, target = make("within .1 of its teacher", vocabulary=1000)
    student, teacher = student.bfloat16(), teacher.bfloat16()
    expected = reference(student, teacher, target, temperature=64.0).kd_loss.item()
    log_s, log_t = torch.log_softmax(student / 64, 1), torch.log_softmax(teacher / 64, 1)
    naive = 64**2 * (log_t.exp() * (log_t - log_s)).sum().item()
    assert abs(naive - expected) > 0.25 * expected


def test_a_scaled_loss_keeps_gradients_that_float16_alone_flushes_to_zero():
    student, teacher, target = make(rows=4, vocabulary=10000)
    student = student.half()
    plain, scaled = (student.clone().requires_grad_() for _ in range(2))
    (distillation_loss(plain, teacher, target).loss / 4).backward()
    (distillation_loss(scaled, teacher, target).loss / 4 * 65536).backward()
    expected = reference(student, teacher, target).gradient / 4
    flushed = (plain.grad == 0) & (expected.abs() > 1e-10)
    assert flushed.sum() > 1000
    assert (scaled.grad[flushed] != 0).all()
    kept = scaled.grad[flushed].double() / 65536
    assert relative_error(kept, expected[flushed]) < 1e-3


def test_the_gradient_is_scaled_with_whatever_the_loss_is_multiplied_by():
    student, teacher, target = make(vocabulary=50)
    _, gradient = with_gradient(student, teacher, target, temperature=2.0)
    leaf = student.clone().requires_grad_()
    (-3 * distillation_loss(leaf, teacher, target, temperature=2.0).loss).backward()
    assert torch.allclose(leaf.grad.double(), -3 * gradient, rtol=1e-6)


def test_double_precision_logits_get_a_double_precision_gradient():
    student, teacher, target = make(vocabulary=50)
    sums, gradient = with_gradient(student.double(), teacher.double(), target, temperature=2.0)
    assert_matches(sums, gradient, reference(student, teacher, target, temperature=2.0))


def test_student_and_teacher_may_have_different_dtypes():
    student, teacher, target = make(vocabulary=50)
    sums, gradient = with_gradient(student, teacher.bfloat16(), target, temperature=2.0)
    assert_matches(sums, gradient, reference(student, teacher.bfloat16(), target, temperature=2.0))


@pytest.mark.parametrize("student_temperature", [1.0, 2.0, 5.0])
@pytest.mark.parametrize("temperature", [1.0, 3.0, 64.0])
def test_a_student_temperature_of_its_own_is_the_one_whose_square_is_the_factor(temperature, student_temperature):
    student, teacher, target = make()
    options = {"temperature": temperature, "student_temperature": student_temperature}
    sums, gradient = with_gradient(student, teacher, target, **options)
    assert_matches(sums, gradient, reference(student, teacher, target, **options))


def test_tempering_the_teacher_only_leaves_the_loss_without_a_factor():
    student, teacher, target = make(vocabulary=50)
    sums = distillation_loss(student, teacher, target, temperature=4.0, student_temperature=1.0)
    soft = torch.softmax(teacher.double() / 4, 1)
    divergence = F.kl_div(torch.log_softmax(student.double(), 1), soft, reduction="sum")
    assert sums.kd_loss.item() == pytest.approx(divergence.item(), rel=1e-6)


def test_the_factor_keeps_the_gradient_of_the_same_size_at_high_temperatures():
    student, teacher, target = make(vocabulary=100)
    sizes = [with_gradient(student, teacher, target, temperature=T)[1].norm().item() for T in (64.0, 128.0)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.05)


@pytest.mark.parametrize("student_temperature", [None, 1.0])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 0.6])
@pytest.mark.parametrize("kd_weight", [0.0, 0.3, 0.9, 1.0])
def test_the_hard_term_is_weighed_against_the_soft_one(kd_weight, label_smoothing, student_temperature):
    student, teacher, target = make()
    options = {
        "temperature": 3.0,
        "student_temperature": student_temperature,
        "kd_weight": kd_weight,
        "label_smoothing": label_smoothing,
    }
    sums, gradient = with_gradient(student, teacher, target, **options)
    assert_matches(sums, gradient, reference(student, teacher, target, **options))


@pytest.mark.parametrize("kind", STUDENTS)
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_with_a_kd_weight_of_zero_the_loss_is_torchs_smoothed_cross_entropy(label_smoothing, kind):
    student, teacher, target = make(kind)
    options = {"temperature": 3.0, "kd_weight": 0.0, "label_smoothing": label_smoothing}
    sums, gradient = with_gradient(student, teacher, target, **options)
    leaf = student.double().requires_grad_()
    expected = F.cross_entropy(leaf, target, label_smoothing=label_smoothing, reduction="sum")
    expected.backward()
    assert sums.loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert sums.hard_loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert relative_error(gradient, leaf.grad) <= 1e-5


def test_fairseqs_label_smoothing_is_the_same_mixture_under_another_name():
    fairseq = pytest.importorskip("fairseq.criterions.label_smoothed_cross_entropy")
    student, teacher, target = make(vocabulary=20)
    epsilon = 0.1
    options = {"kd_weight": 0.0, "label_smoothing": epsilon * 20 / 19}
    sums, gradient = with_gradient(student, teacher, target, **options)
    leaf = student.double().requires_grad_()
    loss, nll = fairseq.label_smoothed_nll_loss(torch.log_softmax(leaf, 1), target, epsilon)
    loss.backward()
    assert sums.loss.item() == pytest.approx(loss.item(), rel=1e-6)
    assert sums.nll_loss.item() == pytest.approx(nll.item(), rel=1e-6)
    assert relative_error(gradient, leaf.grad) <= 1e-5


def test_nll_is_at_temperature_one_and_unsmoothed_whatever_the_settings():
    student, teacher, target = make()
    expected = F.cross_entropy(student.double(), target, reduction="sum").item()
    for options in (
        {"temperature": 64.0, "kd_weight": 0.5, "label_smoothing": 0.3},
        {"temperature": 2.0, "teacher_topk": 4},
        {"temperature": 2.0, "student_temperature": 1.0},
        {"temperature": 1.0, "student_temperature": 2.0},
    ):
        assert distillation_loss(student, teacher, target, **options).nll_loss.item() == pytest.approx(expected, 1e-6)


@pytest.mark.parametrize("kind", [STUDENTS[0], STUDENTS[2]])
@pytest.mark.parametrize("teachers", [1, 3])
@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("temperature", [1.0, 64.0])
def test_topk_renormalises_over_the_k_most_probable_symbols(temperature, k, teachers, kind):
    student, teacher, target = make(kind)
    # At scale 3: three teachers sure of three symbols make a tie at 1/3, and any of the three may be kept.
    several = [teacher, *(make(seed=seed)[1] for seed in range(2, teachers + 1))]
    options = {"temperature": temperature, "teacher_topk": k}
    sums, gradient = with_gradient(student, several, target, **options)
    assert_matches(sums, gradient, reference(student, several, target, **options))


def test_topk_of_the_recipes_example_is_almost_uniform_at_a_temperature_of_64():
    teacher = torch.tensor([[10.0, 6.0, 5.0, 4.0, 0.0, 0.0, 0.0, 0.0]])
    student = torch.zeros(1, 8)
    _, gradient = with_gradient(student, teacher, torch.tensor([0]), temperature=64.0, teacher_topk=4)
    target = 1 / 8 - gradient[0] / 64
    assert [round(p, 2) for p in target.tolist()] == [0.26, 0.25, 0.25, 0.24, 0.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("teachers", [1, 2])
def test_topk_of_the_whole_vocabulary_is_the_full_loss(teachers):
    student, teacher, target = make(vocabulary=200)
    several = [teacher, make(vocabulary=200, seed=2)[1]][:teachers]
    for temperature in TEMPERATURES:
        full, gradient = with_gradient(student, several, target, temperature=temperature)
        topk, topk_gradient = with_gradient(student, several, target, temperature=temperature, teacher_topk=200)
        # In nats a row and in probabilities: log p_t - log p_s has the rounding of log 200, however small it is.
        allowed = 8 * 1e-6 * temperature**2
        assert topk.kd_loss.item() == pytest.approx(full.kd_loss.item(), rel=1e-6, abs=allowed)
        assert topk.teacher_entropy.item() == pytest.approx(full.teacher_entropy.item(), rel=1e-6)
        assert (topk_gradient - gradient).abs().max().item() <= 1e-6 * temperature


@pytest.mark.parametrize("kind", STUDENTS[:2])
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_several_teachers_are_averaged_as_probabilities_after_tempering(temperature, kind):
    student, first, target = make(kind)
    teachers = [first, make(kind, seed=2)[1], make(kind, seed=3)[1]]
    sums, gradient = with_gradient(student, teachers, target, temperature=temperature)
    assert_matches(sums, gradient, reference(student, teachers, target, temperature=temperature))


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_two_identical_teachers_are_one(temperature):
    student, teacher, target = make()
    one, gradient = with_gradient(student, teacher, target, temperature=temperature)
    two, gradient_of_two = with_gradient(student, [teacher, teacher.clone()], target, temperature=temperature)
    assert two.kd_loss.item() == pytest.approx(one.kd_loss.item(), rel=1e-5)
    assert relative_error(gradient_of_two, gradient) <= 1e-5


@pytest.mark.parametrize("temperature", [1, 3, 64])
def test_a_student_near_several_teachers_that_are_near_each_other_keeps_its_digits(temperature):
    student, teacher, target = make("within .1 of its teacher", vocabulary=10000)
    teachers = [teacher, teacher + 0.01 * torch.randn(teacher.shape, generator=torch.Generator().manual_seed(2))]
    sums, gradient = with_gradient(student, teachers, target, temperature=temperature)
    assert_matches(sums, gradient, reference(student, teachers, target, temperature=temperature))


def test_a_sequence_of_one_teacher_is_that_teacher():
    student, teacher, target = make(vocabulary=50)
    one, gradient = with_gradient(student, teacher, target, temperature=2.0)
    sequence, gradient_of_sequence = with_gradient(student, (teacher,), target, temperature=2.0)
    assert torch.equal(one.loss, sequence.loss)
    assert torch.equal(gradient, gradient_of_sequence)


@pytest.mark.parametrize("teachers", [1, 2])
@pytest.mark.parametrize("k", [0, 4])
@pytest.mark.parametrize("elements", [1, 100, 730, 10**6])
def test_the_loss_is_the_same_whatever_the_chunks(monkeypatch, elements, k, teachers):
    student, teacher, target = make(rows=17, vocabulary=100)
    several = [teacher, make(rows=17, vocabulary=100, seed=2)[1]][:teachers]
    options = {"temperature": 2.0, "kd_weight": 0.7, "label_smoothing": 0.1, "teacher_topk": k}
    monkeypatch.setitem(distillation.CHUNK_ELEMENTS, "cpu", elements)
    sums, gradient = with_gradient(student, several, target, **options)
    assert_matches(sums, gradient, reference(student, several, target, **options))


def test_inputs_need_not_be_contiguous():
    student, teacher, target = make(rows=6, vocabulary=90)
    options = {"temperature": 2.0, "kd_weight": 0.7, "label_smoothing": 0.1}
    expected = reference(student, teacher, target, **options)
    wide = torch.stack([student, student + 1], 2).requires_grad_()
    assert not wide[:, :, 0].is_contiguous()
    sums = distillation_loss(wide[:, :, 0], teacher.t().contiguous().t(), target.repeat_interleave(2)[::2], **options)
    sums.loss.backward()
    assert_matches(sums, wide.grad[:, :, 0].double(), expected)
    assert not wide.grad[:, :, 1].any()


@pytest.mark.parametrize("options", [{}, {"student_temperature": 1.0}, {"teacher_topk": 3}])
@pytest.mark.parametrize("teachers", [1, 2])
def test_inputs_are_left_as_they_were(teachers, options):
    # Scale 30 takes the branch for a student far from its teacher, too.
    student, teacher, target = make("random, scale 30", vocabulary=50)
    for temperature in (1.0, 2.0):
        given_tensors = [student.clone(), target.clone(), *(teacher.clone() for _ in range(teachers))]
        leaf = given_tensors[0].requires_grad_()
        sums = distillation_loss(
            leaf,
            given_tensors[2:],
            given_tensors[1],
            temperature=temperature,
            kd_weight=0.5,
            label_smoothing=0.1,
            **options,
        )
        sums.loss.backward()
        before = [student, target, *[teacher] * teachers]
        assert all(torch.equal(was, now) for was, now in zip(before, given_tensors, strict=True))


@pytest.mark.parametrize("options", [{}, {"teacher_topk": 1}, {"student_temperature": 1.0, "kd_weight": 0.5}])
@pytest.mark.parametrize("vocabulary", [1, 10])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *HALF], ids=str)
def test_no_rows_give_a_loss_of_zero_and_an_empty_gradient(dtype, vocabulary, options):
    logits = torch.zeros(0, vocabulary, dtype=dtype)
    topk = TopkLogits(logits[:, :1], torch.zeros(0, 1, dtype=torch.long), torch.zeros(0))
    projected = ProjectedLogits(torch.zeros(0, 3, dtype=dtype), torch.zeros(vocabulary, 3, dtype=dtype))
    for teacher in (logits, [logits, logits], topk, projected):
        student = logits.clone().requires_grad_()
        sums = distillation_loss(student, teacher, torch.zeros(0, dtype=torch.long), temperature=2.0, **options)
        sums.loss.backward()
        assert [value.item() for value in vars(sums).values()] == [0.0] * 6
        assert student.grad.shape == (0, vocabulary)


class Largest(TorchDispatchMode):
    """Counts the tensors of at least ``size`` elements that are made, views of others left out."""

    def __init__(self, size):
        super().__init__()
        self.size, self.storages = size, set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for each in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(each, torch.Tensor) and each.untyped_storage().nbytes() >= 4 * self.size:
                self.storages.add(each.untyped_storage().data_ptr())
        return out


@pytest.mark.parametrize("elements", [200, 50])
def test_nothing_of_the_size_of_the_logits_is_made_but_the_gradient_and_not_even_that_without_one(
    monkeypatch, elements, form
):
    if form == "fused in float32":
        pytest.skip("only the compiler makes it so: scripts/bench_loss.py measures it")
    monkeypatch.setitem(distillation.CHUNK_ELEMENTS, "cpu", elements)
    monkeypatch.setattr(distillation, "WORKSPACES", threading.local())
    student, teacher, target = make(rows=32, vocabulary=100)
    leaf = student.clone().requires_grad_()
    inputs = {tensor.untyped_storage().data_ptr() for tensor in (leaf, teacher)}
    options = {"temperature": 2.0, "kd_weight": 0.5, "label_smoothing": 0.1}
    with Largest(1600) as made:
        sums = distillation_loss(leaf, teacher, target, **options)
    assert len(made.storages - inputs) == 1
    with Largest(1600) as made, torch.no_grad():
        without = distillation_loss(leaf, teacher, target, **options)
    assert made.storages <= inputs
    assert not without.loss.requires_grad
    assert all(torch.equal(a, b) for a, b in zip(vars(sums).values(), vars(without).values(), strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, *HALF], ids=str)
def test_the_gradient_may_take_the_place_of_the_logits(dtype):
    student, teacher, target = make(rows=20, vocabulary=300)
    student = student.to(dtype)
    _, expected = with_gradient(student, teacher, target, temperature=2.0)
    leaf = student.clone().requires_grad_()
    logits = leaf * 1.0
    place = logits.data_ptr()
    seen = []
    logits.register_hook(lambda gradient: seen.append(gradient.data_ptr()))
    distillation_loss(logits, teacher, target, temperature=2.0, overwrite=True).loss.backward()
    assert torch.equal(leaf.grad.double(), expected)
    assert seen == [place]


def test_logits_that_get_no_gradient_are_not_overwritten():
    student, teacher, target = make(vocabulary=10)
    before = student.clone()
    distillation_loss(student, teacher, target, overwrite=True)
    assert torch.equal(student, before)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("teachers", [1, 2])
def test_a_teachers_features_and_its_projection_are_as_good_as_its_logits(teachers, bias):
    student, _, target = make(rows=40, vocabulary=700)
    generator = torch.Generator().manual_seed(5)
    projected = [
        ProjectedLogits(
            torch.randn(40, 16, generator=generator),
            torch.randn(700, 16, generator=generator),
            torch.randn(700, generator=generator) if bias else None,
        )
        for _ in range(teachers)
    ]
    dense = [F.linear(each.features, each.weight, each.bias) for each in projected]
    for options in ({}, {"temperature": 64.0}, {"teacher_topk": 4}):
        sums, gradient = with_gradient(student, projected if teachers > 1 else projected[0], target, **options)
        expected, expected_gradient = with_gradient(student, dense, target, **options)
        assert relative_error(gradient, expected_gradient) < 1e-5
        assert sums.kd_loss.item() == pytest.approx(expected.kd_loss.item(), rel=1e-4)


def test_a_loss_in_inference_mode_leaves_nothing_that_training_could_not_use(monkeypatch):
    monkeypatch.setattr(distillation, "WORKSPACES", threading.local())
    student, teacher, target = make(vocabulary=10)
    with torch.inference_mode():
        distillation_loss(student, teacher, target)
    sums, gradient = with_gradient(student, teacher, target)
    assert_matches(sums, gradient, reference(student, teacher, target))


def test_threads_that_compute_at_once_do_not_disturb_each_other():
    problems = [make(rows=60, vocabulary=1000, seed=seed) for seed in range(4)]
    expected = [with_gradient(*problem, temperature=2.0)[1] for problem in problems]
    with ThreadPoolExecutor(4) as threads:
        for _ in range(5):
            found = threads.map(lambda problem: with_gradient(*problem, temperature=2.0)[1], problems)
            assert all(map(torch.equal, found, expected))


def test_a_student_that_needs_no_gradient_gives_a_loss_that_has_none():
    student, teacher, target = make(vocabulary=10)
    assert not distillation_loss(student, teacher, target).loss.requires_grad


def test_only_the_loss_carries_a_gradient_and_only_to_the_student():
    student, teacher, target = make(vocabulary=10)
    student.requires_grad_()
    teacher.requires_grad_()
    sums = distillation_loss(student, teacher, target, temperature=2.0, kd_weight=0.5)
    assert [name for name, value in vars(sums).items() if value.requires_grad] == ["loss"]
    sums.loss.backward()
    assert student.grad.any()
    assert teacher.grad is None


def test_the_loss_is_float32_and_the_sums_for_logging_are_float64_scalars():
    student, teacher, target = make(vocabulary=10)
    sums = distillation_loss(student, teacher, target)
    assert {name: value.dtype for name, value in vars(sums).items()} == {
        "loss": torch.float32,
        **dict.fromkeys(("kd_loss", "hard_loss", "nll_loss", "teacher_entropy", "agreement"), torch.float64),
    }
    assert all(value.shape == () for value in vars(sums).values())


def test_agreement_counts_the_rows_with_the_same_largest_logit():
    teacher = torch.tensor([[3.0, 0, 0], [0, 3.0, 0], [0, 0, 3.0], [3.0, 0, 0]])
    student = torch.tensor([[5.0, 1, 0], [0, 0.1, 0], [3.0, 0, 0], [0, 9.0, 0]])
    target = torch.tensor([2, 2, 2, 2])
    for options in ({}, {"teacher_topk": 1}, {"student_temperature": 1.0, "temperature": 64.0}):
        assert distillation_loss(student, teacher, target, **options).agreement.item() == 2
    assert distillation_loss(student, [teacher, teacher], target).agreement.item() == 2


@pytest.mark.parametrize("dtype", [torch.float32, *HALF], ids=str)
def test_a_student_that_is_its_teacher_agrees_with_it(dtype):
    teacher = make(rows=100, vocabulary=10000)[1].to(dtype)
    target = torch.zeros(100, dtype=torch.long)
    for temperature in (1.0, 64.0):
        assert distillation_loss(teacher, teacher, target, temperature=temperature).agreement.item() == 100


def test_a_student_that_is_its_teacher_agrees_with_it_where_bfloat16_logits_tie_and_the_top_k_are_kept():
    teacher = make(rows=100, vocabulary=10000)[1].bfloat16()
    target = torch.zeros(100, dtype=torch.long)
    assert distillation_loss(teacher, teacher, target, teacher_topk=4).agreement.item() == 100


def test_a_student_that_is_its_teacher_agrees_with_it_where_only_tempering_makes_logits_tie():
    teacher = torch.zeros(1, 1000)
    teacher[0, 5] = 10.0
    teacher[0, 900] = torch.nextafter(torch.tensor(10.0), torch.tensor(11.0))
    assert distillation_loss(teacher, teacher, torch.tensor([0]), temperature=64.0).agreement.item() == 1


@pytest.mark.parametrize("temperature", [1e-2, 1.0, 2.0, 64.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, *HALF], ids=str)
def test_a_student_that_is_its_teacher_has_no_loss_and_no_gradient(dtype, temperature):
    teacher = make("random, scale 30")[1].to(dtype)
    target = torch.zeros(8, dtype=torch.long)
    sums, gradient = with_gradient(teacher, teacher.clone(), target, temperature=temperature)
    assert sums.kd_loss.item() == 0
    assert not gradient.any()


@pytest.mark.parametrize("loss", ["kl", "standardised"])
def test_at_the_highest_temperature_the_loss_is_its_limit(loss):
    """T²·KL tends to ½·mean(Δz²), of centred logits or of z-scores; beyond, the rounding of KL decides."""
    generator = torch.Generator().manual_seed(2)
    student, teacher = (3 * torch.randn(16, 100, generator=generator) for _ in range(2))
    z_s, z_t = (each.double() - each.double().mean(1, keepdim=True) for each in (student, teacher))
    if loss == "standardised":
        z_s, z_t = (each / each.square().mean(1, keepdim=True).sqrt() for each in (z_s, z_t))
    expected = (z_s - z_t).square().mean(1).sum().item() / 2
    target = torch.arange(16)
    found = distillation_loss(student, teacher, target, temperature=HIGHEST_T, loss=loss)
    assert found.kd_loss.item() == pytest.approx(expected, rel=5e-4)  # 1e-6 in float64


def test_at_the_lowest_temperature_the_loss_is_the_gap_to_the_teachers_class():
    generator = torch.Generator().manual_seed(2)
    student, teacher = (3 * torch.randn(16, 100, generator=generator) for _ in range(2))
    gap = student.amax(1) - student.gather(1, teacher.argmax(1)[:, None])[:, 0]
    found = distillation_loss(student, teacher, torch.arange(16), temperature=LOWEST_T)
    assert found.kd_loss.item() == pytest.approx(LOWEST_T * gap.double().sum().item(), rel=1e-5)


@pytest.mark.parametrize("name", ["temperature", "student_temperature"])
@pytest.mark.parametrize("value", [1e9, 1.1e5, 9e-7, 0.0, -1.0, float("nan"), float("inf"), "3", None])
def test_a_temperature_at_which_digits_are_lost_is_refused(name, value):
    if value is None and name == "student_temperature":  # as the teacher's
        return
    with pytest.raises(ValueError, match=rf"^{name}: .* \(must be a number from 0\.000001 to 100000") as error:
        check_settings(**{name: value})
    assert ("T → ∞ is the loss mse" in str(error.value)) == (value in (1e9, 1.1e5, float("inf")))


EXTREMES = {
    "uniform": lambda generator, T: 2e4 * torch.rand(8, 100, generator=generator) - 1e4,
    "two levels": lambda generator, T: 1e4 * torch.randn(8, 100, generator=generator).sign(),
    "near 1e4": lambda generator, T: 1e4 + T * torch.randn(8, 100, generator=generator),
    "near -1e4": lambda generator, T: -1e4 + T * torch.randn(8, 100, generator=generator),
    "ordinary": lambda generator, T: 3 * torch.randn(8, 100, generator=generator),
    "one symbol": lambda generator, T: torch.full((8, 100), -1e4).index_fill_(1, torch.tensor([3]), 1e4),
    "another symbol": lambda generator, T: torch.full((8, 100), -1e4).index_fill_(1, torch.tensor([5]), 1e4),
}


@pytest.mark.parametrize("options", [{}, {"teacher_topk": 4}, {"student_temperature": 1.0}])
@pytest.mark.parametrize("temperature", [1e-2, 0.1, 1.0, 64.0, 1e4])
@pytest.mark.parametrize("teacher_kind", EXTREMES)
def test_extreme_logits_give_finite_losses_and_the_gradient_that_float32_allows(teacher_kind, temperature, options):
    """z/T of 1e6 has a spacing of .06 in float32, and that is how well a probability is then known: probabilities may
    be off by 1e-6 and by one rounding of the largest |z|/T or |z_s - z_t|/T, and the KL by that times the logits."""
    options = {"temperature": temperature, **options}
    student_temperature = options.get("student_temperature", temperature)
    for student_kind in EXTREMES:
        generator = torch.Generator().manual_seed(1)
        student = EXTREMES[student_kind](generator, temperature)
        teacher = EXTREMES[teacher_kind](generator, temperature)
        sums, gradient = with_gradient(student, teacher, torch.arange(8), **options)
        expected = reference(student, teacher, torch.arange(8), **options)
        assert all(value.isfinite() for value in vars(sums).values()), student_kind
        assert sums.kd_loss.item() >= 0, student_kind
        largest = max(each.abs().max().item() for each in (student, teacher, student - teacher))
        largest /= min(temperature, student_temperature)
        bound = 1e-6 + 2**-24 * largest
        error = (gradient - expected.gradient).abs().max().item() / student_temperature
        assert error <= bound, student_kind
        nats = 8 * bound * (1 + largest)
        divergence = expected.kd_loss.item()
        assert sums.kd_loss.item() == pytest.approx(divergence, rel=1e-5, abs=nats * student_temperature**2)


@pytest.mark.parametrize("gap", [0.0, 10.0, 19.0, 21.0, 60.0, 79.0, 79.7, 81.0, 88.0, 100.0, 1e4])
def test_a_large_vocabulary_that_the_student_prefers_to_the_teachers_only_symbol_overflows_nothing(gap):
    student, teacher = torch.zeros(2, 10000), torch.full((2, 10000), -200.0)
    student[:, 7], teacher[:, 7] = -gap, 0.0
    target = torch.tensor([7, 3])
    options = {"kd_weight": 0.5}
    sums, gradient = with_gradient(student, teacher, target, **options)
    assert_matches(sums, gradient, reference(student, teacher, target, **options))


@pytest.mark.parametrize("k", [0, 1])
def test_one_class_has_nothing_to_learn(k):
    student, teacher = torch.tensor([[3.0], [-4.0]]), torch.tensor([[0.5], [1e4]])
    target = torch.zeros(2, dtype=torch.long)
    options = {"temperature": 2.0, "kd_weight": 0.5, "label_smoothing": 0.1, "teacher_topk": k}
    sums, gradient = with_gradient(student, teacher, target, **options)
    assert [value.item() for value in vars(sums).values()] == [0.0, 0.0, 0.0, 0.0, 0.0, 2.0]
    assert not gradient.any()


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("shift", [10.0, 100.0])
def test_a_constant_added_to_a_rows_logits_changes_nothing_but_rounding(shift, temperature):
    # Multiples of 1/1024, so that the shifted logits are exact.
    student, teacher = ((1024 * logits).round() / 1024 for logits in make()[:2])
    target = make()[2]
    options = {"temperature": temperature, "kd_weight": 0.5, "label_smoothing": 0.1}
    expected = reference(student, teacher, target, **options)
    rows = torch.linspace(-1, 1, 8)[:, None].sign() * shift
    for sums, gradient in (
        with_gradient(student + rows, teacher, target, **options),
        with_gradient(student, teacher + rows, target, **options),
        with_gradient(student + rows, teacher - rows, target, **options),
    ):
        assert_matches(sums, gradient, expected)


@pytest.mark.parametrize("options", [{}, {"student_temperature": 2.0}, {"teacher_topk": 4}])
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_rows_of_the_gradient_sum_to_zero(temperature, options):
    student, teacher, target = make()
    options = {"temperature": temperature, **options}
    _, gradient = with_gradient(student, teacher, target, **options)
    assert gradient.sum(1).abs().max() <= 1e-6 * gradient.abs().sum(1).max()
    _, mixed = with_gradient(student, teacher, target, kd_weight=0.5, label_smoothing=0.1, **options)
    assert mixed.sum(1).abs().max() <= 1e-6 * mixed.abs().sum(1).max()


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)
def test_targets_may_be_of_either_integer_type(dtype):
    student, teacher, target = make(vocabulary=100)
    options = {"kd_weight": 0.5, "label_smoothing": 0.1}
    expected = reference(student, teacher, target, **options)
    sums, gradient = with_gradient(student, teacher, target.to(dtype), **options)
    assert_matches(sums, gradient, expected)


@st.composite
def problems(draw):
    rows, vocabulary = draw(st.integers(1, 7)), draw(st.integers(1, 40))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([0.1, 1.0, 5.0, 30.0]))
    teachers = [scale * torch.randn(rows, vocabulary, generator=generator) for _ in range(draw(st.integers(1, 3)))]
    distance = draw(st.sampled_from([0.01, 0.1, 1.0, 5.0, 30.0]))
    student = teachers[0] + distance * torch.randn(rows, vocabulary, generator=generator)
    target = torch.randint(vocabulary, (rows,), generator=generator)
    temperature = draw(st.one_of(st.just(1.0), st.floats(0.5, 64.0)))
    options = {
        "temperature": temperature,
        "student_temperature": draw(st.one_of(st.none(), st.just(1.0), st.floats(0.5, 64.0))),
        "kd_weight": draw(st.one_of(st.just(1.0), st.just(0.0), st.floats(0.0, 1.0))),
        "label_smoothing": draw(st.one_of(st.just(0.0), st.floats(0.0, 0.999))),
        "teacher_topk": draw(st.one_of(st.just(0), st.integers(1, vocabulary))),
    }
    return student, teachers, target, options, draw(st.sampled_from([1, 50, 10**6]))


def is_decided(teachers, options):
    """Whether float32 can tell which symbol is the teacher's best, and which are its k best."""
    p_t = torch.stack([torch.softmax(each.double() / options["temperature"], 1) for each in teachers]).mean(0)
    gaps = -p_t.log().sort(1, descending=True).values.diff()
    first_left_out = {1, options["teacher_topk"]} - {0, p_t.shape[1]}
    return all((gaps[:, k - 1] > 1e-4).all() for k in first_left_out)


def check_problem(problem):
    """Compare with the reference; return the error of the gradient in units of what is allowed."""
    student, teachers, target, options, elements = problem
    assume(is_decided(teachers, options))
    with mock.patch.dict(distillation.CHUNK_ELEMENTS, {"cpu": elements, "cpu compiled": elements}):
        sums, gradient = with_gradient(student, teachers, target, **options)
    expected = reference(student, teachers, target, **options)
    T, T_s = options["temperature"], options["student_temperature"] or options["temperature"]
    rows, beta = student.shape[0], options["kd_weight"]
    # What a float32 logit divided by a temperature can say about a probability.
    logits = max(each.abs().max().item() for each in (student, *teachers))
    soft = 1e-6 + 2**-23 * logits / min(T, T_s)
    hard = 1e-6 + 2**-23 * logits
    allowed = 1e-5 * expected.gradient.norm().item() + rows**0.5 * (beta * T_s * soft + (1 - beta) * hard)
    error = (gradient - expected.gradient).norm().item()
    assert error <= allowed
    assert sums.kd_loss.item() >= 0
    assert sums.kd_loss.item() == pytest.approx(expected.kd_loss.item(), rel=1e-5, abs=rows * T_s**2 * soft)
    assert sums.hard_loss.item() == pytest.approx(expected.hard_loss.item(), rel=1e-5, abs=rows * hard)
    assert sums.nll_loss.item() == pytest.approx(expected.nll_loss.item(), rel=1e-5, abs=rows * hard)
    assert sums.teacher_entropy.item() == pytest.approx(expected.teacher_entropy.item(), rel=1e-4, abs=rows * soft)
    mixture = (1 - beta) * sums.hard_loss.item() + beta * sums.kd_loss.item()
    assert sums.loss.item() == pytest.approx(mixture, rel=1e-6, abs=1e-12)
    assert sums.agreement.item() == expected.agreement
    assert gradient.sum(1).abs().max() <= rows**0.5 * (beta * T_s * soft + (1 - beta) * hard)
    return error / allowed


@settings(derandomize=True, deadline=None, max_examples=100, database=None, suppress_health_check=SAME_FORM)
@given(problems())
def test_any_settings_give_the_loss_and_gradient_of_float64(problem):
    check_problem(problem)


@st.composite
def single_teacher_problems(draw):
    vocabulary = draw(st.integers(2, 60))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    teacher = draw(st.sampled_from([0.1, 1.0, 5.0])) * torch.randn(4, vocabulary, generator=generator)
    distance = draw(st.sampled_from([0.001, 0.01, 0.1, 1.0, 5.0]))
    student = teacher + distance * torch.randn(4, vocabulary, generator=generator)
    return student, teacher, draw(st.floats(0.5, 64.0))


@settings(derandomize=True, deadline=None, max_examples=150, database=None, suppress_health_check=SAME_FORM)
@given(single_teacher_problems())
@example((*make("within .1 of its teacher", rows=4, vocabulary=10000)[:2], 64.0))
def test_one_teacher_at_one_temperature_keeps_its_relative_accuracy_however_near_the_student(problem):
    student, teacher, temperature = problem
    target = torch.zeros(4, dtype=torch.long)
    sums, gradient = with_gradient(student, teacher, target, temperature=temperature)
    expected = reference(student, teacher, target, temperature=temperature)
    assert relative_error(gradient, expected.gradient) <= 1e-5
    # Where all u are of size d, a row's KL is about d²/2 and expm1(u) - u has the rounding of d.
    divergence = expected.kd_loss.item()
    rounding = 2**-22 * temperature * (2 * divergence) ** 0.5
    assert sums.kd_loss.item() == pytest.approx(divergence, rel=1e-4, abs=rounding)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature: 0.0 "),
        ({"temperature": -1.0}, "temperature: -1.0 "),
        ({"temperature": float("nan")}, "temperature: nan "),
        ({"temperature": float("inf")}, "temperature: inf "),
        ({"student_temperature": 0.0}, "student_temperature: 0.0 "),
        ({"student_temperature": -2.0}, "student_temperature: -2.0 "),
        ({"student_temperature": float("nan")}, "student_temperature: nan "),
        ({"student_temperature": float("inf")}, "student_temperature: inf "),
        ({"kd_weight": -0.1}, "kd_weight: -0.1 "),
        ({"kd_weight": 1.1}, "kd_weight: 1.1 "),
        ({"kd_weight": float("nan")}, "kd_weight: nan "),
        ({"label_smoothing": -0.1}, "label_smoothing: -0.1 "),
        ({"label_smoothing": 1.0}, "label_smoothing: 1.0 "),
        ({"label_smoothing": float("nan")}, "label_smoothing: nan "),
        ({"temperature": "2"}, "temperature: '2' "),
        ({"temperature": None}, "temperature: None "),
        ({"kd_weight": "1"}, "kd_weight: '1' "),
        ({"label_smoothing": "0"}, "label_smoothing: '0' "),
        ({"teacher_topk": 1.5}, "teacher_topk: 1.5 "),
        ({"teacher_topk": True}, "teacher_topk: True "),
        ({"teacher_topk": -1}, "teacher_topk: -1 "),
        ({"teacher_topk": 11}, "teacher_topk: 11 (must be at most 10"),
    ],
)
def test_a_setting_out_of_range_is_named_with_its_value(options, message):
    student, teacher, target = make(vocabulary=10)
    with pytest.raises(ValueError, match=r"\(must be") as error:
        distillation_loss(student, teacher, target, **options)
    assert str(error.value).startswith(message)


def largest(indices):
    return TopkLogits(torch.zeros(2, 2), torch.tensor(indices))


@pytest.mark.parametrize(
    ("student", "teacher", "target", "message"),
    [
        (torch.zeros(2, 3), torch.zeros(2, 3), torch.tensor([0.0, 1.5]), "target: torch.float32 of shape (2,)"),
        (torch.zeros(2, 3), torch.zeros(2, 3), torch.tensor([False, True]), "target: torch.bool of shape (2,)"),
        (torch.zeros(2, 3), torch.zeros(2, 3), torch.tensor([0, 3]), "target: 3 (must be between 0 and 2)"),
        (torch.zeros(2, 3), torch.zeros(2, 3), torch.tensor([0, -100]), "target: -100 (must be between 0 and 2)"),
        (torch.zeros(2, 3), torch.zeros(2, 3), [0, 1], "target: list (must be a tensor)"),
        (torch.zeros(2, 3).numpy(), torch.zeros(2, 3), torch.tensor([0, 1]), "student_logits: ndarray"),
        (torch.zeros(2, 3).long(), torch.zeros(2, 3), torch.tensor([0, 1]), "student_logits: torch.int64 of shape"),
        (torch.zeros(2, 3), torch.zeros(2, 3).numpy(), torch.tensor([0, 1]), "teacher_logits: ndarray"),
        (torch.zeros(2, 3), torch.zeros(2, 3).long(), torch.tensor([0, 1]), "teacher_logits: torch.int64"),
        (torch.zeros(2, 0), torch.zeros(2, 0), torch.tensor([0, 1]), "student_logits: torch.float32 of shape (2, 0)"),
        (torch.zeros(2, 3), None, torch.tensor([0, 1]), "teacher_logits: NoneType"),
        (torch.zeros(2, 3), largest([[0, 3], [0, 1]]), torch.tensor([0, 1]), "teacher_logits: index 3 (must be"),
        (torch.zeros(2, 3), largest([[0, -1], [0, 1]]), torch.tensor([0, 1]), "teacher_logits: index -1 (must be"),
        (torch.zeros(2, 3), largest([[0.0, 1], [0, 1]]), torch.tensor([0, 1]), "teacher_logits: values and indices of"),
    ],
)
def test_what_is_no_tensor_or_no_class_is_named(student, teacher, target, message):
    with pytest.raises(ValueError, match=r"\(must be") as error:
        distillation_loss(student, teacher, target)
    assert str(error.value).startswith(message)


def test_shapes_that_do_not_fit_are_named():
    student, teacher, target = make(rows=3, vocabulary=10)
    for teachers, targets, message in (
        (teacher[:, :9], target, "teacher_logits: shape (3, 9) (must be (3, 10))"),
        (teacher[:2], target, "teacher_logits: shape (2, 10) (must be (3, 10))"),
        ([teacher, teacher[:, :9]], target, "teacher_logits: shape (3, 9) (must be (3, 10))"),
        (teacher, target[:2], "target: torch.int64 of shape (2,) (must be integers, (3,))"),
        (teacher, target[:, None], "target: torch.int64 of shape (3, 1) (must be integers, (3,))"),
    ):
        with pytest.raises(ValueError, match="must be") as error:
            distillation_loss(student, teachers, targets)
        assert str(error.value).startswith(message)


@pytest.mark.parametrize("shape", [(10,), (2, 3, 10)])
def test_logits_that_are_no_matrix_are_named(shape):
    with pytest.raises(ValueError, match=r"^student_logits: "):
        distillation_loss(torch.zeros(shape), torch.zeros(shape), torch.zeros(shape[:-1], dtype=torch.long))


def test_no_teacher_at_all_is_named():
    student, _, target = make(vocabulary=10)
    with pytest.raises(ValueError, match=r"^teacher_logits: "):
        distillation_loss(student, [], target)
