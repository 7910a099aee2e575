import math

import numpy as np
import pytest
import scipy.optimize
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st

from lskd.measure.bootstrap import bootstrap_interval
from lskd.measure.calibration import (
    adaptive_calibration_error,
    confidence_bins,
    expected_calibration_error,
    optimal_temperature,
)
from lskd.measure.predictions import Predictions
from lskd.measure.selective_risk import area_under_risk_coverage
from lskd.measure.weighted_samples import sample_weights

quick = settings(max_examples=15, deadline=None)
samples = st.lists(st.tuples(st.integers(0, 30).map(lambda n: n / 30), st.booleans()), min_size=1, max_size=20)
weighted = st.lists(
    st.tuples(st.integers(0, 30).map(lambda n: n / 30), st.booleans(), st.integers(1, 4)), min_size=1, max_size=12
)


def logits_of(n=200, classes=5, scale=3.0, truth=1.0, seed=1):
    """Logits, and labels drawn from their softmax at temperature 1 / truth."""
    generator = np.random.default_rng(seed)
    logits = scale * generator.standard_normal((n, classes))
    p = scipy.special.softmax(truth * logits, 1)
    return logits, (p.cumsum(1) > generator.random((n, 1))).argmax(1)


def ece_by_loops(confidence, correct, bins=15):
    """Guo et al. 2017, Eq. 3, transcribed."""
    total = 0.0
    for m in range(1, bins + 1):
        inside = [i for i, c in enumerate(confidence) if (m - 1) / bins < c <= m / bins or (m == 1 and c == 0)]
        if inside:
            accuracy = sum(correct[i] for i in inside) / len(inside)
            total += len(inside) / len(confidence) * abs(accuracy - sum(confidence[i] for i in inside) / len(inside))
    return total


def aurc_by_loops(confidence, correct):
    """Geifman et al. 2019, transcribed, for confidences that are all different."""
    order = sorted(range(len(confidence)), key=lambda i: -confidence[i])
    wrong = [not correct[i] for i in order]
    return math.fsum(sum(wrong[:k]) / k for k in range(1, len(wrong) + 1)) / len(wrong)


# --- T* --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_optimal_temperature_takes_few_passes_over_the_logits(seed):
    logits, labels = logits_of(n=500, seed=seed, truth=0.5)
    passes = []

    class Counted:
        def __iter__(self):
            passes.append(1)
            yield logits

    optimal_temperature(Counted(), labels)
    assert len(passes) <= 15


# --- independent libraries -------------------------------------------------------------------------------------------


@pytest.mark.slow  # torchmetrics takes seconds to import
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_calibration_likelihood_and_accuracy_are_those_of_torchmetrics_and_sklearn(seed):
    import sklearn.metrics
    import torch
    from torchmetrics.functional.classification import multiclass_calibration_error

    logits, labels = logits_of(seed=seed, truth=0.7)
    found = Predictions.of(logits, labels)
    p = scipy.special.softmax(logits, 1)
    theirs = multiclass_calibration_error(torch.tensor(p), torch.tensor(labels), num_classes=5, n_bins=15, norm="l1")
    assert expected_calibration_error(found.confidence, found.correct) == pytest.approx(theirs.item(), abs=1e-6)
    assert found.nll.mean() == pytest.approx(sklearn.metrics.log_loss(labels, p, labels=range(5)))
    assert found.correct.mean() == sklearn.metrics.accuracy_score(labels, p.argmax(1))


# --- predictions -----------------------------------------------------------------------------------------------------


def test_predictions_are_those_of_the_softmax():
    logits, labels = logits_of()
    found = Predictions.of([logits[:7], logits[7:]], labels, [1.0, 3.0])
    p = scipy.special.softmax(logits, 1)
    own = p[np.arange(200), labels]
    np.testing.assert_array_equal(found.correct, p.argmax(1) == labels)
    np.testing.assert_allclose(found.confidence, p.max(1))
    np.testing.assert_allclose(found.nll, -np.log(own))
    at_3 = scipy.special.softmax(logits / 3, 1)[np.arange(200), labels]
    np.testing.assert_allclose(found.non_target, [1 - own, 1 - at_3], atol=1e-15)


def test_doubts_that_vanish_beside_1_keep_their_digits():
    found = Predictions.of(np.array([[50.0, 0.0], [60.0, 0.0]]), [0, 0], [1.0])
    assert (found.confidence == 1).all()
    np.testing.assert_allclose(found.doubt, np.exp([-50.0, -60.0]))
    np.testing.assert_allclose(found.nll, np.exp([-50.0, -60.0]))
    np.testing.assert_allclose(found.non_target[0], np.exp([-50.0, -60.0]))


def test_one_class_is_predicted_without_doubt():
    found = Predictions.of(np.array([[3.0], [-1.0]]), [0, 0], [1.0])
    assert found.correct.all()
    assert max(found.doubt.max(), found.nll.max(), found.non_target.max()) == 0


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.array([[0.0, np.nan]]), [0], r"logits: not a finite number in sample 0 \(must be finite\)"),
        (np.zeros((2, 2)), [0], r"labels: .* \(must be as many as the logits have rows\)"),
        (np.zeros((2, 2)), [0, 1, 1], r"labels: .* \(must be as many as the logits have rows\)"),
        (np.zeros((1, 2)), [2], r"labels: 2 \(must be between 0 and 1\)"),
        (np.zeros((0, 2)), [], r"logits: no samples \(must be at least one\)"),
    ],
)
def test_logits_and_labels_that_do_not_fit_are_refused(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        Predictions.of(logits, labels)


# --- ECE -------------------------------------------------------------------------------------------------------------


@quick
@given(samples)
def test_ece_is_that_of_its_definition(drawn):
    confidence, correct = map(list, zip(*drawn, strict=True))
    assert expected_calibration_error(confidence, correct) == pytest.approx(
        ece_by_loops(confidence, correct), abs=1e-12
    )


@quick
@given(weighted, st.randoms())
def test_a_weight_is_as_many_equal_samples_in_any_order(drawn, random):
    repeated = [(c, right) for c, right, times in drawn for _ in range(times)]
    random.shuffle(repeated)
    confidence, correct, weights = map(list, zip(*drawn, strict=True))
    once = map(list, zip(*repeated, strict=True))
    each, right = once
    for error in (expected_calibration_error, adaptive_calibration_error):
        assert error(confidence, correct, weights) == pytest.approx(error(each, right), abs=1e-12)


@quick
@given(samples)
def test_calibration_errors_lie_between_the_gap_of_the_means_and_1(drawn):
    confidence, correct = map(np.array, zip(*drawn, strict=True))
    gap = abs(confidence.mean() - correct.mean())
    for error in (expected_calibration_error, adaptive_calibration_error):
        assert gap - 1e-12 <= error(confidence, correct) <= 1
    assert expected_calibration_error(confidence, correct, bins=1) == pytest.approx(gap)


def test_bins_of_equal_mass_hold_equally_many_samples():
    confidence = np.random.default_rng(0).random(60)
    correct = np.random.default_rng(1).random(60) < confidence
    bins = confidence_bins(confidence, correct, bins=6, equal_mass=True)
    np.testing.assert_allclose(bins.share, 1 / 6)
    parts = np.sort(confidence).reshape(6, 10), correct[np.argsort(confidence)].reshape(6, 10)
    np.testing.assert_allclose(bins.confidence, parts[0].mean(1))
    np.testing.assert_allclose(bins.accuracy, parts[1].mean(1))
    expected = np.abs(parts[0].mean(1) - parts[1].mean(1)).mean()
    assert adaptive_calibration_error(confidence, correct, bins=6) == pytest.approx(expected)


def test_samples_of_one_confidence_are_in_one_bin():
    bins = confidence_bins([0.7] * 10, [True] * 7 + [False] * 3, equal_mass=True)
    assert (bins.share.tolist(), bins.error) == ([1.0], pytest.approx(0, abs=1e-12))


def test_perfect_predictions_with_confidence_1_are_calibrated():
    assert expected_calibration_error([1.0, 1.0], [True, True]) == 0
    assert expected_calibration_error([1.0, 1.0], [False, False]) == 1


def test_a_calibrated_model_has_the_error_that_is_called_chance():
    found = []
    for seed in range(60):
        logits, labels = logits_of(500, seed=seed)
        predictions = Predictions.of(logits, labels)
        found.append(confidence_bins(predictions.confidence, predictions.correct))
    assert np.mean([each.error for each in found]) == pytest.approx(
        np.mean([each.error_by_chance for each in found]), rel=0.1
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.2], [True]), r"confidence: 1.2 \(must be between 0 and 1\)"),
        (([math.nan], [True]), r"confidence: nan \(must be finite numbers\)"),
        (([], []), r"confidence: no samples \(must be at least one\)"),
        (([0.5], [1]), r"correct: int64 of shape \(1,\) \(must be bool, of shape \(1,\)\)"),
        (([0.5], [True, False]), r"correct: bool of shape \(2,\) \(must be bool, of shape \(1,\)\)"),
        (([0.5], [True], [0.0]), r"weights: 0 \(must be 0 or more, and not all 0\)"),
        (([0.5, 0.5], [True, True], [2.0, -1.0]), r"weights: -1 \(must be 0 or more, and not all 0\)"),
        (([0.5], [True], None, 0), r"bins: 0 \(must be a whole number, 1 or more\)"),
    ],
)
def test_samples_that_cannot_be_binned_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        expected_calibration_error(*arguments)


# --- T* --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("truth", [0.2, 1.0, 4.0])
def test_the_optimal_temperature_is_that_of_the_least_likelihood(truth):
    logits, labels = logits_of(truth=truth)
    weights = np.random.default_rng(3).random(200)

    def nll(log_t):
        own = scipy.special.log_softmax(logits / math.exp(log_t), 1)[np.arange(200), labels]
        return -np.average(own, weights=weights)

    expected = math.exp(
        scipy.optimize.minimize_scalar(nll, bounds=(-4, 4), method="bounded", options={"xatol": 1e-9}).x
    )
    assert optimal_temperature([logits[:50], logits[50:]], labels, weights) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("factor", [0.05, 0.9, 20.0])
def test_scaled_logits_have_a_scaled_optimal_temperature(factor):
    logits, labels = logits_of(60, truth=0.7)
    at_1 = optimal_temperature(logits, labels)
    assert optimal_temperature(factor * logits, labels) == pytest.approx(factor * at_1, rel=1e-6)


def test_an_optimum_beyond_the_bounds_is_named():
    logits, _ = logits_of(30)
    valid = r"\(must be from 0.01 to 100\)"
    with pytest.raises(ValueError, match=rf"T\*: below 0.01, the likelihood still rises as T falls {valid}"):
        optimal_temperature(logits, logits.argmax(1))
    with pytest.raises(ValueError, match=rf"T\*: above 100, the higher the likelier {valid}"):
        optimal_temperature(logits, logits.argmin(1))
    with pytest.raises(ValueError, match=r"T\*: "):
        optimal_temperature(np.zeros((3, 2)), [0, 1, 1])
    with pytest.raises(ValueError, match=r"logits: an iterator"):
        optimal_temperature(iter([logits]), logits.argmax(1))


# --- AURC ------------------------------------------------------------------------------------------------------------


@quick
@given(st.lists(st.booleans(), min_size=1, max_size=30), st.randoms())
def test_aurc_is_that_of_its_definition(correct, random):
    confidence = random.sample(range(1000), len(correct))
    assert area_under_risk_coverage(confidence, correct) == pytest.approx(aurc_by_loops(confidence, correct))


def test_ties_count_as_if_in_every_order():
    correct = [True, False, False, True]
    confidence = [0.9, 0.5, 0.5, 0.5]
    orders = [(0, 1, 2, 3), (0, 1, 3, 2), (0, 2, 1, 3), (0, 2, 3, 1), (0, 3, 1, 2), (0, 3, 2, 1)]
    every = [aurc_by_loops([9, 5, 4, 3], [correct[i] for i in order]) for order in orders]
    assert area_under_risk_coverage(confidence, correct) == pytest.approx(np.mean(every))


def test_aurc_is_the_error_rate_where_confidence_says_nothing_and_0_where_all_are_right():
    correct = [True, False, True, False]
    assert area_under_risk_coverage([0.5] * 4, correct) == pytest.approx(0.5)
    assert area_under_risk_coverage([0.5, 0.6, 0.7, 0.8], [True] * 4) == 0
    assert area_under_risk_coverage([0.1, 0.2], [False] * 2) == 1


def test_a_sample_of_weight_0_counts_for_nothing():
    assert area_under_risk_coverage([0.99, 0.9, 0.8], [False, True, False], [0, 1, 1]) == 0.25


# --- weights and intervals -------------------------------------------------------------------------------------------


def test_kept_samples_stand_for_all_of_their_class():
    labels, counts = np.array([0, 0, 2]), np.array([10, 5, 3])
    weights = sample_weights(labels, counts)
    assert weights.tolist() == [5, 5, 3]
    assert np.bincount(labels, weights, 3).tolist() == [10, 0, 3]


def test_an_interval_is_the_same_for_the_same_seed_and_that_of_a_mean():
    values = np.random.default_rng(0).random(400)

    def mean(weights):
        return float(np.average(values, weights=weights))

    low, high = bootstrap_interval(mean, np.ones(400), seed=3)
    assert (low, high) == bootstrap_interval(mean, np.ones(400), seed=3) != bootstrap_interval(mean, np.ones(400))
    error = 1.96 * values.std(ddof=1) / 20
    assert (low, high) == (
        pytest.approx(values.mean() - error, abs=0.006),
        pytest.approx(values.mean() + error, abs=0.006),
    )


def test_an_interval_of_ece_allows_for_its_bias():
    logits, labels = logits_of(300)
    predictions = Predictions.of(logits, labels)

    def ece(weights):
        return expected_calibration_error(predictions.confidence, predictions.correct, weights)

    low, high = bootstrap_interval(ece, np.ones(300), resamples=200)
    assert low <= high < ece(np.ones(300)) * 1.2  # resamples themselves are on average √2 as far from calibrated
