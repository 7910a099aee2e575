"""Several teachers in the place of one, and several of one α in a command."""

from pathlib import Path

import pytest
import torch
from test_vision_task import TARGET, images, make, relative_error

from lskd.io.errors import InputError
from lskd.records.fingerprints import joint_fingerprint
from lskd_vision.ensemble import Ensemble
from lskd_vision.task import DistillationTask
from lskd_vision.teacher import Teacher
from lskd_vision.teachers import member_paths


def members(**about):
    return [Teacher(make(seed=seed), f"teacher {seed}", path=Path(f"{seed}.pth.tar"), **about) for seed in (1, 2, 3)]


@pytest.mark.parametrize("temperature", [1.0, 3.0, 64.0])
@pytest.mark.parametrize("scale", ["t2", "match"])
def test_a_student_of_an_ensemble_learns_the_mean_of_the_tempered_probabilities(temperature, scale):
    ensemble, student = Ensemble(members()), make(seed=4)
    task = DistillationTask(student, ensemble, temperature=temperature, gradient_scale=scale)
    task.train()
    result = task(images(), TARGET)
    logits = [each.logits(images()).double() for each in ensemble.members]
    mean = torch.stack([torch.softmax(each / temperature, 1) for each in logits]).mean(0)
    log_student = torch.log_softmax(result["output"].detach().double() / temperature, 1)
    expected = temperature**2 * (mean * (mean.log() - log_student)).sum(1).mean()
    assert result["kd_loss"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_its_score_is_of_the_mean_probability_at_1():
    ensemble = Ensemble(members())
    found = torch.softmax(ensemble.logits(images()).double(), 1)
    expected = torch.stack([torch.softmax(each.logits(images()).double(), 1) for each in ensemble.members]).mean(0)
    assert relative_error(found, expected) < 1e-6


def test_its_record_names_every_teacher_and_has_the_smoothing_of_the_most_smoothed():
    several = [*members(label_smoothing=0.0), Teacher(make(seed=5), "other", label_smoothing=0.1, source="said so")]
    record = Ensemble(several).record()
    assert [Path(path).name for path in record["paths"]] == ["1.pth.tar", "2.pth.tar", "3.pth.tar"]
    assert record["model"] == "teacher 1+teacher 2+teacher 3+other"
    assert Ensemble([Teacher(make(seed=seed), "net") for seed in (1, 2)]).name == "2×net"
    assert record["fingerprint"] == joint_fingerprint([each.fingerprint for each in several])
    assert record["label_smoothing"] == {"alpha": 0.1, "source": "said so"}


def test_paths_are_joined_as_in_translation_and_a_file_with_such_a_name_is_one_file(tmp_path):
    assert member_paths(None) == []
    assert member_paths(Path("a:b/c")) == [Path("a"), Path("b/c")]
    odd = tmp_path / "t:1.pth"
    odd.touch()
    assert member_paths(odd) == [odd]
    other = tmp_path / "run:2:x" / "last.pth.tar"
    other.parent.mkdir()
    other.touch()
    for members in ([odd, other], [other, Path("b"), odd], [Path("b"), other]):
        assert member_paths(Path(":".join(map(str, members)))) == members
    with pytest.raises(InputError, match=r"must be a path, or several joined by ':', none of them empty"):
        member_paths(Path("a::b"))


@pytest.mark.slow
def test_a_command_trains_students_of_two_teachers_of_one_alpha_and_of_both_together(images, image_teachers, tmp_path):
    from helpers.vision_commands import printed, train_images

    from lskd.records.runs import read_run

    train_images(images, tmp_path, "--model test_resnet --smoothing 0.1 --epochs 1 --seed 8")
    (other,) = tmp_path.rglob("last.pth.tar")
    first = image_teachers[1]
    words = ("--model test_resnet --epochs 1 --kd-temperature 3 --kd-checkpoint", first, other, f"{first}:{other}")
    train_images(images, tmp_path / "students", *words)
    runs = {path.name: read_run(path) for path in (tmp_path / "students" / "fashion_mnist").iterdir()}
    assert len(runs) == 3
    for name, run in runs.items():
        assert name == f"test_resnet_a0.1_T3_t{run.teacher['fingerprint'][:6]}_s42"
    together = [run for run in runs.values() if len(run.teacher["paths"]) == 2]
    assert len(together) == 1
    of_one = [run.teacher["fingerprint"] for run in runs.values() if len(run.teacher["paths"]) == 1]
    assert together[0].teacher["fingerprint"] in (joint_fingerprint(of_one), joint_fingerprint(of_one[::-1]))
    assert all(0 < run.history[0]["valid_teacher_agreement"] <= 100 for run in runs.values())
    said = printed(train_images(images, tmp_path / "students", *words, "--resume"))
    assert said.count("test_resnet_a0.1_T3_t") == 3


@pytest.mark.slow
def test_a_student_stays_where_it_is_when_a_later_command_has_another_teacher_too(images, image_teachers, tmp_path):
    from helpers.vision_commands import train_images

    train_images(images, tmp_path, "--model test_resnet --smoothing 0.1 --epochs 1 --seed 8")
    (other,) = tmp_path.rglob("last.pth.tar")
    words = ("--model test_resnet --epochs 1 --resume --kd-checkpoint", image_teachers[1])
    train_images(images, tmp_path / "students", *words)
    (first,) = (tmp_path / "students").rglob("run.json")
    before = first.read_bytes()
    train_images(images, tmp_path / "students", *words, other)
    names = sorted(path.parent.name for path in (tmp_path / "students").rglob("run.json"))
    assert len(names) == 2
    assert names[0] == "test_resnet_a0.1_T1_s42"
    assert names[1].startswith("test_resnet_a0.1_T1_t")
    assert first.read_bytes() == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "A:B --kd-loss wttm",
            "--kd-loss: wttm (must be another: it weighs images by one teacher, not by an ensemble)",
        ),
        ("X:Y", "--kd-checkpoint: X:Y (must not repeat an ensemble, in another order either)"),
        ("A:A", "--kd-checkpoint: A (must not be repeated in an ensemble)"),
        ("A:B --kd-distill-type overhaul", "--kd-distill-type: overhaul (must be logit or token"),
        ("A:B --kd-distill-type feature --task-loss-weight .5", "--kd-distill-type: feature (must be logit or token"),
        (
            "A:B --kd-distill-type token --kd-token-distill-type hard --task-loss-weight .5",
            "--kd-token-distill-type: hard (must be soft",
        ),
    ],
)
def test_what_has_no_mean_is_refused(words, said, tmp_path):
    from lskd_vision import options
    from lskd_vision.command_line import training_configs
    from lskd_vision.teachers import check_ensemble

    line = f"--data-dir {tmp_path} --kd-checkpoint {words}".split()
    (config,) = training_configs(options.parser().parse_args(line))
    with pytest.raises(InputError) as error:
        check_ensemble(member_paths(config.distillation.kd_checkpoint), config.distillation, [Path("Y:X")])
    assert said in str(error.value)
