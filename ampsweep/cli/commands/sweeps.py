"""`ampsweep submit|status|results|cancel|pause|resume`: the sweeps of a server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ampsweep.cli.options.client import Server, SweepId, client_of, follow, line
from ampsweep.cli.options.completion import sweeps
from ampsweep.cli.terminal.failures import FAILED, fail_where_incomplete
from ampsweep.cli.terminal.output import AsJson, echo, show, warn
from ampsweep.client.clients import DEFAULT_URL
from ampsweep.client.models import COMPLETED_WITH_FAILURES, Cell, Sweep
from ampsweep.errors import InvalidRequest
from ampsweep.files import check_folder, output_file


def submit(
    spec: Annotated[Path, typer.Argument(help="The sweep: a YAML or JSON file.")],
    server: Server = DEFAULT_URL,
    watch: Annotated[bool, typer.Option("--watch", help="Show progress and wait until the sweep has ended.")] = False,
    idempotency_key: Annotated[
        str | None, typer.Option(help="A second call with the same key creates no second sweep.")
    ] = None,
    priority: Annotated[int, typer.Option(min=-100, max=100, help="Sweeps of higher priority run first.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Submit a sweep to a server and print its id; with --watch, print its final status too."""
    with client_of(server) as client:
        sweep = client.submit(spec, idempotency_key=idempotency_key, priority=priority)
        warn(sweep.warnings)
        show(sweep.model_dump(), sweep.id, as_json=as_json)
        if not watch:
            return
        try:
            sweep = follow(client, sweep)
        except KeyboardInterrupt:
            echo(f"{sweep.id} goes on at the server; `ampsweep cancel {sweep.id}` stops it", err=True)
            raise
    _show_status(sweep, as_json=as_json)
    fail_where_incomplete(error.message for error in sweep.errors)
    if sweep.status != "completed" or sweep.request_counts.failed:
        raise typer.Exit(FAILED)


def status(
    sweep: Annotated[
        str | None, typer.Argument(help="A sweep's id; without one, all sweeps are listed.", autocompletion=sweeps)
    ] = None,
    failures: Annotated[
        bool, typer.Option("--failures", help="Print the cells that failed or have failed samples, and why.")
    ] = False,
    server: Server = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Print one sweep, or all of a server's sweeps, newest first."""
    if failures and sweep is None:
        raise InvalidRequest("--failures needs the id of a sweep: ampsweep status ID --failures", param="sweep")
    with client_of(server) as client:
        if sweep is None:
            for record in client.sweeps():
                show(record.model_dump(), _line_with_failures(record), as_json=as_json)
            return
        record = client.sweep(sweep)
        warn(error.message for error in record.errors)
        show(record.model_dump(), line(record), as_json=as_json)
        if failures:
            for cell in client.cells(sweep, failures=True):
                show(cell, _failure(cell), as_json=as_json)


def results(
    sweep: SweepId,
    out: Annotated[Path | None, typer.Option(help="The Parquet file to write; default: <id>.parquet.")] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Before the sweep has ended: the results of the cells completed so far.")
    ] = False,
    server: Server = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Download the samples of a finished sweep as Parquet, and print its summary."""
    from ampsweep.cli.terminal.summary import show_summary

    writable = None if out is None else output_file(out, param="out")
    if out is None:
        check_folder(Path(), param="out")
    with client_of(server) as client:
        target = out or Path(f"{client.sweep(sweep).id}.parquet")
        client.download(sweep, writable or target, partial=partial)
        summary = client.summary(sweep, partial=partial)
        errors = client.sweep(sweep).errors
    if cells := summary.get("partial"):
        warn([f"partial results: {cells['included']} of {cells['total']} cells"])
    if not as_json:
        show_summary(summary["rows"], summary["best_factors"])
    show({"id": sweep, "samples": str(target), "summary": summary}, f"samples: {target}", as_json=as_json)
    fail_where_incomplete(error.message for error in errors)


def cancel(sweep: SweepId, server: Server = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Stop a sweep. Its finished cells are kept, and later sweeps that need them reuse them."""
    with client_of(server) as client:
        record = client.cancel(sweep)
    _show_status(record, as_json=as_json)


def pause(sweep: SweepId, server: Server = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Start no more cells of a sweep until it is resumed. Running cells are finished."""
    with client_of(server) as client:
        record = client.pause(sweep)
    _show_status(record, as_json=as_json)


def resume(sweep: SweepId, server: Server = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Resume a paused sweep."""
    with client_of(server) as client:
        record = client.resume(sweep)
    _show_status(record, as_json=as_json)


def _show_status(sweep: Sweep, *, as_json: bool) -> None:
    show(sweep.model_dump(), f"{sweep.id} {sweep.status}", as_json=as_json)


def _line_with_failures(sweep: Sweep) -> str:
    """Return a sweep as one line that ends with what its results lack; `line` itself has the error of a failed one."""
    failures = [" ".join(error.message.split()) for error in sweep.errors if error.code == COMPLETED_WITH_FAILURES]
    return "  ".join([line(sweep), *failures])


def _failure(cell: Cell) -> str:
    """Return a failed cell and its error as one line."""
    task, intervention = cell["task"], cell["intervention"]
    steered = ""
    if intervention is not None:
        steered = f" to {'+'.join(intervention['languages'])} {intervention['op']} x {intervention['factor']:g}"
    count = "failed" if cell["error"] else f"{cell['failed_samples']} of {cell['samples']} samples failed"
    reason = " ".join(str(cell["error"] or cell["sample_error"]).split())
    return f"{cell['id']}  {task['name']} {task['data_language']}{steered}  {count}: {reason}"
