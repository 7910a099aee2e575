"""Memory that a process frees stays with it, so that the next step need not fetch it from the system again."""

import platform
import subprocess
import sys

import pytest

STEPS = """
import resource
from lskd.io.freed_memory import keep_freed_memory

def step():
    blocks = [bytearray(b"x") * 2**23 for _ in range(12)]

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

step()
before = faults()
kept = keep_freed_memory()
step()
print(before, kept, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_a_step_gets_the_memory_that_the_step_before_it_has_freed():
    done = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, check=True)
    before, kept, after = done.stdout.split()
    assert kept == "True"
    assert int(before) >= 5 * 12  # of pages of 2 MiB; of 4 KiB, thousands
    assert int(after) < int(before) / 5
