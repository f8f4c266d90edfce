"""One real Ray on this machine, engines in other processes, one of them killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ampsweep import own_packages
from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.errors import InvalidRequest, Unavailable, UnknownName
from api.http.change_notifier import ChangeNotifier
from jobs.execution import CompletionCall
from jobs.store.records import RequestCounts
from jobs.store.transitions import SweepState
from tests.worker.installation import ATLAS, Installation, until
from worker.engines import EngineSpec
from worker.pool.ray_pool import RayPool
from worker.resources.machines import Placement, this_machine
from worker.resources.memory import PROCESS_BYTES, EngineMemory, total_memory
from worker.resources.process_limits import ProcessLimit

pytestmark = [
    pytest.mark.processes,
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Ray leaves sockets and processes to the collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

CALL = CompletionCall(
    model="tiny",
    prompt="Paris",
    intervention=None,
    neurons=None,
    sampling=SamplingParams(max_tokens=5),
)


@asynccontextmanager
async def ray_pool(installation: Installation, *, cells_per_engine: int, **engine: Any) -> AsyncIterator[RayPool]:
    pool = RayPool([installation.engine(**engine)], installation.worker_config, cells_per_engine=cells_per_engine)
    await pool.start()
    try:
        await pool.ready()
        yield pool
    finally:
        await pool.stop()


def engine_processes() -> list[int]:
    """Return the processes below this one in which Ray runs an engine."""
    parents: dict[int, int] = {}
    engines = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            pid, status = int(folder.name), (folder / "status").read_text()
            parents[pid] = int(status.partition("PPid:")[2].split()[0])
            if b"RayEngineActor" in (folder / "cmdline").read_bytes():
                engines.append(pid)

    def ours(pid: int) -> bool:
        return pid == os.getpid() or (pid in parents and ours(parents[pid]))

    return [pid for pid in engines if ours(pid)]


async def test_a_sweep_over_ray_survives_the_death_of_an_engine(tmp_path: Path) -> None:
    installation = Installation.build(tmp_path)
    others = set(engine_processes())  # a server that other tests share may be up
    async with ray_pool(installation, count=2, cells_per_engine=2, seconds_per_step=0.35) as pool:
        notifier = ChangeNotifier()
        pool.watch(notifier.notify)
        states: list[tuple[str, ...]] = []
        pool.watch(lambda: states.append(tuple(engine["state"] for engine in pool.engines())))

        niceness = {os.getpriority(os.PRIO_PROCESS, pid) for pid in set(engine_processes()) - others}
        assert niceness == {os.getpriority(os.PRIO_PROCESS, 0)}, "other programs do not run before the engines"
        text = [chunk.text async for chunk in pool.stream(CALL)]
        assert len(text) == 5
        stream = pool.stream(replace(CALL, sampling=SamplingParams(max_tokens=100_000)))
        await anext(stream)
        await stream.aclose()
        with pytest.raises(InvalidRequest, match="tokens"):
            await anext(pool.stream(replace(CALL, prompt="x" * 5000)))
        with pytest.raises(UnknownName):
            await anext(pool.stream(replace(CALL, model="nope")))

        sweep = installation.submit()
        dispatcher = installation.dispatcher(pool, on_change=notifier.notify, poll=0.2)
        dispatcher.start()

        def counts() -> RequestCounts:
            return installation.store.get_sweep(sweep.id).request_counts

        await until(notifier, lambda: counts().completed > 0)
        victims = sorted(set(engine_processes()) - others)
        assert len(victims) == 2
        async with asyncio.timeout(60):  # the death of an engine counts as an attempt of a cell that is alone on it
            while [engine.cells for engine in await pool.metrics()] != [2, 2]:  # noqa: ASYNC110  # nothing tells when
                await asyncio.sleep(0.01)
        os.kill(victims[0], signal.SIGKILL)
        await until(notifier, lambda: installation.store.get_sweep(sweep.id).state is SweepState.COMPLETED)
        assert (counts().completed, counts().failed) == (counts().total, 0)
        await until(notifier, lambda: states[-1] == ("ready", "ready"))
        assert any("starting" in state for state in states), "the death was noticed"
        records = installation.store.list_cells(sweep.id).data
        assert {record.attempts for record in records} == {1}, (
            "a death with several cells in flight counts as an attempt of none"
        )
        assert "cell.retrying" in {event.type for event in installation.store.events(sweep.id)}
        await dispatcher.stop()

        running = asyncio.create_task(pool.run_cell(installation.store.list_cells(sweep.id).data[0].cell, 99))
        await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert len([chunk async for chunk in pool.stream(CALL)]) == 5, "the engine goes on with the others"
    assert set(engine_processes()) <= others


async def joins(address: str, environment: dict[str, str]) -> bool:
    """Whether a process with an environment can join a Ray."""
    script = f"import ray; ray.init(address={address!r}); print('joined', ray.cluster_resources()['CPU'])"
    soon = {"RAY_gcs_rpc_server_reconnect_timeout_s": "5", "RAY_py_gcs_connect_timeout_s": "5"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, env=environment | soon, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    output, _ = await process.communicate()
    return output.startswith(b"joined")


async def test_ray_requires_the_servers_token(tmp_path: Path) -> None:
    async with ray_pool(Installation.build(tmp_path), cells_per_engine=1):
        import ray

        address = ray.get_runtime_context().gcs_address
        stranger = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
        without = {**stranger, "RAY_AUTH_MODE": "disabled"}
        reader = {**stranger, "RAY_AUTH_MODE": "token"}  # of the file in which Ray would have left a token of its own
        guess = {**reader, "RAY_AUTH_TOKEN": "0" * 64}
        joined = await asyncio.gather(*(joins(address, one) for one in (dict(os.environ), without, reader, guess)))
        assert joined == [True, False, False, False]


async def test_engines_of_one_machine_are_added_up_before_they_load(installation: Installation) -> None:
    spec = EngineSpec(model="tiny", folder=ATLAS / "model", kind="transformers")
    pool = RayPool([spec], installation.worker_config)
    other = EngineMemory(spec=replace(spec, model="other"), weights=total_memory() - 2 * PROCESS_BYTES, kv_cache=0)
    pool._machines.reserve("other", Placement(machine=this_machine(), engine=other))
    await pool.start()
    try:
        with pytest.raises(InvalidRequest, match=r"not enough memory on .* \(other: .*; tiny: weights in float32"):
            await pool.ready()
        (state,) = pool.engines()
        assert state["state"] == "failed"
    finally:
        await pool.stop()


@pytest.mark.parametrize(("chosen", "expected"), [(None, "0"), ("1", "1")])
async def test_a_local_ray_starts_with_no_process_but_those_of_engines_unless_the_user_wants_it(
    chosen: str | None, expected: str, installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    name = "RAY_prestart_worker_first_driver"
    monkeypatch.setenv(name, "")  # so that the test restores it
    monkeypatch.delenv(name) if chosen is None else monkeypatch.setenv(name, chosen)
    started: list[str | None] = []
    monkeypatch.setattr(ray, "init", lambda **_: started.append(os.environ.get(name)))
    monkeypatch.setattr("worker.pool.ray_pool._set_auth_token", lambda: None)
    await RayPool([installation.engine()], installation.worker_config)._begin()
    assert started == [expected]


async def test_an_unreachable_cluster_is_reported_with_its_address(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    def refused(**_options: object) -> None:
        raise ConnectionError("no answer")

    monkeypatch.setattr(ray, "init", refused)
    pool = RayPool([installation.engine()], installation.worker_config, address="10.0.0.1:6379")
    with pytest.raises(Unavailable, match=r"10\.0\.0\.1:6379 cannot be joined: no answer"):
        await pool.start()
    await pool.stop()


async def test_a_local_ray_that_does_not_start_in_time_is_reported_with_what_to_do(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    def timed_out(**_options: object) -> None:
        raise Exception("The current node timed out during startup.")  # as Ray does

    monkeypatch.setattr(ray, "init", timed_out)
    monkeypatch.setattr("worker.pool.ray_pool._set_auth_token", lambda: None)
    monkeypatch.setattr("worker.pool.ray_pool.process_limit", lambda: None)
    monkeypatch.setenv("RAY_TMPDIR", "/scratch")
    pool = RayPool([installation.engine()], installation.worker_config)
    reported = (
        r"Ray did not start: The current node .* startup\. Start .* less busy .* in /scratch/ray/session_latest/logs"
    )
    with pytest.raises(Unavailable, match=reported):
        await pool.start()
    await pool.stop()


@pytest.mark.parametrize(
    "error", [Exception("The current node timed out during startup."), RuntimeError("Timed out waiting for file port")]
)
async def test_a_local_ray_that_may_start_too_few_processes_is_reported_with_their_limit(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    import ray

    def fail(**_options: object) -> None:
        raise error

    monkeypatch.setattr(ray, "init", fail)
    monkeypatch.setattr("worker.pool.ray_pool._set_auth_token", lambda: None)
    monkeypatch.setattr(
        "worker.pool.ray_pool.process_limit", lambda: ProcessLimit(most=60, remedy="raise it: ulimit -u 1024")
    )
    pool = RayPool([installation.engine()], installation.worker_config)
    with pytest.raises(Unavailable, match=rf"{error}\.? It may need more than the 60 processes .*: ulimit -u 1024\."):
        await pool.start()
    await pool.stop()


async def test_an_address_that_is_none_is_an_error_of_its_setting(installation: Installation) -> None:
    pool = RayPool([installation.engine()], installation.worker_config, address="nowhere")
    with pytest.raises(InvalidRequest, match=r"'nowhere' is not the address of a Ray cluster; .*HOST:PORT") as caught:
        await pool.start()
    assert caught.value.param == "ray_address"
    await pool.stop()


async def test_a_cancelled_start_stops_the_processes_it_started(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray is started in a thread, which nobody can stop; it must not be left behind."""
    begun, goes_on, ended = asyncio.Event(), threading.Event(), list[str]()
    loop = asyncio.get_running_loop()

    def connect(_pool: RayPool) -> SimpleNamespace:
        loop.call_soon_threadsafe(begun.set)
        assert goes_on.wait(30)
        return SimpleNamespace(shutdown=lambda: ended.append("Ray"))

    monkeypatch.setattr(RayPool, "_connect", connect)
    pool = RayPool([installation.engine()], installation.worker_config)
    starting = asyncio.create_task(pool.start())
    await begun.wait()
    starting.cancel()
    await asyncio.sleep(0)
    assert not starting.done()
    goes_on.set()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await pool.stop()
    assert ended == ["Ray"]


async def test_an_engine_does_not_start_among_packages_that_shadow_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installation = Installation.build(tmp_path)
    shadow = tmp_path / "elsewhere" / "worker.py"
    shadow.parent.mkdir()
    shadow.write_text("")
    root = Path(own_packages.__file__).parents[1]
    monkeypatch.setenv("PYTHONPATH", f"{shadow.parent}{os.pathsep}{root}")  # of the processes that Ray starts
    pool = RayPool([installation.engine()], installation.worker_config)
    reports: asyncio.Queue[None] = asyncio.Queue()
    pool.watch(lambda: reports.put_nowait(None))
    await pool.start()
    try:
        async with asyncio.timeout(60):
            while not (error := pool.engines()[0]["error"]):
                await reports.get()
    finally:
        await pool.stop()
    assert f"package 'worker' is imported from {shadow} instead of {root / 'worker'}; rename {shadow}" in error
