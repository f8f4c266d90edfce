from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ampsweep.errors import InvalidRequest, UnknownName
from engine.vllm_engine import VllmEngine
from engine.vllm_patch.launch import VllmSettings
from tests.worker.house import House
from worker.engines import open_engine

pytestmark = pytest.mark.anyio


async def test_an_engine_is_opened_by_its_kind(house: House) -> None:
    info = (await open_engine(house.engine(max_model_len=99))).info
    assert (info.kind, info.model, info.max_model_len) == ("fake", "tiny", 99)
    assert info.fingerprint == house.catalog.model("tiny").fingerprint


async def test_a_vllm_engine_is_spread_as_the_spec_says(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[VllmSettings] = []

    async def open_vllm(*_: object, settings: VllmSettings, **__: object) -> None:
        opened.append(settings)

    monkeypatch.setattr(VllmEngine, "open", open_vllm)
    await open_engine(replace(house.engine(), kind="vllm", tensor_parallel_size=4, pipeline_parallel_size=2))
    assert [(each.tensor_parallel_size, each.pipeline_parallel_size, each.workers) for each in opened] == [(4, 2, 8)]


@pytest.mark.parametrize("param", ["tensor_parallel_size", "pipeline_parallel_size"])
async def test_other_engines_are_not_spread(house: House, param: str) -> None:
    changes: dict[str, Any] = {param: 2}
    with pytest.raises(InvalidRequest, match="needs the vllm engine; this one is fake") as caught:
        await open_engine(replace(house.engine(), **changes))
    assert caught.value.param == param


async def test_an_unknown_kind_is_told_with_those_known(house: House) -> None:
    with pytest.raises(UnknownName, match="fake, transformers, vllm"):
        await open_engine(replace(house.engine(), kind="nope"))
