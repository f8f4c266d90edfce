"""`ampsweep serve` as a process: clean shutdown, no files or processes left, and errors for invalid settings."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from ampsweep import AsyncClient, Client
from ampsweep.cli.server.catalog import catalog_of
from ampsweep.cli.server.engine_specs import local_engine, served_engines
from ampsweep.cli.server.http_server import HttpServer, listen
from ampsweep.cli.server.serving import serve_until_stopped
from ampsweep.cli.server.settings import read_settings
from ampsweep.errors import Unavailable
from ampsweep.telemetry.context import Telemetry
from tests.ampsweep.client.server_process import server_process
from tests.ampsweep.processes import descendants, living
from worker.pool.ray_pool import RayPool

pytestmark = pytest.mark.processes


def test_a_stopped_server_leaves_nothing_running_and_the_next_one_goes_on(
    model: Path, tmp_path: Path, spec: dict[str, Any]
) -> None:
    with server_process(model, tmp_path / "home") as server, Client(server.url) as client:
        started = descendants(server.process.pid)
        assert len(started) > 3, "Ray's processes and the engine's are below the server"
        sweep = client.submit(spec)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
        assert living(started) == set()
    with server_process(model, tmp_path / "home") as server, Client(server.url) as client:
        *_, last = client.watch(sweep.id)
        assert last.status == "completed"
        started = descendants(server.process.pid)
        os.killpg(server.process.pid, signal.SIGINT)  # as a terminal does it: to all at once
        assert server.process.wait(60) == 130
        assert living(started) == set()


@pytest.mark.usefixtures("hangups_are_handled")
def test_a_server_whose_terminal_is_closed_stops_in_an_orderly_way(
    model: Path, tmp_path: Path, spec: dict[str, Any]
) -> None:
    with server_process(model, tmp_path / "home") as server, Client(server.url) as client:
        started = descendants(server.process.pid)
        client.submit(spec)
        os.killpg(server.process.pid, signal.SIGHUP)  # as the kernel does it: to all at once
        assert server.process.wait(60) == 0
        assert living(started) == set()
    with closing(sqlite3.connect(tmp_path / "home" / "ampsweep.db")) as store:
        assert store.execute("SELECT sum(leased) FROM sweeps").fetchall() == [(0,)]
        assert store.execute("SELECT sum(attempts) FROM cells").fetchall() == [(0,)]


def test_every_engine_is_spread_as_the_environment_says(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMPSWEEP_TENSOR_PARALLEL_SIZE", "4")
    engines = served_engines(read_settings(models=[f"small={model}"], pipeline_parallel_size=2))
    assert {(each.vllm.tensor_parallel_size, each.vllm.pipeline_parallel_size) for each in engines} == {(4, 2)}
    assert len(engines) == 2


def test_every_engine_is_batch_invariant_as_the_environment_says(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = [read_settings(models=[f"small={model}"])]
    monkeypatch.setenv("AMPSWEEP_BATCH_INVARIANT", "true")
    settings.append(read_settings(models=[f"small={model}"]))
    for each, expected in zip(settings, (False, True), strict=True):
        assert {engine.vllm.batch_invariant for engine in served_engines(each)} == {expected}
        assert catalog_of(each).batch_invariant is expected


def test_every_engine_has_unfused_experts_as_the_environment_says(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = [read_settings(models=[f"small={model}"])]
    monkeypatch.setenv("AMPSWEEP_UNFUSED_EXPERTS", "true")
    settings.append(read_settings(models=[f"small={model}"]))
    for each, expected in zip(settings, (False, True), strict=True):
        assert {engine.vllm.unfused_experts for engine in served_engines(each)} == {expected}
        assert local_engine(str(model), catalog_of(each, local_models=True), each).vllm.unfused_experts is expected


def test_every_engine_is_compiled_unless_the_option_or_the_environment_says_otherwise(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = [read_settings(models=[f"small={model}"]), read_settings(models=[f"small={model}"], compile=False)]
    monkeypatch.setenv("AMPSWEEP_COMPILE", "false")
    settings.append(read_settings(models=[f"small={model}"]))
    for each, expected in zip(settings, (True, False, False), strict=True):
        assert {engine.vllm.compile for engine in served_engines(each)} == {expected}
        assert local_engine(str(model), catalog_of(each, local_models=True), each).vllm.compile is expected


def test_requests_are_answered_while_ray_is_still_starting(
    model: Path,
    tmp_path: Path,
    spec: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = read_settings(models=[f"tiny={model}"], atlas=False, engine="fake", home=tmp_path / "home", port=0)
    ray_starts, ended = asyncio.Event(), []

    async def begin(_pool: RayPool) -> None:
        ray_starts.set()
        await asyncio.Event().wait()

    async def end(_pool: RayPool) -> None:
        ended.append("Ray")

    async def first_answers() -> signal.Signals | None:
        serving = asyncio.create_task(serve_until_stopped(settings, Telemetry()))
        await ray_starts.wait()
        url = capsys.readouterr().err.split()[2].rstrip(";")
        async with AsyncClient(url, retries=0) as client, httpx.AsyncClient(base_url=url) as http:
            assert (await http.get("/healthz")).status_code == 200
            ready = await http.get("/readyz")
            assert (ready.status_code, ready.json()["missing"]) == (503, ["tiny"])
            assert (await client.submit(spec)).status == "in_progress"
            with pytest.raises(Unavailable, match="is starting") as refused:
                await client.complete("tiny", "Hello")
            assert refused.value.retry_after
        signal.raise_signal(signal.SIGTERM)
        return await serving

    monkeypatch.setattr(RayPool, "_begin", begin)
    monkeypatch.setattr(RayPool, "_end", end)
    assert asyncio.run(first_answers()) is signal.SIGTERM
    assert ended == ["Ray"]


def test_a_cluster_that_cannot_be_joined_stops_the_start(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def begin(_pool: RayPool) -> None:
        raise Unavailable("the Ray cluster at 10.0.0.1:6379 cannot be joined", param="ray_address")

    settings = read_settings(models=[f"tiny={model}"], atlas=False, engine="fake", home=tmp_path / "home", port=0)
    monkeypatch.setattr(RayPool, "_begin", begin)
    with pytest.raises(Unavailable, match="cannot be joined"):
        asyncio.run(serve_until_stopped(settings, Telemetry()))


@pytest.mark.parametrize(
    ("variable", "value", "complaint"),
    [
        ("AMPSWEEP_PORT", "99999", "AMPSWEEP_PORT"),
        ("AMPSWEEP_ENGINE", "llama", "AMPSWEEP_ENGINE"),
        ("AMPSWEEP_MODELS", "here=/no/such/folder", "AMPSWEEP_MODELS.here"),
        ("AMPSWEEP_DATA", "/no/such/folder", "AMPSWEEP_DATA"),
        ("AMPSWEEP_LOG_FORMAT", "xml", "AMPSWEEP_LOG_FORMAT"),
        ("AMPSWEEP_OTLP_ENDPOINT", "collector:4318", "AMPSWEEP_OTLP_ENDPOINT"),
    ],
)
def test_a_bad_setting_stops_the_start_with_its_name(variable: str, value: str, complaint: str, tmp_path: Path) -> None:
    ended = _attempt(tmp_path, environment={variable: value})
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"error: {complaint}")
    assert len(ended.stderr.splitlines()) == 1


def test_a_port_in_use_is_named(model: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        model_options = ("--engine", "fake", "--model", f"tiny={model}", "--no-atlas")
        ended = _attempt(tmp_path, "--port", str(port), *model_options)
    assert ended.returncode == 2
    assert f"127.0.0.1:{port}" in ended.stderr


def test_a_server_without_models_is_an_error(tmp_path: Path) -> None:
    ended = _attempt(tmp_path, "--no-atlas")
    assert ended.returncode == 2
    assert "--model NAME=FOLDER" in ended.stderr


def _attempt(
    folder: Path, *arguments: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ampsweep.cli", "serve", "--home", str(folder / "home"), *arguments],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_connections_leave_half_of_the_open_files_to_the_rest_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (6, 6))

    async def statuses() -> list[int]:
        with closing(listen("127.0.0.1", 0)) as listening:
            host, port = listening.getsockname()
            server = HttpServer(FastAPI())
            answering = asyncio.create_task(server.serve([listening]))
            async with httpx.AsyncClient() as client:
                _, first = await asyncio.open_connection(host, port)
                few = await client.get(f"http://{host}:{port}", headers={"Connection": "close"})
                _, second = await asyncio.open_connection(host, port)
                many = await client.get(f"http://{host}:{port}")
            for writer in (first, second):
                writer.close()
            server.force_exit = server.should_exit = True
            await answering
        return [few.status_code, many.status_code]

    assert asyncio.run(statuses()) == [404, 503]
