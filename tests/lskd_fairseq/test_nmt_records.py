"""The record that a training of fairseq keeps, while others write into it too."""

import math
from types import SimpleNamespace

import pytest
from fairseq.logging import metrics

from lskd.records.runs import RunRecord, add_to_run, read_run
from lskd_fairseq.run_record import add_validation, write_record


@pytest.fixture
def record():
    record = RunRecord(configuration={}, seed=1, data={})
    record.add_validation({"updates": 10})
    record.add_metrics("valid", "checkpoint_last.pt", {"nll_loss": 5.0})
    return record


def test_a_training_keeps_the_scores_that_were_added_while_it_went_on(record, tmp_path):
    write_record(record, tmp_path)
    add_to_run(tmp_path, "test", "checkpoint_best.pt", {"bleu": 34.5})
    record.add_validation({"updates": 20})
    record.add_metrics("valid", "checkpoint_last.pt", {"nll_loss": 4.0})
    write_record(record, tmp_path)
    found = read_run(tmp_path)
    assert [row["updates"] for row in found.history] == [10, 20]
    assert found.metrics == {
        "valid": {"checkpoint_last.pt": {"nll_loss": 4.0}},
        "test": {"checkpoint_best.pt": {"bleu": 34.5}},
    }


@pytest.mark.parametrize("ratio", [1.5, math.nan, math.inf])
def test_a_value_that_is_not_finite_is_left_out_of_the_record(record, tmp_path, ratio):
    trainer = SimpleNamespace(lskd_validation={"loss": 2.0, "ppl": math.inf}, task=None)
    trainer.get_num_updates, trainer.cumulative_training_time = (lambda: 20), (lambda: 3.0)
    metrics.reset()
    with metrics.aggregate("train"):
        metrics.log_derived("kd_gradient_ratio", lambda meters: ratio)
        add_validation(record, trainer, SimpleNamespace(epoch=2))
    metrics.reset()
    write_record(record, tmp_path)
    kept = {"train_kd_gradient_ratio": ratio} if math.isfinite(ratio) else {}
    row = read_run(tmp_path).history[-1]
    assert {key: row[key] for key in row if key.startswith(("valid_", "train_"))} == {"valid_loss": 2.0} | kept


def test_the_scores_of_another_run_are_not_taken_over(record, tmp_path):
    write_record(record, tmp_path)
    add_to_run(tmp_path, "test", "checkpoint_best.pt", {"bleu": 34.5})
    record.started = "2020-01-01T00:00:00+00:00"
    write_record(record, tmp_path)
    assert "test" not in read_run(tmp_path).metrics
