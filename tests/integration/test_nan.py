"""A non-finite loss ends the training with status 1, the batch's ids, and a file to look at."""

import numpy as np
import pytest
import timm
import torch
from fairseq.models.transformer import TransformerDecoderBase
from helpers.image_folders import write_folders
from helpers.refusals import answer
from helpers.small_nmt import make_model, make_task, save_checkpoint

from lskd.io.tensor_files import mapped_tensors, read_about
from lskd.records.nonfinite_batch import NAME

pytestmark = pytest.mark.slow


def test_a_translation_training_says_which_sentences(data_bin, tmp_path, monkeypatch, capsys):
    task = make_task(data_bin)
    teacher = save_checkpoint(tmp_path / "teacher.pt", make_model(task), task)
    words = f"fairseq-train {data_bin} --user-dir lskd_fairseq --criterion kd --teacher-path {teacher} --temperature 2"
    words += " --arch transformer_iwslt_de_en --optimizer sgd --lr 1e30 --max-tokens 300 --cpu --num-workers 0"
    words += f" --encoder-layers 1 --decoder-layers 1 --save-dir {tmp_path / 'run'} --max-epoch 1 --dropout 0.3"
    status, complaint = answer(words.split(), monkeypatch, capsys)
    assert status == 1
    line = complaint.strip().splitlines()[-1]
    assert "error: the loss is nan on the batch of " in line
    assert "Traceback" not in complaint
    file = tmp_path / "run" / NAME
    assert f"(its logits: {file})" in line
    about, tensors = read_about(file), mapped_tensors(file)
    assert about["settings"]["temperature"] == 2
    assert ", ".join(map(str, about["ids"][:3])) in line
    assert tensors["student_logits"].shape == tensors["teacher_logits"].shape
    assert tensors["student_logits"].shape == (len(tensors["target"]), len(task.target_dictionary))
    assert not np.isfinite(tensors["student_logits"]).all()
    assert np.isfinite(tensors["teacher_logits"]).all()
    task.load_dataset("train")
    sentences = [task.dataset("train")[number]["target"] for number in about["ids"]]
    assert sorted(torch.cat(sentences).tolist()) == sorted(tensors["target"].tolist())


def test_a_translation_training_stops_where_the_student_masks_what_its_teacher_does_not(
    data_bin, tmp_path, monkeypatch, capsys
):
    task = make_task(data_bin)
    teacher = save_checkpoint(tmp_path / "teacher.pt", make_model(task), task)
    plain = TransformerDecoderBase.output_layer

    def masked(self, features):  # in training, which a teacher never is
        column = torch.arange(len(task.target_dictionary)) == 9
        return plain(self, features).masked_fill(column & torch.tensor(self.training), -torch.inf)

    monkeypatch.setattr(TransformerDecoderBase, "output_layer", masked)
    words = f"fairseq-train {data_bin} --user-dir lskd_fairseq --criterion kd --teacher-path {teacher} --temperature 2"
    words += " --arch transformer_iwslt_de_en --optimizer sgd --lr 1e-3 --max-tokens 300 --cpu --num-workers 0"
    words += f" --encoder-layers 1 --decoder-layers 1 --save-dir {tmp_path / 'run'} --max-epoch 1"
    status, complaint = answer(words.split(), monkeypatch, capsys)
    assert status == 1
    assert "error: the loss is inf on the batch of " in complaint.strip().splitlines()[-1]
    assert np.isfinite(mapped_tensors(tmp_path / "run" / NAME)["teacher_logits"]).all()


@pytest.mark.parametrize("lr", ["1e30", "1e30 --kd-temperature 1 3"])
def test_a_training_of_images_says_which_images(lr, tmp_path, monkeypatch, capsys):
    images = write_folders(tmp_path / "images", train=20, validation=2)
    torch.manual_seed(0)
    state = timm.create_model("test_resnet", num_classes=3).state_dict()
    torch.save({"arch": "test_resnet", "state_dict": state}, tmp_path / "teacher.pth.tar")
    words = f"lskd_vision.train --data-dir {images} --output {tmp_path / 'runs'} --model test_resnet --device cpu"
    words += f" --workers 0 --epochs 3 --warmup-epochs 0 --batch-size 8 --kd-checkpoint {tmp_path / 'teacher.pth.tar'}"
    status, complaint = answer(f"{words} --lr {lr}".split(), monkeypatch, capsys)
    assert status == 1
    lines = [line for line in complaint.splitlines() if "error: " in line]
    files = sorted((tmp_path / "runs").rglob(NAME))
    assert len(files) == len(lines) == (2 if " 1 3" in lr else 1)
    for file, line in zip(files, sorted(lines), strict=True):
        assert f"{file.parent.name}: the loss is nan on the batch of {images}/train/" in line
        assert str(file) in line
        about, tensors = read_about(file), mapped_tensors(file)
        assert tensors["student_logits"].shape == tensors["teacher_logits"].shape == (8, 3)
        classes = sorted(path.name for path in (images / "train").iterdir())
        assert [classes.index(name.split("/")[-2]) for name in about["ids"]] == tensors["target"].tolist()
        assert not list(file.parent.glob("*.tar"))
