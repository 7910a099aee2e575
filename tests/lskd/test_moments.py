"""Class moments against sums in exact arithmetic written here."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lskd import half_sums
from lskd import moments as module
from lskd.moments import ClassMoments

quick = settings(deadline=None, max_examples=40)


@st.composite
def samples(draw, most: int = 40):
    """Features of some dtype with their labels, and how many classes there are."""
    classes = draw(st.integers(1, 5))
    number = draw(st.integers(0, most))
    dtype = draw(st.sampled_from([np.float16, np.float32, np.float64]))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    scale, offset = draw(st.sampled_from([1e-3, 1.0, 50.0])), draw(st.sampled_from([0.0, 100.0]))
    features = (random.standard_normal((number, draw(st.integers(1, 6)))) * scale + offset).astype(dtype)
    return features, random.integers(0, classes, number), classes


def of(features: np.ndarray, labels: np.ndarray, classes: int) -> ClassMoments:
    found = ClassMoments(classes, features.shape[1])
    found.update(features, labels)
    return found


def exact(features: np.ndarray, labels: np.ndarray, classes: int):
    """Count, sum and summed squares of each class, each rounded once."""
    sums = np.zeros((classes, features.shape[1]))
    squares = np.zeros(classes)
    for label in range(classes):
        own = features[labels == label].astype(np.float64)
        sums[label] = [math.fsum(column) for column in own.T]
        squares[label] = math.fsum((own**2).ravel())
    return np.bincount(labels, minlength=classes), sums, squares


def assert_moments(one: ClassMoments, counts: np.ndarray, sums: np.ndarray, squares: np.ndarray) -> None:
    """Equal but for the rounding of float64, relative to what was summed."""
    np.testing.assert_array_equal(one.counts, counts)
    size = np.sqrt(squares * np.maximum(counts, 1))[:, None]  # at least Σ|x| of each coordinate
    assert (np.abs(one.sums - sums) <= 1e-13 * size).all()
    np.testing.assert_allclose(one.squares, squares, rtol=1e-13)


@quick
@given(samples())
def test_moments_are_the_sums_over_each_class(drawn):
    assert_moments(of(*drawn), *exact(*drawn))


@quick
@given(samples(), st.integers(1, 9), st.integers(1, 20))
def test_how_many_rows_are_read_and_summed_at_once_makes_no_difference(drawn, summed, read):
    row = 8 * drawn[0].shape[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_BYTES", summed * row)
        patch.setattr(module, "READ_BYTES", read * row)
        assert_moments(of(*drawn), *exact(*drawn))


@quick
@given(samples(), st.data())
def test_streams_merged_in_any_order_are_the_whole(drawn, data):
    features, labels, classes = drawn
    part = np.array([data.draw(st.integers(0, 2)) for _ in labels], np.int64)
    parts = [of(features[part == i], labels[part == i], classes) for i in data.draw(st.permutations(range(3)))]
    whole = ClassMoments(classes, features.shape[1])
    for one in parts:
        whole.merge(one)
    assert_moments(whole, *exact(*drawn))


@quick
@given(samples())
def test_centroid_and_scatter_are_mean_and_trace_of_the_unbiased_covariance(drawn):
    features, labels, classes = drawn
    found = of(*drawn)
    centroids, scatter = found.centroids(), found.scatter()
    for label in range(classes):
        own = features[labels == label].astype(np.float64)
        if len(own):
            np.testing.assert_allclose(centroids[label], own.mean(0), rtol=1e-12, atol=1e-12)
        else:
            assert np.isnan(centroids[label]).all()
        if len(own) > 1:
            expected = own.var(0, ddof=1).sum()
            np.testing.assert_allclose(scatter[label], expected, rtol=1e-9, atol=1e-11 * (own**2).sum())
            assert scatter[label] >= 0
        else:
            assert np.isnan(scatter[label])


def test_half_precision_features_are_summed_as_if_they_were_float64():
    features = np.full((100_000, 1), 0.1, np.float16)  # a float16 sum would stop at 256
    found = of(features, np.zeros(len(features), np.int64), 1)
    assert found.sums[0, 0] == pytest.approx(len(features) * float(np.float16(0.1)), rel=1e-12)


def sum_by_torch(patch: pytest.MonkeyPatch) -> None:
    """Half-precision features are summed by torch, however few they are, in small spans and blocks."""
    pytest.importorskip("torch")
    for name, value in (("MANY", 0), ("SPAN", 90), ("BLOCK", 64), ("TOGETHER", 5)):
        patch.setattr(half_sums, name, value)


@st.composite
def halves(draw):
    """Half-precision features, also of very different sizes and with a common offset, their labels, and classes."""
    number, dimension, classes = draw(st.integers(0, 400)), draw(st.integers(1, 6)), draw(st.integers(1, 7))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    features = random.standard_normal((number, dimension)) * 10.0 ** random.uniform(
        -draw(st.sampled_from([0, 4])), 0, (number, 1)
    )
    features = (features + draw(st.sampled_from([0.0, 100.0]))) * draw(st.sampled_from([1e-4, 1.0, 100.0]))
    labels = random.integers(0, classes, number)
    return features.astype(np.float16), np.sort(labels) if draw(st.booleans()) else labels, classes


@quick
@given(halves())
def test_half_precision_sums_by_torch_are_within_the_bound_of_float32_over_a_few_rows(drawn):
    features, labels, classes = drawn
    with pytest.MonkeyPatch.context() as patch:
        sum_by_torch(patch)
        found = of(*drawn)
    counts, sums, squares = exact(*drawn)
    np.testing.assert_array_equal(found.counts, counts)
    for label in range(classes):
        size = np.abs(features[labels == label].astype(np.float64)).sum(0)
        assert (np.abs(found.sums[label] - sums[label]) <= 5 * 2.0**-24 * size + 1e-13 * size).all()
    np.testing.assert_allclose(found.squares, squares, rtol=1e-6)


@pytest.mark.parametrize("offset", [0.0, 0.5, 30.0])
@pytest.mark.parametrize("order", ["random", "sorted"])
def test_half_precision_sums_of_ordinary_features_are_exact_to_one_in_ten_million(offset, order, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(half_sums, "MANY", 0)
    random = np.random.default_rng(0)
    features = (np.maximum(random.standard_normal((40_000, 48)), 0) + offset).astype(np.float16)
    labels = random.integers(0, 20, len(features))
    labels = np.sort(labels) if order == "sorted" else labels
    found, (_, sums, squares) = of(features, labels, 20), exact(features, labels, 20)
    size = np.stack([np.linalg.norm(features[labels == label].astype(np.float64), axis=1).sum() for label in range(20)])
    assert (np.linalg.norm(found.sums - sums, axis=1) <= 1e-7 * size).all()
    np.testing.assert_allclose(found.squares, squares, rtol=1e-6)
    noise = np.sqrt(found.scatter() / found.counts)  # of a centroid: what other samples would have changed
    error = np.linalg.norm(found.centroids() - sums / np.bincount(labels)[:, None], axis=1)
    assert (error <= 1e-3 * noise).all()


def test_half_precision_features_on_the_disk_are_read_by_torch_without_a_word(tmp_path, monkeypatch, recwarn):
    sum_by_torch(monkeypatch)
    whole = np.random.default_rng(0).standard_normal((500, 8)).astype(np.float16)
    np.save(tmp_path / "features.npy", whole)
    labels = np.arange(500) % 7
    mapped = of(np.load(tmp_path / "features.npy", mmap_mode="r"), labels, 7)
    for features in (whole, np.asfortranarray(whole), whole[::-1][::-1]):
        np.testing.assert_array_equal(of(features, labels, 7).sums, mapped.sums)
    assert not recwarn.list


def test_a_half_that_is_no_number_is_named_and_what_came_with_it_is_not_added(monkeypatch):
    sum_by_torch(monkeypatch)
    features = np.ones((300, 3), np.float16)
    features[200, 1] = np.inf
    found = ClassMoments(2, 3)
    with pytest.raises(ValueError, match="in sample 200 "):
        found.update(features, np.arange(300) % 2)
    assert found.counts.tolist() == [90, 90]  # two spans of 90
    assert found.sums.tolist() == [[90.0] * 3] * 2


def test_without_torch_half_precision_features_are_summed_in_float64(monkeypatch):
    monkeypatch.setattr(half_sums, "MANY", 0)
    monkeypatch.setattr(half_sums, "find_spec", lambda name: None)
    features = np.random.default_rng(0).standard_normal((100, 3)).astype(np.float16)
    labels = np.arange(100) % 2
    assert_moments(of(features, labels, 2), *exact(features, labels, 2))


def test_features_on_the_disk_are_read_a_part_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "READ_BYTES", 2**18)
    whole = np.random.default_rng(0).standard_normal((5000, 64)).astype(np.float16)
    np.save(tmp_path / "features.npy", whole)
    asked = []

    class OnDisk(np.memmap):
        def __getitem__(self, rows):
            asked.append(rows.stop - rows.start)
            return np.asarray(super().__getitem__(rows))

    mapped = np.load(tmp_path / "features.npy", mmap_mode="r").view(OnDisk)
    labels = np.arange(5000) % 7
    found = of(mapped, labels, 7)
    assert max(asked) == 2**18 // (8 * 64)
    assert_moments(found, *exact(whole, labels, 7))


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (np.zeros((2, 3)), [0], r"features: float64 of shape \(2, 3\) \(must be floating, of shape \(1, 3\)\)"),
        (np.zeros((1, 2)), [0], r"features: .*must be floating, of shape \(1, 3\)"),
        (np.zeros((1, 3), np.int64), [0], "features: int64"),
        (np.zeros(3), [0], "features: float64 of shape"),
        (np.zeros((1, 3)), [2], r"labels: 2 \(must be between 0 and 1\)"),
        (np.zeros((1, 3)), [-1], r"labels: -1 \(must be between 0 and 1\)"),
        (np.zeros((1, 3)), [0.0], "labels: float64"),
        (np.zeros((1, 3)), [[0]], "labels: int64 of shape"),
        (np.array([[0.0, 1.0, np.nan]]), [0], "features: not a finite number in sample 0"),
        (np.array([[0.0, 1.0, 2.0], [0.0, -np.inf, 1.0]]), [0, 1], "features: not a finite number in sample 1"),
    ],
)
def test_what_does_not_fit_is_refused_and_adds_nothing(features, labels, message):
    found = ClassMoments(2, 3)
    with pytest.raises(ValueError, match=message):
        found.update(features, np.array(labels))
    assert not found.counts.any()
    assert not found.sums.any()


def test_a_sample_that_is_no_number_is_named_wherever_it_is(monkeypatch):
    monkeypatch.setattr(module, "READ_BYTES", 8 * 3 * 4)
    features = np.ones((30, 3))
    features[23, 1] = np.nan
    with pytest.raises(ValueError, match="in sample 23 "):
        of(features, np.zeros(30, np.int64), 1)


def test_moments_of_other_classes_or_another_dimension_do_not_merge():
    for other in (ClassMoments(3, 3), ClassMoments(2, 4)):
        with pytest.raises(ValueError, match="other: classes and dimension"):
            ClassMoments(2, 3).merge(other)


@pytest.mark.parametrize(("classes", "dimension", "name"), [(0, 3, "classes"), (2, 0, "dimension")])
def test_no_class_or_no_dimension_is_refused(classes, dimension, name):
    with pytest.raises(ValueError, match=f"{name}: 0"):
        ClassMoments(classes, dimension)
