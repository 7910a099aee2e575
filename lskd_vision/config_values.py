"""Names and values of a configuration, as written on a command line."""

from collections.abc import Sequence

from lskd.io.errors import input_error


def flag(name: str) -> str:
    """The flag of a configuration field.

    >>> flag("kd_temperature")
    '--kd-temperature'
    """
    return "--" + name.replace("_", "-")


def spaced(value: object) -> str:
    """Format one or several values as on a command line.

    >>> spaced((0.5, 1.0))
    '0.5 1.0'
    """
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def check_ascending(argument: str, values: Sequence[float]) -> None:
    """Check that values ascend. Raises InputError."""
    if list(values) != sorted(values):
        raise input_error(argument, spaced(values), "must ascend")
