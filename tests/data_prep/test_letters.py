import csv
import hashlib
import json
import lzma
import unicodedata
from pathlib import Path

import letters
import numpy as np
import pytest
from helpers.commands import run as run_for_real
from letters import (
    CLASSES,
    FONTS,
    PACKAGES,
    SAMPLE,
    Letters,
    chosen_classes,
    chosen_fonts,
    groups_of,
    read_sample,
    read_table,
    spread_order,
)
from PIL import Image

from lskd.io.errors import InputError
from lskd.measure.class_sets import read_groups

COMMAND = letters
SAMPLES_README = SAMPLE.parent / "README.md"


@pytest.fixture
def refused(refused_with_dest):
    """Run the command, which must refuse."""
    return refused_with_dest


@pytest.fixture(scope="module")
def shipped() -> Letters:
    """The shipped images."""
    return read_sample(SAMPLE, 185, 238)


@pytest.fixture
def names_file(tmp_path):
    """A file of class names."""

    def write(*names: str) -> Path:
        path = tmp_path / "names.txt"
        path.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
        return path

    return write


# ---- the sample


def test_the_files_of_the_sample_are_those_that_its_readme_names():
    readme = SAMPLES_README.read_text("utf-8")
    for path in (SAMPLE, CLASSES, FONTS, PACKAGES):
        assert f"`{path.name}`" in readme
        assert hashlib.sha256(path.read_bytes()).hexdigest() in readme


def test_every_class_is_in_nearly_every_font_and_nothing_is_blank(shipped):
    assert len(shipped) == 44024
    assert shipped.images.max() == 255
    assert np.bincount(shipped.label).min() >= 236
    assert np.bincount(shipped.font).min() >= 182
    assert (shipped.images.max(axis=(1, 2)) > 60).all()


def test_a_group_has_one_base_letter_in_one_case():
    for row in read_table(CLASSES):
        base, *marks = unicodedata.normalize("NFD", row["character"])
        assert len(marks) <= 1
        case = "capital" if base.isupper() else "small"
        assert row["group"] == f"{case}_{base.lower()}"
        words = unicodedata.name(row["character"]).removeprefix("LATIN ").replace("LETTER ", "")
        assert row["name"] == words.lower().replace(" ", "_")


def test_the_tables_fit_each_other():
    fonts, packages = read_table(FONTS), read_table(PACKAGES)
    assert [int(row["font"]) for row in fonts] == list(range(238))
    assert {row["package"] for row in fonts} == {row["package"] for row in packages}
    assert [int(row["label"]) for row in read_table(CLASSES)] == list(range(185))


@pytest.mark.slow
def test_no_design_of_validation_is_in_training(shipped):
    """By the names in the table, and by pictures: fonts of the two splits differ by more than 20 % of their ink."""
    fonts = read_table(FONTS)
    designs = {split: {row["design"] for row in fonts if row["split"] == split} for split in letters.SPLITS}
    assert not designs["train"] & designs["validation"]
    pictures = pictures_of_fonts(shipped)
    validation = np.array([row["split"] == "validation" for row in fonts])
    assert distances(pictures[validation], pictures[~validation]).min() > 0.20


@pytest.mark.slow
def test_designs_are_the_families_that_pictures_nearer_than_a_fifth_of_ink_connect_and_no_two_fonts_are_one(shipped):
    fonts = read_table(FONTS)
    pictures = pictures_of_fonts(shipped)
    near = distances(pictures, pictures)
    np.fill_diagonal(near, 1)
    assert near.min() > 0.06
    design = {row["family"]: row["family"] for row in fonts}  # merged until nothing near is apart
    for one, other in np.argwhere(near < 0.20):
        kept, gone = (design[fonts[each]["family"]] for each in (one, other))
        design = {family: kept if name == gone else name for family, name in design.items()}
    ours = {(row["design"], design[row["family"]]) for row in fonts}
    assert len(ours) == len({row["design"] for row in fonts}) == len(set(design.values())) == 33


def pictures_of_fonts(shipped: Letters) -> np.ndarray:
    """The pictures of all classes by font, (fonts, pixels), from 0 to 15; a letter that a font lacks is blank."""
    pictures = np.zeros((238, 185, 32 * 32), np.int8)
    pictures[shipped.font, shipped.label] = (shipped.images // 17).reshape(len(shipped), -1)
    return pictures.reshape(238, -1)


def distances(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How much the pictures of two fonts differ, as a part of the ink of both."""
    ink = [pictures.sum(axis=1, dtype=np.int64) for pictures in (some, others)]
    found = np.empty((len(some), len(others)))
    for row, picture in enumerate(some):
        for column, other in enumerate(others):
            found[row, column] = np.abs(picture - other).sum(dtype=np.int64)
    return found / (ink[0][:, None] + ink[1])


# ---- the data directory


def test_the_whole_sample_becomes_arrays_groups_and_a_contact_sheet(shipped, tmp_path):
    dest = tmp_path / "below" / "letters"
    result = run_for_real("python data_prep/letters.py --dest", dest)
    fonts = "35144 train images (190 fonts) and 8880 validation images (48 fonts)"
    assert (result.stdout, result.stderr) == (f"{dest}: {fonts} of 185 classes\n", "")
    classes, fonts = read_table(CLASSES), read_table(FONTS)
    assert (dest / "classes.txt").read_text("utf-8").splitlines() == [row["name"] for row in classes]
    for split in letters.SPLITS:
        own = np.array([row["split"] == split for row in fonts])[shipped.font]
        images, labels = (np.load(dest / split / f"{name}.npy", allow_pickle=False) for name in ("images", "labels"))
        np.testing.assert_array_equal(images, shipped.images[own])
        np.testing.assert_array_equal(labels, shipped.label[own])
    groups = read_groups(dest / "groups.json", [row["name"] for row in classes])
    assert (len(groups), sum(map(len, groups.values()))) == (28, 185)
    assert (dest / "fonts.tsv").read_bytes() == FONTS.read_bytes()
    with Image.open(dest / "contact_sheet.png") as sheet:
        assert sheet.mode == "RGB"
        assert min(sheet.size) > 1000
    assert sorted(path.name for path in dest.parent.iterdir()) == ["letters"]


def test_the_manifest_tells_what_the_files_are_made_of(run, tmp_path):
    dest = tmp_path / "dest"
    status, printed, complaint = run("--dest", dest, "--classes", "lower", "--fonts", 3)
    expected = f"{dest}: 276 train images (3 fonts) and 4416 validation images (48 fonts) of 92 classes\n"
    assert (status, printed, complaint) == (0, expected, "")
    manifest = json.loads((dest / "manifest.json").read_text("utf-8"))
    names = [row["name"] for row in read_table(CLASSES) if row["character"].islower()]
    assert manifest["parameters"] == {
        "data_set": "letters",
        "classes": "lower",
        "fonts": 3,
        "sample_sha256": hashlib.sha256(SAMPLE.read_bytes()).hexdigest(),
    }
    assert manifest["classes"] == names
    assert "OFL-1.1" in manifest["origin"]["licences"]
    assert manifest["counts"] == {"train": 276, "validation": 4416}
    assert manifest["sha256"] == {
        f"{split}/{name}.npy": hashlib.sha256((dest / split / f"{name}.npy").read_bytes()).hexdigest()
        for split in letters.SPLITS
        for name in ("images", "labels")
    }


def test_lower_and_upper_case_are_all_classes_between_them():
    classes = read_table(CLASSES)
    lower, upper, every = (chosen_classes(which, classes) for which in ("lower", "upper", "all"))
    assert every == list(range(185)) == sorted(lower + upper)
    assert all(classes[row]["character"].islower() for row in lower)
    assert all(classes[row]["character"].isupper() for row in upper)
    assert {*groups_of([classes[row] for row in lower]), *groups_of([classes[row] for row in upper])} == {
        *groups_of(classes)
    }


def test_a_file_chooses_classes_which_keep_the_order_of_the_table(run, names_file, shipped, tmp_path):
    path = names_file("small_z", "", "  capital_a_with_acute ", "small_a")
    assert run("--dest", tmp_path / "dest", "--classes", path)[0] == 0
    assert (tmp_path / "dest" / "classes.txt").read_text("utf-8").split() == [
        "capital_a_with_acute",
        "small_a",
        "small_z",
    ]
    labels = np.load(tmp_path / "dest" / "train" / "labels.npy")
    assert np.bincount(labels).tolist() == [190, 190, 190]
    rows = [row for row, each in enumerate(read_table(CLASSES)) if each["name"] in ("small_a", "small_z")]
    images = np.load(tmp_path / "dest" / "validation" / "images.npy")
    validation = [row for row, font in enumerate(read_table(FONTS)) if font["split"] == "validation"]
    for label, row in zip((1, 2), rows, strict=True):
        expected = shipped.images[np.isin(shipped.font, validation) & (shipped.label == row)]
        np.testing.assert_array_equal(
            images[np.load(tmp_path / "dest" / "validation" / "labels.npy") == label], expected
        )


def test_fewer_fonts_are_of_many_families_and_within_more_fonts():
    fonts = read_table(FONTS)
    order = spread_order(fonts)
    assert sorted(order) == [row for row, font in enumerate(fonts) if font["split"] == "train"]
    families = {font["family"] for font in fonts if font["split"] == "train"}
    assert {fonts[row]["family"] for row in order[: len(families)]} == families
    validation = spread_order(fonts, "validation")
    assert sorted(validation) == [row for row, font in enumerate(fonts) if font["split"] == "validation"]
    for train, val in ((1, None), (20, 48), (190, 5)):
        rows = chosen_fonts({"train": train, "validation": val}, fonts)
        assert set(rows) == set(validation[:val]) | set(order[:train])
    assert chosen_fonts({"train": None, "validation": None}, fonts) == list(range(238))


def test_other_fonts_are_as_many_of_which_none_is_among_the_first():
    fonts = read_table(FONTS)
    numbers = {"train": 48, "validation": 24}
    first, others = chosen_fonts(numbers, fonts), chosen_fonts(numbers, fonts, others=True)
    assert not set(first) & set(others)
    assert [sum(fonts[row]["split"] == split for row in others) for split in numbers] == [48, 24]
    for odd in ({"train": 96, "validation": 24}, {"train": 48, "validation": None}):
        with pytest.raises(InputError, match=r"must be at most (95|24), half of the (train|validation) fonts"):
            chosen_fonts(odd, fonts, others=True)


def test_a_directory_that_is_ready_is_recognised_and_never_written_over(run, names_file, tmp_path):
    names = names_file("small_a", "small_e")
    same = ("--dest", tmp_path / "dest", "--classes", names, "--fonts", 2)
    assert run(*same)[0] == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert run(*same) == (0, f"{tmp_path / 'dest'} is ready\n", "")
    assert json.loads((tmp_path / "dest" / "manifest.json").read_text("utf-8"))["parameters"]["classes"] == [
        "small_a",
        "small_e",
    ]
    for changes in ((*same[:4], "--fonts", 3), (*same, "--validation-fonts", 5), same[:4], (*same[:2], "--fonts", 2)):
        status, _, complaint = run(*changes)
        assert (status, complaint.count("\n"), "name a new directory" in complaint) == (2, 1, True)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_failure_while_writing_leaves_no_directory(run, names_file, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    words = ("--dest", tmp_path / "dest", "--classes", names_file("small_a", "small_e"))
    with monkeypatch.context() as patch:
        patch.setattr(letters, "write_json", full)
        status, _, complaint = run(*words)
    assert (status, "No space left" in complaint) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["names.txt"]
    assert run(*words)[0] == 0


@pytest.mark.parametrize("number", ["0", "-1", "two", "191"])
def test_a_number_of_fonts_that_there_are_not_is_refused(number, refused):
    assert "--fonts: " in refused(f"--fonts={number}")


def test_classes_that_are_no_file_or_no_classes_are_refused(refused, names_file, tmp_path):
    missing = refused("--classes", tmp_path / "missing.txt")
    assert "must be all, lower, upper, or a file of classes, one per line: No such file" in missing
    assert "names 'small_ä'" in refused("--classes", names_file("small_a", "small_ä"))
    assert "names 1 classes, must be at least 2" in refused("--classes", names_file("small_a", "small_a"))
    assert "names 0 classes" in refused("--classes", names_file())
    (tmp_path / "names.txt").write_bytes(b"small_a\n\xff\n")
    assert "not UTF-8" in refused("--classes", tmp_path / "names.txt")
    assert "Is a directory" in refused("--classes", tmp_path)


@pytest.mark.parametrize("content", [b"", b"text", SAMPLE.read_bytes()[:-100]])
def test_a_damaged_sample_is_refused(content, refused, tmp_path, monkeypatch):
    (tmp_path / "sample.npz.xz").write_bytes(content)
    monkeypatch.setattr(letters, "SAMPLE", tmp_path / "sample.npz.xz")
    assert "sample: " in refused()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"images": None}, "cannot be read"),
        ({"images": np.zeros((4, 32, 32), np.uint8)}, "must hold images, uint8 (N, 32, 16), not uint8 (4, 32, 32)"),
        ({"images": np.zeros((4, 32, 16), np.int8)}, "not int8 (4, 32, 16)"),
        ({"label": np.zeros(3, np.uint8)}, "must hold label, integers (4,) from 0 to 184"),
        ({"label": np.full(4, 185, np.uint8)}, "must hold label"),
        ({"label": np.full(4, -1)}, "must hold label"),
        ({"font": np.zeros(4)}, "must hold font, integers (4,) from 0 to 237"),
    ],
)
def test_a_sample_with_other_arrays_is_refused(changes, reason, refused, tmp_path, monkeypatch):
    arrays = {"images": np.zeros((4, 32, 16), np.uint8), "label": np.zeros(4, np.uint8), "font": np.zeros(4, np.uint16)}
    with lzma.open(tmp_path / "sample.npz.xz", "wb") as file:
        np.savez(file, **{name: array for name, array in (arrays | changes).items() if array is not None})
    monkeypatch.setattr(letters, "SAMPLE", tmp_path / "sample.npz.xz")
    assert reason in refused()


# ---- training


@pytest.mark.slow
def test_a_teacher_and_its_students_learn_a_few_letters(names_file, tmp_path):
    names = [row["name"] for row in read_table(CLASSES) if row["group"] in ("small_o", "capital_e")]
    dest = tmp_path / "few"
    run_for_real("python data_prep/letters.py --fonts 100 --dest", dest, "--classes", names_file(*names))
    words = f"lskd_vision.train --data-dir {dest} --dataset lskd/arrays --in-chans 1 --img-size 32 --crop-pct 1"
    words += " --scale .8 1 --ratio .9 1.1 --hflip 0 --mean .1 --std .25 --batch-size 64 --workers 0 --device cpu"
    words += f" --opt adamw --lr 5e-3 --warmup-epochs 0 --epochs 2 --model test_resnet --output {tmp_path / 'runs'}"
    run_for_real("python -m", words, "--smoothing .1")
    teacher = tmp_path / "runs" / "few" / "test_resnet_a0.1_s42" / "last.pth.tar"
    run_for_real("python -m", words, "--kd-temperature 1 3 --kd-checkpoint", teacher)
    for name in ("a0.1_s42", "a0.1_T1_s42", "a0.1_T3_s42"):
        with open(tmp_path / "runs" / "few" / f"test_resnet_{name}" / "summary.csv", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 2
        assert float(rows[-1]["valid_top1"]) > 3 * 100 / len(names)
    # The checkpoint knows what its data are, and its classes.
    scored = run_for_real("python -m lskd_vision.validate", teacher, "--data-dir", dest, "--workers 0 --device cpu")
    assert f"validation: {48 * len(names)} images in {len(names)} classes" in scored.stderr
    (dest / "classes.txt").write_text("".join(f"{name}\n" for name in reversed(names)), encoding="utf-8")
    refused = run_for_real("python -m lskd_vision.validate", teacher, "--data-dir", dest, "--workers 0", status=2)
    assert f"has {names[0]!r} as class 0, the data have {names[-1]!r}" in refused.stderr
