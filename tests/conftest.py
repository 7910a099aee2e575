"""Real sample data, prepared by the real command, and a teacher trained on it."""

from pathlib import Path

import pytest
from commands import SMALL, prepare, run


@pytest.fixture(scope="session")
def data_bin(tmp_path_factory) -> Path:
    """About 600 English-German pairs of at most 10 words: 19 for validation, 33 for the test."""
    return prepare(
        tmp_path_factory.mktemp("data") / "help.en-de", "--pair en-de --vocab-size 400 --max-words 10 --max-pairs 600"
    )


@pytest.fixture(scope="session")
def teacher(data_bin, tmp_path_factory) -> Path:
    """A checkpoint trained with label smoothing .1, without this project's plugin, as a user's own teacher is."""
    save_dir = tmp_path_factory.mktemp("teacher")
    run(
        "fairseq-train",
        data_bin,
        "--save-dir",
        save_dir,
        SMALL,
        "--max-epoch 2 --no-epoch-checkpoints",
        "--criterion label_smoothed_cross_entropy --label-smoothing 0.1",
    )
    return save_dir / "checkpoint_best.pt"
