import copy
from statistics import NormalDist

import pytest
import timm
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.task import FeatureDistillationTask as TimmFeatureDistillationTask
from timm.task import LogitDistillationTask
from timm.task import TokenDistillationTask as TimmTokenDistillationTask
from torch import nn

from lskd.io.errors import InputError
from lskd_vision.feature_distillation import StudentWithConnectors, margins, teacher_batch_norms
from lskd_vision.loss_config import TaskLossConfig
from lskd_vision.pooled_features import check_width, with_projection
from lskd_vision.task import DistillationTask
from lskd_vision.task_kinds import (
    FeatureDistillationTask,
    OverhaulDistillationTask,
    TokenDistillationTask,
    train_both_heads,
)
from lskd_vision.task_losses import make_task_loss
from lskd_vision.teacher import Normalisation, Teacher, TeacherOutput

TEMPERATURES = (1.0, 2.0, 3.0, 64.0)
HALF = (torch.bfloat16, torch.float16)
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
GREY = {"mean": (0.449,), "std": (0.226,)}
CLASSES = 10
TARGET = torch.tensor([3, 0, 9, 3, 5, 1])


def make(name="test_resnet", seed=0, config=IMAGENET, channels=3, **options):
    """A model as after some training: nothing at its initial value, logits several units apart."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = timm.create_model(name, num_classes=CLASSES, in_chans=channels, **options)
        model.pretrained_cfg = dict(model.pretrained_cfg) | config
        with torch.no_grad():
            for module in model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    for tensor, low in ((module.weight, 0.5), (module.running_var, 0.5), (module.bias, -0.5)):
                        tensor.uniform_(low, low + 1)
            model.get_classifier().weight.normal_(std=0.5)
            model.get_classifier().bias.normal_()
    return model


def images(channels=3, size=64, seed=1):
    return torch.randn(len(TARGET), channels, size, size, generator=torch.Generator().manual_seed(seed))


def reference(logits, teacher_logits, *, temperature, student_temperature=None, kd_weight=1.0, label_smoothing=0.0):
    """The formulas as they are written, means over the images; in float64 where the logits are."""
    at = student_temperature or temperature
    p = torch.softmax(teacher_logits.double() / temperature, 1)
    kd = at**2 * (p * (p.log() - torch.log_softmax(logits / at, 1))).sum(1).mean()
    log_p = torch.log_softmax(logits, 1)
    smoothed = (1 - label_smoothing) * F.one_hot(TARGET, logits.shape[1]) + label_smoothing / logits.shape[1]
    hard = -(smoothed * log_p).sum(1).mean()
    # The gradient of each row's KL at the logits, at T and at 1.
    at_t, at_1 = (
        T_s**2 * (torch.softmax(logits / T_s, 1) - torch.softmax(teacher_logits.double() / T, 1)).square().sum(1).mean()
        for T, T_s in ((temperature, at), (1, 1))
    )
    return {
        "gradient_square": at_t,
        "gradient_square_t1": at_1,
        "loss": kd_weight * kd + (1 - kd_weight) * hard,
        "kd_loss": kd,
        "task_loss": hard,
        "nll_loss": -log_p[range(len(TARGET)), TARGET].mean(),
        "teacher_entropy": -(p * p.log()).sum(1).mean(),
        "teacher_agreement": 100 * (logits.argmax(1) == teacher_logits.argmax(1)).double().mean(),
    }


def test_no_images_are_a_loss_of_zero_with_a_gradient_of_zero():
    student = make().eval()
    task = DistillationTask(student, Teacher(make(seed=1)), temperature=3.0, kd_weight=0.5)
    result = task(images()[:0], TARGET[:0])
    result["loss"].backward()
    assert {name: value.item() for name, value in result.items() if name != "output"} == dict.fromkeys(
        ("gradient_square", "gradient_square_t1", "loss", "task_loss", "kd_loss", "nll_loss")
        + ("teacher_entropy", "teacher_agreement"),
        0.0,
    )
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in student.parameters())


def gradients(model):
    return torch.cat([parameter.grad.double().flatten() for parameter in model.parameters()])


def relative_error(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


# ---- the whole task against timm's, and against float64


@pytest.mark.parametrize("dtype", [torch.float32, *HALF])
@pytest.mark.parametrize("temperature", [1e-2, 1.0, 1e4])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_extreme_logits_and_temperatures_give_finite_figures_and_gradients(temperature, scale, dtype):
    generator = torch.Generator().manual_seed(0)
    given, taught = (scale * torch.randn(6, CLASSES, generator=generator).clamp(-1, 1) for _ in range(2))
    student = nn.Linear(CLASSES, CLASSES, bias=False)
    task = DistillationTask(student, temperature=temperature, normalisation=Normalisation(*2 * [torch.ones(1)]))
    logits = given.to(dtype).requires_grad_()
    result = task._losses(logits, TARGET, TeacherOutput(taught.to(dtype)))
    result["loss"].backward()
    assert all(value.isfinite().all() for value in result.values())
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("classes", [1, 200_000])
def test_one_class_and_very_many_are_distilled(classes):
    logits, taught = (torch.randn(3, classes, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    logits.requires_grad_()
    task = DistillationTask(nn.Identity(), temperature=3.0, normalisation=Normalisation(*2 * [torch.ones(1)]))
    result = task._losses(logits, torch.zeros(3, dtype=torch.long), TeacherOutput(taught))
    result["loss"].backward()
    assert result["loss"].isfinite()
    assert (result["loss"].item() == 0) == (classes == 1)
    assert torch.allclose(logits.grad.sum(1), torch.zeros(3), atol=1e-6)


# Student and teacher: name, configuration, channels. Where the configurations differ, one batch is two inputs.
PAIRS = {
    "same inputs": (("test_resnet", IMAGENET, 3), ("test_efficientnet_ln", IMAGENET, 3)),
    "teacher with .5, student with ImageNet's": (("test_resnet", IMAGENET, 3), ("test_vit", {}, 3)),
    "vision transformer as student": (("test_vit", {}, 3), ("test_resnet", IMAGENET, 3)),
    "one channel": (("test_resnet", GREY, 1), ("test_efficientnet_ln", {"mean": (0.5,), "std": (0.5,)}, 1)),
}


def pair(names):
    (student, teacher), made = PAIRS[names], []
    for seed, (name, config, channels) in enumerate((student, teacher)):
        size = {"img_size": 64} if "vit" in name else {}
        made.append(make(name, seed, config, channels, **size))
    return *made, images(student[2])


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("names", PAIRS)
def test_pure_distillation_is_timms_and_that_of_float64_up_to_rounding(names, temperature):
    student, teacher, batch = pair(names)
    others, exact = copy.deepcopy(student), copy.deepcopy(student).double()
    exact_teacher = copy.deepcopy(teacher).double().eval()
    timms = LogitDistillationTask(
        others,
        copy.deepcopy(teacher),
        criterion=nn.CrossEntropyLoss(),
        distill_loss_weight=1.0,
        task_loss_weight=0.0,
        temperature=temperature,
        verbose=False,
    )
    task = DistillationTask(student, Teacher(teacher), temperature=temperature)
    results = [each.train()(batch, TARGET) for each in (task, timms)]
    for result in results:
        result["loss"].backward()

    mean, std = (torch.tensor(student.pretrained_cfg[key]).double().view(1, -1, 1, 1) for key in ("mean", "std"))
    theirs = [torch.tensor(exact_teacher.pretrained_cfg[key]).double().view(1, -1, 1, 1) for key in ("mean", "std")]
    for_teacher = (batch.double() * std + mean - theirs[0]) / theirs[1]
    with torch.no_grad():
        teacher_logits = exact_teacher(for_teacher)
    expected = reference(exact.train()(batch.double()), teacher_logits, temperature=temperature)
    expected["loss"].backward()

    assert expected["loss"] > 1
    assert results[0]["loss"].item() == pytest.approx(expected["loss"].item(), rel=2e-5)
    assert relative_error(gradients(student), gradients(exact)) < 1e-4
    assert torch.equal(results[0]["output"], results[1]["output"])
    # timm's own rounding: at T = 64 it subtracts log probabilities of about 2 that differ by hundredths.
    assert results[1]["loss"].item() == pytest.approx(results[0]["loss"].item(), rel=1e-5 * temperature)
    assert relative_error(gradients(others), gradients(student)) < 1e-5 * max(10, temperature)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_with_hard_labels_beside_it_the_task_is_timms(temperature):
    student, teacher, batch = pair("teacher with .5, student with ImageNet's")
    others = copy.deepcopy(student)
    timms = LogitDistillationTask(
        others,
        copy.deepcopy(teacher),
        criterion=nn.CrossEntropyLoss(label_smoothing=0.1),
        task_loss_weight=0.3,
        temperature=temperature,
        verbose=False,
    )
    settings = {"temperature": temperature, "kd_weight": 0.7, "label_smoothing": 0.1}
    ours = DistillationTask(student, Teacher(teacher), **settings)
    results = [each.train()(batch, TARGET) for each in (ours, timms)]
    for result in results:
        result["loss"].backward()
    for name in ("loss", "task_loss", "kd_loss"):
        assert results[0][name].item() == pytest.approx(results[1][name].item(), rel=1e-5), name
    assert relative_error(gradients(student), gradients(others)) < 1e-5


# ---- half precision


class Logits(nn.Module):
    """A model whose logits are its only parameter, given in a precision of their own whatever the images are."""

    def __init__(self, logits, dtype):
        super().__init__()
        self.logits, self.dtype = nn.Parameter(logits.clone()), dtype
        self.num_classes, self.in_chans = logits.shape[1], 3
        self.pretrained_cfg = dict(IMAGENET)

    def forward(self, images):
        return self.logits.to(self.dtype)


def half_precision_logits(kind, classes, dtype, seed):
    """(128, K) of a student and its teacher that ``dtype`` holds exactly."""
    generator = torch.Generator().manual_seed(seed)
    teacher = (3 * torch.randn(128, classes, generator=generator)).to(dtype).float()
    if kind == "within .1 of its teacher":
        student = teacher + 0.2 * torch.rand(128, classes, generator=generator) - 0.1
    else:
        student = 3 * torch.randn(128, classes, generator=generator)
    return student.to(dtype).float(), teacher, torch.randint(classes, (128,), generator=generator)


@pytest.mark.parametrize("kind", ["random", "within .1 of its teacher"])
@pytest.mark.parametrize("classes", [10, 1000])
@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_logits_in_half_precision_cost_nothing_but_the_rounding_of_the_gradient(temperature, dtype, classes, kind):
    logits, teacher_logits, target = half_precision_logits(kind, classes, dtype, seed=0)
    exact = logits.double().requires_grad_()
    p = torch.softmax(teacher_logits.double() / temperature, 1)
    log_ratio = p.log() - torch.log_softmax(exact / temperature, 1)
    expected = temperature**2 * (p * log_ratio).sum(1).mean()
    expected.backward()

    student, teacher = Logits(logits, dtype), Teacher(Logits(teacher_logits, dtype))
    with torch.autocast("cpu", dtype):
        result = DistillationTask(student, teacher, temperature=temperature)(torch.zeros(128, 3, 8, 8), target)
    (2.0**16 * result["loss"]).backward()  # as float16 needs it, where trainings scale their loss
    assert result["output"].dtype == dtype
    for name in ("loss", "kd_loss"):
        assert result[name].item() == pytest.approx(expected.item(), rel=1e-5), name
    error = relative_error(student.logits.grad.double() / 2**16, exact.grad)
    assert error < (2.5e-3 if dtype == torch.bfloat16 else 3e-4)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize(("temperature", "kd_weight"), [(1.0, 1.0), (64.0, 0.7)])
def test_under_autocast_the_loss_is_exact_for_the_logits_that_models_give(temperature, kd_weight, dtype):
    student, teacher, batch = pair("teacher with .5, student with ImageNet's")
    teacher = Teacher(teacher)
    settings = {"temperature": temperature, "kd_weight": kd_weight, "label_smoothing": 0.1}
    task = DistillationTask(student, teacher, **settings).eval()  # a second forward gives the same
    with torch.autocast("cpu", dtype):
        outputs = teacher(batch, Normalisation.of(IMAGENET, torch.device("cpu")))
        result = task(batch, TARGET)
        logits = student(batch)
    assert torch.equal(result["output"], logits)
    assert logits.dtype == outputs.logits.dtype == dtype
    exact = logits.detach().double().requires_grad_()
    expected = reference(exact, outputs.logits, **settings)
    assert {name: value.item() for name, value in result.items() if name != "output"} == pytest.approx(
        {name: value.item() for name, value in expected.items()}, rel=1e-5
    )
    (gradient,) = torch.autograd.grad(expected["loss"], exact)
    (2.0**10 * result["loss"]).backward()
    found = gradients(student)
    student.zero_grad()
    logits.backward((2.0**10 * gradient).to(dtype))
    assert relative_error(found, gradients(student)) < 1e-3


# ---- what the task holds, and what it says


@pytest.fixture
def task():
    teacher = Teacher(make("test_resnet", seed=1, drop_rate=0.5))
    return DistillationTask(make(seed=0), teacher, temperature=2.0)


def test_the_teacher_is_no_part_of_the_task(task):
    student = task.trainable_module
    assert {id(module) for module in task.modules()} == {id(task), id(task.criterion), *map(id, student.modules())}
    assert {id(tensor) for tensor in task.parameters()} == {id(tensor) for tensor in student.parameters()}
    assert task.state_dict().keys() == {f"trainable_module.{name}" for name in student.state_dict()}
    state = task.get_checkpoint_state()
    assert state.keys() == {"state_dict"}
    assert state["state_dict"].keys() == student.state_dict().keys()
    task.setup_ema(decay=0.9)
    assert task.get_checkpoint_state(ema=True)["state_dict_ema"].keys() == student.state_dict().keys()


def test_training_leaves_the_teacher_frozen_and_in_eval_mode(task):
    teacher = task.teacher[0].model
    before = copy.deepcopy(teacher.state_dict())
    optimizer = torch.optim.SGD(task.parameters(), lr=0.1)
    task.train()
    for _ in range(2):
        task(images(), TARGET)["loss"].backward()
        optimizer.step()
    assert not any(module.training for module in teacher.modules())
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in teacher.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in teacher.state_dict().items())


@pytest.mark.parametrize("config", [IMAGENET, {"mean": (0.5,) * 3, "std": (0.5,) * 3}], ids=["same", "other"])
def test_a_teachers_output_that_is_handed_in_gives_exactly_what_the_task_would_have_asked_for(config):
    teacher = Teacher(make(seed=1, config=config))
    asked = DistillationTask(make(), teacher, temperature=2.0).train()
    given = DistillationTask(make(), temperature=2.0).train()
    output = teacher(images(), Normalisation.of(IMAGENET, torch.device("cpu")))
    results = [asked(images(), TARGET), given(images(), TARGET, output)]
    for result in results:
        result["loss"].backward()
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])
    assert torch.equal(gradients(asked), gradients(given))


def test_inputs_may_be_normalised_as_neither_configuration_says():
    teacher = make(seed=1, config={"mean": (0.5,) * 3, "std": (0.5,) * 3})
    ours = Normalisation.of({"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}, torch.device("cpu"))
    task = DistillationTask(make(), Teacher(teacher), temperature=2.0, normalisation=ours).eval()
    with torch.no_grad():
        expected = teacher(((images() * ours.std + ours.mean) - 0.5) / 0.5)
    found, handed_in = (task(images(), TARGET, output)["loss"].item() for output in (None, TeacherOutput(expected)))
    assert found == pytest.approx(handed_in, rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature: 0.0"),
        ({"temperature": -1.0}, "temperature: -1.0"),
        ({"temperature": float("inf")}, "temperature: inf"),
        ({"temperature": float("nan")}, "temperature: nan"),
        ({"student_temperature": 0.0}, "student_temperature: 0.0"),
        ({"student_temperature": -2.0}, "student_temperature: -2.0"),
        ({"kd_weight": -0.1}, "kd_weight: -0.1"),
        ({"kd_weight": 1.1}, "kd_weight: 1.1"),
        ({"label_smoothing": 1.0}, "label_smoothing: 1.0"),
        ({"label_smoothing": -0.1}, "label_smoothing: -0.1"),
    ],
)
def test_a_setting_out_of_range_is_refused_when_the_task_is_made(options, message):
    with pytest.raises(ValueError, match=rf"^{message} \("):
        DistillationTask(nn.Identity(), **options)


@given(
    temperature=st.floats(0.5, 64),
    student_temperature=st.none() | st.just(1.0) | st.floats(0.5, 64),
    kd_weight=st.floats(0, 1),
    label_smoothing=st.floats(0, 0.9),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_every_figure_is_that_of_float64_and_a_mean_over_the_images(seed, **settings):
    generator = torch.Generator().manual_seed(seed)
    logits, teacher_logits = (3 * torch.randn(len(TARGET), 7, generator=generator) for _ in range(2))
    target = TARGET % 7
    task = DistillationTask(Logits(logits, torch.float32), **settings)
    result = task(images(), target, TeacherOutput(teacher_logits))
    assert torch.equal(result.pop("output"), logits)
    result["loss"].backward()

    exact = logits.double().requires_grad_()
    rows = torch.arange(len(target))
    p = torch.softmax(teacher_logits.double() / settings["temperature"], 1)
    at = settings["temperature"] if settings["student_temperature"] is None else settings["student_temperature"]
    expected = {
        "kd_loss": at**2 * (p * (p.log() - torch.log_softmax(exact / at, 1))).sum(1).mean(),
        # The mixture with the uniform distribution: α/K for every class, the right one included.
        "task_loss": -(
            (1 - settings["label_smoothing"]) * torch.log_softmax(exact, 1)[rows, target]
            + settings["label_smoothing"] / 7 * torch.log_softmax(exact, 1).sum(1)
        ).mean(),
        "nll_loss": -torch.log_softmax(exact, 1)[rows, target].mean(),
        "teacher_entropy": -(p * p.log()).sum(1).mean(),
        "teacher_agreement": 100 * (exact.argmax(1) == teacher_logits.argmax(1)).double().mean(),
    }
    for name, T, T_s in (("gradient_square", settings["temperature"], at), ("gradient_square_t1", 1, 1)):
        of_row = torch.softmax(exact / T_s, 1) - torch.softmax(teacher_logits.double() / T, 1)
        expected[name] = T_s**2 * of_row.detach().square().sum() / len(target)
    expected["loss"] = settings["kd_weight"] * expected["kd_loss"] + (1 - settings["kd_weight"]) * expected["task_loss"]
    assert result.keys() == expected.keys()
    for name, value in expected.items():
        assert result[name].item() == pytest.approx(value.item(), rel=1e-4, abs=1e-6), name
        assert result[name].requires_grad == (name == "loss")
    expected["loss"].backward()
    assert (task.trainable_module.logits.grad - exact.grad).norm() <= 1e-4 * exact.grad.norm() + 1e-7


@pytest.mark.parametrize("bce", [False, True])
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("kd_weight", [1.0, 0.7, 0.0])
def test_mixed_labels_and_another_hard_label_loss_stand_beside_the_same_distillation(kd_weight, mixed, bce):
    if not mixed and not bce:
        return
    generator = torch.Generator().manual_seed(0)
    given, taught = (3 * torch.randn(6, CLASSES, generator=generator) for _ in range(2))
    target = 0.7 * F.one_hot(TARGET, CLASSES).float() + 0.3 * F.one_hot(TARGET.flip(0), CLASSES).float()
    task = DistillationTask(
        nn.Identity(),
        temperature=3.0,
        kd_weight=kd_weight,
        label_smoothing=0.1,
        criterion=make_task_loss(TaskLossConfig(bce_loss=bce), 0.1) if bce else None,
        normalisation=Normalisation(*2 * [torch.ones(1)]),
    )
    logits = given.clone().requires_grad_()
    result = task._losses(logits, target if mixed else TARGET, TeacherOutput(taught))
    result["loss"].backward()

    exact = given.double().requires_grad_()
    plain = reference(exact, taught, temperature=3.0)
    y = target.double() if mixed else F.one_hot(TARGET, CLASSES).double()
    y_smoothed, log_p = 0.9 * y + 0.1 / CLASSES, torch.log_softmax(exact, 1)
    hard = -(y_smoothed * log_p).sum(1).mean()
    if bce:
        hard = -(y_smoothed * F.logsigmoid(exact) + (1 - y_smoothed) * F.logsigmoid(-exact)).mean()
    loss = kd_weight * plain["kd_loss"] + (1 - kd_weight) * hard
    (gradient,) = torch.autograd.grad(loss, exact)
    expected = plain | {"loss": loss, "task_loss": hard, "nll_loss": -(y * log_p).sum(1).mean()}
    assert {name: value.item() for name, value in result.items() if name != "output"} == pytest.approx(
        {name: value.item() for name, value in expected.items()}, rel=1e-5
    )
    assert relative_error(logits.grad.double(), gradient) < 1e-5


@pytest.mark.parametrize("hard", [False, True])
def test_a_token_of_its_own_is_distilled_as_by_timms_task(hard):
    temperature = 1.0 if hard else 3.0
    student = timm.create_model("deit_tiny_distilled_patch16_224", img_size=64, depth=1, num_classes=CLASSES)
    with torch.no_grad():
        for head in (student.head, student.head_dist):
            head.weight.normal_(std=0.1)
    teacher = make(seed=1, config=student.pretrained_cfg)
    theirs = TimmTokenDistillationTask(
        student,
        teacher,
        nn.CrossEntropyLoss(label_smoothing=0.1),
        distill_type="hard" if hard else "soft",
        task_loss_weight=0.3,
        temperature=temperature,
        verbose=False,
    ).train()
    expected = theirs(images(), TARGET)
    expected["loss"].backward()
    gradient = torch.cat([parameter.grad.double().flatten() for parameter in student.parameters()])
    student.zero_grad()
    ours = TokenDistillationTask(
        student,
        Teacher(teacher),
        task_loss_weight=0.3,
        criterion=make_task_loss(TaskLossConfig(), 0.1),
        hard=hard,
        temperature=temperature,
    ).train()
    found = ours(images(), TARGET)
    found["loss"].backward()
    for name, other in (("loss", "loss"), ("task_loss", "task_loss"), ("kd_loss", "distill_loss")):
        assert found[name].item() == pytest.approx(expected[other].item(), rel=1e-5)
    assert relative_error(gradients(student), gradient) < 1e-4


def test_a_model_of_one_head_has_none_for_the_teacher():
    with pytest.raises(InputError, match=r"^--model: test_resnet \(must have a head for the teacher"):
        train_both_heads(make(), "test_resnet")


def test_decoupled_distillation_of_mixed_labels_is_refused():
    task = DistillationTask(nn.Identity(), loss="decoupled", normalisation=Normalisation(*2 * [torch.ones(1)]))
    with pytest.raises(ValueError, match="target: mixed labels"):
        task._losses(torch.zeros(2, 3), torch.full((2, 3), 1 / 3), TeacherOutput(torch.zeros(2, 3)))


@pytest.mark.parametrize("temperature", [2.0, 64.0])
def test_a_student_temperature_of_one_tempers_the_teacher_alone(temperature):
    student, teacher = make(), make(seed=1)
    task = DistillationTask(student, Teacher(teacher), temperature=temperature, student_temperature=1.0).eval()
    result = task(images(), TARGET)
    with torch.no_grad():
        soft = torch.softmax(teacher(images()).double() / temperature, 1)
        log_p = torch.log_softmax(student(images()).double(), 1)
    assert result["loss"].item() == pytest.approx((soft * (soft.log() - log_p)).sum(1).mean().item(), rel=1e-5)


def test_moving_averages_and_compiled_models_are_timms_own():
    student, teacher = make(), Teacher(make(seed=1))
    task = DistillationTask(student, teacher, temperature=2.0).train()
    plain = DistillationTask(copy.deepcopy(student), teacher, temperature=2.0).train()
    task.compile(backend="eager")
    task.setup_ema(decay=0.75)
    results = [each(images(), TARGET)["loss"] for each in (task, plain)]
    assert torch.equal(*results)
    with torch.no_grad():
        weight = student.get_classifier().weight
        before = weight.clone()
        weight += 1
    task.update_ema(step=2)
    state = task.get_checkpoint_state() | task.get_checkpoint_state(ema=True)
    assert state["state_dict"].keys() == state["state_dict_ema"].keys() == plain.trainable_module.state_dict().keys()
    name = next(name for name, tensor in state["state_dict"].items() if tensor.data_ptr() == weight.data_ptr())
    torch.testing.assert_close(state["state_dict_ema"][name], before + 0.25)


# ---- with features (Heo et al. 2019)


def make_overhaul(teacher_seed=1, batch_statistics=False, **settings):
    """A task whose student is the wider of two small ResNets, and its teacher's model."""
    model = make("test_resnet", teacher_seed, config={"mean": (0.5,) * 3, "std": (0.5,) * 3})
    teacher = Teacher(model, features=True, use_batch_statistics=batch_statistics)
    torch.manual_seed(2)
    student = StudentWithConnectors(make("resnet10t"), teacher.features.channels)
    margin = [margins(norm) for norm in teacher_batch_norms(model)]
    return OverhaulDistillationTask(student, teacher, margins=margin, **settings), model


def exact_features(model, batch):
    """Logits and the inputs of the last ReLU of each stage, by hooks on a copy in float64."""
    features = []

    def keep(module, inputs):
        features.append(inputs[0].clone())  # the ReLU overwrites it

    for stage in (model.layer1, model.layer2, model.layer3, model.layer4):
        last = stage[-1]
        getattr(last, "act3" if hasattr(last, "conv3") else "act2").register_forward_pre_hook(keep)
    return model(batch), features


def exact_margin(mean, deviation):
    normal = NormalDist()
    negative = normal.cdf(-mean / deviation)
    return mean - deviation * normal.pdf(mean / deviation) / negative if negative >= 1e-3 else -3 * deviation


@pytest.mark.parametrize("batch_statistics", [False, True])
def test_the_loss_with_features_is_that_of_a_plain_transcription_in_float64(batch_statistics):
    settings = {"temperature": 3.0, "kd_weight": 0.7, "label_smoothing": 0.1}
    task, teacher = make_overhaul(batch_statistics=batch_statistics, **settings)
    module = task.trainable_module
    exact, exact_teacher = (copy.deepcopy(each).double() for each in (module, teacher))
    buffers = copy.deepcopy(teacher.state_dict())
    result = task.train()(images(), TARGET)
    result["loss"].backward()
    assert all(torch.equal(buffers[name], tensor) for name, tensor in teacher.state_dict().items())

    mean, std = (torch.tensor(IMAGENET[key]).double().view(1, 3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        for_teacher = (images().double() * std + mean - 0.5) / 0.5
        teacher_logits, targets = exact_features(exact_teacher.train(batch_statistics), for_teacher)
    logits, features = exact_features(exact.student.train(), images().double())
    feature_loss = 0
    norms = [exact_teacher.get_submodule(f"layer{stage}")[-1] for stage in (1, 2, 3, 4)]
    norms = [block.bn3 if hasattr(block, "bn3") else block.bn2 for block in norms]
    for stage, (mine, theirs, norm, connector) in enumerate(
        zip(features, targets, norms, exact.connectors, strict=True)
    ):
        mine = connector(mine)
        channels = zip(norm.bias.tolist(), norm.weight.abs().tolist(), strict=True)
        margin = torch.tensor([exact_margin(*channel) for channel in channels]).double().view(1, -1, 1, 1)
        wanted = torch.maximum(theirs, margin)
        counted = (mine > wanted) | (wanted > 0)
        feature_loss = feature_loss + 2.0 ** (stage - 3) * ((mine - wanted) ** 2 * counted).sum() / len(TARGET)
    expected = reference(logits, teacher_logits, **settings)
    total = expected["loss"] + 1e-4 * feature_loss
    total.backward()

    assert 1e-4 * feature_loss > 0.02 * total  # so that a wrong one would be seen
    assert result["loss"].item() == pytest.approx(total.item(), rel=1e-5)
    assert result["feature_loss"].item() == pytest.approx(1e-4 * feature_loss.item(), rel=1e-5)
    for name in set(expected) - {"loss"}:
        assert result[name].item() == pytest.approx(expected[name].item(), rel=1e-5), name
    assert not result["feature_loss"].requires_grad
    assert relative_error(gradients(module.student), gradients(exact.student)) < 1e-4
    assert relative_error(gradients(module.connectors), gradients(exact.connectors)) < 1e-4


def test_features_that_are_handed_in_are_those_that_the_task_would_have_asked_for():
    task, _ = make_overhaul(temperature=2.0)
    task.eval()
    output = task.teacher[0](images(), Normalisation.of(IMAGENET, torch.device("cpu")))
    results = [task(images(), TARGET), task(images(), TARGET, output)]
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


def test_the_model_that_is_scored_and_saved_is_the_student_without_its_connectors():
    task, _ = make_overhaul(temperature=2.0)
    plain = timm.create_model("resnet10t", num_classes=CLASSES)
    expected = task.train()(images(), TARGET)["loss"].item()
    task.trainable_module.student.load_state_dict(make("resnet10t").state_dict())
    task.compile(backend="eager")
    task.setup_ema(decay=0.5)
    assert task(images(), TARGET)["loss"].item() == expected
    for ema in (False, True):
        model = task.get_eval_model(ema=ema)
        assert type(model) is type(plain)
        assert model.eval()(images()).shape == (len(TARGET), CLASSES)
        key = "state_dict_ema" if ema else "state_dict"
        assert task.get_checkpoint_state(ema=ema)[key].keys() == plain.state_dict().keys()


def test_without_a_moving_average_there_is_none_to_score_or_save():
    task, _ = make_overhaul()
    assert task.get_eval_model(ema=True) is None
    assert task.get_task_state(ema=True) == {}
    assert task.get_checkpoint_state(ema=True) == {}


@pytest.mark.parametrize("compiled", [False, True])
def test_connectors_come_back_from_a_checkpoint_apart_from_the_student(compiled):
    made = []
    for seed in (3, 4):
        task, _ = make_overhaul(temperature=2.0)
        with torch.no_grad():
            generator = torch.Generator().manual_seed(seed)
            for tensor in task.trainable_module.parameters():
                tensor.normal_(std=0.1, generator=generator)
        if compiled:
            task.compile(backend="eager")
        task.setup_ema(decay=0.5)
        with torch.no_grad():
            for tensor in task.trainable_module.parameters():
                tensor += 1
        task.update_ema(step=2)
        made.append(task)
    saved, other = made
    state = saved.get_checkpoint_state() | saved.get_checkpoint_state(ema=True)
    assert state.keys() == {"state_dict", "task_state", "state_dict_ema", "task_state_ema"}
    assert not any("connector" in name for name in state["state_dict"])
    weight = state["task_state"]["connectors"]["0.0.weight"]
    torch.testing.assert_close(state["task_state_ema"]["connectors"]["0.0.weight"], weight - 0.5)
    state = copy.deepcopy(state)
    other.load_checkpoint_state(state["state_dict"], state["task_state"])
    other.load_checkpoint_state(state["state_dict_ema"], state["task_state_ema"], ema=True)
    for ema in (False, True):
        first, second = (task.get_trainable_module(ema=ema).state_dict() for task in made)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_moving_average_is_of_the_student_and_of_its_connectors():
    task, _ = make_overhaul(temperature=2.0)
    module = task.trainable_module
    before = copy.deepcopy(module.state_dict())
    task.setup_ema(decay=0.75)
    with torch.no_grad():
        for tensor in module.parameters():
            tensor += 1
    task.update_ema(step=2)
    averaged = dict(task.get_trainable_module(ema=True).module.named_parameters())
    assert averaged.keys() == dict(module.named_parameters()).keys()
    for name, tensor in averaged.items():
        torch.testing.assert_close(tensor, before[name] + 0.25)


# ---- with the features before the last layer


def make_feature_task(student_name="resnet10t", teacher_name="test_resnet", **settings):
    """A task whose student has other widths than its teacher, and its teacher's model; loss of the labels: α = .1."""
    model = make(teacher_name, seed=1, config={"mean": (0.5,) * 3, "std": (0.5,) * 3})
    teacher = Teacher(model, pooled_features=True)
    torch.manual_seed(2)
    student = with_projection(make(student_name), student_name, teacher.feature_width)
    criterion = make_task_loss(TaskLossConfig(), 0.1)
    return FeatureDistillationTask(student, teacher, criterion=criterion, **{"task_loss_weight": 0.3} | settings), model


def pooled(model, batch):
    """The features of a ResNet and its logits, part by part."""
    hidden = model.maxpool(model.act1(model.bn1(model.conv1(batch))))
    for layer in (model.layer1, model.layer2, model.layer3, model.layer4):
        hidden = layer(hidden)
    features = hidden.mean((2, 3))
    return features, features @ model.fc.weight.T + model.fc.bias


@pytest.mark.parametrize("student_name", ["resnet10t", "test_resnet"], ids=["projected", "of one width"])
def test_the_loss_of_features_before_the_last_layer_is_that_of_the_formula_in_float64(student_name):
    task, teacher = make_feature_task(student_name)
    module = task.trainable_module
    exact, exact_teacher = (copy.deepcopy(each).double() for each in (module, teacher))
    result = task.train()(images(), TARGET)
    result["loss"].backward()

    mean, std = (torch.tensor(IMAGENET[key]).double().view(1, 3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        wanted, teacher_logits = pooled(exact_teacher.eval(), (images().double() * std + mean - 0.5) / 0.5)
    features, logits = pooled(exact.student.train(), images().double())
    if exact.projection is not None:
        features = features @ exact.projection.weight.T + exact.projection.bias
    error = ((features - wanted) ** 2).sum() / wanted.numel()
    expected = reference(logits, teacher_logits, temperature=1.0, kd_weight=0.0, label_smoothing=0.1)
    total = 0.7 * error + 0.3 * expected["task_loss"]
    total.backward()

    assert 0.7 * error > 0.02 * total  # so that a wrong one would be seen
    assert (exact.projection is None) == (student_name == "test_resnet")
    expected |= {"loss": total, "kd_loss": error}
    for name in set(expected) - {"gradient_square", "gradient_square_t1"}:
        assert result[name].item() == pytest.approx(expected[name].item(), rel=1e-5), name
    assert not {"gradient_square", "gradient_square_t1"} & result.keys()
    assert relative_error(gradients(module), gradients(exact)) < 1e-4


@pytest.mark.parametrize("student_name", ["test_efficientnet", "test_vit", "test_mambaout", "test_resnet"])
def test_features_before_the_last_layer_are_distilled_as_by_timms_task(student_name):
    student = timm.create_model(student_name, num_classes=CLASSES, img_size=64) if "vit" in student_name else None
    student = student or make(student_name)
    teacher = make(seed=1)
    torch.manual_seed(2)
    theirs = TimmFeatureDistillationTask(
        student, teacher, nn.CrossEntropyLoss(label_smoothing=0.1), task_loss_weight=0.3, verbose=False
    ).train()
    buffers = copy.deepcopy(student.state_dict())
    expected = theirs(images(), TARGET)
    expected["loss"].backward()
    parameters = {name: parameter.grad.double() for name, parameter in theirs.trainable_module.named_parameters()}
    student.zero_grad()
    student.load_state_dict(buffers)

    torch.manual_seed(2)
    ours = FeatureDistillationTask(
        with_projection(student, student_name, 96),
        Teacher(teacher, pooled_features=True),
        task_loss_weight=0.3,
        criterion=make_task_loss(TaskLossConfig(), 0.1),
        normalisation=Normalisation.of(student.pretrained_cfg, torch.device("cpu")),
    ).train()
    found = ours(images(), TARGET)
    found["loss"].backward()
    for name in ("loss", "task_loss", "kd_loss"):
        assert found[name].item() == pytest.approx(expected[name].item(), rel=1e-5), name
    own = {name: parameter.grad.double() for name, parameter in ours.trainable_module.named_parameters()}
    assert own.keys() == parameters.keys()
    for name in own:
        assert relative_error(own[name], parameters[name]) < 1e-4, name


def test_a_student_is_saved_apart_from_its_projection_and_both_come_back():
    made = []
    for seed in (3, 4):
        task, _ = make_feature_task()
        with torch.no_grad():
            generator = torch.Generator().manual_seed(seed)
            for tensor in task.trainable_module.parameters():
                tensor.normal_(std=0.1, generator=generator)
        task.compile(backend="eager")
        task.setup_ema(decay=0.5)
        with torch.no_grad():
            for tensor in task.trainable_module.parameters():
                tensor += 1
        task.update_ema(step=2)
        made.append(task)
    saved, other = made
    state = copy.deepcopy(saved.get_checkpoint_state() | saved.get_checkpoint_state(ema=True))
    for suffix in ("", "_ema"):
        assert state[f"state_dict{suffix}"].keys() == make("resnet10t").state_dict().keys()
    weight = state["task_state"]["projection"]["weight"]
    torch.testing.assert_close(state["task_state_ema"]["projection"]["weight"], weight - 0.5)
    other.load_checkpoint_state(state["state_dict"], state["task_state"])
    other.load_checkpoint_state(state["state_dict_ema"], state["task_state_ema"], ema=True)
    for ema in (False, True):
        first, second = (task.get_trainable_module(ema=ema).state_dict() for task in made)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_student_of_its_teachers_width_has_no_projection_to_save():
    task, _ = make_feature_task("test_resnet")
    assert task.get_checkpoint_state().keys() == {"state_dict"}
    with pytest.raises(KeyError):
        make_feature_task()[0].load_task_state({"connectors": {}})


@pytest.mark.parametrize("made", [make_feature_task, make_overhaul], ids=["projection", "connectors"])
def test_clipping_that_leaves_out_the_last_layer_leaves_out_the_students_own(made):
    task, _ = made()
    student = task.trainable_module.student
    everything, left = (list(map(id, task.get_clip_parameters(exclude_head=each))) for each in (False, True))
    assert sorted(everything) == sorted(map(id, task.trainable_module.parameters()))
    assert set(everything) - set(left) == {id(student.fc.weight), id(student.fc.bias)}


def test_a_model_without_features_before_its_last_layer_is_refused():
    with pytest.raises(InputError, match=r"^--model: net \(must be a model that gives its features before the last"):
        with_projection(nn.Linear(2, 2), "net", 96)
    model = make()
    model.head_hidden_size = 95
    with pytest.raises(InputError, match=r"^--model: net \(must give 95 features an image before .* feature: 96\)"):
        check_width(model, images(), "--model", "net")
