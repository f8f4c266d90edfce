from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ampsweep.errors import EngineFailed, InvalidRequest, UnknownName
from engine.vllm.engine import VllmEngine
from engine.vllm.settings import VllmSettings
from tests.worker.installation import Installation
from worker.engines import open_engine

pytestmark = pytest.mark.anyio


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[VllmSettings]:
    """The settings with which vLLM's engines are asked to open; none is opened."""
    opened: list[VllmSettings] = []

    async def open_vllm(*_: object, settings: VllmSettings, **__: object) -> None:
        opened.append(settings)

    monkeypatch.setattr(VllmEngine, "open", open_vllm)
    return opened


async def test_an_engine_is_opened_by_its_kind(installation: Installation) -> None:
    info = (await open_engine(installation.engine(max_model_len=99))).info
    assert (info.kind, info.model, info.max_model_len) == ("fake", "tiny", 99)
    assert info.fingerprint == installation.catalog.model("tiny").fingerprint


async def test_a_vllm_engine_is_spread_as_the_spec_says(installation: Installation, opened: list[VllmSettings]) -> None:
    await open_engine(replace(installation.engine(), kind="vllm", tensor_parallel_size=4, pipeline_parallel_size=2))
    assert [(each.tensor_parallel_size, each.pipeline_parallel_size, each.workers) for each in opened] == [(4, 2, 8)]


@pytest.mark.parametrize("param", ["tensor_parallel_size", "pipeline_parallel_size"])
async def test_other_engines_are_not_spread(installation: Installation, param: str) -> None:
    changes: dict[str, Any] = {param: 2}
    with pytest.raises(InvalidRequest, match="requires the vllm engine, not fake") as caught:
        await open_engine(replace(installation.engine(), **changes))
    assert caught.value.param == param


async def test_a_vllm_engine_is_batch_invariant_if_the_spec_says_so(
    installation: Installation, opened: list[VllmSettings]
) -> None:
    for batch_invariant in (False, True):
        await open_engine(replace(installation.engine(), kind="vllm", batch_invariant=batch_invariant))
    assert [settings.batch_invariant for settings in opened] == [False, True]


@pytest.mark.parametrize("kind", ["fake", "transformers"])
async def test_other_engines_are_not_batch_invariant(installation: Installation, kind: str) -> None:
    with pytest.raises(InvalidRequest, match=f"requires the vllm engine, not {kind}; leave out") as caught:
        await open_engine(replace(installation.engine(), kind=kind, batch_invariant=True))
    assert caught.value.param == "batch_invariant"


async def test_the_experts_of_a_vllm_engine_are_unfused_if_the_spec_says_so(
    installation: Installation, opened: list[VllmSettings]
) -> None:
    for unfused in (False, True):
        await open_engine(replace(installation.engine(), kind="vllm", unfused_experts=unfused))
    assert [settings.unfused_experts for settings in opened] == [False, True]
    for kind in ("fake", "transformers"):
        with pytest.raises(InvalidRequest, match=f"not {kind}; leave out --unfused-experts") as caught:
            await open_engine(replace(installation.engine(), kind=kind, unfused_experts=True))
        assert caught.value.param == "unfused_experts"


async def test_only_vllm_is_told_whether_to_compile(installation: Installation, opened: list[VllmSettings]) -> None:
    for compiles in (False, True):
        await open_engine(replace(installation.engine(), kind="vllm", compile=compiles))
    assert [settings.compile for settings in opened] == [False, True]
    for kind in ("fake", "transformers"):
        with pytest.raises(InvalidRequest, match=f"not {kind}; leave out --no-compile") as caught:
            await open_engine(replace(installation.engine(), kind=kind, compile=False))
        assert caught.value.param == "compile"


async def test_an_unknown_kind_is_rejected_with_the_valid_ones(installation: Installation) -> None:
    with pytest.raises(UnknownName, match="fake, transformers, vllm"):
        await open_engine(replace(installation.engine(), kind="nope"))


async def test_only_vllm_has_adapters(installation: Installation, opened: list[VllmSettings]) -> None:
    adapters = {"formal": Path("adapters/formal")}
    await open_engine(replace(installation.engine(), kind="vllm", adapters=adapters))
    assert [settings.adapters for settings in opened] == [adapters]
    with pytest.raises(InvalidRequest, match="require the vllm engine, not transformers; leave out --lora") as caught:
        await open_engine(replace(installation.engine(), kind="transformers", adapters=adapters))
    assert caught.value.param == "lora"


async def test_only_vllm_parses_tool_calls(installation: Installation, opened: list[VllmSettings]) -> None:
    await open_engine(replace(installation.engine(), kind="vllm", tool_call_parser="hermes"))
    assert [settings.tool_call_parser for settings in opened] == ["hermes"]
    with pytest.raises(InvalidRequest, match="by the vllm engine only, not by fake; leave out") as caught:
        await open_engine(replace(installation.engine(), tool_call_parser="hermes"))
    assert caught.value.param == "tool_call_parser"


async def test_memory_that_runs_out_while_a_model_is_loaded_is_named(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def open_vllm(*_: object, **__: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(VllmEngine, "open", open_vllm)
    with pytest.raises(EngineFailed, match="not enough memory to load tiny; choose --dtype bfloat16") as failed:
        await open_engine(replace(installation.engine(), kind="vllm"))
    assert failed.value.param == "dtype"
