"""`ampsweep run`: runs a sweep in this process, without a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ampsweep.cli.commands.plan import check_used, plan_here
from ampsweep.cli.commands.run_files import (
    missing_sets,
    neuron_sets_of,
    without_empty_run,
    write_partial_results,
    write_results,
)
from ampsweep.cli.options.client import show_cells
from ampsweep.cli.options.engine import Corpora, Data, Lora, SpecNeurons
from ampsweep.cli.options.local_engine import EngineOptions, takes_engine_options
from ampsweep.cli.options.neuron_source import check_spec_uses, naming_spec_neurons, read_neurons
from ampsweep.cli.server.engine_specs import local_engine
from ampsweep.cli.terminal.failures import fail_where_incomplete
from ampsweep.cli.terminal.library_messages import quiet_libraries
from ampsweep.cli.terminal.option_names import about_option
from ampsweep.cli.terminal.output import AsJson, show, warn
from ampsweep.cli.terminal.progress import REFRESH_SECONDS, ProgressDisplay, show_recording
from ampsweep.cli.terminal.running import run_to_end
from ampsweep.cli.terminal.summary import show_summary
from ampsweep.documents import read_spec
from ampsweep.errors import AmpsweepError, InvalidRequest
from ampsweep.files import write_problem

if TYPE_CHECKING:
    from ampsweep.cli.server.runtime import Runtime
    from ampsweep.cli.server.settings import Settings
    from jobs.cell import Cell
    from jobs.spec.sweep import SweepSpec
    from jobs.store.records import SweepRecord
    from worker.pool.local_pool import LocalPool

LEASE_SECONDS = 600.0
"""Lease of a sweep during finalization, in seconds; no other process has the store of the folder open."""


@takes_engine_options
def run(
    spec: Annotated[Path, typer.Argument(help="The sweep: a YAML or JSON file.")],
    out: Annotated[
        Path,
        typer.Option(
            help="The folder to write to. If it holds an unfinished run of the same sweep, that run continues."
        ),
    ],
    data: Data = None,
    corpus: Corpora = None,
    lora: Lora = None,
    neurons: SpecNeurons = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what the sweep would cost, as `ampsweep plan` does, and stop.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the results of another sweep in the folder.")
    ] = False,
    *,
    options: EngineOptions,
    as_json: AsJson = False,
) -> None:
    """Run a sweep here, write its samples and summary to a folder, and print the summary."""
    from ampsweep.cli.server.catalog import local_catalog
    from ampsweep.cli.server.runtime import Runtime
    from ampsweep.cli.server.settings import read_settings
    from jobs.spec.sweep import parse_spec

    quiet_libraries("run", verbose=options.verbose)
    sweep_spec = parse_spec(read_spec(spec))
    settings = read_settings(data=data, corpora=corpus, lora=lora, **options.settings())
    check_used(sweep_spec, corpora=corpus, lora=lora)
    catalog = local_catalog(settings, model=sweep_spec.model)
    if dry_run:
        plan_here(sweep_spec, catalog, settings, out=out, neurons=neurons, as_json=as_json)
        return
    with about_option("--neurons"):
        neuron_set = read_neurons(neurons)
    with (
        without_empty_run(out, given=None if neuron_set is None else neuron_set.id),
        closing(Runtime.open(out, catalog, param="out")) as runtime,
    ):
        if neuron_set is not None:
            check_spec_uses(neuron_set, sweep_spec, catalog=catalog, neuron_sets=runtime.neuron_sets)
            runtime.add_neurons(neuron_set)
        if not overwrite:
            _check_same_sweep(runtime, out, sweep_spec)
        content = _run_in(out, runtime, sweep_spec, settings)
    _show(content, out, as_json=as_json)


def _run_in(out: Path, runtime: Runtime, spec: SweepSpec, settings: Settings) -> dict[str, Any]:
    """Run a sweep, write its files to a folder, and return what the command prints as JSON."""
    from jobs.results.failures import find_errors
    from jobs.results.summary import summary_json

    sweep = _create_sweep(runtime, spec)
    warn(sweep.warnings)
    try:
        sweep = run_to_end(_compute(runtime, sweep, settings))
    except (KeyboardInterrupt, typer.Exit):
        _try_to_write_partial(runtime, sweep, out)
        raise
    (errors,) = find_errors(runtime.store, [sweep])
    summary = summary_json(runtime.results, sweep)
    return {
        "id": sweep.id,
        "request_counts": asdict(sweep.request_counts),
        "failed_samples": sweep.failed_samples,
        "errors": [asdict(error) for error in errors],
        "warnings": list(sweep.warnings),
        "files": write_results(runtime, sweep, out),
        "summary": summary,
    }


def _show(content: Mapping[str, Any], out: Path, *, as_json: bool) -> None:
    """Print the summary and where the files are; exit with code 1 if cells or samples failed."""
    if not as_json:
        rest = f"in {content['files']['summary']}; `ampsweep report {out}` writes what they mean"
        show_summary(content["summary"]["rows"], content["summary"]["best_factors"], rest=rest)
    text = "\n".join(f"{name}: {path}" for name, path in content["files"].items())
    show(content, text, as_json=as_json)
    messages = (error["message"] for error in content["errors"])
    fail_where_incomplete(f"{message}; run the same command again to retry what failed" for message in messages)


def _try_to_write_partial(runtime: Runtime, sweep: SweepRecord, out: Path) -> None:
    """Write the partial results of a stopped run, and say where; if that fails, say why."""
    try:
        cells = write_partial_results(runtime, sweep, out)
        outcome = f"stopped: partial results of {cells.included} of {cells.total} cells are in {out}/partial-*.parquet"
    except OSError as error:
        outcome = (
            f"stopped; the partial results could not be written to {error.filename or out}: {write_problem(error)}"
        )
    except AmpsweepError as error:
        outcome = f"stopped; the partial results could not be written: {error}"
    warn([f"{outcome}; run the same command to continue"])


def _check_same_sweep(runtime: Runtime, out: Path, spec: SweepSpec) -> None:
    """Raise InvalidRequest if the folder holds results of another sweep, which this one would replace."""
    from ampsweep.hashing import canonical_json

    earlier = next((sweep for sweep in runtime.store.list_sweeps(limit=1).data), None)
    if earlier is not None and canonical_json(earlier.spec) == canonical_json(spec.to_dict()):
        return
    if earlier is None and not any((out / f"{name}.parquet").exists() for name in ("results", "summary")):
        return
    content = "results that no run in it has written" if earlier is None else f"another sweep, {earlier.name!r}"
    remedy = "choose another folder, or replace them with --overwrite (cells that both need are not computed again)"
    raise InvalidRequest(f"{out} holds {content}; {remedy}", param="out")


def _create_sweep(runtime: Runtime, spec: SweepSpec) -> SweepRecord:
    """Create the sweep in the store of its folder, replacing one that an earlier run left unfinished.

    If an earlier run was stopped during finalization, return its sweep, which continues there.
    """
    from jobs.planning.planner import plan
    from jobs.store.transitions import SWEEP_ENDED

    with naming_spec_neurons():
        planned = plan(spec, runtime.catalog, runtime.neuron_sets)
    before = runtime.store.list_sweeps(limit=1).data
    if before and _only_finalization_is_left(runtime, before[0], spec, planned.cells):
        return before[0]
    sweep = runtime.store.create_sweep(
        name=spec.name, spec=spec.to_dict(), cells=planned.cells, warnings=planned.warnings
    )
    if before and (unfinished := runtime.store.get_sweep(before[0].id)).state not in SWEEP_ENDED:
        if lease := runtime.store.lease_sweep(unfinished.id, runtime.owner, ttl=LEASE_SECONDS):
            runtime.store.finish_sweep(lease, error=f"sweep {sweep.id} took its place")
        else:
            runtime.store.cancel_sweep(unfinished.id)
    return sweep


def _only_finalization_is_left(runtime: Runtime, sweep: SweepRecord, spec: SweepSpec, cells: Sequence[Cell]) -> bool:
    """Return whether a sweep has the same spec and only has to be finalized. A search may have added further cells."""
    from ampsweep.hashing import canonical_json
    from jobs.store.transitions import SweepState

    if sweep.state is not SweepState.FINALIZING or sweep.request_counts.failed:
        return False
    begun = runtime.store.list_cells(sweep.id, limit=len(cells)).data
    same = [record.id for record in begun] == [cell.id for cell in cells]
    return same and canonical_json(sweep.spec) == canonical_json(spec.to_dict())


async def _compute(runtime: Runtime, sweep: SweepRecord, settings: Settings) -> SweepRecord:
    """Run the remaining cells of a sweep and finalize it; load the model only if cells remain."""
    import asyncio

    from api.http.change_notifier import ChangeNotifier
    from jobs.results.finalization.assembly import assemble
    from jobs.results.finalization.finalization import finalize
    from jobs.store.transitions import SWEEP_ENDED
    from worker.pool.local_pool import LocalPool
    from worker.pool.supervisor import COMMAND_POLICY
    from worker.resources.memory import require_memory
    from worker.start_checks import check_start

    assemble_here = partial(assemble, runtime.results)
    while lease := runtime.store.lease_sweep(sweep.id, runtime.owner, ttl=LEASE_SECONDS):
        sweep = finalize(runtime.store, lease, assemble_here)
    if sweep.state in SWEEP_ENDED:
        return sweep
    engine = local_engine(str(sweep.spec["model"]), runtime.catalog, settings)
    warn([*check_start(engine), *require_memory([engine]), *runtime.catalog.warnings])
    changed = asyncio.Event()
    pool = LocalPool([engine], runtime.worker_config, policy=COMMAND_POLICY)
    dispatcher = runtime.dispatcher(pool, changed.set, assemble_here)
    async with AsyncExitStack() as opened:
        opened.push_async_callback(pool.stop)
        opened.push_async_callback(dispatcher.stop)
        display = opened.enter_context(ProgressDisplay(sweep.name))
        await _start(pool, display)
        missing = missing_sets(runtime, neuron_sets_of(runtime, sweep))
        dispatcher.start()
        while sweep.state not in SWEEP_ENDED:
            changed.clear()
            sweep = runtime.store.get_sweep(sweep.id)
            for recording in (recordings := await pool.recordings()).values():
                show_recording(display, recording)
            if missing and not recordings:
                display.stage("finding neurons", "tokens")
            elif not recordings:
                show_cells(display, sweep.state.value, sweep.request_counts)
            if sweep.state not in SWEEP_ENDED:
                await ChangeNotifier.wait(changed, seconds=REFRESH_SECONDS)
                missing = missing_sets(runtime, missing)
    return sweep


async def _start(pool: LocalPool, display: ProgressDisplay) -> None:
    """Start the engine, and show what its start does."""
    import asyncio

    display.stage("starting the engine")
    await pool.start()
    starting = asyncio.create_task(pool.ready())
    try:
        while not starting.done():
            await asyncio.wait([starting], timeout=REFRESH_SECONDS)
            (engine,) = pool.engines()
            if engine["phase"] is not None:
                display.stage(engine["phase"])
        starting.result()
    finally:
        starting.cancel()
