"""Run experiments of the paper, or studies of our own, from the data to a page with the results.

Every table and figure of the paper is a plan of ordinary commands, which snakemake runs: finished jobs are not
repeated, and interrupted ones resume. --scale mini takes minutes on the data that ship with the project; paper needs
the real data and GPUs. Studies of our own, on the same models and data, vary what the paper does not: the size of
the step, the optimiser, the loss, the smoothing, the length of the training, the teacher's truncation; --scale studies
gives them enough seeds for tests. Outputs go to runs/SCALE in the working directory.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

from lskd.commands.workflow import workflow_root
from lskd.io.argument_types import positive
from lskd.io.errors import InputError, input_error, not_installed
from lskd.io.locks import try_lock
from lskd.records.gpus import visible_gpus

EXAMPLE = "lskd reproduce 2A --scale mini"
ROOT = workflow_root()
SCRIPTS = ROOT / "scripts"
PROFILES = SCRIPTS / "profiles"
BAR = "{n}/{total} jobs |{bar:30}| {elapsed}<{remaining}"
# Lines of snakemake's output to print: errors of our commands, its own errors, ids of cluster jobs.
PASSED_ON = re.compile(r"^(?!.*(CalledProcessError|error details)).*([Ee]rror|Traceback|SLURM jobid)")
TABLES = (
    "tables and figures of the paper, such as 2A, A.1, H.2, or all; study-step, study-step-translation, "
    "study-optimiser, study-losses, study-smoothing, study-epochs, study-model, study-truncation, "
    "study-truncation-russian, study-sequence, study-updates, or studies"
)
SHOWN = 3  # tables are printed at the end if there are at most this many


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``lskd reproduce``."""
    parser.set_defaults(resumes=True)
    parser.add_argument("table", nargs="+", metavar="TABLE", help=TABLES)
    parser.add_argument("--scale", default="mini", help="mini (default), medium, paper, studies, or a YAML file")
    parser.add_argument("--seeds", type=positive, metavar="N", help="students of each kind (default: the scale's)")
    parser.add_argument("--dry-run", action="store_true", help="print the jobs and run none")
    parser.add_argument("--cores", type=positive, metavar="N", help="of the processor (default: all)")
    parser.add_argument("--gpus", type=positive, metavar="N", help="jobs on GPUs at a time (default: one per GPU)")
    parser.add_argument("--profile", metavar="NAME", help="slurm, or a directory with a snakemake profile")
    parser.add_argument("--output", type=Path, metavar="DIR", help="where everything goes (default: runs/SCALE)")
    parser.add_argument("--data", nargs="+", default=[], metavar="NAME=PATH", help="the data of scale paper, by path")
    parser.add_argument(
        "--snakemake", type=shlex.split, default=[], metavar="OPTIONS", help='for snakemake: --snakemake="--keep-going"'
    )


def run(arguments: argparse.Namespace) -> int:
    """Make the plan, then run it with snakemake."""
    if importlib.util.find_spec("snakemake") is None:
        raise not_installed("snakemake", "workflow")
    output = (arguments.output or Path("runs") / Path(arguments.scale).stem).resolve()
    plan = [sys.executable, str(SCRIPTS / "plan.py"), *arguments.table, "--scale", arguments.scale]
    plan += ["--output", str(output)]
    plan += ["--seeds", str(arguments.seeds)] if arguments.seeds else []
    plan += ["--data", *arguments.data] if arguments.data else []
    if output.exists() and not output.is_dir():
        raise input_error("--output", output, "must be a directory, or a new one")
    options = _snakemake(arguments, output)
    if arguments.dry_run:
        return _planned([*plan, "--names"])
    if status := _planned([*plan, "--ready"]):
        return status
    output.mkdir(parents=True, exist_ok=True)
    with open(output / "reproduce.lock", "w") as lock:
        if not try_lock(lock):
            raise input_error("--output", output, "is in use: another lskd reproduce is still running there")
        if status := _planned([*plan, "--write"]):
            return status
        _run(options, lock.fileno(), output)
    print(_results(output))
    return 0


def _planned(command: list[str]) -> int:
    """Run the planner, print its errors as this command's, and return its exit status."""
    planned = subprocess.run(command, env=_environment(), stderr=subprocess.PIPE, text=True)
    sys.stderr.write(re.sub(r"(?m)^\S*plan\.py: ", "lskd reproduce: ", planned.stderr))
    return planned.returncode


def _results(output: Path) -> str:
    """The path of the page, after the tables if they are few; if only some jobs ran (--until), both may be missing."""
    jobs = json.loads((output / "plan.json").read_text(encoding="utf-8"))
    commands = (["lskd", "compare"], ["lskd", "summarise"])
    compared = [job["name"] for job in jobs.values() if job["command"][:2] in commands]
    logs = [output / "logs" / f"{name}.log" for name in compared if len(compared) <= SHOWN]
    said = [log.read_text(encoding="utf-8") for log in logs if log.is_file()]
    tables = [each.rpartition("\n$ ")[2].partition("\n")[2] for each in said]
    page = ROOT / jobs["report"]["files"][0]
    if not page.is_file():
        return "\n\n".join([*tables, f"the requested jobs are done, of {len(jobs)}: {output}"])
    return "\n\n".join([*tables, f"{len(jobs)} jobs are done; the page: {page}"])


def _snakemake(arguments: argparse.Namespace, output: Path) -> list[str]:
    """The command line of snakemake."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(SCRIPTS / "Snakefile"), "--directory", str(output)]
    # Our own lock keeps out other processes; incomplete outputs of a killed process are made again.
    command += ["--nolock", "--rerun-incomplete", "--rerun-triggers", "mtime", "params", "input"]
    command += ["--config", f"plan={output / 'plan.json'}"]
    if arguments.profile:
        profile = PROFILES / arguments.profile
        if not profile.is_dir():
            profile = Path(arguments.profile)
        if not profile.is_dir():
            there = ", ".join(sorted(each.name for each in PROFILES.iterdir()))
            raise input_error("--profile", arguments.profile, f"must be {there}, or a directory with a config.yaml")
        command += ["--profile", str(profile.resolve()), "--show-failed-logs"]  # logs of failures on other machines
        command += ["--cores", str(arguments.cores)] if arguments.cores else []
    else:
        command += ["--cores", str(arguments.cores or "all")]
        command += ["--resources", f"gpu={arguments.gpus or max(1, len(visible_gpus()))}"]
    return command + arguments.snakemake


def _run(command: list[str], lock: int, output: Path) -> None:
    """Run snakemake in its own process group, which is ended with it; Ctrl-C and SIGTERM are passed on.

    Raises:
        InputError: a job failed.
    """
    process = subprocess.Popen(
        command,
        env=_environment(),
        start_new_session=True,
        pass_fds=[lock],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    stopped: list[int] = []

    def stop(number: int, _: object) -> None:
        stopped.append(number)
        os.killpg(process.pid, signal.SIGINT)  # at SIGTERM snakemake would wait for a cluster's jobs, not cancel them

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    # In a thread, as jobs left running by a killed snakemake still hold the other end of the pipe.
    shown = threading.Thread(target=_show, args=[process.stdout], daemon=True)
    shown.start()
    try:
        status = process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        shown.join(timeout=10)
    if stopped:
        raise KeyboardInterrupt
    if status:
        raise InputError(f"not all jobs are done, see above; the same command resumes (logs: {output / 'logs'})")


def _show(lines: Iterable[str]) -> None:
    """Show snakemake's output as a progress bar on a terminal, with a line for each finished job and each error.

    ``done  3/14  12:40  NAME`` is the third of 14 jobs to finish, after 12:40 minutes.
    """
    began = time.monotonic()
    with tqdm(desc="jobs", unit="job", bar_format=BAR, disable=None) as bar:
        for line in lines:
            text = line.rstrip()
            if ended := re.match(r"Finished jobid: \d+ \(Rule: (.+)\)", text):
                bar.n += 1
                elapsed = tqdm.format_interval(time.monotonic() - began)
                bar.write(f"done  {bar.n}/{bar.total}  {elapsed}  {ended[1]}", file=sys.stderr)
            elif counted := re.match(r"(?:(\d+) of |total +)(\d+)", text):
                bar.n, bar.total = (int(number or 0) for number in counted.groups())
                bar.refresh()
            elif PASSED_ON.search(text):
                bar.write(text, file=sys.stderr)


def _environment() -> dict[str, str]:
    """The environment with a checkout's packages on the path, in case they are not installed."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return os.environ | {"PYTHONPATH": path}
