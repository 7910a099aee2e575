"""Teachers before a training: how good they are, whether they are smoothed, and which mistakes show in their score."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lskd.io.errors import InputError
from lskd.measure.accuracy import ClassCounts
from lskd_vision.command_line import evaluation_config
from lskd_vision.other_order import OtherOrder
from lskd_vision.scoring import score
from lskd_vision.teacher import Teacher
from lskd_vision.validation_fidelity import ValidationLogits

CPU = torch.device("cpu")
NAMES = [f"c{number}" for number in range(1, 13)]  # c1, c2, …, c12; torchvision's: c1, c10, c11, c12, c2, …


class Labels(torch.nn.Module):
    """A model that finds the label of an image in its first pixel, and is right for so many of 100 of them."""

    num_classes, pretrained_cfg = len(NAMES), {"mean": (0.5,), "std": (0.5,), "tag": ""}

    def __init__(self, places=range(12), right=100, alpha=0.1, odd=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.places, self.right, self.odd = torch.tensor(places), right, odd
        self.floor, self.top = alpha / len(NAMES), 1 - alpha + alpha / len(NAMES)

    def forward(self, images):
        label, number = images[:, 0, 0, 0].long(), images[:, 0, 0, 1].long()
        said = torch.where(number % 100 < self.right, self.places[label], 0)
        logits = torch.full((len(images), len(NAMES)), self.floor)
        logits[torch.arange(len(images)), said] = self.top
        logits = logits.log()
        if self.odd is not None:
            logits[number == 7] = self.odd
        return logits


class Batches:
    """A validation split of 1200 images, 100 of each class, in batches of 100."""

    def __len__(self):
        return 12

    def epoch(self, _):
        label, number = torch.arange(1200) % len(NAMES), torch.arange(1200) // len(NAMES)
        images = torch.zeros(1200, 1, 2, 2)
        images[:, 0, 0, 0], images[:, 0, 0, 1] = label, number
        return zip(images.split(100), label.split(100), strict=True)


def scored(*models, names=NAMES, label_smoothing=0.1, **flags):
    teachers = [Teacher(model, f"teacher {i}", label_smoothing=label_smoothing) for i, model in enumerate(models)]
    config = evaluation_config({"device": "cpu", "validation_batch_size": 100} | flags)
    logits = [ValidationLogits(teacher, None, config.device) for teacher in teachers]
    return score(logits, Batches(), names, config)


TORCHVISIONS = OtherOrder.of(NAMES).places


def test_the_other_order_is_that_of_the_same_folders_sorted_the_other_way():
    assert OtherOrder.of(NAMES) == OtherOrder("torchvision", [0, 4, 5, 6, 7, 8, 9, 10, 11, 1, 2, 3])
    assert OtherOrder.of(sorted(NAMES)).name == "natural"
    assert OtherOrder.of(["a", "b"]) is None
    assert OtherOrder.of(["shirt", "bag", "Boot"]) is None  # sorted in no way
    order = OtherOrder.of(NAMES)
    assert [order.sort(NAMES)[place] for place in order.places] == NAMES


def test_a_teacher_is_scored_in_the_order_of_the_data():
    (found,) = scored(Labels(right=80))
    assert found["valid"]["top1"] == pytest.approx(80 + 20 / 12)  # class 0 is what it says of the others
    assert found["label_smoothing"]["alpha"] == 0.1


def test_a_teacher_of_the_other_order_is_refused_and_told_the_option_that_gives_it():
    with pytest.raises(InputError) as error:
        scored(Labels(), Labels(TORCHVISIONS, right=80))
    assert str(error.value) == (
        "--kd-model-name: teacher 1 (is right for 8.33 % of 1200 validation images, and for 81.67 % if its classes "
        "are in torchvision order: give the data that order, --class-order torchvision)"
    )
    with pytest.raises(InputError, match=r"in natural order.*--class-order natural"):
        scored(Labels([NAMES.index(name) for name in sorted(NAMES)]), names=sorted(NAMES))


def test_a_teacher_that_is_bad_in_both_orders_is_warned_of(caplog):
    scored(Labels(right=0), names=NAMES)
    assert "hardly better than chance, which is 8.33 %: in either order" in caplog.text
    caplog.clear()
    scored(Labels(right=0), names=list("abcdefghijkl"))
    assert "is the order of its classes the data's?" in caplog.text


@settings(deadline=None)
@given(st.lists(st.integers(0, 11), min_size=12, max_size=12), st.integers(1, 40))
def test_a_teacher_that_is_right_of_a_few_images_by_chance_is_not_taken_for_one_of_the_other_order(said, times):
    order = OtherOrder.of(NAMES)
    counts, others = ClassCounts(12), ClassCounts(12)
    logits = torch.nn.functional.one_hot(torch.tensor(said), 12).float()
    for _ in range(times):
        counts.update(logits, torch.arange(12))
        others.update(logits[:, order.places], torch.arange(12))
    moved = [c for c in range(12) if order.places[c] != c]
    right, there = (sum(said[c] == place for c, place in enumerate(p) if c in moved) for p in (range(12), order.places))
    halfway = there / len(moved) >= 12**-0.5
    assert order.explains(counts, others) == (
        halfway and right / len(moved) < 1.5 / 12 and (there - right) * times > 3 * ((there + right) * times) ** 0.5
    )


@pytest.mark.parametrize("odd", [torch.nan, torch.inf])
def test_outputs_that_are_not_finite_are_refused(odd):
    with pytest.raises(InputError, match=r"^--kd-model-name: teacher 0 \(gives logits that are not finite for images"):
        scored(Labels(odd=odd))
    with pytest.raises(InputError, match="try --amp-dtype bfloat16"):
        scored(Labels(odd=odd), amp=True, amp_dtype="float16")


def test_the_outputs_of_a_teacher_tell_its_smoothing_where_its_checkpoint_does_not():
    (found,) = scored(Labels(right=50), label_smoothing=None)
    smoothing = found["label_smoothing"]
    assert smoothing["alpha"] is None
    assert smoothing["estimate"]["alpha"] == pytest.approx(0.1, rel=0.02)
    assert smoothing["source"].endswith("by its outputs: smoothed")
    assert found["valid"].keys() == {"top1", "top5", "nll_loss"}


def test_the_outputs_of_a_teacher_of_known_smoothing_are_not_asked():
    (found,) = scored(Labels(alpha=0.1), label_smoothing=0.0)
    assert found["label_smoothing"] == {"alpha": 0.0, "source": "unknown"}


@pytest.fixture
def three_students():
    """Of one teacher; the second is given images of another size."""
    teacher = Teacher(Labels(), "t")
    return [
        SimpleNamespace(
            teacher=teacher,
            teacher_record=teacher.record(),
            config=evaluation_config({"device": "cpu"}),
            data_config={"input_size": (1, size, size), "mean": (0.5,), "std": (0.5,)},
            directory=None,
        )
        for size in (32, 64, 32)
    ]


def test_students_keep_the_score_of_their_own_input(three_students, monkeypatch):
    from lskd_vision import scoring

    runs, loaded = three_students, []
    monkeypatch.setattr(scoring, "read_run", lambda _: None)
    monkeypatch.setattr(
        scoring.Loader, "for_evaluation", lambda _, data_config, __: loaded.append(data_config["input_size"])
    )
    monkeypatch.setattr(scoring, "score", lambda *_: [{"valid": {"top1": float(loaded[-1][1])}}])
    data = SimpleNamespace(val=range(1200), class_names=NAMES)
    scoring.score_teachers(runs, data)
    assert [run.teacher_record["valid"]["top1"] for run in runs] == [32.0, 64.0, 32.0]
    assert len(loaded) == 2
    logits = [run.teacher_logits for run in runs]
    assert logits[0] is logits[2] is not logits[1]


@pytest.mark.parametrize(("images", "kept"), [(1.5, [True, False, True]), (0.5, [False, False, False])])
def test_logits_that_do_not_fit_in_memory_are_not_kept_and_a_line_says_so(
    images, kept, three_students, monkeypatch, caplog
):
    from lskd_vision import scoring

    monkeypatch.setattr(scoring, "read_run", lambda _: None)
    monkeypatch.setattr(scoring.Loader, "for_evaluation", lambda *_: None)
    monkeypatch.setattr(scoring, "score", lambda *_: [{"valid": {}}])
    monkeypatch.setattr(scoring, "KEPT_BYTES", images * 4 * 1200 * len(NAMES))
    scoring.score_teachers(three_students, SimpleNamespace(val=range(1200), class_names=NAMES))
    assert [run.teacher_logits.size > 0 for run in three_students] == kept
    line = "t is run in every validation, not once: its logits for 1200 images of 12 classes take 0.0 GB"
    assert [each.message for each in caplog.records] == [line] * (1 if images > 1 else 2)
