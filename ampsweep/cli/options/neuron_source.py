"""The neuron set that a command is given: its folder, or its id in the home folder or on a server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ampsweep.cli.options.client import client_of
from ampsweep.domain.neurons.neuron_set import METADATA_FILE, NEURON_SET_ID
from ampsweep.domain.neurons.neuron_set_metadata import NeuronSetMetadata
from ampsweep.errors import Conflict, InvalidRequest, NotFound, Unavailable, UnknownName
from ampsweep.missing_path import no_folder

if TYPE_CHECKING:
    from ampsweep.client.models import NeuronSet as ServedNeuronSet
    from engine.neurons.neuron_set import NeuronSet
    from jobs.neuron_sets.registry import NeuronSets
    from jobs.planning.catalog import Catalog
    from jobs.spec.sweep import SweepSpec

SetArgument = Annotated[
    str,
    typer.Argument(metavar="SET", help="The neuron set: its folder, or its id in the home folder or on the server."),
]
LocalSetArgument = Annotated[
    str, typer.Argument(metavar="SET", help="The neuron set: its folder, or its id in the home folder.")
]


def home_address() -> str:
    """Return where the neuron sets of this installation are stored: a folder, or a prefix in an object store."""
    from ampsweep.cli.server.settings import read_settings

    settings = read_settings()
    if settings.results is None:
        return str(settings.home / "neurons")
    from jobs.storage.factory import join

    return join(settings.results, "neurons")


@contextmanager
def local_set(source: str, *, param: str) -> Iterator[Path | None]:
    """Yield the folder of a set that is given as a folder or as an id; None if this installation has no such id.

    Raises:
        NotFound: The source is neither a folder nor an id.
    """
    path = Path(source)
    if path.is_dir():
        yield path
        return
    if path.is_file():
        remedy = f"convert it with `ampsweep neurons import {source} --model MODEL --out FOLDER`, and give that folder"
        raise NotFound(f"{source} is a file, and not the folder of a neuron set; {remedy}", param=param)
    if not re.fullmatch(NEURON_SET_ID, source):
        kinds = "neither a folder, nor a file, nor the id of a neuron set (ns_...)"
        message = no_folder(Path(source)).partition("; did you mean ")[2]
        hint = f"; did you mean {message}" if message else ""
        raise NotFound(f"{source} is {kinds}{hint}", param=param)
    from jobs.neuron_sets.bucket import neuron_sets_at

    neuron_sets = neuron_sets_at(home_address())  # its downloads are deleted with it
    folder = neuron_sets.fetch(source)
    yield folder if (folder / METADATA_FILE).is_file() else None


@contextmanager
def required_local_set(source: str, *, param: str) -> Iterator[Path]:
    """Yield the folder of a set as `local_set` does; raise NotFound if this installation has no such id."""
    with local_set(source, param=param) as folder:
        if folder is None:
            message = f"no neuron set {source} in {home_address()}; give its folder, or set AMPSWEEP_HOME to its home"
            raise NotFound(message, param=param)
        yield folder


def read_neurons(source: str | Path | None) -> NeuronSet | None:
    """Load a neuron set, given as its folder or as its id in the home folder; return None for None."""
    from engine.neurons.neuron_set import NeuronSet

    if source is None:
        return None
    with required_local_set(str(source), param="neurons") as folder:
        return NeuronSet.load(folder)


@contextmanager
def naming_spec_neurons() -> Iterator[None]:
    """Add how to give a neuron set to the error that the one in the spec does not exist here."""
    try:
        yield
    except UnknownName as error:
        if error.param == "neurons.id":
            error.message += "; give its folder, or its id in the home folder, with --neurons"
        raise


def check_spec_uses(neuron_set: NeuronSet, spec: SweepSpec, *, catalog: Catalog, neuron_sets: NeuronSets) -> None:
    """Check that a spec uses the neuron set of `--neurons`: by its id, or as the one that it would identify.

    Raises:
        InvalidRequest: It uses another one; the message names both.
    """
    from jobs.planning.neuron_choice import resolve_neurons
    from jobs.spec.neurons import NeuronsById

    if isinstance(spec.neurons, NeuronsById):
        used = {spec.neurons.id}
        named = "names"
    else:
        choices = resolve_neurons(spec.neurons, catalog.model(spec.model), catalog, neuron_sets, modes=spec.mode)
        used = {choice.ref.id for choice in choices.values()}
        named = f"identifies its neurons itself by {spec.neurons.method} on {spec.neurons.corpus}:"
    if neuron_set.id not in used:
        message = f"the spec {named} {' and '.join(sorted(used))}, and would not use {neuron_set.id}"
        remedy = f"write `neurons: {{id: {neuron_set.id}}}` in the spec, or leave --neurons out"
        raise InvalidRequest(f"{message}; {remedy}", param="--neurons")


def fetched_set(neuron_set_id: str, server: str, *, param: str) -> ServedNeuronSet:
    """Return a set of a server, with its neurons, that is not in this installation.

    Raises:
        NotFound: The server has no such set.
        Conflict: The set is being identified, or its identification has failed.
        Unavailable: The server does not answer.
    """
    elsewhere = f"no neuron set {neuron_set_id} in {home_address()}"
    try:
        with client_of(server) as client:
            neuron_set = client.neuron_set(neuron_set_id, neurons=True)
    except NotFound as error:
        remedy = "give its folder, AMPSWEEP_HOME or --server"
        raise NotFound(f"{elsewhere}, and none on the server at {server}; {remedy}", param=param) from error
    except Unavailable as error:
        raise type(error)(f"{elsewhere}, and its server does not answer: {error.message}", param=param) from error
    if neuron_set["status"] != "completed":
        raise Conflict(f"neuron set {neuron_set_id} is {neuron_set['status']}; it has no neurons yet")
    return neuron_set


def check_neuron_folder(folder: Path, neuron_set_id: str) -> None:
    """Raise InvalidRequest if a folder holds another neuron set than the one that will be saved there.

    A damaged set may be replaced.
    """
    path = folder / METADATA_FILE
    if not path.is_file():
        return
    try:
        stored = NeuronSetMetadata.parse(path.read_bytes())
    except (ValueError, KeyError, TypeError, OSError):
        return
    if stored.id != neuron_set_id:
        message = f"{folder} holds another neuron set, {stored.id}; choose another folder, or delete this one"
        raise InvalidRequest(message, param="out")
