"""A split is read as it lies there: the first folder is the class, and nothing is left out without a word."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.data.readers.reader_image_folder import ReaderImageFolder
from timm.utils.misc import natural_key as timms_natural_key
from torchvision.datasets import ImageFolder

from lskd.io.errors import InputError
from lskd_vision.class_order import natural_key, natural_order
from lskd_vision.image_folders import ImageFolders, read_class_map

WITHOUT_TIES = ["img1", "IMG2", "img10", "_a", "Å", "b-2", "b_1", "Zebra", "n02", "n01", "10", "9", "é"]


def files(root: Path, *paths: str) -> Path:
    """Empty files below ``root``: readers of folders look at names alone."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def read(root: Path, *options) -> dict[str, str]:
    """The class of every image of a split, by its path inside, in the order of the images."""
    reader = ImageFolders(root, *options)
    names = list(reader.class_to_idx)
    assert list(reader.class_to_idx.values()) == list(range(len(names)))
    return {Path(path).relative_to(root).as_posix(): names[label] for path, label in reader.samples}


@pytest.fixture(scope="module")
def ordinary(tmp_path_factory) -> Path:
    """Folders and files with names whose order depends on how one sorts."""
    draw, root = random.Random(0), tmp_path_factory.mktemp("ordinary")
    for folder in WITHOUT_TIES:
        names = draw.sample(WITHOUT_TIES, 5)
        files(root, *(f"{folder}/{name}{draw.choice(['.png', '.JPG', '.jpeg'])}" for name in names))
    return root


def test_an_ordinary_tree_is_read_as_by_timm(ordinary):
    timms, ours = ReaderImageFolder(str(ordinary)), ImageFolders(ordinary)
    assert ours.class_to_idx == timms.class_to_idx
    assert ours.samples == timms.samples
    assert ours.filenames() == timms.filenames()
    assert ours.filename(0, absolute=True) == timms.filename(0, absolute=True)
    assert ours.left_out_text() == ""


def test_an_ordinary_tree_is_read_as_by_torchvision_in_its_order(ordinary):
    theirs, ours = ImageFolder(str(ordinary)), ImageFolders(ordinary, "torchvision")
    assert ours.class_to_idx == theirs.class_to_idx
    assert ours.samples == theirs.samples
    assert list(ours.class_to_idx) != list(ImageFolders(ordinary).class_to_idx)


@given(st.text(st.characters(exclude_categories=["Cs", "No"]), max_size=12))
@settings(deadline=None)
def test_the_natural_key_is_timms(name):
    assert natural_key(name) == timms_natural_key(name)


def test_digits_that_are_no_decimals_are_sorted_too():
    assert natural_order(["5³", "10²", "5²"]) == ["5²", "5³", "10²"]


def test_the_first_folder_is_the_class_however_deep_the_image_lies(tmp_path):
    root = files(tmp_path, "cats/a.png", "cats/black/b.png", "cats/black/old/c.png", "dogs/black/d.png")
    assert read(root) == {
        "cats/a.png": "cats",
        "cats/black/b.png": "cats",
        "cats/black/old/c.png": "cats",
        "dogs/black/d.png": "dogs",
    }
    assert read(root, "torchvision") == read(root)


@pytest.mark.slow
def test_names_that_differ_in_case_alone_come_in_one_order_in_every_process(tmp_path):
    files(tmp_path, *(f"{name}/{file}" for name in ("b", "B", "a", "A", "ab", "aB") for file in ("x.png", "X.png")))
    program = "from lskd_vision.image_folders import ImageFolders\nfor order in ('natural', 'torchvision'):\n"
    program += f"    r = ImageFolders({str(tmp_path)!r}, order); print(list(r.class_to_idx), r.filenames())"
    first, second = (
        subprocess.check_output([sys.executable, "-c", program], text=True, env=os.environ | {"PYTHONHASHSEED": seed})
        for seed in ("1", "2")
    )
    assert first == second
    natural, torchvision = first.splitlines()
    assert natural.startswith("['A', 'a', 'aB', 'ab', 'B', 'b']")
    assert torchvision.startswith("['A', 'B', 'a', 'aB', 'ab', 'b']")
    for line in (natural, torchvision):
        assert line.index("A/X.png") < line.index("A/x.png") < line.index("a/X.png")


def test_hidden_entries_are_not_read(tmp_path):
    root = files(tmp_path, "a/1.png", "b/1.png")
    files(root, ".ipynb_checkpoints/1.png", ".DS_Store", "a/._1.png", "a/.ipynb_checkpoints/1.png", "a/deep/.x/1.png")
    reader = ImageFolders(root)
    assert reader.class_to_idx == {"a": 0, "b": 1}
    assert reader.filenames() == ["a/1.png", "b/1.png"]
    assert reader.left_out_text() == "; not read: 5 hidden (.DS_Store)"


SUFFIXES = "webp bmp tif TIFF gif JPG jfif pgm jp2 avif tga mpo"


@pytest.mark.parametrize("suffix", SUFFIXES.split())
def test_every_format_that_pillow_reads_is_an_image(suffix, tmp_path):
    assert len(ImageFolders(files(tmp_path, "a/1.png", f"b/2.{suffix}"))) == 2


def test_files_that_are_no_images_are_counted_by_suffix_with_an_example(tmp_path):
    root = files(tmp_path, "a/1.png", "b/1.png", "b/2.xml", "a/x/1.XML", "a/3.heic", "a/README", "index.txt", "9.png")
    assert ImageFolders(root).left_out_text() == (
        "; not read: 2 .xml (a/x/1.XML), 2 beside the class folders (9.png), 1 .heic (a/3.heic),"
        " 1 without suffix (a/README)"
    )


@pytest.mark.parametrize("suffix", [".eps", ".ps", ".wmf", ".h5", ".mpg"])
def test_programs_and_what_pillow_cannot_decode_are_not_images(suffix, tmp_path):
    assert f"1 {suffix} (" in ImageFolders(files(tmp_path, "a/1.png", f"a/2{suffix}")).left_out_text()


def test_a_pipe_with_the_name_of_an_image_is_not_opened(tmp_path):
    os.mkfifo(files(tmp_path, "a/1.png") / "a" / "2.png")
    assert ImageFolders(tmp_path).left_out_text() == "; not read: 1 special (a/2.png)"


def test_classes_without_images_are_an_error_that_names_them_and_what_they_have(tmp_path):
    root = files(tmp_path, "a/1.png", "Coat/1.heic", "Robe/x/2.heic")
    (root / "empty").mkdir()
    with pytest.raises(InputError) as refused:
        ImageFolders(root)
    expected = f"--data-dir: {root} (has no images of Coat, empty, Robe; not read: 2 .heic (Coat/1.heic))"
    assert str(refused.value) == expected


def test_a_split_without_class_folders_is_an_error(tmp_path):
    with pytest.raises(InputError, match=r"must have a folder for each class; not read: 2 beside the class folders"):
        ImageFolders(files(tmp_path, "1.png", "2.png"))


def test_arrays_that_are_read_as_folders_are_said_to_need_an_option(tmp_path):
    with pytest.raises(InputError, match=r"must have a folder for each class .NumPy arrays are read with --dataset "):
        ImageFolders(files(tmp_path, "images.npy", "labels.npy"))


# Links.


def test_links_that_lead_up_or_round_end(tmp_path):
    root = files(tmp_path / "data" / "train", "a/1.png", "a/deep/2.png", "b/1.png")
    for place, target in (("a/self", "."), ("a/up", ".."), ("b/top", tmp_path), ("a/deep/up", ".."), ("all", ".")):
        (root / place).symlink_to(target)
    reader = ImageFolders(root)
    assert reader.filenames() == ["a/1.png", "a/deep/2.png", "b/1.png"]
    assert list(reader.class_to_idx) == ["a", "b"]
    assert reader.left_out_text() == "; not read: 5 linked twice or upwards (all)"


def test_a_folder_is_read_once_and_where_it_lies(tmp_path):
    root = files(tmp_path / "train", "a/real/1.png", "b/1.png")
    files(tmp_path / "elsewhere", "2.png")
    (root / "a" / "a-link").symlink_to("real")
    for name in ("z2", "z1"):
        (root / "a" / name).symlink_to(tmp_path / "elsewhere")
    assert list(read(root)) == ["a/real/1.png", "a/z1/2.png", "b/1.png"]


def test_splits_classes_and_images_may_be_links(tmp_path):
    store = files(tmp_path / "store", "x/1.png", "y/2.png")
    (tmp_path / "train").symlink_to(store)
    (store / "z").symlink_to(files(tmp_path / "other", "3.png"))
    (store / "x" / "4.png").symlink_to(store / "x" / "1.png")
    assert list(read(tmp_path / "train")) == ["x/1.png", "x/4.png", "y/2.png", "z/3.png"]


def test_one_folder_in_two_classes_is_refused(tmp_path):
    root = files(tmp_path, "a/1.png", "b/deep/2.png")
    (root / "a" / "link").symlink_to("../b/deep")
    with pytest.raises(InputError, match=r"b/deep \(is in two classes, a and b\)"):
        ImageFolders(root)


def test_a_link_to_nothing_is_refused(tmp_path):
    (files(tmp_path, "a/1.png") / "a" / "2.png").symlink_to("gone.png")
    with pytest.raises(InputError, match=r"a/2.png \(is a link to a file that is not there\)"):
        ImageFolders(tmp_path)


def test_a_class_whose_name_is_not_unicode_is_refused_and_an_image_is_not(tmp_path):
    files(tmp_path, "a/1.png", os.fsdecode(b"b/\xe9.png"))
    assert len(ImageFolders(tmp_path)) == 2
    files(tmp_path, os.fsdecode(b"\xe9/1.png"))
    with pytest.raises(InputError, match=r"must have a name in UTF-8"):
        ImageFolders(tmp_path)


# Class maps.


@pytest.mark.parametrize(
    "content",
    [b"b\na\nc d\n", b"b\na\nc d", b"\xef\xbb\xbfb\r\na\r\nc d\r\n", b"\n b\n\na\t\nc d\n\n\n", b"b\ra\rc d"],
    ids=["plain", "no final newline", "BOM and CRLF", "blank lines", "CR"],
)
def test_a_class_map_is_a_name_a_line(content, tmp_path):
    (tmp_path / "classes.txt").write_bytes(content)
    assert read_class_map(tmp_path / "classes.txt") == ["b", "a", "c d"]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"b\na\nb\nc\na\n", r"must not repeat a class: b, a"),
        (b"\xef\xbb\xbf\n \n", r"must have the names of classes, one a line"),
        (b"caf\xe9\n", r"must be UTF-8: .*, byte 3"),
        (None, r"cannot be read: No such file"),
    ],
)
def test_a_class_map_that_is_none_is_refused_in_one_line(content, complaint, tmp_path):
    if content is not None:
        (tmp_path / "classes.txt").write_bytes(content)
    with pytest.raises(InputError, match=rf"^--class-map: \S+classes.txt \({complaint}") as refused:
        read_class_map(tmp_path / "classes.txt")
    assert "\n" not in str(refused.value)


def test_a_class_map_names_what_it_leaves_out_and_what_is_not_there(tmp_path):
    root = files(tmp_path, "a/1.png", "b/1.png", "c/1.png", "d/1.png")
    reader = ImageFolders(root, class_map=["c", "x", "a"])
    assert reader.class_to_idx == {"c": 0, "x": 1, "a": 2}
    assert reader.samples == [(f"{root}/a/1.png", 2), (f"{root}/c/1.png", 0)]
    assert reader.missing == ["x"]
    assert reader.left_out_text() == "; not read: 2 not in --class-map (b)"
