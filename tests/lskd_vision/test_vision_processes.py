"""What the processes of a training must have in common is compared by all of them."""

import socket
import sys

import pytest
from helpers.commands import started_together

from lskd_vision.processes import same_in_all_processes

PROGRAM = """
import torch
from lskd.io.errors import InputError
from lskd_vision.processes import same_in_all_processes

torch.distributed.init_process_group("gloo")
rank = torch.distributed.get_rank()

def load(*of_ranks):
    def read():
        if isinstance(of_ranks[rank], Exception):
            raise of_ranks[rank]
        return of_ranks[rank]
    try:
        print("loaded", same_in_all_processes(read, lambda data: f"fingerprint of {data}", "DIR"))
    except InputError as error:
        print(error)

load("images", "images")
load("images", "others")
load("images", InputError("no images"))
load(OSError("no disk"), "images")
load(InputError("no such split"), InputError("no such split"))
load("images", "images")
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_all_processes_load_the_same_or_none_does(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    outcomes = started_together([[sys.executable, tmp_path / "program.py"]] * 2)
    host = socket.gethostname()
    differs = f"process 1 on {host} differs from process 0 on {host}"
    expected = [
        "loaded images",
        f"--data-dir: DIR (must hold the same images and labels in all processes: {differs})",
        f"process 1 on {host}: no images",
        f"process 0 on {host}: no disk",
        "no such split",
        "loaded images",
    ]
    for status, output in outcomes:
        assert status == 0, output
        assert output.splitlines() == expected


def test_a_single_process_has_nothing_to_compare():
    assert same_in_all_processes(lambda: "images", lambda data: pytest.fail("compared"), "DIR") == "images"
