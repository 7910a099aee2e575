"""One job of a plan: its command, its log, its locks."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from helpers.commands import ROOT, last_line, run
from run_job import FreeGpu, environment

from lskd.records.gpus import visible_gpus


def write_plan(place: Path, *command: str, gpu: int = 0) -> Path:
    """A plan with one job, ``work``."""
    (place / "plan.json").write_text(json.dumps({"work": {"command": list(command), "gpu": gpu}}))
    return place / "plan.json"


def test_a_job_runs_in_the_checkout_with_its_output_in_its_log(tmp_path):
    words = ["-c", "import os; print(os.getcwd(), os.environ['OMP_NUM_THREADS'], '{braces} $HOME')"]
    plan = write_plan(tmp_path, "python", *words)
    run("python scripts/run_job.py", plan, "work --threads 3")
    log = (tmp_path / "logs" / "work.log").read_text()
    assert log.splitlines()[0].startswith("$ python -c ")
    assert log.splitlines()[-1] == f"{ROOT} 3 {{braces}} $HOME"


@pytest.mark.slow
def test_a_job_that_fails_says_its_last_line_and_where_the_rest_is(tmp_path):
    plan = write_plan(tmp_path, "python", "-c", "print('all is well'); raise SystemExit('it was not')")
    result = run("python scripts/run_job.py", plan, "work", status=2)
    assert f"it was not (all of it: {tmp_path / 'logs' / 'work.log'})" in last_line(result)
    result = run("python scripts/run_job.py", plan, "play", status=2)
    assert "JOB: play (must be one of " in last_line(result)


def test_the_programs_of_this_environment_come_first():
    variables = environment(2)
    assert variables["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)
    assert variables["PYTHONPATH"].split(os.pathsep)[0] == str(ROOT)


@pytest.mark.slow
def test_a_job_that_a_killed_one_has_left_running_is_waited_for(tmp_path):
    wait = "import sys, time, pathlib; p = pathlib.Path(sys.argv[1]); n = len(list(p.glob('begun*'))); "
    wait += "(p / f'begun{n}').touch(); time.sleep(2); (p / f'ended{n}').touch()"
    plan = write_plan(tmp_path, "python", "-c", wait, str(tmp_path))
    first = subprocess.Popen([sys.executable, "scripts/run_job.py", str(plan), "work"], cwd=ROOT)
    deadline = time.monotonic() + 60
    while not (tmp_path / "begun0").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    first.kill()  # its command keeps running, as an orphan
    first.wait()
    assert not (tmp_path / "ended0").exists()
    run("python scripts/run_job.py", plan, "work")
    assert (tmp_path / "ended0").stat().st_mtime <= (tmp_path / "begun1").stat().st_mtime
    assert (tmp_path / "ended1").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_job_that_is_ended_ends_its_command(number, tmp_path):
    plan = write_plan(tmp_path, "python", "-c", "import time; print('begun', flush=True); time.sleep(60)")
    process = subprocess.Popen(
        [sys.executable, "scripts/run_job.py", str(plan), "work"], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    log = tmp_path / "logs" / "work.log"
    deadline = time.monotonic() + 60
    while not (log.exists() and "begun" in log.read_text().splitlines()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    assert process.wait(timeout=20) == 2
    assert "begun" in process.stderr.read()


def test_jobs_on_gpus_take_different_ones_and_wait_for_a_free_one(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,3")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    third = {}

    def wait_for_one():
        with FreeGpu(tmp_path, 1) as (device, _):
            third.update(device)

    with FreeGpu(tmp_path, 1) as (first, _):
        with FreeGpu(tmp_path, 1) as (second, _):
            assert [each["CUDA_VISIBLE_DEVICES"] for each in (first, second)] == ["0", "3"]
            waiting = threading.Thread(target=wait_for_one)
            waiting.start()
            time.sleep(1.5)
            assert not third
        waiting.join(timeout=20)
        assert third == {"CUDA_VISIBLE_DEVICES": "3"}


def test_a_gpu_is_not_chosen_where_none_is_needed_or_slurm_has_chosen(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,3")
    with FreeGpu(tmp_path, 0) as (device, _):
        assert device == {}
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with FreeGpu(tmp_path, 1) as (device, _):
        assert device == {}


def test_the_gpus_are_those_that_the_driver_lists_unless_some_are_chosen(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert visible_gpus() == []
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA H100 (UUID: GPU-1)'\necho 'GPU 1: NVIDIA H100 (UUID: GPU-2)'\n")
    program.chmod(0o755)
    assert visible_gpus() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert visible_gpus() == ["1"]
