"""Run one job of a plan: its command in the checkout, with its output in a log.

    python scripts/run_job.py runs/mini/plan.json data.letters --log runs/mini/logs/data.letters.log

snakemake starts this for each rule. A job runs only once at a time: one that a killed snakemake has left running is
waited for.
"""

import argparse
import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TextIO

from lskd.io.argument_types import positive
from lskd.io.errors import InputError, OneLineParser, file_error_context, input_error, run_command
from lskd.io.locks import try_lock
from lskd.records.gpus import visible_gpus

ROOT = Path(__file__).resolve().parent.parent
STOPPED = (signal.SIGTERM, signal.SIGINT)


def main(arguments: argparse.Namespace) -> int:
    """Run the command, and return its exit status."""
    jobs = json.loads(arguments.plan.read_text(encoding="utf-8"))
    if arguments.job not in jobs:
        raise input_error("JOB", arguments.job, f"must be one of {arguments.plan}")
    job = jobs[arguments.job]
    log = arguments.log or arguments.plan.parent / "logs" / f"{arguments.job}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # released by the system when this process and its child have ended
        with FreeGpu(arguments.plan.parent, job["gpu"]) as (device, held):
            return run(job["command"], log, environment(arguments.threads) | device, [lock.fileno(), *held])


def environment(threads: int) -> dict[str, str]:
    """The variables of a job's command: the checkout's packages and programs first, and the number of threads."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    python = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    # Spinning threads halve the speed of a shared machine.
    return {"PATH": path, "PYTHONPATH": python, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}


class FreeGpu:
    """A free GPU of this machine during a ``with`` block: its environment, and the lock that reserves it.

    Both are empty if the job needs none, if Slurm has chosen one, or if there is only one.

    Args:
        place: the directory of the locks.
        number: GPUs that the job needs, 0 or 1.
    """

    def __init__(self, place: Path, number: int) -> None:
        self.place = place
        self.lock: TextIO | None = None
        devices = visible_gpus() if number and "SLURM_JOB_ID" not in os.environ else []
        self.devices = devices if len(devices) > 1 else []

    def __enter__(self) -> tuple[dict[str, str], list[int]]:
        while self.devices:
            for device in self.devices:
                lock = open(self.place / f"gpu-{device}.lock", "w")
                if try_lock(lock):
                    self.lock = lock
                    return {"CUDA_VISIBLE_DEVICES": device}, [lock.fileno()]
                lock.close()
            time.sleep(1)
        return {}, []

    def __exit__(self, *_: object) -> None:
        if self.lock:
            self.lock.close()


def run(command: list[str], log: Path, variables: dict[str, str], held: list[int]) -> int:
    """Run a command in the checkout with its output in ``log``; SIGTERM and Ctrl-C end it too.

    Args:
        command: as a user would type it.
        log: the file to append to.
        variables: of the environment.
        held: open files that the command inherits, so that their locks outlive this process.

    Returns:
        Its exit status.

    Raises:
        InputError: it failed; the message has its last line and the path of the log.
    """
    with file_error_context(log), open(log, "ab") as file:
        file.write(f"$ {shlex.join(command)}\n".encode())
        file.flush()
        start = file.tell()
        process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | variables, stdout=file, stderr=subprocess.STDOUT, pass_fds=held
        )
        for number in STOPPED:
            signal.signal(number, lambda *_: process.terminate())
        status = process.wait()
    if status:
        with open(log, "rb") as file:
            file.seek(start)
            said = file.read().decode("utf-8", "replace").replace("\r", "\n").strip().splitlines()
        raise InputError(f"{shlex.join(command[:4])} …: {said[-1] if said else f'status {status}'} (all of it: {log})")
    return 0


if __name__ == "__main__":
    parser = OneLineParser(prog="scripts/run_job.py", description=__doc__.split("\n")[0])
    parser.add_argument("plan", type=Path, metavar="PLAN", help="plan.json, of scripts/plan.py")
    parser.add_argument("job", metavar="JOB", help="its name")
    parser.add_argument("--threads", type=positive, default=1, help="of the processor (default 1)")
    parser.add_argument("--log", type=Path, help="where its output goes (default: logs/JOB.log beside the plan)")
    run_command(parser, main)
