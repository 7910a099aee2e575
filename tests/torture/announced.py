"""Run a command that says at every moment what it is about, so that it can be killed at a chosen one.

    python announced.py FD MOMENTS COMMAND …

Into the file descriptor FD goes a line ``> NAME`` when a moment begins and ``< NAME`` when it ends. MOMENTS is a JSON
object: the functions, as ``module:name.name``, that make up each. The command is a module (``-m NAME …``) or a script.
"""

import functools
import importlib
import json
import os
import runpy
import sys


def announce(fd: int, moment: str, function: str) -> None:
    """Let a function say when it begins and when it ends."""
    module, _, name = function.partition(":")
    *path, name = name.split(".")
    owner = functools.reduce(getattr, path, importlib.import_module(module))
    called = getattr(owner, name)

    @functools.wraps(called)
    def announced(*arguments, **options):
        os.write(fd, f"> {moment}\n".encode())
        try:
            return called(*arguments, **options)
        finally:
            os.write(fd, f"< {moment}\n".encode())

    setattr(owner, name, announced)


def main(fd: str, moments: str, *command: str) -> None:
    """Announce, then run the command as Python would."""
    for moment, functions in json.loads(moments).items():
        for function in functions:
            announce(int(fd), moment, function)
    if command[0] == "-m":
        sys.argv = list(command[1:])
        runpy.run_module(command[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = list(command)
        runpy.run_path(command[0], run_name="__main__")


if __name__ == "__main__":
    main(*sys.argv[1:])
