"""Runs a server: the API, the dispatcher, the services in the background and the engines."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack, closing, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ampsweep.cli.server.engine_specs import served_engines
from ampsweep.cli.terminal.library_messages import quiet_libraries
from ampsweep.cli.terminal.output import echo, show, warn
from ampsweep.errors import InvalidRequest
from ampsweep.out_of_threads import started_threads
from ampsweep.telemetry.library_output import library_log

if TYPE_CHECKING:
    from ampsweep.cli.server.http_server import HttpServer
    from ampsweep.cli.server.runtime import Runtime
    from ampsweep.cli.server.settings import Settings
    from ampsweep.cli.terminal.engine_starts import EngineStarts
    from ampsweep.telemetry.context import Telemetry
    from api.auth.limits import Limits
    from api.http.change_notifier import ChangeNotifier
    from api.services import Services
    from jobs.results.finalization.assembly_process import AssemblyProcesses
    from worker.batches.service import LeasedBatchService
    from worker.completions import PoolCompletions
    from worker.dispatcher import Dispatcher
    from worker.engines import EngineSpec
    from worker.evaluation.service import LeasedEvaluationService
    from worker.neuron_set_service import PoolNeuronSetService
    from worker.pool.pool import Pool

_UNCHECKED = (
    "whether they fit is checked there when each engine starts, by the machine's total memory and with the other "
    "engines of this server on it; the memory of other programs and servers is not counted"
)


def run_server(settings: Settings, *, verbose: bool, as_json: bool) -> signal.Signals | None:
    """Check that the engines fit, start telemetry, and serve until a signal arrives; return the signal.

    Args:
        settings: The settings.
        verbose: Whether to show what libraries print.
        as_json: Whether to print the address as JSON.

    Raises:
        InvalidRequest: There is no model to offer.
        AmpsweepError: The server cannot start, or a model can never be served.
    """
    from ampsweep.cli.server.settings import misspelled_variables
    from ampsweep.telemetry.context import Telemetry
    from ampsweep.telemetry.logs import LogSettings
    from ampsweep.telemetry.traces import stop_traces

    if not settings.served():
        raise InvalidRequest("there is no model to offer: give --model NAME=FOLDER", param="models")
    warn([*misspelled_variables(os.environ), *_memory_warnings(settings)])
    log = quiet_libraries("serve", verbose=verbose, folder=settings.home / "logs", own_warnings=False)
    telemetry = Telemetry(
        logs=LogSettings(format=settings.log_format, level=settings.log_level),
        otlp_endpoint=settings.otlp_endpoint,
        library_log=None if log is None or settings.ray_address is not None else log.resolve(),
    )
    telemetry.start(service="ampsweep", instance=f"{socket.gethostname()}:{os.getpid()}")
    try:
        return asyncio.run(serve_until_stopped(settings, telemetry, verbose=verbose, as_json=as_json))
    finally:
        stop_traces()


def _memory_warnings(settings: Settings) -> list[str]:
    """Return warnings about memory; raise an error if an engine cannot start, or all do not fit into this machine."""
    from worker.resources.memory import require_memory
    from worker.start_checks import check_start

    if settings.ray_address is None:
        engines = served_engines(settings)
        warnings = [warning for engine in engines for warning in check_start(engine)]
        return [*warnings, *require_memory(engines)]
    return [f"the engines load on the machines of the Ray cluster at {settings.ray_address}: {_UNCHECKED}"]


async def serve_until_stopped(
    settings: Settings, telemetry: Telemetry, *, verbose: bool = False, as_json: bool = False
) -> signal.Signals | None:
    """Serve until a signal arrives, stop everything that was started, and return the signal."""
    from ampsweep.cli.server.exposure import auth_policy, limits_of
    from ampsweep.cli.server.http_server import HttpServer, listen
    from api.app import create_app
    from jobs.results.finalization.assembly_process import AssemblyProcesses
    from worker.sweep_finalizer import MAX_FINALIZING

    policy, limits = auth_policy(settings), limits_of(settings)
    threads = min(32, (os.cpu_count() or 1) + 4)  # as many as Python would start one by one
    asyncio.get_running_loop().set_default_executor(started_threads(threads))
    async with AsyncExitStack() as opened:  # also closes what was opened before a later step of the start failed
        listening = opened.enter_context(listen(settings.host, settings.port))
        runtime = opened.enter_context(closing(_open_runtime(settings)))
        pool = _make_pool(settings, runtime, telemetry, verbose=verbose)
        assemblies = opened.enter_context(
            closing(AssemblyProcesses(runtime.results, MAX_FINALIZING + 1))
        )  # one for partial results
        background = _Background.of(runtime, pool, assemblies, limits)
        services = _services(settings, runtime, pool, background, limits, assemblies)
        server = HttpServer(create_app(services, policy), tls_cert=settings.tls_cert, tls_key=settings.tls_key)
        opened.enter_context(server.stopped_by_signals())
        background.start()
        engines = asyncio.create_task(follow_engines(server, pool, settings, listening, as_json=as_json))
        opened.push_async_callback(_stop_engines, engines, pool)
        for stoppable in (background.dispatcher, background.neuron_sets, background.evaluations, background.batches):
            opened.push_async_callback(stoppable.stop)
        await server.serve([listening])
    if not engines.cancelled() and (error := engines.exception()):
        raise error
    return server.stopped_by


@dataclass(frozen=True, kw_only=True)
class _Background:
    """What a server does beside answering requests."""

    notifier: ChangeNotifier
    completions: PoolCompletions
    dispatcher: Dispatcher
    neuron_sets: PoolNeuronSetService
    evaluations: LeasedEvaluationService
    batches: LeasedBatchService

    @classmethod
    def of(cls, runtime: Runtime, pool: Pool, assemblies: AssemblyProcesses, limits: Limits) -> _Background:
        """Return what uses the runtime and the pool; nothing is started yet."""
        from api.http.change_notifier import ChangeNotifier
        from api.openai.batch_rows import OpenAIRows
        from worker.completions import PoolCompletions
        from worker.neuron_set_service import PoolNeuronSetService

        notifier = ChangeNotifier()
        completions = PoolCompletions(pool, catalog=runtime.catalog, neuron_sets=runtime.neuron_sets)
        rows = OpenAIRows(completions=completions, catalog=runtime.catalog, presets=runtime.presets, limits=limits)
        return cls(
            notifier=notifier,
            completions=completions,
            dispatcher=runtime.dispatcher(pool, notifier.notify, assemblies),
            neuron_sets=PoolNeuronSetService(
                pool,
                catalog=runtime.catalog,
                neuron_sets=runtime.neuron_sets,
                identifications=runtime.identifications,
            ),
            evaluations=runtime.evaluation_service(completions),
            batches=runtime.batch_service(rows),
        )

    def start(self) -> None:
        """Start what does not wait for requests."""
        self.dispatcher.start()  # it leases no cells before there is an engine, but finalizes sweeps
        self.evaluations.start()
        self.batches.start()


def _services(
    settings: Settings,
    runtime: Runtime,
    pool: Pool,
    background: _Background,
    limits: Limits,
    assemblies: AssemblyProcesses,
) -> Services:
    """Return the services that the routes use."""
    from api.partial_results import PartialWriter
    from api.services import Services

    dispatcher = background.dispatcher
    return Services(
        store=runtime.store,
        results=runtime.results,
        catalog=runtime.catalog,
        neuron_sets=runtime.neuron_sets,
        presets=runtime.presets,
        completions=background.completions,
        neuron_set_service=background.neuron_sets,
        evaluation_service=background.evaluations,
        batch_service=background.batches,
        engine_monitor=pool,
        estimator=runtime.estimator(partial(_memory_of, served_engines(settings))),
        notifier=background.notifier,
        wake=dispatcher.wake,
        clean_up=dispatcher.clean_up_now,
        recording_of=dispatcher.recording_of,
        dispatcher_stats=dispatcher.dispatcher_stats,
        partial_writer=PartialWriter(assemblies.assemble_cells),
        limits=limits,
    )


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
    from worker.pool.ray_pool import RayPool

    return RayPool(
        served_engines(settings),
        runtime.worker_config,
        address=settings.ray_address,
        cells_per_engine=settings.cells_per_engine,
        telemetry=telemetry,
        log_to_driver=verbose,
    )


async def follow_engines(
    server: HttpServer, pool: Pool, settings: Settings, listening: socket.socket, *, as_json: bool
) -> None:
    """Start the engines, and show their restarts until the task is cancelled."""
    starts = await start_engines(server, pool, settings, listening, as_json=as_json)
    with suppress(OSError):  # nobody reads standard error any more
        await starts.follow(pool.engines)


async def start_engines(
    server: HttpServer, pool: Pool, settings: Settings, listening: socket.socket, *, as_json: bool
) -> EngineStarts:
    """Start the engines while the server already answers requests, and print its address.

    Stops the server if a model can never be served. If an engine fails for another reason, an operator may retry it,
    so the server stays up without it.

    Returns:
        What has shown the starts, and can show those that follow.
    """
    from ampsweep.cli.terminal.engine_starts import EngineStarts
    from worker.pool.supervisor import is_permanent

    host, port = listening.getsockname()[:2]
    address = f"{'http' if settings.tls_cert is None else 'https'}://{host}:{port}"
    echo(f"listening at {address}; the engines are starting", err=True)
    try:
        with EngineStarts() as starts:
            showing = asyncio.create_task(starts.follow(pool.engines))
            try:
                await pool.start()
                server.hear_signals()  # Ray has a handler for SIGTERM that aborts
                await pool.wait_until_started()
            finally:
                showing.cancel()
            starts.show(pool.engines())
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
    return starts


def _memory_of(engines: Sequence[EngineSpec], model: str) -> int | None:
    """Return the memory that the engines of a model take, in bytes; None where it is that of a GPU."""
    from worker.resources.memory import EngineMemory

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
