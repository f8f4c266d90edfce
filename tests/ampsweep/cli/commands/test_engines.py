"""`ampsweep engines` and `engines retry`, and a server that keeps running without an engine until it is retried."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from ampsweep.cli.app import app
from ampsweep.cli.server.serving import follow_engines, start_engines
from ampsweep.cli.server.settings import Settings, read_settings
from ampsweep.errors import UnsupportedModel
from tests.ampsweep.client.server_process import ServerProcess
from tests.worker.pool.test_pool import StubSession, StubSessionPool, pool_of


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.processes
def test_the_engines_of_a_server_are_listed_and_a_ready_one_is_not_retried(server: ServerProcess) -> None:
    listed = call("engines", "--server", server.url)
    assert listed.exit_code == 0
    assert listed.stdout.split() == ["tiny:0", "fake", "ready"]
    (engine,) = map(json.loads, call("engines", "--server", server.url, "--json").stdout.splitlines())
    assert (engine["model"], engine["state"], engine["supervised"]) == ("tiny", "ready", True)
    ready = call("engines", "retry", "tiny", "--server", server.url)
    assert ready.exit_code == 3
    assert ready.stderr == "error: model: all engines of model 'tiny' are ready; there is nothing to retry\n"
    unknown = call("engines", "retry", "org/nope", "--server", server.url)
    assert unknown.exit_code == 3
    assert unknown.stderr == (
        "error: model: this server has no engine for model 'org/nope'; `ampsweep engines` lists them\n"
    )


@pytest.mark.parametrize("option", [("--server", "http://127.0.0.1:9"), ("--json",)])
def test_an_option_before_the_subcommand_is_refused(option: tuple[str, ...]) -> None:
    result = call("engines", *option, "retry", "tiny")
    assert result.exit_code == 2, result.output
    assert f"{option[0]}: goes behind retry: ampsweep engines retry MODEL {option[0]}" in " ".join(
        result.output.split()
    )


@pytest.mark.anyio
async def test_a_server_goes_on_without_its_engine_until_that_is_retried(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = True
    pool = pool_of(1, lambda: StubSession(OSError("the GPU is taken") if broken else None))
    server = await bring_up(pool, read_settings(models=[f"tiny={model}"], atlas=False))
    assert not server.should_exit
    output = capsys.readouterr()
    assert "tiny has no engine: the engine did not start: the GPU is taken" in output.err
    assert "ampsweep engines retry tiny" in output.err
    assert json.loads(output.out)["models"] == []
    broken = False
    pool.retry("tiny")
    await pool.ready()
    await pool.stop()


@pytest.mark.anyio
async def test_a_model_that_no_engine_can_steer_stops_the_server(model: Path) -> None:
    pool = pool_of(1, lambda: StubSession(UnsupportedModel("no MLP that can be steered")))
    server = SimpleNamespace(should_exit=False, hear_signals=lambda: None)
    with pytest.raises(UnsupportedModel):
        await bring_up(pool, read_settings(models=[f"tiny={model}"], atlas=False), server)
    assert server.should_exit
    await pool.stop()


@pytest.mark.anyio
async def test_the_restart_of_an_engine_is_shown_on_the_console(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ampsweep.cli.terminal.engine_starts.REFRESH_SECONDS", 0.01)
    pool = pool_of(1)
    second = StubSession()
    second.may_open.clear()
    server: Any = SimpleNamespace(should_exit=False, hear_signals=lambda: None)
    settings = read_settings(models=[f"tiny={model}"], atlas=False)
    shown = ""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        following = asyncio.create_task(follow_engines(server, pool, settings, listening, as_json=True))
        async with asyncio.timeout(30):
            while "tiny: ready" not in shown:
                await asyncio.sleep(0.01)
                shown += capsys.readouterr().err
            pool.make = lambda: second
            pool.made[0].end.set()
            while "(restarted after: the engine ended" not in shown:
                await asyncio.sleep(0.01)
                shown += capsys.readouterr().err
            second.may_open.set()
            while shown.count("tiny: ready") < 2:
                await asyncio.sleep(0.01)
                shown += capsys.readouterr().err
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    await pool.stop()


async def bring_up(pool: StubSessionPool, settings: Settings, server: Any = None) -> Any:
    server = server or SimpleNamespace(should_exit=False, hear_signals=lambda: None)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        await start_engines(server, pool, settings, listening, as_json=True)
    return server
