import argparse
import copy
import random
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from timm.models import save_for_hf
from torch import nn

from lskd.io.errors import InputError
from lskd.measure.teacher_smoothing import of_several
from lskd.records.fingerprints import weights_fingerprint
from lskd_vision.checkpoints import read_checkpoint, save_checkpoint
from lskd_vision.teacher import (
    Normalisation,
    Teacher,
    input_config,
    load_teacher,
    what_is_known,
)

CPU = torch.device("cpu")
NAMES = [f"class {number}" for number in range(7)]
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
SIZE = (3, 64, 64)


def make(name="test_resnet", classes=7, channels=3, seed=0, **options):
    """A model whose batch norms are not at their initial values."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = timm.create_model(name, num_classes=classes, in_chans=channels, **options)
        with torch.no_grad():
            for module in model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.weight.uniform_(0.5, 1.5)
                    module.running_mean.uniform_(-0.5, 0.5)
                    module.running_var.uniform_(0.5, 1.5)
            model.get_classifier().weight.normal_()
    return model


def images(channels=3, number=4):
    return torch.randn(number, channels, 64, 64, generator=torch.Generator().manual_seed(1))


def refusal(call, *arguments, **keywords):
    with pytest.raises(InputError) as error:
        call(*arguments, **keywords)
    assert "\n" not in str(error.value)
    return str(error.value)


def load(path=None, name=None, names=NAMES, size=SIZE, **options):
    return load_teacher(name, path, names, [size], CPU, **options)


@pytest.fixture
def saved(tmp_path):
    """Write a checkpoint of ``make()`` with what is given beside its weights; gives its path."""

    def save(weights=None, **state) -> Path:
        path = tmp_path / "teacher.pth.tar"
        save_checkpoint(path, {"arch": "test_resnet", "state_dict": weights or make().state_dict()} | state)
        return path

    return save


# ---- what a teacher is


def test_a_teacher_is_frozen_and_in_eval_mode():
    teacher = Teacher(make(drop_rate=0.5, drop_path_rate=0.5).train())
    assert not any(module.training for module in teacher.model.modules())
    assert not any(tensor.requires_grad for tensor in teacher.model.parameters())
    batch = images().requires_grad_()
    first, second = teacher(batch), teacher(batch)
    assert torch.equal(first.logits, second.logits)
    assert not first.logits.requires_grad
    assert not teacher.logits(batch).requires_grad
    assert not first.features


def test_a_teacher_asked_takes_no_random_numbers_and_keeps_its_weights():
    teacher = Teacher(make(drop_rate=0.5))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    teacher(images())
    teacher.logits(images())
    assert torch.equal(torch.get_rng_state(), before)
    assert weights_fingerprint(teacher.model.state_dict()) == teacher.fingerprint


def test_features_come_with_the_logits_where_they_are_wanted():
    model = make()
    expected = copy.deepcopy(model).eval()(images())
    output = Teacher(model, features=True)(images())
    assert torch.equal(output.logits, expected)
    assert [stage.shape[1] for stage in output.features] == [32, 48, 192, 96]
    assert "--kd-model-name: test_vit" in refusal(Teacher, make("test_vit", img_size=64), features=True)


@pytest.mark.parametrize("features", [True, False])
def test_batch_statistics_change_what_a_teacher_says_and_nothing_that_it_is(features):
    model = make()
    trained = copy.deepcopy(model).train()
    teacher = Teacher(model, features=features, use_batch_statistics=True)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    output = teacher(images())
    usual = Teacher(copy.deepcopy(model))(images())
    torch.testing.assert_close(output.logits, trained(images()))
    assert (output.logits - usual.logits).abs().max() > 0.1
    assert torch.equal(teacher.logits(images()), usual.logits)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes


def test_a_compiled_teacher_is_still_its_model():
    model = make()
    teacher = Teacher(model)
    expected = teacher(images()).logits
    teacher.wrapped.compile(backend="eager")
    assert teacher.model is model
    assert torch.equal(teacher(images()).logits, expected)


def test_the_fingerprint_is_of_the_weights_in_the_checkpoint_alone(saved, tmp_path):
    weights = make().state_dict()
    safetensors.torch.save_file(weights, tmp_path / "w.safetensors", {"arch": "test_resnet"})
    teachers = [load(saved(epoch=3, args={"smoothing": 0.1})), load(tmp_path / "w.safetensors")]
    assert {teacher.fingerprint for teacher in teachers} == {weights_fingerprint(weights)}
    other = {name: tensor.clone() for name, tensor in weights.items()}
    other["fc.bias"][0] += 1e-3
    assert load(saved(other)).fingerprint not in {teachers[0].fingerprint}


# ---- inputs


@pytest.mark.parametrize("channels", [1, 3])
def test_inputs_normalised_for_a_student_are_normalised_for_the_teacher(channels):
    mean, std = (0.5, 0.4, 0.3)[:channels], (0.25, 0.2, 0.3)[:channels]
    theirs = {"mean": (0.1, 0.2, 0.3)[:channels], "std": (0.3, 0.2, 0.1)[:channels]}
    model = make(channels=channels)
    exact = copy.deepcopy(model).double().eval()
    teacher = Teacher(model, **theirs)
    pixels = torch.rand(4, channels, 64, 64, generator=torch.Generator().manual_seed(1))
    ours = Normalisation.of({"mean": mean, "std": std}, CPU)
    for_student = (pixels - ours.mean) / ours.std
    as_doubles = [torch.tensor(theirs[name]).double().view(1, -1, 1, 1) for name in ("mean", "std")]
    with torch.no_grad():
        expected = exact((pixels.double() - as_doubles[0]) / as_doubles[1])
        otherwise = exact(for_student.double())
    for logits in (teacher(for_student, ours).logits, teacher.logits(for_student, ours)):
        assert logits.shape == (4, 7)
        assert (logits - expected).norm() < 1e-4 * expected.norm()
        assert (logits - otherwise).norm() > 1e-2 * expected.norm()
    # Without a normalisation they are taken as they are; with its own they come to the same.
    assert torch.equal(teacher(for_student).logits, model(for_student))
    assert torch.equal(teacher(for_student, Normalisation.of(theirs, CPU)).logits, model(for_student))


def test_a_teacher_of_one_channel_is_not_given_three():
    model = make(channels=1)
    assert len(model.pretrained_cfg["mean"]) == 3
    model.pretrained_cfg = dict(model.pretrained_cfg) | IMAGENET
    seen = []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    pixels = torch.rand(2, 1, 64, 64)
    ours = Normalisation.of({"mean": (0.2,), "std": (0.3,)}, CPU)
    Teacher(model)((pixels - 0.2) / 0.3, ours)
    torch.testing.assert_close(seen[0], (pixels - sum(IMAGENET["mean"]) / 3) / (sum(IMAGENET["std"]) / 3))


def test_an_input_configuration_has_one_value_a_channel_and_what_is_given():
    model = make(channels=2)
    model.pretrained_cfg = dict(model.pretrained_cfg) | {"mean": (0.2, 0.3, 0.4)}
    config = input_config(model, std=(0.1,))
    assert config["mean"] == pytest.approx((0.3, 0.3))
    assert config["std"] == (0.1, 0.1)
    assert config["input_size"] == model.pretrained_cfg["input_size"]
    assert model.pretrained_cfg["mean"] == (0.2, 0.3, 0.4)


# ---- what is known of its training

OURS = {
    "configuration": {
        "label_smoothing": 0.1,
        "kd_weight": 0.0,
        "temperature": None,
        "host": {"data_config": {"mean": [0.25], "std": [0.5]}},
    },
    "data": {"classes": NAMES},
}
CONFIGURED, UNKNOWN = "the teacher's configuration", "unknown: not recorded in the checkpoint"
DISTILLED = "unknown: trained with distillation"


def ours(**configuration):
    return {"lskd": OURS | {"configuration": OURS["configuration"] | configuration}, "args": {"smoothing": 0.7}}


@pytest.mark.parametrize(
    ("state", "alpha", "source"),
    [
        (ours(), 0.1, CONFIGURED),
        (ours(label_smoothing=0.0), 0.0, CONFIGURED),
        (ours(kd_weight=1.0, label_smoothing=0.0), None, DISTILLED),
        (ours(kd_weight=0.3), None, DISTILLED),
        ({"args": argparse.Namespace(smoothing=0.1)}, 0.1, CONFIGURED),
        ({"args": argparse.Namespace(smoothing=0.0, label_smoothing=0.2)}, 0.0, CONFIGURED),
        ({"args": {"smoothing": 0.1}}, 0.1, CONFIGURED),
        ({"args": argparse.Namespace(smoothing=0.1, kd_model_name="resnet50")}, None, DISTILLED),
        ({"args": argparse.Namespace(smoothing=0.1, kd_model_name=None)}, 0.1, CONFIGURED),
        ({"args": argparse.Namespace(label_smoothing=0.1, model="resnet50")}, 0.1, CONFIGURED),  # torchvision's
        ({"args": argparse.Namespace(lr=0.1)}, None, UNKNOWN),
        ({"best_acc1": 76.1, "epoch": 90}, None, UNKNOWN),  # the authors': {epoch, arch, state_dict, best_acc1, …}
        ({}, None, UNKNOWN),
    ],
)
def test_a_teachers_smoothing_is_read_from_its_checkpoint(saved, state, alpha, source):
    known = what_is_known(read_checkpoint(saved(**state), "--kd-checkpoint"), "--kd-checkpoint")
    assert (known.get("label_smoothing"), known["source"]) == (alpha, source)
    channels = 1 if "lskd" in state else 3
    path = saved(make(channels=channels).state_dict(), **state)
    teacher = load(path, "test_resnet", size=(channels, 64, 64))
    assert teacher.label_smoothing == {"alpha": alpha, "source": source}


@pytest.mark.parametrize(
    ("options", "mixed"),
    [
        ({"mixup": 0.8}, True),
        ({"cutmix": 1.0, "mixup_prob": 0.5}, True),
        ({"cutmix_minmax": [0.2, 0.8]}, True),
        ({"mixup_alpha": 0.2}, True),  # torchvision's
        ({"mixup": 0.8, "mixup_prob": 0}, False),
        ({"mixup": 0.0, "cutmix": 0.0, "cutmix_minmax": None}, False),
        ({"mixup": "beta"}, False),
    ],
)
def test_a_teacher_whose_labels_were_mixed_is_recorded_so(saved, options, mixed):
    of_ours = ours(label_smoothing=0.0)
    of_ours["lskd"]["configuration"]["host"] = OURS["configuration"]["host"] | options
    more = {"mixed_labels": True} if mixed else {}
    source = CONFIGURED + ", which also mixed labels" * mixed
    for channels, state in ((1, of_ours), (3, {"args": {"smoothing": 0.0} | options})):
        path = saved(make(channels=channels).state_dict(), **state)
        teacher = load(path, "test_resnet", size=(channels, 64, 64))
        assert teacher.label_smoothing == {"alpha": 0.0, "source": source} | more
        known = what_is_known(read_checkpoint(path, "checkpoint"), "checkpoint")
        assert known.get("mixed_labels", False) == mixed
    assert of_several([teacher.label_smoothing, {"alpha": 0.1, "source": "a"}]) == {"alpha": 0.1, "source": "a"} | more


@pytest.mark.parametrize("record", [{"configuration": {}}, {"configuration": None, "data": {}}, {"best": 1.0}])
def test_a_record_of_ours_that_is_not_whole_is_refused(saved, record):
    with pytest.raises(InputError, match=r"lskd.* \((must have the field|must be an object)"):
        load(saved(lskd=record), "test_resnet")


def test_our_own_checkpoint_also_tells_classes_and_normalisation(saved):
    teacher = load(saved(make(channels=1).state_dict(), **ours()), size=(1, 64, 64))
    assert teacher.class_names == NAMES
    assert [teacher.wrapped.mean_kd.flatten().tolist(), teacher.wrapped.std_kd.flatten().tolist()] == [[0.25], [0.5]]


def test_timms_options_tell_its_normalisation_where_one_was_given(saved):
    teacher = load(saved(args=argparse.Namespace(mean=[0.1, 0.2, 0.3], std=None)))
    assert teacher.wrapped.mean_kd.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert teacher.wrapped.std_kd.flatten().tolist() == [0.5, 0.5, 0.5]
    assert teacher.class_names is None


def test_the_record_of_a_teacher_holds_what_a_reader_wants_to_know(saved):
    path = saved(**ours())
    assert load(path).record() == {
        "paths": [str(path.resolve())],
        "model": "test_resnet",
        "fingerprint": weights_fingerprint(make().state_dict()),
        "label_smoothing": {"alpha": 0.1, "source": CONFIGURED},
        "valid": {},
    }
    assert Teacher(make(), "a name").record()["paths"] == []


# ---- loading


def test_a_teacher_is_loaded_without_taking_random_numbers(saved):
    path = saved()
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    teacher = load(path)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]
    assert torch.equal(teacher(images()).logits, make().eval()(images()))


@pytest.mark.parametrize("others", [True, False])
def test_files_may_hold_the_same_types_after_a_teacher_is_loaded_as_before(saved, others):
    allowed = torch.serialization.get_safe_globals()
    try:
        if others:  # as fairseq's side does
            torch.serialization.add_safe_globals([argparse.Namespace])
        before = set(torch.serialization.get_safe_globals())
        load(saved(args=argparse.Namespace(smoothing=0.1)))
        assert set(torch.serialization.get_safe_globals()) == before
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(allowed)


@pytest.fixture
def published(tmp_path):
    """A directory as timm publishes a pretrained model, in its own ``local-dir:`` scheme."""
    model = make()
    model.pretrained_cfg = dict(model.pretrained_cfg) | IMAGENET
    save_for_hf(model, tmp_path / "published", safe_serialization=True, model_config={"num_classes": 7})
    return model, f"local-dir:{tmp_path / 'published'}"


def test_pretrained_weights_are_a_teacher_by_their_name_alone(published):
    model, name = published
    torch.manual_seed(1)
    before = torch.get_rng_state()
    teacher = load(name=name)
    assert torch.equal(torch.get_rng_state(), before)
    assert teacher.fingerprint == weights_fingerprint(model.state_dict())
    assert teacher.label_smoothing == {"alpha": None, "source": "unknown: timm's pretrained weights"}
    assert teacher.wrapped.mean_kd.flatten().tolist() == pytest.approx(IMAGENET["mean"])
    assert torch.equal(teacher(images()).logits, model.eval()(images()))
    assert (teacher.name, teacher.path, teacher.record()["paths"]) == (name, None, [])
    assert not any(tensor.requires_grad for tensor in teacher.model.parameters())


def test_pretrained_weights_with_other_classes_or_channels_are_refused(published):
    _, name = published
    message = refusal(load, name=name, names=NAMES[:6])
    assert message == f"--kd-model-name: {name} (has 7 classes, must be the data's 6)"
    assert "wants 3 input channels, must be the student's 1" in refusal(load, name=name, size=(1, 64, 64))


def test_a_checkpoint_that_does_not_fit_the_data_is_refused_by_its_path(saved):
    path = saved()
    assert refusal(load, path, names=NAMES[:6]) == f"--kd-checkpoint: {path} (has 7 classes, must be the data's 6)"
    message = refusal(load, path, size=(1, 64, 64))
    assert message == f"--kd-checkpoint: {path} (wants 3 input channels, must be the student's 1)"
    assert "--kd-checkpoint" in refusal(load, path, "resnet50")
    assert "--kd-checkpoint" in refusal(load, path.with_name("no.pth"))
    vit = saved(make("test_vit", img_size=64).state_dict(), arch="test_vit", args={"img_size": 64})
    load(vit)
    assert "cannot take images of 3x28x28" in refusal(load, vit, size=(3, 28, 28))


def test_a_checkpoint_with_the_classes_in_another_order_is_refused(saved):
    names = [*NAMES[:2], NAMES[3], NAMES[2], *NAMES[4:]]
    path = saved(**ours())
    load(path)
    message = refusal(load, path, names=names)
    assert message == f"--kd-checkpoint: {path} (has 'class 2' as class 2, the data have 'class 3')"
