"""Files made to do harm: they are refused in a line, whole, without running what is in them, and cost no memory."""

import gzip
import hashlib
import io
import json
import os
import pickle
import re
import resource
import shutil
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from helpers.commands import ROOT, last_line, run
from helpers.image_folders import write_folders
from helpers.refusals import answer, refusal, snapshot
from helpers.small_nmt import make_cache, make_model, make_task, save_checkpoint
from helpers.small_runs import add_representations, image_run, translation_run
from jobs import Job
from PIL import Image
from safetensors.numpy import save

from lskd.records.inputs import SUFFIX

pytestmark = pytest.mark.slow

TRAIN = "lskd_vision.train --device cpu --workers 0 --epochs 2 --batch-size 8 --warmup-epochs 0 --model test_resnet"
FAIRSEQ = "fairseq-train {place}/data-bin --user-dir lskd_fairseq --criterion kd --arch transformer --optimizer adam"
FAIRSEQ += " --max-tokens 1000 --cpu"
GIGABYTES = 4  # that a bomb would become
MOST = 1.5e9  # bytes of memory that a command may need: torch and fairseq alone take a third of that


class Payload:
    """Pickled, it makes a file when it is read."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")


@pytest.fixture(scope="module")
def place(tmp_path_factory, data_bin) -> Path:
    """Good images, data and teachers of both sides, beside which the hostile files are put."""
    place = tmp_path_factory.mktemp("hostile")
    write_folders(place / "images", train=8, validation=2)
    torch.manual_seed(0)
    state = timm.create_model("test_resnet", num_classes=3).state_dict()
    torch.save({"arch": "test_resnet", "state_dict": state}, place / "good.pth.tar")
    shutil.copytree(data_bin, place / "data-bin")
    task = make_task(place / "data-bin")
    save_checkpoint(place / "good.pt", make_model(task), task)
    return place


@pytest.fixture
def said(place, monkeypatch, capsys):
    """How a command refuses; ``{place}`` is the directory of the files."""

    def said(command: str) -> str:
        return refusal([word.replace("{place}", str(place)) for word in command.split()], place, monkeypatch, capsys)

    return said


# ---- pickled code

READERS = [
    (f"{TRAIN} --data-dir {{place}}/images --output {{place}}/new --kd-checkpoint {{place}}/bad.pth.tar", "pth.tar"),
    (
        f"{TRAIN} --data-dir {{place}}/images --output {{place}}/new --initial-checkpoint {{place}}/bad.pth.tar",
        "pth.tar",
    ),
    ("lskd_vision.validate {place}/bad.pth.tar --data-dir {place}/images", "pth.tar"),
    ("lskd_vision.representations {place}/bad.pth.tar --data-dir {place}/images", "pth.tar"),
    (f"{FAIRSEQ} --save-dir {{place}}/new --teacher-path {{place}}/bad.pt", "pt"),
    (f"{FAIRSEQ} --save-dir {{place}}/new --teacher-path {{place}}/good.pt --restore-file {{place}}/bad.pt", "pt"),
    ("lskd_fairseq.score --data {place}/data-bin --path {place}/bad.pt", "pt"),
    ("lskd_fairseq.export {place}/bad.pt {place}/out.pt", "pt"),
    ("lskd_fairseq.representations --data {place}/data-bin --path {place}/bad.pt", "pt"),
    ("lskd_fairseq.cache_teacher --data {place}/data-bin --path {place}/bad.pt --dest {place}/new", "pt"),
]


@pytest.mark.parametrize("old", [False, True], ids=["zip", "old format"])
@pytest.mark.parametrize(("command", "suffix"), READERS)
def test_code_in_a_checkpoint_is_not_run(command, suffix, old, place, said, tmp_path):
    mark, file = tmp_path / "mark", place / f"bad.{suffix}"
    state = torch.load(place / f"good.{suffix}", weights_only=suffix == "pth.tar") | {"epoch": Payload(mark)}
    torch.save(state, file, _use_new_zipfile_serialization=not old)
    assert file.name in said(command)
    assert not mark.exists()
    torch.load(file, weights_only=False)  # it would have been
    assert mark.exists()


def test_code_in_the_checkpoint_that_a_run_goes_on_from_is_not_run(place, said, monkeypatch, capsys, tmp_path):
    command = f"{TRAIN} --data-dir {place}/images --output {place}/runs"
    assert answer(command.replace("--epochs 2", "--epochs 1").split(), monkeypatch, capsys)[0] == 0
    (last,) = (place / "runs").rglob("last.pth.tar")
    state = torch.load(last, weights_only=True)
    mark = tmp_path / "mark"
    torch.save(state | {"scheduler": Payload(mark)}, last)
    record = json.loads(last.with_name("run.json").read_text())
    record["configuration"]["host"]["epochs"] = 2
    last.with_name("run.json").write_text(json.dumps(record))
    assert "last.pth.tar" in said(f"{command} --resume")
    assert not mark.exists()


def test_code_in_the_place_of_features_is_not_run(place, said, tmp_path):
    mark, good = tmp_path / "mark", image_run(place / "features", 0.1)
    add_representations(good, 0.1)
    file = place / f"bad{SUFFIX}"
    objects = np.array([Payload(mark)], dtype=object)
    for write in (
        lambda: torch.save({"features": Payload(mark)}, file),
        lambda: file.write_bytes(pickle.dumps(Payload(mark))),
        lambda: np.savez(open(file, "wb"), features=objects),  # noqa: SIM115
        lambda: np.save(open(file, "wb"), objects),  # noqa: SIM115
    ):
        write()
        for command in ("entropy", "advise", "accuracy", "similar --by distance"):
            assert "must be a representation file" in said(f"lskd {command} {file}")
    assert not mark.exists()


@pytest.fixture(scope="module")
def cache(place) -> Path:
    """A finished cache of the good teacher."""
    return make_cache(place / "cache", place / "data-bin", place / "good.pt")


def with_shard(cache: Path, content: bytes) -> Path:
    """A copy of a cache whose first file has this content, size and checksum included."""
    copy = cache.with_name("bad-cache")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(cache, copy)
    manifest = json.loads((copy / "cache.json").read_text())
    shard = manifest["files"][0]
    (copy / shard["name"]).write_bytes(content)
    shard |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (copy / "cache.json").write_text(json.dumps(manifest))
    return copy


def test_code_in_a_cached_teacher_is_not_run(cache, said, tmp_path):
    mark = tmp_path / "mark"
    file = io.BytesIO()
    torch.save(Payload(mark), file)
    bad = with_shard(cache, file.getvalue())
    assert "00000-train.safetensors" in said(f"{FAIRSEQ} --save-dir {{place}}/new --teacher-cache {bad}")
    assert not mark.exists()


@pytest.mark.parametrize("name", ["../good.pt", "/etc/passwd", "..", ".hidden", "a/b"])
def test_a_cached_teacher_names_no_file_elsewhere(name, cache, said):
    bad = with_shard(cache, b"")
    manifest = json.loads((bad / "cache.json").read_text())
    manifest["files"][0]["name"] = name
    (bad / "cache.json").write_text(json.dumps(manifest))
    complaint = said(f"{FAIRSEQ} --save-dir {{place}}/new --teacher-cache {bad}")
    assert "must be the name of a file in the directory" in complaint


# ---- shapes and offsets that are not so


def safetensors_file(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file with this header, and perhaps another length of it than it has."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape: list, offsets: list, dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


ABSURD = {
    "2**40 elements": safetensors_file({"features": entry([2**40], [0, 2**42])}, bytes(16)),
    "2**40 elements in 16 bytes": safetensors_file({"features": entry([2**40], [0, 16])}, bytes(16)),
    "a number of elements that wraps around": safetensors_file({"features": entry([2**32, 2**32], [0, 0])}),
    "a negative shape": safetensors_file({"features": entry([-4], [0, 16])}, bytes(16)),
    "negative offsets": safetensors_file({"features": entry([4], [-16, 0])}, bytes(16)),
    "offsets that run backwards": safetensors_file({"features": entry([4], [16, 0])}, bytes(16)),
    "tensors that overlap": safetensors_file({"a": entry([4], [0, 16]), "features": entry([4], [8, 24])}, bytes(24)),
    "a hole between tensors": safetensors_file({"a": entry([1], [0, 4]), "features": entry([1], [8, 12])}, bytes(12)),
    "data beyond the end": safetensors_file({"features": entry([4], [0, 16])}, bytes(8)),
    "data that nobody names": safetensors_file({"features": entry([4], [0, 16])}, bytes(64)),
    "a header of 2**40 bytes": safetensors_file({}, length=2**40),
    "a header of 2**64 - 1 bytes": safetensors_file({}, length=2**64 - 1),
    "a header that is nested deeply": safetensors_file(b"[" * 10**6),
    "metadata that are nested deeply": safetensors_file({"__metadata__": {"lskd": "[" * 10**6}}),
    "a type that does not exist": safetensors_file({"features": entry([4], [0, 16], "F128")}, bytes(16)),
    "a header of no text": safetensors_file(b"\xff\xfe\xfd"),
}


@pytest.mark.parametrize("kind", ABSURD)
def test_a_representation_file_with_an_absurd_header_is_refused(kind, place, said):
    file = place / f"absurd{SUFFIX}"
    file.write_bytes(ABSURD[kind])
    assert "must be a representation file" in said(f"lskd entropy {file}")


@pytest.mark.parametrize("kind", ABSURD)
def test_a_cached_teacher_with_an_absurd_header_is_refused(kind, cache, said):
    bad = with_shard(cache, ABSURD[kind])
    assert "00000-train.safetensors" in said(f"{FAIRSEQ} --save-dir {{place}}/new --teacher-cache {bad}")


@pytest.mark.parametrize("kind", ABSURD)
def test_weights_with_an_absurd_header_are_refused(kind, place, said):
    (place / "bad.safetensors").write_bytes(ABSURD[kind])
    assert "bad.safetensors" in said("lskd_vision.validate {place}/bad.safetensors --data-dir {place}/images")


def test_a_representation_file_that_claims_2_to_the_40_classes_is_refused(place, said):
    file = place / f"absurd{SUFFIX}"
    tensors = {name: np.zeros((2**20, 0), np.float32) for name in ("features", "sums")}
    content = save(tensors, {"lskd": json.dumps({"schema_version": 1, "class_names": ["a"]})})
    file.write_bytes(content.replace(b"1048576", b"9999999"))
    assert re.search("must be a representation file|is not valid", said(f"lskd entropy {file}"))


def test_a_tensor_that_is_larger_than_what_is_stored_of_it_is_refused(place, cache, said):
    for suffix, key in (("pt", "model"), ("pth.tar", "state_dict")):
        state = torch.load(place / f"good.{suffix}", weights_only=suffix == "pth.tar")
        state[key]["more"] = torch.zeros(1).expand(2**20, 2**20)  # four terabytes to compute a checksum of
        torch.save(state, place / f"bad.{suffix}")
    command = f"{FAIRSEQ} --save-dir {{place}}/new --teacher-cache {cache} --teacher-path {{place}}/bad.pt"
    assert "larger than its stored data" in said(command)
    assert "bad.pth.tar" in said("lskd_vision.validate {place}/bad.pth.tar --data-dir {place}/images")


# ---- bombs


def zeros(pack, gigabytes: int = GIGABYTES) -> list[bytes]:
    """So many gigabytes of zeros, packed piece by piece: formats whose packed pieces may stand one after the other."""
    return [pack(bytes(2**26))] * (gigabytes * 2**4)


def bomb_of_zip(path: Path) -> None:
    """What torch.save would have written, one record of it packed to a thousandth."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    piece = packer.compress(bytes(2**26)) + packer.flush(zlib.Z_FULL_FLUSH)
    count = GIGABYTES * 2**4 - 1
    packed, size = piece * count + zlib.compress(b"", 9, -15), count * 2**26
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (("byteorder", b"little"), (".format_version", b"1"), ("version", b"3\n")):
            archive.writestr(f"bomb/{name}", content)
    name, whole = b"bomb/data.pkl", path.read_bytes()
    start = whole.index(b"PK\x01\x02")
    fields = (20, 0, zipfile.ZIP_DEFLATED, 0, 33, 0, len(packed), size)
    local = struct.pack("<4s5H3I2H", b"PK\x03\x04", *fields, len(name), 0) + name
    central = struct.pack("<4s6H3I5H2I", b"PK\x01\x02", 20, *fields, len(name), 0, 0, 0, 0, 0, start) + name
    directory = whole[start : whole.index(b"PK\x05\x06")] + central
    begins = start + len(local) + len(packed)
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 4, 4, len(directory), begins, 0)
    path.write_bytes(whole[:start] + local + packed + directory + end)


def bomb_of_tgz(path: Path) -> None:
    """An archive with one file of zeros."""
    header = tarfile.TarInfo("de-en/README")
    header.size = GIGABYTES * 2**30
    path.write_bytes(b"".join([gzip.compress(header.tobuf()), *zeros(gzip.compress), gzip.compress(bytes(1024))]))


def bomb_of_xz(path: Path) -> None:
    import lzma

    path.write_bytes(b"".join(zeros(lambda block: lzma.compress(block, preset=0))))


def bomb_of_gz(path: Path) -> None:
    """Labels of Fashion-MNIST, and zeros for ever after."""
    header = struct.pack(">4B1I", 0, 0, 8, 1, 10_000)
    path.write_bytes(b"".join([gzip.compress(header), *zeros(gzip.compress)]))


def cost(command: str, place: Path) -> tuple[int, str, int]:
    """Exit status, last line and most memory in bytes of a command in a process of its own, which has a limit too."""
    words = [word.replace("{place}", str(place)) for word in command.split()]
    limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (2**34, 2**34))  # noqa: E731
    process = subprocess.Popen(
        [sys.executable, *words],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limit,
    )
    complaint = process.stderr.read()
    process.stderr.close()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, complaint.strip().splitlines()[-1], used.ru_maxrss * 1024


BOMBS = [
    (bomb_of_zip, "bomb.pt", "-m lskd_fairseq.score --data {place}/data-bin --path {place}/bomb.pt", "compressed"),
    (
        bomb_of_zip,
        "bomb.pth.tar",
        "-m lskd_vision.validate {place}/bomb.pth.tar --data-dir {place}/images",
        "not a check",
    ),
    (
        bomb_of_tgz,
        "bomb.tgz",
        "data_prep/iwslt14.py --pair en-de --dest {place}/new --archive {place}/bomb.tgz",
        "size|more than 200 MB",
    ),
    (bomb_of_tgz, "bomb.tgz", "data_prep/cub200.py --dest {place}/new --archive {place}/bomb.tgz", "size|more than"),
    (
        bomb_of_xz,
        "bomb.xz",
        "data_prep/ddtp.py --pair en-de --dest {place}/new --translations {place}/bomb.xz {place}/bomb.xz",
        "must hold at most",
    ),
]


@pytest.mark.parametrize(("make", "name", "command", "why"), BOMBS)
def test_a_small_file_that_unpacks_to_gigabytes_costs_no_memory(make, name, command, why, place):
    make(place / name)
    assert (place / name).stat().st_size < 2**24
    before = snapshot(place)
    status, complaint, memory = cost(command, place)
    (place / name).unlink()
    assert status == 2, complaint
    assert name in complaint
    assert re.search(why, complaint), complaint
    assert memory < MOST
    assert snapshot(place) == {path: found for path, found in before.items() if path != name}


def test_labels_that_unpack_to_gigabytes_are_read_no_further_than_they_say(tmp_path):
    import idx

    bomb_of_gz(tmp_path / "labels.gz")
    with pytest.raises(ValueError, match="must hold 10000 bytes"):
        idx.read_idx(tmp_path / "labels.gz", 1)


def test_an_image_of_a_few_bytes_that_unpacks_to_gigabytes_is_refused(place, said):
    folder = place / "bomb-images"
    shutil.copytree(place / "images", folder)
    file = next((folder / "validation" / "Bag").iterdir())
    chunks = [struct.pack(">IIBBBBB", 60_000, 60_000, 1, 0, 0, 0, 0), zlib.compress(bytes(100))]
    content = b"\x89PNG\r\n\x1a\n"
    for name, chunk in ((b"IHDR", chunks[0]), (b"IDAT", chunks[1]), (b"IEND", b"")):
        content += struct.pack(">I", len(chunk)) + name + chunk + struct.pack(">I", zlib.crc32(name + chunk))
    file.write_bytes(content)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(file)
    complaint = said(f"lskd_vision.validate {{place}}/good.pth.tar --data-dir {folder} --workers 0 --device cpu")
    assert file.name in complaint


# ---- archives

MEMBERS = {
    "above the archive": ("../escaped", tarfile.REGTYPE, ""),
    "above a folder": ("de-en/../../escaped", tarfile.REGTYPE, ""),
    "an absolute path": ("/escaped", tarfile.REGTYPE, ""),
    "a symbolic link": ("de-en/escaped", tarfile.SYMTYPE, "/etc/passwd"),
    "a hard link": ("de-en/escaped", tarfile.LNKTYPE, "/etc/passwd"),
    "a character device": ("de-en/escaped", tarfile.CHRTYPE, ""),
    "a block device": ("de-en/escaped", tarfile.BLKTYPE, ""),
    "a pipe": ("de-en/escaped", tarfile.FIFOTYPE, ""),
}


@pytest.mark.parametrize("script", ["iwslt14 --pair en-de", "cub200"])
@pytest.mark.parametrize("kind", MEMBERS)
def test_an_archive_with_a_dangerous_member_is_refused_whole(kind, script, tmp_path, monkeypatch, capsys):
    name, type_, target = MEMBERS[kind]
    folder = "de-en" if "iwslt" in script else "CUB_200_2011"
    with tarfile.open(tmp_path / "bad.tgz", "w:gz") as archive:
        good = tarfile.TarInfo(f"{folder}/images.txt")
        good.size = 5
        archive.addfile(good, io.BytesIO(b"text\n"))
        bad = tarfile.TarInfo(name)
        bad.type, bad.linkname = type_, target
        archive.addfile(bad)
    words = f"{script} --dest {tmp_path}/below/dest --archive {tmp_path}/bad.tgz"
    complaint = refusal(words.split(), tmp_path, monkeypatch, capsys) if "iwslt" in script else None
    if complaint is None:  # it unpacks to a directory beside --dest, whose folder stays
        status, complaint = answer(words.split(), monkeypatch, capsys)
        assert status == 2
        assert list((tmp_path / "below").iterdir()) == []
    assert "escaped" in complaint
    assert not (tmp_path.parent / "escaped").exists()


def test_a_checkpoint_that_is_a_tar_archive_is_not_unpacked(place, said):
    """torch's oldest format was one, and was unpacked to a temporary directory."""
    with tarfile.open(place / "bad.pt", "w") as archive:
        for name in ("storages", "tensors", "pickle"):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(member)
    assert "bad.pt" in said("lskd_fairseq.export {place}/bad.pt {place}/out.pt")
    shutil.move(place / "bad.pt", place / "bad.pth.tar")
    assert "bad.pth.tar" in said("lskd_vision.validate {place}/bad.pth.tar --data-dir {place}/images")


# ---- text that a browser would run

SCRIPTS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</title><svg onload=alert(1)>",
    "'onclick='a",
)


class Active(HTMLParser):
    """Collects what a page would run, and what it would fetch."""

    def __init__(self):
        super().__init__()
        self.found: list = []

    def handle_starttag(self, tag, attrs):
        runs = [name for name, value in attrs if name.startswith("on") or "javascript:" in (value or "")]
        if runs or tag in ("script", "iframe", "object", "embed", "base", "link"):
            self.found.append((tag, attrs))
        self.found += [(tag, each) for each in attrs if each[0] == "src" and not each[1].startswith("data:")]


@pytest.mark.parametrize("text", SCRIPTS)
def test_text_in_runs_does_not_run_in_the_report(text, tmp_path, monkeypatch, capsys):
    names = [text, "Trouser", "Pullover", f"Coat{text}", "Bag"]
    runs = tmp_path / "runs" / text.replace("/", "∕")
    for temperature in (None, 1.0, 3.0):
        student = image_run(
            runs,
            0.1,
            temperature,
            classes=names,
            model=f"m{text}".replace("/", "∕"),
            dataset=text,
            warnings=[text],
            host={text: text},
            teacher=text,
        )
        add_representations(student, 0.1, temperature)
        translation_run(runs, temperature)
    for path in runs.rglob("run.json"):
        record = json.loads(path.read_text())
        record["command"], record["revision"], record["hardware"]["processor"] = ["train", text], text, text
        record["data"]["pair" if "pair" in record["data"] else "path"] = text
        for split in record["figures"].values():
            for metrics in split.values():
                metrics["bleu_signature" if "bleu" in metrics else "fingerprint"] = text
        path.write_text(json.dumps(record))
    page = tmp_path / f"{text.replace('/', '∕')}.html"
    status, complaint = answer(["lskd", "report", str(tmp_path / "runs"), "--output", str(page)], monkeypatch, capsys)
    assert status == 0, complaint
    content = page.read_text(encoding="utf-8")
    active = Active()
    active.feed(content)
    assert active.found == []
    assert text not in content
    assert re.search("alert|onclick", content)  # it is there to be read


# ---- YAML and shells


@pytest.mark.parametrize(
    "text",
    ["!!python/object/apply:builtins.open ['{mark}', 'w']", "data: !!python/object/apply:os.system ['touch {mark}']"],
)
def test_yaml_of_a_user_runs_nothing(text, tmp_path, place, said):
    mark = tmp_path / "mark"
    (tmp_path / "mine.yaml").write_text(text.format(mark=mark))
    words = f"python -m lskd reproduce 2A --output {tmp_path / 'new'} --scale {tmp_path / 'mine.yaml'}"
    for more in ("", "--dry-run"):
        assert "mine.yaml (cannot be read as YAML" in last_line(run(words, more, status=2))
    assert "cannot be read as YAML" in said(f"{TRAIN} --data-dir {{place}}/images --config {tmp_path / 'mine.yaml'}")
    assert not mark.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.yaml"]


def test_no_command_gives_text_to_a_shell():
    shells = re.compile(r"shell\s*=\s*True|os\.system\(|os\.popen\(|getoutput\(|getstatusoutput\(|os\.spawn|pty\.spawn")
    loads = re.compile(
        r"weights_only\s*=\s*False|pickle\.loads?\(|allow_pickle\s*=\s*True|yaml\.(unsafe_|full_)?load\("
    )
    loads = re.compile(f'{loads.pattern}|\\beval\\("|\\bexec\\(|marshal\\.|shelve\\.|extractall\\(')
    for folder in ("lskd", "lskd_fairseq", "lskd_vision", "data_prep", "scripts"):
        for path in [*(ROOT / folder).rglob("*.py"), *(ROOT / folder).rglob("Snakefile")]:
            text = path.read_text(encoding="utf-8")
            assert not shells.search(text), path
            assert not loads.search(text), path
    (line,) = [line for line in (ROOT / "scripts" / "Snakefile").read_text().splitlines() if "{RUN_JOB" in line]
    # snakemake knows no other way to start a job; everything that may hold a text of a user's is quoted
    assert re.findall(r"\{(.+?)\}", line) == ["PYTHON:q", "RUN_JOB:q", "PLAN:q", "params.job:q", "threads", "log:q"]


def test_names_and_paths_of_jobs_are_words_and_not_commands(tmp_path):
    place = tmp_path / "a; touch mark; $(touch mark) `touch mark` &"
    place.mkdir()
    name = "job; touch mark; $(touch mark)"
    command = ["python", "-c", "import sys; print(sys.argv[1:])", "; touch mark", "$(touch mark)", "`touch mark`"]
    (place / "plan.json").write_text(json.dumps({name: asdict(Job(name, "prepare", command))}))
    words = ["python", "-m", "snakemake", "--snakefile", ROOT / "scripts" / "Snakefile", "--directory"]
    process = subprocess.run(
        [
            sys.executable,
            *map(str, words[1:]),
            str(place),
            "--cores",
            "1",
            "--config",
            f"plan={place / 'plan.json'}",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert process.returncode == 0, process.stderr
    assert (place / "done" / name).exists()
    assert "['; touch mark', '$(touch mark)', '`touch mark`']" in (place / "logs" / f"{name}.log").read_text()
    assert not list(tmp_path.rglob("mark"))
    assert not (ROOT / "mark").exists()
