"""Checkpoints and data of fairseq that are damaged, or that say something senseless: one line, from our boundary."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from helpers.small_nmt import make_model, make_task, save_checkpoint

from lskd.io.errors import InputError
from lskd_fairseq.checkpoints import read_checkpoint, smoothing_of_training
from lskd_fairseq.export import export
from lskd_fairseq.score import load
from lskd_fairseq.splits import load_split
from lskd_fairseq.teacher import Teacher
from lskd_fairseq.text import chosen_postprocessing


@pytest.fixture
def data(data_bin, tmp_path):
    shutil.copytree(data_bin, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def checkpoint(data, tmp_path):
    """Changes a good checkpoint: ``change(state)``."""
    task = make_task(data)
    path = save_checkpoint(tmp_path / "good.pt", make_model(task), task)

    def checkpoint(change) -> str:
        state = torch.load(path, weights_only=False)
        change(state)
        torch.save(state, tmp_path / "bad.pt")
        return str(tmp_path / "bad.pt")

    return checkpoint


def refusal(call, *arguments) -> str:
    with pytest.raises(InputError) as error:
        call(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def in_index(data, side: str, offset: int, value: int) -> None:
    """Write a number of 8 bytes to ``valid``'s index, after its header and the sizes of its sentences."""
    path = data / f"valid.en-de.{side}.idx"
    content = bytearray(path.read_bytes())
    sentences = int.from_bytes(content[18:26], "little")
    begin = 34 + 4 * sentences + 8 * offset - 8
    content[begin + 8 : begin + 16] = value.to_bytes(8, "little", signed=True)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda data: in_index(data, "de", 1, 10**9), "does not fit the tokens"),
        (lambda data: in_index(data, "en", 1, -8), "does not fit the tokens"),
        (lambda data: in_index(data, "en", 1, 3), "does not fit the tokens"),
        (lambda data: (data / "valid.en-de.de.bin").write_bytes(b"\1\0"), "does not fit the tokens"),
        (
            lambda data: (data / "valid.en-de.en.bin").write_bytes(
                np.full((data / "valid.en-de.en.bin").stat().st_size // 2, 60_000, np.uint16).tobytes()
            ),
            "tokens from 60000 to 60000, of",
        ),
        (lambda data: (data / "valid.en-de.en.idx").write_bytes(b"MMIDIDX\0\0"), "must hold it as"),
    ],
)
def test_a_split_that_does_not_hold_its_tokens_is_refused(data, damage, why):
    task = make_task(data)
    damage(data)
    assert why in refusal(load_split, task, str(data), "valid")


def test_a_good_split_and_those_that_follow_it_are_read(data):
    task = make_task(data, upsample_primary=1)  # fairseq's own default is none
    for path in data.glob("train.en-de.*"):
        shutil.copy(path, data / path.name.replace("train.", "train1."))
    load_split(task, str(data), "train", True)
    load_split(task, str(data), "valid")


@pytest.mark.parametrize("content", ["[]", "3", '"text"'])
def test_a_manifest_that_is_no_object_is_refused(data, content):
    task = make_task(data)
    known = data, task.target_dictionary, task.dataset("valid")
    (data / "manifest.json").write_text(content)
    assert "must be an object, not " in refusal(chosen_postprocessing, *known)
    (data / "manifest.json").write_text(json.dumps({"parameters": []}))
    assert chosen_postprocessing(*known).remove_bpe == "sentencepiece"


CHANGES = [
    (lambda state: state["model"].update({3: torch.zeros(1)}), "has 3: Tensor among its weights"),
    (lambda state: state["model"].update(more=[1]), "has 'more': list among its weights"),
    (lambda state: state["model"].update(more=torch.zeros(2, device="meta")), "has 'more' on the device meta"),
    (lambda state: state["model"].update(more=torch.eye(2).to_sparse()), "cannot be read as a fairseq checkpoint"),
    (
        lambda state: state["model"].update(more=torch.tensor([torch.nan]).to(torch.float8_e4m3fn)),
        "its weight more are",
    ),
    (lambda state: state["cfg"].pop("task"), "incomplete|cannot be used on"),
    (lambda state: state["cfg"]["task"].update(_name="nothing"), "is of the task nothing"),
    (lambda state: setattr(state["cfg"]["model"], "encoder_layers", "many"), "cannot be built|cannot be used on"),
    (lambda state: setattr(state["cfg"]["model"], "arch", ["a"]), "cannot be built|cannot be used on"),
]


@pytest.mark.parametrize(("change", "why"), CHANGES)
def test_a_checkpoint_that_says_something_senseless_is_refused(checkpoint, data, change, why):
    path = checkpoint(change)
    assert re.search(why, refusal(load, path, str(data)))
    assert re.search(why, refusal(Teacher, [path], make_task(data)))


@pytest.mark.parametrize(
    ("name", "value"),
    [("decoder_layers", 10**6), ("encoder_embed_dim", 10**6), ("decoder_ffn_embed_dim", 2**40)]
    + [("max_source_positions", 10**9)],
)
def test_no_model_is_built_out_of_proportion_to_its_weights(checkpoint, name, value):
    path = checkpoint(lambda state: setattr(state["cfg"]["model"], name, value))
    assert f"has {name} = " in refusal(read_checkpoint, path)


@pytest.mark.parametrize("smoothing", ["a", [1], 7, float("nan")])
def test_a_smoothing_that_is_none_is_not_known(checkpoint, smoothing):
    path = checkpoint(lambda state: state["cfg"]["criterion"].update(label_smoothing=smoothing))
    assert smoothing_of_training(read_checkpoint(path), 10)["alpha"] is None


@pytest.mark.parametrize("name", ["optimizer_history", "extra_state"])
@pytest.mark.parametrize("value", [None, [], {}, [{}]])
def test_a_checkpoint_without_its_state_of_training_is_not_exported(checkpoint, tmp_path, name, value):
    path = checkpoint(lambda state: state.update({name: value}))
    assert "must have the complete state of a training" in refusal(export, path, tmp_path / "out.pt")
    assert not (tmp_path / "out.pt").exists()
