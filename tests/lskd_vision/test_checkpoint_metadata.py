"""The metadata of a checkpoint are validated before they are used: anyone may have written it."""

import argparse

import pytest
import timm
import torch

from lskd.io.errors import InputError
from lskd_vision.checkpoints import read_checkpoint
from lskd_vision.class_names import check_classes
from lskd_vision.models import rebuild
from lskd_vision.teacher import what_is_known

DATA = {"mean": [0.5], "std": [0.2]}


def record(data: object = DATA, classes: object = ("a", "b", "c"), **made) -> dict:
    made = {"label_smoothing": 0.1, "kd_weight": 0.0, "host": {"data_config": data}} | made
    return {"configuration": made, "data": {"classes": classes}}


@pytest.fixture
def loaded(tmp_path):
    """The model, and what is known of it, of a checkpoint that tells these things."""

    weights = timm.create_model("test_resnet", num_classes=3).state_dict()

    def loaded(**state):
        torch.save({"arch": "test_resnet", "state_dict": weights} | state, tmp_path / "c.pth.tar")
        checkpoint = read_checkpoint(tmp_path / "c.pth.tar", "checkpoint")
        return rebuild(checkpoint, None, "checkpoint"), what_is_known(checkpoint, "checkpoint")

    return loaded


OPTIONS = {
    "mean": ["a", 0.5, [None]],
    "input_size": [3, [3, 32], [3, 32, "a"], [3, 32, 2**40], [3, 32, 0, 1]],
    "img_size": ["32", 2**40, -1],
    "in_chans": [2.5, 2**63],
    "num_classes": ["3"],
    "crop_pct": [7, "a", float("nan")],
    "interpolation": ["a", ["bicubic"], 3],
    "model_kwargs": [
        [1],
        {"pretrained": True},
        {"pretrained_cfg_overlay": {"url": "https://example.invalid/weights.pth"}},
        {"checkpoint_path": "/etc/passwd"},
        {"num_classes": 30_000_000},
        {"layers": [10**9]},
        {3: 4},
    ],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in OPTIONS.items() for value in values])
def test_an_option_that_is_not_valid_is_refused_in_one_line(loaded, name, value):
    for args in ({name: value}, argparse.Namespace(**{name: value})):
        with pytest.raises(InputError, match=rf"^checkpoint: .*c.pth.tar: args(\.| .){name}") as error:
            loaded(args=args)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("class_order", "random"),
        ("class_order", ["natural"]),
        ("input_img_mode", "F"),
        ("max_pixel_value", -1),
        ("max_pixel_value", "255"),
        ("max_pixel_value", float("nan")),
    ],
)
def test_an_option_about_images_that_is_not_valid_is_refused_in_one_line_where_it_is_used(loaded, name, value):
    with pytest.raises(InputError, match=rf"^checkpoint: .*c.pth.tar: args\.{name}"):
        loaded(args={name: value}, lskd=record())
    loaded(args={name: value})  # in other programs' checkpoints it is not used


@pytest.mark.parametrize("name", ["hf-hub:somebody/model", "local-dir:/somewhere", "somebody/model"])
def test_a_model_is_not_fetched_because_a_file_names_it(loaded, name, monkeypatch):
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: pytest.fail("made"))
    with pytest.raises(InputError, match="which timm would fetch; name it yourself"):
        loaded(arch=name)


def test_a_data_set_is_not_fetched_because_a_file_names_it(loaded):
    refused = r"args .dataset must be a data set of torchvision or lskd/arrays: name others with --dataset"
    for name in ("hfds/a/b", "lskd/other"):
        with pytest.raises(InputError, match=refused):
            loaded(args={"dataset": name}, lskd=record())
    loaded(args={"dataset": "hfds/a/b"})  # in other programs' checkpoints no data set is used
    loaded(args={"dataset": "torch/fashion_mnist"}, lskd=record())
    loaded(args={"dataset": "lskd/arrays"}, lskd=record())


def test_no_model_is_made_that_is_larger_than_its_weights(loaded):
    with pytest.raises(InputError, match=r"is too small for a resnet18 with 11\d+ weights"):
        loaded(arch="resnet18")


@pytest.mark.parametrize(
    "made",
    [
        record({"mean": ["a"], "std": [0.2]}),
        record({"mean": 0.5, "std": [0.2]}),
        record(classes=[{}, "b", "c"]),
        record(classes="abc"),
        record(label_smoothing="0.1"),
        record(kd_weight=None),
        record(host=[]),
    ],
)
def test_a_record_of_ours_with_other_types_is_refused_in_one_line(loaded, made):
    with pytest.raises(InputError, match=r"c.pth.tar: lskd\.") as error:
        loaded(lskd=made)
    assert "\n" not in str(error.value)


def test_what_trainings_write_is_valid(loaded):
    args = {"model": "test_resnet", "dataset": "", "class_map": "", "val_split": "validation", "input_img_mode": None}
    args |= {"img_size": 64, "in_chans": 3, "input_size": [3, 64, 64], "interpolation": "bicubic", "crop_pct": 1.0}
    args |= {"model_kwargs": {"drop_rate": 0.1}, "mean": None, "num_classes": None}
    args |= {"class_order": "torchvision", "max_pixel_value": 4095.0}
    model, known = loaded(args=args, lskd=record())
    assert model.num_classes == 3
    assert known["label_smoothing"] == 0.1
    assert known["class_names"] == ["a", "b", "c"]


def test_another_number_of_class_names_than_classes_is_refused():
    with pytest.raises(InputError, match="names 3 classes"):
        check_classes(2, ["a", "b", "c"], ["a", "b"], "checkpoint", "c.pth.tar")
