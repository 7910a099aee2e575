"""`make demo`'s script, on a fraction of the sentences."""

import os
import re
import signal
import time

import pytest
from helpers.commands import run, start

pytestmark = pytest.mark.slow


def test_an_interrupted_demo_goes_on_and_a_second_one_reuses_what_is_done(tmp_path, programs_are_forked):
    command = ("python scripts/demo_nmt.py --quick --dest", tmp_path / "demo")
    first = start(*command)
    deadline = time.monotonic() + 300
    while not (tmp_path / "demo" / "help.en-de" / "teacher_a0.1_s1" / "run.json").exists():
        assert time.monotonic() < deadline
        assert first.poll() is None
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGINT)  # what Ctrl-C does
    _, message = first.communicate(timeout=60)
    assert first.returncode == 130
    assert "resumes where it stopped" in message

    second = run(*command)
    assert "teacher_a0.1_s1: trained already" in second.stderr + second.stdout
    for temperature in (1, 3):
        name = rf"^student_a0.1_T{temperature}_s1 +"
        begin = r"0\.\d\d M parameters; 600 train pairs, \d+ valid pairs; teacher teacher_a0.1_s1, test BLEU \d"
        assert re.search(name + begin, second.stdout, re.MULTILINE)
        line = r"epoch 1/1  loss +[\d.]+  valid loss +[\d.]+  perplexity +[\d.]+  lr [\de.-]+ +\d+ words/s  00:00 left"
        assert len(re.findall(name + line, second.stdout, re.MULTILINE)) == 1
    assert re.search(r"student of α = 0.1, T = 1 +\d+\.\d +\d+\.\d +\d+:\d\d min", second.stdout)
    assert re.search(r"student of α = 0.1, T = 3 +\d+\.\d +\d+\.\d +\d+:\d\d min", second.stdout)
    assert re.search(r"student without a teacher +\d+\.\d +\d+\.\d +\d+:\d\d min", second.stdout)
    assert "η(S1) is negative for" in second.stdout + second.stderr
    third = run(*command)
    assert (third.stdout + third.stderr).count("trained already") == 4
    table = [
        text.partition("model  ")[2].partition("minutes")[0].rsplit("\n", 1)[0]
        for text in (second.stdout, third.stdout)
    ]
    assert table[0] == table[1] != ""
    sets = tmp_path / "demo" / "help.en-de" / "sets.json"
    run("lskd report", tmp_path / "demo", "--sets", sets, "--output", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Diffusion index η, T = 1 → 3" in page
    assert "Table 5" in page
