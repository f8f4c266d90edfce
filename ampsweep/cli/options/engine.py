"""Options of the commands that load a model themselves, and the loading of engines for them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from ampsweep.bundled import ATLAS, ATLAS_MODEL
from ampsweep.cli.server.engine_specs import release_warnings
from ampsweep.cli.terminal.output import echo, warn
from ampsweep.domain import choices
from ampsweep.errors import InvalidRequest
from ampsweep.folders.hub_model import is_hub_name
from ampsweep.missing_path import no_folder

if TYPE_CHECKING:
    from engine.base import Engine
    from engine.neurons.neuron_set import NeuronSet
    from worker.engines import EngineSpec

SHORT_JOB = 16
"""Number of requests up to which a model is not compiled on a CPU."""

Model = Annotated[str, typer.Option(help="A model folder in Hugging Face format, or `atlas`, the bundled model.")]
Kind = Annotated[str, typer.Option(help="The engine: vllm, or transformers (slow, plain hooks).")]
Dtype = Annotated[str, typer.Option(help="The dtype: float32, bfloat16 or float16.")]
TensorParallel = Annotated[
    int | None, typer.Option(min=1, help="Devices that share each layer (vllm only). [default: 1]")
]
PipelineParallel = Annotated[
    int | None,
    typer.Option(min=1, help="Groups of devices that each hold a part of the layers (vllm only). [default: 1]"),
]
BatchInvariant = Annotated[
    bool,
    typer.Option(
        "--batch-invariant",
        help="Compute answers that do not depend on the other requests of a batch (vllm on a GPU only; slower).",
    ),
]
UnfusedExperts = Annotated[
    bool,
    typer.Option(
        "--unfused-experts",
        help="Steer mixtures of experts on a GPU, without vLLM's fused kernel for them (vllm only; slower).",
    ),
]
AllowUntestedVllm = Annotated[
    bool,
    typer.Option(
        "--allow-untested-vllm",
        help="Start a release of vLLM that Ampsweep was never tested with, after more tests at startup.",
    ),
]
Lora = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=FOLDER", help="A LoRA adapter of the model (vllm only); may be repeated."),
]
Verbose = Annotated[
    bool,
    typer.Option("--verbose", help="Show the messages of vLLM and other libraries, which otherwise go to a log file."),
]
Compile = Annotated[
    bool | None,
    typer.Option(
        "--compile/--no-compile",
        help="Whether vLLM compiles the model at its start; without, it starts sooner. [default: compile, but on a CPU "
        "not for a few requests of `generate`, `batch` and `capture`]",
        show_default=False,
    ),
]
ServerCompile = Annotated[
    bool | None,
    typer.Option(
        "--compile/--no-compile",
        help="Whether vLLM compiles the model. Without, it starts sooner and may be slower. [default: compile]",
        show_default=False,
    ),
]
Data = Annotated[Path | None, typer.Option(help="A folder with a subfolder for each data set.")]
Corpora = Annotated[list[str] | None, typer.Option(metavar="NAME=FOLDER", help="A corpus; may be repeated.")]
SpecNeurons = Annotated[
    Path | None,
    typer.Option(
        help="The neuron set that the spec names by id (`neurons: {id: ns_...}`), or one that was identified as the "
        "spec says: its folder, or its id in the home folder."
    ),
]
Neurons = Annotated[
    Path | None,
    typer.Option(help="The neuron set that interventions refer to: its folder, or its id in the home folder."),
]


def model_folder(model: str, *, param: str = "model") -> Path:
    """Return the folder of a model; raise InvalidRequest (with this `param`) if it does not exist."""
    folder = ATLAS_MODEL if model == ATLAS else Path(model)
    if not folder.is_dir():
        message = f"{no_folder(folder)}; give the folder of a model, or `{ATLAS}`"
        hub = " (a model of the Hub must be downloaded first, with `hf download`)" if is_hub_name(model) else ""
        raise InvalidRequest(message + hub, param=param)
    if not (folder / "config.json").is_file():
        raise InvalidRequest(f"{model} is not a model; give a folder with a config.json, or `{ATLAS}`", param=param)
    return folder


@asynccontextmanager
async def opened_engine(spec: EngineSpec, *, neurons: NeuronSet | None = None) -> AsyncIterator[Engine]:
    """Open an engine, and add a neuron set; close the engine at the end of the block.

    Call `quiet_libraries` first.

    Raises:
        InvalidRequest: The dtype is unknown, or the engine cannot be opened with these options.
    """
    from worker.engines import open_engine
    from worker.resources.memory import require_memory
    from worker.start_checks import check_start

    if spec.dtype not in (dtypes := get_args(choices.Dtype)):
        raise InvalidRequest(f"must be {choices.one_of(dtypes)}; got {spec.dtype!r}", param="dtype")
    untested = release_warnings(spec.kind, allowed=spec.vllm.allow_untested)
    warn([*check_start(spec, neurons), *require_memory([spec]), *untested])
    engine = await open_engine(spec)
    try:
        if neurons is not None:
            engine.add_neurons(neurons)
        yield engine
    finally:
        await engine.close()


def whether_to_compile(wanted: bool | None, *, kind: str, requests: int, as_json: bool) -> bool:
    """Return whether vLLM is to compile the model for a job of so many requests, and tell the user if it is not.

    Compiling takes about as long as some dozens of short answers of a small model on a CPU. On a GPU the engine gains
    more by it, and it is always done.

    Args:
        wanted: What the user has said; None leaves it to the job.
        kind: The kind of the engine.
        requests: Number of requests of the job.
        as_json: Whether standard error holds only errors.

    Raises:
        InvalidRequest: The engine never compiles (param "compile").
    """
    from worker.resources.gpus import has_gpu

    if kind != "vllm":
        if wanted is not None:
            raise InvalidRequest(f"only the engine vllm compiles, not {kind}; leave the option out", param="compile")
        return True
    if wanted is not None:
        return wanted
    if requests > SHORT_JOB or has_gpu():
        return True
    if not as_json:
        echo("note: a short job: vLLM does not compile the model (--compile)", err=True)
    return False
