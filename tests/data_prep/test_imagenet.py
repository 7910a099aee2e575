"""ImageNet on small archives of the official layout: three classes, the whole devkit."""

import functools
import hashlib
import io
import json
import os
import random
import re
import tarfile
from pathlib import Path

import imagenet
import imagenet_devkit
import numpy as np
import pytest
import scipy.io
from helpers.commands import last_line
from helpers.commands import run as run_real
from helpers.full_disks import no_file_above
from PIL import Image

from lskd.io.errors import InputError

COMMAND = imagenet

WNIDS = ("n01440764", "n02105855", "n15075141")  # tench, Shetland sheepdog, toilet tissue: the first, one, the last
STRANGER = "n00007846"  # person: a synset, not a class
VAL_IMAGES = 2
TRUTH = [WNIDS[i] for i in (2, 0, 1, 1, 2, 0)]  # of validation image 1, 2, …
TRAIN_IMAGES = 7


@functools.cache
def image(colour: int, kind: str = "JPEG", mode: str = "RGB") -> bytes:
    data = io.BytesIO()
    Image.new(mode, (8, 8), (colour,) * len(mode)).save(data, kind)
    return data.getvalue()


@functools.cache
def ids() -> dict[str, int]:
    """An ILSVRC2012 ID for each class, which is not its index, as in the real devkit."""
    numbers = list(range(1, 1001))
    random.Random(0).shuffle(numbers)
    return dict(zip(sorted(imagenet.class_names()), numbers, strict=True))


def meta_mat(id_of: dict[str, int]) -> bytes:
    """A ``meta.mat`` with these classes and two nodes above them."""
    kinds = {"ILSVRC2012_ID": "O", "WNID": "O", "words": "O", "gloss": "O", "num_children": "O", "children": "O"}
    rows = [(number, wnid, "a, b", "what it is", 0, np.zeros((1, 0))) for wnid, number in id_of.items()]
    rows.insert(1, (1001, STRANGER, "person", "a human being", 2, np.array([[1, 2]])))
    rows.append((1002, "n00001740", "entity", "everything", 1, np.array([[1001]])))
    rows = [(*row, 3, 1300) for row in rows]
    kinds |= {"wordnet_height": "O", "num_train_images": "O"}
    synsets = np.array(rows, dtype=list(kinds.items())).reshape(-1, 1)
    data = io.BytesIO()
    scipy.io.savemat(data, {"synsets": synsets}, do_compression=True)
    return data.getvalue()


@functools.cache
def real_meta_mat() -> bytes:
    return meta_mat(dict(sorted(ids().items(), key=lambda both: both[1])))


def tar(files: dict[str, bytes | tarfile.TarInfo], mode: str = "w") -> bytes:
    """An archive of these files, or of members with another type."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=mode, format=tarfile.GNU_FORMAT) as archive:
        for name, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                content.name = name
                archive.addfile(content)
            else:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return data.getvalue()


def train_files() -> dict[str, dict[str, bytes]]:
    """The images of each class: one is really a PNG, one is CMYK."""
    files = {wnid: {f"{wnid}_{10 * i + 6}.JPEG": image(i) for i in range(2)} for wnid in WNIDS}
    files["n02105855"]["n02105855_2933.JPEG"] = image(9, "PNG")
    files["n15075141"]["n15075141_6.JPEG"] = image(8, "JPEG", "CMYK")
    return files


def train_tar(files: dict[str, dict[str, bytes]]) -> bytes:
    # Not sorted, so that an order in an archive is not taken for the order of the classes.
    return tar({f"{wnid}.tar": tar(images) for wnid, images in reversed(files.items())})


def val_files(numbers: range = range(1, 7)) -> dict[str, bytes]:
    return {f"ILSVRC2012_val_{number:08}.JPEG": image(100 + number) for number in reversed(numbers)}


def devkit_files() -> dict[str, bytes | tarfile.TarInfo]:
    folder = tarfile.TarInfo()
    folder.type = tarfile.DIRTYPE
    truth = "".join(f"{ids()[wnid]}\n" for wnid in TRUTH).encode()
    return {
        "ILSVRC2012_devkit_t12": folder,
        "ILSVRC2012_devkit_t12/readme.txt": b"Development kit",
        "ILSVRC2012_devkit_t12/data/meta.mat": real_meta_mat(),
        "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt": truth,
    }


def special(kind: bytes, target: str = "", size: int = 0) -> tarfile.TarInfo:
    member = tarfile.TarInfo()
    member.type, member.linkname, member.size = kind, target, size
    return member


@pytest.fixture
def archives(tmp_path):
    """Write the archives, some of them with another content, and give the options that name them."""

    def archives(**changes: bytes) -> list:
        contents = {"train": train_tar(train_files()), "val": tar(val_files()), "devkit": tar(devkit_files(), "w:gz")}
        paths = {name: tmp_path / f"{name}.tar" for name in contents}
        for name, content in (contents | changes).items():
            paths[name].write_bytes(content)
        return ["--train-tar", paths["train"], "--val-tar", paths["val"], "--devkit", paths["devkit"]]

    return archives


@pytest.fixture
def refused(run, tmp_path):
    """Run the command, which must answer with status 2 and one line, and change nothing."""

    def refused(*arguments: object) -> str:
        before = contents(tmp_path)
        status, printed, complaint = run(*arguments)
        assert (status, printed) == (2, "")
        assert complaint.startswith("imagenet.py: error: --")
        assert complaint.endswith("\n")
        assert complaint.count("\n") == 1
        assert contents(tmp_path) == before
        return complaint

    return refused


@pytest.fixture
def refused_archives(refused, archives, tmp_path):
    """Refuse to build from archives with these changes."""

    def refused_archives(**changes: bytes) -> str:
        return refused(*archives(**changes), "--dest", tmp_path / "dest", *SUBSET)

    return refused_archives


SUBSET = ("--classes", len(WNIDS), "--any-checksum")


def contents(directory: Path) -> dict:
    return {path: path.read_bytes() if path.is_file() else None for path in directory.rglob("*")}


def expected(**changes) -> imagenet.Expected:
    """These three classes as if they were the whole data set."""
    return imagenet.Expected(
        **{"wnids": WNIDS, "classes": 3, "train_images": TRAIN_IMAGES, "val_images_per_class": VAL_IMAGES} | changes
    )


def write_tree(directory: Path) -> Path:
    """The tree that is to come of the archives."""
    for wnid, images in train_files().items():
        (directory / "train" / wnid).mkdir(parents=True)
        for name, content in images.items():
            (directory / "train" / wnid / name).write_bytes(content)
    for number, wnid in enumerate(TRUTH, 1):
        (directory / "val" / wnid).mkdir(parents=True, exist_ok=True)
        name = f"ILSVRC2012_val_{number:08}.JPEG"
        (directory / "val" / wnid / name).write_bytes(val_files()[name])
    return directory


def images_below(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.glob("*/*/*")}


def read_json(path: Path):
    return json.loads(path.read_text("utf-8"))


def build(options: list, dest: Path, whole: imagenet.Expected) -> dict:
    """What the command does, for a data set of another size."""
    made = dict(zip(options[::2], options[1::2], strict=True))
    parts = [imagenet_devkit.Archive(argument, made[argument]) for argument in imagenet_devkit.OFFICIAL]
    return imagenet.build(*parts, dest, whole, {part.official: part.md5(any_checksum=True) for part in parts})


# ---- from the archives


@pytest.mark.slow
def test_the_command_makes_the_tree_with_the_validation_images_where_the_devkit_says(archives, tmp_path):
    dest = tmp_path / "below" / "dest"
    result = run_real("python data_prep/imagenet.py", *archives(), "--dest", dest, *SUBSET)
    assert (result.stdout, result.stderr) == (
        f"{dest}: 7 train and 6 val images of 3 classes; see {dest / 'manifest.json'}\n",
        "",
    )
    assert images_below(dest) == images_below(write_tree(tmp_path / "tree"))
    assert sorted(path.name for path in dest.iterdir()) == ["class_index.json", "manifest.json", "train", "val"]
    assert [path.name for path in dest.parent.iterdir()] == ["dest"]
    checked = run_real("python data_prep/imagenet.py --check", dest, "--classes", 3)
    assert checked.stdout == result.stdout
    result = run_real("python data_prep/imagenet.py --check", dest, status=2)
    assert last_line(result).startswith(f"imagenet.py: error: --check: {dest} (")
    assert "train lacks 997 folders: n01443537, n01484850, n01491361, n01494475, n01496331 and 992 more" in last_line(
        result
    )


def test_what_is_whole_is_recognised_and_never_written_again(archives, run, refused, tmp_path):
    options = [*archives(), "--dest", tmp_path / "dest"]
    first = run(*options, *SUBSET)
    assert first[0] == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "dest").rglob("*")}
    assert run(*options, *SUBSET) == first
    assert "was not made of these archives" in refused(*options, "--any-checksum", "--classes", 2)
    other = archives(train=train_tar(train_files() | {WNIDS[0]: {"n01440764_1.JPEG": image(3)}}))
    assert "was not made of these archives" in refused(*other, "--dest", tmp_path / "dest", *SUBSET)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "dest").rglob("*")} == before


def test_the_manifest_has_the_counts_and_the_archives(archives, tmp_path):
    options = archives()
    manifest = build(options, tmp_path / "dest", expected())
    assert manifest == read_json(tmp_path / "dest" / "manifest.json")
    assert manifest["dataset"] == "ILSVRC2012"
    assert manifest["counts"] == {"train": {"classes": 3, "images": 7}, "val": {"classes": 3, "images": 6}}
    names = ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz")
    digests = [hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() for path in options[1::2]]
    assert manifest["archives_md5"] == dict(zip(names, digests, strict=True))
    assert "timm" in manifest["versions"]


def test_a_run_that_was_stopped_goes_on_and_leaves_no_half_class(archives, tmp_path, monkeypatch):
    options, dest, copied = archives(), tmp_path / "dest", []
    real = imagenet_devkit.shutil.copyfileobj

    def copy(source, target):
        copied.append(target.name)
        if len(copied) == 6 + 2 + 2:  # all validation images, the first class, and one of the second one's three
            target.write(b"half an im")
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(imagenet_devkit.shutil, "copyfileobj", copy)
    with pytest.raises(KeyboardInterrupt):
        build(options, dest, expected())
    (building,) = tmp_path.glob(".dest.*.partial")
    assert not dest.exists()
    assert [path.name for path in (building / "train").iterdir()] == [WNIDS[0]]
    killed = building / "train" / f".{WNIDS[1]}.abc"  # what a killed run, which cannot tidy up, leaves
    killed.mkdir()
    (killed / f"{WNIDS[1]}_6.JPEG").write_bytes(b"half")
    done = {path.name: path.stat().st_ino for path in building.glob("*/*")}
    copied.clear()
    monkeypatch.setattr(imagenet_devkit.shutil, "copyfileobj", lambda *both: (copied.append(both[1].name), real(*both)))
    build(options, dest, expected())
    assert len(copied) == 3 + 2
    assert images_below(dest) == images_below(write_tree(tmp_path / "tree"))
    assert {path.name: path.stat().st_ino for path in dest.glob("*/*")}.items() >= {
        WNIDS[0]: done[WNIDS[0]],
    }.items()
    assert not list(tmp_path.glob(".*"))
    assert not list(dest.glob("*/.*"))


def test_classes_of_other_archives_are_not_taken_for_done(archives, tmp_path, monkeypatch):
    dest = tmp_path / "dest"
    with monkeypatch.context() as patch:
        patch.setattr(imagenet, "examine", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            build(archives(), dest, expected())
    files = train_files()
    files[WNIDS[0]] = {f"{WNIDS[0]}_{i}.JPEG": image(50 + i) for i in range(2)}
    build(archives(train=train_tar(files)), dest, expected())
    assert (dest / "train" / WNIDS[0] / f"{WNIDS[0]}_0.JPEG").read_bytes() == image(50)
    assert len(list((dest / "train" / WNIDS[0]).iterdir())) == 2


def test_a_full_disk_keeps_the_classes_that_are_done(archives, run, tmp_path, monkeypatch):
    real, written = os.replace, []

    def replace(source, target):
        if len(written) == 4:
            raise OSError(28, "No space left on device")
        written.append(target)
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(imagenet_devkit.os, "replace", replace)
        status, _, complaint = run(*archives(), "--dest", tmp_path / "dest", *SUBSET)
    assert (status, complaint) == (
        2,
        f"imagenet.py: error: [Errno 28] No space left on device: '{tmp_path / 'dest'}'\n",
    )
    assert len(list(tmp_path.glob(".dest.*.partial/*/*"))) == 4
    assert run(*archives(), "--dest", tmp_path / "dest", *SUBSET)[0] == 0


def test_an_outcome_with_the_wrong_number_of_images_is_refused_and_removed(archives, tmp_path):
    options = archives()
    before = contents(tmp_path)
    with pytest.raises(InputError, match=r"--dest: \S+ \(would not be ILSVRC2012: 1 problem: train has 7 images"):
        build(options, tmp_path / "dest", expected(train_images=8))
    assert contents(tmp_path) == before


def test_validation_images_of_classes_that_the_training_archive_lacks_are_left_out(archives, run, tmp_path):
    files = train_files()
    del files[WNIDS[1]]
    options = archives(train=train_tar(files))
    assert run(*options, "--dest", tmp_path / "dest", "--classes", 2, "--any-checksum")[0] == 0
    assert sorted(path.name for path in (tmp_path / "dest" / "val").iterdir()) == [WNIDS[0], WNIDS[2]]
    assert len(list((tmp_path / "dest" / "val").glob("*/*"))) == 4


def test_a_class_gets_its_name_when_its_images_are_on_the_disk(archives, tmp_path, monkeypatch):
    steps, replace = [], os.replace
    monkeypatch.setattr(imagenet_devkit.os, "sync", lambda: steps.append("sync"))
    monkeypatch.setattr(
        imagenet_devkit.os, "replace", lambda source, target: (steps.append(Path(target).name), replace(source, target))
    )
    build(archives(), tmp_path / "dest", expected())
    classes = [step for wnid in WNIDS for step in ("sync", wnid)]
    assert steps == [*classes, *classes, "manifest.json", "class_index.json", "dest"]


def test_the_folders_can_be_read_by_others(archives, tmp_path):
    build(archives(), tmp_path / "dest", expected())
    assert {path.stat().st_mode & 0o555 for path in (tmp_path / "dest").glob("*/*")} == {0o555}


# ---- archives that are refused


def test_an_archive_with_another_checksum_is_refused_unless_that_is_wanted(archives, refused, tmp_path):
    options = archives()
    complaint = refused(*options, "--dest", tmp_path / "dest", "--classes", 3)
    digest = hashlib.md5(options[-1].read_bytes(), usedforsecurity=False).hexdigest()
    assert f"--devkit: {options[-1]} (has MD5 {digest}, ILSVRC2012_devkit_t12.tar.gz has fa75699e90" in complaint
    assert "--any-checksum" in complaint


def test_the_official_checksums_are_those_of_torchvision():
    from torchvision.datasets.imagenet import ARCHIVE_META

    assert sorted(imagenet_devkit.OFFICIAL.values()) == sorted(ARCHIVE_META.values())


@pytest.mark.parametrize(
    "name",
    [
        "/n01440764_6.JPEG",
        "../n01440764_6.JPEG",
        "n01440764/../n01440764_6.JPEG",
        "n01440764/n01440764_6.JPEG",
        "n01440764_6.JPEG\n",
        "n01440764_6.jpg.exe",
        "n01440764_٣.JPEG",
        ".JPEG",
    ],
)
def test_an_image_with_a_name_of_another_kind_is_refused(name, refused_archives):
    files = train_files()
    files[WNIDS[0]][name] = image(1)
    assert "does not belong there" in refused_archives(train=train_tar(files))
    # A validation archive is not written at all before each of its names is known to be right.
    assert "does not belong there" in refused_archives(val=tar(val_files() | {name: image(1)}))
    assert "does not belong there" in refused_archives(train=tar({f"{WNIDS[0]}.tar": b"", name: image(1)}))


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        (tarfile.SYMTYPE, "../../../../etc"),
        (tarfile.LNKTYPE, "n01440764_6.JPEG"),
        (tarfile.CHRTYPE, ""),
        (tarfile.FIFOTYPE, ""),
        (tarfile.DIRTYPE, ""),
    ],
)
def test_a_link_a_device_and_a_folder_are_refused(kind, target, refused_archives):
    files = train_files()
    files[WNIDS[0]][f"{WNIDS[0]}_7.JPEG"] = special(kind, target)
    assert "is not a plain file" in refused_archives(train=train_tar(files))
    val = val_files(range(1, 6)) | {"ILSVRC2012_val_00000006.JPEG": special(kind, target)}
    assert "is not a plain file" in refused_archives(val=tar(val))
    outer = {f"{wnid}.tar": tar(images) for wnid, images in train_files().items()}
    assert "is not a plain file" in refused_archives(train=tar(outer | {f"{WNIDS[0]}.tar": special(kind, target)}))
    name = "ILSVRC2012_devkit_t12/data/meta.mat"
    assert "is not a plain file" in refused_archives(devkit=tar(devkit_files() | {name: special(kind, target)}, "w:gz"))


def test_a_sparse_file_which_may_claim_any_size_is_refused(refused_archives):
    member = tarfile.TarInfo(f"{WNIDS[0]}_7.JPEG")
    member.pax_headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": str(10**15)}
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(member)
    outer = {f"{wnid}.tar": tar(images) for wnid, images in train_files().items()}
    assert "is not a plain file" in refused_archives(train=tar(outer | {f"{WNIDS[0]}.tar": data.getvalue()}))


def test_a_header_with_a_number_that_is_none_is_refused(refused_archives):
    member = tarfile.TarInfo("ILSVRC2012_val_00000001.JPEG")
    member.pax_headers = {"GNU.sparse.map": "0,one", "GNU.sparse.size": "1"}
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(member)
    assert "cannot be read: invalid literal" in refused_archives(val=data.getvalue())


def test_an_image_of_another_class_is_refused(refused_archives):
    files = train_files()
    files[WNIDS[0]][f"{WNIDS[1]}_7.JPEG"] = image(1)
    assert f"'{WNIDS[1]}_7.JPEG' does not belong in {WNIDS[0]}.tar" in refused_archives(train=train_tar(files))


def test_an_image_that_comes_twice_is_refused(refused_archives):
    twice = _twice("n01440764_1.JPEG")
    outer = {f"{wnid}.tar": tar(images) for wnid, images in train_files().items()} | {f"{WNIDS[0]}.tar": twice}
    assert "is there twice" in refused_archives(train=tar(outer))
    assert "is there twice" in refused_archives(val=_twice("ILSVRC2012_val_00000001.JPEG"))
    assert "is there twice" in refused_archives(train=_twice(f"{WNIDS[0]}.tar"))


def _twice(name: str) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(name))
        archive.addfile(tarfile.TarInfo(name))
    return data.getvalue()


@pytest.mark.parametrize(
    ("files", "counts"),
    [
        (dict(list(train_files().items())[:2]), "holds 2 classes, 0 unknown; must be 3"),
        (train_files() | {"n01443537": {"n01443537_1.JPEG": image(1)}}, "holds 4 classes, 0 unknown; must be 3"),
        (dict(list(train_files().items())[:2]) | {STRANGER: {}}, "holds 3 classes, 1 unknown; must be 3"),
    ],
)
def test_a_training_archive_with_other_classes_is_refused(files, counts, refused_archives):
    assert counts in refused_archives(train=train_tar(files))


@pytest.mark.parametrize(
    ("numbers", "counts"),
    [
        (range(1, 6), "holds 5 images, numbered 1 to 5; must be 1 to 6"),
        (range(1, 8), "holds 7 images, numbered 1 to 7; must be 1 to 6"),
        (range(0, 6), "holds 6 images, numbered 0 to 5; must be 1 to 6"),
        (range(0), "holds 0 images, numbered 0 to 0; must be 1 to 6"),
    ],
)
def test_a_validation_archive_must_hold_what_the_devkit_labels(numbers, counts, refused_archives):
    assert counts in refused_archives(val=tar(val_files(numbers)))


def test_damaged_archives_are_refused(refused_archives):
    train, val, devkit = train_tar(train_files()), tar(val_files()), tar(devkit_files(), "w:gz")
    for damaged in (b"", b"no archive" * 100, train[:3000], train[:-20000]):
        assert "--train-tar" in refused_archives(train=damaged)
    for damaged in (b"", b"no archive" * 100, val[:700]):
        assert "--val-tar" in refused_archives(val=damaged)
    for damaged in (b"", b"no archive" * 100, devkit[: len(devkit) // 2], tar(devkit_files())):
        assert "--devkit" in refused_archives(devkit=damaged)


def test_an_archive_that_is_broken_in_its_middle_is_refused(refused_archives):
    inner = tar(train_files()[WNIDS[1]])
    second = inner.index(f"{WNIDS[1]}_16.JPEG".encode())
    broken = inner[:second] + b"\xff" * 512 + inner[second + 512 :]
    outer = {f"{wnid}.tar": tar(images) for wnid, images in train_files().items()} | {f"{WNIDS[1]}.tar": broken}
    assert f"is damaged at byte {second} of {WNIDS[1]}.tar" in refused_archives(train=tar(outer))


@pytest.mark.parametrize("size", [2**60, 2**63, 2**80])
def test_an_archive_whose_member_has_an_impossible_size_is_refused(size, refused_archives):
    content = bytearray(tar(val_files()))
    content[124:136] = b"\x80" + size.to_bytes(11, "big")  # the size field of a tar header, in GNU's binary form
    content[148:156] = b" " * 8
    content[148:156] = b"%06o\0 " % sum(content[:512])
    assert f"has an impossible size, {size} bytes" in refused_archives(val=bytes(content))


def devkit_with(**changes: bytes | None) -> bytes:
    files = {
        name: changes.get(Path(name).stem.removeprefix("ILSVRC2012_validation_"), content)
        for name, content in devkit_files().items()
    }
    return tar({name: content for name, content in files.items() if content is not None}, "w:gz")


def swapped(first: str, second: str) -> dict[str, int]:
    return {{first: second}.get(wnid, wnid): number for wnid, number in ids().items()}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"meta": None}, "has no ILSVRC2012_devkit_t12/data/meta.mat"),
        ({"ground_truth": None}, "has no ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt"),
        ({"meta": b""}, "meta.mat cannot be read"),
        ({"meta": b"\x80\x04K\x01."}, "meta.mat cannot be read"),  # a pickle
        ({"meta": lambda: real_meta_mat()[:5000]}, "meta.mat cannot be read"),
        ({"meta": lambda: meta_mat(swapped(WNIDS[0], STRANGER))}, "does not number the 1000 classes"),
        ({"meta": lambda: meta_mat(ids() | {WNIDS[0]: ids()[WNIDS[1]]})}, "does not number the 1000 classes"),
        ({"meta": lambda: meta_mat(ids() | {WNIDS[0]: 1003})}, "does not number the 1000 classes"),
        ({"ground_truth": b"1\n2\n0\n"}, "has '0' in line 3; must be 1 to 1000"),
        ({"ground_truth": b"1\n1001\n"}, "has '1001' in line 2; must be 1 to 1000"),
        ({"ground_truth": b"-1\n"}, "has '-1' in line 1; must be 1 to 1000"),
        ({"ground_truth": b"9" * 5000}, "has '99999999999999999999' in line 1; must be 1 to 1000"),
        ({"ground_truth": b"1.5\n\xff\n"}, "has '1.5' in line 1; must be 1 to 1000"),
        ({"ground_truth": b""}, "must be 1 to 0"),
    ],
)
def test_a_devkit_that_does_not_tell_the_classes_is_refused(changes, reason, refused_archives):
    changes = {name: content() if callable(content) else content for name, content in changes.items()}
    assert reason in refused_archives(devkit=devkit_with(**changes))


@pytest.mark.parametrize("missing", ["--train-tar", "--val-tar", "--devkit", "--dest"])
def test_all_three_archives_and_a_destination_are_needed(missing, archives, refused, tmp_path):
    options = [*archives(), "--dest", tmp_path / "dest"]
    at = options.index(missing)
    assert refused(*options[:at], *options[at + 2 :]).startswith(f"imagenet.py: error: {missing}: not given (must be ")
    if missing != "--dest":
        options[at + 1] = tmp_path / "none.tar"
        assert "none.tar (must be the path of ILSVRC2012_" in refused(*options)


def test_a_destination_that_holds_something_else_is_refused(archives, refused, tmp_path, monkeypatch):
    monkeypatch.delattr(imagenet.Archive, "md5")  # which takes long: the refusal comes before it
    (tmp_path / "dest").mkdir()
    (tmp_path / "dest" / "notes").write_text("mine")
    assert "name a new directory" in refused(*archives(), "--dest", tmp_path / "dest", *SUBSET)
    assert "name a new directory" in refused(*archives(), "--dest", tmp_path / "dest" / "notes", *SUBSET)
    (tmp_path / "dest" / "notes").unlink()
    monkeypatch.setattr(os.path, "ismount", lambda path: path == tmp_path / "dest")
    assert "is a mount point" in refused(*archives(), "--dest", tmp_path / "dest", *SUBSET)


def test_a_destination_where_nothing_can_be_written_is_refused_at_once(archives, refused, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, _: path != tmp_path)
    complaint = refused(*archives(), "--dest", tmp_path / "below" / "dest", *SUBSET)
    assert f"--dest: {tmp_path} (must be a directory that can be written to)" in complaint
    tree = write_tree(tmp_path / "tree")
    assert "--dest" in refused("--check", tree, "--classes", 3, "--dest", tmp_path / "below")


def test_an_empty_destination_is_used(archives, tmp_path, monkeypatch):
    (tmp_path / "dest").mkdir()
    monkeypatch.chdir(tmp_path / "dest")
    build(archives(), Path(), expected())
    assert len(list((tmp_path / "dest").glob("*/*/*"))) == TRAIN_IMAGES + len(TRUTH)


# ---- a tree that is there


@pytest.fixture
def tree(tmp_path):
    return write_tree(tmp_path / "tree")


def problems(tree: Path, **changes) -> list[str]:
    return imagenet.examine(tree, expected(**changes)).problems


def test_a_right_tree_is_described(tree, run, tmp_path):
    assert run("--check", tree, "--classes", 3) == (
        0,
        f"{tree}: 7 train and 6 val images of 3 classes; see {tree / 'manifest.json'}\n",
        "",
    )
    assert read_json(tree / "class_index.json") == {
        "0": ["n01440764", "tench, Tinca tinca"],
        "1": ["n02105855", "Shetland sheepdog, Shetland sheep dog, Shetland"],
        "2": ["n15075141", "toilet tissue, toilet paper, bathroom tissue"],
    }
    manifest = read_json(tree / "manifest.json")
    assert manifest["counts"] == {"train": {"classes": 3, "images": 7}, "val": {"classes": 3, "images": 6}}
    assert "archives_md5" not in manifest
    assert run("--check", tree, "--classes", 3, "--dest", tmp_path / "a" / "b")[0] == 0
    assert read_json(tmp_path / "a" / "b" / "manifest.json") == manifest


def test_the_description_goes_elsewhere_where_the_tree_is_not_ones_own(tree, run, tmp_path):
    before = contents(tree)
    assert run("--check", tree, "--classes", 3, "--dest", tmp_path / "description")[0] == 0
    assert contents(tree) == before
    assert sorted(path.name for path in (tmp_path / "description").iterdir()) == ["class_index.json", "manifest.json"]


def test_files_of_the_same_names_but_another_origin_are_kept(tree, refused, monkeypatch):
    monkeypatch.delattr(imagenet, "examine")  # which takes long: the refusal comes before it
    for name, content in (
        ("class_index.json", "{}"),
        ("manifest.json", "{}"),
        ("manifest.json", "[1]"),
        *[("manifest.json", text) for text in ("no JSON", '{"dataset": "mine"}')],
    ):
        (tree / name).write_text(content)
        assert "not written by this command" in refused("--check", tree, "--classes", 3)
        (tree / name).unlink()


def test_a_tree_that_is_checked_again_keeps_its_manifest_unless_it_has_changed(archives, tmp_path):
    manifest = build(archives(), tmp_path / "dest", expected())
    dest = tmp_path / "dest"
    assert imagenet.check(dest, dest, expected()) == manifest
    (dest / "train" / WNIDS[0] / f"{WNIDS[0]}_6.JPEG").write_bytes(image(1) + b"\0")
    changed = imagenet.check(dest, dest, expected())
    assert "archives_md5" not in changed
    assert changed["fingerprint"] != manifest["fingerprint"]


def test_the_fingerprint_is_of_names_and_sizes(tree):
    first = imagenet.examine(tree, expected()).fingerprint
    listing = "".join(f"{path.relative_to(tree)}\t{path.stat().st_size}\n" for path in sorted(tree.glob("*/*/*")))
    assert first == hashlib.sha256(listing.encode()).hexdigest()


def test_a_right_tree_has_no_problems_and_other_files_in_it_are_left_out_of_account(tree):
    (tree / "train" / "LOC_train_solution.csv").write_text("a")
    (tree / "val" / WNIDS[0] / "Thumbs.db").write_text("a")
    (tree / "more").mkdir()
    (tree / "train" / ".ipynb_checkpoints").mkdir()
    (tree / "val" / WNIDS[0] / "._ILSVRC2012_val_00000002.JPEG").write_text("a")
    assert problems(tree) == []


def test_images_of_other_extensions_count(tree):
    first, *_ = (tree / "train" / WNIDS[0]).iterdir()
    first.rename(first.with_suffix(".png"))
    assert problems(tree) == []


def damage(tree: Path, what: str) -> None:
    folder = tree / "val" / WNIDS[0]
    picture = folder / "ILSVRC2012_val_00000002.JPEG"
    if what == "lacks":
        for split in ("train", "val"):
            (tree / split / WNIDS[1]).rename(tree / split / "n01443537")
    elif what == "loose":
        picture.rename(tree / "val" / picture.name)
    elif what == "other format":
        (folder / "more.webp").write_bytes(b"RIFF\0\0\0\0WEBP")
    elif what == "empty":
        picture.write_bytes(b"")
    elif what == "text":
        picture.write_bytes(b"<html>\xff\xd8\xff")
    elif what == "short":
        picture.write_bytes(b"\xff\xd8")
    elif what == "link":
        picture.unlink()
        picture.symlink_to("nowhere")
    elif what == "pipe":
        picture.unlink()
        os.mkfifo(picture)
    elif what == "folder":
        (folder / "more").mkdir()
    elif what == "one less":
        picture.unlink()
    elif what == "none":
        for path in (tree / "train" / WNIDS[2]).iterdir():
            path.unlink()
    elif what == "no val":
        (tree / "val").rename(tree / "validation")


@pytest.mark.parametrize(
    ("what", "found"),
    [
        (
            "lacks",
            [
                "train lacks 1 folder: n02105855",
                "train has besides 1 folder: n01443537",
                "val lacks 1 folder: n02105855",
                "val has besides 1 folder: n01443537",
                "train has 4 images instead of 7",
            ],
        ),
        ("loose", ["val has 1 images outside the classes' folders", "val/n01440764 has 1 images instead of 2"]),
        (
            "other format",
            ["val/n01440764/more.webp is not a JPEG or PNG file", "val/n01440764 has 3 images instead of 2"],
        ),
        ("empty", ["val/n01440764/ILSVRC2012_val_00000002.JPEG is empty"]),
        ("text", ["val/n01440764/ILSVRC2012_val_00000002.JPEG is not a JPEG or PNG file"]),
        ("short", ["val/n01440764/ILSVRC2012_val_00000002.JPEG is not a JPEG or PNG file"]),
        (
            "link",
            ["val/n01440764/ILSVRC2012_val_00000002.JPEG is not a file", "val/n01440764 has 1 images instead of 2"],
        ),
        (
            "pipe",
            ["val/n01440764/ILSVRC2012_val_00000002.JPEG is not a file", "val/n01440764 has 1 images instead of 2"],
        ),
        ("folder", ["val/n01440764/more is a folder"]),
        ("one less", ["val/n01440764 has 1 images instead of 2"]),
        ("none", ["train/n15075141 has 0 images", "train has 5 images instead of 7"]),
        ("no val", ["val cannot be read: No such file or directory", f"val lacks 3 folders: {', '.join(WNIDS)}"]),
    ],
)
def test_what_is_wrong_with_a_tree_is_told(what, found, tree):
    damage(tree, what)
    assert problems(tree) == found


def test_a_wrong_tree_is_refused_with_its_first_problems_and_not_described(tree, refused):
    for path in (tree / "train").glob("*/*"):
        path.write_bytes(b"")
    complaint = refused("--check", tree, "--classes", 3)
    assert re.search(
        r"--check: \S+ \(7 problems: train/\S+ is empty(; train/\S+ is empty){4} and 2 more\)\n$", complaint
    )


def test_a_subset_has_the_same_classes_in_both_splits_and_as_many_as_were_told(tree, refused):
    assert "(1 problem: 3 of ImageNet-1K's classes instead of 4)" in refused("--check", tree, "--classes", 4)
    (tree / "val" / WNIDS[1]).rename(tree / "val" / "n01443537")
    complaint = refused("--check", tree, "--classes", 3)
    assert "(3 problems: 4 of ImageNet-1K's classes instead of 3; train lacks 1 folder: n01443537; " in complaint
    assert "must be at most 1000" in refused("--check", tree, "--classes", 1001)


def test_the_whole_data_set_is_1000_classes_with_1281167_and_50_000_images():
    whole = imagenet.imagenet_1k()
    assert (whole.classes, len(set(whole.wnids)), whole.wnids) == (1000, 1000, tuple(sorted(whole.wnids)))
    assert (whole.train_images, whole.val_images_per_class) == (1281167, 50)


def test_checking_does_not_go_with_archives_or_without_a_directory(archives, tree, refused, tmp_path):
    options = archives()
    assert "not with --check" in refused("--check", tree, *options[:2])
    assert "must be a directory" in refused("--check", tmp_path / "none")


# ---- what trains on it


def test_timm_and_torchvision_read_the_labels_that_the_class_index_has(archives, tmp_path):
    from timm.data import create_dataset
    from torchvision.datasets import ImageFolder

    dest = tmp_path / "dest"
    build(archives(), dest, expected())
    index_of = {wnid: int(index) for index, (wnid, _) in read_json(dest / "class_index.json").items()}
    right = {f"ILSVRC2012_val_{number:08}.JPEG": index_of[wnid] for number, wnid in enumerate(TRUTH, 1)}
    torchvision = ImageFolder(dest / "val")
    assert torchvision.class_to_idx == index_of
    assert {Path(path).name: label for path, label in torchvision.samples} == right
    timm = create_dataset("", root=str(dest), split="validation")
    assert {timm.filename(i, basename=True): timm[i][1] for i in range(len(timm))} == right
    assert len(create_dataset("", root=str(dest), split="train")) == len(ImageFolder(dest / "train")) == TRAIN_IMAGES


def test_the_index_of_a_class_is_timms_and_not_its_ilsvrc2012_id():
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    names = list(imagenet.class_names().items())
    for index in (0, 157, 230, 999):
        assert names[index] == (info.index_to_label_name(index), info.index_to_description(index))
    assert [list(imagenet.class_names()).index(wnid) for wnid in WNIDS] == [0, 230, 999]
    assert [ids()[wnid] - 1 for wnid in WNIDS] != [0, 230, 999]


def test_a_full_disk_is_told_in_one_line_and_the_same_command_goes_on(run, archives, tmp_path):
    options = [*archives(), "--dest", tmp_path / "dest", *SUBSET]
    with no_file_above(300):
        status, printed, complaint = run(*options)
    assert (status, printed) == (2, "")
    assert complaint == f"imagenet.py: error: [Errno 27] File too large: '{tmp_path / 'dest'}'\n"
    assert not (tmp_path / "dest").exists()
    assert not images_below(next(tmp_path.glob(".dest.*")))
    assert run(*options)[0] == 0
    assert images_below(tmp_path / "dest") == images_below(write_tree(tmp_path / "tree"))


def test_a_tree_whose_description_cannot_be_written_stays_without_one(run, tmp_path):
    tree = write_tree(tmp_path / "tree")
    with no_file_above(10):
        status, _, complaint = run("--check", tree, "--classes", 3)
    assert (status, complaint.count("\n")) == (2, 1)
    assert f"File too large: '{tree / 'manifest.json'}'" in complaint
    assert sorted(path.name for path in tree.iterdir()) == ["train", "val"]
