"""Trainings that are started again where there is nothing left to do, or from a checkpoint that does not fit."""

from argparse import Namespace
from types import SimpleNamespace

import pytest

from lskd_fairseq import resuming
from lskd_fairseq.hooks import keep_validation


class Trainer:
    """What a trainer tells of how far it is."""

    def __init__(self, updates: int, hours: float = 0.0):
        self.updates, self.hours = updates, hours

    def get_num_updates(self) -> int:
        return self.updates

    def cumulative_training_time(self) -> float:
        return 3600 * self.hours


def settings(max_update: int = 0, stop_time_hours: float = 0.0, patience: int = -1) -> SimpleNamespace:
    """As of fairseq, by whose defaults none of them ends a training."""
    optimization = Namespace(max_update=max_update, stop_time_hours=stop_time_hours)
    return SimpleNamespace(optimization=optimization, checkpoint=Namespace(patience=patience))


@pytest.mark.parametrize(
    ("cfg", "trainer", "ended"),
    [
        (settings(), Trainer(9, hours=9), False),
        (settings(max_update=10), Trainer(9), False),
        (settings(max_update=10), Trainer(10), True),
        (settings(max_update=10), Trainer(11), True),
        (settings(stop_time_hours=2), Trainer(9, hours=1.9), False),
        (settings(stop_time_hours=2), Trainer(9, hours=2.1), True),
        (settings(patience=3), Trainer(9), False),
        (settings(patience=2), Trainer(9), True),
        (settings(patience=1), Trainer(9), True),
    ],
)
def test_a_training_that_has_ended_makes_no_more_update(cfg, trainer, ended, monkeypatch):
    monkeypatch.setattr(resuming, "_patience", lambda: {"best": 1.0, "num_runs": 2.0})
    made = []

    def train(*_):
        made.append(1)
        return [3.5], False

    found = resuming.skip_ended_training(train)(cfg, trainer, None, None)
    assert found == (([None], True) if ended else ([3.5], False))
    assert bool(made) is not ended


def test_a_model_that_says_nothing_has_a_bleu_of_zero():
    """fairseq logs none where all translations are empty, and looks for it as the best checkpoint's metric."""
    trainer = SimpleNamespace(task=SimpleNamespace(cfg=Namespace(eval_bleu=True)))
    cfg = SimpleNamespace(checkpoint=SimpleNamespace(best_checkpoint_metric="bleu"))
    stats = keep_validation(lambda cfg, trainer, stats, tracking_best: stats)(cfg, trainer, {"loss": 1.0}, True)
    assert stats == {"loss": 1.0, "bleu": 0.0}
    assert trainer.lskd_validation == stats
