"""`ampsweep serve`: runs the API, the dispatcher and the engines until it is told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ampsweep.cli.options.engine import (
    AllowUntestedVllm,
    BatchInvariant,
    Data,
    Lora,
    PipelineParallel,
    TensorParallel,
    UnfusedExperts,
    Verbose,
    quiet_libraries,
    served_engines,
)
from ampsweep.cli.terminal.output import AsJson, echo, show, warn
from ampsweep.errors import InvalidRequest
from ampsweep.telemetry.library_output import library_log

if TYPE_CHECKING:
    from ampsweep.cli.server.http_server import HttpServer
    from ampsweep.cli.server.runtime import Runtime
    from ampsweep.cli.server.settings import Settings
    from ampsweep.telemetry.context import Telemetry
    from worker.engines import EngineSpec
    from worker.pool import Pool


_UNCHECKED = (
    "whether they fit is checked there when each engine starts, by the machine's total memory and with the other "
    "engines of this server on it; the memory of other programs and servers is not counted"
)


def serve(
    host: Annotated[str | None, typer.Option(help="The address to listen on. [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="The port; 0 takes a free one. [default: 8700]")] = None,
    home: Annotated[
        Path | None, typer.Option(help="The folder of database, results and neuron sets. [default: ampsweep-home]")
    ] = None,
    results: Annotated[
        str | None,
        typer.Option(help="Where to store results and neuron sets: a folder, s3:// or gs://. [default: the home]"),
    ] = None,
    database_url: Annotated[
        str | None,
        typer.Option(help="A PostgreSQL server, as postgresql://USER@HOST/NAME. [default: a file in the home]"),
    ] = None,
    keep_days: Annotated[
        float | None, typer.Option(help="Delete results this many days after a sweep's end. [default: never]")
    ] = None,
    keep_events_days: Annotated[
        float | None,
        typer.Option(help="Delete the events of a sweep's cells this many days after its end. [default: 30]"),
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(metavar="NAME=FOLDER", help="A model to offer; may be repeated.")
    ] = None,
    lora: Lora = None,
    tool_call_parser: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="vLLM's parser of the model's tool calls, or none. [default: chosen by the chat template]",
            show_default=False,
        ),
    ] = None,
    corpus: Annotated[
        list[str] | None, typer.Option(metavar="NAME=FOLDER", help="A corpus to offer; may be repeated.")
    ] = None,
    data: Data = None,
    engine: Annotated[str | None, typer.Option(help="vllm, or transformers (slow). [default: vllm]")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16 or float16. [default: float32]")] = None,
    tensor_parallel_size: TensorParallel = None,
    pipeline_parallel_size: PipelineParallel = None,
    batch_invariant: BatchInvariant = False,
    unfused_experts: UnfusedExperts = False,
    allow_untested_vllm: AllowUntestedVllm = False,
    ray_address: Annotated[str | None, typer.Option(help="Join this Ray cluster instead of starting one.")] = None,
    cells_per_engine: Annotated[
        int | None, typer.Option(help="Cells that an engine computes at once. [default: 8]")
    ] = None,
    keys: Annotated[Path | None, typer.Option(help="The file of API keys. [default: keys.json in the home]")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="A certificate chain (PEM), to serve over TLS.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="The certificate's private key (PEM).")] = None,
    behind_tls_proxy: Annotated[
        bool, typer.Option("--behind-tls-proxy", help="A proxy terminates TLS, and only the proxy can reach this port.")
    ] = False,
    open_metrics: Annotated[bool, typer.Option("--open-metrics", help="Serve /metrics without a key.")] = False,
    open_page: Annotated[
        bool, typer.Option("--open-page", help="Serve the web page without a key; the data in it still needs one.")
    ] = False,
    log_format: Annotated[str | None, typer.Option(help="console or json. [default: console]")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error. [default: info]")] = None,
    otlp_endpoint: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Send traces to this OTLP collector, for example http://collector:4318."),
    ] = None,
    no_atlas: Annotated[bool, typer.Option("--no-atlas", help="Do not offer the bundled model.")] = False,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Run a server until Ctrl-C. Every option can also be set by an environment variable, such as AMPSWEEP_HOST."""
    from ampsweep.cli.server.settings import read_settings
    from ampsweep.telemetry.context import Telemetry
    from ampsweep.telemetry.logs import LogSettings
    from ampsweep.telemetry.traces import stop_traces
    from worker.memory import require_memory

    settings = read_settings(
        host=host,
        port=port,
        home=home,
        results=results,
        database_url=database_url,
        keep_days=keep_days,
        keep_events_days=keep_events_days,
        models=model,
        lora=lora,
        tool_call_parser=tool_call_parser,
        corpora=corpus,
        data=data,
        engine=engine,
        dtype=dtype,
        tensor_parallel_size=tensor_parallel_size,
        pipeline_parallel_size=pipeline_parallel_size,
        batch_invariant=batch_invariant or None,
        unfused_experts=unfused_experts or None,
        allow_untested_vllm=allow_untested_vllm or None,
        ray_address=ray_address,
        cells_per_engine=cells_per_engine,
        atlas=False if no_atlas else None,
        open_metrics=open_metrics or None,
        open_page=open_page or None,
        log_format=log_format,
        log_level=log_level,
        otlp_endpoint=otlp_endpoint,
        keys=keys,
        tls_cert=tls_cert,
        tls_key=tls_key,
        behind_tls_proxy=behind_tls_proxy or None,
    )
    if not settings.served():
        raise InvalidRequest("there is no model to offer: give --model NAME=FOLDER", param="models")
    if settings.ray_address is None:
        warn(require_memory(served_engines(settings)))
    else:
        warn([f"the engines load on the machines of the Ray cluster at {settings.ray_address}: {_UNCHECKED}"])
    log = quiet_libraries("serve", verbose=verbose, folder=settings.home / "logs", own_warnings=False)
    telemetry = Telemetry(
        logs=LogSettings(format=settings.log_format, level=settings.log_level),
        otlp_endpoint=settings.otlp_endpoint,
        library_log=None if log is None or settings.ray_address is not None else log.resolve(),
    )
    telemetry.start(service="ampsweep", instance=f"{socket.gethostname()}:{os.getpid()}")
    try:
        stopped_by = asyncio.run(_serve(settings, telemetry, verbose=verbose, as_json=as_json))
    finally:
        stop_traces()
    if stopped_by is signal.SIGINT:
        raise typer.Exit(130)


async def _serve(
    settings: Settings, telemetry: Telemetry, *, verbose: bool = False, as_json: bool = False
) -> signal.Signals | None:
    """Serve until a signal arrives, stop everything that was started, and return the signal."""
    from ampsweep.cli.server.exposure import auth_policy, limits_of
    from ampsweep.cli.server.http_server import HttpServer, listen
    from api.app import create_app
    from api.http.change_notifier import ChangeNotifier
    from api.openai.batch_rows import OpenAIRows
    from api.services import Services
    from jobs.results.assembly_process import AssemblyProcesses
    from worker.completions import PoolCompletions
    from worker.dispatcher import MAX_FINALIZING
    from worker.neuron_set_service import PoolNeuronSetService

    policy = auth_policy(settings)
    async with AsyncExitStack() as opened:  # also closes what was opened before a later step of the start failed
        listening = opened.enter_context(listen(settings.host, settings.port))
        runtime = opened.enter_context(closing(_open_runtime(settings)))
        pool = _make_pool(settings, runtime, telemetry, verbose=verbose)
        notifier = ChangeNotifier()
        neuron_set_service = PoolNeuronSetService(
            pool,
            catalog=runtime.catalog,
            neuron_sets=runtime.neuron_sets,
            identifications=runtime.identifications,
        )
        completions = PoolCompletions(pool, catalog=runtime.catalog, neuron_sets=runtime.neuron_sets)
        evaluation_service = runtime.evaluation_service(completions)
        limits = limits_of(settings)
        rows = OpenAIRows(completions=completions, catalog=runtime.catalog, presets=runtime.presets, limits=limits)
        batch_service = runtime.batch_service(rows)
        assemblies = opened.enter_context(closing(AssemblyProcesses(runtime.results, MAX_FINALIZING)))
        dispatcher = runtime.dispatcher(pool, notifier.notify, assemblies)
        services = Services(
            store=runtime.store,
            results=runtime.results,
            catalog=runtime.catalog,
            neuron_sets=runtime.neuron_sets,
            presets=runtime.presets,
            completions=completions,
            neuron_set_service=neuron_set_service,
            evaluation_service=evaluation_service,
            batch_service=batch_service,
            engine_monitor=pool,
            estimator=runtime.estimator(partial(_memory_of, served_engines(settings))),
            notifier=notifier,
            wake=dispatcher.wake,
            clean_up=dispatcher.clean_up_now,
            dispatcher_stats=dispatcher.dispatcher_stats,
            limits=limits,
        )
        server = HttpServer(create_app(services, policy), tls_cert=settings.tls_cert, tls_key=settings.tls_key)
        opened.enter_context(server.stopped_by_signals())
        dispatcher.start()  # before there is an engine it leases no cells, but finalizes sweeps whose cells are done
        evaluation_service.start()
        batch_service.start()
        engines = asyncio.create_task(_start_engines(server, pool, settings, listening, as_json=as_json))
        opened.push_async_callback(_stop_engines, engines, pool)
        opened.push_async_callback(dispatcher.stop)
        opened.push_async_callback(neuron_set_service.stop)
        opened.push_async_callback(evaluation_service.stop)
        opened.push_async_callback(batch_service.stop)
        await server.serve([listening])
    if not engines.cancelled() and (error := engines.exception()):
        raise error
    return server.stopped_by


def _open_runtime(settings: Settings) -> Runtime:
    """Open the home folder, and print warnings about the models and data on offer."""
    from ampsweep.cli.server.catalog import catalog_of
    from ampsweep.cli.server.runtime import Runtime

    catalog = catalog_of(settings)
    warn(catalog.warnings)
    return Runtime.open(
        settings.home,
        catalog,
        results=settings.results,
        database_url=settings.database_url,
        keep_days=settings.keep_days,
        keep_events_days=settings.keep_events_days,
    )


def _make_pool(settings: Settings, runtime: Runtime, telemetry: Telemetry, *, verbose: bool) -> Pool:
    """Return the pool of all engines; `start` starts them."""
    from worker.ray_pool import RayPool

    return RayPool(
        served_engines(settings),
        runtime.worker_config,
        address=settings.ray_address,
        cells_per_engine=settings.cells_per_engine,
        telemetry=telemetry,
        log_to_driver=verbose,
    )


async def _start_engines(
    server: HttpServer, pool: Pool, settings: Settings, listening: socket.socket, *, as_json: bool
) -> None:
    """Start the engines while the server already answers requests, and print its address.

    Stops the server if a model can never be served. If an engine fails for another reason, an operator may retry it,
    so the server stays up without it.
    """
    from worker.supervisor import is_permanent

    host, port = listening.getsockname()[:2]
    address = f"{'http' if settings.tls_cert is None else 'https'}://{host}:{port}"
    echo(f"listening at {address}; the engines are starting", err=True)
    try:
        await pool.start()
        server.hear_signals()  # Ray has a handler for SIGTERM that aborts
        await pool.wait_until_started()
        for model, error in pool.failed().items():
            if is_permanent(error):
                raise error
            echo(
                f"{model} has no engine: {error.message}{_named_log()}\n"
                f"once that is fixed, `ampsweep engines retry {model}` starts it again",
                err=True,
            )
    except BaseException:
        server.should_exit = True
        raise
    models = sorted(settings.served().keys() - pool.failed().keys())
    text = f"{', '.join(models) or 'no model'} at {address} (Ctrl-C stops the server)"
    show({"url": address, "models": models}, text, as_json=as_json)


def _memory_of(engines: Sequence[EngineSpec], model: str) -> int | None:
    """Return the memory that the engines of a model take, in bytes; None where it is that of a GPU."""
    from worker.memory import EngineMemory

    return sum(EngineMemory.of(spec).total for spec in engines if spec.model == model) or None


def _named_log() -> str:
    """Return a note that names the log of the engines' libraries, if they have printed anything."""
    log = library_log()
    return "" if log is None else f" (what its libraries printed is in {log})"


async def _stop_engines(engines: asyncio.Task[None], pool: Pool) -> None:
    """Stop the engines, including those that are still starting."""
    engines.cancel()
    await asyncio.gather(engines, return_exceptions=True)
    await pool.stop()
