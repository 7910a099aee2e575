"""One model in training: its schedule, and what it keeps to itself."""

import math
from pathlib import Path

import pytest
import torch
from timm.data import resolve_data_config

from lskd.io.errors import InputError
from lskd.io.tensor_files import mapped_tensors, read_about
from lskd.records.nonfinite_batch import NAME
from lskd.records.runs import ADDED_OPTIONS, deciding_settings, read_run, write_run
from lskd_vision import options
from lskd_vision.command_line import training_configs
from lskd_vision.config import TrainingConfig
from lskd_vision.epoch_means import EpochMeans
from lskd_vision.run import OVERFLOWS, TrainingRun
from lskd_vision.run_directories import another_run, check_directories_differ, check_directory
from lskd_vision.task_losses import SmoothedCrossEntropy
from lskd_vision.teacher import Teacher, TeacherOutput

CONFIG = resolve_data_config({"input_size": (1, 32, 32), "mean": (0.5,), "std": (0.5,)})
RECORD = {"classes": list("abcdefghij"), "fingerprint": "of the data", "path": "/letters", "splits": {"train": 640}}


def configured(tmp_path: Path, *words: str) -> TrainingConfig:
    """The configuration of a command line's one training, as one process on a CPU has it."""
    line = f"--data-dir {tmp_path} --output {tmp_path} --in-chans 1 --img-size 32 --device cpu --model test_resnet"
    (config,) = training_configs(options.parser().parse_args([*line.split(), *" ".join(words).split()]))
    return config


@pytest.fixture
def started(tmp_path):
    """A run that is about to take its first step, 10 batches an epoch."""

    def started(words: str = "", temperature: float | None = None, seed: int = 1) -> TrainingRun:
        import timm

        teacher = temperature and Teacher(timm.create_model("test_resnet", num_classes=10, in_chans=1), "test_resnet")
        students = f"--kd-temperature {temperature}" if teacher else ""
        run = TrainingRun(configured(tmp_path, words, students, f"--seed {seed}"), teacher, "letters", RECORD, CONFIG)
        run.start(10)
        return run

    return started


def test_a_log_that_cannot_be_written_is_named(started):
    run = started()
    (run.directory / "train.log").mkdir(parents=True)
    with pytest.raises(OSError, match=f"'{run.directory / 'train.log'}'"):
        run.write_log()
    assert [path.name for path in run.directory.iterdir()] == ["train.log"]


STUDENT = "--kd-model-name test_resnet"


@pytest.mark.parametrize(
    ("first", "second", "complaint"),
    [
        ("--model a/b", "--model a-b", "--model: a-b (and a/b would both write "),
        ("--smoothing 0.1", "--smoothing 0.1000001", "--smoothing: 0.1000001 (and 0.1 would both write "),
        (
            f"{STUDENT} --kd-temperature 1",
            f"{STUDENT} --kd-temperature 1.0000001",
            "--kd-temperature: 1.0000001 (and 1.0 would both write ",
        ),
    ],
)
def test_two_runs_with_one_directory_are_refused_and_told_apart(first, second, complaint, tmp_path):
    import timm

    teacher = Teacher(timm.create_model("test_resnet", num_classes=10, in_chans=1), "test_resnet")
    configs = configured(tmp_path, first), configured(tmp_path, second)
    own = teacher if configs[0].distillation.distils else None
    runs = [TrainingRun(config, own, "letters", RECORD, CONFIG) for config in configs]
    with pytest.raises(InputError) as error:
        check_directories_differ(runs)
    assert str(error.value).startswith(complaint)


def rates(run: TrainingRun, epochs: range) -> list[float]:
    """The learning rate of each epoch."""
    found = []
    for epoch in epochs:
        run.optimisation.scheduler.step(epoch)
        found.append(run.optimisation.optimizer.param_groups[0]["lr"])
    return found


def test_a_teachers_rate_falls_tenfold_every_30_epochs_as_in_the_paper(started):
    assert rates(started(), range(90)) == pytest.approx([0.1 * 0.1 ** (epoch // 30) for epoch in range(90)])


def test_a_students_rate_rises_over_5_epochs_and_falls_tenfold_at_80_and_160(started):
    found = rates(started("--kd-model-name resnet18", temperature=1.0), range(200))
    assert found[:5] == pytest.approx([1e-5 + (0.1 - 1e-5) * epoch / 5 for epoch in range(5)])
    assert found[5:] == pytest.approx([0.1 * 0.1 ** (epoch // 80) for epoch in range(5, 200)])


PLATEAU = "--sched plateau --patience-epochs 1 --decay-rate 0.1 --lr 1"


@pytest.mark.parametrize(
    ("words", "scores", "expected"),
    [
        ("", [1, 2, 2, 2, 3, 3, 3], [1, 1, 1, 1, 0.1, 0.1, 0.1, 0.01]),
        ("--plateau-mode min", [3, 2, 2, 2, 1, 1, 1], [1, 1, 1, 1, 0.1, 0.1, 0.1, 0.01]),
        ("--cooldown-epochs 2", [1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.01]),
        ("--min-lr 0.5", [1, 1, 1, 1], [1, 1, 1, 0.5, 0.5]),
        ("--warmup-epochs 2 --warmup-lr 0.5", [1, 1, 1, 1, 1], [0.5, 0.75, 1, 1, 1, 0.1]),
    ],
)
@pytest.mark.parametrize("resumed", [False, True])
def test_the_rate_falls_where_the_score_stands_still_also_after_a_resumption(started, words, scores, expected, resumed):
    run = started(f"{PLATEAU} {words}")
    rates = [run.optimisation.rate]
    for epoch, score in enumerate(scores, 1):
        run.optimisation.begin_epoch(epoch, score)
        if resumed:
            state = run.optimisation.state()
            run = started(f"{PLATEAU} {words}")
            run.optimisation.restore(state)
            run.optimisation.begin_epoch(epoch)
        rates.append(run.optimisation.rate)
    assert rates == pytest.approx(expected)


def test_weight_decay_is_of_all_weights_unless_asked_otherwise(started):
    def decayed(run: TrainingRun) -> int:
        return sum(
            p.numel()
            for group in run.optimisation.optimizer.param_groups
            if group["weight_decay"]
            for p in group["params"]
        )

    run = started()
    everything = sum(parameter.numel() for parameter in run.task.parameters())
    assert decayed(run) == everything
    assert decayed(started("--filter-bias-and-bn")) < everything


def test_a_model_is_a_function_of_the_seed_alone(started):
    torch.manual_seed(0)
    first = started(seed=3).task.state_dict()
    torch.manual_seed(1)
    student = started("--kd-model-name resnet18", temperature=2.0, seed=3).task.state_dict()
    assert first.keys() == student.keys()
    assert all(torch.equal(first[name], student[name]) for name in first)
    other = started(seed=4).task.state_dict()
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_a_loss_that_is_not_finite_fails_the_run_and_says_so(started):
    run = started()
    run.begin_epoch(0)
    run.step(torch.full((4, 1, 32, 32), torch.nan), torch.zeros(4, dtype=torch.long), None, 0, 0)
    run.end_epoch()
    file = run.directory / NAME
    assert run.failure == f"the loss is nan on the batch of batch 0 (its logits: {file}); try a smaller learning rate"
    assert read_about(file)["settings"] == run.record.configuration
    assert mapped_tensors(file)["student_logits"].shape == (4, 10)


def test_of_an_ensembles_student_the_logits_of_every_teacher_are_kept(started):
    run = started()
    run.begin_epoch(0)
    teachers = [torch.randn(4, 10), torch.randn(4, 10)]
    run.step(torch.full((4, 1, 32, 32), torch.nan), torch.zeros(4, dtype=torch.long), TeacherOutput(teachers), 0, 0)
    run.end_epoch()
    assert "try a smaller learning rate" in run.failure
    kept = mapped_tensors(run.directory / NAME)
    assert torch.equal(torch.tensor(kept["teacher_logits"]), teachers[0])
    assert torch.equal(torch.tensor(kept["teacher_logits_1"]), teachers[1])


def test_an_epoch_all_of_whose_steps_a_scaler_skipped_has_no_mean():
    means = EpochMeans(torch.device("cpu"), skips=True)
    means.add(
        {"loss": torch.tensor(torch.nan), "gradient_square": torch.ones(()), "gradient_square_t1": torch.ones(())}, 4
    )
    assert all(math.isnan(each) for each in means.of_all_processes().values())


def test_a_mean_that_is_not_finite_is_recorded_as_missing(started):
    run = started()
    run.directory.mkdir(parents=True)
    run.begin_epoch(0)
    run.finish_epoch(0, {"train_loss": 1.0, "train_kd_loss": math.nan}, {})
    (row,) = read_run(run.directory).history
    assert (row["train_loss"], row["train_kd_loss"]) == (1.0, None)


def test_after_a_loss_that_is_not_finite_no_step_is_taken(started):
    run = started()
    run.begin_epoch(0, lambda batch: [f"image {batch}"])
    labels = torch.zeros(4, dtype=torch.long)
    for batch in range(4):
        run.step(torch.full((4, 1, 32, 32), torch.nan if batch == 1 else 0.5), labels, None, 0, batch)
    assert "image 1" in run.failure
    assert run.means.images == 8  # of the first two steps


@pytest.mark.slow
@pytest.mark.parametrize("bad", [1, OVERFLOWS - 1, OVERFLOWS])
def test_with_a_scaler_losses_may_overflow_for_some_steps(started, bad):
    run = started("--amp --amp-dtype float16")
    assert run.optimisation.scaler is not None
    run.begin_epoch(0)
    labels = torch.zeros(4, dtype=torch.long)
    for batch in range(bad + 3):
        run.step(torch.full((4, 1, 32, 32), torch.nan if batch < bad else 0.5), labels, None, 0, batch)
    if bad == OVERFLOWS:
        assert f"batch {OVERFLOWS - 1} " in run.failure
        return
    means = run.end_epoch()
    assert run.failure is None
    assert 0 < means["train_loss"] < 10  # the mean of the steps that did not


@pytest.mark.parametrize(("accumulated", "updates"), [(1, 5), (2, 3), (5, 1), (8, 1)])
def test_the_last_batches_of_an_epoch_make_an_update_though_they_are_fewer(tmp_path, accumulated, updates, monkeypatch):
    run = TrainingRun(configured(tmp_path, f"--grad-accum-steps {accumulated}"), None, "x", RECORD, CONFIG)
    run.start(5)
    steps = []
    monkeypatch.setattr(run.optimisation.optimizer, "step", lambda: steps.append(1))
    run.begin_epoch(0)
    for batch in range(5):
        run.step(torch.rand(2, 1, 32, 32), torch.tensor([0, 1]), None, 0, batch)
    assert len(steps) == run.optimisation.updates_per_epoch == updates


def test_a_teachers_loss_is_in_float32_whatever_the_precision_of_its_model():
    logits, labels = 4 * torch.randn(64, 10, generator=torch.Generator().manual_seed(0)), torch.arange(64) % 10
    rounded = logits.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = SmoothedCrossEntropy(label_smoothing=0.1)(rounded, labels)
    log_probability = torch.log_softmax(rounded.double(), 1)
    smoothed = 0.9 * torch.nn.functional.one_hot(labels, 10) + 0.1 / 10
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(-(smoothed * log_probability).sum(1).mean().item(), rel=1e-6)


@pytest.mark.parametrize("own", ["last.pth.tar", "model_best.pth.tar"])
@pytest.mark.parametrize("link", [None, "symlink_to", "hardlink_to"])
def test_a_teacher_that_the_run_would_overwrite_is_refused(started, tmp_path, own, link):
    run = started("--kd-model-name resnet18", temperature=1.0)
    run.directory.mkdir(parents=True)
    file = run.directory / own
    file.write_bytes(b"the teacher")
    run.teacher.path = tmp_path / "teacher.pth.tar" if link else file
    if link:
        getattr(run.teacher.path, link)(file)
    with pytest.raises(InputError) as refused:
        check_directory(run)
    valid = f"is {file}, which this student would replace; name another --output"
    assert str(refused.value) == f"--kd-checkpoint: {run.teacher.path} ({valid})"


def test_a_run_that_resumes_with_another_teacher_is_refused_with_both_fingerprints(started):
    run = started("--kd-model-name resnet18 --resume", temperature=1.0)
    run.directory.mkdir(parents=True)
    write_run(run.record, run.directory)
    assert check_directory(run) == 0
    before, run.teacher.fingerprint = run.teacher.fingerprint, "0123456789abcdef"
    with pytest.raises(InputError) as refused:
        check_directory(run)
    found = f"its weights were {before[:12]}, and are 0123456789ab (SHA-256)"
    assert str(refused.value).endswith(f"(holds another run: the teacher differs, {found})")


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("", "T3"),
        ("--kd-loss decoupled", "T3_decoupled"),
        ("--kd-loss decoupled --kd-nckd-weight 2 --kd-gradient-scale match", "T3_decoupled2_match"),
        ("--kd-gradient-scale none", "T3_none"),
        ("--kd-temperature-schedule cosine --kd-final-temperature 1", "T3to1cosine"),
    ],
)
def test_a_students_directory_is_named_for_what_differs_from_the_papers_loss(words, name, tmp_path):
    loss = configured(tmp_path, STUDENT, "--kd-temperature 3", words).distillation
    assert loss.name == name


@pytest.mark.parametrize(
    ("words", "temperature", "ratio"),
    [
        ("--kd-loss mse", 1.0, None),
        ("--kd-loss decoupled --kd-gradient-scale match", 3.0, 1.0),
        ("--kd-temperature-schedule linear --kd-final-temperature 1", 3.0, None),
        ("", 1.0, 1.0),
    ],
)
def test_a_student_takes_a_step_by_each_loss_and_logs_the_size_of_its_gradient(started, words, temperature, ratio):
    run = started(f"{STUDENT} --epochs 3 {words}", temperature)
    assert run.record.configuration["kd_loss_type"] == run.config.distillation.kd_loss
    images, target = torch.randn(8, 1, 32, 32, generator=torch.Generator().manual_seed(1)), torch.arange(8)
    used = []
    for epoch in range(3):
        run.begin_epoch(epoch)
        used.append(run.task.settings["temperature"])
        run.step(images, target, run.teacher(images), epoch, 0)
        means = run.end_epoch()
        found = means["train_kd_gradient_ratio"]
        assert found == pytest.approx(ratio) if ratio else found > 0
        assert not any("square" in name for name in means)
    assert used == ([3.0, 2.0, 1.0] if "schedule" in words else [temperature] * 3)


def test_a_run_of_a_version_with_one_loss_is_resumed_with_the_papers_and_with_no_other(started):
    run, other = started(STUDENT, 1.0), started(f"{STUDENT} --kd-loss mse", 1.0)
    host = {name: value for name, value in run.record.configuration["host"].items() if name not in ADDED_OPTIONS}
    made = {
        "configuration": {"host": host},
        "data": {"fingerprint": RECORD["fingerprint"]},
        "teacher": {"fingerprint": run.teacher.fingerprint},
    }
    assert another_run(run, made) is None
    assert another_run(other, made) == "kd-loss differs"
    assert deciding_settings(run.record.configuration["host"]) == deciding_settings(host)
    assert "kd_loss" in deciding_settings(other.record.configuration["host"])
