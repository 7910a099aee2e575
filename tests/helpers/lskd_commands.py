"""Subcommands of ``lskd`` in this process, for tests."""

import contextlib
import io
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from helpers.commands import ROOT, words_of
from lskd.commands.main import main
from lskd.io.errors import OneLineParser, run_command


def here(*command, cwd: Path = ROOT, status: int = 0) -> subprocess.CompletedProcess:
    """As :func:`helpers.commands.run`, of ``lskd`` in this process: that saves the imports of the package."""
    words = words_of("lskd", *command)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(cwd)
        patch.setattr("sys.argv", words)
        with (
            contextlib.redirect_stdout(io.StringIO()) as output,
            contextlib.redirect_stderr(io.StringIO()) as error,
            pytest.raises(SystemExit) as ended,
        ):
            main()
    result = subprocess.CompletedProcess(words, ended.value.code, output.getvalue(), error.getvalue())
    assert result.returncode == status, f"{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
    return result


def call(command: ModuleType, *words: object) -> None:
    """Run a subcommand; what is wrong with its words is raised."""
    parser = _parser(command)
    command.run(parser.parse_args(list(map(str, words))))


def exit_status(command: ModuleType, *words: object) -> object:
    """Run a subcommand as the command line does, with one line for an error, and return its exit status."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["lskd", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            run_command(_parser(command), command.run)
    return ended.value.code


def _parser(command: ModuleType) -> OneLineParser:
    parser = OneLineParser(prog=f"lskd {command.__name__.rpartition('.')[2]}")
    command.add_arguments(parser)
    return parser
