"""A real Slurm of one node, on this machine, for as long as a test needs it."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "sinfo", "squeue", "scancel", "setpriv")
PARTITION = "debug"
# The default place: snakemake's executor removes SLURM_CONF from the environment of its jobs.
CONF = Path("/etc/slurm")
SAVED = ".before-one-node-slurm"
HEADER = "# Written by tests/helpers/one_node_slurm.py, which removes it again.\n"
SLURM_CONF = """\
ClusterName=test
# Every daemon is root and speaks through this machine's own name only.
SlurmUser=root
SlurmctldHost={host}(127.0.0.1)
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
# A munged of our own: the system's, where it runs, is left alone.
AuthType=auth/munge
AuthInfo=socket={scratch}/munge.socket
# No control groups: containers and small virtual machines rarely let anyone make them.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
# Cores are shared out; memory is checked against what the node has, but not added up.
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
# No accounting is Slurm's default, and what small clusters have.
StateSaveLocation={scratch}/state
SlurmdSpoolDir={scratch}/spool
SlurmctldPidFile={scratch}/slurmctld.pid
SlurmdPidFile={scratch}/slurmd.pid
# Jobs that do not end at a signal are killed soon.
KillWait=3
# What the node can never run is refused at once, not left in the queue for ever.
EnforcePartLimits=ALL
ReturnToService=2
{node} NodeAddr=127.0.0.1 Gres=gpu:1
# Two jobs may share a core, so that a job of every core does not hold up a short one.
PartitionName={partition} Nodes={host} Default=YES MaxTime=60 OverSubscribe=FORCE:2 State=UP
"""
# A GPU in name only: what asks for one is scheduled, one at a time, and finds nothing there.
GRES_CONF = "Name=gpu File=/dev/null\n"


def why_not() -> str | None:
    """Why there can be no Slurm on this machine, if there cannot."""
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        return f"not installed: {', '.join(missing)}"
    if os.geteuid() != 0:
        return "only root can start Slurm's daemons"
    if running := [name for name in ("slurmctld", "slurmd", "slurmstepd") if _processes(name)]:
        return f"already running here: {', '.join(running)}"
    return None


@contextlib.contextmanager
def one_node_slurm(scratch: Path) -> Iterator[str]:
    """Start munged, slurmctld and slurmd, and yield the partition's name; nothing of them stays."""
    assert why_not() is None, why_not()
    host = socket.gethostname().split(".")[0]
    node = _output("slurmd", "-C").splitlines()[0]  # NodeName, cores and memory, as slurmd finds them
    slurm = SLURM_CONF.format(host=host, node=node, scratch=scratch, partition=PARTITION)
    for directory in ("state", "spool"):
        (scratch / directory).mkdir(parents=True)
    key = scratch / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(128))
    files = {f"--{name}-file": scratch / f"munge.{name}" for name in ("key", "pid", "log", "seed")}
    options = [f"{option}={path}" for option, path in files.items()]

    with contextlib.ExitStack() as stack:
        # A plain SIGTERM would skip the clean-up; only SIGKILL leaves jobs, and the configuration, behind.
        stack.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, signal.default_int_handler))
        stack.enter_context(_configuration("slurm.conf", slurm))
        stack.enter_context(_configuration("gres.conf", GRES_CONF))
        # --force: pytest's directories are for one user, and that user is who asks.
        stack.enter_context(
            _daemon(scratch, "munged", "--foreground", "--force", f"--socket={scratch}/munge.socket", *options)
        )
        _wait("munged's socket", (scratch / "munge.socket").exists)
        stack.enter_context(_daemon(scratch, "slurmctld", "-D"))
        stack.callback(_kill_steps)
        stack.enter_context(_daemon(scratch, "slurmd", "-D"))
        stack.callback(_cancel_jobs)
        _wait(f"an idle node, see {scratch}/*.out", lambda: _output("sinfo", "-h", "-o", "%T") == "idle")
        yield PARTITION


@contextlib.contextmanager
def _configuration(name: str, text: str) -> Iterator[None]:
    """A file at its default place, and afterwards what was there before."""
    path, saved = CONF / name, CONF / (name + SAVED)
    CONF.mkdir(parents=True, exist_ok=True)
    # A killed test leaves its own file, and the machine's beside it: that one stays the one to put back.
    if path.exists() and not path.read_text().startswith(HEADER):
        path.replace(saved)
    try:
        path.write_text(HEADER + text)
        yield
    finally:
        path.unlink(missing_ok=True)
        if saved.exists():
            saved.replace(path)


@contextlib.contextmanager
def _daemon(scratch: Path, *command: str) -> Iterator[None]:
    """A daemon in the foreground: it dies with this process, but not of a Ctrl-C meant for it."""
    with open(scratch / f"{command[0]}.out", "wb") as log:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", *command], stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=20)


def _cancel_jobs() -> None:
    """End what is queued or runs, politely."""
    jobs = _output("squeue", "-h", "-o", "%A").split()
    if jobs:
        _output("scancel", *jobs)
        with contextlib.suppress(TimeoutError):
            _wait("the end of all jobs", lambda: not _output("squeue", "-h", "-o", "%A"))


def _kill_steps() -> None:
    """End jobs that outlive slurmd: as no Slurm ran before, every step is of this one."""
    for pid in _processes("slurmstepd"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _processes(name: str) -> list[int]:
    """The processes of a program."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "comm").read_text().strip() == name and "State:\tZ" not in (process / "status").read_text():
                found.append(int(process.name))
    return found


def _output(*command: str) -> str:
    """What a command prints; nothing when it fails or hangs."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return subprocess.run(command, capture_output=True, text=True, timeout=15).stdout.strip()
    return ""


def _wait(what: str, done, seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not done():
        if time.monotonic() > until:
            raise TimeoutError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.1)
