"""A task with its training sentences, and a small teacher."""

from pathlib import Path

import pytest
from helpers.small_nmt import make_model, make_task, save_checkpoint


@pytest.fixture(scope="module")
def task(data_bin):
    task = make_task(data_bin)
    task.load_dataset("train")
    return task


@pytest.fixture(scope="module")
def teacher_model(task):
    return make_model(task, seed=1).eval()


@pytest.fixture(scope="module")
def teacher_path(task, teacher_model, tmp_path_factory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("teacher") / "teacher.pt", teacher_model, task)
