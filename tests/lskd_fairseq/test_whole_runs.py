"""A translation's training resumes from all that it has left, or not at all."""

import pytest
import torch
from fairseq.dataclass.configs import CheckpointConfig
from omegaconf import OmegaConf

from lskd.io.errors import InputError
from lskd.records.runs import RunRecord, write_run
from lskd_fairseq.resuming import check_resumable

STATE = {"model": {}, "last_optimizer_state": {"state": {}}, "optimizer_history": [{"num_updates": 7}]}


def settings(save_dir, **given):
    return OmegaConf.structured(CheckpointConfig(save_dir=str(save_dir), **given))


@pytest.fixture
def run(tmp_path):
    """A run's directory after two validations."""
    torch.save(STATE, tmp_path / "checkpoint_last.pt")
    rows = [{"epoch": epoch, "updates": 7 * epoch} for epoch in (1, 2)]
    write_run(RunRecord(configuration={}, seed=1, data={}, history=rows), tmp_path)
    return tmp_path


def refusal(cfg) -> str:
    with pytest.raises(InputError) as error:
        check_resumable(cfg)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_run_that_is_whole_goes_on_and_a_new_one_begins(run, tmp_path):
    check_resumable(settings(run))
    check_resumable(settings(tmp_path / "new"))


def test_a_run_whose_last_checkpoint_is_gone_does_not_begin_anew_in_its_place(run):
    (run / "checkpoint_last.pt").rename(run / "checkpoint_best.pt")
    found = "has a run.json of 14 updates and no checkpoint_last.pt: put it back, name another with --restore-file"
    assert refusal(settings(run)) == f"--save-dir: {run} ({found}, or remove the directory to begin anew)"
    check_resumable(settings(run, restore_file=str(run / "checkpoint_best.pt")))
    check_resumable(settings(run, no_last_checkpoints=True))  # it never had one
    check_resumable(settings(run, no_save=True))
    write_run(RunRecord(configuration={}, seed=1, data={}), run)
    check_resumable(settings(run))  # it has not come to a checkpoint


def test_checkpoints_in_parts_are_there_too(run):
    (run / "checkpoint_last.pt").rename(run / "checkpoint_last-shard0.pt")
    check_resumable(settings(run))


def test_a_checkpoint_without_the_optimizers_state_is_nothing_to_go_on_from(run):
    torch.save({name: STATE[name] for name in ("model", "optimizer_history")}, run / "checkpoint_last.pt")
    assert refusal(settings(run)).startswith(
        f"--restore-file: {run}/checkpoint_last.pt (has no optimizer state to resume with: to train on from"
    )
    check_resumable(settings(run, reset_optimizer=True))


@pytest.mark.parametrize(
    "older", [{"model": {}, "optimizer": {}}, {"model": {}, "optimizer_history": [{"optimizer": {}, "num_updates": 7}]}]
)
def test_checkpoints_of_older_fairseq_have_it_under_other_names(run, older):
    torch.save(older, run / "checkpoint_last.pt")
    check_resumable(settings(run))


def test_a_file_that_cannot_be_read_is_left_to_the_one_who_reads_it(run):
    (run / "checkpoint_last.pt").write_bytes(b"no checkpoint")
    check_resumable(settings(run))
