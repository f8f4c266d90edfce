"""The sum of the engines on one machine of a cluster, before any of them loads its model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from ampsweep.errors import InvalidRequest, Unavailable
from worker.engines import EngineSpec
from worker.pool.ray_session import RayEngineSession
from worker.resources import machines
from worker.resources.machines import Machine, Machines, Placement, this_machine
from worker.resources.memory import GIB, PROCESS_BYTES, EngineMemory

SMALL = EngineSpec(model="small", folder=Path("/small"), kind="transformers")
LARGE = EngineSpec(model="large", folder=Path("/large"), dtype="bfloat16")
FIRST = Machine(id="a", host="node-a", memory=10 * GIB, has_gpu=False)
SECOND = Machine(id="b", host="node-b", memory=10 * GIB, has_gpu=False)


def placed(machine: Machine, spec: EngineSpec = SMALL, *, weights: int = 4 * GIB, kv_cache: int = 0) -> Placement:
    return Placement(machine=machine, engine=EngineMemory(spec=spec, weights=weights, kv_cache=kv_cache))


def test_what_fits_alone_is_refused_beside_the_others_on_its_machine() -> None:
    pool = Machines()
    pool.reserve("one", placed(FIRST))
    pool.reserve("two", placed(FIRST))
    pool.reserve("elsewhere", placed(SECOND))
    with pytest.raises(InvalidRequest) as refused:
        pool.reserve("three", placed(FIRST, LARGE, weights=GIB // 2, kv_cache=GIB))
    assert refused.value.param == "dtype"
    assert refused.value.message == (
        "not enough memory on node-a for the engines that Ray placed there: 11.0 GiB will be allocated, the "
        "machine has 10.0 GiB (small x 2 engines: weights in float32 8.0 GiB; large: weights in bfloat16 0.5 GiB, KV "
        "cache 1.0 GiB); choose --dtype bfloat16, which halves the weights, load a smaller model or fewer engines, or "
        "free memory, or raise `cpus` of these models, so that Ray places fewer engines on a machine"
    )


def test_an_engine_that_was_refused_or_has_ended_takes_no_memory() -> None:
    pool = Machines()
    pool.reserve("one", placed(FIRST, weights=9 * GIB))
    for session in ("two", "three"):
        with pytest.raises(InvalidRequest):
            pool.reserve(session, placed(FIRST, weights=9 * GIB))
    pool.release("two")
    pool.release("one")
    pool.reserve("four", placed(FIRST, weights=10 * GIB - PROCESS_BYTES))


def test_an_engine_that_moved_may_be_tried_again() -> None:
    pool = Machines()
    pool.reserve("one", placed(FIRST, weights=9 * GIB))
    pool.all_started = True
    with pytest.raises(Unavailable, match="not enough memory on node-a"):
        pool.reserve("two", placed(FIRST, weights=9 * GIB))


def test_engines_on_one_gpu_are_refused() -> None:
    machine = replace(FIRST, has_gpu=True)
    pool = Machines()
    pool.reserve("one", placed(machine, replace(LARGE, gpus=1), weights=0))
    pool.reserve("two", placed(machine, replace(LARGE, gpus=1), weights=0))
    with pytest.raises(InvalidRequest, match=r"share a GPU on node-a: .*model small reserves 0 of the 1"):
        pool.reserve("three", placed(machine, replace(SMALL, kind="vllm"), weights=0))


def test_a_machine_has_one_identity_until_it_boots_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = this_machine()
    assert before == this_machine()
    assert before.memory > 0
    monkeypatch.setattr(machines, "_BOOT", tmp_path / "boot_id")
    assert this_machine().id == before.host, "no file says when it booted"
    (tmp_path / "boot_id").write_text("another\n")
    assert this_machine().id not in (before.id, before.host)


@pytest.mark.anyio
async def test_a_refused_engine_never_begins_to_load() -> None:
    calls: list[str] = []

    async def place() -> Placement:
        calls.append("place")
        return placed(FIRST, weights=9 * GIB)

    async def load() -> None:
        calls.append("open")

    actor = SimpleNamespace(place=SimpleNamespace(remote=place), open=SimpleNamespace(remote=load))
    pool = Machines()
    await RayEngineSession(actor, pool).open()
    with pytest.raises(InvalidRequest, match="not enough memory"):
        await RayEngineSession(actor, pool).open()
    assert calls == ["place", "open", "place"]
