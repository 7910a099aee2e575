"""The losses beside the paper's, and the scale of the gradient."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from lskd import DistillationLoss
from lskd.loss import distillation, reference
from lskd.loss.checks import check_settings
from lskd.loss.distillation import ProjectedLogits, TopkLogits, distillation_loss
from lskd.loss.variants import variant_rows

VARIANTS = ("standardised", "mse", "decoupled", "wttm")
HALF = {torch.float16: 2**-11, torch.bfloat16: 2**-8}


def make(rows=6, classes=10, seed=1, distance=2.0):
    """Student, teacher and target."""
    generator = torch.Generator().manual_seed(seed)
    teacher = 3 * torch.randn(rows, classes, generator=generator)
    student = teacher + distance * torch.randn(rows, classes, generator=generator)
    return student, teacher, torch.randint(classes, (rows,), generator=generator)


def options_of(loss, temperature=2.0):
    return {"loss": loss} | ({} if loss == "mse" else {"temperature": temperature})


def reference_term(loss, z, teacher, target, temperature=1.0, student_temperature=None, nckd_weight=None):
    """(N,) the distillation term by its formula in float64."""
    at = student_temperature or temperature
    match loss:
        case "kl":
            log_p_s = torch.log_softmax(z.double() / at, 1)
            return at**2 * F.kl_div(log_p_s, torch.softmax(teacher.double() / temperature, 1), reduction="none").sum(1)
        case "standardised":
            return reference.standardised(z, teacher, temperature, at)
        case "mse":
            return reference.mse(z, teacher)
        case "decoupled":
            return reference.decoupled(z, teacher, target, temperature, at, 8.0 if nckd_weight is None else nckd_weight)
        case "wttm":
            return reference.wttm(z, teacher, temperature)


def exact(student, teacher, target, loss="kl", kd_weight=1.0, label_smoothing=0.0, **options):
    """Distillation term, loss and gradient in float64 by autograd."""
    z = student.detach().double().requires_grad_()
    kd = reference_term(loss, z, teacher, target, **options).sum()
    hard = F.cross_entropy(z, target, label_smoothing=label_smoothing, reduction="sum")
    total = kd_weight * kd + (1 - kd_weight) * hard
    (gradient,) = torch.autograd.grad(total, z)
    return kd.item(), total.item(), gradient


def run(student, teacher, target, **options):
    leaf = student.detach().clone().requires_grad_()
    sums = distillation_loss(leaf, teacher, target, **options)
    sums.loss.backward()
    return sums, leaf.grad.double()


def relative(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


@settings(derandomize=True, deadline=None, max_examples=50, database=None)
@given(
    loss=st.sampled_from(VARIANTS),
    classes=st.integers(2, 40),
    distance=st.sampled_from([0.01, 0.5, 5.0]),
    temperature=st.floats(0.5, 64.0),
    student_temperature=st.none() | st.floats(0.5, 64.0),
    nckd_weight=st.none() | st.floats(0.0, 10.0),
    kd_weight=st.just(1.0) | st.floats(0.05, 1.0),
    label_smoothing=st.just(0.0) | st.floats(0.0, 0.9),
    seed=st.integers(0, 999),
)
def test_any_settings_give_the_loss_and_gradient_of_float64(
    loss, classes, distance, temperature, student_temperature, nckd_weight, kd_weight, label_smoothing, seed
):
    problem = make(classes=classes, distance=distance, seed=seed)
    options = {} if loss == "mse" else {"temperature": temperature}
    options |= {"student_temperature": student_temperature} if loss in ("standardised", "decoupled") else {}
    options |= {"nckd_weight": nckd_weight} if loss == "decoupled" else {}
    options |= {"loss": loss, "kd_weight": kd_weight, "label_smoothing": label_smoothing}
    sums, gradient = run(*problem, **options)
    kd, total, expected = exact(*problem, **options)
    assert sums.kd_loss.item() == pytest.approx(kd, rel=1e-7, abs=1e-11)
    assert sums.loss.item() == pytest.approx(total, rel=1e-6, abs=1e-11)
    assert (gradient - expected).norm() <= 1e-6 * expected.norm() + 1e-11
    paper, _ = run(*problem, label_smoothing=label_smoothing)
    for name in ("hard_loss", "nll_loss", "agreement"):
        assert getattr(sums, name).item() == pytest.approx(getattr(paper, name).item(), rel=1e-5), name


@pytest.mark.parametrize("loss", VARIANTS)
def test_the_gradient_is_the_difference_quotient_of_the_value_in_double(loss):
    student, teacher, target = make(rows=2, classes=4)
    student = student.double()
    settings = check_settings(kd_weight=0.7, label_smoothing=0.1, **options_of(loss))

    def rows(z):
        terms, gradient = variant_rows(loss, z, [teacher], target, settings, with_gradient=True)
        return 0.7 * terms[0] + 0.3 * terms[1], gradient

    _, gradient = rows(student)
    for column in range(4):
        step = torch.zeros(2, 4, dtype=torch.float64)
        step[:, column] = 1e-5
        quotient = (rows(student + step)[0] - rows(student - step)[0]) / 2e-5
        torch.testing.assert_close(gradient[:, column], quotient, rtol=1e-7, atol=1e-9)


def test_mse_is_the_limit_of_kl_at_high_temperatures_also_of_several_teachers():
    student, teacher, target = make()
    teachers = [teacher, make(seed=2)[1]]
    for given_teachers in (teacher, teachers):
        limit, gradient = run(student, given_teachers, target, loss="mse")
        kl, of_kl = run(student.double(), given_teachers, target, temperature=1e5)
        assert limit.kd_loss.item() == pytest.approx(kl.kd_loss.item(), rel=1e-3)
        assert relative(of_kl, gradient) < 1e-3


def test_decoupled_with_kls_own_weight_is_kl_and_wttm_at_a_temperature_of_one_too():
    student, teacher, target = make(rows=1)
    weight = 1 - torch.softmax(teacher.double() / 3, 1)[0, target].item()
    kl, gradient = run(student, teacher, target, temperature=3.0)
    same, of_same = run(student, teacher, target, temperature=3.0, loss="decoupled", nckd_weight=weight)
    assert same.kd_loss.item() == pytest.approx(kl.kd_loss.item(), rel=1e-5)
    assert relative(of_same, gradient) < 1e-5
    wttm, kl = (run(student, teacher, target, loss=loss)[0].kd_loss.item() for loss in ("wttm", "kl"))
    assert wttm == pytest.approx(kl, rel=1e-5)


def test_standardised_does_not_see_the_scale_and_shift_of_either_side():
    student, teacher, target = make()
    expected, gradient = run(student.double(), teacher.double(), target, **options_of("standardised"))
    found, scaled = run(4 * student.double() - 7, 0.1 * teacher.double() + 3, target, **options_of("standardised"))
    assert found.kd_loss.item() == pytest.approx(expected.kd_loss.item(), rel=1e-9)
    assert relative(4 * scaled, gradient) < 1e-6
    assert (gradient * student).sum(1).abs().max() < 1e-6  # nothing is gained by a larger scale


def test_rows_of_equal_logits_have_no_z_scores_and_no_gradient():
    teacher = make()[1]
    sums, gradient = run(torch.full((6, 10), 0.1), teacher, make()[2], **options_of("standardised"))
    assert sums.kd_loss.isfinite()
    assert not gradient.any()


@pytest.mark.parametrize("loss", VARIANTS)
@pytest.mark.parametrize("elements", [1, 35, 10**6])
def test_chunks_projections_several_teachers_and_half_precision_change_nothing(monkeypatch, loss, elements):
    monkeypatch.setitem(distillation.CHUNK_ELEMENTS, "cpu", elements)
    student, _, target = make()
    generator = torch.Generator().manual_seed(3)
    projected = ProjectedLogits(torch.randn(6, 4, generator=generator), torch.randn(10, 4, generator=generator))
    teacher = F.linear(projected.features, projected.weight)
    options = options_of(loss) | {"kd_weight": 0.6, "label_smoothing": 0.1}
    _, total, expected = exact(student, teacher, target, **options)
    for teachers in (teacher, projected, *([[teacher, teacher.clone()]] if loss != "wttm" else [])):
        sums, gradient = run(student, teachers, target, **options)
        assert sums.loss.item() == pytest.approx(total, rel=1e-5)
        assert relative(gradient, expected) < 1e-5
    for dtype, rounding in HALF.items():
        rounded = student.to(dtype)
        leaf = rounded.clone().requires_grad_()
        (1024 * distillation_loss(leaf, teacher, target, overwrite=False, **options).loss).backward()
        expected = 1024 * exact(rounded, teacher, target, **options)[2]
        assert ((leaf.grad.double() - expected).abs() <= (rounding + 1e-6) * expected.abs() + 1e-5).all()


def test_masked_logits_count_for_nothing_where_a_loss_is_of_probabilities():
    student, teacher, target = make()
    target = target % 8
    for loss in ("decoupled", "wttm"):
        expected, _ = run(student[:, :8], teacher[:, :8], target, **options_of(loss))
        wide, theirs = (F.pad(each[:, :8], (0, 2), value=-math.inf) for each in (student, teacher))
        sums, gradient = run(wide, theirs, target, **options_of(loss))
        assert sums.kd_loss.item() == pytest.approx(expected.kd_loss.item(), rel=1e-6)
        assert not gradient[:, 8:].any()
    for loss in ("standardised", "mse"):
        assert run(wide, theirs, target, **options_of(loss))[0].loss.isnan()


def test_ignored_positions_count_for_nothing_and_images_of_logits_are_taken():
    logits, teacher = torch.randn(2, 5, 3), torch.randn(2, 5, 3)
    target = torch.tensor([[0, 1, -100], [4, 2, 2]])
    for loss in VARIANTS:
        each = DistillationLoss(**options_of(loss), reduction="none")(logits, teacher, target)
        kept = target.flatten() != -100
        rows = [x.movedim(1, -1).reshape(-1, 5)[kept] for x in (logits, teacher)]
        assert each[0, 2] == 0
        expected = reference_term(z=rows[0], teacher=rows[1], target=target.flatten()[kept], **options_of(loss))
        torch.testing.assert_close(each.flatten()[kept], expected.float())


# ---- the scale of the gradient


@pytest.mark.parametrize("loss", ["kl", "standardised", "decoupled"])
def test_without_the_factor_the_gradient_is_smaller_by_the_square_of_the_students_temperature(loss):
    problem = make()
    for options in ({"temperature": 4.0}, {"temperature": 4.0, "student_temperature": 2.0}):
        with_factor, gradient = run(*problem, loss=loss, **options)
        without, plain = run(*problem, loss=loss, gradient_scale="none", **options)
        square = options.get("student_temperature", 4.0) ** 2
        assert relative(square * plain, gradient) < 1e-6
        assert without.loss.item() == with_factor.loss.item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16], ids=str)
@pytest.mark.parametrize("loss", ["kl", *VARIANTS])
def test_match_has_the_norm_of_a_temperature_of_one_and_leaves_the_direction_and_the_value(loss, dtype):
    student, teacher, target = make(rows=9)
    student = student.to(dtype)
    options = options_of(loss, 16.0)
    sums, gradient = run(student, teacher, target, **options)
    _, at_one = run(student, teacher, target)
    matched_sums, matched = run(student, teacher, target, gradient_scale="match", **options)
    tolerance = 1e-3 if dtype == torch.float16 else 1e-6
    assert matched.norm().item() == pytest.approx(at_one.norm().item(), rel=tolerance)
    assert F.cosine_similarity(matched.flatten(), gradient.flatten(), 0).item() == pytest.approx(1, abs=tolerance)
    assert matched_sums.loss.item() == sums.loss.item()
    assert (matched_sums.gradient_square / matched_sums.gradient_square_t1).item() == pytest.approx(1)


def test_match_scales_the_distillation_term_and_leaves_the_hard_loss_as_it_is():
    problem = make()
    _, soft = run(*problem, temperature=8.0, gradient_scale="match")
    _, hard = run(*problem, kd_weight=0.0, label_smoothing=0.1)
    _, both = run(*problem, temperature=8.0, kd_weight=0.3, label_smoothing=0.1, gradient_scale="match")
    assert relative(both, 0.3 * soft + 0.7 * hard) < 1e-5


def test_match_of_a_student_that_is_its_teacher_is_no_gradient():
    teacher, target = make()[1:]
    assert not run(teacher, teacher.clone(), target, temperature=3.0, gradient_scale="match")[1].any()


@pytest.mark.parametrize("loss", ["kl", "decoupled"])
def test_match_of_processes_that_share_a_batch_is_that_of_the_whole_batch(loss):
    student, teacher, target = make()
    options = options_of(loss, 8.0) | {"gradient_scale": "match"}
    (first, second), asked = (slice(4), slice(4, 6)), []
    for part in (first, second):  # what each process hands over, and gets back
        run(student[part], teacher[part], target[part], all_reduce=lambda own: asked.append(own.clone()), **options)
    together = asked[0] + asked[1]
    halves = [
        run(student[part], teacher[part], target[part], all_reduce=lambda own: own.copy_(together), **options)
        for part in (first, second)
    ]
    sums, whole = run(student, teacher, target, **options)
    assert relative(torch.cat([gradient for _, gradient in halves]), whole) < 1e-6
    for name in ("gradient_square", "gradient_square_t1"):
        assert sum(getattr(half, name) for half, _ in halves).item() == pytest.approx(getattr(sums, name).item())
    assert not asked[2:]


def test_processes_are_asked_once_a_batch_also_by_one_without_rows_and_not_without_a_gradient():
    asked = []
    options = {"temperature": 8.0, "gradient_scale": "match", "all_reduce": asked.append}
    run(torch.zeros(0, 5), torch.zeros(0, 5), torch.zeros(0, dtype=torch.int64), **options)
    assert [each.tolist() for each in asked] == [[0.0, 0.0]]
    student, teacher, target = make()
    distillation_loss(student, teacher, target, **options)
    run(student, teacher, target, **(options | {"gradient_scale": "t2"}))
    assert len(asked) == 1


def test_match_is_of_each_call_so_two_accumulated_batches_have_two_norms():
    student, teacher, target = make()
    halves = [
        run(student[part], teacher[part], target[part], temperature=8.0, gradient_scale="match")[1]
        for part in (slice(3), slice(3, 6))
    ]
    for part, half in zip((slice(3), slice(3, 6)), halves, strict=True):
        assert half.norm().item() == pytest.approx(
            run(student[part], teacher[part], target[part])[1].norm().item(), rel=1e-5
        )


@pytest.mark.parametrize("scale", ["t2", "none", "match"])
def test_the_fused_form_scales_the_gradient_alike(monkeypatch, scale):
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    distillation._fused_rows.cache_clear()
    options = {"temperature": 4.0, "kd_weight": 0.4, "gradient_scale": scale}
    fused = run(*make(), compiled=True, **options)[1]
    distillation._fused_rows.cache_clear()
    assert relative(fused, run(*make(), **options)[1]) < 1e-5


@pytest.mark.parametrize(
    "options", [{"temperature": 3.0}, {"temperature": 3.0, "gradient_scale": "none"}, options_of("decoupled")]
)
def test_the_measured_norms_are_those_of_the_gradient_and_of_a_temperature_of_one(options):
    problem = make()
    sums, gradient = run(*problem, measure_gradient=True, **options)
    _, at_one = run(*problem)
    assert sums.gradient_square.item() == pytest.approx(gradient.square().sum().item(), rel=1e-5)
    assert sums.gradient_square_t1.item() == pytest.approx(at_one.square().sum().item(), rel=1e-5)


def test_of_many_rows_the_norms_are_estimated_from_some(monkeypatch):
    monkeypatch.setattr(distillation, "MEASURED_ELEMENTS", 100)
    student, teacher, target = make(rows=4000)
    some, _ = run(student, teacher, target, temperature=3.0, measure_gradient=True)
    _, gradient = run(student, teacher, target, temperature=3.0)
    assert some.gradient_square.item() != pytest.approx(gradient.square().sum().item(), rel=1e-6)
    assert some.gradient_square.item() == pytest.approx(gradient.square().sum().item(), rel=0.5)


# ---- what is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "l2"}, "loss: 'l2' (must be one of kl, standardised, mse, decoupled, wttm)"),
        ({"gradient_scale": "T2"}, "gradient_scale: 'T2' (must be one of t2, none, match)"),
        ({"loss": "mse", "temperature": 3.0}, "temperature: 3.0 (must be 1: the loss mse"),
        ({"loss": "mse", "student_temperature": 2.0}, "student_temperature: 2.0 (must be 1: the loss mse"),
        ({"loss": "wttm", "temperature": 3.0, "student_temperature": 3.0}, "student_temperature: 3.0 (must be 1"),
        ({"loss": "mse", "gradient_scale": "none"}, "gradient_scale: 'none' (must be t2 or match: the loss mse"),
        ({"loss": "wttm", "gradient_scale": "none"}, "gradient_scale: 'none' (must be t2 or match: the loss wttm"),
        ({"loss": "decoupled", "kd_weight": 0.0}, "kd_weight: 0.0 (must be above 0: the loss decoupled"),
        ({"gradient_scale": "match", "kd_weight": 0.0}, "kd_weight: 0.0 (must be above 0: the gradient scale match"),
        ({"loss": "decoupled", "nckd_weight": -1.0}, "nckd_weight: -1.0 (must be a finite number, 0 or more)"),
        ({"nckd_weight": 8.0}, "nckd_weight: 8.0 (must be left out: the loss kl"),
        ({"loss": "mse", "teacher_topk": 4}, "teacher_topk: 4 (must be 0: the loss mse needs all logits"),
        ({"gradient_scale": "match", "teacher_topk": 4}, "teacher_topk: 4 (must be 0: the gradient scale match"),
    ],
)
def test_a_combination_that_makes_no_sense_is_refused_in_one_line(options, message):
    with pytest.raises(ValueError, match=r"\(must be") as error:
        distillation_loss(*make(), **options)
    assert str(error.value).startswith(message)
    if "teacher_topk" not in options:
        with pytest.raises(ValueError, match=r"\(must be") as error:
            DistillationLoss(**options)
        assert str(error.value).startswith(message)


def test_a_teacher_that_a_loss_cannot_use_is_refused_in_one_line():
    student, teacher, target = make()
    largest = TopkLogits(*teacher.topk(4, 1))
    for given_teacher, options, message in (
        (largest, options_of("wttm"), "teacher_logits: the 4 largest (must be all: the loss wttm needs them)"),
        (largest, {"gradient_scale": "match"}, "teacher_logits: the 4 largest (must be all: the gradient scale match"),
        ([teacher, teacher], options_of("wttm"), "teacher_logits: of 2 teachers (must be of one"),
    ):
        with pytest.raises(ValueError, match=r"\(must be") as error:
            distillation_loss(student, given_teacher, target, **options)
        assert str(error.value).startswith(message)
    with pytest.raises(ValueError, match="1 class"):
        distillation_loss(student[:, :1], teacher[:, :1], torch.zeros_like(target), loss="decoupled")
    with pytest.raises(ValueError, match=r"target: None \(must be given for the loss decoupled"):
        DistillationLoss(loss="decoupled")(student, teacher)
