"""The report as one HTML page that needs no network: figures inline, files as data links, a script for tables."""

from __future__ import annotations

import base64
from importlib.resources import files

import jinja2

from jobs.report.document import Document
from jobs.report.figures.drawing import svg


def to_html(document: Document) -> str:
    """Return the report as self-contained HTML, which works without its script."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"data_link": _data_link, "svg": svg}
    folder = files("jobs.report.writers")
    template = environment.from_string(folder.joinpath("page.html.jinja").read_text(encoding="utf-8"))
    style, script = (folder.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return template.render(document=document, style=style, script=script)


def _data_link(text: str) -> str:
    return "data:text/plain;base64," + base64.b64encode(text.encode()).decode()
