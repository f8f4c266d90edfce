"""Options of the commands that load a model themselves, and the loading of engines for them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from ampsweep.bundled import ATLAS, ATLAS_MODEL
from ampsweep.cli.terminal.output import warn
from ampsweep.documents import parse_json
from ampsweep.domain import choices
from ampsweep.domain.neuron_set import METADATA_FILE
from ampsweep.domain.neuron_set_metadata import NeuronSetMetadata
from ampsweep.errors import InvalidRequest

if TYPE_CHECKING:
    from ampsweep.cli.server.settings import Settings
    from engine.base import Engine
    from engine.neurons.neuron_set import NeuronSet
    from worker.engines import EngineSpec

Model = Annotated[str, typer.Option(help="A model folder in Hugging Face format, or `atlas`, the bundled model.")]
Kind = Annotated[str, typer.Option(help="The engine: vllm, or transformers (slow, plain hooks).")]
Dtype = Annotated[str, typer.Option(help="The dtype: float32, bfloat16 or float16.")]
TensorParallel = Annotated[int | None, typer.Option(help="Devices that share each layer (vllm only). [default: 1]")]
PipelineParallel = Annotated[
    int | None, typer.Option(help="Groups of devices that each hold a part of the layers (vllm only). [default: 1]")
]
BatchInvariant = Annotated[
    bool,
    typer.Option(
        "--batch-invariant",
        help="Compute answers that do not depend on the other requests of a batch (vllm on a GPU only; slower).",
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
Neurons = Annotated[Path | None, typer.Option(help="The folder of the neuron set that interventions refer to.")]


def model_folder(model: str) -> Path:
    """Return the folder of a model; raise InvalidRequest if it does not exist."""
    folder = ATLAS_MODEL if model == ATLAS else Path(model)
    if not (folder / "config.json").is_file():
        raise InvalidRequest(f"{model} is not a model; give a folder with a config.json, or `{ATLAS}`", param="model")
    return folder


def comma_separated(text: str) -> list[str]:
    """Return the items of an option's value, without spaces around them and without empty ones."""
    return [item.strip() for item in text.split(",") if item.strip()]


def json_object(text: str, *, param: str) -> dict[str, Any]:
    """Parse the value of an option; raise InvalidRequest if it is not a JSON object."""
    try:
        content = parse_json(text, source="--" + param, param=param)
    except ValueError as error:
        raise InvalidRequest(f"is not JSON: {error}", param=param) from error
    if not isinstance(content, dict):
        raise InvalidRequest('must be an object such as {"languages": ["fr"], ...}', param=param)
    return content


@asynccontextmanager
async def opened(
    model: str,
    *,
    kind: str,
    dtype: str,
    neurons: NeuronSet | None = None,
    batch_invariant: bool = False,
    allow_untested_vllm: bool = False,
    adapters: Mapping[str, Path] | None = None,
) -> AsyncIterator[Engine]:
    """Open an engine with a model and its adapters, and add a neuron set; close the engine at the end of the block.

    Raises:
        InvalidRequest: The dtype is unknown, or the engine cannot be opened with these options.
    """
    from worker.engines import EngineSpec, open_engine
    from worker.memory import require_memory

    if dtype not in (dtypes := get_args(choices.Dtype)):
        raise InvalidRequest(f"must be {choices.one_of(dtypes)}; got {dtype!r}", param="dtype")
    quiet_libraries()
    spec = EngineSpec(
        model=model,
        folder=model_folder(model),
        kind=kind,
        dtype=dtype,
        batch_invariant=batch_invariant,
        allow_untested_vllm=allow_untested_vllm,
        adapters=adapters or {},
    )
    warn([*require_memory([spec]), *release_warnings(kind, allowed=allow_untested_vllm)])
    engine = await open_engine(spec)
    try:
        if neurons is not None:
            engine.add_neurons(neurons)
        yield engine
    finally:
        await engine.close()


def release_warnings(kind: str, *, allowed: bool) -> tuple[str, ...]:
    """Return a warning if the engine will run on a vLLM release that was never tested, which the user has `allowed`."""
    if kind != "vllm" or not allowed:
        return ()
    from engine.vllm.versions import installed_release, untested_warning

    warning = untested_warning(installed_release())
    return () if warning is None else (warning,)


def served_engines(settings: Settings) -> list[EngineSpec]:
    """Return the engine specs of a server with these settings, one per model."""
    from worker.engines import EngineSpec

    return [
        EngineSpec(
            model=name,
            folder=model.path.resolve(),
            kind=settings.engine,
            dtype=settings.dtype,
            tensor_parallel_size=settings.tensor_parallel_size,
            pipeline_parallel_size=settings.pipeline_parallel_size,
            batch_invariant=settings.batch_invariant,
            allow_untested_vllm=settings.allow_untested_vllm,
            count=model.engines,
            cpus=model.cpus,
            gpus=model.gpus,
            adapters=model.lora,
        )
        for name, model in settings.served().items()
    ]


def read_neurons(folder: Path | None) -> NeuronSet | None:
    """Load the neuron set in a folder; return None if `folder` is None."""
    from engine.neurons.neuron_set import NeuronSet

    return None if folder is None else NeuronSet.load(folder)


def read_adapters(pairs: list[str] | None) -> dict[str, Path]:
    """Return the folders of adapters by name, from the values NAME=FOLDER of `--lora`.

    Raises:
        InvalidRequest: A value has another form, or names an adapter a second time (param "lora").
    """
    adapters: dict[str, Path] = {}
    for pair in pairs or ():
        name, _, folder = pair.partition("=")
        if not name or not folder:
            raise InvalidRequest(f"must be NAME=FOLDER; got {pair!r}", param="lora")
        if name in adapters:
            raise InvalidRequest(f"adapter {name!r} is given twice; choose another name", param="lora")
        adapters[name] = Path(folder)
    return adapters


def check_neuron_folder(folder: Path, neuron_set_id: str) -> None:
    """Raise InvalidRequest if a folder holds another neuron set than the one that will be saved there.

    A damaged set may be replaced.
    """
    path = folder / METADATA_FILE
    if not path.is_file():
        return
    try:
        stored = NeuronSetMetadata.parse(path.read_text(encoding="utf-8"))
    except (ValueError, KeyError, TypeError, OSError):
        return
    if stored.id != neuron_set_id:
        message = f"{folder} holds another neuron set, {stored.id}; choose another folder, or delete this one"
        raise InvalidRequest(message, param="out")


def quiet_libraries() -> None:
    """Turn off progress bars and messages of the engines' libraries, unless the environment sets them.

    Messages of vLLM go to standard error, where it would print them among a command's results.
    """
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
