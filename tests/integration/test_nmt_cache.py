"""A teacher stored once, and its students, by the commands that a user types, on real sentences."""

import json
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from helpers.commands import ROOT, SMALL, distribution, last_line, prepare, run, start, train, two_processes, weights
from helpers.forked_commands import Forked

pytestmark = pytest.mark.slow

KD = "--criterion kd --temperature 3"


def cache_command(data: Path, teacher: Path, dest: Path, options: str = "") -> str:
    return f"python -m lskd_fairseq.cache_teacher --cpu --data {data} --path {teacher} --dest {dest} {options}"


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def caches(data_bin, teacher, place) -> dict[str, Path]:
    """Caches of the teacher: features in both types, and the 16 largest logits."""
    kinds = {"fp32": "--dtype fp32", "fp16": "", "top16": "--format topk --topk 16"}
    for name, options in kinds.items():
        said = run(cache_command(data_bin, teacher, place / name, options)).stdout
        assert re.search(r"MB, \d+ target tokens, [\d.]+ of their logits in fp16", said)
    return {name: place / name for name in kinds}


@pytest.fixture(scope="module")
def online(data_bin, teacher, place) -> Path:
    """The run directory of a student of the teacher itself."""
    train(data_bin, place / "online", KD, "--max-epoch 2 --no-epoch-checkpoints --teacher-path", teacher)
    return place / "online"


def cached(data: Path, cache: Path, save_dir: Path, *options, **keywords) -> Path:
    train(data, save_dir, KD, "--no-epoch-checkpoints --teacher-cache", cache, *options, **keywords)
    return save_dir


def record(directory: Path) -> dict:
    return json.loads((directory / "run.json").read_text())


def test_several_data_directories_have_one_cache(data_bin, teacher, tmp_path):
    """fairseq takes the training split of another directory in each epoch, and the others of the first one."""
    second = Path(shutil.copytree(data_bin, tmp_path / "second"))
    for path in list(second.glob("test.*")):
        path.rename(second / path.name.replace("test.", "train."))
    both = f"{data_bin}:{second}"
    run(cache_command(both, teacher, tmp_path / "cache", "--dtype fp32"))
    splits = json.loads((tmp_path / "cache" / "cache.json").read_text())["splits"]
    assert splits == {"train": 600, "valid": 19, "train of directory 2": 33}
    train(both, tmp_path / "student", KD, "--max-epoch 2 --teacher-cache", tmp_path / "cache")
    assert len(record(tmp_path / "student")["history"]) == 2
    refused = train(data_bin, tmp_path / "other", KD, "--teacher-cache", tmp_path / "cache", status=2)
    assert "must be of the data" in last_line(refused)


@pytest.mark.parametrize(("name", "tolerance"), [("fp32", 2e-3), ("fp16", 1e-2)])
def test_a_student_of_the_cache_is_that_of_the_teacher_up_to_the_stored_precision(
    data_bin, caches, online, tmp_path, name, tolerance
):
    found, expected = record(cached(data_bin, caches[name], tmp_path, "--max-epoch 2")), record(online)
    for row, other in zip(found["history"], expected["history"], strict=True):
        for figure in ("valid_loss", "valid_kd_loss", "valid_nll_loss", "valid_teacher_entropy"):
            assert row[figure] == pytest.approx(other[figure], abs=tolerance), figure
    assert found["teacher"].pop("cache") == [{"path": str(caches[name]), "format": "features", "dtype": name}]
    assert found["teacher"] == expected["teacher"]
    assert found["warnings"] == expected["warnings"]
    assert "smoothed teacher with T = 1" in found["warnings"][0]


@pytest.mark.parametrize("options", ["", "--teacher-topk 4 --temperature 1.5"])
def test_students_of_the_largest_logits_are_trained(data_bin, caches, online, tmp_path, options):
    found = record(cached(data_bin, caches["top16"], tmp_path, "--max-epoch 1", options))
    assert found["teacher"].pop("cache") == [{"path": str(caches["top16"]), "format": "topk", "dtype": "fp16"}]
    assert found["teacher"] == record(online)["teacher"]
    assert found["history"][0]["valid_kd_loss"] > 0


def test_loader_workers_do_not_change_the_student(data_bin, caches, tmp_path):
    options = "--max-epoch 1"
    alone = cached(data_bin, caches["fp32"], tmp_path / "alone", options)
    helped = cached(data_bin, caches["fp32"], tmp_path / "helped", options, "--num-workers 2")
    assert torch.equal(*(weights(each / "checkpoint_last.pt") for each in (alone, helped)))


def test_two_processes_train_and_validate_with_one_cache(data_bin, teacher, caches, tmp_path):
    """19 validation sentences in 7 batches: one process runs out of them first, and is given one of the train split."""
    common = f"{SMALL} --user-dir lskd_fairseq --dropout 0 --max-epoch 1 --batch-size-valid 3 --no-epoch-checkpoints"
    losses = []
    for name, source in (("online", f"--teacher-path {teacher}"), ("cached", f"--teacher-cache {caches['fp32']}")):
        words = f"fairseq-train {data_bin} --save-dir {tmp_path / name} {common} {KD} {source} {distribution()}"
        two_processes(words)
        losses.append(record(tmp_path / name)["history"][-1]["valid_loss"])
    assert losses[1] == pytest.approx(losses[0], abs=2e-3)


def test_a_student_outlives_cache_and_teacher_and_goes_on_with_the_cache(data_bin, teacher, caches, tmp_path):
    own = shutil.copytree(caches["fp32"], tmp_path / "cache")
    whole = cached(data_bin, own, tmp_path / "whole", "--max-epoch 2")
    parted = cached(data_bin, own, tmp_path / "parted", "--max-epoch 1")
    cached(data_bin, own, parted, "--max-epoch 2")
    assert torch.equal(*(weights(each / "checkpoint_last.pt") for each in (whole, parted)))
    shutil.rmtree(own)
    path = parted / "checkpoint_last.pt"
    validate = f"fairseq-validate {data_bin} --path {path} --task translation --user-dir lskd_fairseq --cpu"
    said = run(validate, "--batch-size 8")
    found = re.search(r"loss ([\d.]+) .*nll_loss ([\d.]+)", said.stdout + said.stderr)
    assert float(found[1]) == float(found[2]) > 0
    run("python -m lskd_fairseq.score --cpu --beam 1 --split valid --data", data_bin, "--path", path)
    refused = train(data_bin, parted, KD, "--max-epoch 3 --teacher-cache", own, status=2)
    assert f"--teacher-cache: {own} (must be a directory made by" in last_line(refused)


def test_validation_of_a_split_that_is_not_stored_says_so_and_can_do_without(data_bin, caches, tmp_path):
    cached(data_bin, caches["fp16"], tmp_path, "--max-update 3")
    validate = f"fairseq-validate {data_bin} --path {tmp_path / 'checkpoint_last.pt'} --task translation --cpu"
    validate += " --user-dir lskd_fairseq --batch-size 8 --valid-subset test"
    line = last_line(run(validate, status=2))
    assert f"--teacher-cache: {caches['fp16']} (must hold the sentences of this batch, has train, valid" in line
    said = run(validate, "--model-overrides {'teacher_cache':None}")
    assert "nll_loss" in said.stdout + said.stderr


@pytest.fixture(scope="module")
def many(place) -> tuple[Path, Path]:
    """Data of some thousand sentences, and a teacher that is slow enough to be interrupted."""
    data = prepare(place / "many", "--pair en-de --vocab-size 400 --max-words 10 --max-pairs 6000")
    size = SMALL.replace("embed-dim 32", "embed-dim 128").replace("layers 1", "layers 3").replace("dim 64", "dim 512")
    options = "--criterion cross_entropy --max-update 1 --no-epoch-checkpoints --disable-validation"
    run("fairseq-train", data, "--save-dir", place / "slow", size, options)
    return data, place / "slow" / "checkpoint_last.pt"


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def interrupted(command: str, dest: Path, ending: signal.Signals) -> Forked:
    """Start a command and end it as soon as its first file is listed."""
    process = start(command)
    manifest, deadline = dest / "cache.json", time.monotonic() + 300
    while not (manifest.exists() and json.loads(manifest.read_text())["files"]):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(ending)
    return process


def test_a_killed_cache_goes_on_to_the_same_bytes(many, tmp_path):
    data, teacher = many
    options = "--shard-mb 0.001"
    run(cache_command(data, teacher, tmp_path / "whole", options))
    whole = files(tmp_path / "whole")
    dest = tmp_path / "cache"
    command = cache_command(data, teacher, dest, options)
    process = interrupted(command, dest, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not json.loads((dest / "cache.json").read_text())["finished"]
    first = dest / "00000-train.safetensors"
    made = first.stat().st_mtime_ns
    unfinished = train(data, tmp_path / "student", KD, "--teacher-cache", dest, status=2)
    assert f"--teacher-cache: {dest} (must be finished; the command that makes it resumes" in last_line(unfinished)
    run(command)
    assert first.stat().st_mtime_ns == made
    assert files(dest) == whole


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT], ids=lambda ending: ending.name)
def test_an_interrupted_cache_says_how_to_go_on(many, tmp_path, ending):
    command = cache_command(*many, tmp_path / "cache", "--shard-mb 0.001")
    process = interrupted(command, tmp_path / "cache", ending)
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 130
    assert complaint.splitlines()[-1].endswith("interrupted; the same command resumes where it stopped")
    assert "Traceback" not in complaint
    assert not list((tmp_path / "cache").glob(".*"))


@pytest.mark.parametrize("options", ["--teacher-cache missing", "--teacher-cache {fp16} --valid-subset test"])
def test_a_cache_that_does_not_fit_is_refused_before_anything_is_written(data_bin, caches, tmp_path, options):
    """What else is refused: tests/lskd_fairseq/test_teacher_cache.py."""
    refused = train(data_bin, tmp_path / "save", KD, options.format(**caches), status=2)
    assert "fairseq-train: error: --teacher-cache: " in last_line(refused)
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "save").exists()


def test_a_damaged_cache_is_refused_before_anything_is_written(data_bin, caches, tmp_path):
    own = shutil.copytree(caches["fp16"], tmp_path / "cache")
    path = own / "00000-train.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    refused = train(data_bin, tmp_path / "save", KD, "--teacher-cache", own, status=2)
    assert f"--teacher-cache: {path} (has another SHA-256 than cache.json says" in last_line(refused)
    assert not (tmp_path / "save").exists()


def test_sentences_that_are_truncated_are_not_those_of_the_cache(data_bin, caches, tmp_path):
    refused = train(
        data_bin,
        tmp_path,
        f"{KD} --truncate-source --max-source-positions 6 --teacher-cache",
        caches["fp16"],
        status=2,
    )
    assert "must hold the sentences of this batch, has train, valid: are they of another split, truncated" in last_line(
        refused
    )


def test_the_teacher_may_be_named_beside_its_cache_and_a_remembered_score_is_told(data_bin, teacher, caches, tmp_path):
    shutil.copy(teacher, own := tmp_path / "teacher.pt")
    task = "--task label_smoothed_kd --max-update 2"
    train(data_bin, tmp_path / "online", task, KD, "--teacher-path", own)
    cache = tmp_path / "cache"
    run(cache_command(data_bin, own, cache))
    train(data_bin, tmp_path / "cached", task, KD, "--teacher-cache", cache, "--teacher-path", own)
    found = record(tmp_path / "cached")["teacher"]
    assert found.pop("cache")
    assert found == record(tmp_path / "online")["teacher"]
    assert found["valid"]["bleu"] >= 0
    (tmp_path / "teacher.pt.valid.json").unlink()
    train(data_bin, tmp_path / "unscored", task, KD, "--teacher-cache", cache)
    assert "valid" not in record(tmp_path / "unscored")["teacher"]


def test_hydra_trains_with_a_cache(data_bin, caches, tmp_path):
    user_dir = ROOT / "lskd_fairseq"
    shutil.copytree(caches["fp16"], tmp_path / "cache")
    options = "model.encoder.embed_dim=32 model.decoder.embed_dim=32 model.encoder.ffn_embed_dim=64 common.cpu=true"
    options += " model.decoder.ffn_embed_dim=64 optimization.max_update=2 criterion.teacher_cache=cache"
    command = ["fairseq-hydra-train", "--config-dir", user_dir / "config", "--config-name kd"]
    command += [f"common.user_dir={user_dir}", f"task.data={data_bin}", f"checkpoint.save_dir={tmp_path / 'run'}"]
    run(*command, options, cwd=tmp_path)
    assert record(tmp_path / "run")["teacher"]["cache"][0]["path"] == str(tmp_path / "cache")
