"""Subcommands of ``lskd`` in this process, for tests."""

from types import ModuleType

import pytest

from lskd.io.errors import OneLineParser, run_command


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
