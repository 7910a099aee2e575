"""One update by two processes is the update of one process: of the same two batches, or of one that holds both."""

import pytest
import torch
from helpers.commands import run
from helpers.vision_commands import state_of, train_images

pytestmark = pytest.mark.slow
# One update of plain SGD from the same weights: the change of the weights is the gradient. No dropout: its random
# numbers are each process's own.
STEP = "--epochs 1 --opt momentum --momentum 0 --weight-decay 0 --lr 0.1 --sched-on-updates --kd-temperature 3 --seed 5"
BY_IMAGE = "--reprob 0"  # random erasing goes by the batch, everything else by the image
TWO = "torchrun --standalone --nproc-per-node 2 -m"


@pytest.fixture(scope="module")
def sixty_four_images(tmp_path_factory):
    """As many images as make one update: 2 batches of 32, or one of 64."""
    dest = tmp_path_factory.mktemp("few") / "fashion"
    run("python data_prep/fashion_mnist.py --max-images 70 --dest", dest)
    return dest


@pytest.fixture
def update(sixty_four_images, image_teachers, tmp_path):
    """The run's checkpoint after one update."""

    def update(name: str, model: str, batch: int, *options, **keywords) -> dict:
        output = tmp_path / name
        arguments = ("--model", model, "--kd-checkpoint", image_teachers[1], STEP, "--batch-size", batch, *options)
        train_images(sixty_four_images, output, *arguments, **keywords)
        (checkpoint,) = output.rglob("last.pth.tar")
        return state_of(checkpoint)

    return update


def weights(state: dict) -> torch.Tensor:
    """The trained weights in one vector; running statistics of batches are no part of a gradient."""
    kept = [
        tensor for name, tensor in state["state_dict"].items() if "running" not in name and "num_batches" not in name
    ]
    return torch.cat([tensor.double().flatten() for tensor in kept])


def initial(model: str) -> torch.Tensor:
    """The weights before the update."""
    import timm

    from lskd_vision.randomness import RandomStream

    with RandomStream(torch.device("cpu"), 5):
        return weights({"state_dict": timm.create_model(model, num_classes=10, in_chans=1).state_dict()})


def relative_difference(one: dict, other: dict, model: str) -> float:
    """Of two updates, by the norm of their difference over the norm of the first."""
    change = weights(one) - initial(model)
    assert change.norm() > 0
    return ((weights(other) - weights(one)).norm() / change.norm()).item()


def metrics(state: dict, prefix: str = "train_") -> dict:
    return {key: value for key, value in state["lskd"]["history"][0].items() if key.startswith(prefix)}


@pytest.mark.parametrize("model", ["test_resnet", "test_efficientnet_ln"])
def test_two_processes_are_one_that_accumulates(update, model):
    accumulated = update("accumulated", model, 32, "--grad-accum-steps 2")
    together = update("together", model, 32, launcher=TWO)
    assert accumulated["lskd"]["history"][0]["updates"] == together["lskd"]["history"][0]["updates"] == 1
    assert relative_difference(accumulated, together, model) < 1e-4
    assert metrics(together) == pytest.approx(metrics(accumulated), rel=1e-5)
    if model == "test_efficientnet_ln":  # statistics of batches are averaged over processes, and move twice in one
        found = metrics(together, "valid_")
        assert found == pytest.approx(metrics(accumulated, "valid_"), rel=1e-4)
        assert found["valid_teacher_kl"] > 0
        assert 0 <= found["valid_teacher_agreement"] <= 100


def test_two_processes_match_the_gradient_of_one_big_batch(update):
    """And accumulated batches are each matched by itself."""
    model, match = "test_efficientnet_ln", f"{BY_IMAGE} --kd-gradient-scale match"
    whole = update("whole", model, 64, match)
    together = update("together", model, 32, match, launcher=TWO)
    assert relative_difference(whole, together, model) < 1e-4
    assert metrics(together) == pytest.approx(metrics(whole), rel=1e-5)
    assert metrics(whole)["train_kd_gradient_ratio"] == pytest.approx(1)
    accumulated = update("accumulated", model, 32, match, "--grad-accum-steps 2")
    assert relative_difference(whole, accumulated, model) > 1e-3


def test_a_model_with_layer_norm_alone_takes_the_same_step_in_one_big_batch(update):
    accumulated = update("accumulated", "test_efficientnet_ln", 32, "--grad-accum-steps 2", BY_IMAGE)
    whole = update("whole", "test_efficientnet_ln", 64, BY_IMAGE)
    assert relative_difference(accumulated, whole, "test_efficientnet_ln") < 1e-4
    assert metrics(whole) == pytest.approx(metrics(accumulated), rel=1e-5)


def test_batch_norm_sees_other_batches_in_one_big_one(update):
    accumulated = update("accumulated", "test_resnet", 32, "--grad-accum-steps 2", BY_IMAGE)
    whole = update("whole", "test_resnet", 64, BY_IMAGE)
    assert relative_difference(accumulated, whole, "test_resnet") > 1e-3
