"""A process of a command, from its start to its end, or to its kill at a chosen moment."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from helpers.commands import ROOT
from helpers.forked_commands import FIRST_FREE, Forked

from torture.subjects import Subject

ANY = "at any time"


@dataclass
class Session:
    """A process of a command, from its start to its end or its kill.

    Attributes:
        status: exit status, None where it was killed.
        moments: the begin and the end of each, in seconds since the start, by name.
        met: as of :class:`Kill`.
        seconds: how long it has run.
    """

    status: int | None
    moments: dict[str, list[tuple[float, float]]]
    met: str
    seconds: float


def session(subject: Subject, dest: Path, log: Path, plan: tuple[str, int, float] | None = None) -> Session:
    """Start the command; kill it where ``plan`` says: in which moment, the how manieth of it, seconds after its begin.

    A command that comes to its end before is not killed.
    """
    reader, writer = os.pipe()
    program = [sys.executable, str(Path(__file__).with_name("announced.py")), str(FIRST_FREE)]
    words = [*program, json.dumps(subject.moments), *(word.format(dest=dest) for word in subject.command)]
    with open(log, "ab") as output:
        process = Forked(words, ROOT, os.environ, output, output, files=(writer,), group=True)
    os.close(writer)
    began, seen, open_moments, last = time.monotonic(), {}, [], "start"
    moment, number, delay = plan or (None, 0, 0.0)
    killed = False
    if moment == ANY:
        try:
            process.wait(delay)
        except subprocess.TimeoutExpired:
            killed = kill(process)
    with os.fdopen(reader, encoding="ascii") as announcements:
        for line in announcements:
            begins, name = line[0] == ">", line[2:].strip()
            if begins:
                open_moments.append((name, time.monotonic() - began))
                last = name
                if not killed and name == moment:
                    number -= 1
                    if number == 0:
                        time.sleep(delay)
                        killed = kill(process)
            elif open_moments:
                name, begin = open_moments.pop()
                seen.setdefault(name, []).append((begin, time.monotonic() - began))
    status = process.wait()
    met = f"in {open_moments[-1][0]}" if open_moments else f"after {last}"
    seconds = time.monotonic() - began
    return Session(None if killed and status == -signal.SIGKILL else status, seen, met, seconds)


def kill(process: Forked) -> bool:
    """SIGKILL a process and all that it has started, also in sessions of their own; whether it was still running."""
    running = process.poll() is None
    family = {process.pid}
    while True:
        parents = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                name, _, rest = path.read_text().rpartition(")")
            except OSError:  # it has ended
                continue
            state, parent, _, leader = rest.split()[:4]
            if state != "Z":
                parents[int(name.split()[0])] = {int(parent), int(leader)}
        family |= {process for process, related in parents.items() if related & family}
        living = family & parents.keys()
        if not living:
            return running
        for each in living:
            try:
                os.kill(each, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.01)
