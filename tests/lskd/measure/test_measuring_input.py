"""Whatever the measuring functions are given, they give a finite number or one line that says what is valid."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lskd.measure import (
    calibration,
    class_distances,
    diffusion,
    fidelity,
    neural_collapse,
    projection,
    selective_risk,
    similar_classes,
    smoothness,
)
from lskd.measure.accuracy import ClassCounts, accuracy_metrics
from lskd.measure.class_sets import ClassSets
from lskd.measure.moments import ClassMoments
from lskd.measure.predictions import Predictions
from lskd.measure.representation_collector import RepresentationCollector
from lskd.measure.representations import collect
from lskd.measure.smoothing_estimate import estimate_label_smoothing
from lskd.records import spread

NAN, INF = math.nan, math.inf
RANDOM = np.random.default_rng(1)
FEATURES, LABELS = RANDOM.standard_normal((16, 5)), np.arange(16) % 4
WEIGHT = RANDOM.standard_normal((4, 5))
MADE = collect(FEATURES, LABELS, list("abcd"), weight=WEIGHT)
ONE = np.full((1, 16), 1 / 16)

numbers = st.floats(allow_nan=True, allow_infinity=True, width=32) | st.sampled_from(
    [NAN, INF, -INF, 0.0, 1e308, 1e-320]
)
arrays = st.one_of(
    st.integers(0, 3)
    .flatmap(lambda d: st.tuples(*[st.integers(0, 4)] * d))
    .flatmap(
        lambda shape: st.lists(numbers, min_size=int(np.prod(shape)), max_size=int(np.prod(shape))).map(
            lambda values: np.array(values, np.float64).reshape(shape)
        )
    ),
    st.sampled_from(
        [FEATURES, FEATURES.astype(np.float16), WEIGHT, LABELS, np.eye(3), np.array([["a", "b"]]), np.array(None)]
    ),
)
anything = st.one_of(
    arrays,
    arrays.filter(lambda array: array.dtype.kind == "f").map(torch.from_numpy),
    arrays.map(np.ndarray.tolist),
    st.none(),
)
wholes = st.sampled_from([-1, 0, 1, 2, 3, 4, 99, 1.5, NAN, None, "1", np.int64(1), True])
labels = st.one_of(
    st.lists(wholes, max_size=4), st.sampled_from([LABELS, LABELS + 0.5, LABELS - 1, LABELS[:, None], None])
)
temperatures = st.one_of(numbers, st.sampled_from([1, 2.0, None, "1", [1]]))


def counts_of(classes, logits, target):
    counts = ClassCounts(classes)
    counts.update(logits, target)
    return [counts.top1(), counts.top5(), *(share for share in counts.class_accuracy() if share is not None)]


def moments_of(classes, dimension, features, labels):
    moments = ClassMoments(classes, dimension)
    moments.update(features, labels)
    return moments.squared_deviations()


def recorded(features, labels, keep_classes, keep_per_class):
    recorder = RepresentationCollector("abcd", 5, keep_classes, keep_per_class)
    recorder.add(features, labels)
    return recorder.result().moments.squared_deviations()


def entropies(logits, *temperatures):
    sums = smoothness.EntropySums(temperatures)
    sums.update(logits)
    return [*sums.mean(), *sums.standard_error()] if sums.n > 1 else []


def predicted(logits, labels, *temperatures):
    found = Predictions.of(logits, labels, temperatures)
    return np.concatenate([found.doubt, found.nll, found.non_target.ravel()])


def faithful(student, teacher, labels):
    found = fidelity.fidelity(student, teacher, labels)
    return [found.top1_agreement, found.agreement_where_wrong or 0, found.mean_kl]


def sets_of(found):
    return [label for sets in found.values() for label in (*sets.similar, *sets.dissimilar)]


CALLS = {
    "permutation_p": (lambda *a: diffusion.permutation_p(*a), anything, wholes),
    "relative_changes": (lambda *a: diffusion.relative_changes(*a), anything, anything),
    "over_seeds": (lambda a: vars(spread.over_seeds(a))["mean"], anything),
    "squared_distances": (
        lambda t, c, v: class_distances.squared_distances(MADE.moments, t, c, v),
        labels,
        labels,
        st.sampled_from(["centroid", "corrected", "pairwise-squared", "pairwise", "x", None]),
    ),
    "template_basis": (class_distances.template_basis, anything, labels),
    "mean_distances": (class_distances.mean_distances, anything, anything, anything, anything),
    "mean_distances of weights": (
        lambda *w: class_distances.mean_distances(FEATURES, FEATURES, *w),
        anything,
        anything,
    ),
    "pairwise_distances": (
        lambda t, c: class_distances.pairwise_distances(MADE, t, c, class_distances.uniform_weights(MADE)),
        wholes,
        labels,
    ),
    "entropy": (smoothness.entropy, anything, temperatures),
    "EntropySums": (entropies, anything, temperatures, temperatures),
    "match_temperature": (smoothness.match_temperature, anything, temperatures),
    "Predictions": (predicted, anything, labels, temperatures),
    "confidence_bins": (
        lambda *a: vars(calibration.confidence_bins(*a))["accuracy"],
        anything,
        anything,
        st.none() | anything,
        wholes,
        st.booleans(),
    ),
    "optimal_temperature": (calibration.optimal_temperature, anything, labels, st.none() | anything),
    "optimal_temperature of labels": (lambda a: calibration.optimal_temperature(FEATURES, a), labels),
    "area_under_risk_coverage": (selective_risk.area_under_risk_coverage, anything, anything, st.none() | anything),
    "area_under_risk_coverage of scores": (
        lambda a, w: selective_risk.area_under_risk_coverage(a, LABELS > 1, w),
        st.lists(numbers, min_size=16, max_size=16),
        st.none() | st.lists(numbers, min_size=16, max_size=16),
    ),
    "fidelity": (faithful, anything, anything, labels),
    "fidelity to the teacher": (lambda t: faithful(FEATURES, t, LABELS), anything),
    "angle_deviation": (neural_collapse.angle_deviation, anything),
    "self_duality": (lambda *a: neural_collapse.self_duality(*a) or 0, anything, anything),
    "mean_soft_outputs": (lambda *a: smoothness.mean_soft_outputs(*a), anything, labels, labels, temperatures),
    "mean_soft_outputs of labels": (lambda *a: smoothness.mean_soft_outputs(FEATURES, *a), labels, labels),
    "far_below_second": (smoothness.far_below_second, anything, temperatures),
    "estimate_label_smoothing": (lambda a: estimate_label_smoothing(a).alpha or 0, anything),
    "fit_projection": (
        lambda *a: vars(projection.fit_projection(*a))["centroids"],
        anything,
        labels,
        labels,
        anything,
        st.none() | anything,
    ),
    "fit_projection of classes": (
        lambda *a: vars(projection.fit_projection(FEATURES, *a, WEIGHT))["centroids"],
        labels,
        labels,
    ),
    "transform": (projection.fit_projection(FEATURES, LABELS, [0, 1, 2], WEIGHT).transform, anything),
    "centroids_of": (projection.centroids_of, anything, labels, labels),
    "distance_to_third": (projection.distance_to_third, anything),
    "sets_by_distance": (lambda *a: sets_of(similar_classes.sets_by_distance(*a)), anything, labels, wholes, wholes),
    "sets_by_groups": (
        lambda g, *a: sets_of(similar_classes.sets_by_groups({"group": g}, list("abcd"), *a)),
        labels.filter(lambda each: each is not None),
        st.none() | labels,
        wholes,
    ),
    "chance_agreement": (lambda n: similar_classes.chance_agreement({0: ClassSets([1], [2])}, n), wholes),
    "ClassCounts": (counts_of, wholes, anything, labels),
    "ClassMoments": (moments_of, wholes, wholes, anything, labels),
    "ClassMoments.of": (lambda *a: ClassMoments.of(*a).squared_deviations(), labels, anything, anything),
    "Recorder": (recorded, st.sampled_from([FEATURES, FEATURES[:3], None]), labels, st.none() | labels, wholes),
    "of_class": (MADE.of_class, wholes),
    "thinned": (lambda n: MADE.thinned(n).index, wholes),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
@settings(deadline=None, max_examples=60, derandomize=True, database=None)
@given(data=st.data())
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_any_input_gives_finite_numbers_or_one_line(name, data):
    call, *arguments = CALLS[name]
    arguments = [data.draw(each) for each in arguments]
    try:
        found, refused = np.asarray(call(*arguments), np.float64), None
    except ValueError as error:
        found, refused = np.zeros(0), str(error)
    assert np.isfinite(found).all()
    assert refused is None or ("must" in refused and "\n" not in refused)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: diffusion.permutation_p([NAN, 2], 1), r"changes: nan \(must be finite numbers\)"),
        (lambda: diffusion.permutation_p([1, 2], 3), r"similar: 3 \(must be between 1 and 1\)"),
        (lambda: diffusion.permutation_p([1, 2], 0), r"similar: 0 \(must be between 1 and 1\)"),
        (lambda: diffusion.permutation_p([[1, 2], [3, 4]], 1), r"changes: int64 of shape \(2, 2\)"),
        (lambda: spread.over_seeds([]), r"values: none"),
        (lambda: spread.over_seeds([1, INF]), r"values: inf \(must be finite numbers\)"),
        (lambda: class_distances.squared_distances(MADE.moments, [-1]), r"targets: -1 \(must be between 0 and 3\)"),
        (lambda: class_distances.mean_distances(FEATURES * NAN, FEATURES, ONE, ONE), r"own: nan"),
        (
            lambda: class_distances.mean_distances(FEATURES, FEATURES, ONE[:, :3], ONE),
            r"own_weights: .* shape \(1, 3\)",
        ),
        (lambda: smoothness.mean_soft_outputs(FEATURES, LABELS - 1, [0]), r"labels: -1 \(must be between 0 and 4\)"),
        (lambda: smoothness.entropy([FEATURES, FEATURES[:, :2]]), r"logits: 2 classes \(must be 5, as before\)"),
        (lambda: smoothness.far_below_second([[1.5, -0.5]]), r"outputs: -0.5 \(must be probabilities\)"),
        (lambda: similar_classes.sets_by_distance(WEIGHT * 1e200), r"points: .*\(must be small enough to be squared\)"),
        (lambda: similar_classes.sets_by_distance(WEIGHT, [0.5]), r"targets: 0.5 \(must be a class"),
        (lambda: projection.project(MADE, [], list("abc"), 0), r"samples: 0 \(must be a whole number, 1 or more\)"),
        (lambda: accuracy_metrics(ClassCounts(1), [1]), r"class_names: 1 \(must be strings\)"),
    ],
)
def test_a_number_that_none_could_rely_on_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("make", [torch.from_numpy, np.ndarray.tolist, np.asfortranarray])
def test_tensors_and_lists_measure_what_arrays_do(make):
    features, weight = make(FEATURES), make(WEIGHT)
    for call in (
        lambda f, w: smoothness.entropy([f], 2.0),
        lambda f, w: projection.fit_projection(f, LABELS.tolist(), [0, 1, 2], w).centroids,
        lambda f, w: class_distances.mean_distances(f, f, ONE, ONE),
        lambda f, w: class_distances.template_basis(w, [0, 1]),
        lambda f, w: sets_of(similar_classes.sets_by_distance(w)),
        lambda f, w: counts_of(5, f, LABELS),
    ):
        np.testing.assert_allclose(call(features, weight), call(FEATURES, WEIGHT), rtol=1e-6)


def test_logits_beyond_what_their_difference_can_be_are_of_entropy_zero():
    assert smoothness.entropy(np.array([[1e308, -1e308, 0.0]])).tolist() == [0]
    assert smoothness.entropy(np.array([[1.0, 0.0]]), 1e-320).tolist() == [0]
