"""The ``lskd`` command.

The modules of ``lskd/commands`` in :data:`COMMANDS` are subcommands for representation files and run records; they need
neither fairseq nor timm. Installed packages add theirs (``lskd vision train``, ``lskd nmt score``) through entry points
of the group :data:`GROUP`, and the scripts that prepare data are ``lskd data NAME``. A module is imported only when its
command is used, not for ``lskd --help``.
"""

import argparse
import ast
import contextlib
import importlib
import importlib.metadata
import importlib.util
import logging
import warnings
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

from lskd import __version__
from lskd.commands.outputs import check_outputs
from lskd.commands.workflow import DATA, DataScript
from lskd.io.errors import InputError, OneLineParser, not_installed, run_command

COMMANDS = (
    "eta",
    "similar",
    "project",
    "entropy",
    "match_temperature",
    "measure",
    "accuracy",
    "summarise",
    "advise",
    "published",
    "compare",
    "report",
    "reproduce",
)
GROUP = "lskd.commands"


class CommandParser(OneLineParser):
    """The parser of a subcommand, which imports its module and adds its arguments when it first parses.

    Args:
        module: name of a module with ``EXAMPLE``, ``add_arguments(parser)`` and ``run(arguments)``; the module's
            docstring is the description.
    """

    def __init__(self, *, module: str, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)
        self.module, self.complete = module, False

    def parse_known_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> Any:
        """Import the module, add its arguments and parse."""
        if not self.complete:
            module, self.complete = importlib.import_module(self.module), True
            self.description, self.epilog = module.__doc__, f"example:\n  {module.EXAMPLE}"
            module.add_arguments(self)
            _add_debug(self)
            self.set_defaults(run=module.run, program=self.prog)
        return super().parse_known_args(args, namespace)


class InstalledCommandParser(OneLineParser):
    """The parser of a subcommand from another package, which delegates to the parser of the command's module.

    Args:
        entry: loads a module with ``parser()`` and ``main(arguments)``.
        extra: the extra of this package that installs the module's requirements.
    """

    def __init__(self, *, entry: importlib.metadata.EntryPoint | DataScript, extra: str, **options: Any) -> None:
        super().__init__(**options)
        self.entry, self.extra = entry, extra

    def parse_known_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> Any:
        """Import the module and let its parser parse."""
        try:
            with self._missing_packages(), _without_noise():
                module = self.entry.load()
        except InputError as error:
            self.error(str(error))
        found = module.parser()
        found.prog = self.prog
        _add_debug(found)
        own = found.parse_args(args)
        # Pass only its own arguments, as with `python -m`: training records them, and compares them on resuming.
        shared = {name: getattr(own, name) for name in ("debug", "resumes") if hasattr(own, name)}

        def run(_: argparse.Namespace) -> int | None:
            with self._missing_packages():
                return module.main(own)

        return argparse.Namespace(run=run, program=self.prog, **shared), []

    @contextlib.contextmanager
    def _missing_packages(self) -> Generator[None]:
        """Turn the error of an import into one that says how to install the package."""
        try:
            yield
        except ImportError as error:
            missing = (error.name or "").partition(".")[0]
            raise not_installed(missing, self.extra) if missing else InputError(str(error)) from error


@contextlib.contextmanager
def _without_noise() -> Generator[None]:
    """Suppress warnings and log messages of imported packages, which do not concern the user."""
    before = logging.root.manager.disable
    logging.disable(logging.INFO)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.disable(before)


def parser() -> argparse.ArgumentParser:
    """The parser of the ``lskd`` command line."""
    command = OneLineParser(prog="lskd", description="Measure what distillation at a temperature did to a student.")
    command.add_argument("--version", action="version", version=f"lskd {__version__}")
    commands = _subcommands(command)
    for name in COMMANDS:
        module = f"lskd.commands.{name}"
        commands.add_parser(name.replace("_", "-"), help=_summary(module), module=module)
    groups: dict[str, argparse._SubParsersAction[OneLineParser]] = {}
    for entry in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda entry: entry.name):
        group, _, name = entry.name.partition(".")
        if group not in groups:
            summary = _summary(entry.value.partition(".")[0])
            groups[group] = _subcommands(commands.add_parser(group, help=summary, description=summary))
        groups[group].add_parser(name, help=_summary(entry.value), entry=entry, extra=group)
    about = "Prepare data sets: those that ship, ImageNet, CUB-200-2011, IWSLT'14 and others."
    data = _subcommands(commands.add_parser("data", help=about, description=about))
    for script in (DataScript(stem, extra) for stem, extra in DATA.items()):
        data.add_parser(script.name, help=_first_line(script.path), entry=script, extra=script.extra)
    return command


def _subcommands(parser: argparse.ArgumentParser) -> "argparse._SubParsersAction[OneLineParser]":
    new_parser: Any = _new_parser  # argparse calls it, as it would a class
    return parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=new_parser)


def _new_parser(**options: Any) -> OneLineParser:
    if "module" in options:
        return CommandParser(**options)
    return InstalledCommandParser(**options) if "entry" in options else OneLineParser(**options)


def _add_debug(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error"
    )


def _summary(module: str) -> str:
    """The first line of a module's docstring, without importing the module or its package."""
    package, *names = module.split(".")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return "not installed"
    return _first_line(Path(spec.origin).parent.joinpath(*names).with_suffix(".py") if names else Path(spec.origin))


def _first_line(path: Path) -> str:
    """The first line of the docstring of a Python file."""
    text = path.read_text(encoding="utf-8")
    before, quotes, after = text.partition('"""')
    docstring = after.partition('"""')[0]
    with contextlib.suppress(SyntaxError):  # parsing a whole module takes 3 ms, and there are two dozen of them
        return (ast.get_docstring(ast.parse(f"{before}{quotes}{docstring}{quotes}")) or "").partition("\n")[0]
    return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]


def _run(arguments: argparse.Namespace) -> int | None:
    check_outputs(arguments)
    return arguments.run(arguments)


def main() -> None:
    """Run the command line."""
    run_command(parser(), _run)


if __name__ == "__main__":
    main()
