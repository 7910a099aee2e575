import argparse
import collections
import json
import os
import pickle
import re

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import torchvision
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lskd.io.errors import InputError
from lskd_vision import weight_conversion
from lskd_vision.checkpoints import Checkpoint, read_checkpoint, read_state, save_checkpoint
from lskd_vision.weight_conversion import input_channels, load_weights, number_of_classes


def small(classes=10, channels=1, seed=0):
    torch.manual_seed(seed)
    return timm.create_model("test_resnet", num_classes=classes, in_chans=channels)


def same(found, expected):
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def in_memory(weights, arch=None):
    return Checkpoint("weights.pth", weights, False, arch, {}, {})


def message(call, *arguments):
    with pytest.raises(InputError) as error:
        call(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def with_prefix(prefix, weights):
    return {prefix + name: tensor for name, tensor in weights.items()}


ARGS = {"model": "test_resnet", "smoothing": 0.1, "mean": None, "crop_pct": 0.9}
MODEL, AVERAGE = small(seed=1).state_dict(), small(seed=2).state_dict()
OPTIMIZER = {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
TRAINING = {"epoch": 3, "arch": "test_resnet", "state_dict": MODEL, "optimizer": OPTIMIZER, "version": 2}
FORMATS = {
    "this project's": TRAINING | {"args": ARGS, "lskd": {"label_smoothing": 0.1}},
    "timm's": TRAINING | {"args": argparse.Namespace(**ARGS), "state_dict_ema": AVERAGE, "metric": 84.5},
    "timm's of today with numpy metrics": TRAINING | {"args": argparse.Namespace(**ARGS), "metric": np.float64(84.5)},
    "weights": MODEL,
    "compiled and distributed weights": with_prefix("module._orig_mod.", MODEL),
    "an ImageNet example's": {
        "epoch": 90,
        "arch": "resnet50",
        "state_dict": with_prefix("module.", MODEL),
        "best_acc1": torch.tensor(76.1),
        "optimizer": OPTIMIZER,
    },
    "torchvision's reference": {
        "model": MODEL,
        "optimizer": OPTIMIZER,
        "lr_scheduler": {"last_epoch": 3, "_last_lr": [0.1]},
        "epoch": 3,
        "args": argparse.Namespace(model="resnet50", device="cpu"),
        "model_ema": {"n_averaged": torch.tensor(7)} | with_prefix("module.", AVERAGE),
    },
    "a training loop's": {"epoch": 3, "model_state_dict": MODEL, "optimizer_state_dict": OPTIMIZER, "loss": 0.3},
    "a training loop's of CIFAR": {"net": with_prefix("module.", MODEL), "acc": 93.1, "epoch": 3},
    "a wrapper's": {"state_dict": with_prefix("net.", MODEL)},
    "Lightning's": {
        "epoch": 3,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": with_prefix("model._orig_mod.", MODEL) | {"criterion.weight": torch.ones(10)},
        "hyper_parameters": {"lr": 0.1},
        "optimizer_states": [OPTIMIZER],
    },
}
AVERAGED = {"timm's", "torchvision's reference"}
WITHOUT_NAME = ("weights", "compiled and distributed weights", "a wrapper's", "Lightning's")
WITHOUT_NAME += ("a training loop's", "a training loop's of CIFAR")
ARCHITECTURES = dict.fromkeys(WITHOUT_NAME) | dict.fromkeys(
    ("an ImageNet example's", "torchvision's reference"), "resnet50"
)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", FORMATS)
def test_a_checkpoint_of_any_format_gives_its_weights_and_options(tmp_path, name, zipped):
    path = tmp_path / "checkpoint.pth.tar"
    torch.save(FORMATS[name], path, _use_new_zipfile_serialization=zipped)
    found = read_checkpoint(path, "--teacher")
    assert found.path == path
    assert found.ema == (name in AVERAGED)
    assert same(found.weights, AVERAGE if found.ema else MODEL)
    assert found.arch == ARCHITECTURES.get(name, "test_resnet")
    options = FORMATS[name].get("args", {})
    assert found.args == (options if isinstance(options, dict) else vars(options))
    assert found.provenance == FORMATS[name].get("lskd", {})
    plain = read_checkpoint(path, "--teacher", use_ema=False)
    assert same(plain.weights, MODEL)
    assert not plain.ema
    model = small(seed=5)
    load_weights(model, found, "--teacher")
    assert same(model.state_dict(), found.weights)


def test_a_training_without_an_average_has_none_to_use(tmp_path):
    torch.save(TRAINING | {"state_dict_ema": None}, path := tmp_path / "last.pth.tar")
    found = read_checkpoint(path, "--teacher")
    assert same(found.weights, MODEL)
    assert not found.ema


def test_saved_parameters_come_back_without_gradients(tmp_path):
    torch.save(dict(small().named_parameters()), path := tmp_path / "parameters.pth")
    assert not any(tensor.requires_grad for tensor in read_checkpoint(path, "--teacher").weights.values())


def test_safetensors_give_weights_and_what_their_metadata_tells(tmp_path):
    path = tmp_path / "model.safetensors"
    metadata = {"arch": "test_resnet", "lskd": json.dumps({"temperature": 2.0}), "args": "Namespace(lr=1)"}
    safetensors.torch.save_file(MODEL, path, metadata)
    found = read_checkpoint(path, "--teacher")
    assert same(found.weights, MODEL)
    assert (found.arch, found.args, found.provenance, found.ema) == ("test_resnet", {}, {"temperature": 2.0}, False)
    safetensors.torch.save_file(MODEL, path)
    assert read_checkpoint(path, "--teacher").arch is None


@pytest.mark.parametrize("core", ["core", "_core"])
def test_metrics_of_either_generation_of_numpy_are_read(tmp_path, core):
    path = tmp_path / "last.pth.tar"
    torch.save({"metric": np.float32(84.5)}, path, _use_new_zipfile_serialization=False)
    content = re.sub(rb"numpy\._?core\.multiarray", f"numpy.{core}.multiarray".encode(), path.read_bytes())
    path.write_bytes(content)
    assert read_state(path, "--resume") == {"metric": 84.5}


class Malicious:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle", "among weights", "as a type with state"])
def test_a_file_that_would_run_code_is_refused_and_runs_none(tmp_path, form):
    path, trace = tmp_path / "teacher.pth", tmp_path / "trace"
    if form == "pickle":
        path.write_bytes(pickle.dumps({"state_dict": Malicious(trace)}, protocol=2))
    elif form == "as a type with state":
        torch.save(MODEL | {"fc": torch.nn.Linear(2, 2)}, path)
    else:
        state = MODEL | {"more": Malicious(trace)} if form == "among weights" else Malicious(trace)
        torch.save(state, path, _use_new_zipfile_serialization=form != "legacy")
    found = message(read_checkpoint, path, "--teacher")
    assert not trace.exists()
    assert found.startswith(f"--teacher: {path} (")
    if form != "pickle":
        assert "and asks for " in found
        assert "code from a file is never run" in found
    if form != "as a type with state":
        pickled = pickle.dumps(Malicious(trace))
        pickle.loads(pickled)  # noqa: S301
        assert trace.exists()


def test_what_is_no_checkpoint_is_refused_in_one_line(tmp_path):
    whole = tmp_path / "whole.pth"
    torch.save(MODEL, whole)
    legacy = tmp_path / "legacy.pth"
    torch.save(MODEL, legacy, _use_new_zipfile_serialization=False)
    np.savez(tmp_path / "arrays.npz", a=np.ones(3))
    for name, content, expected in [
        ("empty.pth", b"", "is empty, must be a checkpoint"),
        ("empty.safetensors", b"", "is empty, must be a checkpoint"),
        ("text.pth", b"hello world, this is no checkpoint", "is truncated or not a checkpoint"),
        ("text.safetensors", b"hello world, this is no checkpoint", "is truncated or not a checkpoint"),
        ("cut.pth", whole.read_bytes()[:-1000], "is truncated or not a checkpoint"),
        ("cut-legacy.pth", legacy.read_bytes()[:-1000], "is truncated or not a checkpoint"),
        ("renamed.safetensors", whole.read_bytes(), "is truncated or not a checkpoint"),
        ("arrays.pth", (tmp_path / "arrays.npz").read_bytes(), "is truncated or not a checkpoint"),
    ]:
        (path := tmp_path / name).write_bytes(content)
        assert message(read_checkpoint, path, "--teacher") == f"--teacher: {path} ({expected})"
    for missing in (tmp_path / "nothing.pth", tmp_path):
        expected = f"--teacher: {missing} (must be the path of an existing checkpoint file)"
        assert message(read_checkpoint, missing, "--teacher") == expected


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ([1, 2], "must be a checkpoint, a dictionary of weights, and is a list"),
        ({}, "has no weights, only an empty state"),
        ({"epoch": 3, "accuracy": 84.5}, "has no weights, only epoch, accuracy"),
        ({"state_dict": {"step": 3}}, "has no weights, only step"),
        ({"networks": {"fc.weight": torch.ones(2, 2)}, "epoch": 3}, "has no weights, only networks, epoch"),
        (
            {"fc.weight": torch.ones(2, 2), "epoch": 3},
            "has 'epoch': int among its weights, must be names and tensors only",
        ),
        ({7: torch.ones(2, 2)}, "has 7: Tensor among its weights, must be names and tensors only"),
    ],
)
def test_a_state_without_weights_is_refused(tmp_path, state, expected):
    torch.save(state, path := tmp_path / "state.pth")
    assert message(read_checkpoint, path, "--teacher") == f"--teacher: {path} ({expected})"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_file_is_read_or_refused_and_nothing_else(tmp_path, data):
    path = tmp_path / "damaged.pth"
    torch.save({"state_dict": {"w": torch.ones(3)}, "epoch": 3}, path, _use_new_zipfile_serialization=False)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        read_checkpoint(path, "--teacher")
    except InputError as error:
        assert str(error).startswith(f"--teacher: {path} (")  # noqa: PT017


def test_a_saved_checkpoint_is_read_again(tmp_path):
    path = tmp_path / "last.pth.tar"
    save_checkpoint(path, FORMATS["this project's"])
    save_checkpoint(path, FORMATS["this project's"] | {"epoch": 4})
    state = read_state(path, "--resume")
    assert state["epoch"] == 4
    assert state["optimizer"]["param_groups"] == OPTIMIZER["param_groups"]
    assert [file.name for file in tmp_path.iterdir()] == ["last.pth.tar"]


@pytest.mark.parametrize("value", [torch.__version__, collections.UserDict(), small])
def test_a_state_that_could_not_be_read_again_is_not_written(tmp_path, value):
    path = tmp_path / "last.pth.tar"
    path.write_bytes(b"the old one")
    with pytest.raises(
        TypeError, match=r"^state: .*(TorchVersion|UserDict|small).* \(must be plain data and tensors\)$"
    ):
        save_checkpoint(path, TRAINING | {"extra": value})
    assert path.read_bytes() == b"the old one"
    assert len(list(tmp_path.iterdir())) == 1


# Fitting into a model.


def test_half_precision_weights_load_into_a_float32_model():
    model = small(seed=5)
    load_weights(model, in_memory({name: tensor.half() for name, tensor in MODEL.items()}), "--teacher")
    assert model.fc.weight.dtype == torch.float32
    assert torch.equal(model.fc.weight, MODEL["fc.weight"].half().float())


def test_files_without_the_counters_of_batch_norms_load():
    model, weights = small(seed=5), {name: value for name, value in MODEL.items() if "num_batches" not in name}
    assert len(weights) < len(MODEL)
    load_weights(model, in_memory(weights), "--teacher")
    assert all(torch.equal(model.state_dict()[name], weights[name]) for name in weights)


def test_counters_that_the_model_has_not_are_left_out():
    model = small(seed=5)
    strange = {"norm.num_batches_tracked": torch.tensor(1), "bn1.num_batches_tracked": torch.ones(3)}
    load_weights(model, in_memory(MODEL | strange), "--teacher")
    assert torch.equal(model.fc.weight, MODEL["fc.weight"])


def changed(changes, without=()):
    return {name: value for name, value in (MODEL | changes).items() if name not in without}


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        (
            small(1000).state_dict(),
            "weights.pth, a checkpoint of test_resnet, has 1000 classes (must be 10, as many as the model)",
        ),
        (small(10, 3).state_dict(), "has 3 input channels (must be 1, as many as the model)"),
        (
            changed({}, ["layer1.0.conv1.weight"]),
            "has no tensor layer1.0.conv1.weight (must be of test_resnet, which has",
        ),
        (changed({"extra": torch.ones(1)}), "has a tensor extra (must be of test_resnet, which has none)"),
        (
            changed({"bn1.weight": torch.ones(3)}),
            "has bn1.weight of shape (3,) (must be of test_resnet, with shape (32,))",
        ),
        (
            changed({"fc.weight": torch.ones(10, 7)}),
            "has fc.weight of shape (10, 7) (must be of test_resnet, with shape",
        ),
        (changed({"fc.weight": torch.tensor(1.0)}), "has fc.weight of shape () (must be of test_resnet"),
        (changed({"conv1.0.weight": torch.ones(3)}), "has conv1.0.weight of shape (3,) (must be of test_resnet"),
        (changed({"fc.bias": torch.ones(9)}), "has fc.bias of shape (9,) (must be (10,))"),
    ],
)
def test_weights_that_do_not_fit_are_refused_with_the_first_difference(weights, expected):
    model = small(seed=5)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert expected in message(load_weights, model, in_memory(weights, "test_resnet"), "--teacher")
    assert same(model.state_dict(), before)


@pytest.mark.parametrize(
    "architecture", ["test_resnet", "test_convnext", "test_vit", "test_efficientnet", "deit_tiny_distilled_patch16_224"]
)
def test_classes_and_channels_are_those_of_the_file_and_not_of_the_model(architecture):
    weights = timm.create_model(architecture, num_classes=7, in_chans=2).state_dict()
    model = timm.create_model(architecture, num_classes=10, in_chans=1)
    assert (number_of_classes(weights, model), input_channels(weights, model)) == (7, 2)


def test_a_stem_that_folds_pixels_into_channels_takes_the_images_channels():
    model = timm.create_model("tresnet_m", num_classes=2, in_chans=1)
    with torch.device("meta"):
        weights = timm.create_model("tresnet_m", num_classes=3).state_dict()
    assert weights["body.conv1.conv.weight"].size(1) == 48
    assert (number_of_classes(weights, model), input_channels(weights, model)) == (3, 3)


def test_nothing_is_known_of_weights_without_a_classifier():
    weights = {"features": torch.ones(3), "fc.weight": torch.tensor(1.0), "conv1.0.weight": torch.ones(3)}
    assert (number_of_classes(weights, small()), input_channels(weights, small())) == (None, None)


def torchvision_network(name, classes=6):
    """A network with the state of a trained one: statistics of its batch norms, and every parameter different."""
    torch.manual_seed(3)
    network = torchvision.models.get_model(name, weights=None, num_classes=classes)
    with torch.no_grad():
        for key, tensor in network.named_parameters():
            if tensor.dim() == 1 or "layer_scale" in key:
                tensor.add_(0.2 * torch.randn(tensor.shape))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        network.train()(torch.randn(4, 3, 64, 64))
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_var.mul_(0.5 + torch.rand(module.running_var.shape))
    return network.eval()


def assert_computes_the_same(model, network):
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        expected = network(images)
        torch.testing.assert_close(model.eval()(images), expected, rtol=1e-4, atol=1e-4 * expected.std().item())


SLOW = pytest.mark.slow


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "architecture"),
    [
        ("resnet18", "resnet18"),
        ("mobilenet_v2", "mobilenetv2_100"),
        pytest.param("resnet50", "resnet50", marks=SLOW),
        pytest.param("convnext_tiny", "convnext_tiny", marks=SLOW),
        pytest.param("efficientnet_b0", "efficientnet_b0", marks=SLOW),
        pytest.param("mnasnet1_0", "mnasnet_100", marks=SLOW),
        pytest.param("densenet121", "densenet121", marks=SLOW),
        pytest.param("vgg11_bn", "vgg11_bn", marks=SLOW),
        pytest.param("regnet_x_400mf", "regnetx_004_tv", marks=SLOW),
    ],
)
def test_torchvisions_weights_give_torchvisions_logits_in_timm(network, architecture):
    original = torchvision_network(network)
    weights = original.state_dict()
    with_another_head = timm.create_model(architecture, num_classes=10)
    assert (number_of_classes(weights, with_another_head), input_channels(weights, with_another_head)) == (6, 3)
    expected = "weights.pth has 6 classes (must be 10, as many as the model)"
    assert message(load_weights, with_another_head, in_memory(weights), "--model") == f"--model: {expected}"
    model = timm.create_model(architecture, num_classes=6)
    training, randomness = model.training, torch.random.get_rng_state()
    load_weights(model, in_memory(weights), "--model")
    assert torch.equal(torch.random.get_rng_state(), randomness)
    assert model.training == training
    assert next(model.parameters()).dtype == torch.float32
    assert_computes_the_same(model, original)


@pytest.mark.slow
@pytest.mark.parametrize(
    "network",
    ["efficientnet_v2_s", "resnext50_32x4d", "shufflenet_v2_x1_0", "squeezenet1_1", "swin_v2_t", "vgg19", "vit_b_32"],
)
def test_a_network_is_sought_where_torchvision_defines_others_like_it(network):
    names = weight_conversion._names(network)
    assert network in weight_conversion._candidates(dict.fromkeys(names, torch.ones(1)))


@pytest.mark.slow
def test_the_order_is_torchvisions_and_not_the_files():
    original = torchvision_network("mobilenet_v2")
    weights = dict(sorted(original.state_dict().items(), reverse=True))
    model = timm.create_model("mobilenetv2_100", num_classes=6)
    load_weights(model, in_memory(weights), "--model")
    assert_computes_the_same(model, original)


@pytest.mark.slow
def test_a_network_with_the_same_shapes_that_computes_something_else_is_refused():
    # torchvision's batch norms have another epsilon here than timm's.
    weights = torchvision_network("mobilenet_v3_small").state_dict()
    model = timm.create_model("mobilenetv3_small_100", num_classes=6)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert message(load_weights, model, in_memory(weights), "--model") == (
        "--model: weights.pth has weights of torchvision's mobilenet_v3_small (do not fit timm's "
        "mobilenetv3_small_100, whose outputs differ with them)"
    )
    assert same(model.state_dict(), before)


@pytest.mark.slow
def test_a_slightly_different_epsilon_is_noticed():
    weights = torchvision_network("mobilenet_v2").state_dict()
    model = timm.create_model("mobilenetv2_100", num_classes=6, bn_eps=1.001e-5)
    assert "whose outputs differ with them" in message(load_weights, model, in_memory(weights), "--model")


@pytest.mark.slow
def test_weights_whose_logits_do_not_depend_on_the_image_prove_nothing():
    weights = torchvision_network("mobilenet_v2").state_dict()
    weights["classifier.1.weight"].zero_()
    model = timm.create_model("mobilenetv2_100", num_classes=6)
    assert "weights of torchvision's mobilenet_v2" in message(load_weights, model, in_memory(weights), "--model")


@pytest.mark.slow
def test_weights_in_the_right_order_under_names_that_are_not_torchvisions_are_refused():
    weights = {
        f"x{index}": tensor for index, tensor in enumerate(torchvision_network("mobilenet_v2").state_dict().values())
    }
    model = timm.create_model("mobilenetv2_100", num_classes=6)
    expected = "--model: weights.pth has no tensor conv_stem.weight (must be of mobilenetv2_100, which has one)"
    assert message(load_weights, model, in_memory(weights), "--model") == expected


@pytest.mark.slow
def test_torchvisions_weights_of_another_network_are_refused():
    weights = torchvision_network("resnet18").state_dict()
    model = timm.create_model("resnet34", num_classes=6)
    assert "has no tensor layer1.2.conv1.weight (must be of resnet34" in message(
        load_weights, model, in_memory(weights), "--model"
    )


def test_weights_of_the_original_authors_load_through_timms_own_conversion():
    model = timm.create_model("test_convnext", num_classes=6)
    torch.manual_seed(4)
    expected = {name: torch.randn(tensor.shape) for name, tensor in model.state_dict().items()}
    renamed = {
        re.sub(r"stages\.(\d)\.blocks\.(\d)", r"stages.\1.\2", name)
        .replace("stem.", "downsample_layers.0.")
        .replace("conv_dw", "dwconv")
        .replace("mlp.fc", "pwconv")
        .replace("head.norm", "norm")
        .replace("head.fc", "head"): tensor
        for name, tensor in expected.items()
    }
    renamed = {re.sub(r"stages\.(\d)\.downsample", r"downsample_layers.\1", name): renamed[name] for name in renamed}
    assert renamed.keys() != expected.keys()
    assert number_of_classes(renamed, timm.create_model("test_convnext", num_classes=10)) == 6
    load_weights(model, in_memory(renamed), "--model")
    assert same(model.state_dict(), expected)
