import itertools
import math
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lskd.measure.class_distances import VARIANTS, mean_distances, squared_distances, template_basis
from lskd.measure.class_resampling import Resampling
from lskd.measure.class_sets import ClassSets
from lskd.measure.diffusion import diffusion_indices, permutation_p, relative_changes
from lskd.measure.moments import ClassMoments
from lskd.measure.representation_collector import RepresentationCollector
from lskd.measure.representations import collect
from lskd.records.spread import Spread, over_seeds

SETS = {0: ClassSets([1, 2], [3, 4, 5]), 4: ClassSets([5], [0, 1])}
QUICK = settings(deadline=None, max_examples=25)
seeds = st.integers(0, 2**32 - 1)


def student(seed, samples=12, classes=6, dimension=5, labels=None, offset=0.0):
    """Representations of classes of different places and widths, in no order."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.repeat(np.arange(classes), samples)) if labels is None else labels
    places = generator.normal(size=(classes, dimension)) * 3 + offset
    noise = generator.normal(size=(len(labels), dimension)) * generator.uniform(0.3, 1, classes)[labels, None]
    names = [f"class {index}" for index in range(classes)]
    return collect(places[labels] + noise, labels, names, weight=generator.normal(size=(classes, dimension)))


def pair(seed, **options):
    first = student(seed, **options)
    return first, student(seed + 1, **options | {"labels": first.labels})


def transform(representations, change, weight=None):
    features = change(representations.features)
    weight = representations.weight if weight is None else weight
    return collect(features, representations.labels, representations.class_names, weight=weight)


def measure(first, second, sets=SETS, *options, **keywords):
    return {each.target: each for each in diffusion_indices(first, second, sets, *options, **keywords)}


def rows_of(features, labels, label):
    return [row for row, its in zip(features, labels, strict=True) if its == label]


def reference_distance(representations, a, b, variant, others):
    """The distance between two classes, sample by sample, as the paper's words say it."""
    of_a, of_b = (rows_of(representations.features, representations.labels, label) for label in (a, b))
    if variant.startswith("pairwise"):
        if variant == "pairwise":
            basis, _ = np.linalg.qr(representations.weight[[a, *others]].T)
            of_a, of_b = [basis.T @ row for row in of_a], [basis.T @ row for row in of_b]
        power = 2 if variant == "pairwise-squared" else 1
        pairs = [math.dist(x, y) ** power for x in of_a for y in of_b]
        return math.fsum(pairs) / len(pairs)
    centroids = [sum(rows) / len(rows) for rows in (of_a, of_b)]
    noise = 0
    if variant == "corrected":
        for rows, centroid in zip((of_a, of_b), centroids, strict=True):
            noise += sum(math.dist(row, centroid) ** 2 for row in rows) / (len(rows) - 1) / len(rows)
    return math.dist(*centroids) ** 2 - noise


def reference_eta(first, second, target, sets, variant):
    """Eq. 1, term by term."""
    others = [*sets.similar, *sets.dissimilar]

    def d(representations, k):
        distances = {p: reference_distance(representations, target, p, variant, others) for p in others}
        return distances[k] / sum(distances.values())

    def eta(s):
        total = 0
        for k in s:
            delta = d(second, k) - d(first, k)
            total += delta / d(first, k)
        return total / len(s)

    return eta(sets.similar), eta(sets.dissimilar)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("seed", [1, 2])
def test_eta_is_the_papers_formula(variant, seed):
    first, second = pair(seed)
    found = measure(first, second, variant=variant)
    assert list(found) == list(SETS)
    for target, sets in SETS.items():
        expected = reference_eta(first, second, target, sets, variant)
        assert (found[target].eta_similar, found[target].eta_dissimilar) == pytest.approx(expected, rel=1e-10)


def test_a_class_that_comes_nearer_has_a_negative_eta():
    first = collect(np.array([[0.0], [2.0], [4.0]]), np.arange(3), ["miniature", "standard", "submarine"])
    second = collect(np.array([[0.0], [1.0], [4.0]]), np.arange(3), ["miniature", "standard", "submarine"])
    found = measure(first, second, {0: ClassSets([1], [2])})[0]
    # 4 of 20 becomes 1 of 17, and 16 of 20 becomes 16 of 17.
    assert found.eta_similar == pytest.approx((1 / 17) / (4 / 20) - 1)
    assert found.eta_dissimilar == pytest.approx((16 / 17) / (16 / 20) - 1)
    assert found.changes == pytest.approx([found.eta_similar, found.eta_dissimilar])
    assert found.classes == (1, 2)


distances = st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=12)


@QUICK
@given(distances, st.data())
def test_changes_weighted_with_the_first_relative_distances_cancel(first, data):
    second = data.draw(st.lists(st.floats(0, 1e3), min_size=len(first), max_size=len(first)).filter(any))
    changes = relative_changes(np.array(first), np.array(second))
    assert (changes >= -1).all()
    assert (np.array(first) / sum(first)) @ changes == pytest.approx(0, abs=1e-12)


@QUICK
@given(st.tuples(*[st.floats(1e-3, 1e3)] * 4))
def test_with_one_class_on_each_side_the_signs_are_opposite(values):
    near, far = relative_changes(np.array(values[:2]), np.array(values[2:]))
    unchanged = abs(values[0] * values[3] / (values[1] * values[2]) - 1) < 1e-12
    assert unchanged or near * far < 0


def test_with_more_classes_both_can_be_negative():
    changes = relative_changes(np.array([1.0, 1.0, 2.0]), np.array([0.5, 1.0, 2.6]))
    similar, dissimilar = changes[0], changes[1:].mean()
    assert similar < 0
    assert dissimilar > 0
    changes = relative_changes(np.array([1.0, 1.0, 8.0]), np.array([0.9, 0.5, 8.6]))
    assert changes[0] < 0
    assert changes[1:].mean() < 0


def test_identical_students_have_no_diffusion():
    first = student(3)
    for variant in VARIANTS:
        found = measure(first, first, variant=variant, resamples=20)[0]
        assert found.changes == pytest.approx(0, abs=1e-15)
        assert found.similar_interval == pytest.approx((0, 0), abs=1e-15)
        assert found.p_value == 1


@QUICK
@given(seed=seeds, variant=st.sampled_from(VARIANTS), factors=st.tuples(*[st.floats(1e-3, 1e3)] * 2))
def test_scaling_moving_and_turning_either_feature_space_changes_nothing(seed, variant, factors):
    first, second = pair(seed, samples=6)
    changed = []
    for number, (each, factor) in enumerate(zip((first, second), factors, strict=True)):
        generator = np.random.default_rng(seed + number)
        turn, _ = np.linalg.qr(generator.normal(size=(5, 5)))
        shift = generator.normal(size=5) * 5 * factor
        weight = each.weight @ turn * generator.uniform(0.5, 2)
        changed.append(transform(each, lambda x, f=factor, t=turn, s=shift: f * (x @ t) + s, weight))
    before, after = measure(first, second, variant=variant), measure(*changed, variant=variant)
    for target in SETS:
        assert after[target].changes == pytest.approx(before[target].changes, rel=1e-6, abs=1e-8)


@QUICK
@given(seed=seeds, order=st.permutations(range(6)), variant=st.sampled_from(VARIANTS))
def test_the_order_of_classes_and_of_samples_does_not_matter(seed, order, variant):
    first, second = pair(seed, samples=5)
    new = np.argsort(order)  # class k is called new[k]
    samples = np.random.default_rng(seed).permutation(len(first.labels))

    def renamed(each):
        names = [each.class_names[old] for old in order]
        return collect(each.features[samples], new[each.labels[samples]], names, weight=each.weight[list(order)])

    sets = {
        int(new[target]): ClassSets(*(sorted(new[list(s)].tolist()) for s in (each.similar, each.dissimilar)))
        for target, each in SETS.items()
    }
    before, after = measure(first, second, variant=variant), measure(renamed(first), renamed(second), sets, variant)
    for target in SETS:
        old, now = before[target], after[int(new[target])]
        assert now.eta_similar == pytest.approx(old.eta_similar, rel=1e-9, abs=1e-12)
        assert now.eta_dissimilar == pytest.approx(old.eta_dissimilar, rel=1e-9, abs=1e-12)
        assert now.p_value == old.p_value


@pytest.mark.parametrize("variant", ["centroid", "corrected", "pairwise-squared"])
def test_merged_moments_give_the_same_distances(variant):
    whole = student(5, samples=20)
    parts = [ClassMoments(6, 5), ClassMoments(6, 5)]
    for part, rows in zip(parts, (slice(0, 33), slice(33, None)), strict=True):
        part.update(whole.features[rows], whole.labels[rows])
    parts[0].merge(parts[1])
    expected = squared_distances(whole.moments, [0, 3], variant=variant)
    assert squared_distances(parts[0], [0, 3], variant=variant) == pytest.approx(expected, rel=1e-12)


def test_distances_of_many_targets_are_those_of_each():
    moments = student(6).moments
    for variant in ("centroid", "corrected", "pairwise-squared"):
        table = squared_distances(moments, [4, 0, 2], variant=variant)
        assert table.shape == (3, 6)
        for row, target in zip(table, (4, 0, 2), strict=True):
            assert squared_distances(moments, [target], [5, 1], variant)[0].tolist() == row[[5, 1]].tolist()


def test_corrected_distances_are_right_on_average_and_plain_ones_are_too_large():
    generator, places = np.random.default_rng(8), np.array([[0.0, 0, 0], [1, 0, 0]])
    labels = np.repeat([0, 1], [5, 9])
    found = []
    for _ in range(2000):
        moments = ClassMoments(2, 3)
        moments.update(places[labels] + generator.normal(size=(14, 3)), labels)
        found.append([squared_distances(moments, [0], [1], v)[0, 0] for v in ("centroid", "corrected")])
    noise = 3 / 5 + 3 / 9
    assert np.mean(found, axis=0) == pytest.approx([1 + noise, 1], abs=0.15)


def test_near_classes_far_from_the_origin_keep_their_digits():
    moments = ClassMoments(2, 2)
    moments.update(np.array([[2.0**30, 1.0], [2.0**30, 1.0 + 2.0**-20]]), np.array([0, 1]))
    assert squared_distances(moments, [0], [1])[0, 0] == 2.0**-40


@QUICK
@given(seed=seeds, shape=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4)))
def test_pairwise_distances_are_those_of_loops_also_in_blocks_and_far_from_the_origin(seed, shape):
    n, m, d = shape
    generator = np.random.default_rng(seed)
    own, other = generator.normal(size=(n, d)) + 1e5, generator.normal(size=(m, d)) + 1e5
    weights = [generator.dirichlet(np.ones(count), size=3) for count in (n, m)]
    expected = [
        math.fsum(w[i] * v[j] * math.dist(own[i], other[j]) for i in range(n) for j in range(m))
        for w, v in zip(*weights, strict=True)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lskd.measure.class_distances.SIDE", 2)
        assert mean_distances(own, other, *weights) == pytest.approx(expected, rel=1e-10)


@pytest.mark.slow
def test_the_mean_of_all_pairs_never_holds_them_all():
    random = np.random.default_rng(1)
    own, other = (random.standard_normal((20_000, 4)) for _ in range(2))
    weights = np.full((1, 20_000), 1 / 20_000)
    tracemalloc.start()
    mean_distances(own, other, weights, weights)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6  # bytes; all distances take 3.2e9


def test_pairwise_features_in_half_precision_are_computed_in_float64():
    first, second = (transform(each, lambda x: x.astype(np.float16)) for each in pair(9))
    wide = [transform(each, lambda x: x.astype(np.float64)) for each in (first, second)]
    for variant in VARIANTS:
        found, expected = measure(first, second, variant=variant), measure(*wide, variant=variant)
        assert found[0].changes == pytest.approx(expected[0].changes, rel=1e-12)


def test_the_basis_spans_the_templates_and_leaves_out_what_depends_on_others():
    weight = np.random.default_rng(1).normal(size=(5, 8)).astype(np.float32)
    basis = template_basis(weight, [3, 1])
    assert basis.shape == (8, 2)
    assert basis.T @ basis == pytest.approx(np.eye(2), abs=1e-12)
    assert basis @ basis.T @ weight[[1, 3]].T == pytest.approx(weight[[1, 3]].T, abs=1e-6)
    weight[4] = weight[0] + weight[1]
    assert template_basis(weight, [0, 1, 4]).shape == (8, 2)


def brute_force_p(changes, similar):
    subsets = list(itertools.combinations(range(len(changes)), similar))
    observed = math.fsum(changes[:similar])
    return sum(math.fsum(changes[k] for k in subset) <= observed + 1e-9 for subset in subsets) / len(subsets)


@QUICK
@given(st.lists(st.integers(-20, 20), min_size=2, max_size=9), st.data())
def test_the_null_counts_all_subsets_and_ties_are_equal(values, data):
    similar = data.draw(st.integers(1, len(values) - 1))
    changes = np.array(values) * 0.1  # sums that are equal on paper differ in their last digit
    assert permutation_p(changes, similar) == pytest.approx(brute_force_p(changes.tolist(), similar), abs=1e-15)


def test_two_of_nine_cannot_be_rarer_than_one_in_36():
    changes = np.array([-0.5, -0.4, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    assert permutation_p(changes, 2) == 1 / 36
    assert permutation_p(-changes, 2) == 1


def test_a_null_of_many_subsets_is_drawn_from_a_seed(monkeypatch):
    changes = np.random.default_rng(3).normal(size=14)
    changes[:4] -= 0.3
    exact = permutation_p(changes, 4)
    monkeypatch.setattr("lskd.measure.diffusion.EXACT_SUBSETS", 1000)
    drawn = permutation_p(changes, 4, seed=5)
    assert drawn == permutation_p(changes, 4, seed=5)
    assert drawn != permutation_p(changes, 4, seed=6)
    assert drawn == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 20_000))
    assert permutation_p(np.array([-1.0] * 4 + [1.0] * 40), 4) == 1 / 20_001


@pytest.mark.parametrize("variant", VARIANTS)
def test_intervals_come_from_the_seed_and_not_from_other_targets(variant):
    first, second = pair(11)
    options = {"variant": variant, "resamples": 50}
    found = measure(first, second, **options, seed=1)
    assert measure(first, second, **options, seed=1)[0].similar_interval == found[0].similar_interval
    assert measure(first, second, {4: SETS[4]}, **options, seed=1)[4].similar_interval == found[4].similar_interval
    assert measure(first, second, **options, seed=2)[0].similar_interval != found[0].similar_interval
    assert measure(first, second, variant=variant)[0].similar_interval is None
    for each in found.values():
        for eta, interval in (
            (each.eta_similar, each.similar_interval),
            (each.eta_dissimilar, each.dissimilar_interval),
        ):
            assert -1 <= interval[0] < eta < interval[1]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_higher_confidence_has_a_wider_interval_around_the_lower_one(variant):
    first, second = pair(12)
    narrow, wide = (
        measure(first, second, variant=variant, resamples=200, confidence=confidence)[0].similar_interval
        for confidence in (0.5, 0.95)
    )
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


@pytest.mark.parametrize("variant", VARIANTS)
def test_students_that_saw_the_same_samples_are_resampled_together(variant):
    first = student(13, samples=30)
    second = transform(first, lambda x: 2 * x)  # what one sample does to one student it does to the other
    again = measure(first, second, variant=variant, resamples=50)[0].similar_interval
    assert again == pytest.approx((0, 0), abs=1e-12)
    second.index = second.index + 1  # other samples
    apart = measure(first, second, variant=variant, resamples=50)[0].similar_interval
    assert apart[0] < -0.005
    assert apart[1] > 0.005


def test_the_kept_samples_stand_for_all():
    """With a share of the features, intervals have the centre and about the width of those from all."""
    first, second = pair(14, samples=400)
    some = []
    for each in (first, second):
        recorder = RepresentationCollector(each.class_names, 5, keep_per_class=100, dtype=np.float64)
        recorder.add(each.features, each.labels)
        some.append(recorder.result(weight=each.weight))
    for variant in ("centroid", "corrected", "pairwise-squared"):
        whole, part = (measure(*files, variant=variant, resamples=400)[0] for files in ((first, second), some))
        assert part.eta_similar == pytest.approx(whole.eta_similar, rel=1e-12)
        widths = [each.similar_interval[1] - each.similar_interval[0] for each in (whole, part)]
        assert widths[1] == pytest.approx(widths[0], rel=0.35)
        assert sum(part.similar_interval) / 2 == pytest.approx(part.eta_similar, abs=0.2 * widths[0])


def test_kept_samples_that_are_narrower_than_all_are_widened():
    """The first 100 of a class vary little, the others much: intervals are those of all samples."""
    generator = np.random.default_rng(4)
    labels, places = np.tile(np.arange(6), 400), 3 * generator.normal(size=(6, 5))
    widths = np.where(np.arange(len(labels)) < 600, 0.2, 1.2)[:, None]
    whole, some = [], []
    for _ in range(2):
        features = places[labels] + widths * generator.normal(size=(len(labels), 5))
        whole.append(collect(features, labels, list("abcdef")))
        recorder = RepresentationCollector(list("abcdef"), 5, keep_per_class=100, dtype=np.float64)
        recorder.add(features, labels)
        some.append(recorder.result())
    widths = []
    for files in (whole, some):
        low, high = measure(*files, resamples=300)[0].similar_interval
        widths.append(high - low)
    assert widths[1] == pytest.approx(widths[0], rel=0.25)


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_intervals_are_as_wide_as_experiments_differ(variant):
    """95 % of a normal distribution are within 3.92 standard deviations; 80 experiments know these to 8 %."""
    generator = np.random.default_rng(21)
    labels, places = np.repeat(np.arange(6), 25), 2 * generator.normal(size=(6, 5))
    weight, names = generator.normal(size=(6, 5)), list("abcdef")
    etas, widths = [], []
    for experiment in range(80):
        shared, *own = generator.normal(size=(3, len(labels), 5))
        first, second = (
            collect(places[labels] + 0.8 * shared + 0.6 * each, labels, names, weight=weight) for each in own
        )
        found = measure(first, second, {0: SETS[0]}, variant, resamples=100, seed=experiment)[0]
        etas.append(found.eta_similar)
        widths.append(found.similar_interval[1] - found.similar_interval[0])
    assert np.mean(widths) == pytest.approx(3.92 * np.std(etas), rel=0.25)


def test_resampled_distances_vary_as_estimates_do_also_where_noise_is_as_large_as_the_distance():
    """Of Gaussian classes: 4·ΔᵀSΔ + 2·tr(S²), S the covariance of the difference of two means."""
    generator = np.random.default_rng(22)
    samples, dimension = 100, 20
    labels, noise = np.repeat([0, 1], samples), 2 / samples
    places = np.zeros((2, dimension))
    places[1, 0] = math.sqrt(dimension * noise)
    found = []
    for experiment in range(150):
        student = collect(places[labels] + generator.normal(size=(len(labels), dimension)), labels, ["a", "b"])
        distances = Resampling(student, 200, (experiment, 0)).distances(0, [1], "corrected")
        found.append(distances.var())
    exact = 4 * dimension * noise**2 + 2 * dimension * noise**2
    assert np.mean(found) == pytest.approx(exact, rel=0.2)  # without the correction half as large again


def coverage(variant, samples, experiments, seed=5):
    """How often the lower and the upper end of the 90 % interval lie on their side of the true η(S1).

    Classes are Gaussian and wider in some directions, so the expected distances have a closed form.
    """
    generator = np.random.default_rng(seed)
    places = generator.normal(size=(6, 8))
    places[1:3] = places[0] + (places[1:3] - places[0]) * 0.6
    later = 1.3 * places
    later[1:3] = later[0] + (later[1:3] - later[0]) * 0.9
    widths = np.linspace(0.2, 2, 8) / 1.5  # of each direction
    trace = (widths**2).sum()
    added = {"corrected": 0, "centroid": 2 * trace / samples, "pairwise-squared": 2 * trace}[variant]
    truth = relative_changes(*[((each - each[0]) ** 2).sum(1)[1:] + added for each in (places, later)])[:2].mean()
    labels, names = np.repeat(np.arange(6), samples), [str(index) for index in range(6)]
    held = []
    for experiment in range(experiments):
        shared, own = generator.normal(size=(2, len(labels), 8)) * widths
        first = collect(places[labels] + shared, labels, names)
        second = collect(later[labels] + 0.8 * shared + 0.6 * own, labels, names)
        options = {"variant": variant, "resamples": 200, "confidence": 0.9, "seed": experiment}
        low, high = measure(first, second, {0: SETS[0]}, **options)[0].similar_interval
        held.append((low <= truth, truth <= high))
    return np.mean(held, axis=0)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["centroid", "corrected", "pairwise-squared"])
def test_intervals_hold_the_true_value_as_often_as_they_say(variant):
    """90 % in all and 95 % on either side, within what 400 experiments can tell: four standard errors."""
    low, high = coverage(variant, samples=30, experiments=400)
    print(f"{variant}: {100 * (low + high - 1):.1f} %")
    assert low + high - 1 == pytest.approx(0.9, abs=0.06)
    assert low == pytest.approx(0.95, abs=0.044)
    assert high == pytest.approx(0.95, abs=0.044)


def test_an_interval_that_resamples_leave_undefined_is_nan():
    generator = np.random.default_rng(2)
    labels, names = np.repeat(np.arange(3), 4), ["a", "b", "c"]
    places = np.array([[0.0] * 8, [0.7] * 8, [9.0] * 8])
    first, second = (collect(places[labels] + generator.normal(size=(12, 8)), labels, names) for _ in range(2))
    found = measure(first, second, {0: ClassSets([1], [2])}, "corrected", resamples=300)[0]
    assert math.isfinite(found.eta_similar)
    assert np.isnan([found.similar_interval, found.dissimilar_interval]).all()


def test_one_sample_a_class_is_enough_for_an_index_but_not_for_an_interval():
    first, second = pair(15, samples=1)
    for variant in ("centroid", "pairwise", "pairwise-squared"):
        expected = reference_eta(first, second, 0, SETS[0], variant)
        assert measure(first, second, variant=variant)[0].eta_similar == pytest.approx(expected[0])
        with pytest.raises(ValueError, match=r"^first: 1 samples of 'class 0' \(must be at least 2\)$"):
            measure(first, second, variant=variant, resamples=10)
    with pytest.raises(ValueError, match=r"^first: 1 samples"):
        measure(first, second, variant="corrected")


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ({0: ClassSets([], [3])}, "sets: no similar class of 'class 0' (must be at least one)"),
        ({0: ClassSets([1], [])}, "sets: no dissimilar class of 'class 0' (must be at least one)"),
        ({0: ClassSets([0, 1], [3])}, "sets: 'class 0' is in its own sets (must be other classes)"),
        ({0: ClassSets([1], [3, 0])}, "sets: 'class 0' is in its own sets (must be other classes)"),
        ({0: ClassSets([1, 2], [3, 2])}, "sets: 'class 2' twice for 'class 0' (must be in one set, once)"),
        ({0: ClassSets([1], [6])}, "sets: 6 (must be between 0 and 5)"),
        ({-1: ClassSets([1], [2])}, "sets: -1 (must be between 0 and 5)"),
        ({0: ClassSets([1.5], [2])}, "sets: 1.5 (must be between 0 and 5)"),
        ({0.0: ClassSets([1], [2])}, "sets: 0.0 (must be between 0 and 5)"),
    ],
)
def test_sets_that_cannot_be_are_refused(sets, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        measure(*pair(16), sets)
    assert str(error.value) == message


def test_a_class_without_samples_or_without_kept_ones_is_named():
    whole = student(17)
    labels = np.where(whole.labels == 3, 2, whole.labels)
    lacks = collect(whole.features, labels, whole.class_names, weight=whole.weight)
    with pytest.raises(ValueError, match=r"^second: 0 samples of 'class 3' \(must be at least 1\)$"):
        measure(whole, lacks)
    recorder = RepresentationCollector(whole.class_names, 5, keep_classes=[0, 1, 2, 3, 4])
    recorder.add(whole.features, whole.labels)
    few = recorder.result(weight=whole.weight)
    assert measure(few, few)[0].eta_similar == pytest.approx(0)
    for options in ({"variant": "pairwise"}, {"resamples": 10}):
        with pytest.raises(ValueError, match=r"^first: 0 kept samples of 'class 5' \(must be at least [12]\)$"):
            measure(few, whole, **options)


def test_pairwise_distances_need_the_last_layer():
    first, second = pair(18)
    second.weight = None
    with pytest.raises(ValueError, match=r"^second: no last layer"):
        measure(first, second, variant="pairwise")


def test_other_classes_and_unknown_options_are_refused():
    first, second = pair(19)
    for options, message in (
        ({"variant": "cosine"}, "variant: 'cosine' (must be one of centroid, corrected, pairwise, pairwise-squared)"),
        ({"confidence": 1.0}, "confidence: 1.0 (must be above 0 and below 1)"),
        ({"confidence": "a"}, "confidence: 'a' (must be above 0 and below 1)"),
        ({"resamples": 1.5}, "resamples: 1.5 (must be a whole number, 0 or more)"),
    ):
        with pytest.raises(ValueError) as error:  # noqa: PT011
            measure(first, second, **options)
        assert str(error.value) == message
    second.class_names = second.class_names[::-1]
    with pytest.raises(ValueError, match=r"^second: other classes"):
        measure(first, second)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ([0, 0], [1, 1], "first: all distances are 0"),
        ([1, 1], [0, 0], "second: all distances are 0"),
        ([1, 0], [1, 1], "first: a distance of 0 "),
        ([1, -0.5], [1, 1], "first: a distance of -0.5 "),
        ([1, 1], [1, math.nan], "second: a distance of nan "),
        ([1, math.inf], [1, 1], "first: a distance of inf "),
    ],
)
def test_distances_that_have_no_relative_change_are_refused(first, second, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        relative_changes(np.array(first, float), np.array(second, float))
    assert str(error.value).startswith(message)


def test_the_dimension_of_the_second_student_may_be_another():
    first = student(20)
    second = student(21, labels=first.labels, dimension=9)
    for variant in VARIANTS:
        expected = reference_eta(first, second, 0, SETS[0], variant)
        assert measure(first, second, variant=variant, resamples=5)[0].eta_similar == pytest.approx(expected[0])


def test_the_spread_over_seeds_has_n_minus_one():
    assert over_seeds([1.0, 2.0, 6.0]) == Spread(3.0, pytest.approx(math.sqrt(7)), 3)
    assert over_seeds([0.25]) == Spread(0.25, None, 1)


def test_numpy_alone_is_imported():
    script = (
        "import sys, lskd.measure.diffusion; print({'torch', 'scipy', 'sklearn', 'safetensors'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
