"""`ampsweep list`: what a spec can name, and neuron sets and sweeps, of this machine or of a server."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from ampsweep.cli.options.client import client_of, line
from ampsweep.cli.options.engine import Corpora, Data
from ampsweep.cli.options.local_or_server import leave_to_server
from ampsweep.cli.options.neuron_source import home_address
from ampsweep.cli.terminal.output import AsJson, show
from ampsweep.client.environment import DEFAULT_URL, URL
from ampsweep.domain.choices import one_of
from ampsweep.domain.neurons.recording_progress import RecordingProgress
from ampsweep.errors import InvalidRequest, UnknownName

if TYPE_CHECKING:
    from ampsweep.client.api import OfferKind

OFFERED = ("models", "corpora", "data-sets", "tasks", "languages")
KINDS = (*OFFERED, "neurons", "sweeps")


def list_offers(
    kind: Annotated[str, typer.Argument(metavar="KIND", help=f"{one_of(KINDS)}.")],
    server: Annotated[str | None, typer.Option(help="List those of the server at this URL.")] = None,
    corpus: Corpora = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """List what a spec can name: the models, corpora, data sets, tasks, languages or neuron sets; or list sweeps.

    Neuron sets are those in the home folder. Sweeps are always those of a server, by default that of AMPSWEEP_URL.
    """
    if kind not in KINDS:
        raise UnknownName("kind", kind, KINDS, param="kind")
    given = {"corpus": corpus, "data": data}
    if server is not None:
        leave_to_server(given)
    if kind not in OFFERED and (unused := [f"--{name}" for name, value in given.items() if value is not None]):
        raise InvalidRequest(f"has no effect on {kind}; leave it out", param=unused[0])
    if kind == "neurons":
        for neuron_set in _neuron_sets(server):
            show(neuron_set, neuron_set_line(neuron_set), as_json=as_json)
        return
    if kind == "sweeps":
        with client_of(server or os.environ.get(URL) or DEFAULT_URL) as client:
            for sweep in client.sweeps():
                show(sweep.model_dump(), line(sweep), as_json=as_json)
        return
    for offer in _on_server(server, kind) if server is not None else _here(kind, corpus, data):
        show(offer, offer_line(offer), as_json=as_json)


def _here(kind: str, corpus: list[str] | None, data: Path | None) -> list[Mapping[str, Any]]:
    from ampsweep.cli.server.catalog import catalog_of
    from ampsweep.cli.server.settings import read_settings
    from jobs.planning.offers import OFFERS

    return OFFERS[kind](catalog_of(read_settings(corpora=corpus, data=data)))


def _on_server(url: str, kind: str) -> list[Mapping[str, Any]]:
    with client_of(url) as client:
        return [*client.models()] if kind == "models" else [*client.offers(cast("OfferKind", kind))]


def _neuron_sets(server: str | None) -> Iterable[Mapping[str, Any]]:
    """Return the neuron sets of a server, also those that are being identified, or those in the home folder."""
    if server is not None:
        with client_of(server) as client:
            return client.neuron_sets(unfinished=True)
    from dataclasses import asdict

    from jobs.neuron_sets.bucket import neuron_sets_at

    return [{"status": "completed", **asdict(info)} for info in neuron_sets_at(home_address()).infos()]


def neuron_set_line(neuron_set: Mapping[str, Any]) -> str:
    """Return a neuron set as one line: its id, its model, and how it was identified or how far that is."""
    status, model = neuron_set["status"], neuron_set.get("model") or "?"
    if status != "completed":
        progress = neuron_set["progress"]
        told = neuron_set["error"] or (progress and RecordingProgress.from_dict(progress).text()) or ""
        return f"{neuron_set['id']}  {model}  {status.replace('_', ' ')}{told and f': {told}'}"
    corpus = f" on {neuron_set['corpus']}" if neuron_set["corpus"] else ""
    counts = ", ".join(f"{code} {count}" for code, count in neuron_set["languages"].items())
    return f"{neuron_set['id']}  {model}  {neuron_set['method']}{corpus}  {counts}"


def offer_line(offer: Mapping[str, Any]) -> str:
    """Return an offer as one line: its name, and what is known about it."""
    details = {name: value for name, value in offer.items() if name not in ("id", "object", "created", "owned_by")}
    return f"{offer['id']:<20} {'; '.join(_known(details))}".rstrip()


def _known(details: Mapping[str, Any]) -> Iterator[str]:
    """Yield each detail that is known, as its name and value."""
    for name, value in details.items():
        if value in (None, [], {}, False):
            continue
        if isinstance(value, Mapping):
            shown = f" {', '.join(_known(value))}"
        elif isinstance(value, list):
            shown = f" {', '.join(map(str, value))}"
        else:
            shown = "" if value is True else f" {value}"
        yield f"{name.replace('_', ' ')}{shown}"
