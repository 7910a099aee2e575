"""fairseq's own commands with the plugin, as a user types them, on real sentences."""

import csv
import errno
import json
import math
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.commands import ROOT, SMALL, last_line, prepare, run, start, train, weights
from helpers.forked_commands import Forked
from helpers.refusals import answer, snapshot
from helpers.small_nmt import batch_of, make_task

from lskd.loss.schedule import scheduled_temperature
from lskd.measure.fidelity import fidelity
from lskd_fairseq.teacher import Teacher

pytestmark = pytest.mark.slow

KD = "--criterion kd --temperature 1 --teacher-path"


@pytest.fixture(scope="module")
def student(data_bin, teacher, tmp_path_factory) -> Path:
    """The run directory of a student distilled for two epochs with the stock task."""
    save_dir = tmp_path_factory.mktemp("student")
    train(data_bin, save_dir, KD, teacher, "--max-epoch 2")
    return save_dir


def test_the_command_as_typed_distils_with_the_default_task(student, teacher):
    record = json.loads((student / "run.json").read_text())
    assert record["configuration"]["temperature"] == 1.0
    assert record["configuration"]["kd_weight"] == 1.0
    assert record["configuration"]["host"]["task"]["_name"] == "translation"
    assert record["teacher"]["paths"] == [str(teacher)]
    assert record["teacher"]["label_smoothing"]["epsilon"] == 0.1
    assert re.fullmatch("[0-9a-f]{64}", record["teacher"]["fingerprint"])
    assert re.fullmatch("[0-9a-f]{64}", record["data"]["fingerprint"])
    assert record["seed"] == 1
    assert {"torch", "fairseq-fixed", "python", "lskd"} <= record["versions"].keys()
    assert record["hardware"]["cores"] >= 1
    assert record["warnings"] == []
    last = record["history"][-1]
    assert last["train_kd_gradient_ratio"] == 1
    for figure in ("loss", "kd_loss", "nll_loss", "ppl", "teacher_entropy", "teacher_agreement", "teacher_kl"):
        assert last[f"valid_{figure}"] >= 0
    assert last["valid_kd_loss"] < record["history"][0]["valid_kd_loss"]
    assert last["valid_teacher_kl"] == pytest.approx(last["valid_kd_loss"] * math.log(2), abs=4e-4)  # nats, bits
    rows = list(csv.DictReader((student / "summary.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2"]


def test_a_checkpoint_remembers_how_it_was_made_and_holds_no_teacher(student, teacher):
    import lskd_fairseq  # noqa: F401

    state = torch.load(student / "checkpoint_best.pt", weights_only=True)
    made = state["task_state"]["lskd"]
    assert made["configuration"]["temperature"] == 1.0
    assert made["teacher"]["fingerprint"]
    assert made["figures"]["valid"]["nll_loss"] > 0
    assert {"data", "versions", "hardware", "seed"} <= made.keys()
    assert state["cfg"]["criterion"]["teacher_path"] == str(teacher)
    assert state["criterion"] is None
    own = torch.load(teacher, weights_only=True)["model"]
    assert state["model"].keys() == own.keys()
    parameters = {tensor.data_ptr() for name, tensor in own.items() if "version" not in name}  # shared ones count once
    assert len(state["last_optimizer_state"]["state"]) == len(parameters)


@pytest.mark.parametrize("options", ["", "--teacher-path missing.pt", "--teacher-path README.md"])
def test_a_missing_or_wrong_teacher_ends_in_one_line_before_anything_is_written(data_bin, tmp_path, options):
    refused = train(data_bin, tmp_path / "save", "--criterion kd", options, status=2)
    assert "fairseq-train: error: --teacher-path" in last_line(refused)
    assert "Traceback" not in refused.stderr
    assert "TransformerModel" not in refused.stderr + refused.stdout
    assert not (tmp_path / "save").exists()


def test_a_teacher_of_other_languages_is_refused(teacher, tmp_path):
    other = prepare(tmp_path / "other", "--pair en-ru --vocab-size 400 --max-words 10 --max-pairs 600")
    refused = train(other, tmp_path / "save", KD, teacher, status=2)
    assert "translates en-de, must translate en-ru" in last_line(refused)
    assert not (tmp_path / "save").exists()


def test_training_with_either_name_goes_on_under_the_other_to_the_same_weights(data_bin, teacher, student, tmp_path):
    train(data_bin, tmp_path, "--criterion kd --temperature 1 --teacher-path", teacher, "--max-epoch 1")
    train(data_bin, tmp_path, "--criterion label_smoothed_kd --temperature 1 --teacher-path", teacher, "--max-epoch 2")
    assert torch.equal(weights(tmp_path / "checkpoint_last.pt"), weights(student / "checkpoint_last.pt"))
    record = json.loads((tmp_path / "run.json").read_text())
    assert [row["epoch"] for row in record["history"]] == [1, 2]


def test_a_training_that_has_ended_is_left_as_it_is(data_bin, teacher, student, tmp_path):
    """fairseq alone makes one more update each time that it is started again."""
    save_dir = Path(shutil.copytree(student, tmp_path / "student"))
    updates = json.loads((student / "run.json").read_text())["history"][-1]["updates"]
    before = snapshot(save_dir)
    said = train(data_bin, save_dir, KD, teacher, f"--max-update {updates}").stdout
    assert "the training has already ended by --max-update: nothing to do" in said
    assert snapshot(save_dir) == before


def test_a_checkpoint_that_does_not_fit_is_refused_with_the_reason(data_bin, teacher, tmp_path, monkeypatch, capsys):
    """One of another criterion, of another optimizer and of another architecture."""
    for options, line in (
        (
            f"--restore-file {teacher}",
            f"--restore-file: {teacher} (must fit this training: Criterion does not match; please reset the optimizer "
            "(--reset-optimizer). LabelSmoothedCrossEntropyCriterion vs LabelSmoothedKDCriterion)",
        ),
        (
            f"--finetune-from-model {teacher} --encoder-layers 2",
            f"--finetune-from-model: {teacher} (must fit this training: Error(s) in loading state_dict for "
            'TransformerModel: Missing key(s) in state_dict: "encoder.layers.1',
        ),
    ):
        words = f"fairseq-train {data_bin} --user-dir lskd_fairseq {SMALL} {KD} {teacher} --save-dir {tmp_path / 'new'}"
        status, said = answer([*words.split(), *options.split()], monkeypatch, capsys)
        assert status == 2
        assert line in said.splitlines()[-1]
        assert not list((tmp_path / "new").iterdir())


def started(data: Path, save_dir: Path, *options: object) -> Forked:
    """``fairseq-train`` in the background."""
    return start("fairseq-train", data, "--save-dir", save_dir, SMALL, "--user-dir lskd_fairseq", *options)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM], ids=lambda ending: ending.name)
def test_an_interrupted_training_says_how_to_go_on_and_does(ending, data_bin, teacher, student, tmp_path):
    options = [KD, teacher, "--max-epoch 2 --num-workers 2"]
    process = started(data_bin, tmp_path, *options)
    while not (tmp_path / "run.json").exists() and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, ending)  # as a terminal does: loader processes get it too
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 130
    last = tmp_path / "checkpoint_last.pt"
    assert complaint.splitlines()[-1] == f"fairseq-train: interrupted; the same command resumes from {last}"
    assert "Traceback" not in complaint
    train(data_bin, tmp_path, *options)
    assert torch.equal(weights(last), weights(student / "checkpoint_last.pt"))


def test_one_that_is_interrupted_before_its_first_checkpoint_says_so(data_bin, teacher, tmp_path):
    process = started(data_bin, tmp_path / "student", KD, teacher, "--max-epoch 100 --disable-validation --no-save")
    while not (tmp_path / "student").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 130
    how = "interrupted; the same command begins anew, there is no checkpoint yet"
    assert complaint.splitlines()[-1] == f"fairseq-train: {how}"


def test_a_training_whose_patience_ends_goes_on_from_what_is_left_of_it(data_bin, teacher, tmp_path):
    """With a rate of 0 no validation is better than the first: after two more the training ends."""
    options = [KD, teacher, "--lr 0 --patience 2 --stop-min-lr -1 --max-epoch"]
    train(data_bin, tmp_path, *options, 2)
    train(data_bin, tmp_path, *options, 9)
    assert [row["epoch"] for row in json.loads((tmp_path / "run.json").read_text())["history"]] == [1, 2, 3]


def test_a_kill_between_checkpoint_and_record_loses_no_figure(data_bin, teacher, student, tmp_path):
    run_directory = shutil.copytree(student, tmp_path / "student")
    (run_directory / "run.json").unlink()
    train(data_bin, run_directory, KD, teacher, "--max-epoch 2")
    history = [json.loads((place / "run.json").read_text())["history"] for place in (run_directory, student)]
    assert history[0] == history[1]
    assert (run_directory / "summary.csv").read_bytes() == (student / "summary.csv").read_bytes()


def test_what_a_kill_has_left_half_written_is_gone_when_the_training_goes_on(data_bin, teacher, student, tmp_path):
    run_directory = shutil.copytree(student, tmp_path / "student")
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    left = run_directory / f".checkpoint_last.pt.{socket.gethostname()}-{killed.pid}.partial"
    others = run_directory / f".checkpoint_last.pt.{socket.gethostname()}-{os.getpid()}.partial"
    for path in (left, others):
        path.write_bytes(b"half")
    train(data_bin, run_directory, KD, teacher, "--max-epoch 2")
    assert not left.exists()
    assert others.read_bytes() == b"half"


def test_a_full_disk_ends_a_training_in_one_line_and_leaves_the_checkpoints_whole(data_bin, teacher, student, tmp_path):
    run_directory = shutil.copytree(student, tmp_path / "student")
    before = snapshot(run_directory)
    limit = before["checkpoint_last.pt"][0] // 2
    process = started(data_bin, run_directory, KD, teacher, "--max-epoch 3")
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, limit))  # no file may become larger
    _, complaint = process.communicate(timeout=300)
    assert process.returncode == 2
    path = run_directory / "checkpoint3.pt"
    expected = f"fairseq-train: error: [Errno {errno.EFBIG}] File too large: '{path}'"
    assert complaint.splitlines()[-1] == expected
    assert "Traceback" not in complaint
    assert snapshot(run_directory) == before
    train(data_bin, run_directory, KD, teacher, "--max-epoch 3")


def test_a_directory_that_cannot_be_written_is_refused_before_anything_is_built(data_bin, teacher, tmp_path):
    (tmp_path / "file").write_text("not a directory")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        refused = train(data_bin, place, KD, teacher, "--max-epoch 1", status=2)
        valid = f"must be a directory that can be written to; {tmp_path / 'file'} is not"
        assert last_line(refused) == f"fairseq-train: error: --save-dir: {place} ({valid})"
        assert "TransformerModel" not in refused.stderr + refused.stdout


def test_a_temperature_that_changes_goes_on_where_it_was_also_with_accumulated_batches(data_bin, teacher, tmp_path):
    options = ["--criterion kd --temperature 3 --kd-temperature-schedule cosine --kd-final-temperature 1"]
    options += ["--max-update 20 --update-freq 2 --save-interval-updates 3 --teacher-path", teacher]
    process = started(data_bin, tmp_path / "interrupted", *options)
    while not (tmp_path / "interrupted" / "run.json").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 130
    histories = []
    for name in ("interrupted", "whole"):
        train(data_bin, tmp_path / name, *options)
        histories.append(json.loads((tmp_path / name / "run.json").read_text())["history"])
        for row in histories[-1]:
            del row["time"], row["seconds"]
    assert torch.equal(*(weights(tmp_path / name / "checkpoint_last.pt") for name in ("interrupted", "whole")))
    assert histories[0] == histories[1]
    for row in histories[0]:
        expected = scheduled_temperature("cosine", 3, 1, (row["updates"] - 1) / 19)  # of the last update
        assert row["valid_kd_temperature"] == pytest.approx(expected, abs=6e-4)


def float64_logits(checkpoint: Path, data: Path) -> tuple[np.ndarray, np.ndarray]:
    """A model's logits (N, V) for the target tokens of validation, and the tokens."""
    task = make_task(data)
    batch = batch_of(task, range(len(task.dataset("valid"))))
    keep = batch["target"].ne(task.target_dictionary.pad())
    (found,) = Teacher([str(checkpoint)], task).logits(batch, keep, like=torch.zeros((), dtype=torch.float64))
    return found[:].numpy(), batch["target"][keep].numpy()


def test_a_high_temperature_from_a_smoothed_teacher_warns_in_the_log_and_in_the_record(data_bin, teacher, tmp_path):
    result = train(data_bin, tmp_path, "--criterion kd --temperature 3 --teacher-path", teacher, "--max-update 2")
    assert "smoothed teacher with T = 1" in result.stdout + result.stderr
    record = json.loads((tmp_path / "run.json").read_text())
    assert "smoothed teacher with T = 1" in record["warnings"][0]
    (row,) = record["history"]  # has the fidelity at T = 1
    student, target = float64_logits(tmp_path / "checkpoint_last.pt", data_bin)
    expected = fidelity(student, float64_logits(teacher, data_bin)[0], target)
    assert row["valid_teacher_agreement"] == pytest.approx(100 * expected.top1_agreement, abs=0.006)
    assert row["valid_teacher_kl"] == pytest.approx(expected.mean_kl, abs=2e-5)


def test_the_task_scores_the_teacher_and_measures_bleu(data_bin, teacher, tmp_path):
    shutil.copy(teacher, own := tmp_path / "teacher.pt")
    options = "--task label_smoothed_kd --eval-bleu --max-epoch 1"
    options += " --best-checkpoint-metric bleu --maximize-best-checkpoint-metric"
    train(data_bin, tmp_path / "student", options, KD, own)
    record = json.loads((tmp_path / "student" / "run.json").read_text())
    assert 0 <= record["history"][0]["valid_bleu"] <= 100
    assert record["teacher"]["valid"]["bleu"] >= 0
    assert record["teacher"]["valid"]["nll_loss"] > 0
    assert "tok:13a" in record["teacher"]["valid"]["signature"]
    assert (tmp_path / "teacher.pt.valid.json").is_file()


def test_the_task_asks_a_teacher_s_outputs_where_its_configuration_does_not_tell(data_bin, teacher, tmp_path):
    train(data_bin, tmp_path / "first", KD, teacher, "--max-epoch 1")
    first = tmp_path / "first" / "checkpoint_best.pt"
    for _ in range(2):  # measured, then remembered beside the teacher
        save_dir = tmp_path / f"second-{_}"
        train(data_bin, save_dir, "--task label_smoothed_kd --max-epoch 1", KD, first)
        found = json.loads((save_dir / "run.json").read_text())["teacher"]
        known = found["label_smoothing"]
        assert known["alpha"] is None
        assert known["source"].endswith(f"by its outputs: {known['estimate']['verdict']}")
        assert found["valid"].keys() == {"bleu", "signature", "nll_loss"}


def test_validation_of_a_student_needs_no_teacher(data_bin, teacher, tmp_path):
    shutil.copy(teacher, own := tmp_path / "teacher.pt")
    train(data_bin, tmp_path / "student", KD, own, "--max-update 3")
    own.unlink()
    path = tmp_path / "student" / "checkpoint_last.pt"
    result = run(
        "fairseq-validate", data_bin, "--path", path, "--task translation --user-dir lskd_fairseq --cpu --batch-size 8"
    )
    found = re.search(r"loss ([\d.]+) .*nll_loss ([\d.]+)", result.stdout + result.stderr)
    assert float(found[1]) == float(found[2]) > 0


def test_the_installed_directory_is_a_user_dir_from_any_working_directory(data_bin, teacher, tmp_path):
    user_dir = run("python -m lskd_fairseq", cwd=tmp_path).stdout.strip()
    run(
        "fairseq-train",
        data_bin,
        "--save-dir run",
        SMALL,
        "--user-dir",
        user_dir,
        KD,
        teacher,
        "--max-update 2",
        cwd=tmp_path,
    )
    assert (tmp_path / "run" / "checkpoint_last.pt").is_file()


def test_hydra_trains_from_the_configuration_that_ships(data_bin, teacher, tmp_path):
    user_dir = ROOT / "lskd_fairseq"
    shutil.copy(teacher, tmp_path / "teacher.pt")
    options = "model.encoder.embed_dim=32 model.decoder.embed_dim=32 model.encoder.ffn_embed_dim=64 common.cpu=true"
    options += " model.decoder.ffn_embed_dim=64 optimization.max_update=2"
    command = [
        "fairseq-hydra-train",
        "--config-dir",
        user_dir / "config",
        "--config-name kd",
        f"common.user_dir={user_dir}",
    ]
    command += [f"task.data={data_bin}", f"checkpoint.save_dir={tmp_path / 'run'}", options]
    run(*command, "criterion.teacher_path=teacher.pt", cwd=tmp_path)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["teacher"]["paths"] == [str(tmp_path / "teacher.pt")]
    run(
        "python -m lskd_fairseq.score --cpu --beam 1 --split valid --data",
        data_bin,
        "--path",
        tmp_path / "run" / "checkpoint_best.pt",
    )
    run("python -m lskd_fairseq.export", tmp_path / "run" / "checkpoint_best.pt", tmp_path / "student.pt")
    generate = "--cpu --beam 1 --gen-subset valid --required-batch-size-multiple 1"
    text = run("fairseq-generate", data_bin, "--path", tmp_path / "student.pt", generate, cwd=tmp_path).stdout
    assert len(re.findall(r"^H-", text, re.MULTILINE)) == 19
    refused = run(*command, "criterion.teacher_path=missing.pt", cwd=tmp_path, status=2)
    assert "error: --teacher-path" in last_line(refused)
    assert "TransformerModel" not in refused.stdout
