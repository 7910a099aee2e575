"""Logits of -inf, as of a masked vocabulary, and other values at the edge of what the loss is defined for."""

import functools
import math

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from lskd.loss import distillation
from lskd.loss.distillation import ProjectedLogits, TopkLogits, distillation_loss
from lskd.loss.reference import reference_loss, teacher_distribution

MASKED, NAN = -math.inf, math.nan
FORMS = ("chunks on a processor", "chunks on a GPU", "fused")
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


@pytest.fixture(params=FORMS, autouse=True)
def form(request, monkeypatch):
    """Every form of the loss has to pass; those of a GPU are run here, without being compiled."""
    loss = distillation_loss
    if request.param == "fused":
        monkeypatch.setattr(torch, "compile", lambda function, **options: function)
        loss = functools.partial(loss, compiled=True)
    elif request.param == "chunks on a GPU":
        monkeypatch.setitem(distillation.PRECISIONS, "cpu", [(torch.float32, True)] * 2)
    monkeypatch.setitem(globals(), "distillation_loss", loss)
    distillation._fused_rows.cache_clear()
    yield request.param
    distillation._fused_rows.cache_clear()


def compare(student, teachers, target, stored=None, p_t=None, temperature=1.0, teacher_topk=0, **options):
    """Compare with float64: infinities and NaN in the same places, numbers as near as float32 allows.

    ``stored`` is another form of the teachers' logits, and ``p_t`` the distribution that it stands for.
    """
    leaf = student.clone().requires_grad_()
    given_teachers = stored or (teachers if len(teachers) > 1 else teachers[0])
    found = distillation_loss(
        leaf, given_teachers, target, temperature=temperature, teacher_topk=teacher_topk, **options
    )
    found.loss.backward()
    z = student.to(torch.float64, copy=True).requires_grad_()
    p_t = teacher_distribution(teachers, temperature, teacher_topk) if p_t is None else p_t
    student_temperature = options.pop("student_temperature", None) or temperature
    expected = reference_loss(z, p_t, target, student_temperature=student_temperature, **options)
    (gradient,) = torch.autograd.grad(expected.loss, z)
    largest = max([each[each.isfinite()].abs().max().item() for each in (student, *teachers) if each.isfinite().any()])
    rounding = 1e-6 + 2**-22 * largest / min(temperature, student_temperature, 1)
    nats = 2 * len(student) * max(1, student_temperature**2) * rounding
    for name in ("kd_loss", "hard_loss", "nll_loss", "teacher_entropy", "loss"):
        value, exact = getattr(found, name).item(), getattr(expected, name).item()
        assert value == pytest.approx(exact, rel=2e-5, abs=nats, nan_ok=True), name
    assert found.agreement.item() == expected.agreement.item()
    half = {torch.float16: 2**-11, torch.bfloat16: 2**-8}.get(student.dtype, 0)
    allowed = half * gradient.abs() + max(1, student_temperature) * rounding + 2**-24
    assert leaf.grad.isnan().any(1).tolist() == gradient.isnan().any(1).tolist()
    assert not ((leaf.grad.double() - gradient).abs() > allowed).any()
    return found, leaf.grad


@st.composite
def logits(draw, rows, vocabulary, dtype, generator):
    """Ordinary ones, ties among them, with some symbols masked in some or all rows, and rarely a broken row."""
    values = draw(st.sampled_from([0.3, 3.0, 30.0])) * torch.randn(rows, vocabulary, generator=generator)
    if draw(st.booleans()):
        values = values.round()
    share = draw(st.sampled_from([0.0, 0.3, 0.9]))
    columns, cells = (torch.rand(shape, generator=generator) < share for shape in ((1, vocabulary), (rows, vocabulary)))
    values = values.masked_fill(columns if draw(st.booleans()) else cells, MASKED).to(dtype)
    if draw(st.integers(0, 9)) == 0:
        values[-1] = MASKED
    if draw(st.integers(0, 9)) == 0:
        values[-1, -1] = draw(st.sampled_from([NAN, math.inf]))
    return values


@st.composite
def problems(draw):
    rows, vocabulary, dtype = draw(st.integers(1, 4)), draw(st.integers(1, 12)), draw(st.sampled_from(DTYPES))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    student, *teachers = (
        draw(logits(rows, vocabulary, dtype, generator)) for _ in range(1 + draw(st.sampled_from([1, 1, 2, 3])))
    )
    if draw(st.booleans()):  # both mask the same
        student = student.masked_fill(teachers[0] == MASKED, MASKED)
    if draw(st.integers(0, 4)) == 0:
        student = teachers[0].clone()
    options = {
        "temperature": draw(st.sampled_from([1.0, 0.5, 3.0, 64.0])),
        "student_temperature": draw(st.sampled_from([None, None, 1.0, 2.0])),
        "kd_weight": draw(st.sampled_from([1.0, 1.0, 0.0, 0.4])),
        "label_smoothing": draw(st.sampled_from([0.0, 0.1])),
        "teacher_topk": draw(st.sampled_from([0, 0, 1, vocabulary // 2, vocabulary])),
    }
    return student, teachers, torch.randint(vocabulary, (rows,), generator=generator), options


def decided(teachers, temperature, teacher_topk, **others):
    """Whether it does not matter in which precision the best symbol and the k best are looked for."""
    if len(teachers) == 1 and not teacher_topk:
        return True
    p_t = teacher_distribution(teachers, temperature).nan_to_num(0)
    best = p_t.sort(1, descending=True).values
    kept = {1, teacher_topk} - {0, p_t.shape[1]}
    return all(((best[:, k - 1] > 1.0001 * best[:, k]) | (best[:, k - 1] == 0)).all() for k in kept)


@settings(
    derandomize=True,
    deadline=None,
    max_examples=100,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(problems())
def test_any_logits_give_the_loss_and_gradient_of_float64(problem):
    student, teachers, target, options = problem
    assume(any(each.isfinite().any() for each in (student, *teachers)))
    assume(decided(teachers, **options))
    compare(student, teachers, target, **options)


BOTH = torch.tensor([[1.0, 2.0, MASKED, 0.0, MASKED]]), torch.tensor([[0.0, 1.0, MASKED, 2.0, MASKED]])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("options", [{}, {"temperature": 64.0}, {"student_temperature": 3.0}, {"teacher_topk": 4}])
def test_a_symbol_that_both_mask_counts_for_nothing(options, dtype):
    student, teacher = (each.to(dtype) for each in BOTH)
    found, gradient = compare(student, [teacher], torch.tensor([1]), **options)
    without, gradient_without = compare(
        student[:, [0, 1, 3]], [teacher[:, [0, 1, 3]]], torch.tensor([1]), **options | {"teacher_topk": 0}
    )
    assert found.loss.item() == pytest.approx(without.loss.item(), rel=1e-6)
    assert found.teacher_entropy.item() == pytest.approx(without.teacher_entropy.item(), rel=1e-6)
    torch.testing.assert_close(gradient[:, [0, 1, 3]], gradient_without, rtol=1e-5, atol=1e-6)
    assert not gradient[:, [2, 4]].any()


@pytest.mark.parametrize("gap", [0.0, 50.0, 200.0, 700.0])
def test_a_symbol_that_the_student_alone_masks_makes_the_loss_infinite_and_leaves_the_gradient_a_number(gap, form):
    if form == "chunks on a GPU" and gap > 100:
        pytest.skip("several teachers on a GPU: what float32 cannot hold is a probability of 0")
    student, teacher = torch.tensor([[1.0, MASKED], [0.0, 1.0]]), torch.tensor([[0.0, -gap], [0.0, 0.0]])
    found, gradient = compare(student, [teacher], torch.tensor([0, 1]))
    assert found.loss.item() == math.inf
    assert gradient.isfinite().all()


def test_a_symbol_that_the_teacher_alone_masks_is_one_to_unlearn():
    found, gradient = compare(torch.zeros(1, 2), [torch.tensor([[0.0, MASKED]])], torch.tensor([0]))
    assert found.loss.item() == pytest.approx(math.log(2))
    assert gradient.tolist() == [[-0.5, 0.5]]


@pytest.mark.parametrize("row", [[MASKED] * 3, [0.0, NAN, 1.0], [0.0, math.inf, 1.0]])
@pytest.mark.parametrize("whose", ["student", "teacher", "both"])
@pytest.mark.parametrize("topk", [0, 2])
def test_a_row_without_a_distribution_is_nan_and_agrees_with_nothing_and_the_other_rows_keep_their_gradient(
    row, whose, topk
):
    ordinary, broken = torch.tensor([[1.0, 0.0, 2.0]] * 2), torch.tensor([[1.0, 0.0, 2.0], row])
    student, teacher = (broken if whose in (name, "both") else ordinary for name in ("student", "teacher"))
    found, gradient = compare(student, [teacher], torch.tensor([2, 2]), teacher_topk=topk)
    assert math.isnan(found.loss.item())
    assert found.agreement.item() == 1
    assert gradient[1].isnan().any()
    assert gradient[0].isfinite().all()


def test_a_term_of_weight_zero_is_left_out_even_where_it_is_infinite_or_nan():
    student, target = torch.tensor([[0.0, 1.0, MASKED]]), torch.tensor([2])
    found, _ = compare(student, [student.clone()], target, label_smoothing=0.1)
    assert found.hard_loss.item() == math.inf
    assert found.loss.item() == 0
    found, gradient = compare(student, [torch.full((1, 3), NAN)], torch.tensor([0]), kd_weight=0.0)
    assert math.isnan(found.kd_loss.item())
    assert found.loss.item() == pytest.approx(math.log1p(math.e))
    assert gradient.isfinite().all()


@pytest.mark.parametrize("huge", [1e4, 1e30])
@pytest.mark.parametrize("options", [{}, {"temperature": 3.0}, {"kd_weight": 0.5, "label_smoothing": 0.1}])
def test_huge_logits_next_to_masked_ones_give_what_float64_gives(huge, options):
    student = torch.tensor([[huge, 0.0, MASKED], [-huge, huge, huge], [0.0, 1.0, -huge]])
    teacher = torch.tensor([[0.0, huge, MASKED], [-huge, huge, huge], [0.0, 2.0, -huge]])
    options = {"temperature": 1.0, **options}
    leaf, z = student.clone().requires_grad_(), student.double().requires_grad_()
    target, T = torch.tensor([0, 1, 0]), options.pop("temperature")
    found = distillation_loss(leaf, teacher, target, temperature=T, **options)
    found.loss.backward()
    expected = reference_loss(z, teacher_distribution([teacher], T), target, student_temperature=T, **options)
    expected.loss.backward()
    for name, value in vars(found).items():
        assert value.item() == pytest.approx(getattr(expected, name).item(), rel=1e-6), name
    torch.testing.assert_close(leaf.grad.double(), z.grad, rtol=1e-5, atol=1e-6)


def test_logits_that_no_float32_can_hold_are_those_of_float64(form):
    if form != "chunks on a processor":
        pytest.skip("a GPU computes in float32")
    student, teacher = torch.tensor([[3e38, -3e38]]), torch.tensor([[-3e38, 3e38]])
    assert distillation_loss(student, teacher, torch.tensor([0])).kd_loss.item() == pytest.approx(6e38)


@pytest.mark.parametrize("masks", ["both", "teacher"])
@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
def test_the_k_largest_of_a_masked_teacher_are_as_good_as_all_its_logits(k, masks):
    student, teacher = BOTH
    student = student if masks == "both" else student.nan_to_num(neginf=0.5)
    values, indices = teacher.topk(k, 1)
    normaliser = torch.logsumexp(teacher.double(), 1)
    compare(student, [teacher], torch.tensor([1]), stored=TopkLogits(values, indices), teacher_topk=k)
    p = torch.softmax(teacher.double(), 1)
    kept = torch.zeros_like(p).scatter(1, indices, p.gather(1, indices))
    rest = ((1 - kept.sum(1)) / max(1, 5 - k)) if k < 3 else 0.0  # with three, all that is not masked
    p_t = torch.full_like(p, float(rest)).scatter(1, indices, kept.gather(1, indices))
    if k != 3 or masks == "teacher":  # of exactly those that are not masked, rounding leaves a rest
        compare(student, [teacher], torch.tensor([1]), stored=TopkLogits(values, indices, normaliser), p_t=p_t)


def test_a_masked_projection_is_as_good_as_masked_logits():
    generator = torch.Generator().manual_seed(5)
    features, weight = torch.randn(40, 4, generator=generator), torch.randn(700, 4, generator=generator)
    bias = torch.zeros(700).index_fill_(0, torch.arange(0, 700, 3), MASKED)
    teacher = torch.nn.functional.linear(features, weight, bias)
    student = torch.randn(40, 700, generator=generator).masked_fill(bias == MASKED, MASKED)
    for options in ({}, {"temperature": 64.0}, {"teacher_topk": 4}):
        projected = ProjectedLogits(features, weight, bias)
        found, _ = compare(student, [teacher], torch.full((40,), 1), stored=projected, **options)
        assert found.loss.isfinite()
