import dataclasses
import hashlib
import random
import struct

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lskd.measure.smoothing_estimate import SmoothingEstimate
from lskd.measure.teacher_smoothing import temperature_warnings, with_estimate
from lskd.records.fingerprints import weights_fingerprint

WEIGHTS = {"layer.weight": torch.arange(6.0).view(2, 3), "layer.bias": torch.zeros(2), "count": torch.tensor(7)}


def changed(**tensors):
    return WEIGHTS | {name.replace("_", "."): tensor for name, tensor in tensors.items()}


def test_a_fingerprint_is_of_names_dtypes_shapes_and_bytes_in_the_order_of_names():
    expected = hashlib.sha256(b"count torch.int64 ()" + struct.pack("<q", 7))
    expected.update(b"layer.bias torch.float32 (2,)" + struct.pack("<2f", 0, 0))
    expected.update(b"layer.weight torch.float32 (2, 3)" + struct.pack("<6f", *range(6)))
    assert weights_fingerprint(WEIGHTS) == expected.hexdigest()


@pytest.mark.parametrize(
    "other",
    [
        changed(layer_bias=torch.tensor([0.0, 1e-30])),
        changed(layer_bias=torch.tensor([0.0, -0.0])),
        changed(layer_bias=torch.zeros(2, dtype=torch.bfloat16)),
        changed(layer_bias=torch.zeros(2, dtype=torch.int32)),
        changed(layer_weight=torch.arange(6.0).view(3, 2)),
        changed(layer_weight=torch.arange(6.0).view(2, 3).flip(0)),
        changed(count=torch.tensor(8)),
        changed(extra=torch.zeros(0)),
        {name: WEIGHTS[name] for name in ("layer.weight", "layer.bias")},
        {name.upper(): tensor for name, tensor in WEIGHTS.items()},
        {**WEIGHTS, "layer.bias": WEIGHTS["count"], "count": WEIGHTS["layer.bias"]},
    ],
)
def test_a_fingerprint_changes_with_any_value_dtype_shape_or_name(other):
    assert weights_fingerprint(other) != weights_fingerprint(WEIGHTS)


def test_a_fingerprint_does_not_depend_on_how_the_weights_are_held():
    items = list(WEIGHTS.items())
    random.Random(1).shuffle(items)
    held = {name: torch.nn.Parameter(tensor) if tensor.is_floating_point() else tensor for name, tensor in items}
    transposed = torch.empty(3, 2).t().copy_(WEIGHTS["layer.weight"])
    assert not transposed.is_contiguous()
    held["layer.weight"] = transposed
    assert weights_fingerprint(held) == weights_fingerprint(WEIGHTS)


def test_a_fingerprint_is_of_the_weights_alone_whatever_else_is_in_their_file(tmp_path):
    for name, epoch in (("a.pt", 1), ("b.pt", 2)):
        torch.save({"model": WEIGHTS, "epoch": epoch, "args": {"smoothing": 0.1 * epoch}}, tmp_path / name)
    found = [torch.load(tmp_path / name, weights_only=True)["model"] for name in ("a.pt", "b.pt")]
    assert weights_fingerprint(found[0]) == weights_fingerprint(found[1]) == weights_fingerprint(WEIGHTS)


def test_a_fingerprint_leaves_the_weights_as_they_are():
    weights = {name: tensor.clone() for name, tensor in WEIGHTS.items()}
    weights_fingerprint(weights)
    assert all(torch.equal(weights[name], tensor) for name, tensor in WEIGHTS.items())


def test_weights_of_half_precision_have_a_fingerprint():
    assert weights_fingerprint({"w": torch.ones(3, dtype=torch.bfloat16)}) != weights_fingerprint({"w": torch.ones(3)})


@given(alpha=st.floats(0.001, 0.9), temperature=st.floats(1.001, 64))
def test_a_smoothed_teacher_at_a_high_temperature_is_warned_of_with_both_numbers(alpha, temperature):
    (warning,) = temperature_warnings({"alpha": alpha}, temperature)
    assert f"trained with label smoothing (α = {alpha:.3g})" in warning
    assert f"T = {temperature:g}" in warning
    assert "\n" not in warning


@given(temperature=st.floats(0.1, 64))
def test_nothing_is_warned_of_without_smoothing_or_without_a_high_temperature(temperature):
    assert temperature_warnings({"alpha": 0.0}, temperature) == []
    assert temperature_warnings({"alpha": None}, temperature) == []
    assert temperature_warnings({"alpha": 0.1}, min(temperature, 1.0)) == []


SMOOTHED = SmoothingEstimate(0.098, 0.05, 0.2, "smoothed", "a floor")
UNKNOWN = {"alpha": None, "source": "unknown: timm's pretrained weights"}


def test_outputs_speak_where_the_configuration_does_not():
    known = with_estimate(UNKNOWN, SMOOTHED)
    assert known["alpha"] is None
    assert known["estimate"]["alpha"] == 0.098
    assert known["source"] == "unknown: timm's pretrained weights; by its outputs: smoothed"
    (warning,) = temperature_warnings(known, 4.0)
    assert "outputs are those of smoothed labels (α between 0.05 and 0.2;" in warning
    assert temperature_warnings(known, 1.0) == []


def test_what_an_earlier_rule_said_of_the_outputs_is_not_warned_of_and_makes_room_for_a_later_one():
    earlier = dataclasses.asdict(SMOOTHED)
    del earlier["revision"]
    known = {"alpha": None, "source": "unknown; by its outputs: smoothed", "estimate": earlier}
    assert temperature_warnings(known, 4.0) == []
    later = with_estimate(known, SmoothingEstimate(None, None, None, "cannot tell", ""))
    assert later["source"] == "unknown; by its outputs: cannot tell"


def test_outputs_are_not_asked_where_the_configuration_speaks():
    known = {"alpha": 0.0, "source": "the teacher's configuration"}
    assert with_estimate(known, SMOOTHED) == known


@pytest.mark.parametrize("verdict", ["not smoothed", "cannot tell"])
def test_nothing_is_warned_of_where_outputs_show_no_smoothing(verdict):
    alpha = 0.0 if verdict == "not smoothed" else None
    known = with_estimate(UNKNOWN, SmoothingEstimate(alpha, alpha, alpha, verdict, ""))
    assert temperature_warnings(known, 4.0) == []
    assert known["estimate"]["verdict"] == verdict
