import itertools
import math

import numpy as np
import pytest

from lskd.measure.class_distances import squared_distances
from lskd.measure.class_sets import ClassSets
from lskd.measure.diffusion import diffusion_indices, permutation_p, relative_changes
from lskd.measure.isotropy import FLOOR, _Fit, isotropy_test
from lskd.measure.moments import ClassMoments
from lskd.measure.representations import collect

GROUPS = np.repeat([0, 1, 2, 3], [4, 3, 1, 1])
SETS = {
    target: ClassSets(
        [label for label in range(9) if GROUPS[label] == GROUPS[target] and label != target],
        [label for label in range(9) if GROUPS[label] != GROUPS[target]],
    )
    for target in range(7)
}


def moments(means, samples=1, noise=0.0, generator=None):
    """Of classes with these means (K, d); without noise the centroids are exactly these."""
    found = ClassMoments(*means.shape)
    labels = np.repeat(np.arange(len(means)), samples)
    features = np.repeat(means, samples, 0)
    found.update(features + (noise * generator.normal(size=features.shape) if noise else 0), labels)
    return found


def class_means(seed, dimension=12):
    """Groups that are some way from each other, their classes nearer."""
    generator = np.random.default_rng(seed)
    centres = generator.uniform(1, 2, (4, 1)) * generator.normal(size=(4, dimension)) / math.sqrt(dimension)
    return centres[GROUPS] + 0.5 * generator.normal(size=(9, dimension)) / math.sqrt(dimension)


def moved(means, length, generator):
    return means + length * generator.normal(size=means.shape) / math.sqrt(means.shape[1])


def reference_statistic(first, second, target, sets):
    """t by its definition, a pair of classes at a time, with numpy's own least squares."""
    group = [target, *sets.similar]
    pairs = [(a, b) for a, b in itertools.combinations(range(len(first)), 2) if not (a in group and b in group)]
    every = list(itertools.combinations(range(len(first)), 2))
    mean = np.mean([second[pair] for pair in every])
    variance = {pair: FLOOR + second[pair] / mean for pair in every}
    x, y = (np.array([each[pair] for pair in pairs]) for each in (second, first))
    roots = np.array([math.sqrt(variance[pair]) for pair in pairs])
    slope, level = np.polyfit(x, y, 1, w=1 / roots)
    spread = math.sqrt((((y - level - slope * x) / roots) ** 2).sum() / (len(pairs) - 2))
    tested = [
        (first[pair] - level - slope * second[pair]) / math.sqrt(variance[pair])
        for pair in (tuple(sorted((target, other))) for other in sets.similar)
    ]
    return np.mean(tested) / spread, slope, level


def test_the_statistic_is_that_of_plain_least_squares():
    generator = np.random.default_rng(1)
    first, second = moved(class_means(1), 0.3, generator), class_means(1)
    distances = [squared_distances(moments(each), range(9)) for each in (first, second)]
    fit = _Fit(*distances, range(9), SETS)
    found = fit.statistics(fit.first[None])[0]
    for place, (target, sets) in enumerate(SETS.items()):
        expected, slope, level = reference_statistic(*distances, target, sets)
        assert found[place] == pytest.approx(expected, rel=1e-9)
        others = [*sets.similar, *sets.dissimilar]
        line = (distances[0][target, others] - level) / slope
        changes = relative_changes(distances[0][target, others], line)
        assert fit.expected(place) == pytest.approx(changes[: len(sets.similar)].mean(), rel=1e-9)


@pytest.mark.parametrize(("scale", "constant"), [(1.0, 0.4), (3.0, 0.0), (0.5, 0.1)])
def test_a_scale_and_a_constant_alone_are_isotropic_and_all_of_eta(scale, constant):
    """A direction of its own for each class adds one constant to the distance of every two."""
    means = class_means(2)
    own = math.sqrt(constant / 2) * np.eye(9)
    first, second = np.hstack([means, own]), np.hstack([math.sqrt(scale) * means, 0 * own])
    found = isotropy_test([(moments(first), moments(second))], SETS)
    assert set(found.p_values.values()) == {1.0}
    assert found.p_together == 1.0
    students = [collect(each, np.arange(9), list("abcdefghi")) for each in (first, second)]
    for index in diffusion_indices(*students, SETS):
        assert index.eta_similar < -1e-3 or not constant
        assert found.expected[index.target] == pytest.approx(index.eta_similar, abs=1e-9)


def test_noise_that_was_taken_off_passes_for_diffusion_by_permutation_and_not_here():
    """With noise in the first student, as of fewer samples, similar classes seem to come nearer."""
    by_permutation, isotropic, together = [], [], []
    for simulation in range(40):
        generator = np.random.default_rng([3, simulation])
        means = class_means([3, simulation], 32)
        pair = moved(means, 0.4, generator), moved(means, 0.05, generator)
        found = isotropy_test([tuple(map(moments, pair))], SETS, draws=199, seed=simulation)
        isotropic += [p <= 0.05 for p in found.p_values.values()]
        together.append(found.p_together <= 0.05)
        distances = [squared_distances(moments(each), range(9)) for each in pair]
        for target, sets in SETS.items():
            others = [*sets.similar, *sets.dissimilar]
            changes = relative_changes(*(each[target, others] for each in distances))
            by_permutation.append(permutation_p(changes, len(sets.similar)) <= 0.05)
    assert np.mean(by_permutation) > 0.5
    assert np.mean(isotropic) < 0.09  # 5 % in truth; of 280 that depend on each other
    assert np.mean(together) <= 0.15


def pulled(means, share):
    """The first group's classes nearer to their mean."""
    means, group = means.copy(), np.flatnonzero(GROUPS == 0)
    means[group] += (means[group].mean(0) - means[group]) * (1 - math.sqrt(1 - share))
    return means


def test_a_group_that_comes_nearer_is_found_and_the_other_is_not():
    generator = np.random.default_rng(5)
    means = class_means(5, 32)
    pair = moved(means, 0.05, generator), moved(pulled(means, 0.4), 0.05, generator)
    found = isotropy_test([tuple(map(moments, pair))], SETS)
    assert max(found.p_values[target] for target in range(4)) <= 0.05
    assert min(found.p_values[target] for target in (4, 5, 6)) > 0.05
    opposite = isotropy_test([tuple(map(moments, pair[::-1]))], SETS)
    assert min(opposite.p_values[target] for target in range(4)) > 0.5


def test_several_pairs_of_students_tell_more_than_one():
    generator = np.random.default_rng(6)
    means = class_means(6, 32)
    pairs = [(moved(means, 0.15, generator), moved(pulled(means, 0.3), 0.15, generator)) for _ in range(6)]
    pairs = [tuple(map(moments, pair)) for pair in pairs]
    sets = {target: SETS[target] for target in range(4)}
    alone = [isotropy_test([pair], sets, draws=199).p_together for pair in pairs]
    assert isotropy_test(pairs, sets, draws=199).p_together < np.median(alone)


def test_unequal_numbers_of_samples_are_no_diffusion():
    claims = []
    for simulation in range(30):
        generator = np.random.default_rng([7, simulation])
        means = class_means([7, simulation], 32)
        pair = moments(means, 10, 0.18, generator), moments(means, 500, 0.18, generator)
        claims += [p <= 0.05 for p in isotropy_test([pair], SETS, draws=199).p_values.values()]
    assert np.mean(claims) < 0.1


def test_students_that_are_alike_have_no_small_p_where_classes_spread_unequally():
    generator = np.random.default_rng(12)
    labels = np.repeat(np.arange(9), 12)
    spread = np.exp(generator.normal(size=9))[labels, None]
    same = collect(class_means(12)[labels] + spread * generator.normal(size=(108, 12)), labels, list("abcdefghi"))
    found = isotropy_test([(same.moments, same.moments)], SETS, draws=99)
    assert set(found.p_values.values()) == {1.0}
    assert found.p_together == 1.0


def test_draws_come_from_the_seed_and_scale_changes_nothing():
    generator = np.random.default_rng(8)
    means = class_means(8)
    first, second = moved(means, 0.2, generator), moved(means, 0.2, generator)
    found = isotropy_test([(moments(first), moments(second))], SETS, draws=99, seed=1)
    scaled = isotropy_test([(moments(1e3 * first), moments(1e-3 * second + 7))], SETS, draws=99, seed=1)
    assert scaled.p_values == found.p_values
    assert isotropy_test([(moments(first), moments(second))], SETS, draws=99, seed=2).p_values != found.p_values


def test_too_few_classes_for_a_line_have_no_p():
    means = class_means(9)[[0, 1, 4]]
    found = isotropy_test([(moments(means), moments(2 * means))], {0: ClassSets([1], [2])})
    assert (found.p_values, found.expected, found.p_together) == ({0: None}, {0: None}, None)


def test_students_without_anything_in_common_have_no_p():
    means = np.arange(6.0)[:, None] ** 2
    sets = {0: ClassSets([1], [2, 3, 4, 5])}
    found = isotropy_test([(moments(means), moments(means[[0, 5, 4, 3, 2, 1]]))], sets)
    assert found.p_values == {0: None}


def test_classes_that_are_all_in_one_place_have_no_p():
    same = np.ones((9, 4))
    for pair in ((same, class_means(11, 4)), (class_means(11, 4), same)):
        assert set(isotropy_test([tuple(map(moments, pair))], SETS).p_values.values()) == {None}


def test_progress_counts_the_draws():
    means, told = class_means(10), []
    pair = moments(means), moments(moved(means, 0.1, np.random.default_rng(1)))
    isotropy_test([pair, pair], SETS, draws=50, progress=told.append)
    assert sum(told) == 100
