"""Parse the flags of :mod:`lskd_vision.options`: the types of their values, and ``--config`` files."""

import argparse
import difflib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from lskd.io.errors import InputError, OneLineParser, input_error
from lskd.io.files import parse_yaml
from lskd.measure.representation_command import CHECKPOINT_SUFFIX
from lskd_vision.config_values import flag
from lskd_vision.timm_flags import instead


def add_group(options: argparse.ArgumentParser, title: str) -> argparse._ArgumentGroup:
    """Add a group of flags that are not in the namespace unless they are given."""
    return options.add_argument_group(title, argument_default=argparse.SUPPRESS)


def assignment(text: str) -> str:
    """An argument type: ``name=value``."""
    if not text.partition("=")[0].isidentifier() or "=" not in text:
        raise argparse.ArgumentTypeError(f"{text} (must be name=value)")
    return text


class CheckpointParser(OneLineParser):
    """A parser whose ``CHECKPOINT`` may also follow an option with several values: ``--split train X.pth``.

    argparse would take it for one of the values.
    """

    def parse_known_args(  # type: ignore[override]  # argparse has overloads for other namespaces
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse; ``args`` are the words of the command line."""
        words = list(sys.argv[1:] if args is None else args)
        several = {name for action in self._actions if action.nargs in ("+", "*") for name in action.option_strings}
        for start in [index for index, word in enumerate(words) if word in several]:
            end = next((i for i in range(start + 1, len(words)) if words[i].startswith("-")), len(words))
            if end - start > 2 and (CHECKPOINT_SUFFIX.search(words[end - 1]) or Path(words[end - 1]).is_file()):
                words.insert(start, words.pop(end - 1))
                break
        return super().parse_known_args(words, namespace or argparse.Namespace())


class TrainingParser(OneLineParser):
    """A parser with ``--config FILE``: settings from a YAML file, read as if they came first on the command line.

    The data directory may also be the first word, as in timm's script.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.add_argument("-c", "--config", type=Path, metavar="FILE", help="YAML file of these options")

    def parse_known_args(  # type: ignore[override]  # argparse has overloads for other namespaces
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse; ``args`` are the words of the command line."""
        words = list(sys.argv[1:] if args is None else args)
        if words and not words[0].startswith("-"):
            if any(word.partition("=")[0] == "--data-dir" for word in words):
                self.error(f"unexpected argument: {words[0]} (--data-dir is given, too)")
            words = ["--data-dir", *words]
        only_config = OneLineParser(prog=self.prog, add_help=False)
        only_config.add_argument("-c", "--config", type=Path)
        path = only_config.parse_known_args(words)[0].config
        try:
            from_file = self.words_of_config(path) if path else []
        except InputError as error:
            self.error(str(error))
        return super().parse_known_args(from_file + words, namespace or argparse.Namespace())

    def error(self, message: str) -> NoReturn:
        """As in argparse; for a flag of timm's that this project does not have, say what to use instead."""
        _, unknown, words = message.partition("unrecognized arguments: ")
        first = words.split(" ")[0]
        if unknown and (reason := instead(first)):
            message = f"no such option: {first.partition('=')[0]} ({reason})"
        super().error(message)

    def words_of_config(self, path: Path) -> list[str]:
        """Convert the settings of a YAML file to words of a command line.

        Raises:
            InputError: the file cannot be read, does not hold settings, or one of them is not an option.
        """
        try:
            settings = parse_yaml(path.read_text(encoding="utf-8")) or {}
        except (OSError, ValueError) as error:
            raise input_error("--config", path, f"cannot be read as YAML: {error}") from None
        if not isinstance(settings, dict):
            raise input_error("--config", path, "must hold settings, one `name: value` a line")
        return [word for key, value in settings.items() for word in self._words(str(key), value)]

    def _words(self, key: str, value: object) -> list[str]:
        """Convert one setting to words of a command line."""
        options = {option: action for action in self._actions for option in action.option_strings}
        option = flag(key)
        if option not in options or option in ("--config", "--help"):
            near = difflib.get_close_matches(option, options, n=1)
            raise input_error(f"--config: {key}", value, f"no such option{f', perhaps {near[0][2:]}' if near else ''}")
        takes = options[option].nargs
        if takes == 0 and not isinstance(value, bool):
            raise input_error(f"--config: {key}", value, "must be true or false")
        if isinstance(value, bool):
            if takes not in (0, "?"):
                raise input_error(f"--config: {key}", str(value).lower(), "must be a value, not true or false")
            return [option] * value
        if value is None:
            return []
        if isinstance(value, list) and takes is None:
            raise input_error(f"--config: {key}", value, "must be one value")
        if isinstance(value, dict):
            return [option, *(f"{name}={each}" for name, each in value.items())]
        return [option, *map(str, value if isinstance(value, list) else [value])]
