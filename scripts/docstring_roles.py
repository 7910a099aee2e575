"""Show roles of docstrings, ``:func:`lskd.measure.eta.measure_eta```, as code on the site's pages, which are Markdown."""

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:mod|class|func|meth|data|attr):`~?([^`]+)`")


class DocstringRoles(griffe.Extension):
    """Rewrites each docstring when it is read."""

    def on_instance(self, *, obj: griffe.Object | griffe.Alias, **_: Any) -> None:
        """Rewrite the docstring of a module, class, function or attribute."""
        if obj.docstring:
            obj.docstring.value = without_roles(obj.docstring.value)


def without_roles(text: str) -> str:
    """The text with the names alone.

    >>> without_roles("see :func:`collect` and :mod:`~lskd.io`")
    'see `collect` and `lskd.io`'
    """
    return ROLE.sub(r"`\1`", text)
