"""Run a command in a process forked from one that has imported torch, fairseq and timm: that saves seconds of imports.

What the command itself is, the project's own modules, is imported anew, in a working directory, with arguments and with
a module search path as from a shell. The process answers signals and can be killed as any other. Its hash seed is that
of the process it is forked from: tests of determinism start fresh processes too.

The programs that a command starts are forked too, from the same process, where a test asks for it (:func:`hand_over`).
"""

import atexit
import contextlib
import functools
import json
import logging
import multiprocessing
import multiprocessing.connection
import multiprocessing.forkserver
import os
import resource
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO
from unittest import mock

FIRST_FREE = 100  # the descriptors of a command's further files, well above those of the process that forks
_bookkeeping = threading.Lock()  # of multiprocessing's processes, which threads would read twice


@functools.cache
def _server() -> multiprocessing.context.BaseContext:
    """The start method whose server process has imported :mod:`helpers.preloaded`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["helpers.preloaded"])
    # Python 3.11 looks for it in a fresh interpreter's search path, and goes on without it if it is not there.
    with mock.patch.dict(os.environ, PYTHONPATH=str(Path(__file__).resolve().parents[1])):
        multiprocessing.forkserver.ensure_running()
    return context


@functools.cache
def _search_path() -> list[str]:
    """Where a fresh interpreter looks for modules, but for its first entry."""
    program = "import json, sys; print(json.dumps(sys.path[1:]))"
    return json.loads(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout)


def can_fork(words: list[str]) -> bool:
    """Whether the words are a Python program: a console script, ``python FILE`` or ``python -m MODULE``.

    Not where files may only grow to a size, as limits are inherited from the process that forks.
    """
    if resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY:
        return False
    name = Path(words[0]).name
    return name.startswith(("fairseq-", "lskd")) or (
        name == "python" and (words[1] == "-m" or words[1].endswith(".py"))
    )


class Forked:
    """A command that runs: what :class:`subprocess.Popen` is to a fresh process.

    Args:
        words: of the command.
        cwd: its working directory.
        environment: its variables.
        output: the file for its standard output; None for one that :meth:`communicate` reads.
        error: the same for its standard error.
        files: descriptors that it inherits; it has them as ``FIRST_FREE`` and the numbers after that.
        search_path: where it looks for modules, but for its first entry; None for that of a fresh interpreter.
        group: whether it is in a session and a process group of its own.
        interrupts: what Ctrl-C does to it at its start; children of a shell's background jobs would ignore it.
    """

    def __init__(
        self,
        words: list[str],
        cwd: Path,
        environment: Mapping[str, str],
        output: IO | None = None,
        error: IO | None = None,
        files: tuple[int, ...] = (),
        search_path: list[str] | None = None,
        group: bool = False,
        interrupts: signal.Handlers | None = None,
    ) -> None:
        self._output = output or tempfile.TemporaryFile("w+")  # noqa: SIM115 (lives as long as this)
        self._error = error or tempfile.TemporaryFile("w+")  # noqa: SIM115
        numbers = [self._output.fileno(), self._error.fileno(), *files]
        descriptors = [multiprocessing.reduction.DupFd(number) for number in numbers]
        arguments = (words, str(cwd), dict(environment), search_path or _search_path(), descriptors, group, interrupts)
        with _bookkeeping:
            self._process = _server().Process(target=_child, args=arguments)
            self._process.start()
        self.pid: int = self._process.pid
        self.args = words

    @property
    def returncode(self) -> int | None:
        """Its exit status, below 0 the signal that ended it; None while it runs."""
        return self.poll()

    def poll(self) -> int | None:
        """As :attr:`returncode`."""
        with _bookkeeping:
            return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended, at most so many seconds."""
        if not multiprocessing.connection.wait([self._process.sentinel], timeout):
            raise subprocess.TimeoutExpired(self.args, timeout)
        with _bookkeeping:
            self._process.join()
            return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait as :meth:`wait` does, and return what was said on standard output and standard error."""
        self.wait(timeout)
        contents = []
        for file in (self._output, self._error):
            file.seek(0)
            contents.append(file.read())
        return contents[0], contents[1]


def run_forked(words: list[str], cwd: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess:
    """Run to the end; standard output and standard error are text."""
    process = Forked(words, cwd, environment)
    output, error = process.communicate()
    return subprocess.CompletedProcess(words, process.returncode, output, error)


def _child(
    words: list[str],
    cwd: str,
    environment: dict[str, str],
    search_path: list[str],
    descriptors: list,
    group: bool,
    interrupts: signal.Handlers | None,
) -> None:
    """In the forked process: become the command."""
    if group:
        os.setsid()
    multiprocessing.set_start_method(None, force=True)  # the usual one for loader processes, not that of this process
    signal.signal(signal.SIGINT, signal.default_int_handler if interrupts is None else interrupts)
    for number, descriptor in zip([1, 2, *range(FIRST_FREE, FIRST_FREE + 9)], descriptors):  # noqa: B905
        os.dup2(own := descriptor.detach(), number)
        os.close(own)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    _set_up_logging(words)
    import numpy as np
    import torch

    np.random.seed()  # else all children would draw the same numbers
    torch.seed()
    interpreter = Path(words[0]).name.startswith("python")
    try:
        if interpreter and words[1] == "-m":
            sys.argv, sys.path[:] = words[2:], [cwd, *search_path]
            sys.modules.pop(words[2], None)  # of what is preloaded
            runpy.run_module(words[2], run_name="__main__", alter_sys=True)
        else:
            sys.argv = words[1:] if interpreter else words
            script = Path(cwd, sys.argv[0])
            sys.path[:] = [str(script.parent), *search_path]
            runpy.run_path(str(script), run_name="__main__")
    finally:
        atexit._run_exitfuncs()


def _set_up_logging(words: list[str]) -> None:
    """Undo what importing fairseq has set up, for programs that do not import it: it logs to standard output there."""
    if Path(words[0]).name.startswith("fairseq-") or any("fairseq_cli" in word for word in words[2:3]):
        return
    if any(word == "nmt" or "fairseq" in word or "data_prep" in word for word in words[1:3]):
        for handler in logging.root.handlers:
            handler.setStream(sys.stderr)
    else:
        logging.root.handlers.clear()
        logging.root.setLevel(logging.WARNING)


@contextlib.contextmanager
def hand_over() -> Iterator[None]:
    """Within this context, what commands start is forked too, where it is a program of ours or of fairseq's.

    A fresh Python finds ``handed_over/sitecustomize.py``, which asks for its program to be forked, passes signals on
    and ends as the program does; if it is killed, so is the program.
    """
    with tempfile.TemporaryDirectory() as place, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{place}/socket")
        listener.listen(64)
        threading.Thread(target=_listen, args=[listener], daemon=True).start()
        path = os.pathsep.join([str(Path(__file__).with_name("handed_over")), os.environ.get("PYTHONPATH", "")])
        variables = {"LSKD_TESTS_FORK": f"{place}/socket", "PYTHONPATH": path.rstrip(os.pathsep)}
        try:
            with mock.patch.dict(os.environ, variables):
                yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)


def _listen(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:  # the end
            return
        threading.Thread(target=_fork_and_watch, args=[connection], daemon=True).start()


def _fork_and_watch(connection: socket.socket) -> None:
    """Fork what the other side asks for, and tell it the exit status; a byte from there is a signal."""
    with connection, contextlib.ExitStack() as stack:
        length, numbers, *_ = socket.recv_fds(connection, 8, 2)
        message = connection.recv(int.from_bytes(length, "big"), socket.MSG_WAITALL)
        words, cwd, environment, search_path = json.loads(message)
        files = [stack.enter_context(os.fdopen(number, "w")) for number in numbers]
        process = Forked(words, cwd, environment, *files, search_path=search_path)
        while process.poll() is None:
            if connection in multiprocessing.connection.wait([process._process.sentinel, connection]):
                asked = connection.recv(1)
                process.send_signal(asked[0] if asked else signal.SIGKILL)
        with contextlib.suppress(OSError):
            connection.sendall(str(process.returncode).encode())
