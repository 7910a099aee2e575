"""Which smoothing of the teacher had the best students: teachers are counted, and the choice is accounted for."""

import math
from itertools import combinations

import numpy as np
import pytest
from helpers.small_runs import image_run
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import studentized_range

from lskd.measure.smoothing_choice import best_of_two, by_teacher, smoothing_choices
from lskd.measure.temperature_effects import effects
from lskd.records.found_runs import find_runs
from lskd.records.studies import group

TEMPERATURES = (1.0, 3.0)


def choices(place, top1, teachers, students=1):
    """The choices among students whose accuracy is ``top1(α, T, teacher, seed)``."""
    for alpha in (0.0, 0.1):
        for teacher in range(teachers):
            for seed in range(students):
                for T in TEMPERATURES:
                    about = {"fingerprint": f"weights of {alpha}, {teacher}", "host": {"opt": "momentum"}}
                    number = teacher + 1 if students == 1 else 100 * teacher + seed
                    image_run(place, alpha, T, number, top1=top1(alpha, T, teacher, seed), **about)
    return smoothing_choices(effects(group(find_runs([place]))))


def test_the_best_of_all_is_compared_with_the_best_of_the_other_smoothing_within_seeds_as_scipy_does(tmp_path):
    noise = np.random.default_rng(3).normal(size=(2, 2, 5))
    values = {
        (alpha, T): [80 + teacher - 10 * alpha - 5 * alpha * T + noise[a, t, teacher] for teacher in range(5)]
        for a, alpha in enumerate((0.0, 0.1))
        for t, T in enumerate(TEMPERATURES)
    }
    (found,) = choices(tmp_path, lambda alpha, T, teacher, _: values[alpha, T][teacher], teachers=5)
    means = {cell: np.mean(each) for cell, each in values.items()}
    best = max(means, key=means.get)
    other = max((cell for cell in means if cell[0] != best[0]), key=means.get)
    assert (found.best.alpha, found.best.temperature) == best
    assert (found.other.alpha, found.other.temperature) == other
    assert found.best.spread.mean == pytest.approx(means[best])
    every = np.array(list(values.values())).T  # (teachers, cells)
    difference = np.array(values[best]) - np.array(values[other])
    n, k = every.shape
    residual = np.mean([np.var(every[:, i] - every[:, j], ddof=1) / 2 for i, j in combinations(range(k), 2)])
    pooled = studentized_range.sf(difference.mean() / math.sqrt(residual / n), k, (n - 1) * (k - 1))
    own = studentized_range.sf(math.sqrt(2) * difference.mean() / (difference.std(ddof=1) / math.sqrt(n)), k, n - 1)
    assert found.comparison.paired
    assert found.comparison.difference == pytest.approx(difference.mean())
    assert found.comparison.p == pytest.approx(max(pooled, own), abs=1e-5)


def test_many_students_of_one_teacher_say_nothing_of_other_teachers(tmp_path):
    (found,) = choices(tmp_path, lambda alpha, T, _, seed: 85 - 50 * alpha + 0.01 * seed, teachers=1, students=5)
    assert found.comparison is None
    assert (found.best.spread.n, found.other.spread.n) == (1, 1)


def test_a_teacher_counts_once_however_many_students_it_has(tmp_path):
    def top1(alpha, T, teacher, seed):
        return 85 + teacher - 10 * alpha * T + 0.1 * seed

    (found,) = choices(tmp_path, top1, teachers=3, students=2)
    assert found.best.spread.n == 3
    assert not found.comparison.paired
    assert found.best.spread.mean == pytest.approx(85 + 1 + 0.05)


def test_a_temperature_of_few_teachers_and_a_teacher_without_its_pair_do_not_prevent_the_comparison():
    cells = {(0.0, 1.0): {1: 88.0, 2: 88.3, 3: 87.9, 4: 88.1}, (0.1, 1.0): {1: 84.1, 2: 84.6, 3: 84.0, 4: 84.3}}
    best, other, expected = best_of_two(cells)
    assert (best.alpha, other.alpha, expected.paired) == (0.0, 0.1, True)
    assert best_of_two(cells | {(0.1, 8.0): {1: 95.0}}) == (best, other, expected)
    *_, without = best_of_two(cells | {(0.1, 1.0): {seed: cells[0.1, 1.0][seed] for seed in (1, 2, 3)}})
    assert (without.seeds, without.paired) == (3, True)


@pytest.mark.parametrize("teachers", [3, 5, 10])
@pytest.mark.parametrize(("of_teachers", "of_students"), [(1, 0.5), (0, 1), (2, 0.2)])
def test_where_smoothing_changes_nothing_it_is_hardly_ever_said_to(teachers, of_teachers, of_students):
    random, claims = np.random.default_rng(teachers), 0
    for _ in range(200):
        own = of_teachers * random.normal(size=(2, 1, teachers)) + of_students * random.normal(size=(2, 4, teachers))
        cells = {(a / 10, float(t)): dict(enumerate(own[a, t])) for a in range(2) for t in range(4)}
        claims += best_of_two(cells)[2].p <= 0.05
    assert claims <= 6  # of 200, where 10 are allowed


def test_students_of_teachers_of_one_smoothing_leave_nothing_to_choose(tmp_path):
    for seed in (1, 2, 3):
        image_run(tmp_path, 0.1, 1.0, seed)
        image_run(tmp_path, None, 1.0, 10 + seed)  # nor do those whose α nobody knows
    assert smoothing_choices(effects(group(find_runs([tmp_path])))) == []


@given(
    st.dictionaries(
        st.tuples(st.integers(0, 3), st.none(), st.sampled_from("abc")), st.floats(0, 100), min_size=1, max_size=12
    )
)
def test_a_cell_has_a_mean_for_each_teacher(students):
    other = {(1, None, "x"): 1.0, (2, None, "x"): 2.0}  # two students of one teacher: no pairs
    cells = by_teacher({0.1: {1.0: students}, 0.0: {1.0: other}})
    assert cells[0.0, 1.0] == {"x": 1.5}
    assert cells[0.1, 1.0].keys() == {teacher for _, _, teacher in students}
    for name, mean in cells[0.1, 1.0].items():
        assert mean == pytest.approx(np.mean([value for key, value in students.items() if key[2] == name]))
