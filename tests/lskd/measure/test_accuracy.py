import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lskd.measure.accuracy import ClassCounts, accuracy_metrics

HALF = (torch.bfloat16, torch.float16)


def rank(row, label):
    """The place of a label among the logits of a row, 0 is first; equal ones stand in the order of their index."""
    order = sorted(range(len(row)), key=lambda index: (-row[index], index))
    return order.index(label)


def reference(logits, target):
    """Top-1 and top-5 in %, class-wise top-1, and the mean negative log likelihood, row by row in float64."""
    logits = np.asarray(logits, np.float64)
    ranks = np.array([rank(row, label) for row, label in zip(logits, target, strict=True)])
    largest = logits.max(1, keepdims=True)
    log_p = logits - largest - np.log(np.exp(logits - largest).sum(1, keepdims=True))
    classwise = [
        100 * float(np.mean(ranks[target == label] == 0)) if (target == label).any() else None
        for label in range(logits.shape[1])
    ]
    top = 100 * np.mean(ranks < 1), 100 * np.mean(ranks < min(5, logits.shape[1]))
    return *top, classwise, -np.mean(log_p[np.arange(len(target)), target])


def make(rows=200, classes=10, seed=1, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(rows, classes, generator=generator)
    return logits, torch.randint(classes, (rows,), generator=generator)


def counted(logits, target, batch=None):
    counts = ClassCounts(logits.shape[1])
    for start in range(0, len(logits), batch or len(logits)):
        counts.update(logits[start : start + (batch or len(logits))], target[start : start + (batch or len(logits))])
    return counts


def assert_are(counts, logits, target):
    top1, top5, classwise, nll = reference(logits, np.asarray(target))
    assert counts.top1() == pytest.approx(top1)
    assert counts.top5() == pytest.approx(top5)
    assert counts.class_accuracy() == pytest.approx(classwise)
    assert counts.nll() == pytest.approx(nll, rel=1e-5, abs=1e-6)
    assert counts.samples() == len(logits)


@pytest.mark.parametrize("classes", [1, 2, 4, 5, 6, 10, 1000])
def test_the_figures_are_those_of_the_definition(classes):
    logits, target = make(classes=classes)
    assert_are(counted(logits, target, batch=64), logits.double(), target)


@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_is_computed_in_float32(dtype):
    logits, target = make(classes=100)
    logits = logits.to(dtype)
    assert_are(counted(logits, target), logits.double(), target)


def test_top_5_counts_the_fifth_and_not_the_sixth():
    logits = torch.arange(10.0, 0, -1).repeat(2, 1)
    counts = counted(logits, torch.tensor([4, 5]))
    assert (counts.top5(), counts.class_accuracy()[4]) == (50.0, 0.0)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_ties_go_to_the_lower_index_and_batches_add_up(data):
    rows, classes = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 8))
    logits = data.draw(arrays.arrays(np.float32, (rows, classes), elements=st.sampled_from([-1.0, 0.0, 0.5, 2.0])))
    target = np.array(data.draw(st.lists(st.integers(0, classes - 1), min_size=rows, max_size=rows)))
    counts = counted(torch.from_numpy(logits), torch.from_numpy(target), batch=data.draw(st.integers(1, rows)))
    assert_are(counts, logits, target)


def test_a_model_that_cannot_tell_is_right_for_the_first_class_only():
    counts = counted(torch.zeros(10, 10), torch.arange(10))
    assert (counts.top1(), counts.top5()) == (10.0, 50.0)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_row_with_a_nan_is_never_correct(place):
    logits = torch.tensor([[5.0, 0.0, -5.0]])
    logits[0, place] = math.nan
    counts = counted(logits, torch.tensor([0]))
    assert (counts.top1(), counts.top5(), counts.samples()) == (0.0, 0.0, 1)
    assert math.isnan(counts.nll())


def test_masked_classes_with_minus_infinity_are_no_nan():
    counts = counted(torch.tensor([[1.0, -math.inf, 0.0]]), torch.tensor([0]))
    assert counts.top1() == 100
    assert counts.nll() == pytest.approx(math.log1p(math.exp(-1)))


def test_a_large_sum_keeps_the_digits_of_a_small_batch():
    counts = counted(torch.tensor([[0.0, 1e8], [0.0, 0.0]]), torch.tensor([0, 0]), batch=1)
    assert counts.nll() * 2 - 1e8 == pytest.approx(math.log(2), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_labels_may_be_any_integers(dtype):
    logits, target = make(rows=20)
    assert counted(logits, target.to(dtype)).top1() == counted(logits, target).top1()


@pytest.mark.parametrize("label", [-1, 3, 255, -(2**40)])
def test_a_label_out_of_range_is_named_and_nothing_is_counted(label):
    counts = ClassCounts(3)
    counts.update(torch.zeros(1, 3), torch.tensor([0]))
    with pytest.raises(ValueError, match=rf"^target: {label} \(must be a class, between 0 and 2\)$"):
        counts.update(torch.zeros(2, 3), torch.tensor([1, label]))
    assert (counts.samples(), counts.top1()) == (1, 100.0)


def test_a_label_out_of_range_that_an_accelerator_has_counted_is_named_by_the_results(monkeypatch):
    counts, other = ClassCounts(3), ClassCounts(3)
    check = ClassCounts._check
    monkeypatch.setattr(ClassCounts, "_check", lambda *_: None)  # on an accelerator, update does not look
    counts.update(torch.zeros(2, 3), torch.tensor([0, 7]))
    monkeypatch.setattr(ClassCounts, "_check", check)
    other.update(torch.zeros(1, 3), torch.tensor([1]))
    other.merge(counts)
    for each in (counts, other, other.all_reduce()):
        for result in (each.samples, each.top1, each.top5, each.class_accuracy, each.nll):
            with pytest.raises(ValueError, match="target: 7 "):
                result()


@pytest.mark.parametrize(
    ("logits", "target", "message"),
    [
        (torch.zeros(2, 4), torch.tensor([0, 1]), "logits: torch.float32 of shape (2, 4)"),
        (torch.zeros(3), torch.tensor([0]), "logits: torch.float32 of shape (3,)"),
        (torch.zeros(2, 3, dtype=torch.int64), torch.tensor([0, 1]), "logits: torch.int64"),
        (torch.zeros(2, 3), torch.tensor([0]), "target: torch.int64 of shape (1,)"),
        (torch.zeros(2, 3), torch.tensor([[0, 1]]), "target: torch.int64 of shape (1, 2)"),
        (torch.zeros(2, 3), torch.tensor([0.0, 1.0]), "target: torch.float32"),
        (torch.zeros(2, 3), torch.tensor([True, False]), "target: torch.bool"),
    ],
)
def test_shapes_and_dtypes_that_do_not_fit_are_refused(logits, target, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        ClassCounts(3).update(logits, target)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("result", ["top1", "top5", "nll"])
def test_means_over_no_samples_are_refused(result):
    counts = ClassCounts(3)
    counts.update(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))
    assert counts.samples() == 0
    with pytest.raises(ValueError, match=r"^samples: 0 \(must be at least 1 for a mean\)$"):
        getattr(counts, result)()


def test_no_classes_are_refused():
    with pytest.raises(ValueError, match=r"^classes: 0 "):
        ClassCounts(0)


def test_merged_counts_are_those_of_all_batches():
    logits, target = make()
    first, second = counted(logits[:70], target[:70]), counted(logits[70:], target[70:])
    before = accuracy_metrics(second)
    first.merge(second)
    assert_are(first, logits.double(), target)
    assert accuracy_metrics(second) == before
    with pytest.raises(ValueError, match=r"^other: 3 classes \(must be 10\)$"):
        first.merge(ClassCounts(3))


def test_an_update_needs_nothing_from_the_device():
    # Tensors without data: any look at a value raises.
    counts = ClassCounts(10, device="meta")
    counts.update(torch.zeros(4, 10, dtype=torch.bfloat16, device="meta"), torch.zeros(4, dtype=torch.int64).to("meta"))
    assert counts._counts.is_meta


def test_an_update_leaves_logits_and_gradients_alone():
    logits, target = make(rows=5)
    before = logits.clone()
    logits.requires_grad_()
    counts = counted(logits, target)
    assert torch.equal(logits, before)
    assert not counts._nll.requires_grad


def test_the_figures_of_a_record_are_named_and_json():
    logits = torch.tensor([[2.0, 0.0, 0.0], [2.0, 0.0, 0.0]])
    counts = counted(logits, torch.tensor([0, 2]))
    figures = accuracy_metrics(counts, ["cat", "dog", "cow"])
    nll = math.log(1 + 2 * math.exp(-2)) + 1
    assert figures == {
        "top1": 50.0,
        "top5": 100.0,
        "nll_loss": pytest.approx(nll, rel=1e-6),
        "samples": 2,
        "classwise": {"cat": 100.0, "dog": None, "cow": 0.0},
    }
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    assert list(accuracy_metrics(counts)["classwise"]) == ["0", "1", "2"]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_likelihood_that_is_no_finite_number_is_null_in_a_record(value):
    counts = counted(torch.tensor([[0.0, value]]), torch.tensor([0]))
    assert accuracy_metrics(counts)["nll_loss"] is None


@pytest.mark.parametrize(
    ("names", "message"),
    [(["a", "b"], r"class_names: 2 \(must be 3"), (["crane", "owl", "crane"], "class_names: 'crane' twice")],
)
def test_names_that_do_not_fit_are_refused(names, message):
    with pytest.raises(ValueError, match=message):
        accuracy_metrics(counted(torch.zeros(1, 3), torch.tensor([0])), names)


def count_in_a_process(process, folder):
    torch.distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=process, world_size=2)
    logits, target = make()
    share = slice(0, 70) if process == 0 else slice(70, None)  # unequal shares: a mean of means would be wrong
    counts = counted(logits[share], target[share])
    own = accuracy_metrics(counts)
    total = counts.all_reduce()
    assert accuracy_metrics(counts) == own
    (folder / f"{process}.json").write_text(json.dumps(accuracy_metrics(total)))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_have_the_figures_of_one(tmp_path):
    torch.multiprocessing.spawn(count_in_a_process, (tmp_path,), nprocs=2)
    found = [json.loads((tmp_path / f"{process}.json").read_text()) for process in range(2)]
    expected = accuracy_metrics(counted(*make()))
    assert found == [expected | {"nll_loss": pytest.approx(expected["nll_loss"], rel=1e-12)}] * 2
    assert found[0] == found[1]


def test_one_process_alone_needs_no_group():
    logits, target = make()
    assert accuracy_metrics(counted(logits, target).all_reduce()) == accuracy_metrics(counted(logits, target))
