import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import studentized_range, t

from lskd.measure.comparisons import Groups, holm, mean_test
from lskd.measure.studentised_range import studentised_range_p
from lskd.records.spread import Spread, over_seeds

T = (1.0, 2.0, 3.0, 64.0)


def blocks(values) -> Groups:
    """The groups of (seeds, temperatures) values."""
    return Groups({T[place]: dict(enumerate(column)) for place, column in enumerate(np.asarray(values, float).T)})


def reference(values) -> tuple[float, float]:
    """p of best against worst, and of T = 1 against the rest: both errors of every pair, written out, by scipy."""
    values = np.asarray(values, np.float64)
    n, k = values.shape
    residual = np.mean([np.var(values[:, i] - values[:, j], ddof=1) / 2 for i, j in combinations(range(k), 2)])
    means = values.mean(0)
    difference = values[:, means.argmax()] - values[:, means.argmin()]
    pooled = studentized_range.sf(difference.mean() / math.sqrt(residual / n), k, (n - 1) * (k - 1))
    own = studentized_range.sf(math.sqrt(2) * difference.mean() / (difference.std(ddof=1) / math.sqrt(n)), k, n - 1)
    rest = values[:, 0] - values[:, 1:].mean(1)
    return max(pooled, own), 2 * t.sf(abs(rest.mean()) / (rest.std(ddof=1) / math.sqrt(n)), n - 1)


@pytest.mark.parametrize("groups", [2, 3, 4, 8])
@pytest.mark.parametrize("freedom", [1, 2, 3, 6, 27, 200])
def test_the_studentised_range_is_scipys(groups, freedom):
    for q in (0.0, 0.5, 2.0, 4.0, 10.0, 200.0):
        expected = studentized_range.sf(q, groups, freedom) if q else 1.0
        assert studentised_range_p(q, groups, freedom) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_paired_differences_are_tested_by_both_errors(seeds):
    values = np.random.default_rng(seeds).normal(80, 1, (seeds, 4)) + [1.5, 0, 0, 0]
    best, rest = reference(values)
    groups = blocks(values)
    assert groups.best_against_worst().p == pytest.approx(best, abs=1e-5)
    assert groups.one_against_rest().p == pytest.approx(rest, abs=1e-5)
    assert groups.best_against_worst().paired


def test_seeds_that_are_not_the_same_are_compared_by_their_spreads():
    random = np.random.default_rng(2)
    values = {T: random.normal(80 - place, 1 + place, 3 + place) for place, T in enumerate((1.0, 2.0, 3.0))}
    spreads = {T: over_seeds(list(each)) for T, each in values.items()}
    by_seed = {T: {(T, seed): value for seed, value in enumerate(each)} for T, each in values.items()}
    found = Groups(by_seed).best_against_worst()
    assert found == Groups(spreads).best_against_worst()
    assert not found.paired
    one, other = spreads[found.higher], spreads[found.lower]
    freedom = sum(each.n - 1 for each in spreads.values())
    variance = sum((each.n - 1) * each.sd**2 for each in spreads.values()) / freedom
    pooled = math.sqrt(variance * (1 / one.n + 1 / other.n))
    own = math.sqrt(one.sd**2 / one.n + other.sd**2 / other.n)
    errors = ((pooled, freedom), (own, min(one.n, other.n) - 1))
    expected = [studentized_range.sf(math.sqrt(2) * found.difference / error, 3, df) for error, df in errors]
    assert found.p == pytest.approx(max(expected), abs=1e-5)
    assert found.seeds == 3


@given(
    st.lists(st.lists(st.floats(0, 100), min_size=4, max_size=4), min_size=3, max_size=6),
    st.lists(st.floats(-50, 50), min_size=6, max_size=6),
    st.floats(0.1, 10),
)
@settings(max_examples=60, deadline=None)
def test_what_a_seed_adds_to_all_temperatures_and_the_unit_do_not_matter(values, luck, unit):
    values = np.round(values, 2)
    shifted = unit * (values + np.round(luck[: len(values)], 2)[:, None])
    for one, other in (
        (blocks(values).best_against_worst(), blocks(shifted).best_against_worst()),
        (blocks(values).one_against_rest(), blocks(shifted).one_against_rest()),
    ):
        assert 0 <= one.p <= 1
        if values.std() > 0.01 and 1e-4 < one.p < 1 - 1e-4 and (one.higher, one.lower) == (other.higher, other.lower):
            assert other.p == pytest.approx(one.p, abs=1e-4)
            assert other.difference == pytest.approx(unit * one.difference, abs=1e-6)


@pytest.mark.parametrize("best", [0, 1, 3])
def test_the_best_is_tested_against_1_with_the_choice_in_mind_and_1_against_the_next(best):
    values = np.random.default_rng(best).normal(80, 1, (5, 4))
    values[:, best] += 3
    found = blocks(values).best_against()
    means = values.mean(0)
    other = 0 if best else int(np.argsort(-means)[1])
    assert (found.higher, found.lower) == (T[best], T[other])
    difference = values[:, best] - values[:, other]
    residual = np.mean([np.var(values[:, i] - values[:, j], ddof=1) / 2 for i, j in combinations(range(4), 2)])
    pooled = studentized_range.sf(difference.mean() / math.sqrt(residual / 5), 4, 12)
    own = studentized_range.sf(math.sqrt(2) * difference.mean() / (difference.std(ddof=1) / math.sqrt(5)), 4, 4)
    assert found.p == pytest.approx(max(pooled, own), abs=1e-5)


def test_without_students_of_1_nothing_is_compared_with_it():
    assert Groups({2.0: Spread(80.0, 1.0, 3), 3.0: Spread(81.0, 1.0, 3)}).best_against() is None
    assert Groups({1.0: Spread(80.0, 1.0, 3)}).best_against() is None


@pytest.mark.parametrize("name", ["best_against_worst", "one_against_rest", "best_against"])
def test_an_interval_leaves_out_0_where_p_is_small(name):
    random = np.random.default_rng(5)
    for _ in range(200):
        found = getattr(blocks(random.normal(size=(4, 4)) + [random.uniform(0, 6), 0, 0, 0]), name)()
        low, high = found.interval
        assert (low > 0 or high < 0) == (found.p < 0.05)
        assert low < found.difference < high


def test_too_few_seeds_are_not_tested_and_two_temperatures_are_one_comparison():
    assert blocks([[80, 81, 82, 83], [80, 81, 82, 84]]).best_against_worst() is None
    assert Groups({1.0: Spread(80, None, 1), 3.0: Spread(81, None, 1)}).best_against_worst() is None
    assert Groups({1.0: Spread(80, 1.0, 0), 3.0: Spread(81, 1.0, 0)}).best_against_worst() is None
    two = blocks([[80, 79], [81, 79.5], [80, 79.1]])
    assert two.one_against_rest() is None
    assert two.best_against_worst().p == pytest.approx(2 * t.sf(1.1333333 / (0.3214550 / 3**0.5), 2), abs=1e-5)


def test_a_temperature_with_too_few_seeds_is_left_out():
    spread = Spread(80.0, 1.0, 3)
    found = Groups({1.0: spread, 2.0: Spread(79.0, 1.0, 3), 64.0: Spread(10.0, None, 1)}).best_against_worst()
    assert (found.higher, found.lower, found.temperatures) == (1.0, 2.0, 2)


def test_equal_means_are_no_difference():
    assert blocks([[80, 80], [81, 81], [82, 82]]).best_against_worst().p == 1


def old_rule(values) -> bool:
    """Best against worst as if they had not been chosen, beyond one standard deviation."""
    means = values.mean(0)
    difference = values[:, means.argmax()] - values[:, means.argmin()]
    return difference.mean() > difference.std(ddof=1)


def noise(random, kind, seeds):
    luck = random.normal(size=(seeds, 1))
    if kind == "binomial":
        return 100 * random.binomial(2000, 0.8, (seeds, 4)) / 2000
    if kind == "heavy tails":
        return luck + random.standard_t(3, (seeds, 4))
    return luck + random.normal(size=(seeds, 4)) * ([1, 1, 1, 4] if kind == "unequal" else 1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["equal", "unequal", "heavy tails", "binomial"])
@pytest.mark.parametrize("seeds", [3, 5])
def test_at_most_five_of_a_hundred_claims_are_false(kind, seeds):
    """Of 400 simulated pages without an effect; 33 would be so in one of 1000 tests at 5 %."""
    random = np.random.default_rng(20261128)
    false = {"best": 0, "rest": 0, "page": 0, "before": 0}
    for _ in range(400):
        values = noise(random, kind, seeds)
        groups = blocks(values)
        p = groups.best_against_worst().p, groups.one_against_rest().p
        false["best"] += p[0] <= 0.05
        false["rest"] += p[1] <= 0.05
        false["page"] += min(holm(p)) <= 0.05
        false["before"] += old_rule(values)
    assert max(false["best"], false["rest"], false["page"]) <= 33
    if seeds == 3:
        assert false["before"] > 120  # what one standard deviation is worth


def test_a_large_effect_is_seen_with_three_seeds():
    random = np.random.default_rng(1)
    seen = [blocks(noise(random, "equal", 3) + [10, 0, 0, 0]).best_against_worst().p <= 0.05 for _ in range(100)]
    assert sum(seen) >= 90


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holms_procedure_rejects_from_the_smallest_p_until_one_is_too_large(p_values):
    level, rejected, order = 0.05, set(), sorted(range(len(p_values)), key=lambda place: p_values[place])
    for rank, place in enumerate(order):
        if p_values[place] * (len(p_values) - rank) > level:
            break
        rejected.add(place)
    assert {place for place, p in enumerate(holm(p_values)) if p <= level} == rejected


def test_a_mean_over_seeds_is_held_against_0_by_students_t():
    values = [-2.0, 1.0, -4.0, -3.5]
    interval, p = mean_test(values)
    error = np.std(values, ddof=1) / 2
    assert p == pytest.approx(2 * t.sf(abs(np.mean(values)) / error, 3), abs=1e-5)
    assert interval == pytest.approx(t.interval(0.95, 3, np.mean(values), error), abs=1e-3)
    assert mean_test(values[:2]) is None
