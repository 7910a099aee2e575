"""The command that caches a teacher: what it writes, how it resumes, what it refuses."""

import fcntl
import json
import shutil

import numpy as np
import pytest
import torch
from helpers.small_nmt import batch_of, make_cache, make_criterion, make_model, make_task, save_checkpoint
from safetensors.numpy import load_file

from lskd.io.errors import InputError, run_command
from lskd_fairseq import cache_teacher, representations
from lskd_fairseq.cache import rows as cache_rows
from lskd_fairseq.cache.cached_teacher import sentence_hashes
from lskd_fairseq.cache.manifest import read_manifest
from lskd_fairseq.cache.shards import open_cache


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    monkeypatch.setattr(representations, "WINDOW", 40)


@pytest.fixture
def command(data_bin, monkeypatch, capsys):
    """Run the command in this process; gives its output, or the line of its refusal."""

    def command(checkpoint, dest, options="", data=data_bin, status=0):
        words = ["cache_teacher", "--data", data, "--path", checkpoint, "--dest", dest, "--cpu", *options.split()]
        monkeypatch.setattr("sys.argv", list(map(str, words)))
        with pytest.raises(SystemExit) as left:
            run_command(cache_teacher.parser(), cache_teacher.main)
        said = capsys.readouterr()
        assert left.value.code == status, said.err
        return said.out if not status else said.err.strip().splitlines()[-1]

    return command


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def features_that_a_hook_sees(task, teacher_model, split):
    """Of every target token, one sentence after the other, unpadded."""
    dataset, seen = task.dataset(split), []
    hook = teacher_model.decoder.output_projection.register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0][0])
    )
    for number in range(len(dataset)):
        target = dataset.tgt[number]
        with torch.no_grad():
            source = dataset.src[number]
            teacher_model(source[None], torch.tensor([len(source)]), torch.cat([target[-1:], target[:-1]])[None])
    hook.remove()
    return torch.cat(seen).numpy()


@pytest.mark.slow
@pytest.mark.parametrize("options", ["--shard-mb 0.1", "--shard-mb 0.01 --max-tokens 60"])
def test_features_are_those_that_enter_the_projection_token_by_token(
    data_bin, task, teacher_model, teacher_path, tmp_path, options
):
    cache = make_cache(tmp_path / "cache", data_bin, teacher_path, f"--dtype fp32 {options}")
    manifest = read_manifest(cache)
    for split in ("train", "valid"):
        dataset = task.dataset(split)
        parts = [load_file(cache / file.name) for file in manifest.files if file.split == split]
        assert len(parts) > 1 or split == "valid"
        found = np.concatenate([part["features"] for part in parts])
        np.testing.assert_allclose(found, features_that_a_hook_sees(task, teacher_model, split), atol=2e-5)
        lengths = np.concatenate([np.diff(part["offsets"]) for part in parts])
        assert lengths.tolist() == [len(dataset.tgt[number]) for number in range(len(dataset))]
        batch = batch_of(task, [len(dataset) - 1, 0], split)
        ids = batch["id"].tolist()
        hashes = sentence_hashes(batch["net_input"]["src_tokens"], batch["target"], task.tgt_dict.pad())
        stored = np.concatenate([part["hashes"] for part in parts])
        assert stored[ids].tolist() == hashes.tolist()
    projection = load_file(cache / "projection.safetensors")
    assert projection.keys() == {"weight"}
    np.testing.assert_array_equal(projection["weight"], teacher_model.decoder.output_projection.weight.detach().numpy())


def test_the_manifest_says_what_it_is_of(data_bin, task, teacher_path, tmp_path):
    content = json.loads((make_cache(tmp_path / "cache", data_bin, teacher_path) / "cache.json").read_text())
    assert content["finished"] is True
    assert content["schema_version"] == 1
    assert (content["format"], content["dtype"], content["vocabulary"]) == ("features", "fp16", len(task.tgt_dict))
    assert content["teacher"]["paths"] == [str(teacher_path)]
    assert content["teacher"]["label_smoothing"]["epsilon"] == 0.1
    assert content["splits"] == {split: len(task.dataset(split)) for split in ("train", "valid")}
    assert sum(file["tokens"] for file in content["files"]) == sum(
        task.dataset(split).tgt_sizes.sum() for split in ("train", "valid")
    )
    assert {"torch", "fairseq-fixed", "lskd"} <= content["versions"].keys()


def test_it_says_how_large_the_cache_is_and_how_large_the_logits_would_be(teacher_path, tmp_path, task, command):
    said = command(teacher_path, tmp_path / "cache")
    manifest = open_cache(tmp_path / "cache").manifest
    size = sum(path.stat().st_size for path in (tmp_path / "cache").glob("*.safetensors"))
    dense = manifest.tokens() * len(task.tgt_dict) * 2
    assert f"{size / 1e6:.1f} MB, {manifest.tokens()} target tokens, {size / dense:.4f} of their logits" in said


@pytest.mark.slow
@pytest.mark.parametrize("after", [0, 1, 3, 15, 16])
def test_an_interrupted_cache_goes_on_to_the_same_bytes(data_bin, teacher_path, tmp_path, monkeypatch, command, after):
    """16 windows of train and valid are a file each, and there is the projection's."""
    options, dest = "--shard-mb 0.0001", tmp_path / "cache"
    whole = contents(make_cache(tmp_path / "whole", data_bin, teacher_path, options))
    assert len(whole) == 16 + 1 + len(["cache.json", "cache.lock"])
    write, written = cache_teacher.write_tensors, []

    def interrupted(path, *arguments):
        if len(written) == after:
            path.with_name(f".{path.name}.1.partial").write_bytes(b"half")  # as a kill leaves it
            raise KeyboardInterrupt
        written.append(path)
        write(path, *arguments)

    monkeypatch.setattr(cache_teacher, "write_tensors", interrupted)
    assert command(teacher_path, dest, options, status=130).endswith("the same command resumes where it stopped")
    with pytest.raises(InputError, match="must be finished"):
        open_cache(dest)
    monkeypatch.setattr(cache_teacher, "write_tensors", lambda *words: written.append(words[0]) or write(*words))
    command(teacher_path, dest, options)
    assert len(written) == len(set(written)) == 17  # none a second time
    assert contents(dest) == whole


def test_a_finished_cache_is_left_as_it_is(data_bin, teacher_path, tmp_path, command):
    cache = make_cache(tmp_path / "cache", data_bin, teacher_path)
    before = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert command(teacher_path, cache).endswith(f"{cache}: is finished, nothing to do\n")
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == before


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 2, -1])
def test_a_file_that_is_damaged_is_made_anew(data_bin, teacher_path, tmp_path, command, number):
    cache = make_cache(tmp_path / "cache", data_bin, teacher_path, "--shard-mb 0.05")
    whole = contents(cache)
    path = cache / read_manifest(cache).files[number].name
    path.write_bytes(path.read_bytes()[:-5] + b"wrong")
    command(teacher_path, cache, "--shard-mb 0.05")
    assert contents(cache) == whole


def test_the_same_teacher_elsewhere_is_the_same_teacher(data_bin, teacher_path, tmp_path, command):
    cache = make_cache(tmp_path / "cache", data_bin, teacher_path)
    shutil.copy(teacher_path, tmp_path / "moved.pt")
    assert "nothing to do" in command(tmp_path / "moved.pt", cache)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ("--dtype fp32", "dtype"),
        ("--format topk", "format"),
        ("--split valid", "splits"),
        ("--format topk --topk 3", "format"),
    ],
)
def test_a_directory_of_another_cache_is_refused_and_left_alone(
    teacher_path, data_bin, tmp_path, command, options, word
):
    before = contents(make_cache(tmp_path / "cache", data_bin, teacher_path))
    line = command(teacher_path, tmp_path / "cache", options, status=2)
    assert f"--dest: {tmp_path / 'cache'} (holds another cache, its {word} differs; must be a new directory)" in line
    assert contents(tmp_path / "cache") == before


def test_another_teacher_and_other_data_are_refused_too(teacher_path, data_bin, task, tmp_path, command):
    cache = make_cache(tmp_path / "cache", data_bin, teacher_path)
    before = contents(cache)
    other = save_checkpoint(tmp_path / "other.pt", make_model(task, seed=5), task)
    assert "its teacher differs" in command(other, cache, status=2)
    copy = shutil.copytree(data_bin, tmp_path / "data")
    shutil.copy(copy / "valid.en-de.de.bin", copy / "test.en-de.de.bin")
    assert "its data differs" in command(teacher_path, cache, data=copy, status=2)
    assert contents(cache) == before


def test_what_cannot_be_cached_is_refused_in_one_line_and_nothing_is_written(
    teacher_path, task, data_bin, tmp_path, command, monkeypatch
):
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    options = {"encoder_embed_dim": 16, "decoder_embed_dim": 16, "decoder_out_embed_dim": 16}
    options |= {"encoder_hidden_size": 16, "decoder_hidden_size": 16}
    lstm = save_checkpoint(tmp_path / "lstm.pt", make_model(task, arch="lstm", **options), task)
    dest = tmp_path / "cache"
    for checkpoint, place, words, expected in (
        (tmp_path / "no.pt", dest, "", "must be the path of an existing checkpoint file"),
        (lstm, dest, "", "has a LSTMDecoder, must have an output projection"),
        (teacher_path, tmp_path / "file", "", "--dest: "),
        (teacher_path, tmp_path / "file" / "cache", "", f"{tmp_path / 'file'} is not"),
        (teacher_path, tmp_path / "full", "", "holds notes.txt; must be a new directory"),
        (teacher_path, dest, "--split nonsense", "--split: nonsense"),
        (teacher_path, dest, "--split valid valid", "must not repeat a split"),
        (teacher_path, dest, "--topk 4", "--topk: 4 (must come with --format topk)"),
        (teacher_path, dest, "--temperatures 2", "must come with --format topk"),
        (
            teacher_path,
            dest,
            "--format topk --topk 500",
            "--topk: 500 (must be at most 392, the size of the vocabulary)",
        ),
        (teacher_path, dest, "--format topk --topk 0", "--topk"),
        (
            teacher_path,
            dest,
            "--format topk --temperatures 1 0",
            "--temperatures: 0 (must be a finite number above 0)",
        ),
        (teacher_path, dest, "--shard-mb 0", "--shard-mb: 0 (must be a finite number above 0)"),
        (teacher_path, dest, "--dtype int8", "--dtype"),
    ):
        assert expected in command(checkpoint, place, words, status=2)
    assert "--data" in command(teacher_path, dest, data=tmp_path / "nowhere", status=2)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "WORLD_SIZE: 2 (must be 1" in command(teacher_path, dest, status=2)
    assert not dest.exists()
    assert {path.name for path in (tmp_path / "full").iterdir()} == {"notes.txt"}


def test_a_directory_in_which_another_process_writes_is_refused(teacher_path, tmp_path, command):
    (tmp_path / "cache").mkdir()
    with open(tmp_path / "cache" / "cache.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "is in use: another process writes this cache" in command(teacher_path, tmp_path / "cache", status=2)
    assert contents(tmp_path / "cache") == {"cache.lock": b""}


@pytest.mark.parametrize(("scale", "words"), [(1e30, "--dtype: fp16 (must be fp32: a feature is"), (np.nan, "finite")])
def test_features_that_the_type_cannot_hold_are_refused(task, tmp_path, command, monkeypatch, scale, words):
    stored = cache_rows.stored
    monkeypatch.setattr(cache_rows, "stored", lambda features, *rest: stored(features * scale, *rest))
    path = save_checkpoint(tmp_path / "teacher.pt", make_model(task), task)
    assert words in command(path, tmp_path / "cache", status=2)


def test_where_the_configuration_does_not_tell_the_outputs_are_asked_as_the_task_does(
    data_bin, task, teacher_model, tmp_path
):
    distilled = {"_name": "kd", "kd_weight": 1.0, "label_smoothing": 0.0}
    path = save_checkpoint(tmp_path / "teacher.pt", teacher_model, task, criterion=distilled)
    known = read_manifest(make_cache(tmp_path / "cache", data_bin, path)).teacher["label_smoothing"]
    assert known["alpha"] is None
    online = make_task(data_bin)
    teacher_path = make_criterion(online, path).teacher
    online.begin_epoch(1, make_model(online))
    assert known == teacher_path.label_smoothing
    assert known["source"].endswith(f"by its outputs: {known['estimate']['verdict']}")
    cached = make_task(data_bin)
    record = make_criterion(cached, teacher_cache=str(tmp_path / "cache")).teacher
    cached.begin_epoch(1, make_model(cached))  # the remembered score has an estimate too: it is logged once
    assert record.label_smoothing == known
    assert cached.teacher_scores == online.teacher_scores


def test_top_k_are_stored_in_the_smallest_types(data_bin, teacher_path, tmp_path):
    cache = make_cache(tmp_path / "cache", data_bin, teacher_path, "--format topk --topk 5 --temperatures 3 1 3")
    tensors = load_file(cache / read_manifest(cache).files[0].name)
    assert tensors["values"].dtype == np.float16
    assert tensors["symbols"].dtype == np.uint16  # of 392 symbols
    assert tensors["values"].shape == tensors["symbols"].shape == (len(tensors["values"]), 5)
    assert tensors["log_normalisers"].shape == (len(tensors["values"]), 2)
    assert read_manifest(cache).temperatures == [1.0, 3.0]
    assert (tensors["values"][:, 0] == 0).all()
    assert (np.diff(tensors["values"].astype(float), axis=1) <= 0).all()
    assert not (cache / "projection.safetensors").exists()
