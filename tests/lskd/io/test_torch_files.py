import pytest
import torch
from helpers.full_disks import no_file_above

from lskd.io import torch_files

STATE = {"a": torch.arange(20_000.0), "b": [torch.zeros(3), {"name": "c"}]}


def test_what_is_saved_is_loaded_and_its_bytes_do_not_depend_on_the_name(tmp_path):
    torch_files.save(STATE, tmp_path / "one.pth")
    torch_files.save(STATE, tmp_path / "another")
    assert (tmp_path / "one.pth").read_bytes() == (tmp_path / "another").read_bytes()
    loaded = torch_files.load_plain(tmp_path / "one.pth")
    assert torch.equal(loaded["a"], STATE["a"])
    assert loaded["b"][1] == {"name": "c"}


@pytest.mark.parametrize("missing", [1, 100, 2000, 79_000, 81_000, 10**9])
def test_a_disk_that_is_full_after_any_part_of_a_file_is_an_error_of_the_system(missing, tmp_path):
    torch_files.save(STATE, tmp_path / "whole")
    size = (tmp_path / "whole").stat().st_size
    with no_file_above(max(0, size - missing)), pytest.raises(OSError, match="File too large"):
        torch_files.save(STATE, tmp_path / "cut")


def test_a_directory_that_is_not_there_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        torch_files.save(STATE, tmp_path / "none" / "file")
