"""Tensors in files: what goes in comes out, and what is no such file is refused."""

import os
import resource
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers.commands import ROOT
from safetensors.torch import save_file

from lskd.io.tensor_files import mapped_tensors, read_about, write_tensors

RANDOM = np.random.default_rng(5)
TENSORS = {
    "features": RANDOM.standard_normal((5, 3)).astype(np.float16),
    "symbols": RANDOM.integers(0, 9, (5, 2)).astype(np.uint8),
    "offsets": np.array([0, 2, 5]),
    "none": np.empty((0, 4), np.float32),
    "columns": RANDOM.standard_normal((3, 4))[:, ::2],
}


def test_what_is_written_is_read_where_it_lies(tmp_path):
    write_tensors(tmp_path / "a", TENSORS, {"α": [1, None]})
    found = mapped_tensors(tmp_path / "a")
    assert read_about(tmp_path / "a") == {"α": [1, None]}
    assert found.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert isinstance(found[name], np.memmap) or not tensor.size
        assert found[name].dtype == tensor.dtype
        np.testing.assert_array_equal(found[name], tensor)
    with pytest.raises(ValueError, match="read-only"):
        found["features"][0] = 1


def test_nothing_but_empty_tensors_is_read_too(tmp_path):
    write_tensors(tmp_path / "a", {"none": np.empty((0, 4), np.float32)}, {})
    assert mapped_tensors(tmp_path / "a")["none"].shape == (0, 4)
    write_tensors(tmp_path / "b", {}, {})
    assert mapped_tensors(tmp_path / "b") == {}


def test_the_same_tensors_give_the_same_bytes(tmp_path):
    for name, tensors in (("a", TENSORS), ("b", dict(reversed(TENSORS.items())))):
        write_tensors(tmp_path / name, tensors, {})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    (tmp_path / "new").touch()
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "new").stat().st_mode


@pytest.mark.parametrize("content", [b"", b"no tensors", b"\x00" * 100])
def test_another_file_is_refused(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ValueError, match="header"):
        mapped_tensors(tmp_path / "a")


def test_a_file_that_is_cut_off_is_refused(tmp_path):
    write_tensors(tmp_path / "a", TENSORS, {})
    (tmp_path / "a").write_bytes((tmp_path / "a").read_bytes()[:-1])
    with pytest.raises(ValueError, match="not fully covered"):
        mapped_tensors(tmp_path / "a")


def test_a_type_that_numpy_does_not_have_is_refused_by_name(tmp_path):
    save_file({"features": torch.zeros(2, dtype=torch.bfloat16)}, tmp_path / "a")
    assert read_about(tmp_path / "a") is None
    with pytest.raises(ValueError, match="features of type BF16"):
        mapped_tensors(tmp_path / "a")


def test_a_full_disk_is_an_error_of_the_system_and_leaves_nothing(tmp_path):
    program = "import sys, numpy; from lskd.io.tensor_files import write_tensors\n"
    program += "try: write_tensors(sys.argv[1], {'a': numpy.zeros(100_000)}, {})\n"
    program += "except OSError as error: print(error)"
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "a"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        # What is measured of its lines would be cut off too.
        env={name: value for name, value in os.environ.items() if name != "COVERAGE_PROCESS_CONFIG"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000)),
    )
    assert f"{tmp_path / 'a'}: cannot be written" in done.stdout, done.stderr
    assert not list(tmp_path.iterdir())
