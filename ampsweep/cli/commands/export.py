"""`ampsweep export`: a checkpoint with an intervention folded into its weights."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ampsweep.cli.options.engine import Model, model_folder
from ampsweep.cli.options.neuron_source import required_local_set
from ampsweep.cli.options.values import json_object
from ampsweep.cli.terminal.output import AsJson, show
from ampsweep.documents import parse_json, read_bounded
from ampsweep.errors import InvalidRequest
from ampsweep.files import check_folder

if TYPE_CHECKING:
    from engine.neurons.neuron_set import NeuronSet


def export(
    model: Model,
    neurons: Annotated[
        str,
        typer.Option(
            help="A neuron set: its folder, its id in the home folder, or a JSON file {language: {layer: [index]}}."
        ),
    ],
    intervention: Annotated[
        str, typer.Option(metavar="JSON", help='For example {"languages": ["fr"], "op": "scale", "factor": 2}.')
    ],
    out: Annotated[Path, typer.Option(help="The folder to create for the checkpoint.")],
    as_json: AsJson = False,
) -> None:
    """Write a plain Hugging Face checkpoint with a `scale` intervention folded into its weights."""
    from ampsweep.domain.intervention import Intervention
    from engine.steering.export import export as write

    check_folder(out.parent, param="out")
    folder = model_folder(model)
    parsed = Intervention.from_dict(json_object(intervention, param="intervention"))
    written = write(folder, _neuron_set(neurons, folder, model), parsed, out)
    text = f"{written.folder}: {written.neurons} neurons scaled in {written.layers} layers"
    content = {**asdict(written), "folder": str(written.folder)}
    show(content, f"{text}\nfingerprint {written.fingerprint}", as_json=as_json)


def _neuron_set(source: str, folder: Path, model: str) -> NeuronSet:
    from ampsweep.folders.model import read_model_folder
    from engine.neurons.formats.neuron_json import from_json
    from engine.neurons.formats.neuron_text import MAX_BYTES
    from engine.neurons.neuron_set import NeuronSet

    path = Path(source)
    if path.is_file():
        try:
            raw = parse_json(read_bounded(path, limit=MAX_BYTES, param="neurons"), source=str(path), param="neurons")
        except ValueError as error:
            raise InvalidRequest(f"{path} is not JSON: {error}", param="neurons") from error
        return from_json(raw, model=read_model_folder(folder, name=model))
    with required_local_set(source, param="neurons") as stored:
        return NeuronSet.load(stored)
