"""Run experiments of the paper, from data to a page with its figures beside ours.

Every table and figure of the paper is a plan of ordinary commands, which snakemake runs: what is done is not done
again, and what was interrupted goes on. --scale mini takes the data that ship and minutes; paper the real data and
GPUs. The workflow is in the checkout, scripts/Snakefile.
"""

import argparse
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

from lskd.errors import InputError, bad, positive

EXAMPLE = "lskd reproduce 2A --scale mini"
ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPTS = ROOT / "scripts"
PROFILES = SCRIPTS / "profiles"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``lskd reproduce``."""
    parser.add_argument("table", nargs="+", metavar="TABLE", help="tables and figures, such as 2A, A.1, H.2; or all")
    parser.add_argument("--scale", default="mini", help="mini, medium or paper, or a YAML file (default: mini)")
    parser.add_argument("--seeds", type=positive, metavar="N", help="students of each kind (default: the scale's)")
    parser.add_argument("--dry-run", action="store_true", help="say what there is to do, and do nothing")
    parser.add_argument("--cores", type=positive, metavar="N", help="of the processor (default: all)")
    parser.add_argument("--gpus", type=positive, metavar="N", help="jobs on GPUs at a time (default: one a GPU)")
    parser.add_argument("--profile", metavar="NAME", help="slurm, or a directory with a snakemake profile")
    parser.add_argument("--output", type=Path, metavar="DIR", help="where everything goes (default: runs/SCALE)")
    parser.add_argument("--data", nargs="+", default=[], metavar="NAME=PATH", help="where the archives of paper are")
    parser.add_argument("--snakemake", nargs="+", default=[], metavar="WORD", help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    """Plan, then hand the plan to snakemake; snakemake's exit status."""
    if not (SCRIPTS / "Snakefile").is_file():
        raise bad("lskd", "installed", "must be a checkout for this command: the workflow is in its scripts/Snakefile")
    output = (arguments.output or ROOT / "runs" / Path(arguments.scale).stem).resolve()
    plan = [sys.executable, str(SCRIPTS / "plan.py"), *arguments.table, "--scale", arguments.scale]
    plan += ["--output", str(output)]
    plan += ["--seeds", str(arguments.seeds)] if arguments.seeds else []
    plan += ["--data", *arguments.data] if arguments.data else []
    if arguments.dry_run:
        return subprocess.run(plan, env=_environment()).returncode
    options = _snakemake(arguments, output)
    output.mkdir(parents=True, exist_ok=True)
    with open(output / "reproduce.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise bad("--output", output, "is in use: another lskd reproduce is still running there") from None
        if status := subprocess.run([*plan, "--write"], env=_environment()).returncode:
            return status
        return _run(options, lock.fileno())


def _snakemake(arguments: argparse.Namespace, output: Path) -> list[str]:
    """The command line of snakemake."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(SCRIPTS / "Snakefile"), "--directory", str(output)]
    # Another process cannot be there, see the lock; what a killed one left half-made is made again.
    command += ["--nolock", "--rerun-incomplete", "--rerun-triggers", "mtime", "params", "input"]
    command += ["--config", f"plan={output / 'plan.json'}"]
    if arguments.profile:
        profile = PROFILES / arguments.profile
        if not profile.is_dir():
            profile = Path(arguments.profile)
        if not profile.is_dir():
            there = ", ".join(sorted(each.name for each in PROFILES.iterdir()))
            raise bad("--profile", arguments.profile, f"must be {there}, or a directory with a config.yaml")
        command += ["--profile", str(profile.resolve())]
        command += ["--cores", str(arguments.cores)] if arguments.cores else []
    else:
        command += ["--cores", str(arguments.cores or "all")]
        command += ["--resources", f"gpu={arguments.gpus or max(1, _gpus())}"]
    return command + arguments.snakemake


def _run(command: list[str], lock: int) -> int:
    """Run snakemake in a process group of its own, which goes when it goes; Ctrl-C and SIGTERM are passed on."""
    process = subprocess.Popen(command, env=_environment(), start_new_session=True, pass_fds=[lock])
    stopped = []

    def stop(number, _) -> None:
        stopped.append(number)
        os.killpg(process.pid, signal.SIGTERM)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        status = process.wait()
    finally:
        try:
            os.killpg(process.pid, signal.SIGTERM)  # trainings that a killed snakemake has left
        except ProcessLookupError:
            pass
    if stopped:
        raise KeyboardInterrupt
    if status:
        raise InputError("a job failed, see above; the same command goes on where this stopped")
    return 0


def _environment() -> dict[str, str]:
    """With the checkout's packages, also where nothing is installed."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return os.environ | {"PYTHONPATH": path}


def _gpus() -> int:
    """GPUs that this process may use."""
    if chosen := os.environ.get("CUDA_VISIBLE_DEVICES"):
        return len(chosen.split(","))
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    except OSError:
        return 0
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
