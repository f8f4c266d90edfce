"""Names that other programs use: commands, routes, errors, settings, metrics, events."""

from __future__ import annotations

import ast
import asyncio
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

import ampsweep
from ampsweep.cli.app import app
from ampsweep.cli.server.settings import Settings
from ampsweep.cli.terminal.failures import exit_code
from ampsweep.domain.neurons.recording_progress import RecordingProgress
from ampsweep.errors import AmpsweepError, from_code
from api.app import openapi_document
from jobs.store.records import CellOutcome, Heartbeat
from tests.api.running_server import running_server
from tests.jobs.cluster import ManualClock, a_cell, completed, ended, quick_sql_store
from tests.jobs.store.calls import FILE, FILES, finish, lease, send
from tests.worker.installation import Installation

_PACKAGES = ("ampsweep", "api", "engine", "jobs", "worker")
_VARIABLE = re.compile(r"AMPSWEEP_[A-Z0-9_]+")


def commands() -> dict[str, Any]:
    """Return every command with its options and arguments; the help texts are no contract."""
    return dict(_commands("ampsweep", typer.main.get_command(app)))


def _commands(name: str, command: Any) -> Iterator[tuple[str, dict[str, str]]]:
    yield name, dict(_parameter(index, param) for index, param in enumerate(command.params, 1))
    for word, further in getattr(command, "commands", {}).items():
        yield from _commands(f"{name} {word}", further)


def _parameter(index: int, param: Any) -> tuple[str, str]:
    is_option = param.param_type_name == "option"
    words = ["flag" if getattr(param, "is_flag", False) else _type(param)]
    words += ["required"] if param.required else []
    words += ["repeated"] if param.multiple or param.nargs != 1 else []
    words += [f"envvar={param.envvar}"] if param.envvar else []
    words += [f"default={param.default}"] if param.default not in (None, False, ()) else []
    names = " / ".join(filter(None, (" ".join(param.opts), " ".join(param.secondary_opts))))
    return names if is_option else f"argument {index}", " ".join(words)


def _type(param: Any) -> str:
    annotation = param.type_descriptor.annotation
    limits = [param.min, param.max]
    name = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return name if limits == [None, None] else f"{name} {limits[0]}..{limits[1]}"


def exit_codes() -> dict[str, int]:
    """Return the exit codes of right and of wrong arguments; those of errors stand beside their codes."""
    calls = {
        "help": ["--help"],
        "version": ["--version"],
        "unknown option": ["status", "--nothing"],
        "unknown command": ["nothing"],
        "missing argument": ["submit"],
        "missing file": ["submit", "missing.yaml"],
    }
    return {name: CliRunner().invoke(app, words).exit_code for name, words in calls.items()}


def rest() -> dict[str, Any]:
    """Return every operation with its parameters, the keys of its request body, and its answers."""
    document = openapi_document()
    return {
        f"{method.upper()} {path}": _operation(operation, document)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }


def _operation(operation: Mapping[str, Any], document: Mapping[str, Any]) -> dict[str, Any]:
    parameters = {
        f"{each['in']} {each['name']}": "required" if each.get("required") else "optional"
        for each in operation.get("parameters", ())
    }
    bodies = operation.get("requestBody", {}).get("content", {})
    return {
        "operationId": operation["operationId"],
        "parameters": parameters,
        "body": {kind: sorted(_keys(body.get("schema", {}), document, "")) for kind, body in bodies.items()},
        "answers": {status: sorted(answer.get("content", {})) for status, answer in operation["responses"].items()},
    }


def _keys(schema: Mapping[str, Any], document: Mapping[str, Any], prefix: str) -> set[str]:
    """Return the dotted paths of all keys that a body may have, with the constants each may take."""
    if reference := schema.get("$ref"):
        return _keys(document["components"]["schemas"][reference.rpartition("/")[2]], document, prefix)
    names = set[str]()
    for part in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
        names |= _keys(part, document, prefix)
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), Mapping):
            names |= _keys(schema[name], document, f"{prefix}[]" if name == "items" else f"{prefix}.*")
    constants = [*schema.get("enum", ()), *([schema["const"]] if "const" in schema else [])]
    names |= {f"{prefix} = {constant}" for constant in constants}
    for key, value in schema.get("properties", {}).items():
        name = f"{prefix}.{key}".removeprefix(".")
        names |= {name + (" (required)" if key in schema.get("required", ()) else "")} | _keys(value, document, name)
    return names


def errors() -> dict[str, Any]:
    """Return the codes of errors: the product's own, by status, and those of the HTTP layer."""
    kinds = dict(_errors(AmpsweepError))
    assert all(type(from_code(code, "m")).code == code for code in kinds)
    return kinds


def _errors(kind: type[AmpsweepError]) -> Iterator[tuple[str, dict[str, Any]]]:
    error = from_code(kind.code, "m")
    yield (
        kind.code,
        {"status": error.status, "type": error.type, "retry_after": error.retry_after, "exit_code": exit_code(error)},
    )
    for further in kind.__subclasses__():
        if further.__module__ == AmpsweepError.__module__:  # tests have errors of their own
            yield from _errors(further)


def environment() -> dict[str, Any]:
    """Return the settings of a server, by variable, and all other variables that the product names."""
    prefix = Settings.model_config["env_prefix"]
    settings = {
        f"{prefix}{name.upper()}": f"default={field.default}" for name, field in sorted(Settings.model_fields.items())
    }
    return {"settings": settings, "others": sorted(_named_variables() - set(settings) - {prefix})}


def _named_variables() -> set[str]:
    root = Path(ampsweep.__file__).parents[1]
    sources = (
        path.read_text(encoding="utf-8") for package in _PACKAGES for path in sorted((root / package).rglob("*.py"))
    )
    return {
        node.value
        for source in sources
        if "AMPSWEEP_" in source
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _VARIABLE.fullmatch(node.value)
    }


def metrics() -> dict[str, Any]:
    """Return the families of a server's `/metrics` page with their types and labels."""
    families: dict[str, Any] = {}
    for family in text_string_to_metric_families(asyncio.run(_scraped())):
        if family.name.startswith("ampsweep_") and not family.name.endswith("_created"):  # the library's own
            labels = {label for sample in family.samples for label in sample.labels}
            families[family.name] = f"{family.type} {' '.join(sorted(labels))}".strip()
    return families


async def _scraped() -> str:
    with tempfile.TemporaryDirectory() as folder:
        installation = Installation.build(Path(folder))
        async with running_server(installation, working=False) as server:
            await server.submit()
            installation.store.lease_cells("w", models=["tiny"], limit=1, ttl=30.0)
            await server.http.get("/v1/sweeps/sweep_none")
            return (await server.http.get("/metrics")).text


def http_errors() -> dict[str, Any]:
    """Return how a server answers requests that no route takes: status and code."""
    return asyncio.run(_refused())


async def _refused() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        installation = Installation.build(Path(folder))
        async with running_server(installation, working=False) as server:
            answers = {
                "unknown path": await server.http.get("/v1/nothing"),
                "method": await server.http.put("/v1/sweeps"),
                "no JSON": await server.http.post("/v1/sweeps", content=b"{"),
                "body too large": await server.http.post("/v1/sweeps", content=b"x" * 200_000),
                "wrong field": await server.http.post("/v1/sweeps", json={"model": "tiny"}),
                "unknown id": await server.http.get("/v1/sweeps/sweep_none"),
            }
    return {
        name: f"{answer.status_code} {answer.json()['error']['code']} {' '.join(sorted(answer.json()['error']))}"
        for name, answer in answers.items()
    }


def events() -> dict[str, list[str]]:
    """Return the types of events that a store emits, with the keys of their data (over all events of a type)."""
    with tempfile.TemporaryDirectory() as folder:
        clock = ManualClock()
        store = quick_sql_store(Path(folder), clock)
        first = send(store, 3).id
        store.pause_sweep(first)
        store.resume_sweep(first)
        done, failing, refused = lease(store, 3)
        store.heartbeat([Heartbeat(lease=done, samples=1)], ttl=30.0)
        store.report([completed(done, FILE), ended(refused, CellOutcome.REJECTED, "e")])
        store.report([ended(failing, CellOutcome.FAILED, "e")])
        lease(store)
        clock.time += 60.0
        store.expire_leases()
        store.report([ended(each, CellOutcome.REJECTED, "e") for each in lease(store)])
        store.reset_cell(done.cell.id, "lost")
        store.report([completed(each, FILE) for each in lease(store)])
        finish(store, first, files=FILES)
        store.reopen_sweep(first, "lost")
        finish(store, first, error="e")
        second = send(store, 1, start=10).id
        store.cancel_sweep(second)
        third = send(store, 1, start=20).id
        fourth = store.create_sweep(name="n", spec={}, cells=[a_cell(40, factor=2.0)]).id
        recording = RecordingProgress(
            language="fr", languages=2, languages_done=1, tokens=3, total_tokens=4, tokens_per_second=1.0
        )
        waiting = [Heartbeat(lease=each, recording=recording) for each in lease(store, 2)]
        store.heartbeat(waiting, ttl=30.0)
        keys_by_type: dict[str, set[str]] = {}
        for sweep_id in (first, second, third, fourth):
            for event in store.events(sweep_id):
                keys_by_type.setdefault(event.type, set()).update(event.data)
        store.close()
    return {name: sorted(keys) for name, keys in sorted(keys_by_type.items())}
