import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st

from lskd.measure.fidelity import fidelity, kl_divergence, paired
from lskd.measure.representation_collector import RepresentationCollector

ABOUT = {"split": "validation", "data": {"fingerprint": "d"}}


def logits_of(n=40, classes=5, seed=0):
    return 3 * np.random.default_rng(seed).standard_normal((n, classes))


def test_agreement_and_kl_are_those_of_their_definitions():
    teacher, student, labels = logits_of(), logits_of(seed=1), np.arange(40) % 5
    weights = np.random.default_rng(2).random(40)
    found = fidelity([student[:9], student[9:]], [teacher[:9], teacher[9:]], labels, weights)
    p, q = scipy.special.softmax(teacher, 1), scipy.special.softmax(student, 1)
    same, wrong = p.argmax(1) == q.argmax(1), p.argmax(1) != labels
    assert found.top1_agreement == pytest.approx((weights * same).sum() / weights.sum())
    assert found.agreement_where_wrong == pytest.approx((weights * same)[wrong].sum() / weights[wrong].sum())
    assert found.mean_kl == pytest.approx((weights * (p * np.log(p / q)).sum(1)).sum() / weights.sum())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 99), st.floats(-12, 1))
def test_kl_is_accurate_however_near_the_student_is(seed, exponent):
    teacher = logits_of(8, seed=seed)
    student = teacher + 10**exponent * logits_of(8, seed=seed + 1)
    longer = np.longdouble
    p, q = (scipy.special.log_softmax(each.astype(longer), 1) for each in (teacher, student))
    expected = (np.exp(p) * (p - q)).sum(1)
    found = kl_divergence(teacher, student)
    assert (found >= 0).all()
    np.testing.assert_allclose(found, expected.astype(float), rtol=1e-5, atol=1e-18 + 1e-4 * 10 ** (2 * exponent))


def test_a_student_that_is_its_teacher_agrees_everywhere():
    teacher = logits_of()
    found = fidelity(teacher + 7.0, teacher, teacher.argmin(1))
    assert (found.top1_agreement, found.agreement_where_wrong) == (1, 1)
    assert found.mean_kl == pytest.approx(0, abs=1e-15)


def test_without_a_wrong_prediction_there_is_no_agreement_on_them():
    teacher = logits_of()
    assert fidelity(logits_of(seed=1), teacher, teacher.argmax(1)).agreement_where_wrong is None


def test_logits_far_beyond_floating_point_give_a_finite_kl():
    assert np.isfinite(kl_divergence(np.array([[1e308, -1e308]]), np.array([[-1e308, 1e308]]))).all()


@pytest.mark.parametrize(
    ("student", "teacher", "labels", "message"),
    [
        (np.zeros((2, 3)), np.zeros((2, 4)), [0, 0], r"teacher: logits of shape \(2, 4\) \(must be \(2, 3\)"),
        (np.zeros((2, 3)), [np.zeros((2, 3)), np.zeros((1, 3))], [0, 0], r"teacher: other samples \(must have"),
        (np.zeros((2, 3)), np.zeros((2, 3)), [0], r"labels: shape \(1,\) \(must be 2 integers"),
        (np.zeros((0, 3)), np.zeros((0, 3)), [], r"logits: no samples \(must be at least one\)"),
        (np.full((2, 3), np.nan), np.zeros((2, 3)), [0, 0], r"logits: not a finite number in sample 0"),
    ],
)
def test_logits_that_do_not_fit_are_refused(student, teacher, labels, message):
    with pytest.raises(ValueError, match=message):
        fidelity(student, teacher, labels)


# --- pairs of files --------------------------------------------------------------------------------------------------


def file_of(seed=0, about=ABOUT, labels=None, names="abc", **keep):
    labels = np.arange(30) % 3 if labels is None else labels
    collector = RepresentationCollector(list(names), 4, dtype=np.float64, **keep)
    collector.add(np.random.default_rng(seed).standard_normal((len(labels), 4)), labels)
    return collector.result(provenance=about)


def test_samples_that_were_kept_of_both_are_paired_by_their_index():
    student, teacher = file_of(0, keep_per_class=4), file_of(1, keep_classes=[0, 2], keep_per_class=6)
    own, theirs = paired(student, teacher)
    assert own.index.tolist() == theirs.index.tolist() == [0, 2, 3, 5, 6, 8, 9, 11]
    assert own.labels.tolist() == theirs.labels.tolist() == [0, 2] * 4
    for part, seed in ((own, 0), (theirs, 1)):
        np.testing.assert_array_equal(part.features, np.random.default_rng(seed).standard_normal((30, 4))[part.index])


def test_features_stay_where_they_are_if_both_kept_the_same():
    student, teacher = file_of(0), file_of(1)
    own, theirs = paired(student, teacher)
    assert own.features is student.features
    assert theirs.features is teacher.features


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        (file_of(names="abd"), r"teacher: other classes \(must be"),
        (file_of(about=ABOUT | {"split": "train"}), r"teacher: split train \(must be validation, the student's\)"),
        (
            file_of(about=ABOUT | {"data": {"fingerprint": "e"}}),
            r"teacher: data fingerprint e \(must be d, the student",
        ),
        (file_of(about={"split": "validation"}), r"teacher: no data fingerprint in its provenance \(must have it"),
        (file_of(about={}), r"teacher: no split in its provenance \(must have it"),
        (file_of(labels=np.arange(30) // 10), r"teacher: other labels of the same samples"),
        (file_of(labels=np.arange(33) % 3), r"teacher: other labels of the same samples"),
        (file_of(keep_per_class=0), r"teacher: no sample whose features were kept"),
    ],
)
def test_files_of_other_samples_or_of_unknown_ones_are_not_paired(teacher, message):
    with pytest.raises(ValueError, match=message):
        paired(file_of(), teacher)
