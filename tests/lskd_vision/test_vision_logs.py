"""Curves: what TensorBoard reads back, what Weights & Biases is asked for, and what is refused before training."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lskd.io.errors import InputError
from lskd_vision.config import RunConfig
from lskd_vision.logs import Logs, check_logs

ROWS = [
    {"epoch": 1, "lr": 0.1, "valid_top1": 50.0, "best": "last"},
    {"epoch": 2, "lr": 0.01, "valid_top1": 62.5, "best": "last"},
]


def asked_for(*names: str) -> RunConfig:
    """A configuration with these logs."""
    return RunConfig(**{f"log_{name}": True for name in names}, wandb_project="curves")


class RepresentationCollector(ModuleType):
    """In the place of wandb, which is not installed for tests: it keeps what it is asked for."""

    def __init__(self):
        super().__init__("wandb")
        self.runs, self.rows = [], []

    def init(self, **options) -> SimpleNamespace:
        self.runs.append(options)
        return SimpleNamespace(step=0, log=lambda metrics, step: self.rows.append((step, metrics)), finish=lambda: None)


@pytest.fixture
def wandb(monkeypatch) -> RepresentationCollector:
    monkeypatch.setitem(sys.modules, "wandb", recorder := RepresentationCollector())
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_API_KEY", "none")
    return recorder


def test_tensorboard_reads_every_figure_back_by_its_epoch(tmp_path):
    logs = Logs(asked_for("tensorboard"), tmp_path, "run", {}, [])
    for row in ROWS:
        logs.add(row)
    logs.close()
    curves = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert set(curves.Tags()["scalars"]) == {"lr", "valid/top1"}
    assert [(event.step, event.value) for event in curves.Scalars("valid/top1")] == [(1, 50.0), (2, 62.5)]


def test_wandb_goes_on_with_the_same_run_of_a_directory_and_never_with_another_s(wandb, tmp_path):
    for place in ("one", "two", "one"):
        logs = Logs(asked_for("wandb"), tmp_path / place, "run", {"temperature": 2.0}, [])
        logs.add(ROWS[0])
        logs.close()
    first, other, again = wandb.runs
    assert first == again != other
    assert first["id"] != other["id"]
    assert (first["project"], first["config"], first["resume"]) == ("curves", {"temperature": 2.0}, "allow")
    assert wandb.rows == [(1, {"lr": 0.1, "valid_top1": 50.0})] * 3


def test_wandb_without_a_key_is_refused_unless_it_stays_offline(wandb, monkeypatch):
    check_logs(asked_for("wandb"))
    monkeypatch.delenv("WANDB_API_KEY")
    with pytest.raises(InputError, match=r"^--log-wandb: True .needs the key in the environment: WANDB_API_KEY"):
        check_logs(asked_for("wandb"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    check_logs(asked_for("wandb"))


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_what_is_not_installed_is_named_with_how_to_install_it(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)  # as if there were no such package
    with pytest.raises(InputError, match=f"needs {name}: pip install {name}"):
        check_logs(asked_for(name))
