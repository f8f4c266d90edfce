"""`ampsweep list`: the models, corpora, data sets, tasks and languages of this machine or of a server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from ampsweep.cli.options.client import client_of
from ampsweep.cli.options.engine import Corpora, Data
from ampsweep.cli.terminal.output import AsJson, show
from ampsweep.domain.choices import one_of
from ampsweep.errors import UnknownName

if TYPE_CHECKING:
    from ampsweep.client.api import OfferKind

KINDS = ("models", "corpora", "data-sets", "tasks", "languages")


def list_offers(
    kind: Annotated[str, typer.Argument(metavar="KIND", help=f"{one_of(KINDS)}.")],
    server: Annotated[str | None, typer.Option(help="List those of the server at this URL.")] = None,
    corpus: Corpora = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """List what a spec can name: the models, corpora, data sets, tasks or languages that are there."""
    if kind not in KINDS:
        raise UnknownName("kind", kind, KINDS, param="kind")
    for offer in _on_server(server, kind) if server is not None else _here(kind, corpus, data):
        show(offer, _line(offer), as_json=as_json)


def _here(kind: str, corpus: list[str] | None, data: Path | None) -> list[Mapping[str, Any]]:
    from ampsweep.cli.server.catalog import catalog_of
    from ampsweep.cli.server.settings import read_settings
    from jobs.planning.offers import OFFERS

    return OFFERS[kind](catalog_of(read_settings(corpora=corpus, data=data)))


def _on_server(url: str, kind: str) -> list[Mapping[str, Any]]:
    with client_of(url) as client:
        return [*client.models()] if kind == "models" else [*client.offers(cast("OfferKind", kind))]


def _line(offer: Mapping[str, Any]) -> str:
    """Return an offer as one line: its name, and what is known about it."""
    details = []
    for name, value in offer.items():
        if name in ("id", "object", "created", "owned_by") or value in (None, [], False):
            continue
        shown = "" if value is True else f" {', '.join(value) if isinstance(value, list) else value}"
        details.append(f"{name.replace('_', ' ')}{shown}")
    return f"{offer['id']:<20} {'; '.join(details)}".rstrip()
