"""Report bad input in one line, with exit status 2."""

import argparse
import contextlib
import difflib
import os
import signal
import sys
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any, NoReturn

from lskd.io.argument_types import integer, named_path, number

LONGEST = 500  # characters of a value in a message


class InputError(ValueError):
    """Input that cannot be used.

    The message is one line that names the argument, its value and what would be valid:
    ``--temperature: 0.0 (must be a finite number above 0)``.
    """


def input_error(argument: str, value: object, valid: str) -> InputError:
    """An :class:`InputError` in the project's wording; a value longer than :data:`LONGEST` is truncated.

    >>> print(input_error("--temperature", 0.0, "must be above 0"))
    --temperature: 0.0 (must be above 0)
    """
    text = str(value)
    return InputError(f"{argument}: {text if len(text) <= LONGEST else text[:LONGEST] + '…'} ({valid})")


def shortened(values: Iterable[object], most: int = 5, between: str = ", ") -> str:
    """The first ``most`` values for a message, and how many more there are.

    >>> shortened(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    values = list(values)
    more = f" and {len(values) - most} more" if len(values) > most else ""
    return between.join(map(str, values[:most])) + more


@contextlib.contextmanager
def error_context(name: object) -> Generator[None]:
    """Turn a ValueError into an :class:`InputError` whose message begins with ``name``, such as a file's.

    An InputError already names what it is about and passes unchanged.
    """
    try:
        yield
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{name}: {error}") from None


@contextlib.contextmanager
def file_error_context(path: str | os.PathLike[str]) -> Generator[None]:
    """Make an OSError name ``path`` if it names no file (as for a full disk) or a hidden temporary file beside it.

    >>> with file_error_context("run.json"):
    ...     raise OSError(28, "No space left on device")
    Traceback (most recent call last):
    OSError: [Errno 28] No space left on device: 'run.json'
    """
    try:
        yield
    except OSError as error:
        hidden = os.path.join(os.path.dirname(path), ".")
        if error.errno is None or not str(error.filename or hidden).startswith(hidden):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


class OneLineParser(argparse.ArgumentParser):
    """An ArgumentParser with errors in one line: no abbreviated options, no empty paths, no infinite numbers."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"allow_abbrev": False} | options)
        for kind, checked in ((Path, named_path), (float, number()), (int, integer)):
            self.register("type", kind, checked)

    def error(self, message: str) -> NoReturn:
        """Exit with status 2 and the message in one line."""
        message = message.removeprefix("argument ")
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown != message and unknown.startswith("-"):
            near = difflib.get_close_matches(unknown.split("=")[0].split()[0], self._option_string_actions, n=1)
            message = f"no such option: {unknown}" + (f" (perhaps {near[0]})" if near else "")
        elif unknown != message:
            message = f"unexpected argument: {unknown}"
        sys.exit(report(self.prog, ValueError(message)))


def not_installed(package: str, extra: str) -> InputError:
    """The error for a package that an extra of this one would install.

    >>> print(not_installed("timm", "vision"))
    timm is not installed (in a checkout of lskd: pip install '.[vision]')
    """
    return InputError(f"{package} is not installed (in a checkout of lskd: pip install '.[{extra}]')")


def help_texts(arguments: str, docstring: str) -> dict[str, Any]:
    """Keyword arguments for an ArgumentParser whose help text starts with an example.

    Args:
        arguments: the required arguments, for the usage line, which would otherwise name all options.
        docstring: a module's docstring: its first line, a paragraph of example commands, and the rest.

    >>> print(help_texts("FILE", "Do it.\\n\\n    lskd do x.json\\n\\nMore of ``x``.")["description"])
    example:
        lskd do x.json
    <BLANKLINE>
    Do it.
    <BLANKLINE>
    More of `x`.
    """
    first_line, example, *rest = docstring.strip().split("\n\n")
    text = "\n\n".join([f"example:\n{example}", first_line, *rest]).replace("``", "`")
    return {
        "usage": f"%(prog)s {arguments} [options]",
        "description": text,
        "formatter_class": argparse.RawDescriptionHelpFormatter,
    }


def run_command(parser: argparse.ArgumentParser, command: Callable[[argparse.Namespace], int | None]) -> None:
    """Parse the command line, run ``command(arguments)`` and exit with its status.

    An :class:`InputError` and an operating-system error (a full disk, a directory that cannot be written) become one
    line and exit status 2, Ctrl-C and SIGTERM exit status 130; ``--debug``, added here, shows the traceback. A command
    that resumes what an earlier call left unfinished declares it with ``parser.set_defaults(resumes=True)``.
    """
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, interrupt)
    program = getattr(arguments, "program", parser.prog)  # of a subcommand
    try:
        status = command(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output closed it, as `| head` does: no error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (InputError, OSError) as error:
        if arguments.debug:
            raise
        reason = error
        try:
            sys.stdout.flush()
        except OSError as full:  # Python would try to flush again at exit, and print a traceback
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if getattr(error, "filename", "") is None:
                reason = OSError(full.errno, full.strerror, "standard output")
        sys.exit(report(program, reason))
    except KeyboardInterrupt:
        if arguments.debug:
            raise
        then = "; the same command resumes where it stopped" if getattr(arguments, "resumes", False) else ""
        print(f"{program}: interrupted{then}", file=sys.stderr)
        sys.exit(130)
    sys.exit(status or 0)


def interrupt(*_: object) -> None:
    """Handle SIGTERM, with which schedulers end a job, like Ctrl-C, even if Ctrl-C is ignored."""
    raise KeyboardInterrupt


def report(program: str, error: Exception) -> int:
    """Print one line about ``error`` to standard error and return the exit status, 2.

    Values come from untrusted files: control characters are shown as �.
    """
    _print_line(program, "error", error)
    return 2


def warn(program: str, warnings: Iterable[str]) -> None:
    """Print each of ``warnings`` as a line on standard error."""
    for warning in warnings:
        _print_line(program, "warning", warning)


def _print_line(program: str, kind: str, message: object) -> None:
    line = "".join(character if character.isprintable() else "�" for character in " ".join(str(message).split()))
    with contextlib.suppress(OSError):  # standard error may be on the disk that is full
        print(f"{program}: {kind}: {line}", file=sys.stderr, flush=True)
