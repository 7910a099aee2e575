import copy

import pytest
import timm
import torch
from torch import nn

from lskd_vision.folding import without_batch_norms
from lskd_vision.teacher import Teacher


def make(name: str = "resnet10t", **options) -> nn.Module:
    """A frozen model whose batch norms have seen something."""
    torch.manual_seed(1)
    model = timm.create_model(name, num_classes=10, **options).eval().requires_grad_(False)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.1)
    return model


def norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


@pytest.mark.parametrize("name", ["resnet10t", "test_resnet", "test_efficientnet", "mobilenetv2_100", "regnetx_002"])
def test_a_folded_model_gives_the_same_logits_without_a_batch_norm(name):
    model = make(name)
    before = copy.deepcopy(model.state_dict())
    folded = without_batch_norms(model, (3, 64, 64))
    images = torch.randn(5, 3, 64, 64)
    expected = model(images)
    assert norms(model) > norms(folded) == 0
    assert (folded(images) - expected).norm() <= 1e-5 * expected.norm()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(parameter.requires_grad for parameter in folded.parameters())


def test_what_cannot_be_folded_is_returned_as_it_is():
    without = make("test_convnext")
    assert without_batch_norms(without, (3, 64, 64)) is without

    class Undecided(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, images):
            return self.model(images) if images.sum() > 0 else self.model(-images)

    undecided = Undecided(make())
    assert without_batch_norms(undecided, (3, 64, 64)) is undecided


def test_a_batch_norm_before_its_convolution_stays_and_one_after_it_goes():
    model = make("densenet121")
    folded = without_batch_norms(model, (3, 64, 64))
    images = torch.randn(2, 3, 64, 64)
    assert 0 < norms(folded) < norms(model)
    torch.testing.assert_close(folded(images), model(images), rtol=1e-4, atol=1e-5)


def test_a_convolution_that_is_used_twice_keeps_its_batch_norms():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.convolution, self.one, self.other = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)

        def forward(self, images):
            return self.other(self.convolution(self.one(self.convolution(images)))).flatten(1)

    model = Twice().eval().requires_grad_(False)
    model.one.running_mean.fill_(0.5)
    assert without_batch_norms(model, (3, 4, 4)) is model


@pytest.mark.parametrize("options", [{"features": True}, {"use_batch_statistics": True}])
def test_a_teacher_whose_batch_norms_are_needed_keeps_them(options):
    model = make()
    teacher = Teacher(model, **options)
    teacher.speed_up((3, 64, 64))
    assert teacher.model is model


@pytest.mark.slow
def test_a_teacher_that_was_sped_up_keeps_its_fingerprint_and_its_logits():
    model, images = make(), torch.randn(4, 3, 64, 64)
    teacher = Teacher(model)
    expected, fingerprint = teacher(images).logits, teacher.fingerprint
    teacher.speed_up((3, 64, 64), channels_last=True, backend="eager")
    assert norms(teacher.model) == 0
    assert teacher.fingerprint == fingerprint
    assert (teacher(images).logits - expected).norm() <= 1e-5 * expected.norm()
    assert teacher(images).logits.shape == (4, 10)
