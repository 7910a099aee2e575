import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lskd.measure import logit_blocks
from lskd.measure.smoothing_estimate import estimate_label_smoothing
from lskd.measure.smoothness import (
    EntropySums,
    blocks,
    entropy,
    far_below_second,
    match_temperature,
    mean_soft_outputs,
)

quick = settings(max_examples=40, deadline=None)
moderate = st.floats(-30, 30, width=32)
temperatures = st.floats(0.05, 200)
any_classes = st.integers(1, 8)


def probabilities(row, temperature):
    """Softmax of a row, each term by itself."""
    largest = max(row)
    weights = [math.exp((value - largest) / temperature) for value in row]
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def reference_entropy(row, temperature):
    """Σ -p ln p of a row, in exact sums."""
    return math.fsum(-p * math.log(p) for p in probabilities(row, temperature) if p > 0)


def logits_of(rows=300, classes=10, seed=1, scale=3.0):
    return scale * np.random.default_rng(seed).standard_normal((rows, classes))


def rows_of(data, least=1, most=8, classes=any_classes):
    shape = data.draw(st.integers(least, most)), data.draw(classes)
    return data.draw(arrays.arrays(np.float64, shape, elements=moderate))


# --- entropy ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.01, 0.3, 1, 1.481375, 3, 64, 1e4])
@pytest.mark.parametrize("classes", [1, 2, 10, 1000])
def test_the_entropy_is_that_of_the_definition(temperature, classes):
    logits = logits_of(rows=5, classes=classes)
    expected = [reference_entropy(row, temperature) for row in logits.tolist()]
    np.testing.assert_allclose(entropy(logits, temperature), expected, rtol=1e-9, atol=1e-13)


def test_an_entropy_near_0_keeps_its_digits():
    # 1 - p is far below what a float64 near 1 can tell: H = (gap + 1) · exp(-gap) to first order
    gap = 60.0
    assert entropy(np.array([[gap, 0.0]]))[0] == pytest.approx((gap + 1) * math.exp(-gap), rel=1e-12, abs=0)


def test_an_entropy_near_ln_k_keeps_the_digits_of_what_it_lacks():
    logits, temperature = logits_of(rows=5, classes=8), 1e3
    lacking = math.log(8) - entropy(logits, temperature)
    np.testing.assert_allclose(lacking, logits.var(1) / (2 * temperature**2), rtol=0.02)


def test_a_class_of_no_probability_adds_nothing():
    assert entropy(np.array([[0.0, -1e6, 0.0]]), 0.01)[0] == pytest.approx(math.log(2))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_the_entropy_of_lower_precision_is_computed_in_float64(dtype):
    logits = logits_of().astype(dtype)
    assert np.array_equal(entropy(logits, 2.0), entropy(logits.astype(np.float64), 2.0))


@quick
@given(st.data())
def test_the_entropy_lies_between_0_and_ln_k(data):
    logits = rows_of(data)
    each = entropy(logits, data.draw(temperatures))
    assert ((each >= 0) & (each <= math.log(logits.shape[1]) + 1e-12)).all()


@quick
@given(st.data())
def test_the_entropy_grows_with_the_temperature(data):
    logits = rows_of(data)
    low, high = sorted(data.draw(st.tuples(temperatures, temperatures)))
    assert (entropy(logits, high) >= entropy(logits, low) - 1e-12).all()


@quick
@given(st.data())
def test_a_constant_added_to_a_row_and_another_order_of_classes_change_nothing(data):
    logits, temperature = rows_of(data), data.draw(temperatures)
    order = data.draw(st.permutations(range(logits.shape[1])))
    moved = (logits + data.draw(st.floats(-1000, 1000)))[:, order]
    np.testing.assert_allclose(entropy(moved, temperature), entropy(logits, temperature), rtol=1e-7, atol=1e-9)


# --- sums ------------------------------------------------------------------------------------------------------------


def sums_of(logits, at=(1.0, 3.0)):
    sums = EntropySums(at)
    sums.update(logits)
    return sums


def test_mean_and_standard_error_are_those_of_the_samples():
    logits = logits_of(rows=50)
    expected = np.array([[reference_entropy(row, temperature) for row in logits.tolist()] for temperature in (1, 3)])
    sums = sums_of(logits)
    np.testing.assert_allclose(sums.mean(), expected.mean(1))
    np.testing.assert_allclose(sums.standard_error(), expected.std(1, ddof=1) / math.sqrt(50))
    assert sums.n == 50


@quick
@given(st.data())
def test_sums_of_parts_add_up_in_any_order(data):
    logits = rows_of(data, least=3, most=12)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(logits)), min_size=2, max_size=3)))
    parts = [sums_of(part) for part in np.split(logits, cuts)]
    total = EntropySums((1.0, 3.0))
    for part in data.draw(st.permutations(parts)):
        total.merge(part)
    expected = sums_of(logits)
    assert total.n == expected.n
    np.testing.assert_allclose(total.rows(), expected.rows(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("block", [1, 30, 2**18])
def test_blocks_and_chunks_are_worked_on_as_one(block, monkeypatch):
    monkeypatch.setattr(logit_blocks, "BLOCK", block)
    logits = logits_of(rows=23)
    expected = [np.mean([reference_entropy(row, temperature) for row in logits.tolist()]) for temperature in (1, 3)]
    for given_as in (logits, [logits[:5], logits[5:5], logits[5:]], iter([logits])):
        np.testing.assert_allclose(sums_of(given_as).mean(), expected)
    sizes = [len(each) for each in blocks(logits)]
    assert sum(sizes) == 23
    assert max(sizes) == min(23, max(1, block // 10))


def test_sums_go_through_the_rows_of_a_file_and_back():
    sums = sums_of(logits_of())
    back = EntropySums.of_rows(sums.rows(), sums.n)
    assert sums.rows().shape == (2, 3)
    assert np.array_equal(back.mean(), sums.mean())
    assert np.array_equal(back.standard_error(), sums.standard_error())
    rows = sums.rows()
    back = EntropySums.of_rows(rows, sums.n)
    back.merge(sums)
    assert np.array_equal(rows, sums.rows())
    assert back.n == 2 * sums.n


def test_sums_without_temperatures_or_samples_are_empty():
    assert EntropySums([]).rows().shape == (0, 3)
    assert np.isnan(EntropySums([1.0]).mean()).all()
    assert np.isnan(sums_of(logits_of(rows=1)).standard_error()).all()


def test_rows_of_one_entropy_have_no_standard_error():
    assert (sums_of(np.tile(logits_of(rows=1), (1000, 1))).standard_error() < 1e-7).all()


def test_sums_of_other_temperatures_are_refused():
    sums = EntropySums([1.0, 2.0])
    with pytest.raises(ValueError, match=r"^other: temperatures \[2.0, 1.0\] \(must be \[1.0, 2.0\]\)$"):
        sums.merge(EntropySums([2.0, 1.0]))


@pytest.mark.parametrize("temperature", [0, -1, math.nan, math.inf])
def test_a_temperature_that_is_none_is_refused(temperature):
    message = rf"^temperature: {temperature} \(must be a finite number above 0\)$"
    for function in (
        lambda: EntropySums([1.0, temperature]),
        lambda: entropy(logits_of(), temperature),
        lambda: mean_soft_outputs(logits_of(rows=1), np.array([0]), [0], temperature),
        lambda: match_temperature(logits_of(), 1.0, (temperature, 2.0)),
    ):
        with pytest.raises(ValueError, match=message):
            function()


def test_a_temperature_twice_is_refused():
    with pytest.raises(ValueError, match=r"^temperatures: \[1, 2, 1.0\] \(must be all different\)$"):
        EntropySums([1, 2, 1.0])


@pytest.mark.parametrize(
    ("logits", "message"),
    [
        (np.zeros(3), r"^logits: float64 of shape \(3,\) \(must be floating, samples by classes\)$"),
        (np.zeros((2, 0)), r"^logits: float64 of shape \(2, 0\) "),
        (np.zeros((2, 3), np.int64), r"^logits: int64 of shape \(2, 3\) "),
        (np.array([[0.0, 1.0], [math.nan, 0.0]]), r"^logits: not a finite number in sample 1 \(must be finite\)$"),
        (
            [np.zeros((4, 5)), np.zeros((1, 5)), np.full((1, 5), -math.inf)],
            r"^logits: not a finite number in sample 5 ",
        ),
    ],
)
def test_what_are_no_logits_is_refused(logits, message):
    for function in (lambda: sums_of(logits), lambda: estimate_label_smoothing(logits)):
        with pytest.raises(ValueError, match=message):
            function()


# --- temperature of equal entropy ------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.floats(0.2, 5), temperature=st.floats(0.3, 50), classes=st.integers(2, 12))
def test_logits_scaled_by_c_have_the_entropy_at_c_times_the_temperature(seed, scale, temperature, classes):
    logits = logits_of(rows=40, classes=classes, seed=seed, scale=2.0)
    found = match_temperature(scale * logits, entropy(logits, temperature).mean())
    assert found == pytest.approx(scale * temperature, rel=1e-6)


@pytest.mark.parametrize("temperature", [0.05, 0.5, 1, 1.481375, 5.638, 64, 900])
def test_the_temperature_of_an_entropy_is_found(temperature):
    logits = logits_of(scale=8.0)
    found = match_temperature(logits, entropy(logits, temperature).mean())
    assert found == pytest.approx(temperature, rel=1e-6)


def test_rows_of_equal_logits_have_ln_k_and_leave_the_others_to_decide():
    logits = np.concatenate([np.zeros((5, 10)), logits_of(rows=5)])
    found = match_temperature(logits, entropy(logits, 2.5).mean())
    assert found == pytest.approx(2.5, rel=1e-8)


def test_the_bounds_themselves_are_found():
    logits = logits_of()
    for bound in (0.5, 20.0):
        found = match_temperature(logits, entropy(logits, bound).mean(), (0.5, 20.0))
        assert found == pytest.approx(bound, rel=1e-8)


def test_an_entropy_out_of_reach_is_refused_with_the_range():
    logits = np.array([[3.0, 3.0, 0.0], [1.0, 0.0, 0.0]])  # two classes tie: never below ln(2) / 2
    message = r"^target: entropy {} \(must be between 0.346574 and 1.09861, which T = 0.01 and 10000 give\)$"
    for target, said in ((0.3, "0.3"), (1.2, "1.2"), (math.nan, "nan")):
        with pytest.raises(ValueError, match=message.format(said)):
            match_temperature(logits, target)


@pytest.mark.parametrize("classes", [1, 7])
def test_rows_of_equal_logits_alone_have_no_temperature(classes):
    with pytest.raises(ValueError, match=r"^logits: all equal in each row"):
        match_temperature(np.full((4, classes), 2.0), math.log(classes))


def test_no_samples_and_an_iterator_are_refused():
    with pytest.raises(ValueError, match=r"^logits: no samples"):
        match_temperature(np.empty((0, 3)), 1.0)
    with pytest.raises(ValueError, match=r"^logits: an iterator"):
        match_temperature(iter([logits_of()]), 1.0)


def test_it_is_found_in_few_passes():
    class Counted:
        passes = 0

        def __iter__(self):
            self.passes += 1
            return iter([logits_of(scale=8.0)])

    logits = Counted()
    match_temperature(logits, entropy(logits_of(scale=8.0), 1.481375).mean())
    assert logits.passes <= 9


# --- mean soft outputs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1, 2])
def test_the_mean_soft_output_is_that_of_the_definition(temperature):
    logits, labels = logits_of(rows=60, classes=5), np.arange(60) % 3
    found = mean_soft_outputs([logits[:25], logits[25:]], labels, [2, 0], temperature)
    rows = [[probabilities(row, temperature) for row in logits[labels == label].tolist()] for label in (2, 0)]
    np.testing.assert_allclose(found, np.mean(rows, axis=1))
    np.testing.assert_allclose(found.sum(1), 1)


@pytest.mark.parametrize("labels", [3, 5])
def test_labels_that_do_not_fit_the_logits_are_refused(labels):
    with pytest.raises(ValueError, match=rf"^labels: {labels} \(must be as many as there are logits\)$"):
        mean_soft_outputs(logits_of(rows=4), np.zeros(labels, int), [0])


def test_a_class_without_samples_has_no_mean_output():
    with pytest.raises(ValueError, match=r"^classes: 7 has no samples"):
        mean_soft_outputs(logits_of(rows=4), np.zeros(4, int), [0, 7])


def test_classes_are_far_below_from_a_hundredth_of_the_second_on():
    outputs = np.array([[0.4, 0.0005, 0.05, 0.000501, 0.0], [0.2, 0.2, 0.2, 0.2, 0.2]])
    assert far_below_second(outputs).tolist() == [2, 0]
    assert far_below_second(outputs, 1000).tolist() == [1, 0]


def test_where_the_second_is_nothing_no_class_is_below_it():
    assert far_below_second(np.array([[1.0, 0.0, 0.0]])).tolist() == [0]


@quick
@given(st.data())
def test_far_below_is_what_a_loop_counts(data):
    rows = np.exp(rows_of(data, classes=st.integers(2, 8)))
    expected = []
    for row in rows.tolist():
        second = sorted(row)[-2]
        expected.append(sum(value < second and second >= 100 * value for value in row))
    assert far_below_second(rows).tolist() == expected


def test_shapes_and_factors_that_mean_nothing_are_refused():
    with pytest.raises(ValueError, match=r"^outputs: shape \(3, 1\)"):
        far_below_second(np.ones((3, 1)))
    with pytest.raises(ValueError, match=r"^factor: 1 "):
        far_below_second(np.ones((3, 2)), 1)
