"""`ampsweep neurons`: import, show, compare, rank, export and share neuron sets, and set the default of a model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ampsweep.cli.commands.neuron_hub import pull, push
from ampsweep.cli.commands.neuron_overlap import overlap
from ampsweep.cli.commands.neuron_ranking import rank
from ampsweep.cli.commands.neuron_scores import scores
from ampsweep.cli.options.client import Server, client_of
from ampsweep.cli.options.completion import models
from ampsweep.cli.options.engine import Model, model_folder
from ampsweep.cli.options.neuron_source import (
    SetArgument,
    check_neuron_folder,
    fetched_set,
    local_set,
    read_neurons,
)
from ampsweep.cli.terminal.option_names import about_option
from ampsweep.cli.terminal.output import AsJson, echo, show
from ampsweep.client.environment import DEFAULT_URL
from ampsweep.errors import InvalidRequest
from ampsweep.files import atomic_write, output_file

app = typer.Typer(
    help="Import, show, compare, rank, export and share neuron sets.",
    no_args_is_help=True,
    add_completion=False,
)

SHOWN = ("id", "model", "layers", "width", "method", "corpus", "params", "patch", "languages", "by_layer")
"""What `show` prints of a set."""


@app.command(name="import")
def import_(
    file: Annotated[
        Path,
        typer.Argument(
            help="JSON {language: {layer: [index, ...]}}, a table (CSV) with the columns language, layer and neuron, "
            "or lists of tensors written by torch.save."
        ),
    ],
    model: Model,
    out: Annotated[Path, typer.Option(help="The folder to write the neuron set to.")],
    languages: Annotated[
        str | None, typer.Option(help="For lists of tensors: the language codes in their order, separated by commas.")
    ] = None,
    languages_from: Annotated[
        Path | None, typer.Option(help="Instead of --languages: a file {0: code, ...} that was saved with the lists.")
    ] = None,
    means: Annotated[
        str | None,
        typer.Option(
            help="Files with the mean activations of each language, with {language} in place of its code; they give "
            "the set the patch values mean and difference."
        ),
    ] = None,
    values_from: Annotated[
        Path | None,
        typer.Option(
            help="A neuron set of the same model that `identify` wrote: its folder, or its id in the home folder. Its "
            "patch values and mean residuals are used for the imported neurons."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Create a neuron set from neurons that another tool identified."""
    from ampsweep.folders.model import read_model_folder
    from engine.neurons.formats.neuron_file import read_neuron_file

    if means is not None and values_from is not None:
        raise InvalidRequest("give --means or --values-from, not both", param="values_from")
    shape = read_model_folder(model_folder(model), name=model)
    neurons = read_neuron_file(file, model=shape, languages=_order(languages, languages_from))
    if means is not None:
        from engine.neurons.formats.mean_activations import with_mean_activations

        neurons = with_mean_activations(neurons, means)
    if values_from is not None:
        from engine.neurons.recorded_values import with_recorded_values

        with about_option("--values-from"):
            recorded = read_neurons(values_from)
        if recorded is not None:
            neurons = with_recorded_values(neurons, recorded)
    check_neuron_folder(out, neurons.id)
    neurons.save(out)
    counts = {language: len(pairs) for language, pairs in neurons.neurons.items()}
    content = {"id": neurons.id, "folder": str(out), "languages": counts}
    show(content, f"{neurons.id} in {out}: {sum(counts.values())} neurons", as_json=as_json)


@app.command(name="show")
def show_(neuron_set: SetArgument, server: Server = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Print how a neuron set was identified, and the number of neurons of each language and layer."""
    from ampsweep.domain.neurons.layer_widths import LayerWidths

    described = _described(neuron_set, server)
    corpus = f" on {described['corpus']}" if described["corpus"] else ""
    method, kinds = described["method"], described["patch"]
    patch = f"with patch values {', '.join(kinds)}" if kinds else "without patch values"
    widths = LayerWidths.parse(described["layers"], described["width"])
    lines = [
        f"{described['id']}  {described['model']}, {widths}, {patch}",
        "imported" if method == "imported" else f"identified by {method}{corpus}  {json.dumps(described['params'])}",
        *(
            f"{language:<8} {sum(counts):>6}   by layer: {' '.join(map(str, counts))}"
            for language, counts in described["by_layer"].items()
        ),
    ]
    show({**described, "patch": bool(kinds)}, "\n".join(lines), as_json=as_json)


def _described(source: str, server: str) -> dict[str, Any]:
    """Return the metadata of a set, its patch values by kind, and its numbers of neurons by language and layer."""
    with local_set(source, param="neuron_set") as folder:
        if folder is not None:
            return _of_folder(folder)
    fetched: Mapping[str, Any] = fetched_set(source, server, param="neuron_set")
    return {name: fetched[name] for name in SHOWN}


def _of_folder(folder: Path) -> dict[str, Any]:
    import numpy as np

    from engine.neurons.neuron_set import NeuronSet

    neurons = NeuronSet.load(folder)
    metadata = neurons.metadata(sha256="")
    by_layer = {
        language: np.bincount(pairs[:, 0], minlength=neurons.layers).tolist()
        for language, pairs in neurons.neurons.items()
    }
    described = {
        "params": dict(neurons.params),
        "patch": list(metadata.patch),
        "languages": {language: sum(counts) for language, counts in by_layer.items()},
        "by_layer": by_layer,
    }
    return {name: described[name] if name in described else getattr(neurons, name) for name in SHOWN}


@app.command()
def export(
    neuron_set: SetArgument,
    out: Annotated[Path | None, typer.Option(help="The JSON file to write. [default: standard output]")] = None,
    server: Server = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Write a neuron set as JSON {language: {layer: [index, ...]}}."""
    from engine.neurons.formats.neuron_json import to_json
    from engine.neurons.neuron_set import NeuronSet

    with local_set(neuron_set, param="neuron_set") as folder:
        local = None if folder is None else NeuronSet.load(folder)
    if local is None:
        neuron_set_id, neurons = neuron_set, fetched_set(neuron_set, server, param="neuron_set")["neurons"]
    else:
        neuron_set_id, neurons = local.id, to_json(local)
    text = json.dumps(neurons, ensure_ascii=False)
    if out is None:
        echo(text)
        return
    with atomic_write(output_file(out, param="out")) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    show({"id": neuron_set_id, "file": str(out)}, f"{neuron_set_id} in {out}", as_json=as_json)


@app.command()
def default(
    model: Annotated[str, typer.Argument(help="A model that the server offers.", autocompletion=models)],
    neuron_set: Annotated[
        str | None, typer.Argument(metavar="SET", help="The id of the new default; without it, the default is shown.")
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Clear the default.")] = False,
    server: Server = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Show, set or clear the neuron set for requests that name none. Changes need a key with the scope admin."""
    if clear and neuron_set is not None:
        raise InvalidRequest("give a set or --clear, not both", param="clear")
    with client_of(server) as client:
        if clear:
            content = client.clear_default_neuron_set(model)
        elif neuron_set is not None:
            content = client.set_default_neuron_set(model, neuron_set)
        else:
            content = client.default_neuron_set(model)
    text = "no default: requests that steer must name a neuron set"
    if content["neuron_set"] is not None:
        source = "set by an operator" if content["source"] == "operator" else "the model's only neuron set"
        text = f"{content['neuron_set']}  {source}"
    show(content, f"{model}  {text}", as_json=as_json)


def _order(languages: str | None, languages_from: Path | None) -> Sequence[str] | None:
    if languages is not None and languages_from is not None:
        raise InvalidRequest("give --languages or --languages-from, not both", param="languages_from")
    if languages is not None:
        return [code.strip() for code in languages.split(",")]
    if languages_from is None:
        return None
    from engine.neurons.formats.lape_lists import read_language_order

    return read_language_order(languages_from)


app.command()(overlap)
app.command()(rank)
app.command()(scores)
app.command()(pull)
app.command()(push)
