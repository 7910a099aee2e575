"""Representation files as a user makes them, of models that were really trained, on both sides."""

import json

import numpy as np
import pytest
import timm
import torch
import torchvision
from helpers.commands import last_line, run, train
from helpers.vision_commands import state_of, train_images

from lskd.measure.representations import read_representations

pytestmark = pytest.mark.slow
IMAGES = "--dataset torch/fashion_mnist --device cpu --workers 0"


@pytest.fixture(scope="module")
def image_student(images, image_teachers, tmp_path_factory):
    """The checkpoint of a student of the smoothed teacher, after an epoch at T = 2."""
    output = tmp_path_factory.mktemp("student")
    options = ("--model test_resnet --kd-checkpoint", image_teachers[1], "--kd-temperature 2 --epochs 1 --seed 4")
    train_images(images, output, *options, "--mean 0.3 --std 0.4")
    return output / "fashion_mnist" / "test_resnet_a0.1_T2_s4" / "last.pth.tar"


@pytest.fixture(scope="module")
def nmt_student(data_bin, teacher, tmp_path_factory):
    """The directory of a translation student, distilled for an epoch at T = 3."""
    save_dir = tmp_path_factory.mktemp("nmt-student")
    options = "--criterion kd --temperature 3 --max-epoch 1 --no-epoch-checkpoints --seed 6 --teacher-path"
    train(data_bin, save_dir, options, teacher)
    return save_dir


def test_a_students_images_are_recorded_as_it_was_trained_on_them(images, image_student):
    """Nothing is said of channels, size and normalisation: the checkpoint knows."""
    said = run(
        "python -m lskd_vision.representations", image_student, "--data-dir", images, IMAGES, "--split train validation"
    ).stdout
    state = state_of(image_student)
    model = timm.create_model("test_resnet", num_classes=10, in_chans=1)
    model.load_state_dict(state["state_dict"])
    record = json.loads((image_student.parent / "run.json").read_text())
    for split in ("train", "validation"):
        data = torchvision.datasets.FashionMNIST(images, train=split == "train")
        pixels = (data.data[:, None].double() / 255 - 0.3) / 0.4
        with torch.no_grad():
            logits = model.double().eval()(pixels).numpy()
        path = image_student.with_name(f"last.{split}.representations.safetensors")
        found = read_representations(path)
        assert f"{path}: {len(data)} samples" in said
        assert found.labels.tolist() == data.targets.tolist()
        assert found.class_names == data.classes
        np.testing.assert_allclose(found.logits(), logits, atol=1e-4)
        about = found.provenance
        settings = ("temperature", "student_temperature", "kd_weight", "label_smoothing", "teacher_topk")
        settings += ("kd_loss_type", "nckd_weight", "kd_gradient_scale", "temperature_schedule", "final_temperature")
        assert about["configuration"] == {name: record["configuration"][name] for name in settings}
        assert (about["seed"], about["configuration"]["temperature"]) == (4, 2.0)
        assert about["teacher"]["fingerprint"] == record["teacher"]["fingerprint"]
        assert about["teacher"]["label_smoothing"]["alpha"] == 0.1
        assert about["data"]["preparation"]["mean"] == [0.3]
    metrics = record["figures"]["valid"]["last.pth.tar"]  # of the training's own validation
    assert 100 * found.correct.sum(1) / len(data) == pytest.approx([metrics["top1"], metrics["top5"]])


def test_a_smoothed_image_teacher_has_its_alpha_and_its_fingerprint_in_its_students(images, image_teachers, tmp_path):
    made = tmp_path / "teacher.representations.safetensors"
    run("python -m lskd_vision.representations", image_teachers[1], "--data-dir", images, IMAGES, "--output", made)
    about = read_representations(made).provenance
    assert (about["configuration"]["label_smoothing"], about["configuration"]["kd_weight"]) == (0.1, 0)
    assert about["teacher"] is None
    assert not list(image_teachers[1].parent.glob("*.safetensors"))


def test_a_file_that_is_there_is_made_anew_and_a_refusal_leaves_it(images, image_student, tmp_path):
    made = tmp_path / "some.representations.safetensors"
    command = ("python -m lskd_vision.representations", image_student, "--data-dir", images, IMAGES, "--output", made)
    run(*command, "--keep-classes Bag Coat")
    before = read_representations(made)
    assert set(before.labels.tolist()) == {4, 8}
    refused = run(*command, "--keep-classes Sandals", status=2)
    assert "--keep-classes: 'Sandals' (must be a class, such as Sandal" in last_line(refused)
    assert "Traceback" not in refused.stderr
    assert read_representations(made).labels.tolist() == before.labels.tolist()
    run(*command, "--keep-per-class 2 --dtype float16 --temperatures")
    after = read_representations(made)
    assert np.bincount(after.labels).tolist() == [2] * 10
    assert after.entropy.shape == (0, 3)


def test_every_token_of_a_translation_student_is_recorded(data_bin, teacher, nmt_student, tmp_path):
    path = nmt_student / "checkpoint_best.pt"
    command = ("python -m lskd_fairseq.representations --cpu --data", data_bin)
    run(*command, "--path", path, "--split train valid test")
    names = [f"checkpoint_best.{split}.representations.safetensors" for split in ("train", "validation", "test")]
    assert {file.name for file in nmt_student.glob("*.safetensors")} == set(names)
    raw = data_bin / "raw"
    lines = {split: len((raw / f"{split}.de").read_text("utf-8").splitlines()) for split in ("train", "valid", "test")}
    lines["validation"] = lines.pop("valid")
    for name in names:
        found = read_representations(nmt_student / name)
        split = found.provenance["split"]
        end = found.class_names.index("</s>")
        assert found.moments.counts[end] == lines[split]  # every sentence is there
        assert found.provenance["samples"] == found.moments.counts.sum()
    about = found.provenance
    record = json.loads((nmt_student / "run.json").read_text())
    assert about["configuration"]["temperature"] == record["configuration"]["temperature"] == 3
    assert (about["seed"], about["data"]["fingerprint"]) == (6, record["data"]["fingerprint"])
    assert about["teacher"]["paths"] == [str(teacher)]

    other = tmp_path / "teacher.representations.safetensors"
    run(*command, "--path", teacher, "--split test --max-tokens 100 --output", other)
    theirs = read_representations(other)
    assert theirs.labels.tolist() == found.labels.tolist()
    assert theirs.index.tolist() == found.index.tolist()
    assert theirs.provenance["configuration"]["label_smoothing"] == pytest.approx(0.1, rel=0.01)
    # fairseq's own loss of the checkpoint, in bits, from the file's logits of all tokens.
    everything = tmp_path / "all.representations.safetensors"
    run(*command, "--path", path, "--least 1 --keep-per-class 100000 --output", everything)
    found = read_representations(everything)
    logits = torch.from_numpy(found.logits())
    nll = torch.nn.functional.cross_entropy(logits, torch.from_numpy(found.labels)).item() / np.log(2)
    assert nll == pytest.approx(record["figures"]["valid"]["checkpoint_last.pt"]["nll_loss"], abs=2e-3)
