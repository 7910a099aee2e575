"""Class moments against exact fractions."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lskd.measure import moments as module
from lskd.measure.moments import ClassMoments

quick = settings(deadline=None, max_examples=40)


@st.composite
def samples(draw, most: int = 40):
    """Features of some dtype with their labels, and how many classes there are; also far from 0 beside their spread."""
    classes = draw(st.integers(1, 5))
    number = draw(st.integers(0, most))
    dtype = draw(st.sampled_from([np.float16, np.float32, np.float64]))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    scale, offset = draw(st.sampled_from([1e-3, 1.0, 50.0])), draw(st.sampled_from([0.0, 1000.0, 1e4]))
    if dtype == np.float64 and offset == 1e4:
        offset = 1e8
    labels = random.integers(0, classes, number)
    features = random.standard_normal((number, draw(st.integers(1, 6)))) * scale + offset * (-1.0) ** labels[:, None]
    return features.astype(dtype), labels, classes


def of(features: np.ndarray, labels: np.ndarray, classes: int) -> ClassMoments:
    found = ClassMoments(classes, features.shape[1])
    found.update(features, labels)
    return found


def assert_moments(found: ClassMoments, features: np.ndarray, labels: np.ndarray, classes: int) -> None:
    """Those of two passes in exact fractions, rounded once."""
    assert found.counts.tolist() == np.bincount(labels, minlength=classes).tolist()
    for label in range(classes):
        own = features[labels == label]
        if not len(own):
            assert np.isnan(found.centroids()[label]).all()
            assert np.isnan(found.within_class_variance()[label])
            continue
        columns = [[Fraction(float(x)) for x in column] for column in own.T]
        means = [sum(column) / len(column) for column in columns]
        rounding = 1e-15 + 1e-14 * float(np.abs(own - own[0]).max())
        np.testing.assert_allclose(found.centroids()[label], [float(mean) for mean in means], rtol=1e-15, atol=rounding)
        deviations = sum((x - mean) ** 2 for column, mean in zip(columns, means, strict=True) for x in column)
        assert found.squared_deviations()[label] == pytest.approx(float(deviations), rel=1e-12, abs=1e-30)
        if len(own) > 1:
            assert found.within_class_variance()[label] == pytest.approx(
                float(deviations / (len(own) - 1)), rel=1e-12, abs=1e-30
            )
        else:
            assert np.isnan(found.within_class_variance()[label])


@quick
@given(samples())
def test_moments_are_those_of_each_class_however_far_from_0(drawn):
    assert_moments(of(*drawn), *drawn)


@quick
@given(samples(), st.integers(1, 9), st.integers(1, 20))
def test_how_many_rows_are_read_and_summed_at_once_makes_no_difference(drawn, summed, read):
    row = 8 * drawn[0].shape[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_BYTES", summed * row)
        patch.setattr(module, "READ_BYTES", read * row)
        assert_moments(of(*drawn), *drawn)


@quick
@given(samples(), st.data())
def test_streams_merged_in_any_order_are_the_whole(drawn, data):
    features, labels, classes = drawn
    part = np.array([data.draw(st.integers(0, 2)) for _ in labels], np.int64)
    parts = [of(features[part == i], labels[part == i], classes) for i in data.draw(st.permutations(range(3)))]
    whole = ClassMoments(classes, features.shape[1])
    for one in parts:
        whole.merge(one)
    assert_moments(whole, *drawn)


@quick
@given(samples(), st.integers(0, 40))
def test_a_stream_goes_on_from_what_was_stored(drawn, stop):
    features, labels, classes = drawn
    first = of(features[:stop], labels[:stop], classes)
    resumed = ClassMoments.of(first.counts, first.centroids(), first.squared_deviations())
    resumed.update(features[stop:], labels[stop:])
    counts, deviations = resumed.counts, resumed.squared_deviations()
    expected = of(*drawn)
    assert counts.tolist() == expected.counts.tolist()
    # A stored centroid is rounded to float64: 1e-8 at an offset of 1e8, by which all that comes later is off.
    rounding = np.spacing(np.abs(features).max(initial=1).astype(np.float64))
    np.testing.assert_allclose(resumed.centroids(), expected.centroids(), rtol=1e-15, atol=4 * rounding)
    size = np.sqrt(counts * features.shape[1] * expected.squared_deviations())  # at least Σ|x - centroid|
    error = np.abs(deviations - expected.squared_deviations())
    assert (error <= 1e-12 * expected.squared_deviations() + 4 * rounding * size + 1e-30).all()


def test_an_outlier_as_the_first_sample_leaves_ten_digits():
    features = np.random.default_rng(0).standard_normal((2000, 3)) + 1e8
    features[0] = -1e8
    labels = np.zeros(2000, np.int64)
    exact = features.astype(np.longdouble).var(0, ddof=1).sum()
    assert of(features, labels, 1).within_class_variance()[0] == pytest.approx(float(exact), rel=1e-10)


def test_the_same_sample_again_and_again_has_no_spread():
    found = of(np.full((1000, 2), 1e8 / 3), np.zeros(1000, np.int64), 1)
    assert found.within_class_variance().tolist() == [0]
    assert found.centroids().tolist() == [[1e8 / 3] * 2]


def test_moments_that_refused_a_batch_merge_as_if_it_had_not_come():
    found, other = ClassMoments(2, 1), ClassMoments(2, 1)
    for wrong in (np.nan, np.inf, 1e300):
        with pytest.raises(ValueError, match="in sample 0"):
            other.update(np.array([[wrong]]), np.array([1]))
    other.update(np.array([[1.0], [3.0]]), np.array([0, 0]))
    found.merge(other)
    assert found.within_class_variance()[0] == 2
    assert found.counts.tolist() == [2, 0]


def test_half_precision_features_are_summed_as_if_they_were_float64():
    features = np.full((100_000, 1), 0.1, np.float16)  # a float16 sum would stop at 256
    found = of(features, np.zeros(len(features), np.int64), 1)
    assert found.centroids()[0, 0] == float(np.float16(0.1))


@pytest.mark.slow
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
    assert_moments(found, whole, labels, 7)


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (np.zeros((2, 3)), [0], r"features: float64 of shape \(2, 3\) \(must be floating, of shape \(1, 3\)\)"),
        (np.zeros((1, 2)), [0], r"features: .*must be floating, of shape \(1, 3\)"),
        (np.zeros((1, 3), np.int64), [0], "features: int64"),
        (np.zeros(3), [0], "features: float64 of shape"),
        ([[1, 2, 3]], [0], "features: int64"),
        ([[1.0, 2.0, 3.0], [1.0]], [0, 1], "features: list"),
        (None, [0], "features: object"),
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
    assert np.isnan(found.centroids()).all()


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
