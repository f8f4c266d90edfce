"""`ampsweep neurons import|show|export|default`: neuron sets from other tools, to other tools, and by default."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ampsweep.cli.options.client import Server, client_of
from ampsweep.cli.options.completion import models
from ampsweep.cli.options.engine import Model, model_folder
from ampsweep.cli.terminal.output import AsJson, show
from ampsweep.client.clients import DEFAULT_URL
from ampsweep.errors import InvalidRequest
from ampsweep.files import atomic_write

app = typer.Typer(help="Import, show and export neuron sets.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(help="The folder of a neuron set.")]


@app.command(name="import")
def import_(
    file: Annotated[Path, typer.Argument(help="JSON {language: {layer: [index, ...]}}, or lists of torch.save.")],
    model: Model,
    out: Annotated[Path, typer.Option(help="The folder the neuron set is written to.")],
    languages: Annotated[
        str | None, typer.Option(help="For lists of torch.save: the language codes in their order, with commas.")
    ] = None,
    languages_from: Annotated[
        Path | None, typer.Option(help="Instead of --languages: the file {0: code, ...} that was saved beside them.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a neuron set of neurons that another tool found."""
    from ampsweep.folders.model import read_model_folder
    from engine.neurons.neuron_file import read_neuron_file

    shape = read_model_folder(model_folder(model), name=model)
    neurons = read_neuron_file(file, model=shape, languages=_order(languages, languages_from))
    neurons.save(out)
    languages_found = {language: len(pairs) for language, pairs in neurons.neurons.items()}
    content = {"id": neurons.id, "folder": str(out), "languages": languages_found}
    show(content, f"{neurons.id} in {out}: {sum(languages_found.values())} neurons", as_json=as_json)


@app.command(name="show")
def show_(folder: Folder, as_json: AsJson = False) -> None:
    """Print where a neuron set came from, and how many neurons each language has in each layer."""
    import numpy as np

    from engine.neurons.neuron_set import NeuronSet

    neurons = NeuronSet.load(folder)
    corpus = f" on {neurons.corpus}" if neurons.corpus else ""
    patch = "with patch values" if neurons.patch else "without patch values"
    by_layer = {
        language: np.bincount(pairs[:, 0], minlength=neurons.layers).tolist()
        for language, pairs in neurons.neurons.items()
    }
    lines = [
        f"{neurons.id}  {neurons.model}, {neurons.layers} layers of {neurons.width}, {patch}",
        f"found by {neurons.method}{corpus}  {json.dumps(dict(neurons.params))}",
        *(
            f"{language:<8} {sum(counts):>6}   by layer: {' '.join(map(str, counts))}"
            for language, counts in by_layer.items()
        ),
    ]
    content = {
        "id": neurons.id,
        "model": neurons.model,
        "layers": neurons.layers,
        "width": neurons.width,
        "method": neurons.method,
        "corpus": neurons.corpus,
        "params": dict(neurons.params),
        "patch": neurons.patch is not None,
        "languages": {language: sum(counts) for language, counts in by_layer.items()},
        "by_layer": by_layer,
    }
    show(content, "\n".join(lines), as_json=as_json)


@app.command()
def export(
    folder: Folder,
    out: Annotated[Path | None, typer.Option(help="The JSON file; default: standard output.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write a neuron set as JSON {language: {layer: [index, ...]}}."""
    from engine.neurons.neuron_json import to_json
    from engine.neurons.neuron_set import NeuronSet

    neurons = NeuronSet.load(folder)
    text = json.dumps(to_json(neurons), ensure_ascii=False)
    if out is None:
        typer.echo(text)
        return
    if not out.parent.is_dir():
        raise InvalidRequest(f"there is no folder {out.parent}", param="out")
    with atomic_write(out) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    show({"id": neurons.id, "file": str(out)}, f"{neurons.id} in {out}", as_json=as_json)


@app.command()
def default(
    model: Annotated[str, typer.Argument(help="A model on the server's list.", autocompletion=models)],
    neuron_set: Annotated[
        str | None, typer.Argument(metavar="SET", help="The id of the set to make the default; without it, show it.")
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Take the default back.")] = False,
    server: Server = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Show, set or clear the neuron set that steers a server's requests which name none. Needs a key of an admin."""
    if clear and neuron_set is not None:
        raise InvalidRequest("give a set or --clear, not both", param="clear")
    with client_of(server) as client:
        if clear:
            found = client.clear_default_neuron_set(model)
        elif neuron_set is not None:
            found = client.set_default_neuron_set(model, neuron_set)
        else:
            found = client.default_neuron_set(model)
    text = "no default: requests that steer must name a neuron set"
    if found["neuron_set"] is not None:
        why = "set by an operator" if found["source"] == "operator" else "the model's only neuron set"
        text = f"{found['neuron_set']}  {why}"
    show(found, f"{model}  {text}", as_json=as_json)


def _order(languages: str | None, languages_from: Path | None) -> Sequence[str] | None:
    if languages is not None and languages_from is not None:
        raise InvalidRequest("give --languages or --languages-from, not both", param="languages_from")
    if languages is not None:
        return [code.strip() for code in languages.split(",")]
    if languages_from is None:
        return None
    from engine.neurons.language_order import read_language_order

    return read_language_order(languages_from)
