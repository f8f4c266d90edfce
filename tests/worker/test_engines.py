from __future__ import annotations

from dataclasses import replace

import pytest

from ampsweep.errors import UnknownName
from tests.worker.house import House
from worker.engines import open_engine

pytestmark = pytest.mark.anyio


async def test_an_engine_is_opened_by_its_kind(house: House) -> None:
    info = (await open_engine(house.engine(max_model_len=99))).info
    assert (info.kind, info.model, info.max_model_len) == ("fake", "tiny", 99)
    assert info.fingerprint == house.catalog.model("tiny").fingerprint


async def test_an_unknown_kind_is_told_with_those_known(house: House) -> None:
    with pytest.raises(UnknownName, match="fake, transformers, vllm"):
        await open_engine(replace(house.engine(), kind="nope"))
