"""The ``lskd`` command.

Each module of ``lskd/commands`` is a subcommand that works on representation files and run records and needs neither
fairseq nor timm. Installed packages add theirs (``lskd vision train``, ``lskd nmt score``) by entry points of the group
:data:`GROUP`, so that nothing here knows them. A module is imported when its command is used, and not for ``--help``.
"""

import argparse
import ast
import importlib
import importlib.metadata
import importlib.util
import os
from pathlib import Path
from typing import Any

from lskd import __version__
from lskd.io.errors import OneLineParser, input_error, run_command

COMMANDS = (
    "eta",
    "similar",
    "project",
    "entropy",
    "match_temperature",
    "accuracy",
    "advise",
    "published",
    "compare",
    "report",
    "reproduce",
)
GROUP = "lskd.commands"
OUTPUTS = ("output", "table", "coordinates", "agreement")  # options that name a file to write


class CommandParser(OneLineParser):
    """The parser of a subcommand, made complete from its module when it is asked to parse.

    Args:
        module: with ``EXAMPLE``, ``add_arguments(parser)`` and ``run(arguments)``; its docstring is the description.
    """

    def __init__(self, *, module: str, **options):
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)
        self.module, self.complete = module, False

    def parse_known_args(self, args=None, namespace=None):
        """Import the module, add its arguments and parse."""
        if not self.complete:
            module, self.complete = importlib.import_module(self.module), True
            self.description, self.epilog = module.__doc__, f"example:\n  {module.EXAMPLE}"
            module.add_arguments(self)
            _add_debug(self)
            self.set_defaults(run=module.run)
        return super().parse_known_args(args, namespace)


class InstalledCommandParser(OneLineParser):
    """The parser of a subcommand that another package brings: the parser of its module, under this name.

    Args:
        entry: names a module with ``parser()`` and ``main(arguments)``.
    """

    def __init__(self, *, entry: importlib.metadata.EntryPoint, **options):
        super().__init__(**options)
        self.entry = entry

    def parse_known_args(self, args=None, namespace=None):
        """Import the module and let its parser parse."""
        try:
            module = self.entry.load()
        except ImportError as error:
            extra, missing = self.entry.name.partition(".")[0], (error.name or "").partition(".")[0]
            self.error(f"{missing} is not installed (pip install 'lskd[{extra}]')" if missing else str(error))
        found = module.parser()
        found.prog = self.prog
        _add_debug(found)
        own = found.parse_args(args)
        # It gets its own arguments alone, as from `python -m`: a training records them, and compares them to resume.
        shared = {"debug": own.debug} if hasattr(own, "debug") else {}
        return argparse.Namespace(run=lambda _: module.main(own), **shared), []


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = OneLineParser(prog="lskd", description="Measure what distillation at a temperature did to a student.")
    command.add_argument("--version", action="version", version=f"lskd {__version__}")
    commands = _subcommands(command)
    for name in COMMANDS:
        module = f"lskd.commands.{name}"
        commands.add_parser(name.replace("_", "-"), help=_summary(module), module=module)
    groups: dict[str, argparse._SubParsersAction] = {}
    for entry in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda entry: entry.name):
        group, _, name = entry.name.partition(".")
        if group not in groups:
            summary = _summary(entry.value.partition(".")[0])
            groups[group] = _subcommands(commands.add_parser(group, help=summary, description=summary))
        groups[group].add_parser(name, help=_summary(entry.value), entry=entry)
    return command


def _subcommands(parser: argparse.ArgumentParser) -> argparse._SubParsersAction:
    return parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_new_parser)


def _new_parser(**options) -> OneLineParser:
    if "module" in options:
        return CommandParser(**options)
    return InstalledCommandParser(**options) if "entry" in options else OneLineParser(**options)


def _add_debug(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error"
    )


def _summary(module: str) -> str:
    """The first line of a module's docstring, without importing it or the package that it is in."""
    package, *names = module.split(".")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return "not installed"
    path = Path(spec.origin).parent.joinpath(*names).with_suffix(".py") if names else Path(spec.origin)
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def _run(arguments: argparse.Namespace) -> int | None:
    _check_outputs(arguments)
    return arguments.run(arguments)


def _check_outputs(arguments: argparse.Namespace) -> None:
    """Refuse an output that is an input too, or another output."""
    given = [
        (name, os.path.realpath(each))
        for name, value in vars(arguments).items()
        for each in (value if isinstance(value, list[Any] | tuple[Any, ...]) else [value])
        if isinstance(each, str | Path)
    ]
    for output in OUTPUTS:
        if not isinstance(path := getattr(arguments, output, None), Path):
            continue
        for name, other in given:
            if name != output and other == os.path.realpath(path) and (name in OUTPUTS or path.is_file()):
                raise input_error(
                    f"--{output}", path, f"is given as {name.replace('_', '-')} too, must be another file"
                )


def main() -> None:
    """Run the command line."""
    run_command(parser(), _run)


if __name__ == "__main__":
    main()
