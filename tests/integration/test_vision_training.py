"""``lskd_vision.train`` as a user runs it: teachers, students alone and in company, interrupted and resumed."""

import json
import re
import signal
import time

import pytest
import torch
from helpers.commands import last_line, start
from helpers.vision_commands import DROPOUT, SMALL_IMAGES, printed, same_weights, state_of, train_images

from lskd.measure.fidelity import fidelity
from lskd_vision import validate

pytestmark = pytest.mark.slow
STUDENT = "--model test_resnet --kd-checkpoint"


@pytest.fixture(scope="module")
def company(images, image_teachers, tmp_path_factory):
    """Two teachers, two temperatures, two seeds: eight students of one process."""
    output = tmp_path_factory.mktemp("company")
    options = (STUDENT, *image_teachers, "--kd-temperature 1 3 --seed 1 2 --epochs 2", DROPOUT)
    result = train_images(images, output, *options)
    return output / "fashion_mnist", result


def test_every_combination_leaves_its_own_run_directory(company):
    directory, result = company
    names = {f"test_resnet_a{a}_T{t}_s{s}" for a in ("0", "0.1") for t in (1, 3) for s in (1, 2)}
    assert {path.name for path in directory.iterdir()} == names
    for name in names:
        assert {path.name for path in (directory / name).iterdir()} == {
            "last.pth.tar",
            "model_best.pth.tar",
            "run.json",
            "summary.csv",
            "train.log",
        }
        assert re.search(rf"{re.escape(name)} +\d+\.\d\d % +\d+\.\d\d %", result.stdout)


def test_a_training_tells_what_it_trains_and_how_each_model_does_after_each_epoch(company, image_teachers):
    directory, result = company
    said = result.stdout.splitlines()
    assert said[0] == f"runs     8 of 2 epochs each on fashion_mnist; in {directory}"
    assert re.fullmatch(r"model    test_resnet: \d\.\d\d M parameters, 8 runs", said[1])
    for line, path, alpha in zip(said[2:4], image_teachers, ("0", "0.1"), strict=True):
        assert line.startswith(f"teacher  {path} (test_resnet, ")
        assert f": α = {alpha} (the teacher's configuration); validation top-1 " in line
    for run in directory.iterdir():
        record = json.loads((run / "run.json").read_text())
        told = [line for line in said if line.startswith(f"{run.name} ") and " epoch " in line]
        assert len(told) == len(record["history"]) == 2
        for line, row in zip(told, record["history"], strict=True):
            assert f"  epoch {row['epoch']}/2  loss {row['train_loss']:#.4g} " in line
            assert f"  top-1 {row['valid_top1']:6.2f} %  top-5 {row['valid_top5']:6.2f} %  lr {row['lr']:.3g} " in line
            assert re.search(r" [\d.]+ images/s  \d\d:\d\d left$", line)
        log = (run / "train.log").read_text(encoding="utf-8").splitlines()
        assert log[0].startswith("data     fashion_mnist: 320 images in train, ")
        assert said[1].startswith(log[1])
        assert log[2] in said[2:4]
        assert [line.split() for line in log[3:]] == [line.split() for line in told]  # but for the columns' width


def test_a_student_is_the_same_to_the_bit_alone_and_in_company(company, images, image_teachers, tmp_path):
    directory, _ = company
    options = (STUDENT, image_teachers[1], "--kd-temperature 3 --seed 2 --epochs 2 --workers 1", DROPOUT)
    train_images(images, tmp_path, *options)
    alone = tmp_path / "fashion_mnist" / "test_resnet_a0.1_T3_s2"
    for name in ("last.pth.tar", "model_best.pth.tar"):
        assert same_weights(alone / name, directory / alone.name / name)
    assert not same_weights(alone / "last.pth.tar", directory / "test_resnet_a0.1_T3_s1" / "last.pth.tar")
    records = [
        json.loads((place / alone.name / "run.json").read_text()) for place in (tmp_path / "fashion_mnist", directory)
    ]
    for record in records:
        for row in record["history"]:
            del row["time"], row["seconds"], row["together"]
        del record["configuration"]["host"]["workers"], record["configuration"]["host"]["output"]
    for key in ("configuration", "seed", "data", "teacher", "history", "figures", "warnings"):
        assert records[0][key] == records[1][key], key


def test_students_in_groups_are_the_same_to_the_bit(company, images, image_teachers, tmp_path):
    directory, _ = company
    options = (STUDENT, *image_teachers, "--kd-temperature 1 --seed 1 --epochs 2 --group-size 1", DROPOUT)
    train_images(images, tmp_path, *options)
    for alpha in ("0", "0.1"):
        name = f"test_resnet_a{alpha}_T1_s1"
        assert same_weights(tmp_path / "fashion_mnist" / name / "last.pth.tar", directory / name / "last.pth.tar")


def test_the_record_says_how_a_student_was_made(company, images, image_teachers):
    directory, _ = company
    record = json.loads((directory / "test_resnet_a0.1_T3_s2" / "run.json").read_text())
    made = record["configuration"]
    words = ("temperature", "student_temperature", "kd_weight", "label_smoothing", "teacher_topk")
    assert [made[word] for word in words] == [3, 3, 1, 0, 0]
    words = ("kd_loss_type", "nckd_weight", "kd_gradient_scale", "temperature_schedule", "final_temperature")
    assert [made[word] for word in words] == ["kl", None, "t2", "constant", None]
    assert record["history"][0]["train_kd_gradient_ratio"] > 0
    assert record["seed"] == 2
    assert record["teacher"]["label_smoothing"] == {"alpha": 0.1, "source": "the teacher's configuration"}
    assert record["teacher"]["paths"] == [str(image_teachers[1])]
    assert 0 <= record["teacher"]["valid"]["top1"] <= 100
    assert "undo what a smoothed teacher gains" in record["warnings"][0]
    assert json.loads((directory / "test_resnet_a0.1_T1_s2" / "run.json").read_text())["warnings"] == []
    assert record["data"]["classes"][0] == "T-shirt/top"
    assert [row["epoch"] for row in record["history"]] == [1, 2]
    assert {"top1", "top5", "nll_loss", "classwise"} <= set(record["figures"]["valid"]["last.pth.tar"])


def logits_on_validation(checkpoint, images):
    """Logits (N, K), float64, and labels."""
    words = [str(checkpoint), "--data-dir", str(images), "--device", "cpu", "--workers", "0"]
    loaded = validate.load(validate.parser().parse_args(words))
    batches = [*validate.load_images(loaded, "validation")[2].epoch(0)]
    with torch.no_grad():
        logits = torch.cat([loaded.model(batch) for batch, _ in batches])
    return logits.double().numpy(), torch.cat([labels for _, labels in batches]).numpy()


def test_the_history_has_each_students_fidelity_to_its_teacher_on_the_validation_images(
    company, images, image_teachers
):
    directory, _ = company
    for alpha, teacher in zip(("0", "0.1"), image_teachers, strict=True):
        run_directory = directory / f"test_resnet_a{alpha}_T3_s1"
        student, labels = logits_on_validation(run_directory / "last.pth.tar", images)
        expected = fidelity(student, logits_on_validation(teacher, images)[0], labels)
        record = json.loads((run_directory / "run.json").read_text())
        row, found = record["history"][-1], record["figures"]["valid"]["last.pth.tar"]
        assert row["valid_teacher_agreement"] == pytest.approx(100 * expected.top1_agreement, abs=100 / len(labels))
        assert row["valid_teacher_kl"] == pytest.approx(expected.mean_kl, rel=1e-4)
        assert [found[name] for name in ("teacher_agreement", "teacher_kl")] == [
            row[f"valid_{name}"] for name in ("teacher_agreement", "teacher_kl")
        ]
    assert "valid_teacher_kl" not in (image_teachers[0].parent / "summary.csv").read_text()


def test_a_checkpoint_is_a_plain_timm_checkpoint_without_the_teacher(company):
    import timm

    directory, _ = company
    path = directory / "test_resnet_a0_T1_s1" / "last.pth.tar"
    model = timm.create_model("test_resnet", num_classes=10, in_chans=1, checkpoint_path=str(path))
    assert state_of(path)["state_dict"].keys() == model.state_dict().keys()


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM], ids=lambda ending: ending.name)
def test_an_interrupted_training_says_how_to_go_on(ending, images, tmp_path):
    process = start(
        "python -m lskd_vision.train",
        *(SMALL_IMAGES, "--data-dir", images, "--output", tmp_path, "--model test_resnet --epochs 500"),
        # What a shell starts in the background ignores Ctrl-C, and SIGTERM must end that too.
        interrupts=None if ending == signal.SIGINT else signal.SIG_IGN,
    )
    while not list(tmp_path.rglob("last.pth.tar")) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(ending)
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 130
    assert complaint.splitlines()[-1] == "lskd_vision.train: interrupted; the same command with --resume resumes"
    assert "Traceback" not in complaint


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("--epochs 3 --resume", "holds another run: epochs differs"),
        ("--epochs 2", "holds this run already; --resume resumes it"),
    ],
)
def test_a_run_in_the_directory_is_left_alone(options, reason, company, images, image_teachers):
    directory, _ = company
    run_file = directory / "test_resnet_a0_T1_s1" / "run.json"
    before = run_file.read_bytes()
    words = (STUDENT, image_teachers[0], "--seed 1", options, DROPOUT)
    refused = train_images(images, directory.parent, *words, status=2)
    assert last_line(refused).endswith(f"({reason})")
    assert run_file.read_bytes() == before


@pytest.mark.parametrize(
    "options",
    [
        "--amp --amp-dtype bfloat16 --channels-last",
        "--amp --amp-dtype float16 --clip-grad 1 --grad-accum-steps 2 --kd-loss decoupled --kd-gradient-scale match",
        "--torchcompile aot_eager --sched-on-updates --model-ema --log-tensorboard",
        "--kd-distill-type overhaul --kd-batch-statistics --task-loss-weight 0.3 --torchcompile aot_eager --model-ema",
        "--model test_resnet test_efficientnet --kd-student-temperature 1 --aa rand-m5 --color-jitter 0.2",
    ],
    ids=lambda options: options.split()[1].lstrip("-"),
)
def test_students_train_with(options, images, image_teachers, tmp_path):
    result = train_images(images, tmp_path, STUDENT, image_teachers[1], options, "--epochs 1 --kd-temperature 2")
    records = [json.loads(path.read_text()) for path in tmp_path.rglob("run.json")]
    rows = re.findall(r"^\S+_s42 +\d+\.\d\d % +\d+\.\d\d %( \(EMA\))?$", result.stdout, re.MULTILINE)  # the table
    assert {bool(ema) for ema in rows} == {"ema" in options}
    assert len(records) == len(rows) == 1 + ("efficientnet" in options)
    for record in records:
        row = record["history"][0]
        assert row["train_kd_loss"] > 0
        assert row["train_kd_gradient_ratio"] == pytest.approx(1) if "match" in options else True
        assert row["valid_nll_loss"] > 0
        assert row["valid_teacher_kl"] > 0
        assert ("valid_teacher_kl_ema" in row) == ("ema" in options)
    if "tensorboard" in options:
        assert list(tmp_path.rglob("events.out.tfevents*"))
    if "overhaul" in options:
        assert records[0]["history"][0]["train_feature_loss"] > 0
        (path,) = tmp_path.rglob("last.pth.tar")
        assert "connectors" in state_of(path)["task_state"]
        assert not any("connector" in name for name in state_of(path)["state_dict"])


def test_the_teacher_of_a_student_may_itself_be_a_student(company, images, tmp_path):
    directory, _ = company
    result = train_images(
        images,
        tmp_path,
        STUDENT,
        directory / "test_resnet_a0.1_T1_s1" / "last.pth.tar",
        "--epochs 1 --kd-temperature 2",
    )
    (record,) = tmp_path.rglob("run.json")
    assert record.parent.name == "test_resnet_aunknown_T2_s42", printed(result)
    known = json.loads(record.read_text())["teacher"]["label_smoothing"]
    assert known["alpha"] is None
    assert known["estimate"]["verdict"] in known["source"].partition("trained with distillation; by its outputs: ")[2]
    assert state_of(record.with_name("last.pth.tar"))["lskd"]["teacher"]["label_smoothing"] == known
