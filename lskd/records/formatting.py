"""How results are written on pages and in tables: means with their spread, changes, α and T."""

from lskd.records.spread import Spread


def with_spread(value: Spread | None, with_n: bool = False, digits: int = 2) -> str:
    """A mean with its standard deviation; a dash for None.

    >>> with_spread(Spread(85.3, 0.4, 3), with_n=True), with_spread(Spread(85.3, None, 1), digits=1)
    ('85.30 ± 0.40 (3)', '85.3')
    >>> with_spread(None)
    '–'
    """
    if value is None:
        return "–"
    deviation = "" if value.sd is None else f" ± {value.sd:.{digits}f}"
    return f"{value.mean:.{digits}f}{deviation}" + (f" ({value.n})" if with_n else "")


def signed(value: float, digits: int = 1) -> str:
    """A change with its sign, with a typographic minus.

    >>> signed(-2.55, 2), signed(3.0), signed(-0.01)
    ('−2.55', '+3.0', '0.0')
    """
    written = f"{value:+.{digits}f}"
    return written.replace("-", "−") if float(written) else written[1:]


def smoothing(alpha: float | None) -> str:
    """``α = 0.1``, with non-breaking spaces."""
    return "α unknown" if alpha is None else f"α = {alpha:g}".replace(" ", "\u00a0")


def at(temperature: float) -> str:
    """``T = 3``, with non-breaking spaces."""
    return f"T = {temperature:g}".replace(" ", "\u00a0")
