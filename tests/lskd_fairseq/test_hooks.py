import subprocess
import sys

import pytest
from fairseq import checkpoint_utils
from fairseq.file_io import PathManager
from helpers.commands import ROOT

import lskd_fairseq  # noqa: F401
from lskd_fairseq import hooks


@pytest.mark.slow
def test_a_kill_while_a_checkpoint_is_copied_leaves_the_old_one_whole(tmp_path):
    (tmp_path / "checkpoint_best.pt").write_bytes(b"new" * 1_000_000)
    (tmp_path / "checkpoint_last.pt").write_bytes(b"old")
    # The process is killed by the first write of the copy, as a machine that dies does.
    program = """
import os, shutil, signal, sys
import lskd_fairseq
from fairseq.file_io import PathManager
def dying(source, destination):
    with open(destination, "wb") as file:
        file.write(b"half")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
shutil.copyfile = dying
PathManager.copy(sys.argv[1] + "/checkpoint_best.pt", sys.argv[1] + "/checkpoint_last.pt", overwrite=True)
"""
    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, capture_output=True)
    assert killed.returncode == -9
    assert (tmp_path / "checkpoint_last.pt").read_bytes() == b"old"


def test_a_copy_is_the_same_file(tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    assert PathManager.copy(str(tmp_path / "a"), str(tmp_path / "b"), overwrite=True)
    assert (tmp_path / "b").read_bytes() == b"content"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_changes_are_made_once_however_often_the_package_is_installed():
    before = (PathManager.copy, checkpoint_utils.save_checkpoint)
    hooks.install()
    assert (PathManager.copy, checkpoint_utils.save_checkpoint) == before


@pytest.mark.slow
def test_the_package_prints_its_directory_from_anywhere(tmp_path):
    printed = subprocess.run(
        [sys.executable, "-m", "lskd_fairseq"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert printed.stdout.strip() == str(ROOT / "lskd_fairseq")


@pytest.mark.parametrize("name", ["lskd", "lskd.records.runs", "lskd.io.files", "lskd.io.errors", "lskd_vision"])
def test_what_both_sides_share_imports_neither_fairseq_nor_timm_nor_torch(name):
    program = f"import sys, {name}; sys.exit(any(module in sys.modules for module in ('fairseq', 'timm', 'torch')))"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0
