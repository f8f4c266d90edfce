"""`ampsweep neurons pull|push`: neuron sets on the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ampsweep.cli.options.neuron_source import LocalSetArgument, check_neuron_folder, required_local_set
from ampsweep.cli.terminal.library_messages import quiet_libraries
from ampsweep.cli.terminal.output import AsJson, show
from ampsweep.files import check_folder


def pull(
    name: Annotated[str, typer.Argument(metavar="ORG/NAME[@REVISION]", help="A model repository of the Hub.")],
    out: Annotated[Path, typer.Option(help="The folder to write the neuron set to.")],
    as_json: AsJson = False,
) -> None:
    """Download a neuron set from the Hugging Face Hub. Only its two files are read: safetensors and JSON, no code."""
    from engine.neurons.hub import pull as pull_set

    check_folder(out, param="out")
    quiet_libraries("neurons")
    neuron_set = pull_set(name)
    check_neuron_folder(out, neuron_set.id)
    neuron_set.save(out)
    counts = {language: len(pairs) for language, pairs in neuron_set.neurons.items()}
    content = {"id": neuron_set.id, "folder": str(out), "model": neuron_set.model, "languages": counts}
    text = f"{neuron_set.id} in {out}: {sum(counts.values())} neurons of {neuron_set.model}"
    show(content, text, as_json=as_json)


def push(
    neuron_set: LocalSetArgument,
    name: Annotated[str, typer.Argument(metavar="ORG/NAME", help="The repository; it is created if necessary.")],
    private: Annotated[bool, typer.Option("--private", help="Create a private repository.")] = False,
    as_json: AsJson = False,
) -> None:
    """Upload a neuron set to a model repository of the Hugging Face Hub, with the token in HF_TOKEN."""
    from engine.neurons.hub import push as push_set

    quiet_libraries("neurons")
    with required_local_set(neuron_set, param="neuron_set") as folder:
        url = push_set(folder, name, private=private)
    show({"repository": name, "commit": url}, url, as_json=as_json)
