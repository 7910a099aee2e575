"""Check, read and unpack the official archives of ILSVRC2012, whose contents are not trusted."""

import contextlib
import gzip
import hashlib
import io
import os
import re
import shutil
import tarfile
import zlib
from collections.abc import Collection, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from lskd.io.errors import InputError, input_error
from lskd.io.files import building

OFFICIAL = {  # by option: name and MD5, as in torchvision.datasets.imagenet
    "--train-tar": ("ILSVRC2012_img_train.tar", "1d675b47d978889d74fa0da5fadfb00e"),  # pragma: allowlist secret
    "--val-tar": ("ILSVRC2012_img_val.tar", "29b22e2961454d5413ddabcf34fc5622"),  # pragma: allowlist secret
    "--devkit": ("ILSVRC2012_devkit_t12.tar.gz", "fa75699e90414af021442c21a62c3abf"),  # pragma: allowlist secret
}
CLASS_TAR = re.compile(r"(n[0-9]{8})\.tar")
TRAIN_IMAGE = re.compile(r"((n[0-9]{8})_[0-9]+)\.JPEG")
VAL_IMAGE = re.compile(r"ILSVRC2012_val_([0-9]{8})\.JPEG")
DEVKIT_DATA = "ILSVRC2012_devkit_t12/data"
GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
MAX_BYTES = 100 * 10**6  # of a file of the devkit; the official ones have less than 1 MB


@dataclass(frozen=True)
class Archive:
    """The archive at ``path``, given with the option ``argument``, a key of :data:`OFFICIAL`."""

    argument: str
    path: Path

    @property
    def official(self) -> str:
        """The archive's name at its origin."""
        return OFFICIAL[self.argument][0]

    def refused(self, reason: str) -> InputError:
        """The error to raise if the archive cannot be used."""
        return input_error(self.argument, self.path, reason)

    def md5(self, any_checksum: bool = False) -> str:
        """The MD5 of the archive, in hexadecimal.

        Raises:
            InputError: it is not the official one, and ``any_checksum`` is false.
        """
        digest, path = hashlib.md5(usedforsecurity=False), self.path
        with (
            open(path, "rb") as file,
            tqdm(total=path.stat().st_size, desc=path.name, unit="B", unit_scale=True, disable=None) as bar,
        ):
            while block := file.read(2**22):
                digest.update(block)
                bar.update(len(block))
        found, (name, official) = digest.hexdigest(), OFFICIAL[self.argument]
        if found != official and not any_checksum:
            raise self.refused(f"has MD5 {found}, {name} has {official}; --any-checksum accepts it")
        return found

    @contextlib.contextmanager
    def reading(self) -> Generator[None]:
        """Turn errors of a damaged archive into an :class:`InputError` within the block."""
        try:
            yield
        except InputError:
            raise
        except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error, ValueError) as error:  # bad header numbers
            raise self.refused(f"cannot be read: {error}") from None

    def open(self) -> tarfile.TarFile:
        """Open the archive for reading."""
        with self.reading():
            return tarfile.open(self.path, "r:gz" if self.official.endswith(".gz") else "r:")

    def open_inner(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> tarfile.TarFile:
        """Open an archive that is a member of this one."""
        with self.reading():
            return tarfile.open(member.name, "r:", fileobj=plain_file(tar, member))

    def members(self, tar: tarfile.TarFile, named: re.Pattern[str]) -> dict[str, tarfile.TarInfo]:
        """The members of ``tar`` by the first group of ``named``, which all their names must match.

        As ``named`` has no slash, files written under these names stay in their folder.

        Raises:
            InputError: a member has another name, occurs twice, or is not a plain file; or the archive is damaged.
        """
        found: dict[str, tarfile.TarInfo] = {}
        size = self.path.stat().st_size
        with self.reading():
            for member in tar:
                match = named.fullmatch(member.name)
                if not match:
                    raise self.refused(f"member {member.name!r} does not belong there: not named {named.pattern}")
                if not member.isreg() or member.issparse():  # a sparse file may claim any size
                    raise self.refused(f"member {member.name!r} is not a plain file")
                if not 0 <= member.size <= size:
                    raise self.refused(f"member {member.name!r} has an impossible size, {member.size} bytes")
                if match[1] in found:
                    raise self.refused(f"member {member.name!r} is there twice")
                found[match[1]] = member
            # tarfile takes a broken header for the end, and would silently skip the rest of the archive.
            file: Any = tar.fileobj
            file.seek(tar.offset)
            if file.read(tarfile.BLOCKSIZE).strip(b"\0"):
                raise self.refused(f"is damaged at byte {tar.offset} of {Path(str(tar.name)).name}")
        return found


def plain_file(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    """A member that is known to be a plain file, for reading."""
    file = tar.extractfile(member)
    assert file is not None
    return file


def train_images(train: Archive, tar: tarfile.TarFile, wnid: str) -> list[tarfile.TarInfo]:
    """The members of ``tar``, the inner archive of class ``wnid``; names of another class are rejected."""
    found = train.members(tar, TRAIN_IMAGE)
    for member in found.values():
        if not member.name.startswith(f"{wnid}_"):
            raise train.refused(f"member {member.name!r} does not belong in {wnid}.tar")
    return list(found.values())


def val_images(val: Archive, tar: tarfile.TarFile, labels: list[str]) -> dict[str, list[tarfile.TarInfo]]:
    """The members of ``tar``, the validation archive, by wnid; ``labels[i]`` is the wnid of image i + 1.

    Raises:
        InputError: it does not hold exactly the images 1 to ``len(labels)``.
    """
    found = {int(number): member for number, member in val.members(tar, VAL_IMAGE).items()}
    if found.keys() != set(range(1, len(labels) + 1)):
        counts = f"holds {len(found)} images, numbered {min(found, default=0)} to {max(found, default=0)}"
        raise val.refused(f"{counts}; must be 1 to {len(labels)}, which the devkit has labels for")
    images: dict[str, list[tarfile.TarInfo]] = {}
    for number, member in sorted(found.items()):
        images.setdefault(labels[number - 1], []).append(member)
    return images


def val_labels(devkit: Archive, wnids: Collection[str]) -> list[str]:
    """The wnid of each validation image, in the order of their numbers, from the devkit.

    The ground truth has ILSVRC2012 IDs, 1 to 1000, which ``meta.mat`` of the devkit translates: they are not class
    indices, which follow the sorted order of the ``wnids``. Nothing of the devkit is unpacked to disk.

    Raises:
        InputError: a file is missing or cannot be read, or does not number exactly these ``wnids``.
    """
    with devkit.reading(), devkit.open() as tar:
        meta, truth = (_devkit_file(devkit, tar, name) for name in ("meta.mat", GROUND_TRUTH))
    wnid_of = _wnid_by_id(devkit, meta)
    if wnid_of.keys() != set(range(1, len(wnids) + 1)) or set(wnid_of.values()) != set(wnids):
        raise devkit.refused(f"meta.mat does not number the {len(wnids)} classes of ImageNet-1K")
    labels = []
    for number, line in enumerate(truth.split(), 1):
        if not re.fullmatch(rb"[0-9]{1,9}", line) or int(line) not in wnid_of:
            shown = line[:20].decode("ascii", "backslashreplace")
            raise devkit.refused(f"{GROUND_TRUTH} has {shown!r} in line {number}; must be 1 to {len(wnids)}")
        labels.append(wnid_of[int(line)])
    return labels


def _devkit_file(devkit: Archive, tar: tarfile.TarFile, name: str) -> bytes:
    try:
        member = tar.getmember(f"{DEVKIT_DATA}/{name}")
    except KeyError:
        raise devkit.refused(f"has no {DEVKIT_DATA}/{name}, as the official {devkit.official} has") from None
    if not member.isreg() or member.issparse() or member.size > MAX_BYTES:
        raise devkit.refused(f"member {member.name!r} is not a plain file of at most {MAX_BYTES // 10**6} MB")
    return plain_file(tar, member).read()


def _wnid_by_id(devkit: Archive, meta: bytes) -> dict[int, str]:
    try:
        import scipy.io
    except ImportError:
        raise devkit.refused("can be read only if scipy is installed: pip install scipy") from None
    try:
        synsets = scipy.io.loadmat(io.BytesIO(meta), squeeze_me=True, variable_names=["synsets"])["synsets"]
        # Synsets with children are nodes above the classes, with IDs from 1001 on.
        classes = [synset for synset in synsets if int(synset["num_children"]) == 0]
        return {int(synset["ILSVRC2012_ID"]): str(synset["WNID"]) for synset in classes}
    except Exception as error:  # scipy raises errors of any type for an invalid file
        raise devkit.refused(f"meta.mat cannot be read: {type(error).__name__} {error}") from None


def unpack(
    train: Archive, val: Archive, labels: list[str], directory: Path, wnids: Collection[str], classes: int
) -> None:
    """Write the images of both archives into ``directory``/train/<wnid> and ``directory``/val/<wnid>.

    A class's folder appears when it is complete; existing folders are left as they are.

    Args:
        train: the archive of the training images, an inner archive per class.
        val: the archive of the validation images.
        labels: the wnid of each validation image (:func:`val_labels`); those of other classes are left out.
        directory: to write to.
        wnids: the classes that the training archive may hold.
        classes: how many of them it must hold.

    Raises:
        InputError: an archive holds anything else. Its members are checked before anything is written, those of an
            inner archive before its class is.
    """
    with train.open() as train_tar, val.open() as val_tar:
        inner, of_class = train.members(train_tar, CLASS_TAR), val_images(val, val_tar, labels)
        if len(inner) != classes or not inner.keys() <= set(wnids):
            strangers = len(inner.keys() - set(wnids))
            raise train.refused(f"holds {len(inner)} classes, {strangers} unknown; must be {classes} of ImageNet-1K")
        for split in ("train", "val"):
            (directory / split).mkdir(parents=True, exist_ok=True)
        for wnid in tqdm(sorted(inner), desc="val", unit=" classes", disable=None):
            if not (directory / "val" / wnid).exists():
                with val.reading():
                    _write_class(directory / "val" / wnid, val_tar, of_class.get(wnid, []))
        for wnid in tqdm(sorted(inner), desc="train", unit=" classes", disable=None):
            if not (directory / "train" / wnid).exists():
                with train.reading(), train.open_inner(train_tar, inner[wnid]) as tar:
                    _write_class(directory / "train" / wnid, tar, train_images(train, tar, wnid))
    for left_over in directory.glob("*/.*"):  # of a run that was killed
        shutil.rmtree(left_over)


def _write_class(folder: Path, tar: tarfile.TarFile, images: list[tarfile.TarInfo]) -> None:
    with building(folder) as beside:
        for image in images:
            with open(beside / image.name, "xb") as file:
                shutil.copyfileobj(plain_file(tar, image), file)
        os.sync()  # once for the 1300 files of a class: an fsync of each takes three times as long
