"""Run a command in a process forked from one that has imported torch, fairseq and timm: that saves seconds of imports.

What the command itself is, the project's own modules, is imported anew, in a working directory, with arguments and with
a module search path as from a shell. Hash seeds are those of the process it is forked from: tests of determinism start
fresh processes instead.
"""

import atexit
import functools
import json
import logging
import multiprocessing
import os
import resource
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

PRELOADED = ["fairseq_cli.train", "fairseq_cli.generate", "timm", "timm.data", "torchvision", "sacrebleu", "sklearn"]


@functools.cache
def _server() -> multiprocessing.context.BaseContext:
    """The start method whose server process has imported :data:`PRELOADED`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
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


def run_forked(words: list[str], cwd: Path, environment: dict[str, str]) -> subprocess.CompletedProcess:
    """Run to the end; standard output and standard error are text."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as error:
        arguments = (words, str(cwd), environment, _search_path())
        pipes = [multiprocessing.reduction.DupFd(file.fileno()) for file in (output, error)]
        process = _server().Process(target=_child, args=(*arguments, *pipes))
        process.start()
        process.join()
        contents = []
        for file in (output, error):
            file.seek(0)
            contents.append(file.read())
        return subprocess.CompletedProcess(words, process.exitcode, *contents)


def _child(words: list[str], cwd: str, environment: dict[str, str], search_path: list[str], output, error) -> None:
    """In the forked process: become the command."""
    for number, pipe in ((1, output), (2, error)):
        os.dup2(pipe.detach(), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    _set_up_logging(words)
    import numpy as np
    import torch

    np.random.seed()  # else all children would draw the same numbers
    torch.seed()
    try:
        if words[0].endswith("python") and words[1] == "-m":
            sys.argv, sys.path[:] = words[2:], [cwd, *search_path]
            runpy.run_module(words[2], run_name="__main__", alter_sys=True)
        else:
            sys.argv = words[1:] if words[0].endswith("python") else words
            script = Path(cwd, sys.argv[0])
            sys.path[:] = [str(script.parent), *search_path]
            runpy.run_path(str(script), run_name="__main__")
    finally:
        atexit._run_exitfuncs()


def _set_up_logging(words: list[str]) -> None:
    """Undo what importing fairseq has set up, for programs that do not import it: it logs to standard output there."""
    if Path(words[0]).name.startswith("fairseq-"):
        return
    if any(word == "nmt" or "fairseq" in word or "data_prep" in word for word in words[1:3]):
        for handler in logging.root.handlers:
            handler.setStream(sys.stderr)
    else:
        logging.root.handlers.clear()
        logging.root.setLevel(logging.WARNING)
