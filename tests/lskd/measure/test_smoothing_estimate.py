import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from smoothed_models.settings import Setting
from smoothed_models.training import snapshots

from lskd.measure.smoothing_estimate import (
    REVISION,
    SmoothingEstimate,
    estimate_label_smoothing,
    most_smoothed,
    output_shape,
)


def teacher_logits(alpha, classes=10, rows=400, noise=0.2, seed=1):
    """A teacher that has learned (1-α)·q + α/K, q a confident guess, up to noise in its logits."""
    generator = np.random.default_rng(seed)
    guess = np.exp(generator.normal(0, 3, (rows, classes)))
    guess[:, 0] = 1e4 * guess[:, 1:].sum(1) * np.exp(generator.normal(0, 1, rows))
    guess = generator.permuted(guess / guess.sum(1, keepdims=True), axis=1)
    return np.log((1 - alpha) * guess + alpha / classes) + generator.normal(0, noise, (rows, classes))


# --- what the outputs tell -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [5, 6, 10, 100, 1001])
@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.2, 0.3])
def test_the_smoothing_of_a_smoothed_teacher_is_found(classes, alpha):
    found = estimate_label_smoothing(teacher_logits(alpha, classes))
    assert found.verdict == "smoothed"
    assert found.low < alpha < found.high
    assert found.low < found.alpha < found.high
    assert found.alpha == pytest.approx(alpha, rel=0.2)


@pytest.mark.parametrize("classes", [5, 10, 100, 1001])
@pytest.mark.parametrize("alpha", [0, 1e-4])
def test_a_teacher_without_smoothing_is_told_by_its_confidence(classes, alpha):
    found = estimate_label_smoothing(teacher_logits(alpha, classes))
    assert (found.verdict, found.alpha, found.low) == ("not smoothed", 0.0, 0.0)
    assert alpha < found.high <= 0.01


@pytest.mark.parametrize("scale", [0.5, 1, 1.5, 2, 2.5, 3, 4])
@pytest.mark.parametrize("classes", [5, 10, 100])
def test_logits_without_a_floor_do_not_look_smoothed_at_any_scale(scale, classes):
    # what a teacher without smoothing gives early in its training, or with a small weight norm, or tempered
    logits = np.random.default_rng(1).normal(0, scale, (500, classes))
    assert estimate_label_smoothing(logits).verdict != "smoothed"


@pytest.mark.parametrize(
    ("logits", "reason"),
    [
        (teacher_logits(0.1, classes=4), "4 classes, at least 5 are needed"),
        (teacher_logits(0.1, classes=5)[:, :1], "1 classes, at least 5 are needed"),
        (teacher_logits(0.1, rows=99), "99 samples, at least 100 are needed"),
        (np.empty((0, 10)), "0 samples, at least 100 are needed"),
    ],
)
def test_too_little_is_not_guessed_at(logits, reason):
    found = estimate_label_smoothing(logits)
    assert (found.verdict, found.alpha, found.low, found.high) == ("cannot tell", None, None, None)
    assert found.reason == reason


def test_extreme_logits_are_no_error():
    for logits in (np.full((200, 10), 1e300), np.eye(10).repeat(20, 0) * 1e4, -np.eye(10).repeat(20, 0) * 1e4):
        found = estimate_label_smoothing(logits)
        assert found.verdict != "smoothed"


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_the_estimate_knows_no_order_and_no_constant(data):
    logits = teacher_logits(data.draw(st.sampled_from([0.0, 0.02, 0.05, 0.2])), rows=120)
    expected = estimate_label_smoothing(logits)
    generator = np.random.default_rng(data.draw(st.integers(0, 99)))
    moved = generator.permutation(generator.permutation(logits), axis=1) + generator.normal(0, 50, (len(logits), 1))
    cut = data.draw(st.integers(0, 120))
    found = estimate_label_smoothing([moved[:cut], moved[cut:]])
    assert found.verdict == expected.verdict
    assert [found.alpha, found.low, found.high] == pytest.approx([expected.alpha, expected.low, expected.high])


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("alpha", [0, 0.05, 0.3])
def test_the_verdict_does_not_depend_on_the_precision_of_the_logits(dtype, alpha):
    logits = teacher_logits(alpha)
    expected, found = (estimate_label_smoothing(each) for each in (logits, logits.astype(dtype)))
    assert found.verdict == expected.verdict
    assert found.alpha == pytest.approx(expected.alpha, rel=0.01)


def test_the_shape_of_outputs_is_what_a_plain_computation_gives():
    logits = teacher_logits(0.1, classes=8, rows=153, noise=0.5)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    sure = p[np.argsort(p.max(1))[76:]]
    wrong = np.sort(sure, axis=1)[:, :-1]
    odds = np.log(sure.max(1) / (7 * np.median(wrong, axis=1)))
    found = output_shape(logits)
    assert (found.samples, found.classes) == (153, 8)
    assert found.floor == pytest.approx(8 * np.median(np.exp(np.median(np.log(wrong), axis=1))))
    assert found.ceiling == pytest.approx(8 / 7 * np.median(wrong.sum(1)))
    assert found.variation == pytest.approx(odds.std() / odds.mean())
    assert found.unevenness == pytest.approx(math.log(found.ceiling / found.floor))


def test_of_several_teachers_one_that_may_be_smoothed_counts():
    plain = SmoothingEstimate(0.0, 0.0, 0.01, "not smoothed", "")
    unknown = SmoothingEstimate(None, None, None, "cannot tell", "")
    weak, strong = (SmoothingEstimate(alpha, alpha / 2, 2 * alpha, "smoothed", "") for alpha in (0.05, 0.2))
    assert most_smoothed([plain, unknown, plain]) == unknown
    assert most_smoothed([weak, unknown, strong, plain]) == strong
    assert most_smoothed([plain]).revision == REVISION


# --- trained models --------------------------------------------------------------------------------------------------


def last(model, data, training, amount, alpha, seed):
    *_, (_, logits) = snapshots(Setting(model, data, training, amount, alpha, seed))
    return estimate_label_smoothing(logits)


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.1, 0.2])
def test_a_trained_perceptron_shows_its_smoothing(alpha):
    found = last("perceptron", "digits", "plain", 0, alpha, seed=900)
    assert found.verdict == "smoothed"
    assert found.low < alpha < found.high


@pytest.mark.slow
@pytest.mark.parametrize(
    ("training", "amount"),
    [("plain", 0), ("decay", 1e-2), ("mixup", 0.2), ("penalty", 0.3), ("focal", 2), ("noise", 0.1)],
)
def test_a_perceptron_without_smoothing_is_not_taken_for_smoothed(training, amount):
    found = last("perceptron", "digits", training, amount, 0, seed=901)  # which makes it wide, and a fast learner
    assert found.verdict == "not smoothed" if training == "plain" else found.verdict != "smoothed"


@pytest.mark.parametrize("strength", [0.03, 0.3, 3, 300])
def test_a_converged_logistic_regression_is_not_taken_for_smoothed(strength):
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    images, labels = load_digits(return_X_y=True)
    images = images / 16
    model = LogisticRegression(C=strength, max_iter=3000).fit(images[::2], labels[::2])
    found = estimate_label_smoothing(model.decision_function(images[1::2]))
    assert found.verdict == ("not smoothed" if strength == 300 else "cannot tell")
