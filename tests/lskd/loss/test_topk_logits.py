import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lskd.loss.distillation import TopkLogits, distillation_loss


def make(rows=6, vocabulary=200, seed=1):
    """Student, teacher and target."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (3 * torch.randn(rows, vocabulary, generator=generator) for _ in range(2))
    return student, teacher, torch.randint(vocabulary, (rows,), generator=generator)


def largest(teacher, k, temperature=None, offset=0.0):
    """The k largest logits, less ``offset``, with the normaliser at a temperature where one is given."""
    values, indices = (teacher - offset).topk(k, 1)
    normaliser = None if temperature is None else torch.logsumexp((teacher.double() - offset) / temperature, 1).float()
    return TopkLogits(values, indices, normaliser)


def with_gradient(student, teacher, target, **options):
    leaf = student.clone().requires_grad_()
    sums = distillation_loss(leaf, teacher, target, **options)
    sums.loss.backward()
    return sums, leaf.grad.double()


def spread(teacher, k, temperature):
    """What the k largest logits and their normaliser say of the distribution, in float64, as it is defined."""
    p = torch.softmax(teacher.double() / temperature, 1)
    kept, indices = p.topk(k, 1)
    others = p.shape[1] - k
    rest = (1 - kept.sum(1, keepdim=True)) / others if others else torch.zeros_like(kept[:, :1])
    return rest.expand_as(p).scatter(1, indices, kept)


@pytest.mark.parametrize("options", [{}, {"student_temperature": 1.0}, {"kd_weight": 0.4, "label_smoothing": 0.1}])
@pytest.mark.parametrize("k", [1, 8, 200])
@pytest.mark.parametrize("temperature", [1.0, 3.0, 64.0])
def test_with_a_normaliser_the_k_keep_their_probabilities_and_the_others_share_the_rest(temperature, k, options):
    student, teacher, target = make()
    sums, gradient = with_gradient(
        student, largest(teacher, k, temperature, offset=5.0), target, temperature=temperature, **options
    )
    p_t, z = spread(teacher, k, temperature), student.double().requires_grad_()
    T_s, beta = options.get("student_temperature", temperature), options.get("kd_weight", 1.0)
    kd = T_s**2 * (torch.special.xlogy(p_t, p_t) - p_t * torch.log_softmax(z / T_s, 1)).sum()
    alpha = options.get("label_smoothing", 0.0)
    hard = torch.nn.functional.cross_entropy(z, target, reduction="sum", label_smoothing=alpha)
    (beta * kd + (1 - beta) * hard).backward()
    assert (gradient - z.grad).norm() <= 2e-5 * z.grad.norm()
    # In nats a row: log p_t - log p_s has the rounding of log 200, however small it is.
    assert sums.kd_loss.item() == pytest.approx(kd.item(), rel=1e-5, abs=6 * 1e-6 * T_s**2)
    assert sums.hard_loss.item() == pytest.approx(hard.item(), rel=1e-5)
    assert sums.teacher_entropy.item() == pytest.approx(-torch.special.xlogy(p_t, p_t).sum().item(), rel=1e-4)
    assert sums.agreement.item() == (student.argmax(1) == teacher.argmax(1)).sum().item()


@pytest.mark.parametrize("temperature", [1.0, 64.0])
def test_without_a_normaliser_they_are_what_teacher_topk_keeps_of_dense_logits(temperature):
    student, teacher, target = make()
    dense, dense_gradient = with_gradient(student, teacher, target, temperature=temperature, teacher_topk=4)
    for stored, options in ((largest(teacher, 4), {}), (largest(teacher, 16, temperature), {"teacher_topk": 4})):
        sums, gradient = with_gradient(student, stored, target, temperature=temperature, **options)
        assert torch.equal(gradient, dense_gradient)
        assert sums.kd_loss == dense.kd_loss


@pytest.mark.slow
@settings(derandomize=True, deadline=None, max_examples=100, database=None)
@given(st.integers(1, 30), st.integers(0, 29), st.floats(0.5, 64.0), st.integers(0, 2**31))
def test_all_symbols_with_their_normaliser_are_the_full_loss(vocabulary, fewer, temperature, seed):
    student, teacher, target = make(3, vocabulary, seed)
    full, full_gradient = with_gradient(student, teacher, target, temperature=temperature)
    stored = largest(teacher, vocabulary, temperature)
    sums, gradient = with_gradient(student, stored, target, temperature=temperature)
    assert torch.allclose(gradient, full_gradient, rtol=1e-4, atol=2e-6 * temperature)
    assert sums.kd_loss.item() == pytest.approx(full.kd_loss.item(), rel=1e-3, abs=1e-5 * temperature**2)
    fewer = max(1, vocabulary - fewer)
    part, gradient = with_gradient(student, largest(teacher, fewer, temperature), target, temperature=temperature)
    assert part.kd_loss.item() >= 0
    assert gradient.sum(1).abs().max() <= 1e-5 * temperature


def test_the_error_of_sharing_the_rest_evenly_is_far_below_that_of_leaving_it_out_at_a_high_temperature():
    student, teacher, target = make(vocabulary=1000)
    _, full = with_gradient(student, teacher, target, temperature=64.0)
    _, shared = with_gradient(student, largest(teacher, 8, 64.0), target, temperature=64.0)
    _, left_out = with_gradient(student, largest(teacher, 8), target, temperature=64.0)
    assert (shared - full).norm() < full.norm() < 5 * (left_out - full).norm()
    assert (left_out - full).norm() > 4 * (shared - full).norm()


@pytest.mark.parametrize(
    ("teacher", "options", "message"),
    [
        (TopkLogits(torch.zeros(3, 4), torch.zeros(3, 5, dtype=torch.long)), {}, "teacher_logits: indices of shape"),
        (TopkLogits(torch.zeros(2, 4), torch.zeros(2, 4, dtype=torch.long)), {}, "teacher_logits: values of shape"),
        (
            TopkLogits(torch.zeros(3, 4), torch.zeros(3, 4, dtype=torch.long), torch.zeros(3, 1)),
            {},
            "teacher_logits: log_normaliser of shape (3, 1)",
        ),
        (TopkLogits(torch.zeros(3, 11), torch.zeros(3, 11, dtype=torch.long)), {}, "teacher_logits: 11 largest"),
        (
            TopkLogits(torch.zeros(3, 4), torch.zeros(3, 4, dtype=torch.long)),
            {"teacher_topk": 5},
            "teacher_topk: 5 (must be at most 4",
        ),
    ],
)
def test_what_does_not_fit_is_named(teacher, options, message):
    student = torch.zeros(3, 10)
    with pytest.raises(ValueError, match=r"\(must be") as error:
        distillation_loss(student, teacher, torch.zeros(3, dtype=torch.long), **options)
    assert str(error.value).startswith(message)


SOFT_AND_HARD = {"temperature": 64.0, "kd_weight": 0.5, "label_smoothing": 0.1}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        (torch.float32, {}),
        (torch.float32, {"temperature": 2.0}),
        (torch.float32, SOFT_AND_HARD),
        (torch.bfloat16, SOFT_AND_HARD),
    ],
)
def test_the_compiled_loss_is_the_plain_one(dtype, options):
    student, teacher, target = make(rows=40, vocabulary=3000)
    student, teacher = student.to(dtype), teacher.to(dtype)
    plain, expected = with_gradient(student, teacher, target, **options)
    sums, gradient = with_gradient(student, teacher, target, compiled=True, **options)
    rounding = 1e-5 if dtype == torch.float32 else 2**-8
    assert (gradient - expected).norm() <= rounding * expected.norm()
    for name, value in vars(plain).items():
        assert getattr(sums, name).item() == pytest.approx(value.item(), rel=1e-5), name
