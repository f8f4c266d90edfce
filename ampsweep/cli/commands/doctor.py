"""`ampsweep doctor`: finds problems of a set-up and says how to fix them. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from ampsweep.cli.checks.finding import Finding, bad
from ampsweep.cli.terminal.failures import FAILED
from ampsweep.cli.terminal.output import AsJson, show
from ampsweep.client.environment import URL
from ampsweep.errors import InvalidRequest

_MARKS = {"ok": "ok  ", "note": "note", "bad": "BAD "}


def doctor(
    server: Annotated[str | None, typer.Option(envvar=URL, help="Check this server too, as a client.")] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER|ORG/NAME",
            help="Estimate from its config whether a model can be steered, its memory, and rough rates.",
        ),
    ] = None,
    dtype: Annotated[str, typer.Option(help="The dtype of the model: float32, bfloat16 or float16.")] = "float32",
    lora: Annotated[
        list[Path] | None,
        typer.Option(metavar="FOLDER", help="A LoRA adapter to load with the model; may be repeated."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check this machine, the installed packages, and the settings of a server here (AMPSWEEP_...).

    Exits with 0 if all is well, with 1 if something must be fixed.
    """
    if lora and model is None:
        raise InvalidRequest("an adapter is examined together with its model; give --model", param="lora")
    is_well = True
    for finding in examine(server, model=model, dtype=dtype, adapters=lora or ()):
        is_well = is_well and finding.state != "bad"
        remedy = f"\n      -> {finding.remedy}" if finding.remedy else ""
        text = f"{_MARKS[finding.state]}  {finding.subject}: {finding.detail}{remedy}"
        show(asdict(finding), text, as_json=as_json)
    if not is_well:
        raise typer.Exit(FAILED)


def examine(server: str | None, *, model: str | None, dtype: str, adapters: Sequence[Path]) -> Iterator[Finding]:
    """Yield all findings: on the software, on machine, settings and a model if a server can run here, on a server."""
    from ampsweep.cli.checks import software

    own_packages = software.own_packages()
    yield from (software.python(), *own_packages, *software.packages())
    if software.is_server() and not any(finding.state == "bad" for finding in own_packages):
        yield from _local_server()
        if model is not None:
            from ampsweep.cli.checks.model import model as examined_model
            from ampsweep.cli.terminal.library_messages import quiet_libraries

            quiet_libraries("doctor")
            yield from examined_model(model, dtype=dtype, adapters=adapters)
    elif model is not None:
        remedy = "pip install 'ampsweep[cpu]' or 'ampsweep[gpu]'"
        yield bad(f"model {model}", "no engine is installed here to build it with", remedy)
    if server is not None:
        from ampsweep.cli.checks.server import server as examined

        yield from examined(server)


def _local_server() -> list[Finding]:
    from ampsweep.cli.checks import software
    from ampsweep.cli.checks.installation import installation
    from ampsweep.cli.checks.machine import machine
    from ampsweep.cli.server.engine_specs import served_engines
    from ampsweep.cli.server.settings import read_settings
    from worker.resources.gpus import gpus

    findings = [*software.plugins(), software.vllm(), software.compiler()]
    gpu_count = len(gpus())
    if mismatch := software.accelerator_fits(gpu_count):
        findings.append(mismatch)
    try:
        settings = read_settings()
    except InvalidRequest as error:
        remedy = f"set {error.param} to a value that docs/cli.md allows, or unset it"
        return [*findings, *machine([]), bad("settings", error.message, remedy)]
    engines = served_engines(settings) if settings.ray_address is None else []  # a cluster's machines check their own
    try:
        for engine in engines:
            engine.adapter_bytes(on_cpu=software.runs_on_cpu(gpu_count))
    except InvalidRequest as error:
        findings.append(bad("LoRA adapters", error.message, "see docs/models.md, or leave the adapter out"))
        engines = [replace(engine, vllm=replace(engine.vllm, adapters={})) for engine in engines]
    return [*findings, *machine(engines), *installation(settings)]
