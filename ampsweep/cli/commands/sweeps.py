"""`ampsweep submit|status|results|edit|cancel|pause|resume|delete`: the sweeps of a server."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ampsweep.cli.options.client import Server, SweepId, client_of, follow, line
from ampsweep.cli.options.completion import sweeps
from ampsweep.cli.terminal.failures import FAILED, fail_where_incomplete
from ampsweep.cli.terminal.output import AsJson, echo, show, warn
from ampsweep.client.environment import DEFAULT_URL
from ampsweep.errors import InvalidRequest
from ampsweep.files import check_folder, parquet_output

if TYPE_CHECKING:
    from ampsweep.client.models import Cell, Sweep


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
    tag: Annotated[
        list[str] | None, typer.Option(help="List only sweeps with this tag; repeat the option for several tags.")
    ] = None,
    text: Annotated[
        str | None, typer.Option(help="List only sweeps with this text in their name, model or id.")
    ] = None,
    server: Server = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Print one sweep, or all of a server's sweeps, newest first."""
    if failures and sweep is None:
        raise InvalidRequest("--failures needs the id of a sweep: ampsweep status ID --failures", param="sweep")
    if sweep is not None and (tag or text is not None):
        raise InvalidRequest("--tag and --text select from the list; leave them out with the id of a sweep")
    with client_of(server) as client:
        if sweep is None:
            for record in client.sweeps(tags=tag or (), text=text):
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

    writable = None if out is None else parquet_output(out, param="out")
    if out is None:
        check_folder(Path(), param="out")
    with client_of(server) as client:
        target = out or Path(Path(f"{client.sweep(sweep).id}.parquet").name)  # in this folder, whatever a server says
        client.download(sweep, writable or target, partial=partial)
        summary = client.summary(sweep, partial=partial)
        errors = client.sweep(sweep).errors
    if cells := summary.get("partial"):
        warn([f"partial results: {cells['included']} of {cells['total']} cells"])
    if not as_json:
        rest = f"in the summary of --json; `ampsweep report {sweep}` writes what they mean"
        show_summary(summary["rows"], summary["best_factors"], rest=rest)
    show({"id": sweep, "samples": str(target), "summary": summary}, f"samples: {target}", as_json=as_json)
    fail_where_incomplete(error.message for error in errors)


def edit(
    sweep: SweepId,
    name: Annotated[str | None, typer.Option(help="The new name.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A tag to add; repeat the option for several.")] = None,
    untag: Annotated[list[str] | None, typer.Option(help="A tag to remove; repeat the option for several.")] = None,
    server: Server = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Rename a sweep, or add and remove tags, by which `ampsweep status --tag` finds it."""
    if name is None and not tag and not untag:
        raise InvalidRequest("give --name, --tag or --untag", param="name")
    if both := sorted(set(tag or ()) & set(untag or ())):
        raise InvalidRequest(f"{both[0]} is given with --tag too; leave one of them out", param="untag")
    with client_of(server) as client:
        tags = None
        if tag or untag:
            kept = dict.fromkeys([*client.sweep(sweep).tags, *(tag or ())])
            tags = [each for each in kept if each not in (untag or ())]
        record = client.update_sweep(sweep, name=name, tags=tags)
    show(record.model_dump(), line(record), as_json=as_json)


def delete(
    sweep: SweepId,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for a confirmation.")] = False,
    server: Server = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Delete a sweep that has ended, with its results. Cells that other sweeps need are kept."""
    with client_of(server) as client:
        record = client.sweep(sweep)
        if not yes:
            _confirm(f"Delete {record.id} ({record.name}) with its results?")
        client.delete_sweep(record.id)
    show({"id": record.id, "deleted": True}, f"{record.id} deleted", as_json=as_json)


def _confirm(question: str) -> None:
    """Ask a question on the terminal and end the command unless the answer is yes.

    Raises:
        InvalidRequest: Nobody can answer.
    """
    if not sys.stdin.isatty():
        raise InvalidRequest("standard input is no terminal on which to confirm; add --yes", param="yes")
    echo(f"{question} [y/N] ", err=True, nl=False)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        echo("nothing was deleted", err=True)
        raise typer.Exit(FAILED)


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
    from ampsweep.client.models import COMPLETED_WITH_FAILURES

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
