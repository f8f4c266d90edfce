"""`ampsweep results`: bring home what a sweep has found."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ampsweep.cli.options.client import Server, SweepId, client_of
from ampsweep.cli.terminal.failures import fail_where_incomplete
from ampsweep.cli.terminal.output import AsJson, show, warn
from ampsweep.client.clients import DEFAULT_URL
from ampsweep.errors import InvalidRequest
from ampsweep.files import check_folder


def results(
    sweep: SweepId,
    out: Annotated[Path | None, typer.Option(help="The Parquet file to write; default: <id>.parquet.")] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Before the sweep's end: the results of the cells completed by now.")
    ] = False,
    server: Server = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Download the samples of a finished sweep as Parquet, and print its summary."""
    from ampsweep.cli.terminal.summary import show_summary

    if out is not None and not out.parent.is_dir():
        raise InvalidRequest(f"there is no folder {out.parent}", param="out")
    check_folder(Path() if out is None else out.parent, param="out")
    with client_of(server) as client:
        target = out or Path(f"{client.sweep(sweep).id}.parquet")
        client.download(sweep, target, partial=partial)
        summary = client.summary(sweep, partial=partial)
        errors = client.sweep(sweep).errors
    if cells := summary.get("partial"):
        warn([f"partial results: {cells['included']} of {cells['total']} cells"])
    if not as_json:
        show_summary(summary["rows"], summary["best_factors"])
    show({"id": sweep, "samples": str(target), "summary": summary}, f"samples: {target}", as_json=as_json)
    fail_where_incomplete(error.message for error in errors)
