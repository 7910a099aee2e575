"""Representation files: what goes in comes out, and what is no such file is refused by name."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from lskd.io.errors import InputError
from lskd.measure.representation_collector import RepresentationCollector
from lskd.measure.representations import collect, read_representations, write_representations

RANDOM = np.random.default_rng(3)


def example(number: int = 12, dtype: type = np.float32):
    """Representations with everything in them."""
    labels = np.arange(number) % 3
    return collect(
        RANDOM.standard_normal((number, 4)).astype(dtype),
        labels,
        ["Katze", "▁the", "дом"],
        weight=RANDOM.standard_normal((3, 4)).astype(np.float32),
        bias=RANDOM.standard_normal(3).astype(np.float32),
        correct=np.array([[3, 2, 1], [4, 4, 4]]) if number else np.zeros((2, 3), np.int64),
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
    np.testing.assert_array_equal(read.moments.counts, written.moments.counts)
    np.testing.assert_array_equal(read.moments.centroids(), written.moments.centroids())
    np.testing.assert_array_equal(read.moments.within_class_variance(), written.moments.within_class_variance())
    assert read.complete


def test_what_is_not_there_is_not_there_after_reading(tmp_path):
    plain = collect(np.eye(2), np.array([0, 1]), ["a", "b"])
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
    recorder = RepresentationCollector("abcd", 2, keep_classes=keep, keep_per_class=most)
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
    recorder = RepresentationCollector("ab", 1, dtype=np.float16)
    recorder.add(np.array([[1.0], [2.0], [3.0]]), np.array([1, 0, 1]))
    found = recorder.result()
    assert found.complete
    assert found.features.dtype == np.float16


FEATURES, LABELS = [[1.0, 2.0], [3.0, 5.0], [0.5, 0.25]], [0, 1, 1]


def tensor(values, **options):
    return pytest.importorskip("torch").tensor(values, **options)


@pytest.mark.parametrize(
    "make",
    [
        lambda: (FEATURES, LABELS),
        lambda: (np.array(FEATURES, ">f4"), np.array(LABELS, ">i2")),
        lambda: (np.asfortranarray(FEATURES), np.array(LABELS, np.uint8)),
        lambda: (np.array(FEATURES, np.longdouble), LABELS),
        lambda: (tensor(FEATURES), tensor(LABELS)),
        lambda: (tensor(FEATURES, requires_grad=True) * 1.0, tensor(LABELS)),
        lambda: (tensor(FEATURES).half(), tensor(LABELS).int()),
        lambda: (tensor(FEATURES).bfloat16(), LABELS),
        lambda: (tensor(FEATURES).double().t().contiguous().t(), np.array(LABELS)),
    ],
)
def test_features_and_labels_of_any_kind_become_the_same_file(make, tmp_path):
    features, labels = make()
    layer = {"weight": tensor([[1.0, 0.0], [0.0, 2.0]], requires_grad=True), "bias": [0.5, 1.0]}
    read = read_representations(
        write(tmp_path / "a.representations.safetensors", collect(features, labels, ["a", "b"], **layer))
    )
    assert read.features.tolist() == FEATURES
    assert read.labels.tolist() == LABELS
    assert read.moments.centroids().tolist() == [[1.0, 2.0], [1.75, 2.625]]
    assert read.logits().tolist() == [[1.5, 5.0], [3.5, 11.0], [1.0, 1.5]]


def test_a_recorder_takes_tensors_too():
    recorder = RepresentationCollector("ab", 2)
    recorder.add(tensor(FEATURES, requires_grad=True), tensor(LABELS))
    assert recorder.result().features.tolist() == FEATURES


def test_a_feature_too_large_for_the_dtype_is_refused_before_anything_is_added():
    for dtype, feature, wider in ((np.float16, 1e5, "float32"), (np.float32, 1e39, "float64")):
        recorder = RepresentationCollector("ab", 1, dtype=dtype)
        with pytest.raises(ValueError, match=f"dtype: {dtype.__name__} .must be {wider}: a feature is 1e"):
            recorder.add(np.array([[1.0], [feature]]), [0, 1])
        assert not recorder.result().moments.counts.any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: collect(np.zeros((1, 2)), np.array([0]), []), "class_names: none"),
        (lambda: collect(np.zeros((1, 2)), np.array([0]), ["a", "a"]), "class_names: 'a' twice"),
        (lambda: collect(np.zeros((1, 2)), np.array([0]), [1, 2]), "class_names: 1 .must be strings"),
        (lambda: collect(np.zeros((1, 2)), np.array([0]), ["\ud800"]), "class_names: .* .must be strings"),
        (lambda: collect(np.zeros(2), np.array([0]), ["a"]), "features: shape"),
        (lambda: collect(np.zeros((1, 2)), np.array([1]), ["a"]), "labels: 1"),
        (lambda: collect(np.zeros((1, 2)), np.array([-1]), ["a"]), "labels: -1"),
        (lambda: collect(np.zeros((1, 2)), np.array([0.0]), ["a"]), "labels: float64"),
        (lambda: collect(np.zeros((1, 2)), [True], ["a"]), "labels: bool"),
        (lambda: collect(np.zeros((1, 2)), [[0]], ["a"]), "labels: int64 of shape"),
        (lambda: collect(np.zeros((1, 2)), ["a"], ["a"]), "labels: <U1"),
        (lambda: collect(np.zeros((1, 2)), None, ["a"]), "labels: object"),
        (lambda: collect(np.zeros((2, 2)), [0], ["a"]), "features: float64 of shape"),
        (lambda: collect([[1, 2]], [0], ["a"]), "features: int64 of shape"),
        (lambda: collect([[1.0, 2.0], [1.0]], [0, 0], ["a"]), "features: list"),
        (lambda: collect([["x"]], [0], ["a"]), "features: <U1"),
        (lambda: collect(np.zeros((1, 0)), [0], ["a"]), "dimension: 0"),
        (lambda: collect([[float("nan")]], [0], ["a"]), "features: not a finite number in sample 0"),
        (lambda: collect([[1.0], [1e200]], [0, 0], ["a"]), "features: too large a number in sample 1"),
        (lambda: collect(tensor([[1.0]]).to("meta"), [0], ["a"]), "features: Tensor"),
        (lambda: collect(np.zeros((1, 2)), [0], ["a"], weight=np.zeros((2, 2))), "weight: float64 of shape"),
        (lambda: collect(np.zeros((1, 2)), [0], ["a"], weight=np.zeros(2)), "weight: float64 of shape"),
        (lambda: collect(np.zeros((1, 2)), [0], ["a"], weight=[[1, 2]]), "weight: int64"),
        (lambda: collect(np.zeros((1, 2)), [0], ["a"], weight=[[1.0, np.inf]]), "weight: not finite"),
        (lambda: collect(np.zeros((1, 2)), [0], ["a"], bias=np.zeros(2)), "bias: float64 of shape"),
        (lambda: collect(np.zeros((1, 2)), [0], ["a"], correct=[[2], [1]]), "correct: out of range"),
        (lambda: collect(np.zeros((1, 2)), [0], ["a"], entropy=np.zeros(3)), "entropy: float64 of shape"),
        (lambda: collect(np.zeros((1, 2)), [0], ["a"], provenance=[]), "provenance"),
        (lambda: RepresentationCollector("ab", 2, keep_classes=[2]), "keep_classes: 2"),
    ],
)
def test_what_cannot_be_recorded_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("value", [float("nan"), np.zeros(2), {1, 2}])
def test_a_provenance_that_is_no_json_is_refused_and_nothing_is_written(value, tmp_path):
    with pytest.raises(InputError, match=r"provenance: .*must be what JSON can hold"):
        write(tmp_path / "a.representations.safetensors", collect(FEATURES, LABELS, "ab", provenance={"x": value}))
    assert not list(tmp_path.iterdir())


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
        ({"labels": np.zeros(11, np.int64)}, {}, "features: float32 of shape"),
        ({"index": np.zeros(11, np.int64)}, {}, "index: int64 of shape"),
        ({"weight": np.zeros((3, 5))}, {}, "weight: float64 of shape"),
        ({"bias": np.zeros(4)}, {}, "bias: float64 of shape"),
        ({"features": np.zeros((12, 5))}, {}, "centroids: float64 of shape"),
        ({"counts": np.zeros(2, np.int64)}, {}, "centroids: float64 of shape"),
        ({"correct": np.zeros((1, 3), np.int64)}, {}, "correct: int64 of shape"),
        ({"centroids": np.full((3, 4), np.nan)}, {}, "centroids: nan"),
        ({"centroids": None}, {}, "centroids"),
        ({"squared_deviations": np.full(3, -1.0)}, {}, "squared_deviations: -1.0 .must be 0 or more"),
        ({"counts": np.full(3, 2)}, {}, "labels: more kept than there are samples"),
        ({"correct": np.full((2, 3), 9)}, {}, "correct: out of range"),
        ({"index": np.arange(12)[::-1].copy()}, {}, "index: not in order"),
        ({"features": None}, {}, "features"),
        ({"features": np.zeros((12, 4), np.int32)}, {}, "features: int32 of shape"),
        ({}, {"class_names": ["a", "a", "b"]}, "'a' twice"),
        ({}, {"schema_version": 3}, "schema version 3, this version of lskd reads up to 2"),
        ({}, {"schema_version": "x"}, "metadata"),
        ({}, {"class_names": [1, 2, 3]}, "class_names"),
        ({}, {"provenance": "text"}, "provenance: 'text' .must be an object"),
        ({}, {"provenance": {"configuration": []}}, "provenance: configuration .must be an object"),
        (
            {},
            {"provenance": {"configuration": {"label_smoothing": "a"}}},
            "configuration.label_smoothing .must be a number",
        ),
        (
            {},
            {"provenance": {"teacher": {"label_smoothing": {"alpha": float("inf")}}}},
            "smoothing.alpha .must be a number",
        ),
        ({}, {"provenance": {"model": 3}}, "provenance: model .must be text"),
    ],
)
def test_a_file_that_is_not_as_it_should_be_is_refused_by_name(tmp_path, tensors, about, message):
    path = write(tmp_path / "a.representations.safetensors", example())
    changed(path, tensors, **about)
    with pytest.raises(InputError, match=message) as refused:
        read_representations(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_of_the_first_schema_is_read_with_its_moments_and_entropies(tmp_path):
    written = example(dtype=np.float64)
    sums = np.stack([written.features[written.labels == label].sum(0) for label in range(3)])
    squares = np.array([(written.features[written.labels == label] ** 2).sum() for label in range(3)])
    path = write(tmp_path / "a.representations.safetensors", written)
    old = {"sums": sums, "squares": squares, "centroids": None, "squared_deviations": None}
    changed(path, old | {"entropy": np.array([[1.0, 24.0, 60.0]])}, schema_version=1)
    read = read_representations(path)
    np.testing.assert_allclose(read.moments.centroids(), written.moments.centroids(), atol=1e-15)
    np.testing.assert_allclose(
        read.moments.within_class_variance(), written.moments.within_class_variance(), rtol=1e-12
    )
    np.testing.assert_allclose(read.entropy, [[1.0, 24.0, 60.0 - 24.0**2 / 12]])
    again = read_representations(write(tmp_path / "b.representations.safetensors", read))
    np.testing.assert_array_equal(again.moments.within_class_variance(), read.moments.within_class_variance())


def test_something_else_is_refused_by_name(tmp_path):
    for name, content in {"text": b"hello", "short": b"", "zip": b"PK\x03\x04" + bytes(100)}.items():
        path = tmp_path / f"{name}.representations.safetensors"
        path.write_bytes(content)
        with pytest.raises(InputError, match="must be a representation file"):
            read_representations(path)
    save_file({"a": np.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="must be a representation file"):
        read_representations(tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=r"must be a file, as written by `lskd vision representations`.$"):
        read_representations(tmp_path / "missing.representations.safetensors")
    with pytest.raises(InputError, match=rf"must be a file, .+, such as {tmp_path}/short.representations.safetensors"):
        read_representations(tmp_path)


def test_analysis_needs_numpy_alone():
    modules = ["representations", "diffusion", "projection", "smoothness", "similar_classes"]
    heavy = {"torch", "timm", "fairseq", "sklearn", "matplotlib", "scipy", "safetensors"}
    code = f"import sys, {', '.join('lskd.measure.' + name for name in modules)}; print({heavy} & set(sys.modules))"
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
