"""Images and their order: functions of ``--data-seed``, epoch and number alone; checked before they are used."""

import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from helpers.image_folders import CLASSES, write_folders
from helpers.vision_commands import configured
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import Dataset

from lskd.io.errors import InputError
from lskd_vision import data
from lskd_vision.augmentation import posterize, train_transform
from lskd_vision.data import data_config, fingerprint, load_data, load_split, per_channel
from lskd_vision.loader import Images, Loader, Order

CPU = torch.device("cpu")
CONFIG = {"input_size": (1, 28, 28), "mean": (0.25,), "std": (0.5,), "interpolation": "bilinear", "crop_pct": 1.0}
CONFIG["crop_mode"] = "center"
COLOUR = CONFIG | {"input_size": (3, 32, 32), "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}
AUGMENTED = "--scale 0.3 1 --rotation 20 --color-jitter 0.4 --aa rand-m5-mstd1 --vflip 0.5 --reprob 0.7"


def fashion(images: Path, *words: str, **keywords):
    return configured(images, "--dataset torch/fashion_mnist --batch-size 32", *words, **keywords)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    return write_folders(tmp_path_factory.mktemp("folders") / "clothes")


@pytest.fixture
def copy(folders, tmp_path) -> Path:
    """A copy of the folders that a test may damage."""
    return shutil.copytree(folders, tmp_path / "copy")


@pytest.fixture(scope="module")
def clothes(images) -> Dataset:
    return load_data(fashion(images).dataset).train


def batches(loader: Loader, epoch: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The batches of an epoch; whoever consumes them draws random numbers of his own."""
    found = []
    for pixels, labels in loader.epoch(epoch):
        found.append((pixels.clone(), labels.clone()))
        torch.rand(3), np.random.rand(2), random.random()
    return found


def same(first: list, second: list) -> bool:
    return len(first) == len(second) and all(
        torch.equal(one, other) for pair in zip(first, second, strict=True) for one, other in zip(*pair, strict=True)
    )


# An image in its epoch.


def test_an_image_depends_on_the_data_seed_the_epoch_and_its_number_alone(clothes, images):
    transform = train_transform(fashion(images, AUGMENTED).augmentation, CONFIG)
    items = Images(clothes, transform, "L", data_seed=3)
    keys = [(epoch, number) for epoch in (0, 1, 7) for number in (0, 1, 250)]
    first = {key: items[key] for key in keys}
    random.Random(1).shuffle(keys)
    fresh = Images(clothes, train_transform(fashion(images, AUGMENTED).augmentation, CONFIG), "L", data_seed=3)
    for key in keys:
        torch.manual_seed(key[1]), np.random.seed(key[0]), random.seed(5)
        pixels, label = fresh[key]
        assert torch.equal(pixels, first[key][0])
        assert label == first[key][1] == clothes[key[1]][1]
    drawn = [first[epoch, 0][0].numpy().tobytes() for epoch in (0, 1, 7)]
    drawn.append(Images(clothes, transform, "L", data_seed=4)[0, 0][0].numpy().tobytes())
    assert len(set(drawn)) == 4


def test_neighbouring_images_are_not_augmented_alike():
    picture = Image.fromarray(np.arange(28 * 28).reshape(28, 28).astype(np.uint8))
    transform = train_transform(configured(Path(), "--scale 0.3 1").augmentation, CONFIG)
    items = Images([(picture, 0)] * 50, transform, "L", data_seed=0)
    assert len({items[0, number][0].numpy().tobytes() for number in range(50)}) == 50


# The order of an epoch.

SIZES = {"total": st.integers(1, 200), "size": st.integers(1, 9), "processes": st.integers(1, 5)}
SEEDS = {"seed": st.integers(0, 2**40), "epoch": st.integers(0, 300)}


def orders(total: int, size: int, processes: int, seed: int, epoch: int, shuffle: bool = True) -> list[list[int]]:
    """The numbers that each process sees, as (process, image)."""
    items, found = Images(range(total), None, "L", seed), []
    for rank in range(processes):
        order = Order(items, size, shuffle, rank, processes)
        order.epoch = epoch
        keys = list(order)
        assert len(keys) == len(order)
        assert all(key[0] == epoch for key in keys)
        found.append([key[1] for key in keys])
    return found


@given(**SIZES, **SEEDS)
@settings(deadline=None, max_examples=100)
def test_several_processes_see_in_a_step_what_one_sees_in_as_many_batches(total, size, processes, seed, epoch):
    (alone,) = orders(total, size, 1, seed, epoch)
    together = orders(total, size, processes, seed, epoch)
    steps = total // (size * processes)
    assert [len(numbers) for numbers in together] == [steps * size] * processes
    taken = iter(alone)
    for step in range(steps):
        for numbers in together:
            assert numbers[step * size : (step + 1) * size] == [next(taken) for _ in range(size)]


@given(**SIZES, **SEEDS)
@settings(deadline=None, max_examples=100)
def test_an_epoch_has_every_image_at_most_once_and_leaves_out_less_than_a_step(total, size, processes, seed, epoch):
    seen = [number for numbers in orders(total, size, processes, seed, epoch) for number in numbers]
    assert len(set(seen)) == len(seen) > total - size * processes
    assert set(seen) <= set(range(total))


@given(**SIZES, **SEEDS)
@settings(deadline=None, max_examples=50)
def test_the_processes_of_a_validation_cover_every_image_once_in_order(total, size, processes, seed, epoch):
    shards = orders(total, size, processes, seed, epoch, shuffle=False)
    assert sorted(number for shard in shards for number in shard) == list(range(total))
    assert all(shard == sorted(shard) for shard in shards)
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_another_epoch_or_data_seed_has_another_order():
    found = [orders(100, 10, 1, seed, epoch)[0] for seed, epoch in ((1, 2), (2, 1), (1, 3), (0, 0), (1, 2))]
    assert found[0] == found[-1] != list(range(100))
    assert len({tuple(order) for order in found}) == 4


# Batches.


def test_batches_are_the_same_from_any_number_of_loader_processes_and_in_any_epoch_order(images, clothes):
    alone = Loader.for_training(clothes, CONFIG, fashion(images, AUGMENTED))
    helped = Loader.for_training(clothes, CONFIG, fashion(images, AUGMENTED, "--workers 2"))
    first = {epoch: batches(alone, epoch) for epoch in (0, 1)}
    again = {epoch: batches(helped, epoch) for epoch in (1, 0)}
    for epoch in (0, 1):
        assert len(first[epoch]) == len(alone) == 10
        assert same(first[epoch], again[epoch])
    assert not same(first[0], first[1])
    plain = Loader.for_training(clothes, CONFIG, fashion(images, AUGMENTED.replace("0.7", "0")))
    assert not same(first[0], batches(plain, 0))  # random erasing is part of it
    other = Loader.for_training(clothes, CONFIG, fashion(images, AUGMENTED, "--data-seed 1"))
    assert not same(first[0], batches(other, 0))


def test_two_processes_get_the_batches_of_one(images, clothes):
    words = f"{AUGMENTED} --batch-size 20"
    alone = batches(Loader.for_training(clothes, CONFIG, fashion(images, words)), 4)
    ranks = [fashion(images, words, rank=rank, world_size=2) for rank in (0, 1)]
    shared = [batches(Loader.for_training(clothes, CONFIG, made), 4) for made in ranks]
    assert same(alone, [pair for step in zip(*shared, strict=True) for pair in step])


def test_each_epoch_and_each_data_seed_erases_elsewhere():
    same_image = [(Image.new("L", (28, 28), 100), 0)] * 4
    words, found = "--scale 1 1 --ratio 1 1 --hflip 0 --reprob 1 --remode const --batch-size 4", []
    for seed, epoch in ((1, 0), (1, 1), (2, 0), (1, 0)):
        made = configured(Path(), words, f"--data-seed {seed}")
        found.append(batches(Loader.for_training(same_image, CONFIG, made), epoch))
    assert same(found[0], found[3])
    assert not same(found[0], found[1])
    assert not same(found[0], found[2])


def test_processes_erase_differently(images, clothes):
    ranks = [fashion(images, "--no-aug", rank=rank, world_size=2) for rank in (0, 1)]
    plain = [batches(Loader.for_training(clothes, CONFIG, made), 0) for made in ranks]
    ranks = [fashion(images, "--scale 1 1 --ratio 1 1 --hflip 0 --reprob 1", rank=r, world_size=2) for r in (0, 1)]
    erased = [batches(Loader.for_training(clothes, CONFIG, made), 0) for made in ranks]
    masks = [(one[0][0] != other[0][0]).flatten() for one, other in zip(plain, erased, strict=True)]
    assert all(mask.any() for mask in masks)
    assert not torch.equal(*masks)


def test_validation_batches_are_normalised_float32_and_every_image_in_order(images):
    split = load_data(fashion(images).dataset).val
    loader = Loader.for_evaluation(split, CONFIG, fashion(images, "--validation-batch-size 7"))
    found = batches(loader, 0)
    assert {len(labels) for _, labels in found[:-1]} == {7}
    pixels, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
    assert (pixels.dtype, labels.dtype) == (torch.float32, torch.int64)
    expected = (split.data.double() / 255 - 0.25) / 0.5
    assert pixels.shape == (len(split), 1, 28, 28)
    torch.testing.assert_close(pixels[:, 0].double(), expected, rtol=0, atol=2e-6)
    assert torch.equal(labels, split.targets)


def test_loading_validation_images_draws_no_random_numbers(images):
    loader = Loader.for_evaluation(load_data(fashion(images).dataset).val, CONFIG, fashion(images))
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    expected = torch.rand(()), np.random.rand(), random.random()
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    assert list(loader.epoch(0))
    assert (torch.rand(()), np.random.rand(), random.random()) == expected


def test_without_augmentation_training_images_are_the_images(images, clothes):
    loader = Loader.for_training(clothes, CONFIG, fashion(images, "--no-aug --reprob 1"))
    loader.order.epoch = 2
    numbers = [number for _, number in loader.order]
    pixels, labels = (torch.cat(parts) for parts in zip(*batches(loader, 2), strict=True))
    expected = (clothes.data[numbers].double() / 255 - 0.25) / 0.5
    torch.testing.assert_close(pixels[:, 0].double(), expected, rtol=0, atol=2e-6)
    assert torch.equal(labels, clothes.targets[numbers])


def test_channels_last_changes_the_layout_and_no_number(images, clothes):
    plain = batches(Loader.for_training(clothes, CONFIG, fashion(images)), 0)
    loader = Loader.for_training(clothes, COLOUR, fashion(images, "--channels-last --no-aug"))
    assert next(iter(loader.epoch(0)))[0].is_contiguous(memory_format=torch.channels_last)
    assert same(plain, batches(Loader.for_training(clothes, CONFIG, fashion(images, "--channels-last")), 0))


def test_grey_images_become_three_equal_channels_for_a_model_of_three(images):
    split = load_data(fashion(images).dataset).val
    config = COLOUR | {"input_size": (3, 28, 28)}
    pixels, _ = batches(Loader.for_evaluation(split, config, fashion(images)), 0)[0]
    mean, std = (torch.tensor(COLOUR[name]).view(3, 1, 1) for name in ("mean", "std"))
    expected = split.data[:32, None].expand(-1, 3, -1, -1).double() / 255
    torch.testing.assert_close((pixels * std + mean).double(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dataset", ["", "torch/image_folder"])
@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA"), (2, "LA"), (3, "YCbCr")])
def test_files_are_read_in_the_mode_of_the_model(dataset, channels, mode, tmp_path):
    root = write_folders(tmp_path / "clothes", train=2, validation=2, channels="RGBA")
    for path in root.rglob("*.png"):  # see through on the left
        with Image.open(path) as image:
            image.putalpha(Image.fromarray(np.repeat([[50] * 16 + [255] * 16], 32, 0).astype(np.uint8)))
        image.save(path)
    words = f"--dataset {dataset}" * bool(dataset) + f" --batch-size 2 --input-img-mode {mode}" * (channels > 1)
    if mode == "RGBA":
        words = words.replace("--input-img-mode RGBA", "")  # by itself, as L and RGB
    config = COLOUR | {"input_size": (channels, 32, 32), "mean": (0.0,) * channels, "std": (1.0,) * channels}
    split = load_data(configured(root, words).dataset).val
    pixels, labels = (
        torch.cat(parts)
        for parts in zip(*batches(Loader.for_evaluation(split, config, configured(root, words)), 0), strict=True)
    )
    assert labels.tolist() == [0, 0, 1, 1, 2, 2]
    for number, path in enumerate(sorted((root / "validation").rglob("*.png"))):
        with Image.open(path) as image:
            picture = image.convert(mode)
        expected = torch.from_numpy(np.array(picture)).view(32, 32, channels).permute(2, 0, 1) / 255
        torch.testing.assert_close(pixels[number], expected, rtol=0, atol=1e-6)


def test_a_model_with_unusual_channels_needs_a_mode(images, clothes):
    with pytest.raises(InputError, match=r"--input-img-mode: None \(must be given for 2 channels\)"):
        Loader.for_training(clothes, CONFIG | {"input_size": (2, 28, 28)}, fashion(images))


def test_a_mode_of_other_channels_than_the_models_is_refused(images, clothes):
    with pytest.raises(InputError, match=r"--input-img-mode: RGB \(gives 3 channels, the model wants 1\)"):
        Loader.for_training(clothes, CONFIG, fashion(images, "--input-img-mode RGB"))


def test_a_batch_larger_than_the_data_is_refused(images, clothes):
    def loader(batch_size: int) -> Loader:
        made = fashion(images, f"--batch-size {batch_size}", rank=1, world_size=2)
        return Loader.for_training(clothes, CONFIG, made)

    with pytest.raises(
        InputError, match=r"--batch-size: 161 \(must be at most 160: 320 images shared by all processes\)"
    ):
        loader(161)
    assert len(loader(160)) == 1


# Damaged images.


def refusal(load: Callable[[], Loader]) -> str:
    """What an epoch is refused with; no traceback stays, with which the loader processes would stay for seconds."""
    try:
        batches(load(), 0)
    except InputError as error:
        return str(error)
    raise AssertionError("not refused")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("dataset", ["", "torch/image_folder"])
@pytest.mark.parametrize("damage", ["no image", "truncated", "broken inside"])
@pytest.mark.parametrize("split", ["train", "validation"])
def test_an_image_that_cannot_be_read_is_named_and_no_other_takes_its_place(copy, split, damage, dataset, workers):
    path = copy / split / "Dress" / "001.png"
    whole = path.read_bytes()
    path.write_bytes(
        {"no image": b"text", "truncated": whole[:300], "broken inside": whole[:60] + b"\xff" * 20 + whole[80:]}[damage]
    )
    made = configured(copy, f"--batch-size 12 --workers {workers}", f"--dataset {dataset}" * bool(dataset))
    loaded = load_data(made.dataset)
    training = split == "train"
    load = Loader.for_training if training else Loader.for_evaluation
    images = loaded.train if training else loaded.val
    complaint = refusal(lambda: load(images, COLOUR, made))
    assert complaint.startswith(f"--data-dir: {path} (cannot be read as RGB: ")
    assert complaint.count("\n") == 0
    path.write_bytes(whole)
    assert len(batches(load(images, COLOUR, made), 0)) == (10 if training else 2)


# Augmentation.


def kinds(made, config=COLOUR) -> list[str]:
    return [type(step).__name__ for step in train_transform(made.augmentation, config).transforms]


@pytest.mark.parametrize("crop", ["rrc", "rkrc", "rkrr"])
@pytest.mark.parametrize("flips", ["", "--vflip 0.5", "--hflip 0"])
def test_the_rotation_comes_after_the_crop_and_the_flips_and_before_the_colours(crop, flips, images):
    words = f"--train-crop-mode {crop} {flips} --color-jitter 0.3 --grayscale-prob 0.1 --aa rand-m5"
    plain, rotated = kinds(fashion(images, words)), kinds(fashion(images, words, "--rotation 30"))
    place = rotated.index("RandomRotation")
    assert rotated[:place] + rotated[place + 1 :] == plain
    geometry = {"RandomHorizontalFlip", "RandomVerticalFlip", "RandomResizedCropAndInterpolation", "RandomCropOrPad"}
    geometry |= {"ResizeKeepRatio", "CenterCropOrPad", "RandomPad"}
    assert set(plain[:place]) <= geometry
    assert not set(plain[place:]) & geometry
    assert {"RandAugment", "RandomGrayscale"} & set(plain[place:])


def test_a_rotation_rotates(images):
    words = "--rotation 45 --scale 1 1 --ratio 1 1 --hflip 0"
    transform = train_transform(fashion(images, words).augmentation, COLOUR)
    white = Image.new("RGB", (32, 32), "white")
    corners = torch.stack([transform(white)[0, 0, 0] for _ in range(40)])
    assert 30 < (corners == 0).sum() <= 40  # what comes in from outside is black
    (step,) = [step for step in transform.transforms if type(step).__name__ == "RandomRotation"]
    assert step.degrees == [-45, 45]


def test_there_is_no_rotation_without_augmentation(images):
    assert "RandomRotation" not in kinds(fashion(images, "--no-aug --rotation 30"))
    assert "RandomRotation" not in kinds(fashion(images))


@pytest.mark.parametrize(
    ("words", "changes"), [("", False), ("--color-jitter 0.3", True), ("--color-jitter 0 0 0.9", True)]
)
def test_colours_change_where_that_is_asked_for_and_not_by_default(words, changes, images):
    transform, colour = train_transform(fashion(images, words).augmentation, COLOUR), (200, 100, 50)
    picture = Image.new("RGB", (40, 30), colour)
    found = torch.stack([transform(picture) for _ in range(10)])
    assert (found != torch.tensor(colour, dtype=torch.uint8).view(3, 1, 1)).any() == changes


@pytest.mark.parametrize("policy", ["rand-m0", "rand-m10-inc1", "rand-m9-mstd2-inc1", "augmix-m10", "original", "3a"])
def test_policies_of_timms_run_to_their_extremes(policy, images, clothes):
    transform = train_transform(fashion(images, f"--aa {policy}").augmentation, CONFIG)
    items = Images(clothes, transform, "L", data_seed=0)
    assert len({items[0, number][0].numpy().tobytes() for number in range(300)}) > 100


def test_posterising_to_no_bits_is_black_and_to_more_keeps_the_highest():
    picture = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    for bits in range(9):
        expected = np.arange(256) // 2 ** (8 - bits) * 2 ** (8 - bits)
        assert np.array_equal(np.asarray(posterize(picture, bits)).ravel(), expected)


def test_a_policy_that_timm_does_not_know_is_refused(images, clothes):
    with pytest.raises(InputError, match=r"--aa: louder \(must be one of timm's augmentation policies"):
        Loader.for_training(clothes, CONFIG, fashion(images, "--aa louder"))


# How an image becomes an input.


def resolved(words: str, model: str = "test_resnet", **made_with) -> dict:
    with torch.device("meta"):
        model = timm.create_model(model, **made_with)
    return data_config(configured(Path(), words).input, model)


def test_what_the_command_line_leaves_open_the_model_decides():
    config = resolved("")
    with torch.device("meta"):
        own = timm.create_model("test_resnet").pretrained_cfg
    for name in ("input_size", "mean", "std", "interpolation", "crop_pct"):
        assert config[name] == own[name]


def test_the_command_line_decides_where_it_says_something():
    words = "--img-size 48 --mean 0.1 0.2 0.3 --std 0.4 --interpolation nearest --crop-pct 0.5"
    config = resolved(words)
    assert config["input_size"] == (3, 48, 48)
    assert (config["mean"], config["std"]) == ((0.1, 0.2, 0.3), (0.4, 0.4, 0.4))
    assert (config["interpolation"], config["crop_pct"]) == ("nearest", 0.5)
    assert resolved("--input-size 3 20 30")["input_size"] == (3, 20, 30)


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("size", [0, 28])
def test_a_model_of_other_channels_has_images_of_its_channels_and_the_mean_of_the_means(channels, size):
    config = resolved(f"--in-chans {channels}" + f" --img-size {size}" * bool(size), in_chans=channels)
    with torch.device("meta"):
        own = timm.create_model("test_resnet").pretrained_cfg
    assert config["input_size"] == (channels, size or 160, size or 160)
    for name in ("mean", "std"):
        assert config[name] == pytest.approx((sum(own[name]) / 3,) * channels, abs=1e-12)


def test_the_channels_of_a_model_are_known_without_the_command_line():
    assert resolved("--img-size 28", in_chans=1)["input_size"] == (1, 28, 28)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("--mean 0.1 0.2", r"--mean: 0.1 0.2 \(must be one value, or 3\)"),
        ("--std 0.1 0.2 0.3 0.4", r"--std: 0.1 0.2 0.3 0.4 \(must be one value, or 3\)"),
        ("--in-chans 1 --mean 0.1 0.2 0.3", r"--mean: 0.1 0.2 0.3 \(must be one value, or 1\)"),
    ],
)
def test_a_mean_or_deviation_of_other_channels_is_refused(words, complaint):
    with pytest.raises(InputError, match=complaint):
        resolved(words)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.integers(1, 6))
@settings(deadline=None, max_examples=50)
def test_per_channel_keeps_as_many_values_as_channels_and_averages_others(values, channels):
    found = per_channel(values, channels)
    assert len(found) == channels
    if len(values) == channels:
        assert found == tuple(values)
    else:
        assert found == pytest.approx([np.mean(values)] * channels)


# What data there are.


def test_the_classes_of_torchvisions_data_sets_have_their_names(images):
    loaded = load_data(fashion(images).dataset)
    assert loaded.name == "fashion_mnist"
    assert loaded.num_classes == 10
    assert loaded.class_names[:2] == ["T-shirt/top", "Trouser"]
    assert loaded.record(fashion(images).dataset)["splits"] == {"train": 320, "validation": len(loaded.val)}


@pytest.mark.parametrize("dataset", ["", "--dataset torch/image_folder"])
def test_the_classes_of_folders_have_the_names_of_the_folders(folders, dataset):
    loaded = load_data(configured(folders, dataset).dataset)
    assert loaded.class_names == list(CLASSES)
    assert (len(loaded.train), len(loaded.val)) == (120, 24)
    assert loaded.name == ("image_folder" if dataset else "clothes")
    for split in (loaded.train, loaded.val):
        for path, label in data.image_samples(split):
            assert Path(path).parent.name == CLASSES[label]


def test_a_class_map_orders_the_classes(folders, tmp_path):
    (tmp_path / "classes.txt").write_text("Sneaker\nBag\nDress\n")
    loaded = load_data(configured(folders, f"--class-map {tmp_path / 'classes.txt'}").dataset)
    assert loaded.class_names == ["Sneaker", "Bag", "Dress"]
    assert {(Path(path).parent.name, label) for path, label in data.image_samples(loaded.val)} == {
        ("Sneaker", 0),
        ("Bag", 1),
        ("Dress", 2),
    }


def test_a_class_map_may_lie_in_the_split_and_need_not_name_all_folders(copy, capsys):
    for split in ("train", "validation"):
        (copy / split / "classes.txt").write_text("Sneaker\nBag\n")
    loaded = load_data(configured(copy, "--class-map classes.txt").dataset)
    assert loaded.class_names == ["Sneaker", "Bag"]
    assert len(loaded.train) == 80
    rest = "1 beside the class folders (classes.txt), 1 not in --class-map (Dress)"
    assert capsys.readouterr().err.splitlines() == [
        f"train: 80 images in 2 classes; not read: {rest}",
        f"validation: 16 images in 2 classes; not read: {rest}",
    ]


def test_a_class_map_with_a_name_that_no_folder_has_is_refused_in_training_and_said_otherwise(
    folders, tmp_path, capsys
):
    (tmp_path / "classes.txt").write_text("Bag\nDres\nSneaker\n")
    made = configured(folders, f"--class-map {tmp_path / 'classes.txt'}")
    with pytest.raises(InputError, match=rf"has names without a folder in {folders}/train: Dres\)"):
        load_data(made.dataset)
    capsys.readouterr()
    assert data.class_names(load_split(made.dataset, "validation")) == ["Bag", "Dres", "Sneaker"]
    said = "16 images in 3 classes; no folder for Dres of --class-map; not read: 1 not in --class-map (Dress)"
    assert capsys.readouterr().err == f"validation: {said}\n"


# The order of the classes.

HINT = ", class 1 is 2 (torchvision's would be 10: --class-order torchvision)"


@pytest.fixture(scope="module")
def numbered(tmp_path_factory) -> Path:
    """Images of classes 1, 2 and 10."""
    root = write_folders(tmp_path_factory.mktemp("numbered") / "clothes", train=2, validation=2)
    for split in ("train", "validation"):
        for old, new in zip(CLASSES, ("1", "2", "10"), strict=True):
            (root / split / old).rename(root / split / new)
    return root


@pytest.mark.parametrize(
    ("words", "names", "hint"),
    [
        ("", ["1", "2", "10"], HINT),
        ("--class-order natural", ["1", "2", "10"], ""),
        ("--class-order torchvision", ["1", "10", "2"], ""),
        ("--dataset torch/image_folder", ["1", "10", "2"], ""),
    ],
)
def test_the_order_of_the_classes_is_timms_or_torchvisions_and_said_where_they_differ(
    words, names, hint, numbered, capsys
):
    loaded = load_data(configured(numbered, words).dataset)
    assert loaded.class_names == names
    assert {(Path(path).parent.name, label) for path, label in data.image_samples(loaded.val)} == {
        (name, label) for label, name in enumerate(names)
    }
    said = capsys.readouterr().err
    assert said == f"train: 6 images in 3 classes{hint}\nvalidation: 6 images in 3 classes{hint}\n"


def test_a_data_set_with_an_order_of_its_own_takes_no_other(images, folders):
    for where, dataset in ((images, "fashion_mnist"), (folders, "image_folder")):
        expected = rf"--class-order: natural \(applies to image folders only; torch/{dataset} has its own class order\)"
        with pytest.raises(InputError, match=expected):
            load_data(configured(where, f"--dataset torch/{dataset} --class-order natural").dataset)


def test_a_class_map_and_a_class_order_exclude_each_other(folders, capsys):
    with pytest.raises(SystemExit):
        configured(folders, "--class-map classes.txt --class-order torchvision")
    assert "--class-order: not allowed with argument --class-map" in capsys.readouterr().err


# What is said of them.


def test_the_number_of_images_and_classes_of_each_split_is_said(images, copy, capsys):
    assert len(load_data(fashion(images).dataset).train) == 320
    assert capsys.readouterr().err.startswith("train: 320 images in 10 classes\nvalidation: ")
    (copy / "train" / "Bag" / "notes.txt").touch()
    (copy / "validation" / ".ipynb_checkpoints").mkdir()
    load_data(configured(copy).dataset)
    assert capsys.readouterr().err.splitlines() == [
        "train: 120 images in 3 classes; not read: 1 .txt (Bag/notes.txt)",
        "validation: 24 images in 3 classes; not read: 1 hidden (.ipynb_checkpoints)",
    ]


def test_the_validation_folder_may_have_timms_other_names(copy):
    (copy / "validation").rename(copy / "val")
    (copy / "train").rename(copy / "training")
    assert len(load_data(configured(copy).dataset).val) == 24
    assert len(load_data(configured(copy, "--val-split val").dataset).val) == 24


@pytest.mark.parametrize("dataset", ["", "--dataset torch/image_folder"])
@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_split_that_is_missing_is_refused_and_the_other_does_not_take_its_place(copy, dataset, split):
    shutil.rmtree(copy / split)
    with pytest.raises(InputError, match=rf"--data-dir: {copy / split} \(must be a directory with a folder for each"):
        load_data(configured(copy, dataset).dataset)


@pytest.mark.parametrize("dataset", ["", "--dataset torch/image_folder"])
def test_a_split_without_images_is_refused(copy, dataset):
    for path in (copy / "validation").rglob("*.*"):
        path.unlink()
    with pytest.raises(InputError, match=rf"--data-dir: {copy}/validation \(has no images of Bag, Dress, Sneaker\)"):
        load_data(configured(copy, dataset).dataset)


def test_names_that_look_alike_are_shown_by_their_characters(copy):
    for split, name in (("train", "Ta\u0308sche"), ("validation", "T\xe4sche")):
        (copy / split / "Bag").rename(copy / split / name)
    with pytest.raises(InputError, match=re.escape(r"['Ta\u0308sche', 'T\xe4sche']")):
        load_data(configured(copy).dataset)


def test_a_validation_split_that_is_the_training_split_is_told(copy, caplog):
    load_data(configured(copy).dataset)
    assert not caplog.messages
    shutil.rmtree(copy / "validation")
    (copy / "validation").symlink_to("train")
    load_data(configured(copy).dataset)
    assert caplog.messages == [f"train and validation are the same images: {copy / 'validation'}"]


@pytest.mark.parametrize(
    ("change", "odd"),
    [
        (lambda folder: shutil.rmtree(folder / "Dress"), r"\['Dress'\]"),
        (lambda folder: (folder / "Dress").rename(folder / "Robe"), r"\['Dress', 'Robe'\]"),
        (lambda folder: shutil.copytree(folder / "Dress", folder / "Coat"), r"\['Coat'\]"),
    ],
)
def test_splits_with_other_classes_are_refused(copy, change, odd):
    change(copy / "validation")
    with pytest.raises(InputError, match=f"train and validation differ in their classes: {odd}"):
        load_data(configured(copy).dataset)


def test_a_single_class_is_refused(tmp_path):
    root = write_folders(tmp_path / "one", train=2, validation=2, classes=("Bag",))
    with pytest.raises(InputError, match=r"has 1 classes, must be at least 2"):
        load_data(configured(root).dataset)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("--dataset fashion_mnist", r"--dataset: fashion_mnist \(must be empty for folders, lskd/arrays, .* cifar10, "),
        ("--dataset torch/clothes", r"--dataset: torch/clothes \(must be .* torch/image_folder, or torch/ and one of"),
        ("--dataset torch/fashion_mnist", r"cannot be read, split train: Dataset not found"),
        ("--train-split middle", r"middle \(must be a directory with a folder for each class\)"),
        ("--class-map classes.pkl", r"--class-map: classes.pkl \(must be a .txt file, a class a line"),
        ("--class-map classes.txt", r"--class-map: classes.txt \(cannot be read: No such file or directory\)"),
        (
            "--dataset torch/image_folder --class-map classes.txt",
            r"--class-map: classes.txt \(.*; torchvision's take none",
        ),
    ],
)
def test_data_that_are_not_there_are_refused(words, complaint, folders):
    with pytest.raises(InputError, match=complaint) as refused:
        load_data(configured(folders, words).dataset)
    assert "\n" not in str(refused.value)


def test_torchvisions_data_sets_have_no_other_splits(images):
    for split in ("validation", "val", "test"):
        assert len(load_split(fashion(images).dataset, split)) < 320
    with pytest.raises(InputError, match=r"has no split trian, only train and validation"):
        load_data(fashion(images, "--train-split trian").dataset)


class Nothing(Dataset):
    def __len__(self):
        return 0


class Nameless(Dataset):
    def __len__(self):
        return 5


@pytest.mark.parametrize(
    ("dataset", "complaint"),
    [
        (Nothing, "split train has no images"),
        (Nameless, r"has 0 classes, must be at least 2"),
    ],
)
def test_data_sets_that_cannot_be_trained_on_are_refused(dataset, complaint, monkeypatch, tmp_path):
    monkeypatch.setattr(data, "create_dataset", lambda *_, **__: dataset())
    with pytest.raises(InputError, match=complaint):
        load_data(configured(tmp_path, "--dataset torch/cifar10").dataset)


@pytest.mark.parametrize(
    "name",
    ["timm/folder", "torchvision/image_folder", "Torch/image_folder", "torch/Image_Folder", "torch/x/folder", "/x"],
)
def test_folders_are_not_read_in_timms_or_torchvisions_own_way_under_another_name(name, folders):
    with pytest.raises(InputError, match=f"^--dataset: {name} \\(must be empty for folders, "):
        load_data(configured(folders, f"--dataset {name}").dataset)


@pytest.mark.parametrize("name", data.TORCHVISION)
def test_timm_knows_each_name_of_torchvisions_data_sets(name, tmp_path):
    with pytest.raises(InputError, match=r"^--data-dir: .* \(cannot be read, split train: (?!Unknown)"):
        load_data(configured(tmp_path, f"--dataset torch/{name}").dataset)


@pytest.mark.parametrize("name", ["hfds/a/b", "hfids/a/b", "wds/x", "tfds/x", "TFDS/x"])
def test_data_sets_of_timms_that_cannot_be_had_again_are_refused_with_what_to_do(name, tmp_path):
    valid = r" \(is (a stream|fetched) .*: save its images as a folder for each class\)"
    with pytest.raises(InputError, match=f"^--dataset: {name}{valid}$"):
        load_data(configured(tmp_path, f"--dataset {name}").dataset)


# The fingerprint.


def fingerprint_of(made) -> str:
    loaded = load_data(made.dataset)
    assert loaded.record(made.dataset)["fingerprint"] == fingerprint(loaded.train, loaded.val)
    return fingerprint(loaded.train, loaded.val)


def test_the_fingerprint_of_images_in_memory_is_that_of_pixels_and_labels(images, tmp_path):
    moved = shutil.copytree(images, tmp_path / "elsewhere")
    first = fingerprint_of(fashion(images))
    assert fingerprint_of(fashion(moved)) == first
    found = {first}
    for name, place in (("train-images-idx3", 16), ("train-labels-idx1", 8), ("t10k-images-idx3", 16 + 784)):
        path = moved / "FashionMNIST" / "raw" / f"{name}-ubyte"
        content = bytearray(path.read_bytes())
        content[place] ^= 1
        path.write_bytes(content)
        found.add(fingerprint_of(fashion(moved)))
    assert len(found) == 4


@pytest.mark.parametrize("dataset", ["", "--dataset torch/image_folder"])
def test_the_fingerprint_of_folders_is_that_of_names_and_labels(folders, copy, dataset):
    first = fingerprint_of(configured(folders, dataset))
    assert fingerprint_of(configured(copy, dataset)) == first
    found = {first}
    (copy / "train" / "Bag" / "001.png").rename(copy / "train" / "Bag" / "901.png")
    found.add(fingerprint_of(configured(copy, dataset)))
    (copy / "train" / "Bag" / "901.png").rename(copy / "train" / "Dress" / "901.png")
    found.add(fingerprint_of(configured(copy, dataset)))
    (copy / "validation" / "Bag" / "001.png").unlink()
    found.add(fingerprint_of(configured(copy, dataset)))
    assert len(found) == 4


def test_the_fingerprint_tells_other_labels_of_the_same_files(folders, tmp_path):
    (tmp_path / "classes.txt").write_text("Sneaker\nBag\nDress\n")
    first = fingerprint_of(configured(folders))
    assert fingerprint_of(configured(folders, f"--class-map {tmp_path / 'classes.txt'}")) != first
