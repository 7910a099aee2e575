"""Representation files: what goes in comes out, and what is no such file is refused by name."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from lskd.errors import InputError
from lskd.representations import Recorder, read_representations, record, write_representations

RANDOM = np.random.default_rng(3)


def example(number: int = 12, dtype: type = np.float32):
    """Representations with everything in them."""
    labels = np.arange(number) % 3
    return record(
        RANDOM.standard_normal((number, 4)).astype(dtype),
        labels,
        ["Katze", "▁the", "дом"],
        weight=RANDOM.standard_normal((3, 4)).astype(np.float32),
        bias=RANDOM.standard_normal(3).astype(np.float32),
        correct=np.array([[3, 2, 1], [4, 4, 4]]),
        entropy=np.array([[1.0, 5.0, 4.0], [2.0, 9.0, 8.0]]),
        provenance={"model": "resnet", "configuration": {"temperature": 3.0}},
    )


def write(path, representations):
    write_representations(path, representations)
    return path


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("number", [0, 12])
def test_what_is_written_is_read(tmp_path, dtype, number):
    written = example(number, dtype)
    read = read_representations(write(tmp_path / "a.representations.safetensors", written))
    assert read.class_names == written.class_names
    assert read.provenance == written.provenance
    assert read.features.dtype == dtype
    for name in ("features", "labels", "index", "weight", "bias", "correct", "entropy"):
        np.testing.assert_array_equal(getattr(read, name), getattr(written, name))
    for name in ("counts", "sums", "squares"):
        np.testing.assert_array_equal(getattr(read.moments, name), getattr(written.moments, name))
    assert read.complete


def test_what_is_not_there_is_not_there_after_reading(tmp_path):
    plain = record(np.eye(2), np.array([0, 1]), ["a", "b"])
    read = read_representations(write(tmp_path / "a.representations.safetensors", plain))
    assert read.weight is read.bias is read.correct is None
    assert len(read.entropy) == 0
    with pytest.raises(ValueError, match="weight: none"):
        read.logits()


def test_features_stay_on_the_disk_until_they_are_used(tmp_path):
    read = read_representations(write(tmp_path / "a.representations.safetensors", example()))
    assert isinstance(read.features, np.memmap)


def test_logits_are_features_times_weight_plus_bias_in_float64(tmp_path):
    written = example(dtype=np.float16)
    read = read_representations(write(tmp_path / "a.representations.safetensors", written))
    expected = np.zeros((12, 3))
    for row, sample in enumerate(written.features):
        for label in range(3):
            products = [float(x) * float(w) for x, w in zip(sample, written.weight[label], strict=True)]
            expected[row, label] = sum(products) + float(written.bias[label])
    np.testing.assert_allclose(read.logits(), expected, rtol=1e-12)
    assert read.logits().dtype == np.float64
    np.testing.assert_array_equal(read.logits(2, 5), read.logits()[2:5])
    np.testing.assert_array_equal(np.concatenate(list(read.logit_chunks(elements=7))), read.logits())
    assert [len(chunk) for chunk in read.logit_chunks(elements=7)] == [2] * 6


def test_features_of_a_class_are_the_first_of_those_kept():
    one = example()
    np.testing.assert_array_equal(one.of_class(1), one.features[[1, 4, 7, 10]])
    np.testing.assert_array_equal(one.of_class(1, 2), one.features[[1, 4]])


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(st.integers(0, 3), max_size=6), max_size=5), st.sets(st.integers(0, 3)), st.integers(0, 3))
def test_a_recorder_keeps_the_first_of_the_chosen_classes_and_counts_all(batches, keep, most):
    recorder = Recorder("abcd", 2, keep_classes=keep, keep_per_class=most)
    labels = np.array([label for batch in batches for label in batch], np.int64)
    features = np.random.default_rng(0).standard_normal((len(labels), 2))
    start = 0
    for batch in batches:
        stop = start + len(batch)
        recorder.add(features[start:stop], np.array(batch, np.int64))
        start = stop
    found = recorder.result(provenance={"split": "train"})
    kept = [i for i, label in enumerate(labels) if label in keep and (labels[:i] == label).sum() < most]
    np.testing.assert_array_equal(found.index, kept)
    np.testing.assert_array_equal(found.labels, labels[kept])
    np.testing.assert_array_equal(found.features, features[kept].astype(np.float32))
    assert found.features.dtype == np.float32
    np.testing.assert_array_equal(found.moments.counts, np.bincount(labels, minlength=4))
    assert found.complete == (len(kept) == len(labels))
    assert found.provenance == {"split": "train"}


def test_a_recorder_keeps_everything_unless_told_otherwise():
    recorder = Recorder("ab", 1, dtype=np.float16)
    recorder.add(np.array([[1.0], [2.0], [3.0]]), np.array([1, 0, 1]))
    found = recorder.result()
    assert found.complete
    assert found.features.dtype == np.float16


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: record(np.zeros((1, 2)), np.array([0]), []), "class_names: none"),
        (lambda: record(np.zeros((1, 2)), np.array([0]), ["a", "a"]), "class_names: 'a' twice"),
        (lambda: record(np.zeros(2), np.array([0]), ["a"]), "features: shape"),
        (lambda: record(np.zeros((1, 2)), np.array([1]), ["a"]), "labels: 1"),
        (lambda: Recorder("ab", 2, keep_classes=[2]), "labels: 2"),
    ],
)
def test_what_cannot_be_recorded_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_file_of_another_name_is_not_written(tmp_path):
    with pytest.raises(InputError, match=r"must end in .representations.safetensors"):
        write_representations(tmp_path / "a.safetensors", example())
    assert not list(tmp_path.iterdir())


def changed(path, tensors=None, **about):
    """The file with other tensors (None takes one away) and other words in its metadata."""
    content = load_file(path) | (tensors or {})
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        words = json.loads(file.metadata()["lskd"]) | about
    save_file({k: v for k, v in content.items() if v is not None}, path, {"lskd": json.dumps(words)})


@pytest.mark.parametrize(
    ("tensors", "about", "message"),
    [
        ({"labels": np.array([5] * 12)}, {}, "labels: 5"),
        ({"labels": np.zeros(11, np.int64)}, {}, "labels of shape"),
        ({"index": np.zeros(11, np.int64)}, {}, "index of shape"),
        ({"weight": np.zeros((3, 5))}, {}, "weight of shape"),
        ({"bias": np.zeros(4)}, {}, "bias of shape"),
        ({"features": np.zeros((12, 5))}, {}, "features of shape"),
        ({"counts": np.zeros(2, np.int64)}, {}, "counts of shape"),
        ({"correct": np.zeros((1, 3), np.int64)}, {}, "correct of shape"),
        ({"sums": np.full((3, 4), np.nan)}, {}, "not finite"),
        ({"sums": None}, {}, "sums"),
        ({"features": None}, {}, "features"),
        ({"features": np.zeros((12, 4), np.int32)}, {}, "features of type int32"),
        ({}, {"class_names": ["a", "a", "b"]}, "'a' twice"),
        ({}, {"schema_version": 2}, "schema version 2, read is up to 1"),
        ({}, {"schema_version": "x"}, "metadata"),
        ({}, {"class_names": [1, 2, 3]}, "class_names"),
        ({}, {"provenance": "text"}, "provenance .must be an object"),
        ({}, {"provenance": {"configuration": []}}, "provenance, configuration .must be an object"),
        ({}, {"provenance": {"configuration": {"label_smoothing": "a"}}}, "label_smoothing .must be a number"),
        ({}, {"provenance": {"teacher": {"label_smoothing": {"alpha": float("inf")}}}}, "alpha .must be a number"),
        ({}, {"provenance": {"model": 3}}, "provenance, model .must be a text"),
    ],
)
def test_a_file_that_is_not_as_it_should_be_is_refused_by_name(tmp_path, tensors, about, message):
    path = write(tmp_path / "a.representations.safetensors", example())
    changed(path, tensors, **about)
    with pytest.raises(InputError, match=message) as refused:
        read_representations(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_something_else_is_refused_by_name(tmp_path):
    for name, content in {"text": b"hello", "short": b"", "zip": b"PK\x03\x04" + bytes(100)}.items():
        path = tmp_path / f"{name}.representations.safetensors"
        path.write_bytes(content)
        with pytest.raises(InputError, match="must be a representation file"):
            read_representations(path)
    save_file({"a": np.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="must be a representation file"):
        read_representations(tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="must be a file"):
        read_representations(tmp_path / "missing.representations.safetensors")


def test_analysis_needs_numpy_alone():
    modules = ["representations", "diffusion", "projection", "smoothness", "similar_classes"]
    heavy = {"torch", "timm", "fairseq", "sklearn", "matplotlib", "scipy", "safetensors"}
    code = f"import sys, {', '.join('lskd.' + name for name in modules)}; print({heavy} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_a_file_may_be_read_by_whoever_may_read_new_files(tmp_path):
    path = write(tmp_path / "a.representations.safetensors", example())
    (tmp_path / "other").touch()
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize(("most", "step"), [(1, 12), (5, 3), (6, 2), (11, 2), (12, 1), (99, 1)])
def test_thinned_representations_keep_every_so_many_samples(most, step):
    whole = example()
    few = whole.thinned(most)
    assert len(few.labels) <= most
    for name in ("features", "labels", "index"):
        np.testing.assert_array_equal(getattr(few, name), getattr(whole, name)[::step])
    assert few.moments is whole.moments
    np.testing.assert_array_equal(few.logits(), whole.logits()[::step])
