"""`ampsweep neurons import|show|export`: neuron sets from other tools, to other tools, and for the eye."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ampsweep.cli.engine_options import Model, model_folder
from ampsweep.errors import InvalidRequest
from ampsweep.files import atomic_write

app = typer.Typer(help="Import, show and export neuron sets.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(help="The folder of a neuron set.")]


@app.command(name="import")
def import_(
    file: Annotated[Path, typer.Argument(help="JSON {language: {layer: [index, ...]}}, or .pt lists of LAPE code.")],
    model: Model,
    out: Annotated[Path, typer.Option(help="The folder the neuron set is written to.")],
    languages: Annotated[
        str | None, typer.Option(help="For .pt: the language codes in the file's order, with commas.")
    ] = None,
) -> None:
    """Make a neuron set of neurons that another tool found."""
    from ampsweep.folders.model import read_model_folder
    from engine.neuron_json import from_json

    shape = read_model_folder(model_folder(model), name=model)
    if file.suffix == ".pt":
        if not languages:
            raise InvalidRequest(
                "a .pt file does not name its languages: give --languages in its order", param="languages"
            )
        from engine.lape_lists import from_lape_lists

        neurons = from_lape_lists(file, languages=[code.strip() for code in languages.split(",")], model=shape)
    else:
        neurons = from_json(_json(file), model=shape)
    neurons.save(out)
    typer.echo(f"{neurons.id} in {out}: {sum(map(len, neurons.neurons.values()))} neurons")


@app.command()
def show(folder: Folder) -> None:
    """Print where a neuron set came from, and how many neurons each language has in each layer."""
    import numpy as np

    from engine.neuron_set import NeuronSet

    neurons = NeuronSet.load(folder)
    corpus = f" on {neurons.corpus}" if neurons.corpus else ""
    patch = "with patch values" if neurons.patch else "without patch values"
    typer.echo(f"{neurons.id}  {neurons.model}, {neurons.layers} layers of {neurons.width}, {patch}")
    typer.echo(f"found by {neurons.method}{corpus}  {json.dumps(dict(neurons.params))}")
    for language, pairs in neurons.neurons.items():
        layers = " ".join(str(count) for count in np.bincount(pairs[:, 0], minlength=neurons.layers))
        typer.echo(f"{language:<8} {len(pairs):>6}   by layer: {layers}")


@app.command()
def export(
    folder: Folder,
    out: Annotated[Path | None, typer.Option(help="The JSON file; default: standard output.")] = None,
) -> None:
    """Write a neuron set as JSON {language: {layer: [index, ...]}}."""
    from engine.neuron_json import to_json
    from engine.neuron_set import NeuronSet

    text = json.dumps(to_json(NeuronSet.load(folder)), ensure_ascii=False)
    if out is None:
        typer.echo(text)
        return
    with atomic_write(out) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _json(file: Path) -> object:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidRequest(f"cannot read {file}: {error.strerror}", param="file") from error
    except ValueError as error:
        raise InvalidRequest(f"{file} is not JSON: {error}", param="file") from error
