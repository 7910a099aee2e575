import gzip
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import cub200
import numpy as np
import pytest
import tgz
from helpers.commands import ROOT
from helpers.full_disks import no_file_above
from helpers.iwslt14_archive import write_tgz
from PIL import Image

COMMAND = cub200

CLASSES = ["001.Black_footed_Albatross", "002.Laysan_Albatross", "003.Sooty_Albatross", "004.Groove_billed_Ani"]
IMAGES_PER_CLASS = 5


def photograph(number: int) -> bytes:
    """A small JPEG whose colour is known by its number."""
    file = io.BytesIO()
    Image.new("RGB", (24 + number, 20), (10 * number, 255 - 10 * number, 128)).save(file, "JPEG", quality=95)
    return file.getvalue()


def official() -> tuple[dict[str, bytes], dict[str, dict[str, list[bytes]]]]:
    """The files of a small archive by name in it, and the JPEGs of each split and class, in order of name."""
    files, lists = {}, {name: [] for name in (*cub200.LISTS, "bounding_boxes.txt")}
    expected = {part: {name: [] for name in CLASSES} for part in ("train", "val")}
    number = 0
    for label, name in enumerate(CLASSES, 1):
        lists["classes.txt"].append(f"{label} {name}")
        for place in range(IMAGES_PER_CLASS):
            number += 1
            bird, is_train = name.split(".")[1], (number * 7) % 5 in (0, 2, 3)
            image = f"{name}/{bird}_{place + 1:04d}_{796100 + number}.jpg"
            files[f"CUB_200_2011/images/{image}"] = photograph(number)
            expected["train" if is_train else "val"][name].append(photograph(number))
            lists["images.txt"].append(f"{number} {image}")
            lists["image_class_labels.txt"].append(f"{number} {label}")
            lists["train_test_split.txt"].append(f"{number} {int(is_train)}")
            lists["bounding_boxes.txt"].append(f"{number} 60.0 27.0 325.0 304.0")
    files |= {f"CUB_200_2011/{name}": "".join(line + "\n" for line in lines).encode() for name, lines in lists.items()}
    files["CUB_200_2011/README"] = b"About the images, classes.txt and train_test_split.txt.\n"
    files["CUB_200_2011/parts/parts.txt"] = b"1 back\n2 beak\n"
    files["CUB_200_2011/parts/images.txt"] = b"not the list of images\n"
    files["CUB_200_2011/attributes/certainties.txt"] = b"1 not visible\n"
    files["attributes.txt"] = b"1 has_bill_shape::curved_(up_or_down)\n"
    files["CUB_200_2011/images/._001.Black_footed_Albatross"] = b"\0\5\26\7"
    return files, expected


FILES, EXPECTED = official()


def changed(name: str, old: str, new: str) -> dict[str, bytes]:
    """The files with this change in one list."""
    text = FILES[f"CUB_200_2011/{name}"].decode()
    assert text.count(old) == 1, (name, old)
    return FILES | {f"CUB_200_2011/{name}": text.replace(old, new).encode()}


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


@pytest.fixture
def refused(run, tmp_path):
    """Run the command, which must answer with status 2 and one line, and leave no file or folder behind."""

    def refused(*arguments: object) -> str:
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
        status, printed, complaint = run("--dest", tmp_path / "cub", *arguments)
        assert (status, printed, complaint.count("\n")) == (2, "", 1)
        assert complaint.startswith("cub200.py: error: --")
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before
        assert not list(tmp_path.glob(".*.partial"))
        return complaint

    return refused


@pytest.fixture
def refused_archive(refused, tmp_path):
    """Refuse an archive with these files and members, leaving no directory."""

    def refused_archive(files: dict, *members: tarfile.TarInfo) -> str:
        complaint = refused("--archive", write_tgz(tmp_path / "cub.tgz", files, *members))
        assert not (tmp_path / "cub").exists()
        return complaint

    return refused_archive


@pytest.fixture
def made(run, tmp_path):
    """The directory made of the small archive, what was printed, and the archive's checksum."""
    archive = write_tgz(tmp_path / cub200.OFFICIAL, FILES)
    status, printed, complaint = run("--archive", archive, "--dest", tmp_path / "below" / "cub")
    assert (status, complaint) == (0, "")
    return tmp_path / "below" / "cub", printed, hashlib.sha256(archive.read_bytes()).hexdigest()


# ---- what is made


def test_the_images_are_split_as_the_archive_says_and_nothing_else_is_unpacked(made):
    dest, printed, _ = made
    files = sorted(str(path.relative_to(dest)) for path in dest.rglob("*") if path.is_file())
    assert files == sorted(
        ["groups.json", "manifest.json"]
        + [
            f"{part}/{image.split('images/')[1]}"
            for part in ("train", "val")
            for image, content in FILES.items()
            if image.endswith(".jpg") and content in EXPECTED[part][Path(image).parent.name]
        ]
    )
    for part, classes in EXPECTED.items():
        assert sorted(path.name for path in (dest / part).iterdir()) == CLASSES
        for name, contents in classes.items():
            assert [path.read_bytes() for path in sorted((dest / part / name).iterdir())] == contents
    assert [path.name for path in dest.parent.iterdir()] == ["cub"]
    assert dest.stat().st_mode & 0o777 == 0o755  # others may read it
    assert f"{dest}: 4 classes, 12 train and 8 val images\n" in printed


def test_the_first_flag_of_the_split_list_is_for_train(run, tmp_path):
    """In the official list 1 means train; the classes have 3 train and 2 val images here."""
    archive = write_tgz(tmp_path / "cub.tgz", FILES)
    assert run("--archive", archive, "--dest", tmp_path / "cub")[0] == 0
    flags = FILES["CUB_200_2011/train_test_split.txt"].decode().split()
    names = FILES["CUB_200_2011/images.txt"].decode().split()
    for number in range(len(flags) // 2):
        part = {"1": "train", "0": "val"}[flags[2 * number + 1]]
        assert (tmp_path / "cub" / part / names[2 * number + 1]).is_file()


def test_timm_and_torchvision_read_it_with_the_official_labels(made):
    from timm.data import create_dataset
    from torchvision.datasets import ImageFolder

    dest, _, _ = made
    for part, split in (("train", "train"), ("val", "validation")):
        expected = [(content, label) for label, name in enumerate(CLASSES) for content in EXPECTED[part][name]]
        for dataset in (create_dataset("", root=str(dest), split=split), ImageFolder(dest / part)):
            assert len(dataset) == len(expected)
            for (image, label), (content, number) in zip(dataset, expected, strict=True):
                assert label == number
                np.testing.assert_array_equal(np.asarray(image), np.asarray(Image.open(io.BytesIO(content))))


def test_the_manifest_tells_the_archive_its_checksum_the_terms_the_counts_and_the_classes(made):
    dest, printed, checksum = made
    manifest = json.loads((dest / "manifest.json").read_text("utf-8"))
    assert manifest["parameters"] == {"data_set": "CUB-200-2011", "archive_sha256": checksum}
    assert (manifest["origin"]["archive"], manifest["origin"]["sha256"]) == ("CUB_200_2011.tgz", checksum)
    assert "non-commercial research" in manifest["origin"]["terms"]
    assert "url" not in manifest["origin"]
    assert manifest["counts"] == {"classes": 4, "train": 12, "val": 8}
    assert manifest["classes"] == CLASSES
    assert f"archive: {checksum}  CUB_200_2011.tgz\n" in printed


def test_an_archive_with_other_counts_than_the_official_ones_is_told_to_be_another(made, run, tmp_path, monkeypatch):
    _, printed, _ = made
    assert printed.splitlines()[-1] == (
        "this is not the official archive, which has 200 classes, 5994 train and 5794 val images"
    )
    monkeypatch.setattr(cub200, "OFFICIAL_COUNTS", {"classes": 4, "train": 12, "val": 8})
    archive = write_tgz(tmp_path / cub200.OFFICIAL, FILES)
    assert "official" not in run("--archive", archive, "--dest", tmp_path / "cub")[1]


@pytest.mark.parametrize("prefix", ["", "./"])
def test_the_members_may_come_in_any_order(prefix, run, tmp_path):
    backwards = {prefix + name: FILES[name] for name in reversed(FILES)}
    archive = write_tgz(tmp_path / "cub.tgz", backwards)
    status, printed, _ = run("--archive", archive, "--dest", tmp_path / "cub")
    assert (status, "12 train and 8 val" in printed) == (0, True)


def test_lists_with_windows_line_ends_mean_the_same(run, tmp_path):
    lists = {name: content.replace(b"\n", b"\r\n") for name, content in FILES.items() if name.endswith(".txt")}
    archive = write_tgz(tmp_path / "cub.tgz", FILES | lists)
    assert "12 train and 8 val" in run("--archive", archive, "--dest", tmp_path / "cub")[1]


def test_an_image_that_no_list_names_is_left_out(run, tmp_path):
    archive = write_tgz(tmp_path / "cub.tgz", FILES | {f"CUB_200_2011/images/{CLASSES[0]}/extra.jpg": photograph(9)})
    assert "12 train and 8 val" in run("--archive", archive, "--dest", tmp_path / "cub")[1]
    assert not list((tmp_path / "cub").rglob("extra.jpg"))


def test_what_is_made_is_recognised_and_never_written_over(run, refused, tmp_path):
    same = ("--archive", write_tgz(tmp_path / "cub.tgz", FILES), "--dest", tmp_path / "cub")
    assert run(*same)[0] == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cub").rglob("*")}
    assert run(*same) == (0, f"{tmp_path / 'cub'} is ready\n", "")
    other = write_tgz(tmp_path / "other.tgz", FILES | {"more.txt": b""})
    assert "archive_sha256" in refused("--archive", other)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cub").rglob("*")} == before


@pytest.mark.parametrize("manifest", [None, "{}", "[]", "no json", '{"parameters": 3}'])
def test_a_directory_with_other_content_is_refused(manifest, refused, tmp_path):
    (tmp_path / "cub").mkdir()
    (tmp_path / "cub" / "mine.txt").write_text("mine")
    if manifest is not None:
        (tmp_path / "cub" / "manifest.json").write_text(manifest)
    archive = write_tgz(tmp_path / "cub.tgz", FILES)
    assert "was not made by this command" in refused("--archive", archive)


def test_an_empty_directory_is_filled(run, tmp_path):
    (tmp_path / "cub").mkdir()
    archive = write_tgz(tmp_path / "cub.tgz", FILES)
    assert run("--archive", archive, "--dest", tmp_path / "cub")[0] == 0
    assert (tmp_path / "cub" / "manifest.json").exists()


def test_the_archive_can_come_from_an_address_and_is_kept_beside(run, tmp_path):
    archive = write_tgz(tmp_path / "some.tgz", FILES)
    checksum = hashlib.sha256(archive.read_bytes()).hexdigest()
    same = ("--url", archive.as_uri(), "--sha256", checksum.upper(), "--dest", tmp_path / "below" / "cub")
    assert run(*same)[0] == 0
    archive.unlink()
    origin = json.loads((tmp_path / "below" / "cub" / "manifest.json").read_text())["origin"]
    assert (origin["archive"], origin["url"], origin["sha256"]) == ("some.tgz", archive.as_uri(), checksum)
    assert [path.suffix for path in sorted((tmp_path / "below").iterdir())] == [".tgz", ""]
    shutil.rmtree(tmp_path / "below" / "cub")
    assert run(*same)[0] == 0  # from what was kept


# ---- what is refused


def test_without_an_archive_it_is_told_in_one_line_where_to_get_it(refused):
    complaint = refused()
    assert all(word in complaint for word in ("--archive", "CUB_200_2011.tgz", "CaltechDATA", "65de6-vp158", "--url"))
    assert "http" not in complaint


def test_a_checksum_that_does_not_fit_is_refused(refused, tmp_path):
    archive = write_tgz(tmp_path / "cub.tgz", FILES)
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert found in refused("--archive", archive, "--sha256", "0" * 64)
    assert found in refused("--url", archive.as_uri(), "--sha256", "0" * 64)


@pytest.mark.parametrize("place", [0, -1])
@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (member("/CUB_200_2011/images/x.jpg"), "points out of the archive"),
        (member("CUB_200_2011/images/001.Black_footed_Albatross/../../../x.jpg"), "points out of the archive"),
        (member("../x.jpg"), "points out of the archive"),
        (member("CUB_200_2011/images/001.Black_footed_Albatross/l.jpg", tarfile.SYMTYPE, "/etc"), "neither a plain"),
        (member("CUB_200_2011/images/001.Black_footed_Albatross", tarfile.SYMTYPE, "/etc"), "neither a plain"),
        (member("CUB_200_2011/h.jpg", tarfile.LNKTYPE, "CUB_200_2011/README"), "neither a plain file nor a folder"),
        (member("elsewhere/device", tarfile.BLKTYPE), "neither a plain file nor a folder"),
        (member("elsewhere/device", tarfile.CHRTYPE), "neither a plain file nor a folder"),
        (member("elsewhere/pipe", tarfile.FIFOTYPE), "neither a plain file nor a folder"),
    ],
)
def test_one_dangerous_member_makes_the_whole_archive_refused(entry, reason, place, refused, refused_archive, tmp_path):
    if place == -1:
        complaint = refused_archive(FILES, entry)
    else:  # before all others
        archive = write_tgz(tmp_path / "rest.tgz", FILES)
        header = entry.tobuf(tarfile.GNU_FORMAT)
        archive.write_bytes(gzip.compress(header + gzip.decompress(archive.read_bytes())))
        complaint = refused("--archive", archive)
        assert not (tmp_path / "cub").exists()
    assert reason in complaint
    assert entry.name in complaint


def test_a_name_with_a_null_character_is_refused(refused, tmp_path):
    with tarfile.open(tmp_path / "cub.tgz", "w:gz", format=tarfile.PAX_FORMAT) as archive:
        entry = member("x.jpg")
        entry.pax_headers = {"path": f"CUB_200_2011/images/{CLASSES[0]}/x\0y.jpg"}
        archive.addfile(entry)
    assert "points out of the archive" in refused("--archive", tmp_path / "cub.tgz")


@pytest.mark.parametrize("keep", [1, 500, 0.5, 0.9, -9])
def test_an_archive_cut_short_is_refused(keep, refused, tmp_path):
    archive = write_tgz(tmp_path / "cub.tgz", FILES)
    content = archive.read_bytes()
    archive.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    assert "cannot be read as a .tgz file" in refused("--archive", archive)
    assert not (tmp_path / "cub").exists()


def test_a_tar_file_cut_short_before_it_was_packed_is_refused(refused, tmp_path):
    content = gzip.decompress(write_tgz(tmp_path / "cub.tgz", FILES).read_bytes())
    start = content.index(photograph(12))
    for end in (start + 100, start - 100):  # inside an image and inside its header
        (tmp_path / "cub.tgz").write_bytes(gzip.compress(content[:end]))
        complaint = refused("--archive", tmp_path / "cub.tgz")
        assert "cannot be read as a .tgz file" in complaint or "damaged at byte" in complaint


def test_an_archive_with_a_flipped_byte_is_refused(refused, tmp_path):
    archive = write_tgz(tmp_path / "cub.tgz", FILES)
    packed = archive.read_bytes()
    for position in range(50, len(packed), len(packed) // 20):
        archive.write_bytes(packed[:position] + bytes([packed[position] ^ 0xFF]) + packed[position + 1 :])
        assert "cannot be read as a .tgz file" in refused("--archive", archive)


def test_something_other_than_an_archive_is_refused(refused, tmp_path):
    for content in (b"", b"<html>not found</html>", gzip.compress(b"text" * 1000)):
        (tmp_path / "cub.tgz").write_bytes(content)
        assert "cannot be read as a .tgz file" in refused("--archive", tmp_path / "cub.tgz")
    assert "cannot be read" in refused("--archive", tmp_path / "none.tgz")


def test_archives_above_the_limits_are_refused(refused_archive, monkeypatch):
    assert (cub200.MAX_BYTES, cub200.MAX_FILE_BYTES, tgz.MAX_MEMBERS) == (2_000_000_000, 10_000_000, 100_000)
    with monkeypatch.context() as patch:
        patch.setattr(cub200, "MAX_BYTES", 2 * 10**6)
        assert "more than 2 MB" in refused_archive(FILES | {"other/zeros": bytes(2 * 10**6)})
    with monkeypatch.context() as patch:
        patch.setattr(cub200, "MAX_FILE_BYTES", 5000)
        image = f"CUB_200_2011/images/{CLASSES[1]}/large.jpg"
        assert f"'{image}' has 5001 bytes" in refused_archive(FILES | {image: bytes(5001)})
    monkeypatch.setattr(tgz, "MAX_MEMBERS", len(FILES) + 3)
    assert "more than" in refused_archive(FILES)


def test_an_archive_may_hold_as_much_as_the_limit_and_no_byte_more(run, refused, tmp_path, monkeypatch):
    archive = write_tgz(tmp_path / "cub.tgz", FILES)
    size = len(gzip.decompress(archive.read_bytes()))
    monkeypatch.setattr(cub200, "MAX_BYTES", size - 1)
    assert "must not hold more than" in refused("--archive", archive)
    monkeypatch.setattr(cub200, "MAX_BYTES", size)
    assert run("--archive", archive, "--dest", tmp_path / "cub")[0] == 0


def test_a_download_has_the_limit_of_this_data_set(run, refused, tmp_path, monkeypatch):
    archive = write_tgz(tmp_path / "cub.tgz", FILES)
    monkeypatch.setattr(tgz, "MAX_BYTES", 100)
    with monkeypatch.context() as patch:
        patch.setattr(cub200, "MAX_BYTES", 1000)
        assert "gives more than 0 MB" in refused("--url", archive.as_uri())
    assert run("--url", archive.as_uri(), "--dest", tmp_path / "cub")[0] == 0


def test_a_large_file_that_is_not_wanted_does_no_harm(run, tmp_path, monkeypatch):
    monkeypatch.setattr(cub200, "MAX_FILE_BYTES", 5000)
    labels = {"CUB_200_2011/attributes/image_attribute_labels.txt": bytes(10**5)}
    archive = write_tgz(tmp_path / "cub.tgz", FILES | labels)
    assert run("--archive", archive, "--dest", tmp_path / "cub")[0] == 0


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_that_would_be_read_whole_must_be_short(kind, refused, tmp_path):
    entry = member("long", kind)
    entry.size = 2 * 10**6
    content = gzip.decompress(write_tgz(tmp_path / "cub.tgz", FILES).read_bytes())
    end = content.rindex(b"1 has_bill_shape")
    end += 512 - end % 512
    header = entry.tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "cub.tgz").write_bytes(gzip.compress(content[:end] + header + b"1" * 2 * 10**6 + content[end:]))
    assert f"damaged at byte {end}" in refused("--archive", tmp_path / "cub.tgz")


@pytest.mark.parametrize("name", cub200.LISTS)
def test_a_list_that_is_missing_empty_or_no_text_is_refused(name, refused_archive):
    path = f"CUB_200_2011/{name}"
    assert path in refused_archive({file: content for file, content in FILES.items() if file != path})
    assert f"{name} is empty" in refused_archive(FILES | {path: b""})
    assert f"{name} is not UTF-8 text" in refused_archive(FILES | {path: FILES[path] + b"21 \xff\n"})


@pytest.mark.parametrize("name", cub200.LISTS)
@pytest.mark.parametrize(
    "line", ["word", "1", "-1 1", "1  2", "1 2 3", "x 1", "", "1" * 5000 + " 1", "\N{SUPERSCRIPT TWO} 1"]
)
def test_a_line_that_is_no_number_and_word_is_refused(name, line, refused_archive):
    path = f"CUB_200_2011/{name}"
    lines = FILES[path].count(b"\n")
    complaint = refused_archive(FILES | {path: FILES[path] + line.encode() + b"\n"})
    assert f"line {lines + 1} of {name} must be a number and a word" in complaint


@pytest.mark.parametrize("name", cub200.LISTS)
def test_a_number_that_comes_twice_is_refused(name, refused_archive):
    path = f"CUB_200_2011/{name}"
    assert f"{name} has number 1 twice" in refused_archive(
        FILES | {path: FILES[path] + FILES[path].splitlines(keepends=True)[0]}
    )


@pytest.mark.parametrize(
    ("name", "old", "new", "reason"),
    [
        ("image_class_labels.txt", "20 4\n", "", "only images.txt has image 20"),
        ("train_test_split.txt", "13 0\n", "", "only images.txt has image 13"),
        ("train_test_split.txt", "20 1\n", "20 1\n21 1\n", "only train_test_split.txt has image 21"),
        ("image_class_labels.txt", "20 4\n", "20 4\n21 4\n", "only image_class_labels.txt has image 21"),
        ("image_class_labels.txt", "\n20 4\n", "\n20 3\n", "class 3 of image 20 is not that of its folder"),
        ("image_class_labels.txt", "\n20 4\n", "\n20 0\n", "class 0 of image 20"),
        ("image_class_labels.txt", "\n20 4\n", "\n20 5\n", "class 5 of image 20"),
        ("image_class_labels.txt", "\n20 4\n", "\n20 four\n", "class four of image 20"),
        ("train_test_split.txt", "\n20 1\n", "\n20 2\n", "'2' for image 20, not 0 or 1"),
        ("images.txt", "_0005_796120.jpg", "_0006_796120.jpg", "Groove_billed_Ani_0006_796120.jpg, image 20"),
        ("images.txt", "Ani_0005_796120.jpg", "Ani_0004_796119.jpg", "_0004_796119.jpg twice"),
        ("images.txt", "20 004.Groove_billed_Ani/", "20 ../", "has no CUB_200_2011/images/../"),
        ("classes.txt", "4 004.Groove_billed_Ani\n", "", "class 4 of image 16"),
        ("classes.txt", "4 004.", "5 004.", "'5 004.Groove_billed_Ani', not '4 004.…'"),
        ("classes.txt", "4 004.", "4 005.", "'4 005.Groove_billed_Ani', not '4 004.…'"),
        ("classes.txt", "1 001.Black", "0 001.Black", "class 1 of classes.txt"),
        ("classes.txt", "4 004.Groove", "4 004./Groove", "class 4 of classes.txt"),
    ],
)
def test_lists_that_do_not_agree_are_refused(name, old, new, reason, refused_archive):
    assert reason in refused_archive(changed(name, old, new))


@pytest.mark.parametrize(("flag", "part"), [(0, "train"), (1, "val")])
def test_a_class_without_images_in_one_split_is_refused(flag, part, refused_archive):
    """Labels are read from the folders that have images: without one, those after it would be wrong."""
    lines = FILES["CUB_200_2011/train_test_split.txt"].decode().splitlines()
    lines[5:10] = [f"{number} {flag}" for number in range(6, 11)]
    complaint = refused_archive(FILES | {"CUB_200_2011/train_test_split.txt": "\n".join(lines).encode()})
    assert f"class {CLASSES[1]} has no {part} image" in complaint


def test_an_image_that_is_missing_is_refused(refused_archive):
    image = f"CUB_200_2011/images/{CLASSES[2]}/Sooty_Albatross_0003_796113.jpg"
    complaint = refused_archive({name: content for name, content in FILES.items() if name != image})
    assert f"has no {image}, image 13" in complaint


def test_an_image_that_readers_of_folders_would_not_take_for_one_is_refused(refused_archive):
    names = FILES["CUB_200_2011/images.txt"].replace(b"796120.jpg", b"796120.txt")
    image = f"CUB_200_2011/images/{CLASSES[3]}/Groove_billed_Ani_0005_796120.txt"
    complaint = refused_archive(FILES | {"CUB_200_2011/images.txt": names, image: photograph(20)})
    assert f"has no {image}" in complaint


@pytest.mark.parametrize("name", ["CUB_200_2011/images.txt", next(iter(FILES))])
def test_a_file_that_is_there_twice_is_refused(name, refused_archive):
    assert f"has {name} twice" in refused_archive(FILES | {f"./{name}": FILES[name]})


# ---- interrupted


@pytest.mark.slow
@pytest.mark.parametrize("way", [signal.SIGINT, signal.SIGKILL])
def test_a_command_stopped_half_way_leaves_no_directory_and_can_be_run_again(way, tmp_path):
    archive, dest = tmp_path / "cub.tgz", tmp_path / "cub"
    content = gzip.decompress(write_tgz(archive, FILES).read_bytes())
    os.mkfifo(tmp_path / "pipe")
    script = f"""
import sys, cub200
from lskd.io.errors import run_command
cub200.verify = lambda *_: "0" * 64  # it would read the pipe to its end
sys.argv[1:] = ["--archive", {str(tmp_path / "pipe")!r}, "--dest", {str(dest)!r}]
run_command(cub200.parser(), cub200.main)
"""
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'data_prep'}"}
    command = [sys.executable, "-c", script]
    with (
        # What a shell starts in the background ignores Ctrl-C, and so would the tests and their children.
        subprocess.Popen(
            command,
            env=environment,
            stderr=subprocess.DEVNULL,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        ) as process,
        open(tmp_path / "pipe", "wb") as pipe,  # which stays open: the rest of the archive never comes
    ):
        pipe.write(gzip.compress(content, 0)[: len(content) // 2])
        pipe.flush()
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(".cub.*.partial/unpacked/*/*.jpg")):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(way)
        process.wait(60)
    assert process.returncode == (130 if way == signal.SIGINT else -signal.SIGKILL)
    assert not dest.exists()
    assert bool(list(tmp_path.glob(".cub.*.partial"))) == (way == signal.SIGKILL)
    command = [sys.executable, ROOT / "data_prep" / "cub200.py", "--archive", archive, "--dest", dest]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert "12 train and 8 val" in result.stdout


def test_a_full_disk_is_told_in_one_line_and_nothing_is_left(run, tmp_path):
    archive = write_tgz(tmp_path / "cub.tgz", FILES)
    with no_file_above(300):
        status, printed, complaint = run("--archive", archive, "--dest", tmp_path / "cub")
    assert (status, printed) == (2, "")
    assert complaint == f"cub200.py: error: [Errno 27] File too large: '{tmp_path / 'cub'}'\n"
    assert list(tmp_path.iterdir()) == [archive]
