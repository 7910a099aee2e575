import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.image_folders import CLASSES, write_folders
from helpers.vision_commands import configured
from timm import create_model

from lskd.io.errors import InputError
from lskd_vision import data
from lskd_vision.config import DatasetConfig
from lskd_vision.data import data_config, fingerprint, load_data, load_split
from lskd_vision.image_arrays import ImageArrays
from lskd_vision.loader import Loader

WORDS = "--dataset lskd/arrays"


@pytest.fixture(scope="module", params=["L", "RGB"])
def folders(request, tmp_path_factory) -> Path:
    """Images of three classes in folders, as PNG and, of colour ones, JPEG."""
    mode = request.param
    return write_folders(tmp_path_factory.mktemp(mode) / "clothes", train=20, validation=6, channels=mode)


def as_arrays(folders: Path, root: Path) -> Path:
    """The images of folders as arrays, in the same order."""
    loaded = load_data(chosen(folders))
    for split, images in (("train", loaded.train), ("validation", loaded.val)):
        (root / split).mkdir(parents=True)
        pixels, labels = zip(*((np.asarray(image), label) for image, label in read_raw(images)), strict=True)
        np.save(root / split / "images.npy", np.stack(pixels))
        np.save(root / split / "labels.npy", np.array(labels, np.uint8))
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in loaded.class_names), encoding="utf-8")
    return root


def read_raw(images):
    """Images in the mode that their files have, with labels."""
    from PIL import Image

    for file, label in (images.reader[number] for number in range(len(images))):
        with file:
            yield Image.open(file).copy(), label


@pytest.fixture
def arrays(tmp_path) -> Path:
    """Six images of three classes, and three to validate on."""
    root = tmp_path / "small"
    random = np.random.default_rng(0)
    for split, labels in (("train", [0, 1, 2, 2, 1, 0]), ("validation", [2, 0, 1])):
        (root / split).mkdir(parents=True)
        np.save(root / split / "images.npy", random.integers(0, 256, (len(labels), 8, 8), np.uint8))
        np.save(root / split / "labels.npy", np.array(labels))
    (root / "classes.txt").write_text("b\na\nä\n", encoding="utf-8")
    return root


def chosen(where: Path, *words: str) -> DatasetConfig:
    """The configuration of the data that these options give."""
    return configured(where, *words).dataset


def refusal(root: Path, words: str = "") -> str:
    """What loading answers to what it cannot use, in one line."""
    with pytest.raises(InputError) as refused:
        load_data(chosen(root, WORDS, words))
    assert "\n" not in str(refused.value)
    return str(refused.value)


# ---- the same as folders


@pytest.mark.parametrize("training", [True, False])
def test_arrays_give_the_batches_of_folders_with_the_same_images(training, folders, tmp_path):
    root = as_arrays(folders, tmp_path / "clothes")
    model, batches = create_model("test_resnet", num_classes=3, in_chans=1), []
    for where, words in ((folders, ""), (root, WORDS)):
        config = configured(where, words, "--in-chans 1 --img-size 28 --color-jitter .2 --reprob .3")
        loaded = load_data(config.dataset)
        images = loaded.train if training else loaded.val
        augmentation = config.augmentation if training else None
        loader = Loader(images, data_config(config.input, model), config, 16, augmentation)
        batches.append([each for epoch in (0, 1) for each in loader.epoch(epoch)])
    assert len(batches[0]) == len(batches[1]) > 0
    for (images, labels), (others, other_labels) in zip(*batches, strict=True):
        assert torch.equal(images, others)
        assert torch.equal(labels, other_labels)


def test_a_run_is_named_by_the_directory_and_its_record_has_what_that_of_folders_has(folders, tmp_path):
    root = as_arrays(folders, tmp_path / "clothes")
    ours, theirs = (load_data(made).record(made) for made in (chosen(root, WORDS), chosen(folders)))
    assert load_data(chosen(root, WORDS)).name == "clothes"
    assert ours["classes"] == theirs["classes"] == sorted(CLASSES)
    assert ours["splits"] == theirs["splits"] == {"train": 60, "validation": 18}
    assert ours["dataset"] == "lskd/arrays"
    assert ours.keys() == theirs.keys()


# ---- what is read


def test_images_and_labels_are_those_of_the_files_and_nothing_is_copied(arrays):
    split = load_data(chosen(arrays, WORDS)).train
    pixels = np.load(arrays / "train" / "images.npy")
    assert [label for _, label in (split[number] for number in range(6))] == [0, 1, 2, 2, 1, 0]
    for number in range(6):
        np.testing.assert_array_equal(np.asarray(split[number][0]), pixels[number])
    assert not split.data.flags.writeable
    assert isinstance(split.data.base, np.memmap)


def test_the_order_of_the_classes_is_that_of_their_file(arrays, capsys):
    loaded = load_data(chosen(arrays, WORDS))
    assert loaded.class_names == ["b", "a", "ä"]
    said = "train: 6 images in 3 classes\nvalidation: 3 images in 3 classes\n"
    assert capsys.readouterr().err == said


def test_the_validation_directory_may_have_timms_other_names(arrays):
    (arrays / "validation").rename(arrays / "val")
    assert len(load_data(chosen(arrays, WORDS)).val) == 3


def test_another_pixel_or_label_is_another_fingerprint(arrays):
    found = set()
    for name, change in (("images", 0), ("images", 1), ("labels", 1)):
        path = arrays / "train" / f"{name}.npy"
        array = np.load(path)
        array.flat[0] ^= change
        np.save(path, array)
        found.add(fingerprint(ImageArrays(arrays / "train")))
    assert len(found) == 3


@pytest.mark.parametrize(
    ("names", "labels", "said"),
    [
        ("ä\na\nb\n", [2, 1, 0, 0, 1, 2], "6 images in 3 classes"),
        ("ä\nb\n", [1, 0, 0, 1], "4 images in 2 classes; not read: 2 images of a, not in --class-map"),
    ],
)
def test_a_class_map_orders_the_classes_and_need_not_name_all(names, labels, said, arrays, tmp_path, capsys):
    (tmp_path / "map.txt").write_text(names, encoding="utf-8")
    loaded = load_data(chosen(arrays, WORDS, f"--class-map {tmp_path / 'map.txt'}"))
    assert loaded.class_names == names.split()
    assert loaded.train.targets.tolist() == labels
    pixels, kept = np.load(arrays / "train" / "images.npy"), [0, 1, 2, 3, 4, 5] if len(labels) == 6 else [0, 2, 3, 5]
    np.testing.assert_array_equal(loaded.train.data, pixels[kept])
    assert capsys.readouterr().err.startswith(f"train: {said}\nvalidation: ")


def test_a_class_map_with_a_name_that_is_not_there_is_refused_in_training_and_said_otherwise(arrays, tmp_path, capsys):
    (tmp_path / "map.txt").write_text("b\no\nä\n", encoding="utf-8")
    words = f"--class-map {tmp_path / 'map.txt'}"
    assert f"has names of no class in {arrays / 'train'}: o)" in refusal(arrays, words)
    capsys.readouterr()
    assert data.class_names(load_split(chosen(arrays, WORDS, words), "validation")) == ["b", "o", "ä"]
    rest = "no images of o of --class-map; not read: 1 images of a, not in --class-map"
    assert capsys.readouterr().err == f"validation: 2 images in 3 classes; {rest}\n"
    (tmp_path / "map.txt").write_text("o\nu\n", encoding="utf-8")
    assert "--class-map: o (must name a class in " in refusal(arrays, words)


# ---- what is refused


@pytest.mark.parametrize("file", ["classes.txt", "train/images.npy", "train/labels.npy", "validation/images.npy"])
def test_a_missing_file_is_named(file, arrays):
    (arrays / file).unlink()
    assert refusal(arrays) == f"--data-dir: {arrays / file} (cannot be read: No such file or directory)"


def test_a_missing_split_is_named(arrays):
    (arrays / "validation").rename(arrays / "other")
    expected = "must be a directory with images.npy and labels.npy"
    assert refusal(arrays) == f"--data-dir: {arrays / 'validation'} ({expected})"


@pytest.mark.parametrize("kind", ["empty", "text", "cut", "pickle", "objects", "npz"])
def test_a_file_that_is_no_array_is_named_and_nothing_in_it_is_executed(kind, arrays, tmp_path):
    class Touch:
        def __reduce__(self):
            return Path.touch, (tmp_path / "executed",)

    path = arrays / "train" / "images.npy"
    whole = path.read_bytes()
    if kind == "objects":
        np.save(path, np.array([Touch()] * 6), allow_pickle=True)
    elif kind == "npz":
        with open(path, "wb") as file:
            np.savez(file, images=np.zeros((6, 8, 8), np.uint8))
    else:
        contents = {"empty": b"", "text": b"images", "cut": whole[:-10], "pickle": pickle.dumps(Touch())}
        path.write_bytes(contents[kind])
    assert refusal(arrays).startswith(f"--data-dir: {path} (must be ")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("name", "array", "reason"),
    [
        ("images", np.zeros((6, 8, 8)), "must be uint8, (N, H, W) or (N, H, W, 3), not float64 (6, 8, 8)"),
        ("images", np.zeros((6, 64), np.uint8), "not uint8 (6, 64)"),
        ("images", np.zeros((6, 3, 8, 8), np.uint8), "not uint8 (6, 3, 8, 8)"),
        ("images", np.zeros((0, 8, 8), np.uint8), "not uint8 (0, 8, 8)"),
        ("images", np.zeros((5, 8, 8), np.uint8), "must be integers, (5,), not int64 (6,)"),
        ("labels", np.zeros(6), "must be integers, (6,), not float64 (6,)"),
        ("labels", np.zeros((6, 1), np.int64), "not int64 (6, 1)"),
        ("labels", np.array([0, 1, 2, 3, 0, 0]), "has labels from 0 to 3, must be from 0 to 2"),
        ("labels", np.array([0, 1, 2, -1, 0, 0]), "has labels from -1 to 2, must be from 0 to 2"),
        ("labels", np.array([0, 0, 2, 2, 0, 0]), "has no images of a"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(name, array, reason, arrays):
    np.save(arrays / "train" / f"{name}.npy", array)
    assert reason in refusal(arrays)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "must have the names of classes, one a line"),
        (b"a\nb\na\n", "must not repeat a class: a"),
        (b"a\n\xff\n", "must be UTF-8"),
    ],
)
def test_classes_that_are_no_names_are_refused(content, reason, arrays):
    (arrays / "classes.txt").write_bytes(content)
    complaint = refusal(arrays)
    assert complaint.startswith(f"--data-dir: {arrays / 'classes.txt'} ({reason}")


def test_no_other_data_set_has_this_projects_name_and_none_takes_an_order(arrays):
    with pytest.raises(InputError, match=r"--dataset: lskd/letters \(must be empty for folders, lskd/arrays, "):
        load_data(chosen(arrays, "--dataset lskd/letters"))
    said = refusal(arrays, "--class-order natural")
    assert "--class-order: natural (applies to image folders only; lskd/arrays has its own class order)" in said


def test_a_validation_split_that_is_the_training_split_is_told(arrays, caplog):
    load_data(chosen(arrays, WORDS, "--val-split train"))
    assert "train and validation are the same images" in caplog.text
