import random
from dataclasses import asdict

import huggingface_hub
import numpy as np
import pytest
import timm
import torch

from lskd.io.errors import InputError
from lskd_vision.checkpoints import Checkpoint, check_finite, read_checkpoint, save_checkpoint
from lskd_vision.config import InputConfig, ModelConfig
from lskd_vision.models import build, check_input, create, meta_model, model_options, rebuild, wants_image_size

CLASSIFIER = {"fc.weight", "fc.bias"}
NAMES = list("abcdefghi")


def given(name="test_resnet", **options):
    """A model's configuration and its input's."""
    images = {name: options.pop(name) for name in ("in_chans", "input_size", "img_size") if name in options}
    return ModelConfig(model=name, **options), InputConfig(**images)


def drawn(seed, call, *arguments, **keywords):
    """What ``call`` gives from these random numbers, and the state in which it leaves them."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return call(*arguments, **keywords), torch.get_rng_state()


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def refusal(call, *arguments, **keywords):
    with pytest.raises(InputError) as error:
        call(*arguments, **keywords)
    assert "\n" not in str(error.value)
    return str(error.value)


# ---- create


def test_a_name_that_is_no_model_is_refused_with_names_that_are_near():
    assert refusal(create, "resnett50", "--kd-model-name").startswith(
        "--kd-model-name: resnett50 (must be a timm model"
    )
    assert "resnet50" in refusal(create, "resnett50", "--model").split("perhaps")[1]
    assert refusal(create, "§", "--model") == "--model: § (must be a timm model)"


@pytest.mark.parametrize(
    ("name", "keywords", "words"),
    [
        ("test_resnet", {"no_such_option": 1}, "no_such_option"),
        ("test_resnet.no_such_weights", {"pretrained": True}, "no_such_weights"),
        ("test_vit", {"num_heads": 7}, "cannot be made: "),
    ],
)
def test_a_model_that_cannot_be_made_is_refused_in_one_line(name, keywords, words):
    message = refusal(create, name, "--model", **keywords)
    assert message.startswith(f"--model: {name} (cannot be made: ")
    assert words in message


def test_pretrained_weights_that_cannot_be_fetched_are_refused_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    message = refusal(create, "test_resnet", "--model", pretrained=True)
    assert message.startswith("--model: test_resnet (cannot be made: LocalEntryNotFoundError: ")


def test_options_that_are_not_given_are_left_to_the_model():
    model = create("test_vit", "--model", num_classes=None, in_chans=None, img_size=None)
    assert (model.num_classes, model.patch_embed.img_size) == (1000, (160, 160))


# ---- build


def test_a_model_is_built_as_the_command_line_says():
    config = given("test_vit", in_chans=1, img_size=64, drop=0.25, drop_path=0.5, model_kwargs={"depth": 2})
    model = build(*config, NAMES[:7])
    assert (model.num_classes, model.in_chans, model.patch_embed.img_size, len(model.blocks)) == (7, 1, (64, 64), 2)
    assert model.head_drop.p == 0.25
    assert model.blocks[-1].drop_path1.drop_prob == 0.5
    assert model(torch.zeros(1, 1, 64, 64)).shape == (1, 7)


def test_channels_are_those_of_the_input_size_where_no_other_are_given():
    assert model_options(*given(input_size=[1, 32, 32]))["in_chans"] == 1
    assert model_options(*given(input_size=[1, 32, 32], in_chans=4))["in_chans"] == 4


def test_an_image_size_is_for_models_that_are_built_for_one():
    assert model_options(*given("test_vit", img_size=64))["img_size"] == 64
    assert model_options(*given(img_size=64))["img_size"] is None
    assert wants_image_size("test_vit.r160_in1k")
    assert not wants_image_size("resnet50.a1_in1k")


def test_a_model_is_a_function_of_the_random_numbers():
    models = [drawn(seed, build, *given(), NAMES[:7])[0].state_dict() for seed in (1, 1, 2)]
    assert same(models[0], models[1])
    assert not same(models[0], models[2])


def test_gradient_checkpointing_is_switched_on_where_it_is_asked_for():
    assert build(*given(grad_checkpointing=True), NAMES[:7]).grad_checkpointing
    assert not build(*given(), NAMES[:7]).grad_checkpointing


@pytest.fixture
def checkpoint(tmp_path):
    """A timm state dict of seven classes, and the file that it is in."""
    weights = drawn(5, timm.create_model, "test_resnet", num_classes=7, in_chans=1)[0].state_dict()
    weights["layer1.0.bn1.running_mean"] += 3
    torch.save({"state_dict": weights}, tmp_path / "initial.pth.tar")
    return weights, tmp_path / "initial.pth.tar"


def test_a_model_starts_from_the_initial_checkpoint(checkpoint):
    weights, path = checkpoint
    model, after = drawn(1, build, *given(in_chans=1, initial_checkpoint=path), NAMES[:7])
    assert same(model.state_dict(), weights)
    assert all(tensor.requires_grad for tensor in model.parameters())
    assert torch.equal(after, drawn(1, build, *given(in_chans=1), NAMES[:7])[1])


@pytest.mark.parametrize("classes", [2, 9])
def test_of_an_initial_checkpoint_with_other_classes_everything_is_taken_but_the_head(checkpoint, classes):
    weights, path = checkpoint
    model, after = drawn(1, build, *given(in_chans=1, initial_checkpoint=path), NAMES[:classes])
    without, after_without = drawn(1, build, *given(in_chans=1), NAMES[:classes])
    found, new = model.state_dict(), without.state_dict()
    assert found.keys() == weights.keys()
    for name, tensor in found.items():
        assert torch.equal(tensor, (new if name in CLASSIFIER else weights)[name]), name
    assert model.num_classes == classes
    assert torch.equal(after, after_without)


def test_an_initial_checkpoint_that_does_not_fit_is_refused(checkpoint, tmp_path):
    _, path = checkpoint
    message = refusal(build, *given("test_efficientnet", in_chans=1, initial_checkpoint=path), NAMES[:7])
    assert message.startswith("--initial-checkpoint: ")
    assert "1 input channels" in refusal(build, *given(initial_checkpoint=path), NAMES[:9])
    missing = given(initial_checkpoint=tmp_path / "no.pth")
    assert "no.pth (must be the path of an existing" in refusal(build, *missing, NAMES[:7])


# ---- meta_model and check_input


@pytest.mark.parametrize(
    "name", ["resnet50", "test_vit", "test_convnext", "test_efficientnet", "swin_tiny_patch4_window7_224"]
)
def test_a_meta_model_has_no_memory_and_takes_no_random_numbers(name):
    model, after = drawn(1, meta_model, *given(name, in_chans=1), 7)
    assert {tensor.device.type for tensor in model.parameters()} == {"meta"}
    assert (model.num_classes, model.in_chans) == (7, 1)
    torch.manual_seed(1)
    assert torch.equal(after, torch.get_rng_state())


def test_a_meta_model_has_the_shapes_of_the_model():
    config = given("test_vit", in_chans=1, img_size=64)
    first, second = meta_model(*config, 7).state_dict(), build(*config, NAMES[:7]).state_dict()
    assert {name: tensor.shape for name, tensor in first.items()} == {
        name: tensor.shape for name, tensor in second.items()
    }


def test_an_input_that_a_model_cannot_take_is_refused_with_its_size():
    model = timm.create_model("test_vit", img_size=64, num_classes=7)
    check_input(model, (3, 64, 64), "--model", "test_vit")
    message = refusal(check_input, model, (3, 28, 28), "--model", "test_vit")
    assert message.startswith("--model: test_vit (cannot take images of 3x28x28, see --img-size: ")
    assert "1x64x64" in refusal(check_input, model, (1, 64, 64), "--model", "test_vit")


@pytest.mark.parametrize("training", [True, False])
def test_the_input_is_checked_without_a_trace_in_the_model(training):
    model = timm.create_model("test_resnet", drop_rate=0.5).train(training)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    after = drawn(3, check_input, model, (3, 64, 64), "--model", "test_resnet")[1]
    refusal(check_input, model, (1, 64, 64), "--model", "test_resnet")
    assert same(model.state_dict(), before)
    assert all(module.training == training for module in model.modules())
    assert torch.equal(after, drawn(3, int)[1])


# ---- rebuild


def of_file(weights, arch="test_resnet", **args):
    return Checkpoint("teacher.pth", weights, False, arch, args, {})


def test_a_checkpoint_alone_tells_model_classes_and_channels():
    expected = timm.create_model("test_resnet", num_classes=7, in_chans=1).eval()
    model = rebuild(of_file(expected.state_dict()), None, "--kd-checkpoint")
    images = torch.randn(2, 1, 64, 64)
    assert torch.equal(model(images), expected(images))
    assert not model.training
    assert not any(tensor.requires_grad for tensor in model.parameters())


def test_a_model_is_rebuilt_with_the_options_of_its_training(tmp_path):
    config, images = given("test_vit", img_size=64, model_kwargs={"act_layer": "silu", "depth": 2})
    expected = build(config, images, NAMES[:7]).eval()
    args = asdict(config) | asdict(images)
    save_checkpoint(tmp_path / "last.pth.tar", {"state_dict": expected.state_dict(), "args": args})
    model = rebuild(read_checkpoint(tmp_path / "last.pth.tar", "checkpoint"), None, "checkpoint")
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(model(images), expected(images))


def test_the_models_name_may_be_given_and_must_be_known():
    weights = timm.create_model("test_resnet", num_classes=7).state_dict()
    assert rebuild(of_file(weights, arch=None), "test_resnet", "checkpoint").num_classes == 7
    assert rebuild(of_file(weights, arch="resnet50"), "test_resnet", "checkpoint").num_classes == 7
    message = refusal(rebuild, of_file(weights, arch=None), None, "checkpoint")
    assert message == "checkpoint: teacher.pth (does not name its model; give the name)"
    assert "resnet50" in refusal(rebuild, of_file(weights, arch="resnet50"), None, "checkpoint")
    assert "must be a timm model" in refusal(rebuild, of_file(weights, arch="no_model"), None, "checkpoint")


def test_rebuilding_takes_random_numbers_from_nobody():
    weights = timm.create_model("test_vit", num_classes=7).state_dict()
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    rebuild(of_file(weights, arch="test_vit"), None, "checkpoint")
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]


def test_a_model_without_logits_is_refused():
    options = model_options(*given(model_kwargs={"features_only": True}))
    assert "must give logits" in refusal(create, "test_resnet", "--model", **options)


def test_weights_in_eight_bits_are_looked_at_for_infinite_ones():
    weights = {"fc.weight": torch.tensor([1.0, torch.nan]).to(torch.float8_e4m3fn)}
    assert "1 of 2 values of fc.weight" in refusal(check_finite, weights, "--initial-checkpoint", "c.pth.tar")
