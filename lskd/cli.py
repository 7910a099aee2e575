"""The ``lskd`` command: one subcommand for each module of ``lskd/commands``.

Subcommands work on representation files and on run records, so they need neither fairseq nor timm.
"""

import argparse
import importlib

from lskd import __version__
from lskd.errors import OneLineParser, run_command

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


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = OneLineParser(prog="lskd", description="Measure what distillation at a temperature did to a student.")
    command.add_argument("--version", action="version", version=f"lskd {__version__}")
    commands = command.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=OneLineParser)
    for name in COMMANDS:
        module = importlib.import_module(f"lskd.commands.{name}")
        summary, _, more = module.__doc__.strip().partition("\n")
        subcommand = commands.add_parser(
            name.replace("_", "-"),
            help=summary,
            description=summary + "\n" + more,
            epilog=f"example:\n  {module.EXAMPLE}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(subcommand)
        subcommand.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error"
        )
        subcommand.set_defaults(run=module.run)
    return command


def main() -> None:
    """Run the command line."""
    run_command(parser(), lambda arguments: arguments.run(arguments))


if __name__ == "__main__":
    main()
