"""Docstrings as the site's pages need them: Markdown, with the names of sections that griffe knows.

Roles such as ``:func:`lskd.measure.eta.measure_eta``` become code, and examples, which begin with ``>>>``, a section.
"""

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:mod|class|func|meth|data|attr):`~?([^`]+)`")
EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)
BARE_EXAMPLE = re.compile(r"(?:^|(?<=\n\n))>>> .*?(?=\n\n|\Z)", re.DOTALL)


class DocstringRoles(griffe.Extension):
    """Rewrites each docstring when it is read."""

    def on_instance(self, *, obj: griffe.Object | griffe.Alias, **_: Any) -> None:
        """Rewrite the docstring of a module, class, function or attribute."""
        if obj.docstring:
            obj.docstring.value = rewritten(obj.docstring.value)


def rewritten(text: str) -> str:
    r"""The docstring with names as code, and examples in a section.

    >>> rewritten("See :func:`collect` and :mod:`~lskd.io`.")
    'See `collect` and `lskd.io`.'
    >>> rewritten("Double.\n\n>>> double(1)\n2")
    'Double.\n\nExamples:\n    >>> double(1)\n    2'
    """
    text = EXAMPLE.sub("Examples:", ROLE.sub(r"`\1`", text))
    return BARE_EXAMPLE.sub(lambda found: "Examples:\n    " + found[0].replace("\n", "\n    "), text)
