"""What the vLLM engine refuses before any of it reaches vLLM."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from ampsweep.errors import InvalidRequest
from engine.intervention import Intervention
from engine.protocol import EngineInfo, Mode, ScoreRequest, Steering
from engine.vllm_engine import VllmEngine, _takes_statistics
from engine.vllm_patch.launch import VllmSettings
from engine.vllm_patch.loop import EngineLoop
from tests.engine.neuron_sets import make_neuron_set

NEURONS = make_neuron_set({"fr": [(0, 1), (1, 5)]})


def _engine(*, takes_statistics: bool) -> VllmEngine:
    """Return an engine whose vLLM is never started."""
    info = EngineInfo(
        kind="vllm",
        model=NEURONS.model,
        fingerprint=NEURONS.fingerprint,
        model_class="",
        layers=NEURONS.layers,
        width=NEURONS.width,
        dtype="float32",
        max_model_len=64,
    )
    tokenizer: Any = SimpleNamespace(
        encode=lambda text, **_: list(text.encode()),
        decode=lambda ids, **_: bytes(ids).decode(),
        get_vocab=dict,
        all_special_ids=[],
    )
    loop = EngineLoop(lambda: pytest.fail("vLLM is asked"), asyncio.get_running_loop())
    return VllmEngine(info, loop, tokenizer, VllmSettings(), embedding_rows=256, takes_statistics=takes_statistics)


def _refusal(raw: dict[str, Any], mode: Mode, *, takes_statistics: bool) -> InvalidRequest:
    async def ask() -> None:
        engine = _engine(takes_statistics=takes_statistics)
        engine.add_neurons(NEURONS)
        steering = Steering(intervention=Intervention.from_dict(raw), neurons=NEURONS.id, mode=mode)
        await engine.score(ScoreRequest(context="a", continuation="b", steering=steering))

    with pytest.raises(InvalidRequest) as refused:
        asyncio.run(asyncio.wait_for(ask(), timeout=5))
    return refused.value


def test_a_statistic_of_a_layer_that_gpus_share_is_refused() -> None:
    refused = _refusal(
        {"languages": ["fr"], "op": "set", "statistic": "mean"}, mode="corrected", takes_statistics=False
    )
    assert refused.param == "intervention.statistic"
    assert "use one GPU" in refused.message


@pytest.mark.parametrize(
    ("path", "ranks", "takes"), [("device", 1, True), ("device", 2, False), ("host", 1, True), ("host", 2, True)]
)
def test_statistics_are_taken_by_one_device_or_by_the_host(path: str, ranks: int, *, takes: bool) -> None:
    config = SimpleNamespace(
        additional_config={"ampsweep": {"path": path}}, parallel_config=SimpleNamespace(tensor_parallel_size=ranks)
    )
    engine: Any = SimpleNamespace(vllm_config=config)
    assert _takes_statistics(engine) is takes


def test_a_statistic_in_mode_paper_is_refused_by_name() -> None:
    refused = _refusal({"languages": ["fr"], "op": "set", "statistic": "mean"}, mode="paper", takes_statistics=True)
    assert refused.param == "mode"
    assert "use the engine transformers" in refused.message
