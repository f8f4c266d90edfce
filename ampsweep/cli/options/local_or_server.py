"""Options of the commands that send one request to an engine in this process or, with --server, to a server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from ampsweep.cli.options.completion import models
from ampsweep.errors import InvalidRequest

LocalOrServedModel = Annotated[
    str,
    typer.Option(
        help="A model folder, `atlas`, or with --server the name of a model that it offers.", autocompletion=models
    ),
]
OptionalServer = Annotated[
    str | None, typer.Option(help="Send the request to the server at this URL instead of loading the model here.")
]
LocalOrServedNeurons = Annotated[
    str | None,
    typer.Option(help="The neuron set: its folder, or its id in the home folder; with --server its id there."),
]
LocalOrServedLora = Annotated[
    str | None, typer.Option(help="A LoRA adapter of the model (vllm only): its folder, or with --server its name.")
]


def leave_to_server(given: Mapping[str, object]) -> None:
    """Raise InvalidRequest for an option about which a server decides, unless its value is None or false."""
    for param, value in given.items():
        if value is not None and value is not False:
            option = f"--{param.replace('_', '-')}"  # a spec has fields of the same name
            raise InvalidRequest(f"the server decides; leave out {option}", param=option)
