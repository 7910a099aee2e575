import functools
import gzip
import hashlib
import http.server
import json
import os
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import threading
import zipfile
from pathlib import Path

import fashion_mnist
import numpy as np
import pytest
import torchvision
from fashion_mnist import CLASSES, FILES, RAW, SAMPLE, first_of_each_class, read_sample, subset
from helpers.commands import run as run_for_real
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from idx import read_idx, write_idx
from PIL import Image
from timm.data import create_dataset

COMMAND = fashion_mnist

DPKG_DEB = shutil.which("dpkg-deb")
needs_dpkg = pytest.mark.skipif(DPKG_DEB is None, reason="dpkg-deb is not installed")
SAMPLES_README = SAMPLE.parent / "README.md"


def small(train: int = 40, test: int = 20, seed: int = 0) -> dict[str, np.ndarray]:
    """Random images with labels 0, 1, … 9, 0, 1, …"""
    random = np.random.default_rng(seed)
    arrays = {}
    for split, size in (("train", train), ("test", test)):
        arrays[f"x_{split}"] = random.integers(0, 256, (size, 28, 28), np.uint8)
        arrays[f"y_{split}"] = (np.arange(size) % 10).astype(np.uint8)
    return arrays


def idx(array: np.ndarray) -> bytes:
    """The bytes of an IDX file, by its definition: 0, 0, 8 for bytes, the number of dimensions, the sizes, the data."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.tobytes()


def write_files(directory: Path, arrays: dict[str, np.ndarray], packed: bool = False) -> Path:
    """The four files of the data set as they are published."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, file in FILES.items():
        if packed:
            (directory / f"{file}.gz").write_bytes(gzip.compress(idx(arrays[name]), 1))
        else:
            (directory / file).write_bytes(idx(arrays[name]))
    return directory


def assert_read_as(dest: Path, arrays: dict[str, np.ndarray]) -> None:
    """torchvision and timm read exactly these arrays."""
    for split, train, timm_split in (("train", True, "train"), ("test", False, "validation")):
        for dataset in (
            torchvision.datasets.FashionMNIST(dest, train=train),
            create_dataset("torch/fashion_mnist", root=str(dest), split=timm_split),
        ):
            assert tuple(dataset.classes) == CLASSES
            np.testing.assert_array_equal(dataset.data.numpy(), arrays[f"x_{split}"])
            np.testing.assert_array_equal(dataset.targets.numpy(), arrays[f"y_{split}"])
            image, label = dataset[7]
            np.testing.assert_array_equal(np.asarray(image), arrays[f"x_{split}"][7])
            assert label == arrays[f"y_{split}"][7]


@pytest.fixture
def refused(refused_with_dest):
    """Run the command, which must refuse."""
    return refused_with_dest


# ---- the sample


def test_the_sample_has_as_many_images_of_each_class_and_is_the_file_that_its_readme_names():
    arrays = read_sample(SAMPLE)
    assert np.bincount(arrays["y_train"]).tolist() == [1200] * 10
    assert np.bincount(arrays["y_test"]).tolist() == [200] * 10
    assert hashlib.sha256(SAMPLE.read_bytes()).hexdigest() in SAMPLES_README.read_text("utf-8")
    assert (
        (SAMPLE.parent / "LICENSE-fashion-mnist-MIT.txt")
        .read_text()
        .startswith("The MIT License (MIT)\n\nCopyright (c) 2017 Zalando SE")
    )


def test_without_a_source_the_sample_is_made_into_what_torchvision_and_timm_read(tmp_path):
    dest = tmp_path / "below" / "fashion_mnist"
    result = run_for_real("python data_prep/fashion_mnist.py --dest", dest)
    assert result.stdout == f"{dest}: 12000 train and 2000 test images of 10 classes\n"
    assert result.stderr == ""
    assert_read_as(dest, read_sample(SAMPLE))
    files = {str(path.relative_to(dest)) for path in dest.rglob("*") if path.is_file()}
    assert files == {"manifest.json"} | {f"FashionMNIST/raw/{file}" for file in FILES.values()}
    assert list(dest.parent.iterdir()) == [dest]


def test_the_manifest_tells_what_the_files_are_made_of(run, tmp_path):
    assert run("--dest", tmp_path / "dest", "--max-images", 100)[0] == 0
    manifest = json.loads((tmp_path / "dest" / "manifest.json").read_text("utf-8"))
    assert manifest["parameters"] == {
        "data_set": "Fashion-MNIST",
        "source": "sample",
        "max_images": 100,
        "source_sha256": hashlib.sha256(SAMPLE.read_bytes()).hexdigest(),
    }
    assert manifest["origin"]["licence"] == "MIT, Copyright (c) 2017 Zalando SE, https://tech.zalando.com"
    assert manifest["counts"] == {"train": 100, "test": 20}
    assert manifest["classes"] == torchvision.datasets.FashionMNIST.classes
    assert manifest["sha256"] == {
        f"FashionMNIST/raw/{file}": hashlib.sha256((tmp_path / "dest" / RAW / file).read_bytes()).hexdigest()
        for file in FILES.values()
    }


def test_a_directory_that_is_ready_is_recognised_and_never_written_over(run, tmp_path):
    same = ("--dest", tmp_path / "dest", "--max-images", 100)
    assert run(*same)[0] == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert run(*same) == (0, f"{tmp_path / 'dest'} is ready\n", "")
    files = write_files(tmp_path / "files", small())
    for changes in ((*same[:2], "--max-images", 50), same[:2], (*same, "--source", files)):
        status, _, complaint = run(*changes)
        assert (status, complaint.count("\n"), "name a new directory" in complaint) == (2, 1, True)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_directory_with_other_content_is_refused(run, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    status, _, complaint = run("--dest", tmp_path)
    assert (status, "was not made by this command" in complaint) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_failure_while_writing_leaves_no_directory(run, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(fashion_mnist, "write_json", full)
        status, _, complaint = run("--dest", tmp_path / "dest", "--max-images", 100)
    assert (status, "No space left" in complaint, list(tmp_path.iterdir())) == (2, True, [])
    assert run("--dest", tmp_path / "dest", "--max-images", 100)[0] == 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"x_test": None}, "must hold the arrays x_train, y_train, x_test, y_test"),
        ({"x_train": np.zeros((40, 28, 28), np.float32)}, "train images are float32"),
        ({"x_train": np.zeros((40, 28, 27), np.uint8)}, "train images are uint8 (40, 28, 27)"),
        ({"x_test": np.zeros((20, 784), np.uint8)}, "test images are uint8 (20, 784)"),
        ({"y_train": np.zeros(40, np.int64)}, "train labels are int64"),
        ({"y_test": np.zeros(19, np.uint8)}, "test labels are uint8 (19,)"),
        ({"y_test": np.zeros((20, 1), np.uint8)}, "test labels are uint8 (20, 1)"),
        ({"y_train": np.full(40, 10, np.uint8)}, "train labels go up to 10, above 9"),
        ({"x_test": np.zeros((0, 28, 28), np.uint8), "y_test": np.zeros(0, np.uint8)}, "above 0"),
        ({"y_test": np.array([{}] * 20)}, "cannot be read: Object arrays cannot be loaded"),
    ],
)
def test_a_sample_with_other_arrays_is_refused(changes, reason, refused, tmp_path, monkeypatch):
    arrays = {name: array for name, array in (small() | changes).items() if array is not None}
    np.savez(tmp_path / "sample.npz", **arrays)
    monkeypatch.setattr(fashion_mnist, "SAMPLE", tmp_path / "sample.npz")
    assert reason in refused()


@pytest.mark.parametrize("content", [b"", b"text", b"PK\3\4broken", SAMPLE.read_bytes()[:-100]])
def test_a_sample_that_is_no_npz_file_is_refused(content, refused, tmp_path, monkeypatch):
    (tmp_path / "sample.npz").write_bytes(content)
    monkeypatch.setattr(fashion_mnist, "SAMPLE", tmp_path / "sample.npz")
    assert "cannot be read" in refused()


def test_a_record_of_the_sample_that_is_no_array_is_refused(refused, tmp_path, monkeypatch):
    np.savez(tmp_path / "sample.npz", **small())
    header = b"'descr': '|u1'"
    for old, new in ((b"\x93NUMPY", b"\x93numpy"), (header, header.replace(b"'|u1'", b"'|u1\\"))):
        with zipfile.ZipFile(tmp_path / "sample.npz") as archive:
            records = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(tmp_path / "bad.npz", "w") as archive:
            for name, content in records.items():
                archive.writestr(name, content.replace(old, new))
        monkeypatch.setattr(fashion_mnist, "SAMPLE", tmp_path / "bad.npz")
        assert "bad.npz" in refused()


def test_a_single_array_in_the_place_of_the_sample_is_refused(refused, tmp_path, monkeypatch):
    np.save(tmp_path / "sample.npy", np.zeros(3))
    monkeypatch.setattr(fashion_mnist, "SAMPLE", tmp_path / "sample.npy")
    assert "cannot be read" in refused()


# ---- fewer images


def test_the_first_images_of_each_class_are_kept_in_order_and_the_same_share_of_the_test_images(run, tmp_path):
    assert run("--dest", tmp_path / "dest", "--max-images", 600)[0] == 0
    whole, expected = read_sample(SAMPLE), {}
    for split, each in (("train", 60), ("test", 10)):
        seen, places = [0] * 10, []
        for place, label in enumerate(whole[f"y_{split}"]):
            if seen[label] < each:
                places.append(place)
            seen[label] += 1
        expected |= {f"{kind}_{split}": whole[f"{kind}_{split}"][places] for kind in "xy"}
    assert_read_as(tmp_path / "dest", expected)


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=60),
    st.lists(st.integers(0, 9), min_size=1, max_size=30),
    st.integers(1, 7).map(lambda tens: 10 * tens),
)
@settings(deadline=None, max_examples=60)
def test_a_subset_keeps_the_order_and_at_most_a_tenth_of_the_wanted_images_of_a_class(train, test, max_images):
    arrays = {}
    for split, labels in (("train", train), ("test", test)):
        arrays[f"y_{split}"] = np.array(labels, np.uint8)
        # The number of an image is its first two pixels, so that one knows it again.
        arrays[f"x_{split}"] = np.zeros((len(labels), 28, 28), np.uint8)
        arrays[f"x_{split}"][:, 0, 0] = np.arange(len(labels))
    kept = subset(arrays, max_images)
    for split, labels in (("train", train), ("test", test)):
        places = kept[f"x_{split}"][:, 0, 0].tolist()
        assert places == sorted(set(places))
        assert kept[f"y_{split}"].tolist() == [labels[place] for place in places]
        for label in set(labels):
            of_label = [place for place, one in enumerate(labels) if one == label]
            chosen = [place for place in places if labels[place] == label]
            assert chosen == of_label[: len(chosen)]  # the first ones
            if split == "train":
                assert len(chosen) == min(len(of_label), max_images // 10)
            else:
                share = len(kept["y_train"]) / len(train)
                assert len(chosen) == max(1, round(share * len(of_label)))


@given(arrays_of.arrays(np.uint8, st.integers(0, 40), elements=st.integers(0, 9)), st.integers(0, 5))
@settings(deadline=None, max_examples=30)
def test_the_first_of_each_class_are_those_with_fewer_before_them(labels, count):
    expected = [place for place, label in enumerate(labels) if (labels[:place] == label).sum() < count]
    assert first_of_each_class(labels, np.full(10, count)).tolist() == expected


def test_a_class_keeps_a_test_image_however_small_its_share():
    kept = subset(small(train=2000, test=20), 10)
    assert np.bincount(kept["y_train"]).tolist() == np.bincount(kept["y_test"]).tolist() == [1] * 10


def test_more_images_than_there_are_is_all_of_them():
    arrays = small()
    kept = subset(arrays, 1000)
    assert all(np.array_equal(kept[name], arrays[name]) for name in FILES)


@pytest.mark.parametrize("number", ["15", "0", "-10", "1e3", "ten"])
def test_a_number_of_images_must_be_a_multiple_of_ten(number, run, tmp_path):
    status, _, complaint = run("--dest", tmp_path / "dest", f"--max-images={number}")
    assert status == 2
    assert "--max-images" in complaint
    assert list(tmp_path.iterdir()) == []


# ---- some classes, a folder each

TOPS = ("T-shirt/top", "Shirt", "Coat")
FOLDERS = {"Coat": 4, "Shirt": 6, "T-shirt-top": 0}  # in the order of timm's labels: the label in the data set


def assert_tree_of(dest: Path, arrays: dict[str, np.ndarray]) -> None:
    """timm reads exactly the images of these classes, in their order, as grey ones."""
    for split, ours in (("train", "train"), ("validation", "test")):
        dataset = create_dataset("", root=str(dest), split=split, input_img_mode="L")
        assert dataset.reader.class_to_idx == {name: label for label, name in enumerate(FOLDERS)}
        images, labels = arrays[f"x_{ours}"], arrays[f"y_{ours}"]
        expected = [(images[labels == old], new) for new, old in enumerate(FOLDERS.values())]
        assert [label for _, label in dataset.reader] == [new for old, new in expected for _ in old]
        np.testing.assert_array_equal(
            np.stack([image for image, _ in dataset]), np.concatenate([e for e, _ in expected])
        )
        assert {Image.open(path).mode for path in (dest / split).rglob("*.png")} == {"L"}


@pytest.mark.parametrize("max_images", [None, 6])
def test_chosen_classes_are_a_tree_of_folders_that_timm_reads(max_images, run, tmp_path):
    arrays = small()
    files = write_files(tmp_path / "files", arrays)
    dest = tmp_path / "dest"
    same = ("--dest", dest, "--source", files, *(() if max_images is None else ("--max-images", max_images)))
    status, printed, _ = run(*same, "--classes", *TOPS)
    counts = {"train": 12, "validation": 6} if max_images is None else {"train": 6, "validation": 3}
    assert (status, printed) == (
        0,
        f"{dest}: {counts['train']} train and {counts['validation']} test images of 3 classes\n",
    )
    each = {"train": counts["train"] // 3, "test": counts["validation"] // 3}
    kept = {}
    for split, count in each.items():
        places = first_of_each_class(arrays[f"y_{split}"], np.full(10, count))
        kept |= {f"{kind}_{split}": arrays[f"{kind}_{split}"][places] for kind in "xy"}
    assert_tree_of(dest, kept)
    assert sorted(path.name for path in dest.iterdir()) == ["manifest.json", "train", "validation"]
    manifest = json.loads((dest / "manifest.json").read_text("utf-8"))
    assert (manifest["counts"], manifest["classes"]) == (counts, ["Coat", "Shirt", "T-shirt/top"])
    assert (manifest["parameters"]["classes"], manifest["parameters"]["max_images"]) == (
        manifest["classes"],
        max_images,
    )
    assert manifest["origin"]["licence"].startswith("MIT")
    # The same choice in another order is the same directory; another choice, or none, is not.
    assert run(*same, "--classes", *reversed(TOPS))[1] == f"{dest} is ready\n"
    for other in (("--classes", *TOPS[:2]), ()):
        assert "was made with classes" in run("--dest", dest, "--source", files, *other)[2]


def test_the_images_of_a_class_are_numbered_from_one_and_their_bytes_are_the_same_every_time(run, tmp_path):
    for name in ("first", "second"):
        assert run("--dest", tmp_path / name, "--classes", *TOPS, "--max-images", 30)[0] == 0
    inside = [f"{number:05}.png" for number in range(1, 11)]
    assert sorted(path.name for path in (tmp_path / "first/train/T-shirt-top").iterdir()) == inside
    first, second = (
        {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in (tmp_path / name).rglob("*")
            if path.is_file()
        }
        for name in ("first", "second")
    )
    assert first == second
    manifest = json.loads((tmp_path / "first" / "manifest.json").read_text("utf-8"))
    for split in ("train", "validation"):  # as `find * -type f | LC_ALL=C sort | xargs -d '\n' sha256sum | sha256sum`
        paths = sorted((tmp_path / "first" / split).rglob("*.png"))
        lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.parent.name}/{path.name}\n" for path in paths]
        assert manifest["sha256"][split] == hashlib.sha256("".join(lines).encode()).hexdigest()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ("Shirt", "--classes: Shirt (must be at least two, all different)"),
        ("Shirt Shirt", "--classes: Shirt Shirt (must be at least two, all different)"),
        ("Shirt Purse", "--classes: Purse (must be of T-shirt/top, Trouser, Pullover, "),
        ("Shirt T-shirt-top", "--classes: T-shirt-top (must be of T-shirt/top, "),
        ("Shirt Coat Bag --max-images 10", "--max-images: 10 (must be a multiple of 3: as many of each class)"),
    ],
)
def test_classes_that_cannot_be_had_are_refused(options, complaint, refused):
    assert complaint in refused("--classes", *options.split())


def test_a_source_without_a_chosen_class_is_refused(refused, tmp_path):
    files = write_files(tmp_path / "files", small(test=5))  # labels 0 to 4
    assert "--classes: Shirt (has no test images in this source)" in refused("--source", files, "--classes", *TOPS)


def test_a_missing_pillow_is_one_line(refused, monkeypatch):
    monkeypatch.delitem(sys.modules, "image_tree", raising=False)
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert "needs the package Pillow" in refused("--classes", *TOPS)


@pytest.mark.slow
def test_a_model_is_trained_on_the_tree(tmp_path):
    run_for_real("python data_prep/fashion_mnist.py --max-images 120 --dest", tmp_path / "tops", "--classes", *TOPS)
    words = (
        "python -m lskd_vision.train --in-chans 1 --img-size 28 --model test_resnet --epochs 1 --workers 0 --device cpu"
    )
    run_for_real(words, "--batch-size 32 --data-dir", tmp_path / "tops", "--output", tmp_path / "runs")
    record = json.loads((tmp_path / "runs/tops/test_resnet_a0_s42/run.json").read_text("utf-8"))
    assert record["data"]["classes"] == list(FOLDERS)


# ---- IDX files


@given(
    st.one_of(
        arrays_of.arrays(np.uint8, st.integers(0, 9)),
        arrays_of.arrays(np.uint8, st.tuples(st.integers(0, 3), st.just(28), st.just(28))),
    )
)
@settings(deadline=None, max_examples=30)
def test_an_array_is_written_as_the_format_says_and_read_again(array):
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "file"
        write_idx(path, array)
        assert path.read_bytes() == idx(array)
        np.testing.assert_array_equal(read_idx(path, array.ndim), array)


def test_an_array_that_does_not_lie_in_order_in_memory_is_written_in_order(tmp_path):
    array = np.asfortranarray(small()["x_train"])
    write_idx(tmp_path / "file", array)
    np.testing.assert_array_equal(read_idx(tmp_path / "file", 3), array)


@pytest.mark.parametrize("packed", [False, True])
def test_a_directory_of_idx_files_is_a_source(packed, run, tmp_path):
    arrays = small()
    files = write_files(tmp_path / "files", arrays, packed)
    same = ("--dest", tmp_path / "dest", "--source", files)
    assert run(*same)[1] == f"{tmp_path / 'dest'}: 40 train and 20 test images of 10 classes\n"
    assert_read_as(tmp_path / "dest", arrays)
    assert run(*same)[1] == f"{tmp_path / 'dest'} is ready\n"
    assert str(tmp_path) not in (tmp_path / "dest" / "manifest.json").read_text()
    write_files(files, small(seed=1), packed)
    assert "source_sha256" in run(*same)[2]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("x_train", b"", "must begin as an IDX file of bytes in 3 dimensions"),
        ("x_train", b"<html>not found</html>", "must begin as an IDX file"),
        ("x_train", idx(np.zeros(40, np.uint8)), "must begin as an IDX file of bytes in 3 dimensions"),
        ("y_train", idx(np.zeros((40, 28, 28), np.uint8)), "must begin as an IDX file of bytes in 1 dimensions"),
        ("y_train", b"\0\0\x0b\1" + idx(np.zeros(40, np.uint8))[4:], "must begin as an IDX file of bytes"),
        ("x_test", idx(small()["x_test"])[:-1], "must hold 15680 bytes after its header"),
        ("x_test", idx(small()["x_test"]) + b"\0", "must hold 15680 bytes after its header"),
        ("x_test", idx(small()["x_test"].reshape(20, 14, 56)), "must hold at most 100000 images of 28x28"),
        ("x_test", struct.pack(">4B3I", 0, 0, 8, 3, 2**32 - 1, 28, 28), "must hold at most 100000 images"),
        ("y_test", idx(np.zeros(19, np.uint8)), "test labels are uint8 (19,)"),
        ("y_test", idx(np.full(20, 10, np.uint8)), "test labels go up to 10"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_file_that_is_not_what_it_should_be_is_refused(name, content, reason, packed, refused, tmp_path):
    files = write_files(tmp_path / "files", small(), packed)
    (files / (FILES[name] + ".gz" * packed)).write_bytes(gzip.compress(content) if packed else content)
    complaint = refused("--source", files)
    assert reason in complaint
    assert f"--source: {files}" in complaint


@pytest.mark.parametrize("damage", [lambda packed: packed[:-9], lambda packed: packed[:-8] + bytes(8), lambda _: b"x"])
def test_a_packed_file_that_is_damaged_is_refused(damage, refused, tmp_path):
    files = write_files(tmp_path / "files", small(), packed=True)
    path = files / (FILES["x_train"] + ".gz")
    path.write_bytes(damage(path.read_bytes()))
    assert "train-images-idx3-ubyte.gz cannot be read" in refused("--source", files)


@pytest.mark.parametrize("missing", FILES.values())
def test_a_directory_without_one_of_the_files_is_refused(missing, refused, tmp_path):
    (write_files(tmp_path / "files", small()) / missing).unlink()
    assert f"has no {missing}" in refused("--source", tmp_path / "files")


def test_a_source_that_is_no_directory_is_refused_with_what_is_valid(refused):
    assert "must be sample, debian, torchvision, or a directory" in refused("--source", "debain")


# ---- Debian's package


def build_deb(directory: Path, files: dict[str, bytes]) -> Path:
    """A .deb file of the layout and name of Debian's, with these files in the data set's folder."""
    root = directory / "root"
    folder = root / "usr/share/datasets/fashion-mnist"
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (folder.parent / FILES["x_train"]).write_bytes(b"not in the folder of the data set")
    (root / "usr/share/doc").mkdir()
    (root / "usr/share/doc/train-images-idx3-ubyte.gz").write_bytes(b"nor this")
    link = FILES["x_train"] if f"{FILES['x_train']}.gz" in files else f"{FILES['x_train']}.gz"
    (folder / link).symlink_to("/etc/hostname")
    (root / "DEBIAN").mkdir()
    (root / "DEBIAN/control").write_text(
        "Package: dataset-fashion-mnist\nVersion: 0.1\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\n"
        "Description: pictures for a test\n"
    )
    archive = directory / "dataset-fashion-mnist_0.1_all.deb"
    command = [DPKG_DEB, "--root-owner-group", "--build", str(root), str(archive)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return archive


@pytest.fixture
def apt_get(tmp_path_factory, monkeypatch):
    """Puts shell scripts in the place of ``apt-get`` and ``others``; ``alone`` leaves no other program to find."""

    def install(script: str, others: dict[str, str] | None = None, alone: bool = False) -> None:
        directory = tmp_path_factory.mktemp("bin")
        for name, text in {"apt-get": script, **(others or {})}.items():
            (directory / name).write_text(f"#!/bin/sh\n{text}\n")
            (directory / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(directory), prepend=None if alone else os.pathsep)

    return install


@pytest.fixture
def packaged(apt_get, tmp_path_factory):
    """Let ``apt-get download`` give a package with these files."""

    def packaged(files: dict[str, bytes]) -> Path:
        archive = build_deb(tmp_path_factory.mktemp("package"), files)
        apt_get(f'[ "$*" = "download dataset-fashion-mnist" ] || exit 9\ncp {archive} .')
        return archive

    return packaged


@needs_dpkg
@pytest.mark.parametrize("packed", [True, False])
def test_debians_package_is_a_source(packed, packaged, run, tmp_path):
    arrays = small()
    files = write_files(tmp_path / "files", arrays, packed)
    archive = packaged({path.name: path.read_bytes() for path in files.iterdir()})
    assert run("--dest", tmp_path / "dest", "--source", "debian") == (
        0,
        f"{tmp_path / 'dest'}: 40 train and 20 test images of 10 classes\n",
        "",
    )
    assert_read_as(tmp_path / "dest", arrays)
    origin = json.loads((tmp_path / "dest" / "manifest.json").read_text())["origin"]
    assert origin["package"] == "dataset-fashion-mnist_0.1_all.deb"
    assert origin["sha256"] == hashlib.sha256(archive.read_bytes()).hexdigest()


def test_what_was_made_of_debians_package_is_recognised_without_fetching_it_again(run, tmp_path, apt_get):
    fashion_mnist.write_raw(
        small(), {"data_set": "Fashion-MNIST", "source": "debian", "max_images": None}, {}, tmp_path / "dest"
    )
    apt_get("exit 9")
    assert run("--dest", tmp_path / "dest", "--source", "debian")[1] == f"{tmp_path / 'dest'} is ready\n"


@needs_dpkg
def test_a_package_without_the_files_is_refused(packaged, refused):
    packaged({"train-images-idx3-ubyte.gz": b"x"})
    assert "--source: debian (has no train-labels-idx1-ubyte" in refused("--source", "debian")


@needs_dpkg
@pytest.mark.parametrize("keep", [0, 100, 0.5])
def test_a_package_cut_short_is_refused(keep, packaged, refused, tmp_path_factory):
    files = write_files(tmp_path_factory.mktemp("files") / "raw", small(1000), packed=True)
    archive = packaged({path.name: path.read_bytes() for path in files.iterdir()})
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(keep if keep != 0.5 else len(whole) / 2)])
    assert "dataset-fashion-mnist_0.1_all.deb (cannot be read" in refused("--source", "debian")


def test_a_package_that_dpkg_deb_finds_broken_after_its_last_file_is_refused(apt_get, refused, tmp_path_factory):
    files = write_files(tmp_path_factory.mktemp("files"), small())
    with tarfile.open(files / "whole.tar", "w") as archive:
        for file in FILES.values():
            archive.add(files / file, f"./usr/share/datasets/fashion-mnist/{file}")
    apt_get(": > dataset-fashion-mnist_0.1_all.deb", {"dpkg-deb": f"cat {files}/whole.tar\nexit 2"})
    assert "dpkg-deb found it broken" in refused("--source", "debian")
    apt_get(": > dataset-fashion-mnist_0.1_all.deb", {"dpkg-deb": f"cat {files}/whole.tar"})
    assert fashion_mnist.fetch_from_debian(tmp_path_factory.mktemp("scratch"))["package"].endswith("_0.1_all.deb")


def test_a_failed_apt_get_is_one_line_that_names_this_commands_option(apt_get, refused):
    apt_get("echo 'E: Unable to locate package' >&2; exit 100")
    complaint = refused("--source", "debian")
    assert "--source debian: apt-get download failed: E: Unable to locate package" in complaint
    assert "--rebuild" not in complaint


def test_a_missing_apt_get_is_one_line(refused, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "--source debian: apt-get (is not installed" in refused("--source", "debian")


def test_a_missing_dpkg_deb_is_one_line(apt_get, refused):
    apt_get(": > dataset-fashion-mnist_0.1_all.deb", alone=True)
    assert "dpkg-deb" in refused("--source", "debian")


@pytest.mark.slow
def test_the_real_package_gives_the_shipped_sample(run, tmp_path):
    if shutil.which("apt-get") is None:
        pytest.skip("apt-get is not installed")
    status, _, complaint = run("--dest", tmp_path / "dest", "--source", "debian", "--max-images", 12000)
    if status:
        assert "--source debian: apt-get" in complaint
        pytest.skip(f"apt-get cannot fetch the package: {complaint}")
    assert_read_as(tmp_path / "dest", read_sample(SAMPLE))


# ---- torchvision's download


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """Let torchvision download these arrays, from a server of the test's own; the folder that it serves."""
    servers = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    def mirror(arrays: dict[str, np.ndarray]) -> Path:
        files = write_files(tmp_path / "mirror", arrays, packed=True)
        resources = [
            (path.name, hashlib.md5(path.read_bytes()).hexdigest())  # noqa: S324 - what torchvision checks
            for path in sorted(files.iterdir())
        ]
        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=files)))
        threading.Thread(target=servers[0].serve_forever, daemon=True).start()
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        address = f"http://127.0.0.1:{servers[0].server_port}/"
        monkeypatch.setattr(torchvision.datasets.FashionMNIST, "mirrors", [address])
        monkeypatch.setattr(torchvision.datasets.FashionMNIST, "resources", resources)
        return files

    yield mirror
    for server in servers:
        server.shutdown()
        server.server_close()


def test_torchvisions_download_is_a_source(mirror, run, tmp_path):
    mirror(small())
    status, printed, _ = run("--dest", tmp_path / "dest", "--source", "torchvision", "--max-images", 20)
    assert (status, printed) == (0, f"{tmp_path / 'dest'}: 20 train and 10 test images of 10 classes\n")
    assert_read_as(tmp_path / "dest", subset(small(), 20))
    origin = json.loads((tmp_path / "dest" / "manifest.json").read_text())["origin"]
    assert origin["torchvision"] == torchvision.__version__


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"other")])
def test_a_download_that_fails_is_one_line(damage, mirror, run, tmp_path):
    damage(mirror(small()) / (FILES["y_test"] + ".gz"))
    status, printed, complaint = run("--dest", tmp_path / "dest", "--source", "torchvision")
    assert (status, printed) == (2, "")
    line = complaint.splitlines()[-1]  # below torchvision's own progress bars
    assert line.startswith("fashion_mnist.py: error: --source: torchvision (cannot be downloaded: ")
    assert [path.name for path in tmp_path.iterdir()] == ["mirror"]


def test_a_missing_torchvision_is_one_line(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    assert "needs the package torchvision" in refused("--source", "torchvision")
