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


async def test_vllm_is_run_as_the_spec_says(installation: Installation, opened: list[VllmSettings]) -> None:
    settings = VllmSettings(tensor_parallel_size=4, pipeline_parallel_size=2, compile=False, tool_call_parser="hermes")
    await open_engine(replace(installation.engine(), kind="vllm", vllm=settings))
    assert opened == [settings]
    assert settings.workers == 8


@pytest.mark.parametrize("kind", ["fake", "transformers"])
@pytest.mark.parametrize(
    ("param", "value", "message"),
    [
        ("tensor_parallel_size", 2, "tensor_parallel_size > 1 requires the vllm engine, not KIND"),
        ("pipeline_parallel_size", 2, "pipeline_parallel_size > 1 requires the vllm engine, not KIND"),
        ("batch_invariant", True, "requires the vllm engine, not KIND; leave out --batch-invariant"),
        ("unfused_experts", True, "fused kernel for experts, not KIND; leave out --unfused-experts"),
        ("compile", False, "compiles the model, not KIND; leave out --no-compile"),
        ("tool_call_parser", "hermes", "by the vllm engine only, not by KIND; leave out --tool-call-parser"),
    ],
)
async def test_other_engines_have_no_options_of_vllm(
    param: str, value: object, message: str, kind: str, installation: Installation
) -> None:
    chosen: dict[str, Any] = {param: value}
    with pytest.raises(InvalidRequest, match=message.replace("KIND", kind)) as caught:
        await open_engine(replace(installation.engine(), kind=kind, vllm=VllmSettings(**chosen)))
    assert caught.value.param == param


async def test_every_engine_can_leave_tool_calls_in_the_text(installation: Installation) -> None:
    engine = await open_engine(replace(installation.engine(), vllm=VllmSettings(tool_call_parser="none")))
    assert engine.info.kind == "fake"


async def test_an_unknown_kind_is_rejected_with_the_valid_ones(installation: Installation) -> None:
    with pytest.raises(UnknownName, match="fake, transformers, vllm"):
        await open_engine(replace(installation.engine(), kind="nope"))


async def test_the_transformers_engine_has_no_adapters(installation: Installation) -> None:
    adapted = VllmSettings(adapters={"formal": Path("adapters/formal")})
    with pytest.raises(InvalidRequest, match="require the vllm engine, not transformers; leave out --lora") as caught:
        await open_engine(replace(installation.engine(), kind="transformers", vllm=adapted))
    assert caught.value.param == "lora"


async def test_memory_that_runs_out_while_a_model_is_loaded_is_named(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def open_vllm(*_: object, **__: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(VllmEngine, "open", open_vllm)
    with pytest.raises(EngineFailed, match="not enough memory to load tiny; choose --dtype bfloat16") as failed:
        await open_engine(replace(installation.engine(), kind="vllm"))
    assert failed.value.param == "dtype"
