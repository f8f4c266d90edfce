"""The vLLM engine's own work: checks of requests, reading of the vocabulary, and aborts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ampsweep.bundled import ATLAS_MODEL
from ampsweep.domain.choices import Mode
from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.domain.intervention import Intervention
from ampsweep.errors import AmpsweepError, EngineFailed, InvalidRequest, UnknownName, UnsupportedModel
from ampsweep.folders.model import read_model_folder
from engine.base import GenerateRequest, Priority, ScoreRequest, Steering
from engine.identify.record_request import RecordRequest
from engine.vllm import engine as engine_module
from engine.vllm.engine import VllmEngine
from engine.vllm.launch import LoadedModel, loaded_model
from engine.vllm.loop import EngineLoop, WorkerResult
from engine.vllm.requests.request_extras import RequestExtras
from engine.vllm.settings import VllmSettings
from tests.engine.neuron_sets import info_of, make_neuron_set
from tests.engine.vllm.stub_vllm import stub_engine

NEURONS = make_neuron_set({"fr": [(0, 1), (1, 5)]})


def _engine(*, takes_statistics: bool) -> VllmEngine:
    """Return an engine whose vLLM is never started."""
    tokenizer: Any = SimpleNamespace(
        encode=lambda text, **_: list(text.encode()),
        decode=lambda ids, **_: bytes(ids).decode(),
        get_vocab=dict,
        convert_ids_to_tokens=lambda ids: list(map(chr, ids)),
        all_special_ids=[],
    )
    loop = EngineLoop(lambda: pytest.fail("vLLM is asked"), asyncio.get_running_loop())
    return VllmEngine(
        info_of(NEURONS), loop, tokenizer, VllmSettings(), embedding_rows=256, takes_statistics=takes_statistics
    )


def _refusal(raw: dict[str, Any], mode: Mode, *, takes_statistics: bool) -> InvalidRequest:
    async def ask() -> None:
        engine = _engine(takes_statistics=takes_statistics)
        engine.add_neurons(NEURONS)
        steering = Steering(intervention=Intervention.from_dict(raw), neurons=NEURONS.id, mode=mode)
        await engine.score(ScoreRequest(context="a", continuation="b", steering=steering))

    with pytest.raises(InvalidRequest) as refused:
        asyncio.run(asyncio.wait_for(ask(), timeout=5))
    return refused.value


@pytest.mark.parametrize("step", ["_described", "self_test"])
def test_a_start_that_fails_after_the_loop_has_begun_stops_the_loop(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = []

    class Loop:
        def __init__(self, *_: object) -> None: ...

        async def start(self) -> None: ...

        async def stop(self) -> None:
            stopped.append(self)

    async def described(*_: object, **__: object) -> object:
        if step == "_described":
            raise UnsupportedModel("no")
        return object()

    async def failing_self_test(_engine: object) -> None:
        raise UnsupportedModel("no")

    monkeypatch.setattr(engine_module, "EngineLoop", Loop)
    monkeypatch.setattr(engine_module, "read_model_folder", lambda *_, **__: None)
    monkeypatch.setattr(engine_module, "check_checkpoint", lambda _folder: None)
    monkeypatch.setattr(engine_module, "self_test", failing_self_test)
    monkeypatch.setattr(VllmEngine, "_described", described)
    with pytest.raises(UnsupportedModel):
        asyncio.run(VllmEngine.open(tmp_path))
    assert len(stopped) == 1


def test_a_statistic_is_rejected_with_tensor_parallelism() -> None:
    refused = _refusal(
        {"languages": ["fr"], "op": "set", "statistic": "mean"}, mode="corrected", takes_statistics=False
    )
    assert refused.param == "intervention.statistic"
    assert "use one GPU" in refused.message


def test_the_residual_is_not_counted_on_the_cuda_backend() -> None:
    class Loop:
        async def call(self, function: Callable[[object], object]) -> object:
            return function(
                SimpleNamespace(vllm_config=SimpleNamespace(additional_config={"ampsweep": {"backend": "cuda"}}))
            )

    async def record() -> None:
        engine = _engine(takes_statistics=True)
        engine._loop = Loop()  # type: ignore[assignment]
        await engine.record([], RecordRequest(max_tokens=10, residual_counts=True))

    with pytest.raises(InvalidRequest, match="identify on a CPU") as refused:
        asyncio.run(record())
    assert refused.value.param == "residual_counts"


@pytest.mark.parametrize(
    ("parts", "kind", "message"),
    [
        ([None, np.array([-1.0, np.nan], dtype=np.float32)], InvalidRequest, "NaN.*even without an intervention"),
        ([None, None], EngineFailed, "no worker scored"),
    ],
)
def test_what_no_worker_scored_is_told_from_what_is_no_number(
    parts: list[Any], kind: type[AmpsweepError], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask() -> None:
        engine = _engine(takes_statistics=True)

        async def run(prompt: object, extras: object, priority: object, result: WorkerResult, **_: object) -> None:
            result.parts.extend(parts)

        monkeypatch.setattr(engine._one_pass, "run", run)
        await engine.score(ScoreRequest(context="a", continuation="bc"))

    with pytest.raises(kind, match=message):
        asyncio.run(asyncio.wait_for(ask(), timeout=5))


def test_a_statistic_is_rejected_in_mode_paper() -> None:
    refused = _refusal({"languages": ["fr"], "op": "set", "statistic": "mean"}, mode="paper", takes_statistics=True)
    assert refused.param == "mode"
    assert "use the engine transformers" in refused.message


def test_a_dropped_neuron_set_is_unknown_even_after_use() -> None:
    async def ask() -> None:
        engine = _engine(takes_statistics=True)
        engine.add_neurons(NEURONS)
        intervention = Intervention.from_dict({"languages": ["fr"], "op": "scale", "factor": 2.0})
        steering = Steering(intervention=intervention, neurons=NEURONS.id)
        async with engine._slot(steering, Priority.BATCH):
            pass
        engine.drop_neurons(NEURONS.id)
        with pytest.raises(UnknownName, match=NEURONS.id):
            await engine.score(ScoreRequest(context="a", continuation="b", steering=steering))

    asyncio.run(asyncio.wait_for(ask(), timeout=5))


def test_the_vocabulary_is_read_outside_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    readers: list[threading.Thread] = []

    def vocabulary() -> dict[str, int]:
        readers.append(threading.current_thread())
        return {}

    tokenizer: Any = SimpleNamespace(
        encode=lambda text, **_: list(text.encode()),
        decode=lambda ids, **_: bytes(ids).decode(),
        get_vocab=vocabulary,
        all_special_ids=[],
    )

    async def call(function: object) -> Any:
        return LoadedModel(tokenizer, "LlamaForCausalLM", 64, 256, 16) if function is loaded_model else True

    async def describe() -> VllmEngine:
        return await VllmEngine._described(loop, ATLAS_MODEL, shape, dtype="float32", settings=VllmSettings())

    monkeypatch.setattr("engine.vllm.engine.version", lambda _: "1")
    monkeypatch.setattr("engine.vllm.engine.reported_version", lambda: "1")
    loop: Any = SimpleNamespace(call=call)
    shape = read_model_folder(ATLAS_MODEL)
    assert asyncio.run(describe()).info.max_model_len == 64
    assert readers
    assert threading.current_thread() not in readers


def test_submitted_answers_are_aborted_if_a_later_one_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def params(_: SamplingParams, *, index: int, **_more: object) -> RequestExtras:
        if index == 1:
            raise ValueError("vLLM refuses the parameters")
        return RequestExtras()

    async def ask() -> None:
        async for _ in engine.generate(GenerateRequest(prompt="a", sampling=SamplingParams(max_tokens=1, n=2))):
            pytest.fail("an answer")

    engine, loop, _ = stub_engine(monkeypatch)
    aborted: list[str] = []
    monkeypatch.setattr("engine.vllm.requests.answers.answer_params", params)
    monkeypatch.setattr(loop, "abort", aborted.append)
    with pytest.raises(ValueError, match="vLLM refuses"):
        asyncio.run(asyncio.wait_for(ask(), timeout=5))
    assert aborted == ["request"]


@pytest.mark.parametrize(("release", "tested"), [("0.32.0+cpu", True), ("0.99.0", False)])
def test_an_untested_release_is_logged_and_tested_more(
    release: str, tested: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ran: list[str] = []

    async def loop_step(*_: object) -> None:
        ran.append("loop")

    async def described(*_: object, **_options: object) -> str:
        return "engine"

    async def self_test(_: object) -> str:
        ran.append("self-test")
        return "neurons"

    async def release_test(engine: str, neurons: str, _: object) -> None:
        ran.append(f"release test of {engine} with {neurons}")

    loop = SimpleNamespace(start=loop_step, stop=loop_step)
    for name, stand_in in {
        "version": {"vllm": release}.__getitem__,
        "read_model_folder": lambda *_, **_options: None,
        "check_checkpoint": lambda _: None,
        "EngineLoop": lambda *_: loop,
        "self_test": self_test,
        "release_test": release_test,
    }.items():
        module = "versions" if name == "version" else "engine"
        monkeypatch.setattr(f"engine.vllm.{module}.{name}", stand_in)
    monkeypatch.setattr(VllmEngine, "_described", described)
    asyncio.run(VllmEngine.open(tmp_path))
    further = [] if tested else ["release test of engine with neurons"]
    assert ran == ["loop", "self-test", *further]
    messages = [record.getMessage() for record in caplog.records if record.name == "engine.vllm.engine"]
    assert len(messages) == len(further)
    assert all(message.startswith("vLLM 0.99.0 was never tested with Ampsweep") for message in messages)
