import argparse
import pickle
import zipfile

import numpy
import pytest
import torch
from helpers.small_nmt import make_criterion, make_task

from lskd.io.errors import InputError
from lskd_fairseq.checkpoints import read_checkpoint, smoothing_of_training


@pytest.fixture(scope="module")
def task(data_bin):
    return make_task(data_bin)


def state(task, **criterion) -> dict:
    """What matters of a checkpoint's content."""
    cfg = {"task": {"data": task, "source_lang": "en", "target_lang": "de"}, "criterion": criterion}
    return {"cfg": cfg, "model": {}}


class Bomb:
    def __reduce__(self):
        return (print, ("a file's code has run",))


@pytest.mark.parametrize("make", ["torch", "pickle", "zip"])
def test_code_in_a_checkpoint_is_never_run(tmp_path, capsys, make):
    path = tmp_path / "bomb.pt"
    if make == "torch":
        torch.save({"model": Bomb(), "cfg": {}}, path)
    elif make == "pickle":
        path.write_bytes(pickle.dumps({"model": Bomb(), "cfg": {}}))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps({"model": Bomb()}))
    with pytest.raises(InputError) as refused:
        read_checkpoint(str(path))
    readable = make == "torch"  # fairseq's own format
    valid = "must be plain data and tensors, and asks for print; code from a file is never run"
    expected = f"checkpoint: {path} ({valid if readable else 'cannot be read as a fairseq checkpoint: '}"
    assert str(refused.value).startswith(expected)
    assert "weights_only" not in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "has run" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 truncated"])
def test_a_file_that_is_no_checkpoint_is_refused_by_name(tmp_path, content):
    path = tmp_path / "teacher.pt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"--teacher-path: .*teacher\.pt"):
        read_checkpoint(str(path), "--teacher-path")


def test_a_missing_file_a_directory_and_a_bare_state_dict_are_refused(tmp_path):
    torch.save({"weight": torch.zeros(2)}, tmp_path / "weights.pt")
    for path, reason in ((tmp_path / "no.pt", "existing"), (tmp_path, "existing"), (tmp_path / "weights.pt", "lacks")):
        with pytest.raises(InputError, match=reason):
            read_checkpoint(str(path))


def test_what_fairseq_stores_loads_safely(tmp_path):
    stored = {
        "model": {},
        "cfg": {"model": argparse.Namespace(arch="transformer"), "criterion": {}},
        "extra_state": {"bleu": numpy.array([1.0, 2.0]), "n": numpy.array([1, 2]), "score": numpy.float64(3)},
    }
    torch.save(stored, tmp_path / "c.pt")
    loaded = read_checkpoint(str(tmp_path / "c.pt"))
    assert loaded["cfg"]["model"].arch == "transformer"
    assert loaded["extra_state"]["bleu"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("criterion", "alpha"),
    [
        ({"_name": "label_smoothed_cross_entropy", "label_smoothing": 0.1}, 0.1 * 11 / 10),
        ({"_name": "cross_entropy"}, 0.0),
        ({"_name": "kd", "label_smoothing": 0.1, "kd_weight": 0.0}, 0.1 * 11 / 10),
        ({"_name": "kd", "label_smoothing": 0.0, "kd_weight": 0.5}, None),
        ({"_name": "kd", "label_smoothing": 0.1, "kd_weight": 1.0}, None),
        ({"_name": "masked_lm"}, None),
    ],
)
def test_the_teachers_smoothing_is_read_from_its_own_configuration(criterion, alpha):
    found = smoothing_of_training(state("data", **criterion), vocabulary=11)
    assert found["alpha"] == (alpha if alpha is None else pytest.approx(alpha))
    assert ("unknown" in found["source"]) is (alpha is None)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"temperature": 0.0}, "--temperature: 0.0"),
        ({"temperature": -1.0}, "--temperature: -1.0"),
        ({"temperature": float("nan")}, "--temperature: nan"),
        ({"student_temperature": float("inf")}, "--student-temperature: inf"),
        ({"kd_weight": 1.5}, "--kd-weight: 1.5"),
        ({"label_smoothing": 1.0}, "--label-smoothing: 1.0"),
        ({"label_smoothing": 0.9999}, "--label-smoothing: 0.9999 (must be below 39"),
        ({"teacher_topk": -1}, "--teacher-topk: -1"),
        ({"teacher_topk": 5000}, "--teacher-topk: 5000 (must be at most"),
    ],
)
def test_settings_out_of_range_end_in_one_line_and_status_2(task, capsys, options, words):
    with pytest.raises(SystemExit) as left:
        make_criterion(task, None, **options)
    assert left.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
