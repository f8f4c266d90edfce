"""`ampsweep plan`, and `ampsweep run --dry-run`: what a sweep costs before it is computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ampsweep.cli.options.client import client_of
from ampsweep.cli.options.engine import Corpora, Data, Lora, SpecNeurons
from ampsweep.cli.options.local_engine import EngineOptions, takes_engine_options
from ampsweep.cli.options.local_or_server import leave_to_server
from ampsweep.cli.options.neuron_source import check_spec_uses, naming_spec_neurons, read_neurons
from ampsweep.cli.server.engine_specs import local_engine
from ampsweep.cli.terminal.library_messages import quiet_libraries
from ampsweep.cli.terminal.option_names import about_option
from ampsweep.cli.terminal.output import AsJson, echo, show, warn
from ampsweep.cli.terminal.progress import ProgressDisplay, duration
from ampsweep.cli.terminal.running import run_to_end
from ampsweep.documents import read_spec
from ampsweep.errors import InvalidRequest
from ampsweep.temporary import TemporaryFolder

if TYPE_CHECKING:
    from ampsweep.cli.server.settings import Settings
    from jobs.planning.catalog import Catalog
    from jobs.planning.estimate import Estimator, Rates
    from jobs.spec.sweep import SweepSpec

MEASURE_SECONDS = 5.0
"""How long `--measure` sends the items of each task."""
DATABASE = "ampsweep.db"
_COLUMNS = ("cells", "reused", "items", "requests", "prompt tokens", "new tokens")


@takes_engine_options
def plan(
    spec: Annotated[Path, typer.Argument(help="The sweep: a YAML or JSON file.")],
    server: Annotated[
        str | None, typer.Option(help="Let the server at this URL plan it, with its models, data and results.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The folder of a run, whose cells are reused and whose times are taken for the estimate."),
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Load the model, and measure each task for some seconds.")
    ] = False,
    data: Data = None,
    corpus: Corpora = None,
    lora: Lora = None,
    neurons: SpecNeurons = None,
    *,
    options: EngineOptions,
    as_json: AsJson = False,
) -> None:
    """Print what a sweep would cost: cells, requests and tokens by task, memory and an estimated time.

    Nothing is computed. Cells that are computed already are counted, but neither their requests nor their tokens.
    """
    if server is not None:
        if measure:
            raise InvalidRequest("the server measures nothing; leave out --measure or --server", param="measure")
        given = {"out": out, "data": data, "corpus": corpus, "lora": lora, "neurons": neurons}
        leave_to_server(given | options.of_engine())
        with client_of(server) as client:
            show_plan({**client.plan(spec)}, as_json=as_json)
        return
    from ampsweep.cli.server.catalog import local_catalog
    from ampsweep.cli.server.settings import read_settings
    from jobs.spec.sweep import parse_spec

    quiet_libraries("plan", verbose=options.verbose)
    sweep_spec = parse_spec(read_spec(spec))
    settings = read_settings(data=data, corpora=corpus, lora=lora, **options.settings())
    check_used(sweep_spec, corpora=corpus, lora=lora)
    catalog = local_catalog(settings, model=sweep_spec.model)
    plan_here(sweep_spec, catalog, settings, out=out, neurons=neurons, measure=measure, as_json=as_json)


def check_used(spec: SweepSpec, *, corpora: Sequence[str] | None, lora: Sequence[str] | None) -> None:
    """Check that a spec uses the adapter of `--lora`; print a warning about corpora of `--corpus` that it does not use.

    Raises:
        InvalidRequest: It uses no adapter (param "lora").
    """
    from jobs.spec.neurons import NeuronsByMethod

    names = [pair.strip().partition("=")[0] for pair in lora or ()]
    if names and spec.adapter is None:
        message = f"the spec uses no adapter; add `adapter: {names[0]}` to it, or leave out --lora"
        raise InvalidRequest(message, param="lora")
    by_method = isinstance(spec.neurons, NeuronsByMethod)
    used = spec.neurons.corpus if isinstance(spec.neurons, NeuronsByMethod) else spec.neurons.id
    for name in (pair.strip().partition("=")[0] for pair in corpora or ()):
        if not by_method or name != used:
            uses = f"the corpus {used}" if by_method else f"the neuron set {used}, and no corpus"
            warn([f"--corpus {name} has no effect: the spec uses {uses}"])


def plan_here(
    spec: SweepSpec,
    catalog: Catalog,
    settings: Settings,
    *,
    out: Path | None,
    neurons: Path | None,
    measure: bool = False,
    as_json: bool,
) -> None:
    """Plan a sweep on this machine and print what it costs; see `plan` for the arguments."""
    from worker.resources.memory import EngineMemory

    memory = EngineMemory.of(local_engine(spec.model, catalog, settings)).total or None
    with _estimator(spec, out, catalog, neurons=neurons, memory=memory) as estimator:
        measured = run_to_end(_measured(estimator, spec, catalog, settings)) if measure else None
        with naming_spec_neurons():
            estimate = estimator.estimate(spec, measured=measured)
    show_plan(estimate.to_dict(), as_json=as_json)
    if estimate.seconds is None and not measure and not as_json:
        echo("note: `ampsweep plan --measure` loads the model and measures how long each task takes")


def show_plan(plan: Mapping[str, Any], *, as_json: bool) -> None:
    """Print a plan, as `SweepEstimate.to_dict` or the server returns it."""
    if as_json:
        show(plan, "", as_json=True)
        return
    warn(plan["warnings"])
    echo(f"{plan['name']}: {plan['cells']:,} cells of {plan['model']}, {plan['reused']:,} of them computed already")
    rows = [(_label(task), _numbers(task)) for task in plan["tasks"]]
    if len(rows) > 1:
        rows.append(("together", _numbers(plan)))
    width = max(12, *(len(label) for label, _ in rows))
    echo(f"  {'to compute':<{width}}" + "".join(f"{column:>15}" for column in _COLUMNS))
    for label, numbers in rows:
        echo(f"  {label:<{width}}" + "".join(map(_number, numbers)))
    if plan["memory_bytes"] is not None:
        echo(f"memory: {plan['memory_bytes'] / 2**30:.1f} GiB")
    time = "unknown" if plan["seconds"] is None else f"about {duration(plan['seconds'])}"
    echo(f"time: {time}; {plan['seconds_from']}")
    for note in plan["notes"]:
        echo(f"note: {note}")


def _label(task: Mapping[str, Any]) -> str:
    """Return the name of a task with its options, and whether it reproduces the published code."""
    options = f" ({task['options']})" if task["options"] else ""
    return f"{task['task']}{options}{', as published' if task['mode'] == 'paper' else ''}"


def _numbers(plan: Mapping[str, Any]) -> list[int | None]:
    return [plan[name] for name in ("cells", "reused", "items", "requests", "prompt_tokens", "max_new_tokens")]


def _number(value: int | None) -> str:
    return f"{'?' if value is None else f'{value:,}':>15}"


@contextmanager
def _estimator(
    spec: SweepSpec, out: Path | None, catalog: Catalog, *, neurons: Path | None, memory: int | None
) -> Iterator[Estimator]:
    """Open what estimates a sweep by the folder of a run; without one, nothing was computed before.

    Args:
        spec: The spec of the sweep.
        out: The folder of the run.
        catalog: The models, corpora and data.
        neurons: The neuron set that the spec names by id: its folder, or its id in the home folder.
        memory: The bytes that an engine of the model needs.
    """
    with about_option("--neurons"):
        neuron_set = read_neurons(neurons)
    if out is not None and (out / DATABASE).is_file():
        from ampsweep.cli.server.runtime import Runtime

        with closing(Runtime.open(out, catalog, param="out")) as runtime:
            if neuron_set is not None:
                check_spec_uses(neuron_set, spec, catalog=catalog, neuron_sets=runtime.neuron_sets)
                runtime.add_neurons(neuron_set)
            yield runtime.estimator(lambda _model: memory)
        return
    from jobs.neuron_sets.registry import NeuronSets
    from jobs.planning.estimate import Estimator

    with TemporaryFolder("plan") as folder:
        neuron_sets = NeuronSets(folder)
        if neuron_set is not None:
            check_spec_uses(neuron_set, spec, catalog=catalog, neuron_sets=neuron_sets)
            neuron_sets.publish(neuron_set.id, neuron_set.save)
        yield Estimator(catalog, neuron_sets, memory=lambda _model: memory)


async def _measured(estimator: Estimator, spec: SweepSpec, catalog: Catalog, settings: Settings) -> Rates:
    """Load the model, and return the items per second of each task."""
    from worker.engines import open_engine
    from worker.measurement import measure_items
    from worker.resources.memory import require_memory
    from worker.start_checks import check_start

    engine_spec = local_engine(spec.model, catalog, settings)
    warn([*check_start(engine_spec), *require_memory([engine_spec]), *catalog.warnings])
    rates: dict[str, float] = {}
    with ProgressDisplay(spec.name) as display:
        display.stage("starting the engine")
        engine = await open_engine(engine_spec)
        try:
            for task, items in estimator.baselines(spec).items():
                display.stage(f"measuring {task}")
                if (rate := await measure_items(engine, items, seconds=MEASURE_SECONDS)) is not None:
                    rates[task] = rate
        finally:
            await engine.close()
    return rates
