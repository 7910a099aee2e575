"""Which models are trained at once, and what happens when that was too many for the memory."""

import itertools
import json
import logging
import sys
from types import SimpleNamespace

import pytest
import torch
from helpers.vision_commands import DROPOUT, SMALL_IMAGES, same_weights
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lskd.io.errors import InputError
from lskd_vision import options, train
from lskd_vision.config import ModelConfig
from lskd_vision.memory_groups import COPIES, SHARE, free_memory, groups_of
from lskd_vision.models import parameter_count
from lskd_vision.run import TrainingRun

SIZES = {"small": 10, "large": 100}


def fake(model: str, number: int, size: int = 28):
    """As much of a run as the grouping looks at."""
    config = SimpleNamespace(model=ModelConfig(model=model))
    return SimpleNamespace(config=config, number=number, data_config={"input_size": (1, size, size)})


RUNS = st.lists(st.tuples(st.sampled_from(list(SIZES)), st.sampled_from([28, 32])), min_size=1, max_size=12).map(
    lambda rows: [fake(model, number, size) for number, (model, size) in enumerate(rows)]
)


@given(RUNS, st.one_of(st.none(), st.integers(0, 4000)), st.one_of(st.none(), st.integers(1, 5)))
@settings(deadline=None, max_examples=200)
def test_groups_hold_every_run_once_share_a_data_configuration_and_fit(runs, free, limit):
    groups = groups_of(runs, SIZES, free, limit)
    assert sorted(run.number for group in groups for run in group) == list(range(len(runs)))
    for group in groups:
        assert len({run.data_config["input_size"] for run in group}) == 1
        assert [run.number for run in group] == sorted(run.number for run in group)
        needed = sum(COPIES * SIZES[run.config.model.model] for run in group)
        if limit is not None:
            assert len(group) <= limit
        elif free is not None:
            assert len(group) == 1 or needed <= SHARE * free
    for size in (28, 32):  # also over the groups of one configuration
        numbers = [run.number for group in groups for run in group if run.data_config["input_size"][1] == size]
        assert numbers == sorted(numbers)
    for group, following in itertools.pairwise(groups):  # as few groups as the order allows
        if group[0].data_config == following[0].data_config:
            needed = sum(COPIES * SIZES[run.config.model.model] for run in [*group, following[0]])
            assert (len(group) == limit) if limit is not None else needed > SHARE * free


def test_everything_is_one_group_where_nothing_is_known_of_the_memory():
    assert [len(group) for group in groups_of([fake("large", i) for i in range(50)], SIZES, None, None)] == [50]


def test_a_group_size_counts_whatever_the_memory():
    runs = [fake("large", i) for i in range(5)]
    assert [len(group) for group in groups_of(runs, SIZES, 1, 2)] == [2, 2, 1]


def test_no_runs_are_no_groups():
    assert groups_of([], {}, 1, None) == []


def test_parameters_are_counted_without_buffers_also_on_the_meta_device():
    def model():
        return nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.Linear(8, 10))

    with torch.device("meta"):
        meta = model()
    assert parameter_count(meta) == parameter_count(model()) == 3 * 8 * 9 + 2 * 8 + 8 * 10 + 10


def test_this_machine_tells_its_free_memory():
    assert 2**20 < free_memory(torch.device("cpu")) < 2**50


@pytest.fixture
def main(images, tmp_path, monkeypatch):
    """``lskd_vision.train`` in this process, and the batches at which a step runs out of memory."""
    real, full, counts = TrainingRun.step, set(), {"steps": 0}

    def step(self, *arguments):
        counts["steps"] += 1
        if counts["steps"] in full:
            raise torch.OutOfMemoryError("out of memory")
        real(self, *arguments)

    monkeypatch.setattr(TrainingRun, "step", step)

    def call(output: str, *words: str, full_at: tuple[int, ...] = ()) -> int:
        full.clear()
        full.update(full_at)
        counts["steps"] = 0
        line = f"{SMALL_IMAGES} {DROPOUT} --model test_resnet {' '.join(words)}".split()
        line += ["--data-dir", str(images), "--output", str(tmp_path / output)]
        monkeypatch.setattr(sys, "argv", ["lskd_vision.train", *line])
        return train.main(options.parser().parse_args(line))

    return call


@pytest.mark.slow
# 320 images are 5 batches of 64; three models take 15 steps an epoch. Memory ends at once; in the second epoch; twice.
@pytest.mark.parametrize("full_at", [(1,), (18,), (2, 22)])
def test_a_group_that_is_too_large_is_split_and_comes_to_the_same_weights(full_at, main, tmp_path, caplog):
    words = "--smoothing 0 0.1 0.2 --seed 5 --epochs 2 --model-ema"
    assert main("whole", words) == 0
    assert not [entry for entry in caplog.records if "out of memory" in entry.message]
    with caplog.at_level(logging.WARNING):
        assert main("split", words, full_at=full_at) == 0
    told = [entry.message for entry in caplog.records if "out of memory" in entry.message]
    assert told[0] == "out of memory with 3 models at once, trying 2"
    assert len(told) == len(full_at)
    for alpha in ("0", "0.1", "0.2"):
        whole, split = (tmp_path / place / "fashion_mnist" / f"test_resnet_a{alpha}_s5" for place in ("whole", "split"))
        for key in ("state_dict", "state_dict_ema"):
            assert same_weights(whole / "last.pth.tar", split / "last.pth.tar", key)
        histories = [json.loads((place / "run.json").read_text())["history"] for place in (whole, split)]
        for row in histories[0] + histories[1]:
            del row["time"], row["seconds"], row["together"]
        assert histories[0] == histories[1]
    assert not same_weights(whole / "last.pth.tar", whole.with_name("test_resnet_a0_s5") / "last.pth.tar")


def test_one_model_that_is_too_large_is_refused(main):
    with pytest.raises(InputError, match=r"--batch-size: 64 \(is too large for the memory of the device\)"):
        main("alone", "--epochs 1", full_at=(1,))


@pytest.mark.slow
def test_a_group_size_changes_no_weights(main, tmp_path):
    words = "--smoothing 0 0.1 0.2 --seed 5 --epochs 1"
    assert main("together", words) == 0
    assert main("two", words, "--group-size 2") == 0
    for alpha in ("0", "0.1", "0.2"):
        places = [tmp_path / place / "fashion_mnist" / f"test_resnet_a{alpha}_s5" for place in ("together", "two")]
        assert same_weights(*(place / "last.pth.tar" for place in places))


@pytest.mark.slow
def test_the_optimiser_of_a_run_decays_every_weight_without_nesterov(main, monkeypatch):
    seen = []
    real = TrainingRun.begin_epoch
    monkeypatch.setattr(
        TrainingRun, "begin_epoch", lambda self, *rest: (seen.append(self.optimisation.optimizer), real(self, *rest))[1]
    )
    assert main("momentum", "--epochs 1 --opt momentum --lr 0.01 --sched multistep --decay-milestones 5") == 0
    (optimiser,) = seen
    assert {(group["weight_decay"], group["nesterov"]) for group in optimiser.param_groups} == {(1e-4, False)}
