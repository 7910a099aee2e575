"""Mixup and cutmix: what is mixed, that labels follow, and that both are a function of seed, epoch and batch alone."""

import numpy as np
import pytest
import torch
from timm.data import Mixup
from timm.loss import SoftTargetCrossEntropy

from lskd.io.errors import InputError
from lskd_vision.augmentation_config import MixingConfig
from lskd_vision.config import Processes
from lskd_vision.mixing import Mixing
from lskd_vision.task_losses import SmoothedCrossEntropy

CLASSES, SIZE = 8, (1, 16, 16)
LABELS = torch.arange(8)


def mixing(data_seed=1, processes=Processes(), **options) -> Mixing:  # noqa: B008 (frozen)
    return Mixing(MixingConfig(**options), CLASSES, SIZE, data_seed, processes)


def images() -> torch.Tensor:
    """Eight images; each pixel tells of which image it is."""
    return torch.arange(8.0).view(8, 1, 1, 1).expand(8, *SIZE).clone()


@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
def test_mixup_mixes_labels_as_it_mixes_images(mode):
    for batch in range(20):
        mixed, target = mixing(mixup=0.8, mixup_mode=mode)(images(), LABELS, 0, batch)
        assert torch.allclose(target.sum(1), torch.ones(8))
        assert torch.allclose(mixed.mean((1, 2, 3)), target @ torch.arange(8.0), atol=1e-5)
        assert torch.allclose(mixed.std((1, 2, 3)), torch.zeros(8), atol=1e-5)


@pytest.mark.parametrize("options", [{"cutmix": 1.0}, {"cutmix_minmax": (0.2, 0.8)}])
@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
def test_cutmix_gives_a_label_the_share_of_pixels_that_its_image_has(options, mode):
    for batch in range(20):
        mixed, target = mixing(**options, mixup_mode=mode)(images(), LABELS, 0, batch)
        shares = torch.stack([(mixed == image).float().mean((1, 2, 3)) for image in range(8)], 1)
        assert torch.allclose(shares, target, atol=1e-6)


def test_mixed_images_are_a_function_of_seed_epoch_and_batch_alone_and_no_other_random_numbers_change():
    made = {"mixup": 0.8, "cutmix": 1.0}
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    first = mixing(**made)(images(), LABELS, 3, 5)
    assert (np.random.get_state()[1] == before).all()
    np.random.seed(9)
    again = mixing(**made)
    again(images(), LABELS, 3, 4)
    assert all(torch.equal(*pair) for pair in zip(first, again(images(), LABELS, 3, 5), strict=True))
    others = [(2, 3, 5), (1, 4, 5), (1, 3, 6)]
    assert not any(torch.equal(first[1], mixing(seed, **made)(images(), LABELS, *at)[1]) for seed, *at in others)


def test_two_processes_mix_their_batches_as_one_process_mixes_twice_as_many():
    alone = [mixing(mixup=1.0)(images(), LABELS, 0, batch)[1] for batch in range(4)]
    ranks = [mixing(mixup=1.0, processes=Processes(True, rank, 2, rank)) for rank in (0, 1)]
    assert all(torch.equal(alone[b], ranks[b % 2](images(), LABELS, 0, b // 2)[1]) for b in range(4))


def test_from_the_epoch_on_at_which_mixing_ends_images_and_labels_are_what_they_were():
    ends = mixing(mixup=1.0, mixup_off_epoch=2)
    assert ends(images(), LABELS, 1, 0)[1].shape == (8, CLASSES)
    found, labels = ends(images(), LABELS, 2, 0)
    assert torch.equal(found, images())
    assert torch.equal(labels, LABELS)


@pytest.mark.parametrize("alpha", [0.0, 0.1])
def test_the_loss_of_mixed_labels_is_timms_soft_target_cross_entropy_of_labels_smoothed_before(alpha):
    logits = 3 * torch.randn(8, CLASSES, generator=torch.Generator().manual_seed(0))
    _, target = mixing(mixup=0.8)(images(), LABELS, 0, 0)
    theirs = Mixup(mixup_alpha=0.8, label_smoothing=alpha, num_classes=CLASSES)
    share = target[0, 0].item()
    theirs._params_per_batch = lambda: (share, False)
    _, smoothed = theirs(images(), LABELS)
    found = SmoothedCrossEntropy(label_smoothing=alpha)(logits, target)
    assert found.item() == pytest.approx(SoftTargetCrossEntropy()(logits, smoothed).item(), rel=1e-6)


def test_sizes_between_which_there_is_no_pixel_are_refused():
    with pytest.raises(InputError) as error:
        mixing(cutmix_minmax=(0.5, 0.51))
    assert str(error.value) == "--cutmix-minmax: 0.5 0.51 (must differ by at least a pixel of images of 16x16)"
