"""Render pages from templates: HTML is in ``templates``, colours and layout are in ``style.css``.

Everything that a template shows is escaped. Drawings are SVG in ``<img>`` with data URLs: several SVGs by matplotlib in
one document would share ids and a global style, whereas an image is a separate document, runs no scripts, and its
``alt`` text is supported everywhere. The page's content security policy forbids scripts and all requests.
"""

import base64
import hashlib
import importlib.resources
import itertools
from collections.abc import Sequence

from lskd.io.errors import not_installed
from lskd.report.elements import Section


def render(template: str, sections: Sequence[Section], **content: object) -> str:
    """Render a page as a single self-contained file.

    Args:
        template: the page's template in ``templates``.
        sections: the page's sections.
        content: further values for the template.

    Raises:
        InputError: Jinja is not installed.
    """
    try:
        import jinja2
    except ImportError:
        raise not_installed("jinja2", "report") from None
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lskd.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["base64"] = _base64
    style = importlib.resources.files("lskd.report").joinpath("style.css").read_text(encoding="utf-8")
    return environment.get_template(template).render(
        content,
        sections=numbered(sections),
        style=style,
        style_hash=_base64(hashlib.sha256(style.encode()).digest()),
        drawing_number=itertools.count(1).__next__,
    )


def numbered(sections: Sequence[Section]) -> list[tuple[str, Section, list[tuple[str, Section]]]]:
    """Sections and their parts in reading order, each with its id."""
    number = itertools.count(1)
    return [
        (f"section-{next(number)}", section, [(f"section-{next(number)}", part) for part in section.parts])
        for section in sections
    ]


def _base64(data: str | bytes) -> str:
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()
