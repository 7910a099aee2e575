import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lskd.measure import neural_collapse as module
from lskd.measure.neural_collapse import angle_deviation, neural_collapse, self_duality
from lskd.measure.representation_collector import RepresentationCollector
from lskd.measure.representations import collect


def collected(counts=(30, 20, 25, 15), dimension=6, spread=1.0, seed=0, keep=None, weight=None, names="abcdefgh"):
    """Representations of Gaussian classes, with their features and labels."""
    generator = np.random.default_rng(seed)
    centres = 3 * generator.standard_normal((len(counts), dimension))
    labels = np.repeat(np.arange(len(counts)), counts)
    features = centres[labels] + spread * generator.standard_normal((len(labels), dimension))
    collector = RepresentationCollector(list(names[: len(counts)]), dimension, keep_per_class=keep, dtype=np.float64)
    collector.add(features, labels)
    return collector.result(weight=weight), features, labels


def by_definition(features, labels, weight):
    """Papyan et al. 2020, transcribed, with a pseudo-inverse of the whole matrix."""
    classes = np.unique(labels)
    means = np.stack([features[labels == c].mean(0) for c in classes])
    centred = means - means.mean(0)
    deviations = features - means[np.searchsorted(classes, labels)]
    within, between = deviations.T @ deviations / len(labels), centred.T @ centred / len(classes)
    norms = np.sqrt((centred**2).sum(1))
    cosines = [
        abs(a @ b / np.sqrt(a @ a * (b @ b)) + 1 / (len(classes) - 1))
        for i, a in enumerate(centred)
        for j, b in enumerate(centred)
        if i != j
    ]
    gap = weight[classes] / np.linalg.norm(weight[classes]) - centred / np.linalg.norm(centred)
    return (
        np.trace(within @ np.linalg.pinv(between)) / len(classes),
        np.trace(within) / np.trace(between),
        np.std(norms) / np.mean(norms),
        np.mean(cosines),
        (gap**2).sum(),
    )


def values(found):
    return found.nc1, found.nc1_ratio, found.nc2_norms, found.nc2_angles, found.nc3


@pytest.mark.parametrize("dimension", [2, 6])  # fewer and more than classes
def test_the_measures_are_those_of_their_definitions(dimension, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 20)  # several blocks of rows
    weight = np.random.default_rng(5).standard_normal((4, dimension))
    found, features, labels = collected(dimension=dimension, weight=weight)
    assert values(neural_collapse(found)) == pytest.approx(by_definition(features, labels, weight), rel=1e-9)


def test_a_simplex_is_collapsed():
    simplex = np.eye(4) - 1 / 4
    labels = np.repeat(np.arange(4), 3)
    found = neural_collapse(collect(simplex[labels], labels, list("abcd"), weight=5 * simplex))
    assert found.classes == 4
    assert values(found) == pytest.approx((0, 0, 0, 0, 0), abs=1e-12)


@settings(max_examples=15, deadline=None)
@given(st.floats(0.01, 100), st.floats(-1e4, 1e4))
def test_scale_and_place_of_features_change_nothing(scale, shift):
    weight = np.random.default_rng(5).standard_normal((4, 6))
    _, features, labels = collected()
    first, second = (
        neural_collapse(collect(each, labels, list("abcd"), weight=weight))
        for each in (features, scale * (features + shift))
    )
    assert values(second) == pytest.approx(values(first), rel=1e-6)


def test_kept_features_are_weighted_by_the_counts_of_their_classes():
    # two kinds of classes, of spread 1 and 3: the kept ones are balanced, the split is not
    generator = np.random.default_rng(1)
    counts, spreads = np.array([4000, 4000, 400, 400]), np.array([1.0, 1.0, 3.0, 3.0])
    labels = np.repeat(np.arange(4), counts)
    features = 10 * np.eye(4)[labels] + spreads[labels][:, None] * generator.standard_normal((len(labels), 4))
    collector = RepresentationCollector(list("abcd"), 4, keep_per_class=300, dtype=np.float64)
    collector.add(features, labels)
    part, whole = neural_collapse(collector.result()), neural_collapse(collect(features, labels, list("abcd")))
    assert part.nc1 == pytest.approx(whole.nc1, rel=0.05)
    assert (part.nc1_ratio, part.nc2_norms) == (whole.nc1_ratio, whole.nc2_norms)  # moments are of all samples


def test_what_cannot_be_had_is_none():
    nothing_kept = neural_collapse(collected(keep=0)[0])
    assert nothing_kept.nc1 is None
    assert nothing_kept.nc3 is None  # no last layer
    assert nothing_kept.nc1_ratio > 0
    _, features, labels = collected()
    some = RepresentationCollector(list("abcd"), 6, keep_classes=[0, 2], dtype=np.float64)
    some.add(features, labels)
    assert neural_collapse(some.result()).nc1 is None


def test_classes_without_samples_are_left_out():
    weight = np.random.default_rng(5).standard_normal((4, 6))
    found, features, labels = collected((30, 0, 25, 15), weight=weight)
    assert neural_collapse(found).classes == 3
    assert values(neural_collapse(found)) == pytest.approx(by_definition(features, labels, weight), rel=1e-9)


@pytest.mark.parametrize("offset", [0.0, 1e6 / 3])
def test_of_one_class_and_of_equal_centroids_nothing_is_defined(offset):
    one = collect(np.array([[1.0, 2.0], [3.0, 5.0]]) + offset, [0, 0], ["a"], weight=np.ones((1, 2)))
    equal = collect(np.array([[1.0], [-1.0], [1.0], [-1.0]]) + offset, [0, 0, 1, 1], ["a", "b"])
    for each in (one, equal):
        assert values(neural_collapse(each)) == (None,) * 5


def test_a_feature_that_is_not_finite_is_refused():
    found, *_ = collected()
    found.features[3, 1] = np.inf
    with pytest.raises(ValueError, match=r"features: not a finite number in sample 3 \(must be finite\)"):
        neural_collapse(found)


def test_a_direction_in_which_no_centroid_differs_is_left_out():
    found, features, labels = collected()
    flat = np.concatenate([features, np.random.default_rng(0).standard_normal((len(features), 1))], 1)
    for label in range(4):
        flat[labels == label, 6] -= flat[labels == label, 6].mean()
    assert neural_collapse(collect(flat, labels, list("abcd"))).nc1 == pytest.approx(neural_collapse(found).nc1)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"centred: .* \(must be numbers of shape \(2, 3\)\)"):
        self_duality(np.ones((2, 3)), np.ones((3, 3)))
    with pytest.raises(ValueError, match=r"centred: 1 rows \(must be at least 2, none of them zeros\)"):
        angle_deviation(np.ones((1, 3)))
    assert self_duality(np.zeros((2, 3)), np.ones((2, 3))) is None
