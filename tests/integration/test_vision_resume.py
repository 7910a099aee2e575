"""``--resume`` resumes from all that a run has left, or says what is missing."""

import json
import re
import shutil

import pytest
import torch
from helpers.image_folders import write_folders
from helpers.refusals import answer, refusal, run
from helpers.vision_commands import same_weights, state_of

from lskd.records.runs import read_run, write_run

pytestmark = pytest.mark.slow
WORDS = "lskd_vision.train --model test_resnet --smoothing 0 0.1 --epochs 2 --img-size 32 --batch-size 8 --opt adamw"
WORDS += " --lr 2e-3 --device cpu --workers 0 --model-ema --resume"
FIRST, SECOND = "test_resnet_a0_s42", "test_resnet_a0.1_s42"


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """Two runs of two epochs, and the same after the first."""
    place = tmp_path_factory.mktemp("place")
    write_folders(place / "clothes", train=8, validation=4)
    with pytest.MonkeyPatch.context() as patch:
        command(place, "whole", patch)
        patch.setattr("lskd_vision.train.train_epoch", interrupted_in_the_second_epoch())
        command(place, "half", patch)
    return place


def interrupted_in_the_second_epoch():
    from lskd_vision.train import train_epoch

    def train_or_stop(runs, epoch, *rest):
        if epoch:
            raise KeyboardInterrupt
        train_epoch(runs, epoch, *rest)

    return train_or_stop


def command(place, output, monkeypatch, status=0, words=WORDS):
    monkeypatch.setattr("sys.argv", words_of(place, output, words))
    with pytest.raises(SystemExit) as left:
        run("lskd_vision.train")
    return left.value.code


def words_of(place, output, words=WORDS):
    return [*words.split(), "--data-dir", str(place / "clothes"), "--output", str(place / output)]


@pytest.fixture
def half(ended, tmp_path):
    """The runs after their first epoch, to be spoilt."""
    shutil.copytree(ended / "half", tmp_path / "runs")
    (tmp_path / "clothes").symlink_to(ended / "clothes")
    return tmp_path


def epochs_told(run):
    """The epochs that the log of a run has a line for, in its order."""
    return re.findall(rf"(?m)^{re.escape(run.name)}  epoch (\d)/2 ", (run / "train.log").read_text(encoding="utf-8"))


def test_what_is_whole_goes_on_to_the_same_weights(ended, half, monkeypatch, capsys):
    assert command(half, "runs", monkeypatch) == 0
    assert "2 of 2 epochs each on clothes; 2 resumed after epoch 1; in " in capsys.readouterr().out.splitlines()[0]
    for name in (FIRST, SECOND):
        assert epochs_told(half / "runs/clothes" / name) == ["1", "2"]
        for key in ("state_dict", "state_dict_ema"):
            assert same_weights(
                half / "runs/clothes" / name / "last.pth.tar", ended / "whole/clothes" / name / "last.pth.tar", key
            )


def test_models_that_are_validated_now_and_then_have_the_same_weights_also_after_an_interruption(
    ended, tmp_path, monkeypatch, capsys
):
    """Three epochs, validated after the second and the last, interrupted before the first validation."""
    (tmp_path / "clothes").symlink_to(ended / "clothes")
    words = WORDS.replace("--smoothing 0 0.1 --epochs 2", "--smoothing 0 --epochs 3")
    name = f"clothes/{FIRST}"
    assert command(tmp_path, "every", monkeypatch, words=words) == 0
    words += " --val-interval 2"
    assert command(tmp_path, "whole", monkeypatch, words=words) == 0
    assert len(re.findall(r"epoch 1/3  loss \S+ +not validated +lr ", capsys.readouterr().out)) == 1
    with monkeypatch.context() as patch:
        patch.setattr("lskd_vision.train.train_epoch", interrupted_in_the_second_epoch())
        assert command(tmp_path, "interrupted", patch, words=words) == 130
    assert not (tmp_path / "interrupted" / name / "model_best.pth.tar").exists()
    assert command(tmp_path, "interrupted", monkeypatch, words=words) == 0
    every, *others = (read_run(tmp_path / place / name) for place in ("every", "whole", "interrupted"))
    for place, record in zip(("whole", "interrupted"), others, strict=True):
        for key in ("state_dict", "state_dict_ema"):
            assert same_weights(*(tmp_path / each / name / "last.pth.tar" for each in ("every", place)), key)
        scores = [row.get("valid_top1") for row in record.history]
        assert scores == [None, *(row["valid_top1"] for row in every.history[1:])]
        assert record.metrics["valid"]["last.pth.tar"] == every.metrics["valid"]["last.pth.tar"]


def test_a_temperature_that_changes_goes_on_where_it_was(ended, tmp_path, monkeypatch):
    """A student, interrupted in the middle of its second epoch."""
    from lskd_vision.run import TrainingRun

    (tmp_path / "clothes").symlink_to(ended / "clothes")
    words = WORDS.replace("--smoothing 0 0.1 --epochs 2", "--epochs 3 --kd-temperature 3 --kd-final-temperature 1")
    words += f" --kd-temperature-schedule cosine --kd-checkpoint {ended / 'whole/clothes' / SECOND / 'last.pth.tar'}"
    assert command(tmp_path, "whole", monkeypatch, words=words) == 0
    take_step = TrainingRun.step

    def step_or_stop(self, images, target, output, epoch, batch):
        if (epoch, batch) == (1, 1):
            raise KeyboardInterrupt
        take_step(self, images, target, output, epoch, batch)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingRun, "step", step_or_stop)
        assert command(tmp_path, "interrupted", patch, words=words) == 130
    name = "clothes/test_resnet_a0.1_T3to1cosine_s42"
    whole, interrupted = (tmp_path / place / name for place in ("whole", "interrupted"))
    assert len(read_run(interrupted).history) == 1
    assert command(tmp_path, "interrupted", monkeypatch, words=words) == 0
    for key in ("state_dict", "state_dict_ema"):
        assert same_weights(whole / "last.pth.tar", interrupted / "last.pth.tar", key)
    histories = [read_run(place).history for place in (whole, interrupted)]
    for row in histories[0] + histories[1]:
        del row["time"], row["seconds"]
    assert histories[0] == histories[1]
    assert [row["kd_temperature"] for row in histories[0]] == [3, 2, 1]
    for name in ("teacher_agreement", "teacher_kl", "teacher_agreement_ema", "teacher_kl_ema"):
        assert all(row[f"valid_{name}"] >= 0 for row in histories[0])


def test_students_of_features_resume_to_the_same_weights_and_are_models_like_any_other(
    ended, tmp_path, monkeypatch, capsys
):
    """Two seeds of two models, of which one is projected to the teacher's width, and the moving average of each."""
    from lskd_vision.run import TrainingRun

    (tmp_path / "clothes").symlink_to(ended / "clothes")
    words = WORDS.replace("--model test_resnet --smoothing 0 0.1", "--model test_efficientnet test_resnet --seed 1 2")
    words += " --kd-distill-type feature --task-loss-weight 0.5 --warmup-epochs 0"
    words += f" --kd-checkpoint {ended / 'whole/clothes' / SECOND / 'last.pth.tar'}"
    assert command(tmp_path, "whole", monkeypatch, words=words) == 0
    take_step = TrainingRun.step

    def step_or_stop(self, images, target, output, epoch, batch):
        if (epoch, batch) == (1, 1):
            raise KeyboardInterrupt
        take_step(self, images, target, output, epoch, batch)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingRun, "step", step_or_stop)
        assert command(tmp_path, "interrupted", patch, words=words) == 130
    names = {f"{model}_a0.1_feature_s{seed}" for model in ("test_efficientnet", "test_resnet") for seed in (1, 2)}
    assert {path.name for path in (tmp_path / "whole/clothes").iterdir()} == names
    projected = tmp_path / "interrupted/clothes/test_efficientnet_a0.1_feature_s2/last.pth.tar"
    kept = projected.read_bytes()
    change(projected, task_state=None)
    capsys.readouterr()
    assert command(tmp_path, "interrupted", monkeypatch, words=words) == 2
    assert f"--resume: {projected} (lacks task_state: restore the checkpoint" in capsys.readouterr().err
    projected.write_bytes(kept)
    assert command(tmp_path, "interrupted", monkeypatch, words=words) == 0
    for name in names:
        one, other = (tmp_path / place / "clothes" / name / "last.pth.tar" for place in ("whole", "interrupted"))
        states = state_of(one), state_of(other)
        for key in ("state_dict", "state_dict_ema"):
            assert same_weights(one, other, key)
        for key in ("task_state", "task_state_ema"):
            assert (key in states[0]) == ("efficientnet" in name)
            found, wanted = (state.get(key, {"projection": {}})["projection"] for state in states)
            assert found.keys() == wanted.keys()
            assert all(torch.equal(found[each], wanted[each]) for each in found)
        assert not any("projection" in each for each in states[0]["state_dict"])
    history = read_run(projected.parent).history
    assert history[1]["train_kd_loss"] < history[0]["train_kd_loss"]

    here = f"--data-dir {tmp_path / 'clothes'} --device cpu --workers 0"
    for words in (f"validate {projected} {here}", f"representations {projected} {here}"):
        assert answer(f"lskd_vision.{words}".split(), monkeypatch, capsys)[0] == 0
    export = f"lskd_vision.export {projected} {tmp_path / 'exported'}"
    assert answer(export.split(), monkeypatch, capsys)[0] == 0
    import timm

    exported = timm.create_model(f"local-dir:{tmp_path / 'exported'}", pretrained=True).state_dict()
    trained = state_of(projected)["state_dict"]
    assert exported.keys() == trained.keys()
    assert all(torch.equal(exported[name], trained[name]) for name in trained)
    assert "features before the last layer" in (tmp_path / "exported/README.md").read_text(encoding="utf-8")


def test_mixed_images_go_on_where_they_were_for_every_student_alone_and_in_company(
    ended, tmp_path, monkeypatch, capsys
):
    """Two students in one process, interrupted in the middle of the second epoch; and one of them alone."""
    from lskd_vision.run import TrainingRun

    (tmp_path / "clothes").symlink_to(ended / "clothes")
    words = WORDS.replace("--smoothing 0 0.1 --epochs 2", "--epochs 2 --task-loss-weight 0.5 --smoothing 0.1")
    words += f" --kd-checkpoint {ended / 'whole/clothes' / SECOND / 'last.pth.tar'} --mixup 0.8 --cutmix 1"
    words += " --sched plateau --patience-epochs 0 --log-interval 2"
    both = words + " --kd-temperature 1 2"
    assert command(tmp_path, "whole", monkeypatch, words=both) == 0
    line = r"(?m)^test_resnet_a0.1_T\d_s42  epoch \d/2  batch \d/3  loss \S+ +lr \S+ +[\d.]+ images/s$"
    assert len(re.findall(line, capsys.readouterr().out)) == 4  # of two runs in two epochs
    rates = [row["lr"] for row in read_run(tmp_path / "whole/clothes/test_resnet_a0.1_T1_s42").history]
    assert rates[0] == 1e-5  # a student warms up
    take_step = TrainingRun.step

    def step_or_stop(self, images, target, output, epoch, batch):
        assert target.shape == (8, 3)
        if (epoch, batch) == (1, 1):
            raise KeyboardInterrupt
        take_step(self, images, target, output, epoch, batch)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingRun, "step", step_or_stop)
        assert command(tmp_path, "interrupted", patch, words=both) == 130
    assert command(tmp_path, "interrupted", monkeypatch, words=both) == 0
    assert command(tmp_path, "alone", monkeypatch, words=words + " --kd-temperature 2") == 0
    for place, temperature in (("interrupted", 1), ("interrupted", 2), ("alone", 2)):
        name = f"clothes/test_resnet_a0.1_T{temperature}_s42/last.pth.tar"
        assert same_weights(tmp_path / "whole" / name, tmp_path / place / name)
    assert not same_weights(*(tmp_path / f"whole/clothes/test_resnet_a0.1_T{t}_s42/last.pth.tar" for t in (1, 2)))


def test_a_log_has_each_epoch_once_where_a_kill_left_only_the_checkpoints_of_the_last(ended, half, monkeypatch):
    for name in (FIRST, SECOND):
        for checkpoint in ("last.pth.tar", "model_best.pth.tar"):
            shutil.copy(ended / "whole/clothes" / name / checkpoint, half / "runs/clothes" / name)
        assert epochs_told(half / "runs/clothes" / name) == ["1"]
    assert command(half, "runs", monkeypatch) == 0
    for name in (FIRST, SECOND):
        assert len(read_run(half / "runs/clothes" / name).history) == 2
        assert epochs_told(half / "runs/clothes" / name) == ["1", "2"]


def change(path, **changes):
    state = state_of(path)
    for key, value in changes.items():
        if value is None:
            del state[key]
        else:
            state[key] = value
    torch.save(state, path)


def without(name):
    return lambda run: (run / name).unlink()


def with_state(**changes):
    return lambda run: change(run / "last.pth.tar", **changes)


def with_two_classes(key):
    def spoil(run):
        weights = state_of(run / "last.pth.tar")[key]
        change(run / "last.pth.tar", **{key: weights | {"fc.bias": weights["fc.bias"][:2]}})

    return spoil


def with_the_others_checkpoint(run):
    shutil.copy(run.with_name(FIRST) / "last.pth.tar", run / "last.pth.tar")


def with_a_truncated_checkpoint(run):
    content = (run / "last.pth.tar").read_bytes()
    (run / "last.pth.tar").write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (without("last.pth.tar"), "--resume: {run}/last.pth.tar (is gone, and run.json has 1 epoch: put it back, or"),
        (without("model_best.pth.tar"), "--resume: {run}/model_best.pth.tar (is gone, and run.json has 1 epoch: put"),
        (without("run.json"), "--output: {run} (has a last.pth.tar and no run.json: put it back, or remove the direc"),
        (with_state(optimizer=None), "--resume: {run}/last.pth.tar (lacks optimizer: restore the checkpoint"),
        (with_state(state_dict_ema=None), "--resume: {run}/last.pth.tar (lacks state_dict_ema: restore the checkpoint"),
        (with_state(lskd=None), "--resume: {run}/last.pth.tar (lacks best, configuration, data, history, lskd, "),
        (
            with_two_classes("state_dict"),
            "--resume: {run}/last.pth.tar (does not fit the run: state_dict has fc.",
        ),
        (
            with_two_classes("state_dict_ema"),
            "--resume: {run}/last.pth.tar (does not fit the run: state_dict_ema has",
        ),
        (
            with_state(state_dict=[1]),
            "--resume: {run}/last.pth.tar (does not fit the run: state_dict must hold",
        ),
        (with_the_others_checkpoint, "--resume: {run}/last.pth.tar (is of another run: smoothing differs"),
        (with_a_truncated_checkpoint, "--resume: {run}/last.pth.tar (is truncated or not a checkpoint"),
    ],
)
def test_half_of_one_of_two_runs_is_refused_before_the_other_goes_on(spoil, complaint, half, monkeypatch, capsys):
    spoil(half / "runs/clothes" / SECOND)
    line = refusal(words_of(half, "runs"), half / "runs", monkeypatch, capsys)
    assert line.removeprefix("lskd_vision.train: error: ").startswith(
        complaint.format(run=half / "runs/clothes" / SECOND)
    )


@pytest.mark.parametrize(
    ("words", "difference"), [("--epochs 3", "epochs"), ("--model-ema-decay 0.9", "model-ema-decay"), ("--lr 1", "lr")]
)
def test_other_settings_are_another_run(words, difference, half, monkeypatch, capsys):
    line = refusal(words_of(half, "runs", f"{WORDS} {words}"), half / "runs", monkeypatch, capsys)
    assert line.endswith(f"{FIRST} (holds another run: {difference} differs)")


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_anew(ended, half, monkeypatch):
    for name in (FIRST, SECOND):
        directory = half / "runs/clothes" / name
        (directory / "last.pth.tar").unlink()  # the best is written before the last
        record = read_run(directory)
        record.history = []
        write_run(record, directory)
    assert command(half, "runs", monkeypatch) == 0
    for name in (FIRST, SECOND):
        assert same_weights(
            half / "runs/clothes" / name / "last.pth.tar", ended / "whole/clothes" / name / "last.pth.tar"
        )


def test_runs_that_have_ended_need_no_checkpoint(ended, tmp_path, monkeypatch, capsys):
    shutil.copytree(ended / "whole", tmp_path / "runs")
    (tmp_path / "clothes").symlink_to(ended / "clothes")
    last = tmp_path / "runs/clothes" / FIRST / "last.pth.tar"
    last.unlink()
    assert command(tmp_path, "runs", monkeypatch) == 0
    assert FIRST in capsys.readouterr().out
    assert not last.exists()
    assert len(json.loads((last.parent / "run.json").read_text())["history"]) == 2
