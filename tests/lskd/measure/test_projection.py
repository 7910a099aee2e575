import dataclasses
import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lskd.io.errors import InputError
from lskd.measure.projection import distance_to_third, fit_projection, project, relative_distance
from lskd.measure.representations import collect
from lskd.report.figure_files import write_figure
from lskd.report.projection_figure import COLOURS, MARKERS, figure

CLASSES = [6, 1, 4]
NAMES = ["standard_poodle", "miniature_poodle", "submarine"]
ALL_NAMES = ["crane", NAMES[1], "owl", "bass", NAMES[2], "newt", NAMES[0], "kite"]


def make(seed=1, samples=60, dimension=12, spread=1.0):
    """Features that gather around templates of 8 classes with large biases, those of two CLASSES near each other."""
    random = np.random.default_rng(seed)
    weight = random.normal(size=(8, dimension))
    weight[1] = weight[6] + 0.3 * random.normal(size=dimension)
    labels = np.repeat(np.arange(8), samples)
    random.shuffle(labels)
    features = 2 * weight[labels] + spread * random.normal(size=(len(labels), dimension))
    return features, labels, weight, 3 * random.normal(size=8)


def reference(features, labels, classes, weight, bias):
    """Algorithm 2 (Appendix F) with a 1 and the bias appended, sample by sample; and all three variances.

    The plane's axes are eigenvectors of the covariance, of any sign.
    """
    templates = [np.append(weight[label], bias[label]) for label in classes]
    basis, _ = np.linalg.qr(np.array(templates).T)
    rows = [row for row, label in enumerate(labels) if label in classes]
    projected = np.array([[np.append(features[row], 1.0) @ basis[:, axis] for axis in range(3)] for row in rows])
    centred = projected - projected.sum(0) / len(rows)
    variances, axes = np.linalg.eigh(centred.T @ centred / (len(rows) - 1))
    return centred @ axes[:, [2, 1]], variances[::-1], rows


def shown(features, labels, classes, *last_layer):
    """The coordinates of the three classes' features that a projection was fitted on."""
    return fit_projection(features, labels, classes, *last_layer).transform(features[np.isin(labels, classes)])


def assert_alike(first, second):
    """Equal up to signs: the second coordinate pairs of columns may be turned and mirrored about the origin."""
    np.testing.assert_allclose(first @ first.T, second @ second.T, rtol=1e-7, atol=1e-7 * np.abs(second).max() ** 2)


def representations(seed=1, split="train", samples=60, smoothing=0.1, temperature=None, model="resnet18", **changes):
    features, labels, weight, bias = make(seed, samples)
    if split != "train":
        features = features + np.random.default_rng(99).normal(size=features.shape)
    provenance = {
        "checkpoint": f"{model}_{temperature}_{smoothing}.pth.tar",
        "model": model,
        "split": split,
        "seed": 5,
        "configuration": {"temperature": temperature, "label_smoothing": 0.0 if temperature else smoothing},
        "teacher": {"label_smoothing": {"alpha": smoothing, "source": "told"}} if temperature else None,
    }
    made = collect(features.astype(np.float32), labels, ALL_NAMES, weight=weight, bias=bias, provenance=provenance)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(3, 40), st.booleans())
def test_the_picture_is_the_papers_up_to_turning_and_mirroring(seed, dimension, with_bias):
    features, labels, weight, bias = make(seed, 20, dimension)
    bias = bias if with_bias else None
    expected, variances, rows = reference(features, labels, CLASSES, weight, bias if with_bias else np.zeros(8))
    assume(variances[1] > 1.001 * variances[2])  # else the plane is anyone's choice
    fitted = fit_projection(features, labels, CLASSES, weight, bias)
    assert_alike(fitted.transform(features[rows]), expected)
    assert fitted.explained == pytest.approx(variances[:2].sum() / variances.sum())
    centre = np.append(features[rows].mean(0), 1.0) @ fitted.basis
    np.testing.assert_allclose(fitted.mean, centre, atol=1e-9)
    total = sum(np.var(features[rows, axis], ddof=1) for axis in range(dimension))
    assert fitted.kept == pytest.approx(variances[:2].sum() / total)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_the_dissimilar_class_is_to_the_right_and_the_first_above_the_second(seed):
    features, labels, *last_layer = make(seed)
    coordinates = shown(features, labels, CLASSES, *last_layer)
    own = labels[np.isin(labels, CLASSES)]
    assert coordinates[own == CLASSES[2]].mean(0)[0] > 0  # classes of one size: the mean of all is between them
    few = (labels != CLASSES[0]) | (np.arange(len(labels)) % 5 == 0)  # of the first class; the mean moves away from it
    features, labels = features[few], labels[few]
    coordinates = shown(features, labels, CLASSES, *last_layer)
    own = labels[np.isin(labels, CLASSES)]
    first, second, third = (coordinates[own == label].mean(0) for label in CLASSES)
    half_way = (first + second) / 2
    assert third[0] > half_way[0]
    assert third[1] == pytest.approx(half_way[1], abs=1e-9 * np.abs(coordinates).max())
    assert first[1] > second[1]


def test_swapping_the_similar_classes_mirrors_the_picture():
    data = make()
    features, labels, *last_layer = data
    there = shown(features, labels, CLASSES, *last_layer)
    back = shown(features, labels, [CLASSES[1], CLASSES[0], CLASSES[2]], *last_layer)
    np.testing.assert_allclose(back, there * [1, -1], atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_turning_features_and_templates_together_leaves_the_picture(seed, turned):
    features, labels, weight, bias = make(seed)
    _, variances, _ = reference(features, labels, CLASSES, weight, bias)
    assume(variances[1] > 1.001 * variances[2])
    turn, _ = np.linalg.qr(np.random.default_rng(turned).normal(size=(12, 12)))
    before = shown(features, labels, CLASSES, weight, bias)
    after = shown(features @ turn, labels, CLASSES, weight @ turn, bias)
    np.testing.assert_allclose(after, before, atol=1e-7 * np.abs(before).max())


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_the_order_of_samples_does_not_matter(seed):
    features, labels, *last_layer = make()
    order = np.random.default_rng(seed).permutation(len(labels))
    first = fit_projection(features, labels, CLASSES, *last_layer)
    second = fit_projection(features[order], labels[order], CLASSES, *last_layer)
    np.testing.assert_allclose(second.transform(features), first.transform(features), atol=1e-9)


def test_each_template_has_the_bias_of_its_own_class():
    features, labels, weight, bias = make()
    coordinates = shown(features, labels, CLASSES, weight, bias)
    others = np.where(np.isin(np.arange(8), CLASSES), bias, 1e3)
    np.testing.assert_array_equal(shown(features, labels, CLASSES, weight, others), coordinates)
    mixed = bias.copy()
    mixed[CLASSES] = bias[:3]  # the first rows of the bias, as a reader of an already chosen layer may take them
    for wrong in (mixed, np.roll(bias, 1), np.zeros(8)):
        expected, _, _ = reference(features, labels, CLASSES, weight, wrong)
        with pytest.raises(AssertionError):
            assert_alike(coordinates, expected)


def test_a_layer_without_bias_is_one_with_a_bias_of_zero():
    features, labels, weight, _ = make()
    fitted = fit_projection(features, labels, CLASSES, weight)
    np.testing.assert_allclose(
        fitted.transform(features),
        fit_projection(features, labels, CLASSES, weight, np.zeros(8)).transform(features),
    )
    assert np.abs(fitted.basis[-1]).max() == 0


def test_the_lengths_of_templates_do_not_matter():
    features, labels, weight, bias = make()
    lengths = 10.0 ** np.linspace(-12, 9, 8)
    np.testing.assert_allclose(
        shown(features, labels, CLASSES, weight * lengths[:, None], bias * lengths),
        shown(features, labels, CLASSES, weight, bias),
        rtol=1e-6,
    )


def test_distances_in_the_plane_are_kept():
    features, labels, *last_layer = make()
    fitted = fit_projection(features, labels, CLASSES, *last_layer)
    np.testing.assert_allclose(fitted.basis.T @ fitted.basis, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(fitted.plane.T @ fitted.plane, np.eye(2), atol=1e-12)
    assert 0 < fitted.kept <= fitted.explained < 1


def test_other_classes_count_for_nothing():
    features, labels, *last_layer = make()
    three = np.isin(labels, CLASSES)
    alone = fit_projection(features[three], labels[three], CLASSES, *last_layer)
    np.testing.assert_array_equal(
        fit_projection(features, labels, CLASSES, *last_layer).transform(features), alone.transform(features)
    )


def test_half_and_single_precision_are_computed_in_float64():
    features, labels, *last_layer = make()
    features, *last_layer = ((100 * each).astype(np.float16) for each in (features, *last_layer))
    fitted = fit_projection(features, labels, CLASSES, *last_layer)
    exact = fit_projection(features.astype(np.float64), labels, CLASSES, *(x.astype(np.float64) for x in last_layer))
    assert fitted.transform(features).dtype == np.float64
    np.testing.assert_array_equal(fitted.transform(features), exact.transform(features.astype(np.float64)))
    single = fit_projection(features.astype(np.float32), labels, CLASSES, *(x.astype(np.float32) for x in last_layer))
    np.testing.assert_array_equal(single.basis, exact.basis)
    np.testing.assert_array_equal(single.plane, exact.plane)
    assert (fitted.kept, single.kept) == (exact.kept, exact.kept)


def test_the_relative_distance_is_that_of_centroids_not_of_squares():
    centroids = np.array([[0.0, 3.0], [0.0, -1.0], [3.0, -1.0]])
    assert relative_distance(centroids) == pytest.approx(4 / ((5 + 3) / 2))
    assert distance_to_third(centroids) == pytest.approx(4)
    assert relative_distance(np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])) == 0
    assert np.isnan(relative_distance(np.ones((3, 2))))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=6, max_size=6))
def test_the_relative_distance_is_at_most_2_and_has_no_unit(numbers):
    centroids = np.array(numbers).reshape(3, 2)
    assume(distance_to_third(centroids) > 1e-6)
    value = relative_distance(centroids)
    assert 0 <= value <= 2 + 1e-9
    assert relative_distance(8 * centroids) == pytest.approx(value)


def with_classes(changed):
    features, labels, weight, bias = make()
    return {"features": features, "labels": labels, "classes": CLASSES, "weight": weight, "bias": bias} | changed


def equal_templates(scale):
    _, _, weight, bias = make()
    weight[1], bias[1] = scale * weight[6], scale * bias[6]
    return {"weight": weight, "bias": bias}


def zero_template():
    _, _, weight, bias = make()
    weight[4], bias[4] = 0, 0
    return {"weight": weight, "bias": bias}


def in_place(*places):
    """Features in the span of the templates, one of each of CLASSES, at coordinates of that span."""
    weight = np.eye(8)
    features = np.zeros((3, 8))
    features[:, CLASSES] = places
    return {"features": features, "labels": np.array(CLASSES), "weight": weight, "bias": None}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (equal_templates(1), "weight: the templates of the classes span 2 dimensions (must be 3, all independent)"),
        (equal_templates(-2), "weight: the templates of the classes span 2 dimensions (must be 3, all independent)"),
        (zero_template(), "weight: the templates of the classes span 2 dimensions (must be 3, all independent)"),
        ({"classes": [6, 1, 6]}, "classes: [6, 1, 6] (must be three different ones, from 0 to 7)"),
        ({"classes": [6, 1]}, "classes: [6, 1] (must be three different ones, from 0 to 7)"),
        ({"classes": [6, 1, 8]}, "classes: 8 (must be between 0 and 7)"),
        ({"classes": [6, 1, -1]}, "classes: -1 (must be between 0 and 7)"),
        ({"labels": np.full(480, 6)}, "features: none of class 1 (must be at least one of each of the three)"),
        (
            {"features": np.ones((2, 12)), "labels": np.array([6, 4])},
            "features: none of class 1 (must be at least one of each of the three)",
        ),
        ({"features": np.ones((0, 12)), "labels": np.ones(0, int)}, "features: none of class 6 "),
        ({"labels": np.zeros(3, int)}, "labels: shape (3,) (must be one for each of 480 features)"),
        ({"features": np.ones((480, 5))}, "weight: shape (8, 12) (must be classes by the features' 5 dimensions)"),
        ({"features": np.ones((480, 12, 1))}, "features: shape (480, 12, 1) (must be rows by dimensions)"),
        ({"features": np.full((480, 12), np.nan)}, "features: NaN or infinite (must be finite)"),
        ({"weight": np.full((8, 12), np.inf)}, "weight: NaN or infinite (must be finite)"),
        ({"bias": np.zeros(3)}, "bias: shape (3,) (must be (8,))"),
        ({"features": np.ones((480, 12))}, "features: all on a line in the span of the templates "),
        (in_place([0, 0, 1], [0, 0, 2], [0, 0, 9]), "features: all on a line in the span of the templates "),
        (in_place([0, 0, 0], [0, 0, 0], [0, 0, 0]), "features: all on a line in the span of the templates "),
    ],
)
def test_what_cannot_be_projected_is_refused_in_one_line(changed, message):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a warning beside the line would be a second one
        with pytest.raises(ValueError) as error:  # noqa: PT011
            fit_projection(**with_classes(changed))
    assert str(error.value).startswith(message)


def test_a_third_centroid_half_way_between_the_others_is_refused():
    features = np.zeros((6, 8))
    features[:, CLASSES] = [[2, 1, 0], [2, -1, 0], [-2, 1, 0], [-2, -1, 0], [0, 1, 0], [0, -1, 0]]
    data = with_classes({"features": features, "labels": np.repeat(CLASSES, 2), "weight": np.eye(8), "bias": None})
    with pytest.raises(ValueError, match=r"^features: the third centroid is half-way between the other two "):
        fit_projection(**data)


def test_other_dimensions_and_nan_are_refused_by_a_fitted_projection():
    features, labels, *last_layer = make()
    fitted = fit_projection(features, labels, CLASSES, *last_layer)
    with pytest.raises(ValueError, match=r"^features: 13 dimensions \(must be 12\)$"):
        fitted.transform(np.ones((2, 13)))
    with pytest.raises(ValueError, match=r"^features: NaN or infinite"):
        fitted.transform(np.full((2, 12), np.nan))


def test_a_missing_package_is_named_with_what_installs_it(monkeypatch):
    features, labels, *last_layer = make()
    panels = project(representations(), [], NAMES)
    monkeypatch.setitem(sys.modules, "sklearn.decomposition", None)
    with pytest.raises(InputError, match=r"^scikit-learn is not installed \(.* pip install '\.\[report\]'\)$"):
        fit_projection(features, labels, CLASSES, *last_layer)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match=r"^matplotlib is not installed \(.* pip install '\.\[report\]'\)$"):
        figure(panels)


def test_importing_needs_numpy_alone():
    program = "import sys, lskd.measure.projection, lskd.report.projection_figure\n"
    program += "print(sorted({'sklearn', 'matplotlib', 'scipy', 'torch', 'safetensors'} & sys.modules.keys()))"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed == "[]\n"


def test_panels_show_both_splits_in_the_plane_of_the_first():
    train, validation = representations(), representations(split="validation")
    panels = project(train, [validation], NAMES, None, None)
    fitted = fit_projection(train.features, train.labels, CLASSES, train.weight, train.bias)
    for panel, each in zip(panels, (train, validation), strict=True):
        three = np.isin(each.labels, CLASSES)
        np.testing.assert_array_equal(panel.index, np.flatnonzero(three))
        np.testing.assert_array_equal(np.array(CLASSES)[panel.labels], each.labels[three])
        np.testing.assert_allclose(panel.coordinates, fitted.transform(each.features[three]), atol=1e-9)
        means = np.stack([panel.coordinates[panel.labels == place].mean(0) for place in range(3)])
        np.testing.assert_allclose(panel.centroids, means)
        assert panel.relative_distance == relative_distance(means)
    np.testing.assert_allclose(panels[0].projection.centroids, panels[0].centroids, atol=1e-9)
    assert panels[0].relative_distance != panels[1].relative_distance


def test_validation_does_not_move_the_plane():
    train, validation = representations(), representations(split="validation")
    far = dataclasses.replace(validation, features=validation.features * 100 + 7)
    (alone,) = project(train, [], NAMES)
    for others in ([validation], [far], [far, validation]):
        panel, *_ = project(train, others, NAMES)
        np.testing.assert_array_equal(panel.coordinates, alone.coordinates)
        np.testing.assert_array_equal(panel.projection.basis, alone.projection.basis)
        np.testing.assert_array_equal(panel.projection.plane, alone.projection.plane)


def test_so_many_samples_of_each_class_are_drawn():
    panels = project(representations(), [representations(split="validation")], NAMES, 30, 10)
    assert [np.bincount(panel.labels).tolist() for panel in panels] == [[30] * 3, [10] * 3]
    for panel in panels:
        assert (np.diff(panel.index) > 0).all()  # none twice
        assert panel.index.max() > 100  # from everywhere, not the first ones
    few = project(representations(samples=20), [], NAMES)
    assert np.bincount(few[0].labels).tolist() == [20] * 3


def test_draws_depend_on_the_seed_and_not_on_the_model_or_the_order_of_classes():
    def index(*arguments, **keywords):
        return project(*arguments, **keywords)[0].index.tolist()

    train = representations()
    first = index(train, [], NAMES, 30)
    assert index(train, [], NAMES, 30) == first
    assert index(train, [], NAMES, 30, seed=1) != first
    assert index(train, [], NAMES[::-1], 30) == first
    other = collect(train.features[:, :9] * 2, train.labels, train.class_names, weight=train.weight[:, :9])
    assert index(other, [], NAMES, 30) == first


def test_samples_are_numbered_as_in_their_split():
    train = representations()
    numbered = dataclasses.replace(train, index=np.arange(len(train.labels)) * 3 + 2)
    panel, moved = project(train, [], NAMES)[0], project(numbered, [], NAMES)[0]
    np.testing.assert_array_equal(moved.index, panel.index * 3 + 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((representations(weight=None), [], NAMES), "weight: none "),
        ((representations(), [representations(bias=np.zeros(8))], NAMES), "representations: of other classes or"),
        ((representations(), [representations(seed=2)], NAMES), "representations: of other classes or another last"),
        ((representations(), [representations(class_names=NAMES)], NAMES), "representations: of other classes or"),
        ((representations(), [representations(weight=None)], NAMES), "representations: of other classes or another"),
        (
            (representations(), [], ["standard_poddle", *NAMES[1:]]),
            "class: 'standard_poddle' (must be one of the 8 classes, such as standard_poodle)",
        ),
        ((representations(), [], ["?", *NAMES[1:]]), "class: '?' (must be one of the 8 classes, such as crane, "),
        ((representations(), [], NAMES[:2]), "classes: [6, 1] (must be three"),
        (
            (representations(), [representations(split="test", labels=np.full(480, 6))], NAMES),
            "features: none of class 'miniature_poodle' on test (some must have been kept)",
        ),
    ],
)
def test_representations_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        project(*arguments)
    assert str(error.value).startswith(message)


def test_a_layer_without_bias_can_be_of_both_splits():
    panels = project(representations(bias=None), [representations(split="validation", bias=None)], NAMES)
    assert len(panels) == 2


def test_panels_are_titled_from_their_provenance():
    teacher = project(representations(), [representations(split="validation")], NAMES)
    student = project(representations(temperature=3.0, smoothing=0.1000504), [], NAMES)
    assert [panel.title for panel in teacher + student] == [
        "teacher resnet18\nα = 0.1, train",
        "teacher resnet18\nα = 0.1, validation",
        "student resnet18, T = 3\nα = 0.1, train",
    ]
    assert student[0].label_smoothing == 0.1000504  # the teacher's, not the 0 of its own hard-label loss


def test_a_plane_that_was_fitted_on_another_split_than_train_is_said_in_the_title():
    panels = project(representations(split="valid"), [representations(split="test")], NAMES)
    assert [panel.title.split("\n")[1] for panel in panels] == ["α = 0.1, valid, fitted on it", "α = 0.1, test"]
    assert panels[1].fitted_on == "valid"


def test_what_nobody_knows_is_not_made_up():
    (panel,) = project(representations(provenance={}), [], NAMES)
    assert panel.title == "model\nα unknown, unknown split, fitted on it"
    for teacher in ({"label_smoothing": {"alpha": None}}, {"label_smoothing": None}, {"paths": []}):
        unknown = representations(provenance={"teacher": teacher, "split": "train", "configuration": None})
        assert project(unknown, [], NAMES)[0].title == "student\nα unknown, train"


def grid():
    """A teacher and students at two temperatures, with and without smoothing, on both splits; in no order."""
    panels = []
    for temperature in (3.0, None, 1.0):
        for smoothing in (0.1, 0.0):
            of = {"temperature": temperature, "smoothing": smoothing}
            panels += project(representations(**of), [representations(split="valid", **of)], NAMES, 20, 10)
    return panels


def test_the_figure_has_a_panel_for_each_model_and_split_in_the_papers_order():
    drawing = figure(grid())
    placed = {}
    for axes in drawing.axes:
        spec = axes.get_subplotspec()
        placed[spec.rowspan.start, spec.colspan.start] = axes.get_title()
    columns = ["teacher resnet18", "student resnet18, T = 1", "student resnet18, T = 3"]
    rows = ["α = 0, train", "α = 0.1, train", "α = 0, valid", "α = 0.1, valid"]
    assert placed == {(i, j): f"{columns[j]}\n{rows[i]}" for i in range(4) for j in range(3)}
    texts = [text.get_text() for text in drawing.legends[0].get_texts()]
    assert texts == ["1  standard_poodle", "2  miniature_poodle", "3  submarine"]


def test_the_training_split_is_drawn_above_others():
    drawing = figure(project(representations(), [representations(split="test")], NAMES))
    rows = {axes.get_title().split(", ")[-1]: axes.get_subplotspec().rowspan.start for axes in drawing.axes}
    assert rows == {"train": 0, "test": 1}


def test_seeds_stand_side_by_side_and_are_named():
    one = representations()
    two = representations(provenance=one.provenance | {"seed": 6})
    drawing = figure(project(one, [], NAMES) + project(two, [], NAMES))
    assert [axes.get_title() for axes in drawing.axes] == [
        f"teacher resnet18\nα = 0.1, train, seed {n}" for n in (5, 6)
    ]
    assert [axes.get_subplotspec().colspan.start for axes in drawing.axes] == [0, 1]


def test_panels_share_a_window_and_are_drawn_relative_to_the_distance_of_the_dissimilar_class():
    small = representations()
    large = representations(model="resnet50", split="valid", features=50 * small.features)
    panels = project(small, [], NAMES) + project(large, [], NAMES)
    drawing = figure(panels)
    assert {axes.get_aspect() for axes in drawing.axes} == {1}
    assert len({(axes.get_xlim(), axes.get_ylim()) for axes in drawing.axes}) == 1
    points = np.concatenate([each.coordinates / distance_to_third(each.centroids) for each in panels])
    window = np.array([drawing.axes[0].get_xlim(), drawing.axes[0].get_ylim()])
    np.testing.assert_array_less(window[:, 0], points.min(0))
    np.testing.assert_array_less(points.max(0), window[:, 1])
    np.testing.assert_array_less(np.ptp(window, 1), np.ptp(points, 0) + 0.2 * np.ptp(points))
    for axes, panel in zip(drawing.axes, panels, strict=True):
        scale, clouds, marks = distance_to_third(panel.centroids), axes.collections[:3], axes.collections[3:]
        for place, cloud in enumerate(clouds):
            np.testing.assert_allclose(cloud.get_offsets(), panel.coordinates[panel.labels == place] / scale)
        for centroid, mark in zip(panel.centroids, marks, strict=True):
            np.testing.assert_allclose(mark.get_offsets(), [centroid / scale])
        assert f"d = {panel.relative_distance:.2f}" in [text.get_text() for text in axes.texts]
    assert panels[0].relative_distance == pytest.approx(panels[1].relative_distance)


def test_validation_is_drawn_to_the_scale_of_the_split_the_plane_was_fitted_on():
    train, validation = representations(), representations(split="validation")
    panels = project(train, [dataclasses.replace(validation, features=3 * validation.features)], NAMES)
    cloud = figure(panels).axes[1].collections[0]
    scale = distance_to_third(panels[0].centroids)
    np.testing.assert_allclose(cloud.get_offsets(), panels[1].coordinates[panels[1].labels == 0] / scale)


def test_classes_are_told_apart_by_colour_and_by_marker():
    assert len(set(COLOURS)) == len(set(MARKERS)) == 3
    clouds = figure(project(representations(), [], NAMES)).axes[0].collections[:3]
    assert len({tuple(cloud.get_facecolor()[0]) for cloud in clouds}) == 3
    assert len({cloud.get_paths()[0].vertices.tobytes() for cloud in clouds}) == 3


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".svg", ".pdf", ".png"])
def test_the_same_panels_give_the_same_file(tmp_path, suffix):
    files = [tmp_path / f"{number}{suffix}" for number in range(2)]
    for path in files:
        write_figure(path, figure(project(representations(), [representations(split="valid")], NAMES)))
    assert files[0].read_bytes() == files[1].read_bytes()
    assert files[0].read_bytes().startswith({".svg": b"<?xml", ".pdf": b"%PDF", ".png": b"\x89PNG"}[suffix])


def test_names_are_drawn_as_they_are(tmp_path):
    names = ["_a$x$", "▁b^2", "<c & d>"]
    renamed = representations(class_names=["0", names[1], "2", "3", names[2], "5", names[0], "7"])
    write_figure(tmp_path / "figure.svg", figure(project(renamed, [], names)))
    drawn = (tmp_path / "figure.svg").read_text(encoding="utf-8")
    for name in ("1  _a$x$", "2  ▁b^2", "3  &lt;c &amp; d&gt;", "α = 0.1, train"):
        assert f">{name}</text>" in drawn


def test_a_figure_of_another_format_is_refused_and_leaves_what_is_there(tmp_path):
    path = tmp_path / "figure.gif"
    path.write_text("old")
    with pytest.raises(InputError, match=r"^figure: .*figure.gif \(must end in .svg, .png, .pdf\)$"):
        write_figure(path, figure(project(representations(), [], NAMES)))
    assert [each.name for each in tmp_path.iterdir()] == ["figure.gif"]
    assert path.read_text() == "old"


def test_figures_of_nothing_or_of_different_classes_are_refused():
    for panels in ([], project(representations(), [], NAMES) + project(representations(), [], NAMES[::-1])):
        with pytest.raises(ValueError, match=r"^panels: none, or of different classes"):
            figure(panels)
