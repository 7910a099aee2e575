import copy
import gc
import weakref
from statistics import NormalDist

import numpy as np
import pytest
import timm
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from timm.optim import create_optimizer_v2
from timm.utils import ModelEmaV3
from torch import nn

from lskd.io.errors import InputError
from lskd_vision.feature_distillation import (
    FEATURE_WEIGHT,
    Connectors,
    PreReluFeatures,
    StudentWithConnectors,
    batch_statistics,
    feature_loss,
    margins,
    partial_l2,
    teacher_batch_norms,
)

# Basic blocks, bottlenecks, and stages of both; resnet26t is the smallest of bottlenecks alone.
MODELS = ("resnet10t", "resnet26t", "test_resnet")


def model(name="test_resnet", seed=0, **options):
    """A model whose batch norms are not at their initial values, of which some would make every branch zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        resnet = timm.create_model(name, num_classes=7, **options)
    with torch.no_grad():
        for module in resnet.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.uniform_(-0.5, 0.5, generator=generator)
                module.running_mean.uniform_(-0.2, 0.2, generator=generator)
                module.running_var.uniform_(0.5, 1.5, generator=generator)
    return resnet


def images(number=3, size=64, seed=1):
    return torch.randn(number, 3, size, size, generator=torch.Generator().manual_seed(seed))


def student_with_connectors():
    torch.manual_seed(0)
    return StudentWithConnectors(model(), [8, 12, 16, 20])


def teacher_features(student, seed=2):
    """Features that a teacher of ``student`` could have for :func:`images`, and margins."""
    torch.manual_seed(seed)
    with torch.no_grad():
        features = copy.deepcopy(student)(images(), with_features=True)[1]
    return [torch.randn(stage.shape) for stage in features], [-torch.rand(stage.shape[1]) for stage in features]


# ---- margins


def batch_norm(means, deviations):
    norm = nn.BatchNorm2d(len(means))
    with torch.no_grad():
        norm.bias.copy_(torch.tensor(means))
        norm.weight.copy_(torch.tensor(deviations))
    return norm


def reference_margin(mean, deviation):
    """The formula, one channel at a time, in Python's own floating-point numbers."""
    normal = NormalDist()
    negative = normal.cdf(-mean / deviation)
    return mean - deviation * normal.pdf(mean / deviation) / negative if negative >= 1e-3 else -3 * deviation


@given(st.lists(st.tuples(st.floats(-4, 4, width=32), st.floats(2**-6, 3, width=32)), min_size=1, max_size=5))
@example([(3.0, 1.0), (3.1, 1.0), (31.0, 10.0), (-4.0, 2**-6), (0.0, 1.0)])
@settings(max_examples=50, deadline=None)
def test_margins_are_those_of_the_formula_whatever_the_sign_of_the_weight(channels):
    means, deviations = map(list, zip(*channels, strict=True))
    expected = [reference_margin(mean, deviation) for mean, deviation in channels]
    signs = [(-1) ** channel for channel in range(len(channels))]
    norm = batch_norm(means, [sign * deviation for sign, deviation in zip(signs, deviations, strict=True)])
    found = margins(norm)
    assert (found.dtype, found.requires_grad, found.shape) == (torch.float32, False, (len(channels),))
    assert found.tolist() == pytest.approx(expected, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (1.5, 0.7), (-2.0, 1.3), (3.0, 1.0), (-0.3, 2.0)])
def test_a_margin_is_the_mean_of_the_negative_part_of_a_normal_distribution(mean, deviation):
    x = np.linspace(min(0, mean) - 12 * deviation, 0, 200_001)
    density = np.exp(-(((x - mean) / deviation) ** 2) / 2)
    expected = np.trapezoid(x * density, x) / np.trapezoid(density, x)
    assert margins(batch_norm([mean], [deviation])).item() == pytest.approx(expected, rel=1e-5)


def test_a_channel_that_is_hardly_ever_negative_has_a_margin_of_three_deviations():
    # Φ(-3.0902) is 1e-3
    found = margins(batch_norm([3.09, 3.0903, 100.0, 6.5], [1.0, 1.0, 1.0, 2.0])).tolist()
    assert -0.3 < found[0] < -0.2
    assert found[1:] == [-3.0, -3.0, -6.0]


def test_a_constant_channel_has_itself_as_margin_where_it_is_negative_and_else_zero():
    norm = batch_norm([-2.0, 0.0, 2.0, -1.0, 1.0], [0.0, 0.0, 0.0, 1e-37, 1e-37])
    assert margins(norm).tolist() == pytest.approx([-2.0, 0.0, 0.0, -1.0, 0.0], abs=1e-36)


def test_margins_are_computed_in_float64_and_the_same_for_a_half_precision_model():
    norm = batch_norm([3.0, -0.75], [1.0, 1.5])  # numbers that bfloat16 holds
    assert torch.equal(margins(norm), margins(norm.bfloat16()))


# ---- the distance


def reference_partial_l2(student, teacher, margin):
    """The sum and its gradient, float64, element by element."""
    total, gradient = 0.0, np.zeros(student.shape)
    for place in np.ndindex(student.shape):
        s, t = float(student[place]), max(float(teacher[place]), float(margin[place[1]]))
        if s > t or t > 0:
            total += (s - t) ** 2
            gradient[place] = 2 * (s - t)
    return total, gradient


VALUES = st.floats(-3, 3, width=16).map(lambda value: round(value * 4) / 4)  # a grid, so that there are equal values


@given(st.lists(st.tuples(VALUES, VALUES), min_size=12, max_size=12), st.tuples(*[VALUES.map(lambda x: -abs(x))] * 2))
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_the_distance_and_its_gradient_are_those_of_the_formula(dtype, elements, margin):
    shape = (2, 2, 1, 3)
    student, teacher = (torch.tensor(side, dtype=dtype).view(shape) for side in zip(*elements, strict=True))
    student.requires_grad_()
    teacher.requires_grad_()
    found = partial_l2(student, teacher, torch.tensor(margin))
    found.backward()
    total, gradient = reference_partial_l2(student.detach(), teacher.detach(), margin)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(total, rel=1e-6)
    assert student.grad.dtype == dtype
    assert np.array_equal(student.grad.double().numpy(), gradient)
    assert teacher.grad is None


def test_the_distance_agrees_with_float64_on_many_elements_in_half_precision():
    torch.manual_seed(0)
    student, teacher = (3 * torch.randn(4, 16, 14, 14, dtype=torch.bfloat16) for _ in range(2))
    margin = -torch.rand(16)
    total, gradient = reference_partial_l2(student, teacher, margin)
    student.requires_grad_()
    found = partial_l2(student, teacher, margin)
    found.backward()
    assert found.item() == pytest.approx(total, rel=1e-6)
    exact = torch.from_numpy(gradient)
    assert torch.allclose(student.grad.double(), exact, rtol=2**-8, atol=1e-6)  # the rounding of bfloat16


def test_the_gradient_is_the_slope_of_the_distance():
    torch.manual_seed(0)
    student, teacher, margin = torch.randn(1, 3, 2, 2), torch.randn(1, 3, 2, 2), -torch.rand(3)
    leaf = student.clone().requires_grad_()
    partial_l2(leaf, teacher, margin).backward()
    for place in np.ndindex(tuple(student.shape)):
        slope = 0.0
        for sign in (1, -1):
            moved = student.double().numpy().copy()
            moved[place] += sign * 1e-6
            slope += sign * reference_partial_l2(moved, teacher, margin)[0] / 2e-6
        assert leaf.grad[place].item() == pytest.approx(slope, abs=1e-4)


@pytest.mark.parametrize("teacher", [1.0, -1.0])
def test_a_student_that_is_not_a_number_is_seen_in_the_distance(teacher):
    student = torch.full((1, 1, 1, 1), float("nan"))
    assert partial_l2(student, torch.full((1, 1, 1, 1), teacher), torch.tensor([-0.5])).isnan()


# ---- the loss over stages


def test_later_stages_weigh_twice_as_much_and_the_sum_is_divided_by_the_batch_size():
    student = student_with_connectors()
    _, found = student(images(), with_features=True)
    teacher, stage_margins = teacher_features(student)
    distances = [
        reference_partial_l2(s.detach(), t, m)[0] for s, t, m in zip(found, teacher, stage_margins, strict=True)
    ]
    expected = np.dot(distances, [1 / 8, 1 / 4, 1 / 2, 1]) / 3
    assert feature_loss(found, teacher, stage_margins).item() == pytest.approx(expected, rel=1e-6)
    two_stages = (distances[2] / 2 + distances[3]) / 3
    assert feature_loss(found[2:], teacher[2:], stage_margins[2:]).item() == pytest.approx(two_stages, rel=1e-6)
    assert FEATURE_WEIGHT == 1 / 10_000


def test_features_of_different_sizes_are_refused_in_one_line_that_names_both():
    student = [torch.zeros(2, 8, 4, 4), torch.zeros(2, 16, 2, 2)]
    teacher = [torch.zeros(2, 8, 4, 4), torch.zeros(2, 16, 4, 4)]
    with pytest.raises(InputError) as refusal:
        feature_loss(student, teacher, [torch.zeros(8), torch.zeros(16)])
    assert str(refusal.value) == "--model: features of 16x2x2 in stage 2 (must be 16x4x4, as --kd-model-name's are)"


def test_features_that_could_be_stretched_to_the_teachers_are_refused_too():
    with pytest.raises(InputError, match="must be 8x4x4"):
        feature_loss([torch.zeros(2, 8, 1, 1)], [torch.zeros(2, 8, 4, 4)], [torch.zeros(8)])


@pytest.mark.parametrize("short", range(3))
def test_every_stage_needs_student_teacher_and_margin(short):
    stages = [[torch.zeros(2, 8, 4, 4)] * 2, [torch.zeros(2, 8, 4, 4)] * 2, [torch.zeros(8)] * 2]
    stages[short] = stages[short][:1]
    with pytest.raises(ValueError, match="zip"):
        feature_loss(*stages)


# ---- features before the ReLU


def step_by_step(resnet, x):
    """Logits and features, through the model's own layers one after the other, and no layer in place."""
    features = []
    x = resnet.maxpool(torch.relu(resnet.bn1(resnet.conv1(x))))
    for layer in (resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4):
        for block in layer:
            branch = torch.relu(block.bn1(block.conv1(x)))
            branch = block.bn2(block.conv2(branch))
            if hasattr(block, "conv3"):
                branch = block.bn3(block.conv3(torch.relu(branch)))
            before = branch + (x if block.downsample is None else block.downsample(x))
            x = torch.relu(before)
        features.append(before.clone())
    return resnet.fc(x.mean((2, 3))), features


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_features_are_what_goes_into_the_last_relu_of_each_stage(name, training):
    resnet = model(name).train(training)
    untouched = copy.deepcopy(resnet)
    expected_logits, expected = step_by_step(untouched, images())
    logits, features = PreReluFeatures(resnet)(images())
    assert torch.allclose(logits, expected_logits, rtol=1e-4, atol=1e-5)
    assert len(features) == len(expected) == 4
    for found, stage in zip(features, expected, strict=True):
        assert torch.allclose(found, stage, rtol=1e-4, atol=1e-5)
        assert 0.02 < (found < 0).float().mean() < 0.98


@pytest.mark.parametrize("name", MODELS)
def test_the_relu_of_the_features_are_the_outputs_of_timms_own_stages(name):
    resnet = model(name).eval()
    with torch.no_grad():
        _, stages = resnet.forward_intermediates(images(), indices=[1, 2, 3, 4])
        last, logits = resnet.forward_features(images()), resnet(images())
        found_logits, features = PreReluFeatures(resnet)(images())
    assert torch.equal(found_logits, logits)
    assert torch.equal(features[-1].relu(), last)
    for found, stage in zip(features, stages, strict=True):
        assert torch.equal(found.relu(), stage)


@pytest.mark.parametrize("name", MODELS)
def test_channels_are_those_of_the_features(name):
    features = PreReluFeatures(model(name).eval())
    assert features.channels == [stage.shape[1] for stage in features(images())[1]]


def test_a_model_that_gives_features_keeps_its_weights_names_and_predictions():
    resnet = model().eval()
    weights, logits = copy.deepcopy(resnet.state_dict()), resnet(images())
    PreReluFeatures(resnet)
    assert list(resnet.state_dict()) == list(weights)
    assert all(torch.equal(resnet.state_dict()[name], value) for name, value in weights.items())
    assert torch.equal(resnet(images()), logits)


def test_gradients_pass_through_the_features_to_every_weight_below():
    resnet, plain = model(), model()
    _, expected = step_by_step(plain, images())
    _, features = PreReluFeatures(resnet)(images())
    for stages in (features, expected):
        sum((stage**2).sum() for stage in stages).backward()
    for (name, found), (_, wanted) in zip(resnet.named_parameters(), plain.named_parameters(), strict=True):
        if name.startswith("fc."):
            assert found.grad is None
        else:
            assert torch.allclose(found.grad, wanted.grad, rtol=1e-3, atol=1e-4 * wanted.grad.abs().max()), name


def test_gradients_are_the_same_with_gradient_checkpointing():
    gradients = []
    for checkpointing in (False, True):
        resnet = model()
        resnet.set_grad_checkpointing(checkpointing)
        logits, features = PreReluFeatures(resnet)(images())
        (logits.sum() + sum((stage**2).sum() for stage in features)).backward()
        assert len(features) == 4  # the second forward, within backward, adds none
        gradients.append([parameter.grad for parameter in resnet.parameters()])
    for found, expected in zip(*gradients, strict=True):
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4 * expected.abs().max())


def watch(resnet):
    """Weak references to the features of the first stage in every forward to come."""
    seen = []
    resnet.layer1[-1].act2.register_forward_pre_hook(lambda _, args: seen.append(weakref.ref(args[0])))
    return seen


def test_no_features_are_kept_by_the_model_after_the_call():
    resnet = model().eval()
    extract = PreReluFeatures(resnet)
    seen = watch(resnet)
    logits, features = extract(images())
    resnet(images())
    assert len(features) == 4  # none were added
    del logits, features
    gc.collect()
    assert [reference() for reference in seen] == [None, None]


def test_no_features_are_kept_by_the_model_after_a_call_that_failed():
    resnet = model().eval()
    extract = PreReluFeatures(resnet)
    seen = watch(resnet)
    resnet.layer3.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        extract(images())
    gc.collect()
    assert [reference() for reference in seen] == [None]


def test_two_calls_give_features_of_their_own():
    extract = PreReluFeatures(model().eval())
    _, first = extract(images())
    kept = [stage.clone() for stage in first]
    extract(images(seed=5))
    assert all(torch.equal(a, b) for a, b in zip(first, kept, strict=True))


def test_a_model_may_be_asked_for_features_by_two_parts_of_a_program():
    resnet = model().eval()
    first, second = PreReluFeatures(resnet), PreReluFeatures(resnet)
    assert [len(first(images())[1]), len(second(images())[1]), len(first(images())[1])] == [4, 4, 4]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("test_convnext", {}),
        ("test_efficientnet", {}),
        ("test_resnet", {"act_layer": "silu"}),
        ("skresnet18", {}),  # a ResNet of blocks of another kind
    ],
)
@pytest.mark.parametrize("argument", ["--model", "--kd-model-name"])
def test_a_model_without_such_features_is_refused(name, options, argument):
    with pytest.raises(InputError) as refusal:
        PreReluFeatures(timm.create_model(name, **options), argument)
    assert str(refusal.value).startswith(f"{argument}: {name} (must be a timm ResNet with ReLU, ")
    assert "\n" not in str(refusal.value)


def test_a_model_that_is_not_timms_is_refused_by_the_name_of_its_class():
    with pytest.raises(InputError, match=r"^--model: Linear \(must be a timm ResNet"):
        StudentWithConnectors(nn.Linear(2, 2), [1, 2, 3, 4])


# ---- the teacher's batch norms


def test_margins_come_from_the_last_batch_norm_of_the_last_block_of_each_stage():
    basic, bottleneck, mixed = (model(name) for name in ("resnet18", "resnet26t", "test_resnet"))
    layers = (basic.layer1, basic.layer2, basic.layer3, basic.layer4)
    assert teacher_batch_norms(basic) == [layer[1].bn2 for layer in layers]
    layers = (bottleneck.layer1, bottleneck.layer2, bottleneck.layer3, bottleneck.layer4)
    assert teacher_batch_norms(bottleneck) == [layer[1].bn3 for layer in layers]
    expected = [mixed.layer1[0].bn2, mixed.layer2[0].bn2, mixed.layer3[0].bn3, mixed.layer4[0].bn2]
    assert teacher_batch_norms(mixed) == expected


def test_a_teacher_without_batch_norms_with_weight_and_bias_is_refused():
    for teacher in (timm.create_model("test_resnet", norm_layer="groupnorm1"), model()):
        if isinstance(teacher.layer2[-1].bn2, nn.BatchNorm2d):
            teacher.layer2[-1].bn2 = nn.BatchNorm2d(48, affine=False)
        with pytest.raises(InputError, match=r"^--kd-model-name: test_resnet \(must have batch norms with weight"):
            teacher_batch_norms(teacher)


def test_a_teacher_of_another_kind_is_refused_by_its_own_option():
    with pytest.raises(InputError, match=r"^--kd-model-name: test_convnext"):
        teacher_batch_norms(timm.create_model("test_convnext"))


def test_a_student_may_have_other_norms():
    student = timm.create_model("test_resnet", norm_layer="groupnorm1")
    assert PreReluFeatures(student).channels == [32, 48, 192, 96]


# ---- statistics of the batch


def snapshot(module):
    return copy.deepcopy(dict(module.named_buffers())), [
        (part.training, getattr(part, "track_running_stats", None), getattr(part, "momentum", None))
        for part in module.modules()
    ]


def assert_unchanged(module, before):
    buffers, modes = snapshot(module)
    assert modes == before[1]
    assert list(buffers) == list(before[0])
    assert len(buffers) > 10
    assert all(torch.equal(buffers[name], value) for name, value in before[0].items())


@pytest.mark.parametrize("fails", [False, True])
def test_batch_statistics_leave_modes_and_running_statistics_as_they_were(fails):
    teacher = model().eval()
    teacher.layer2.train()  # no part is put into a mode it was not in
    before = snapshot(teacher)
    try:
        with batch_statistics(teacher):
            teacher(images())
            teacher(images(seed=3))
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert fails
    assert_unchanged(teacher, before)
    with pytest.raises(ValueError, match="Expected more than 1 value"), batch_statistics(teacher):
        teacher(images(number=1, size=32))
    assert_unchanged(teacher, before)


def test_inside_the_features_are_those_of_a_model_in_train_mode():
    teacher = model().eval()
    extract = PreReluFeatures(teacher)
    expected = step_by_step(copy.deepcopy(teacher).train(), images())[1]
    by_running_statistics = extract(images())[1]
    with batch_statistics(teacher):
        found = extract(images())[1]
    for stage, wanted, running in zip(found, expected, by_running_statistics, strict=True):
        assert torch.allclose(stage, wanted, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(stage, running, rtol=0.1, atol=0.1)


def test_batch_statistics_do_not_turn_dropout_on():
    teacher = model(drop_rate=0.5, drop_path_rate=0.5).eval()
    with batch_statistics(teacher):
        assert torch.equal(teacher(images()), teacher(images()))


# ---- connectors and the trained module


def test_connectors_are_a_1x1_convolution_without_bias_and_a_batch_norm():
    torch.manual_seed(0)
    connectors = Connectors([32, 64], [512, 256])
    features = [torch.randn(4, 32, 6, 6), torch.randn(4, 64, 3, 3)]
    assert [name for name, _ in connectors.named_parameters()] == [
        f"{stage}.{name}" for stage in (0, 1) for name in ("0.weight", "1.weight", "1.bias")
    ]
    for connector, found, stage in zip(connectors, connectors(features), features, strict=True):
        weight = connector[0].weight.double()
        product = np.einsum("oc,bchw->bohw", weight[:, :, 0, 0].detach().numpy(), stage.double().numpy())
        mean, variance = product.mean((0, 2, 3), keepdims=True), product.var((0, 2, 3), keepdims=True)
        expected = (product - mean) / np.sqrt(variance + 1e-5)
        assert np.allclose(found.detach().double().numpy(), expected, atol=1e-4)
        deviation = (2 / weight.shape[0]) ** 0.5  # fan-out of a 1×1 convolution: its outputs
        assert weight.std().item() == pytest.approx(deviation, rel=0.05)
        assert weight.mean().item() == pytest.approx(0, abs=0.05 * deviation)


def test_connectors_need_as_many_stages_on_both_sides():
    with pytest.raises(ValueError, match="zip"):
        Connectors([1, 2], [1, 2, 3])


def test_without_features_the_module_is_the_student():
    student = student_with_connectors().eval()
    logits = student(images())
    assert torch.equal(logits, student.student(images()))
    with_logits, features = student(images(), with_features=True)
    assert torch.equal(with_logits, logits)
    assert [stage.shape[1] for stage in features] == [8, 12, 16, 20]
    expected = student.connectors(PreReluFeatures(copy.deepcopy(student.student))(images())[1])
    assert all(torch.equal(a, b) for a, b in zip(features, expected, strict=True))


def test_checkpoints_hold_the_student_and_its_connectors_and_nothing_else():
    student = student_with_connectors()
    names = [f"student.{name}" for name in model().state_dict()]
    names += [f"connectors.{name}" for name in student.connectors.state_dict()]
    assert list(student.state_dict()) == names


def test_an_averaged_copy_gives_the_features_of_its_own_weights():
    student = student_with_connectors().train()
    student(images(), with_features=True)
    average = ModelEmaV3(student, decay=0.5)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.1)
    average.update(student)
    copied = average.module
    logits, features = copied(images(), with_features=True)
    expected_logits, expected = step_by_step(copied.student, images())
    assert torch.allclose(logits, expected_logits, rtol=1e-4, atol=1e-5)
    for found, stage in zip(features, copied.connectors(expected), strict=True):
        assert torch.allclose(found, stage, rtol=1e-4, atol=1e-5)


def test_a_copy_that_is_run_within_a_forward_adds_nothing_to_the_originals_features():
    student = student_with_connectors().eval()
    copied = copy.deepcopy(student)
    expected = student(images(), with_features=True)[1]
    of_copy = []
    student.student.layer2.register_forward_hook(lambda *_: of_copy.extend(copied(images(), with_features=True)[1]))
    features = student(images(), with_features=True)[1]
    for found in (features, of_copy):
        assert len(found) == 4
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("options", [{"weight_decay": 0.05}, {"weight_decay": 0.05, "layer_decay": 0.5}])
def test_timms_optimisers_take_every_parameter_once(options):
    student = student_with_connectors()
    optimiser = create_optimizer_v2(student, "sgd", lr=0.1, **options)
    found = [id(parameter) for group in optimiser.param_groups for parameter in group["params"]]
    assert sorted(found) == sorted(map(id, student.parameters()))
    decay = {id(parameter): group["weight_decay"] for group in optimiser.param_groups for parameter in group["params"]}
    for name, parameter in student.named_parameters():
        assert decay[id(parameter)] == (0.0 if parameter.ndim == 1 else 0.05), name


def test_layer_decay_sees_the_depths_of_the_student_and_the_connectors_beside_its_head():
    def scales(module):
        optimiser = create_optimizer_v2(module, "sgd", lr=0.1, layer_decay=0.5)
        found = {id(each): group["lr_scale"] for group in optimiser.param_groups for each in group["params"]}
        return {name: found[id(parameter)] for name, parameter in module.named_parameters()}

    student = student_with_connectors()
    expected = {f"student.{name}": scale for name, scale in scales(student.student).items()}
    assert len(set(expected.values())) == 6
    expected.update({f"connectors.{name}": 1.0 for name, _ in student.connectors.named_parameters()})
    assert scales(student) == expected


def test_parameters_that_the_student_keeps_from_weight_decay_are_kept():
    student = student_with_connectors()
    assert student.no_weight_decay() == set()
    student.student.no_weight_decay = lambda: {"fc.weight"}
    optimiser = create_optimizer_v2(student, "sgd", lr=0.1, weight_decay=0.05)
    kept = [group for group in optimiser.param_groups if group["weight_decay"] == 0]
    assert any(parameter is student.student.fc.weight for group in kept for parameter in group["params"])


def trained_gradients(module, student, teacher, stage_margins):
    logits, features = module(images(), with_features=True)
    loss = logits.square().mean() + FEATURE_WEIGHT * feature_loss(features, teacher, stage_margins)
    loss.backward()
    return loss, {name: parameter.grad.clone() for name, parameter in student.named_parameters()}


def test_gradients_are_the_same_under_distributed_data_parallel(tmp_path):
    student = student_with_connectors().train()
    teacher = teacher_features(student)
    alone = copy.deepcopy(student)
    expected_loss, expected = trained_gradients(alone, alone, *teacher)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        parallel = nn.parallel.DistributedDataParallel(student)
        for _ in range(2):  # a parameter that had no part in the loss would stop the second step
            student.zero_grad()
            loss, found = trained_gradients(parallel, student, *teacher)
    finally:
        torch.distributed.destroy_process_group()
    assert loss.item() == expected_loss.item()
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        assert torch.allclose(gradient, expected[name], rtol=1e-5, atol=1e-7), name
        if not name.startswith("student.fc."):
            assert gradient.abs().max() > 0, name


def test_the_loss_is_float32_under_autocast_to_bfloat16():
    student = student_with_connectors().train()
    teacher, stage_margins = teacher_features(student)
    exact = feature_loss(copy.deepcopy(student)(images(), with_features=True)[1], teacher, stage_margins)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits, features = student(images(), with_features=True)
        assert logits.dtype == torch.bfloat16
        assert {stage.dtype for stage in features} == {torch.bfloat16}
        loss = feature_loss(features, [stage.bfloat16() for stage in teacher], stage_margins)
    assert loss.dtype == torch.float32
    expected = [
        reference_partial_l2(s.detach(), t.bfloat16(), m)[0]
        for s, t, m in zip(features, teacher, stage_margins, strict=True)
    ]
    assert loss.item() == pytest.approx(np.dot(expected, [1 / 8, 1 / 4, 1 / 2, 1]) / 3, rel=1e-6)
    assert loss.item() == pytest.approx(exact.item(), rel=0.05)
    loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in student.connectors.parameters())


@pytest.mark.slow
def test_the_module_compiles_as_one_graph():
    student = student_with_connectors().eval()
    expected_logits, expected = student(images(), with_features=True)
    compiled = torch.compile(student, backend="eager", fullgraph=True)
    for _ in range(2):
        logits, features = compiled(images(), with_features=True)
        assert torch.equal(logits, expected_logits)
        assert all(torch.equal(a, b) for a, b in zip(features, expected, strict=True))
    assert student.student.layer1[-1].act2.record is None
