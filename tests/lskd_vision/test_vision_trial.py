"""What cannot be trained is refused before anything is."""

from dataclasses import replace

import pytest
import timm
import torch
from test_vision_run import RECORD, configured
from timm.data import resolve_data_config
from torch import nn

from lskd.io.errors import InputError
from lskd_vision.config import Processes
from lskd_vision.models import check_input
from lskd_vision.run import TrainingRun
from lskd_vision.teacher import Teacher
from lskd_vision.trial import check_training, try_out


def run_of(tmp_path, model, words="", size=(1, 32, 32), teacher=None, record=RECORD):
    config = resolve_data_config({"input_size": size, "mean": (0.5,), "std": (0.5,)})
    if teacher:
        words += " --kd-model-name resnet18"
    return TrainingRun(configured(tmp_path, words, f"--model {model}"), teacher, "letters", record, config)


def refusal(*runs) -> str:
    with pytest.raises(InputError) as error:
        try_out(runs)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_models_are_tried_without_a_trace(tmp_path):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    run = run_of(tmp_path, "test_resnet", "--drop 0.5")
    try_out([run, run_of(tmp_path, "test_efficientnet")])
    assert torch.equal(torch.get_rng_state(), before)
    assert not hasattr(run, "task")
    assert not run.directory.exists()


def test_the_second_of_two_models_is_tried_too(tmp_path):
    first = run_of(tmp_path, "test_resnet", size=(1, 28, 28))
    second = run_of(tmp_path, "test_vit", "--img-size 28", size=(1, 28, 28))
    expected = "--model: test_vit (cannot take images of 1x28x28, see --img-size: must be of whole patches of 16x16)"
    assert refusal(first, second) == expected


def test_one_image_a_batch_is_refused_where_a_batch_norm_would_see_one_value(tmp_path):
    message = refusal(run_of(tmp_path, "test_resnet", "--batch-size 1"))
    assert message.startswith(
        "--batch-size: 1 (must be at least 2 for test_resnet and images of 1x32x32: Expected more"
    )
    try_out([run_of(tmp_path, "test_resnet", "--batch-size 2")])
    try_out([run_of(tmp_path, "test_resnet", "--batch-size 1", size=(1, 96, 96))])  # nine values
    try_out([run_of(tmp_path, "test_vit", "--batch-size 1")])


def test_batch_norm_over_all_processes_sees_the_images_of_all_of_them(tmp_path):
    run = run_of(tmp_path, "test_resnet", "--batch-size 1 --sync-bn")
    run.config = replace(run.config, processes=Processes(distributed=True, world_size=2))
    try_out([run])


def test_initial_weights_that_do_not_fit_the_second_model_are_refused(tmp_path):
    weights = timm.create_model("test_resnet", num_classes=10, in_chans=1).state_dict()
    torch.save({"state_dict": weights}, tmp_path / "c.pth")
    words = f"--initial-checkpoint {tmp_path / 'c.pth'}"
    try_out([run_of(tmp_path, "test_resnet", words)])
    message = refusal(*(run_of(tmp_path, model, words) for model in ("test_resnet", "test_efficientnet")))
    assert message.startswith(f"--initial-checkpoint: {tmp_path / 'c.pth'} has ")


def test_the_order_of_classes_of_initial_weights_matters_where_their_head_is_kept(tmp_path):
    names = list("bacdefghij")
    for classes in (names, names[:9]):
        model = timm.create_model("test_resnet", num_classes=len(classes), in_chans=1)
        torch.save({"state_dict": model.state_dict(), "classes": classes}, tmp_path / f"{len(classes)}.pth")
    message = refusal(run_of(tmp_path, "test_resnet", f"--initial-checkpoint {tmp_path / '10.pth'}"))
    assert message == f"--initial-checkpoint: {tmp_path / '10.pth'} (has 'b' as class 0, the data have 'a')"
    try_out([run_of(tmp_path, "test_resnet", f"--initial-checkpoint {tmp_path / '9.pth'}")])


def test_initial_weights_that_are_not_finite_are_refused_by_the_name_of_the_tensor(tmp_path):
    weights = timm.create_model("test_resnet", num_classes=10, in_chans=1).state_dict()
    weights["layer1.0.bn1.running_var"][3] = torch.inf
    torch.save({"state_dict": weights}, tmp_path / "c.pth")
    message = refusal(run_of(tmp_path, "test_resnet", f"--initial-checkpoint {tmp_path / 'c.pth'}"))
    assert "has 1 of 32 values of layer1.0.bn1.running_var that are not finite" in message


def test_features_that_do_not_fit_the_teachers_are_refused(tmp_path):
    teacher = Teacher(timm.create_model("test_resnet", num_classes=10, in_chans=1), features=True)
    words = "--kd-model-name test_resnet --kd-distill-type overhaul"
    try_out([run_of(tmp_path, "test_resnet", words, teacher=teacher)])
    message = refusal(run_of(tmp_path, "test_resnet", f"{words} --model-kwargs output_stride=16", teacher=teacher))
    assert message.startswith("--model: features of ")
    assert "as --kd-model-name's are" in message
    assert "--model: test_vit" in refusal(run_of(tmp_path, "test_vit", words, teacher=teacher))


def test_a_model_whose_features_are_not_as_wide_as_it_says_is_refused_as_student_and_as_teacher(tmp_path):
    model = timm.create_model("test_efficientnet", num_classes=10, in_chans=1)
    teacher = Teacher(model, "of_test", pooled_features=True)
    words = "--kd-model-name test_resnet --kd-distill-type feature --task-loss-weight 0.5"
    run = run_of(tmp_path, "test_resnet", words, teacher=teacher)
    try_out([run])
    try_out([run_of(tmp_path, "test_vit", f"{words} --batch-size 1", teacher=teacher)])
    model.head_hidden_size = 7
    message = refusal(run)
    assert message.startswith("--kd-model-name: of_test (must give 7 features an image before its last layer")


class OfManyOutputs(nn.Module):
    """Gives two heads' outputs while it is trained, as distilled transformers may."""

    num_classes = 10

    def __init__(self, pooled=True):
        super().__init__()
        self.weight, self.pooled = nn.Parameter(torch.zeros(1)), pooled

    def forward(self, images):
        logits = torch.zeros(len(images), 10) if self.pooled else torch.zeros(len(images), 10, 7, 7)
        return (logits, logits) if self.training else logits


def test_an_output_that_is_not_logits_is_refused():
    model = OfManyOutputs()
    check_input(model, (1, 8, 8), "checkpoint", "c.pth")
    with pytest.raises(InputError, match=r"its output for 2 images is tuple, not the logits \(2, 10\)"):
        check_training(model, 10, (1, 8, 8), 64, "of_many", torch.device("cpu"))
    with pytest.raises(InputError, match=r"output for 1 images is \(1, 10, 7, 7\), not the logits \(1, 10\)"):
        check_input(OfManyOutputs(pooled=False), (1, 8, 8), "checkpoint", "c.pth")
