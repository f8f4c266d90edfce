"""Options of the commands that load a model themselves, and the loading of engines for them."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from ampsweep.bundled import ATLAS, ATLAS_MODEL
from ampsweep.cli.terminal.output import echo, warn
from ampsweep.documents import parse_json
from ampsweep.domain import choices
from ampsweep.domain.neuron_set import METADATA_FILE
from ampsweep.domain.neuron_set_metadata import NeuronSetMetadata
from ampsweep.errors import InvalidRequest, UnknownName
from ampsweep.folders.hub_model import is_hub_name
from ampsweep.missing_path import no_folder
from ampsweep.telemetry.library_output import can_divert, divert, log_file, own_stream

if TYPE_CHECKING:
    from ampsweep.cli.server.settings import Settings
    from engine.base import Engine
    from engine.neurons.neuron_set import NeuronSet
    from jobs.planning.catalog import Catalog
    from worker.engines import EngineSpec

SHORT_JOB = 16
"""Number of requests up to which a model is not compiled on a CPU."""

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
        help="Whether vLLM compiles the model at its start. [default: unless the job is short and runs on a CPU]",
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
        help="The neuron set that the spec names by id (`neurons: {id: ns_...}`): its folder, or its id in the home "
        "folder."
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


def comma_separated(text: str) -> list[str]:
    """Return the items of an option's value, without spaces around them and without empty ones."""
    return [item.strip() for item in text.split(",") if item.strip()]


def json_object(text: str, *, param: str) -> dict[str, Any]:
    """Parse the value of an option; raise InvalidRequest if it is not a JSON object."""
    try:
        content = parse_json(text, source="--" + param, param=param)
    except ValueError as error:
        example = '{"languages": ["fr"], "op": "scale", "factor": 2}'
        raise InvalidRequest(f"is not JSON: {error}; write, for example, {example}", param=param) from error
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
    unfused_experts: bool = False,
    allow_untested_vllm: bool = False,
    adapters: Mapping[str, Path] | None = None,
    compiles: bool = True,
) -> AsyncIterator[Engine]:
    """Open an engine with a model and its adapters, and add a neuron set; close the engine at the end of the block.

    Call `quiet_libraries` first.

    Raises:
        InvalidRequest: The dtype is unknown, or the engine cannot be opened with these options.
    """
    from worker.engines import EngineSpec, open_engine
    from worker.memory import require_memory
    from worker.start_checks import check_start

    if dtype not in (dtypes := get_args(choices.Dtype)):
        raise InvalidRequest(f"must be {choices.one_of(dtypes)}; got {dtype!r}", param="dtype")
    spec = EngineSpec(
        model=model,
        folder=model_folder(model),
        kind=kind,
        dtype=dtype,
        batch_invariant=batch_invariant,
        unfused_experts=unfused_experts,
        allow_untested_vllm=allow_untested_vllm,
        adapters=adapters or {},
        compile=compiles,
    )
    warn([*check_start(spec, neurons), *require_memory([spec]), *release_warnings(kind, allowed=allow_untested_vllm)])
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
    from worker.gpus import has_gpu

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
            unfused_experts=settings.unfused_experts,
            allow_untested_vllm=settings.allow_untested_vllm,
            compile=settings.compile,
            count=model.engines,
            cpus=model.cpus,
            gpus=model.gpus,
            adapters=model.lora,
            tool_call_parser=model.tool_call_parser,
        )
        for name, model in settings.served().items()
    ]


def local_engine(model: str, catalog: Catalog, settings: Settings) -> EngineSpec:
    """Return the engine spec of a model that a command loads itself."""
    from worker.engines import EngineSpec

    return EngineSpec(
        model=model,
        folder=catalog.model_path(model).resolve(),
        kind=catalog.engine,
        dtype=catalog.dtype,
        tensor_parallel_size=settings.tensor_parallel_size,
        pipeline_parallel_size=settings.pipeline_parallel_size,
        batch_invariant=catalog.batch_invariant,
        unfused_experts=settings.unfused_experts,
        allow_untested_vllm=settings.allow_untested_vllm,
        compile=settings.compile,
        adapters=catalog.adapters.get(model, {}),
    )


def read_neurons(source: str | Path | None) -> NeuronSet | None:
    """Load a neuron set, given as its folder or as its id in the home folder; return None for None."""
    from ampsweep.cli.options.neuron_source import required_local_set
    from engine.neurons.neuron_set import NeuronSet

    if source is None:
        return None
    with required_local_set(str(source), param="neurons") as folder:
        return NeuronSet.load(folder)


@contextmanager
def naming_spec_neurons() -> Iterator[None]:
    """Let an error about a neuron set that the spec names and that is not here say how to give it."""
    try:
        yield
    except UnknownName as error:
        if error.param == "neurons.id":
            error.message += "; give its folder, or its id in the home folder, with --neurons"
        raise


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


def quiet_libraries(
    command: str, *, verbose: bool = False, folder: Path | None = None, own_warnings: bool = True
) -> Path | None:
    """Send what the libraries of an engine print to a log file or, with `verbose`, to standard error.

    Call this before an engine is opened. It applies until the process ends. Within another program, whose standard
    error must stay as it is, only the libraries' own settings are changed.

    Args:
        command: The name of the command, for that of the log file.
        verbose: Whether the user wants to see the messages.
        folder: Where the log file is to be, by default in the user's cache.
        own_warnings: Whether warnings that this project's own modules log are printed as lines.

    Returns:
        The log file, or None if there is none.
    """
    if not verbose:
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("TQDM_DISABLE", "1")
    diverts = can_divert()
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "INFO" if diverts else "ERROR")
    os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    if not diverts:
        return None
    log = None if verbose else log_file(folder or user_logs(), command)
    divert(log)
    if own_warnings:
        _print_own_warnings()
    return log


def user_logs() -> Path:
    """Return the folder of the log files of commands."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ampsweep" / "logs"


def _print_own_warnings() -> None:
    from ampsweep.telemetry.logs import OURS

    handler = logging.StreamHandler(own_stream(err=True))
    handler.setFormatter(logging.Formatter("warning: %(message)s"))
    handler.setLevel(logging.WARNING)
    for name in OURS:
        logging.getLogger(name).addHandler(handler)
