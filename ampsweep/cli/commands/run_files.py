"""The files that `ampsweep run` writes to its folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ampsweep.errors import Unavailable
from ampsweep.files import atomic_write
from ampsweep.temporary import TemporaryFolder

if TYPE_CHECKING:
    from ampsweep.cli.server.runtime import Runtime
    from jobs.cell import Cell
    from jobs.neuron_sets.registry import NeuronSets
    from jobs.results.finalization.partial import PartialCells
    from jobs.results.writer import Results
    from jobs.store.records import SweepRecord


@contextmanager
def without_empty_run(out: Path, *, given: str | None) -> Iterator[None]:
    """Remove what a run that fails in the block has written to a new folder, unless a later run can continue from it.

    A stopped run keeps its folder.

    Args:
        out: The folder.
        given: Id of the neuron set that the user gave, which the run only copies.
    """
    existed = out.is_dir()
    was_empty = not existed or not any(out.iterdir())
    try:
        yield
    except typer.Exit:
        raise
    except Exception:
        if was_empty and out.is_dir():
            _remove_empty_run(out, given, existed=existed)
        raise


def _remove_empty_run(out: Path, given: str | None, *, existed: bool) -> None:
    """Remove a run's files, unless there is something to continue from, or another run has begun there meanwhile."""
    from jobs.store.sql.database import DATABASE_FILE, FileLock

    try:
        lock = FileLock(out / DATABASE_FILE)
    except Unavailable:
        return
    try:
        if any(_computed(out, given)):
            return
        for path in out.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if not existed:
            out.rmdir()
    finally:
        lock.release()


def _computed(out: Path, given: str | None) -> Iterator[Path]:
    """Yield the files of a run from which another can continue: cells, neuron sets and checkpoints of recordings."""
    for folder in (out / "results", out / "neurons"):
        yield from (path for path in folder.rglob("*") if path.is_file() and given not in path.parts)


def neuron_sets_of(runtime: Runtime, sweep: SweepRecord) -> frozenset[str]:
    """Return the ids of the neuron sets that the cells of a sweep need."""
    from jobs.results.finalization.finalization import cells_of

    records = cells_of(runtime.store, sweep.id)
    return frozenset(record.cell.neurons.id for record in records if record.cell.neurons is not None)


def missing_sets(runtime: Runtime, neuron_sets: frozenset[str]) -> frozenset[str]:
    """Return those of the neuron sets that do not exist yet; they are identified before the cells need them."""
    return frozenset(each for each in neuron_sets if not runtime.neuron_sets.has(each))


def write_results(runtime: Runtime, sweep: SweepRecord, out: Path) -> dict[str, str]:
    """Copy samples and summary to the folder, remove earlier partial ones, and return the paths by name.

    The neuron set is written beside them, for `ampsweep report`.
    """
    from jobs.results.finalization.finalization import cells_of

    files = _copy(runtime.results, sweep, out, prefix="")
    for path in files.values():
        path.with_name(f"partial-{path.name}").unlink(missing_ok=True)
    cells = (record.cell for record in cells_of(runtime.store, sweep.id))
    write_neurons(cells, runtime.neuron_sets, out / "neurons.parquet")
    return {name: str(path) for name, path in files.items()}


def write_partial_results(runtime: Runtime, sweep: SweepRecord, out: Path) -> PartialCells:
    """Write the results of a stopped run to files named `partial-*.parquet`; return how many cells they include."""
    from jobs.results.finalization.partial import write_partial

    with TemporaryFolder("run") as folder:
        partial = write_partial(runtime.store, runtime.results, runtime.store.get_sweep(sweep.id), folder)
        _copy(partial.results, partial.sweep, out, prefix="partial-")
    return partial.cells


def write_neurons(cells: Iterable[Cell], neuron_sets: NeuronSets, target: Path) -> None:
    """Write the neurons of the first neuron set that steers cells; remove an earlier file if none does."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from engine.neurons.neuron_set import NeuronSet
    from jobs.report.sources.neurons_file import NEURONS

    neuron_set_id = next((cell.neurons.id for cell in cells if cell.neurons is not None), None)
    if neuron_set_id is None:
        target.unlink(missing_ok=True)
        return
    neuron_set = NeuronSet.load(neuron_sets.fetch(neuron_set_id))
    widths = neuron_set.widths.by_layer
    rows = [
        {"language": code, "layer": layer, "neuron": index, "width": widths[layer]}
        for code, pairs in neuron_set.neurons.items()
        for layer, index in pairs.tolist()
    ]
    with atomic_write(target) as path:
        pq.write_table(pa.Table.from_pylist(rows, schema=NEURONS), path)


def _copy(results: Results, sweep: SweepRecord, out: Path, *, prefix: str) -> dict[str, Path]:
    """Copy the files of a sweep to a folder, and return the paths by name."""
    sources = {"results": results.samples_file(sweep), "summary": results.summary_file(sweep)}
    copies = {name: out / f"{prefix}{name}.parquet" for name in sources}
    for name, source in sources.items():
        with atomic_write(copies[name]) as copy:
            source.download(copy)
    return copies
