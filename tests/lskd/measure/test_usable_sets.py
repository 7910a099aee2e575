import numpy as np
import pytest

from lskd.io.errors import InputError
from lskd.measure.class_distances import VARIANTS
from lskd.measure.class_sets import ClassSets
from lskd.measure.representations import collect
from lskd.measure.usable_sets import usable_sets

NAMES = ["cat", "dog", "eel", "fox", "owl"]
SETS = {0: ClassSets([1, 2], [3, 4]), 3: ClassSets([4], [0, 1])}


def student(seed, lacks=(), same=None, one=None):
    """Five classes of four samples, without those of some; two of them in one place; one of them of one sample."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(5), 4)
    features = 5 * np.eye(5)[labels] + generator.normal(size=(20, 5))
    if same:
        features[labels == same[1]] = features[labels == same[0]]
    kept = ~np.isin(labels, lacks)
    if one is not None:
        kept[np.flatnonzero(labels == one)[1:]] = False
    return collect(features[kept], labels[kept], NAMES, weight=np.eye(5))


@pytest.mark.parametrize("variant", VARIANTS)
def test_sets_of_which_everything_is_defined_stay_as_they_are(variant):
    assert usable_sets([(student(1), student(2))], SETS, variant) == (SETS, [])


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("place", [0, 1])
def test_a_class_without_samples_in_either_student_is_in_no_set(variant, place):
    students = [student(1), student(2)]
    students[place] = student(3, lacks=[1])
    sets, notes = usable_sets([tuple(students)], SETS, variant)
    assert sets == {0: ClassSets([2], [3, 4]), 3: ClassSets([4], [0])}
    assert notes[0] == "'dog' is left out: 0 samples in a student."


def test_what_one_pair_of_several_lacks_is_left_out_of_all():
    pairs = [(student(1), student(2)), (student(3), student(4, lacks=[2]))]
    assert usable_sets(pairs, SETS)[0] == {0: ClassSets([1], [3, 4]), 3: SETS[3]}


def test_a_target_is_left_out_with_its_samples_or_with_a_whole_set():
    sets, notes = usable_sets([(student(1), student(2, lacks=[3]))], SETS)
    assert (sets, len(notes)) == ({0: ClassSets([1, 2], [4])}, 1)
    sets, notes = usable_sets([(student(1), student(2, lacks=[4]))], SETS)
    assert sets == {0: ClassSets([1, 2], [3])}
    assert notes[1] == "'fox' is left out: no similar class is left."


def test_a_distance_of_0_is_undefined_at_first_and_may_be_0_at_second():
    same = student(1, same=(0, 1))
    sets, notes = usable_sets([(same, student(2))], SETS)
    assert sets == {0: ClassSets([2], [3, 4]), 3: SETS[3]}
    assert notes == ["'dog' is left out for 'cat': its distance in a student is 0."]
    assert usable_sets([(student(2), same)], SETS) == (SETS, [])


def test_corrected_distances_need_two_samples():
    pair = student(1), student(2, one=4)
    assert usable_sets([pair], SETS, "centroid")[1] == []
    assert usable_sets([pair], SETS, "corrected")[0] == {0: ClassSets([1, 2], [3])}


def test_without_a_target_that_is_left_the_first_reason_is_told():
    with pytest.raises(InputError, match="no target is left \\('cat' is left out: 0 samples in a student\\)"):
        usable_sets([(student(1), student(2, lacks=[0, 3]))], SETS)
