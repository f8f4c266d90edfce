"""Requests with different LoRA adapters and interventions share a batch; each gets the answer of the merged model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ampsweep.bundled import ATLAS_MODEL
from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.domain.intervention import Intervention
from ampsweep.errors import InvalidRequest, UnknownName
from benchmarks.comparisons.mixed_load import PROMPT, SETTINGS, random_neurons
from benchmarks.models.adapter import tiny_adapter
from benchmarks.models.families import Family
from engine.base import CaptureRequest, Engine, GenerateRequest, ScoreRequest, Steering
from engine.capture.selection import NeuronSelection
from engine.fake import FAKE_INFO, FakeEngine
from engine.hf.engine import TransformersEngine
from engine.vllm.adapters import Adapters, check_effects
from engine.vllm.engine import VllmEngine

SMALL = replace(SETTINGS, backend="cpu", kv_cache_bytes=8 * 1024**2)
TARGETS = {"attention": ["q_proj", "k_proj", "v_proj", "o_proj"], "mlp": ["gate_proj", "up_proj", "down_proj"]}
INTERVENTIONS: tuple[dict[str, Any] | None, ...] = (
    None,
    {"languages": ["fr"], "op": "scale", "factor": 3.0},
    {"languages": ["tr"], "op": "set", "statistic": "p90", "factor": 1.5},
    {"languages": ["fr"], "op": "add", "vector": "diffmean", "factor": 8.0},
)


def test_vllm_replaces_only_what_an_adapter_changes(tmp_path: Path) -> None:
    paths = {
        name: tiny_adapter(ATLAS_MODEL, tmp_path / name, targets=[target], seed=1)[0]
        for name, target in (("a", "q_proj"), ("b", "up_proj"))
    }
    adapters = Adapters.read(paths, model=ATLAS_MODEL)
    assert adapters.arguments(on_cpu=True) == {
        "enable_lora": True,
        "max_loras": 3,
        "max_cpu_loras": 3,
        "max_lora_rank": 8,
        "lora_target_modules": ["q_proj", "up_proj"],
    }
    assert adapters.arguments(on_cpu=False)["max_loras"] == 2
    none = Adapters((), model="atlas", shapes={})
    assert none.arguments(on_cpu=True) == {}
    assert none.memory_bytes(dtype="float32", on_cpu=True) == 0
    assert adapters.request(None) is None
    with pytest.raises(UnknownName, match="unknown adapter 'c'; known: a, b"):
        adapters.request("c")


def test_an_adapter_of_too_high_a_rank_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = tiny_adapter(ATLAS_MODEL, tmp_path, targets=["q_proj"], seed=1)
    monkeypatch.setattr("engine.vllm.adapters._RANKS", (1, 2))
    with pytest.raises(InvalidRequest, match="adapter a cannot be used: its rank 4 exceeds 2; merge"):
        Adapters.read({"a": folder}, model=ATLAS_MODEL)


def test_a_class_of_models_without_lora_is_named() -> None:
    adapters = Adapters((), model="gpt2", shapes={})
    with (
        pytest.raises(InvalidRequest, match=r"no LoRA \(GPT2LMHeadModel does not support LoRA yet\); merge") as caught,
        adapters.explained(Path("models/gpt2")),
    ):
        raise ValueError("GPT2LMHeadModel does not support LoRA yet.")
    assert caught.value.param == "lora"
    with pytest.raises(ValueError, match="other"), adapters.explained(Path("models/gpt2")):
        raise ValueError("other")


def test_an_adapter_that_changes_nothing_is_rejected() -> None:
    engine = FakeEngine(replace(FAKE_INFO, adapters={"a": "f" * 64}))
    asyncio.run(check_effects(engine, ["a"]))

    async def score(_: ScoreRequest) -> SimpleNamespace:
        return SimpleNamespace(logprobs=(-1.0,))

    engine.score = score  # type: ignore[method-assign,assignment]
    with pytest.raises(InvalidRequest, match="adapter a cannot be used: it changes no log-probability of fake"):
        asyncio.run(check_effects(engine, ["a"]))


def test_the_reference_implementation_rejects_adapters() -> None:
    engine = TransformersEngine(ATLAS_MODEL)
    with pytest.raises(InvalidRequest, match="require the vllm engine, not transformers") as caught:
        asyncio.run(engine.score(ScoreRequest(context="a", continuation=" b", adapter="a")))
    assert caught.value.param == "adapter"


async def answers(engine: Engine, adapter: str | None) -> dict[str, Any]:
    """Return the tokens, log-probabilities and activations of one prompt under every intervention."""
    neurons = random_neurons(engine.info)
    engine.add_neurons(neurons)
    steerings = [
        None if raw is None else Steering(intervention=Intervention.from_dict(raw), neurons=neurons.id)
        for raw in INTERVENTIONS
    ]
    sampling = SamplingParams(max_tokens=12, ignore_eos=True)

    async def generate(steering: Steering | None) -> list[int]:
        request = GenerateRequest(prompt=PROMPT, sampling=sampling, steering=steering, adapter=adapter)
        return [token async for chunk in engine.generate(request) for token in chunk.token_ids]

    async def score(steering: Steering | None) -> tuple[float, ...]:
        request = ScoreRequest(context=PROMPT, continuation=" the rain", steering=steering, adapter=adapter)
        return (await engine.score(request)).logprobs

    async def capture(steering: Steering | None) -> np.ndarray:
        chosen = NeuronSelection.of({0: np.array([1, 5]), engine.info.layers - 1: np.arange(8)})
        request = CaptureRequest(prompt=PROMPT, neurons=chosen, steering=steering, adapter=adapter)
        return np.concatenate((await engine.capture(request)).activations, axis=1)

    generated = await asyncio.gather(*map(generate, steerings))
    scored = await asyncio.gather(*map(score, steerings))
    return {"generated": generated, "scored": scored, "captured": await asyncio.gather(*map(capture, steerings))}


def reserved_bytes(model: torch.nn.Module) -> int:
    """Return the bytes of the matrices that vLLM has reserved in a model for adapters."""
    stacks = [
        tensor
        for module in model.modules()
        for name in ("lora_a_stacked", "lora_b_stacked")
        for tensor in getattr(module, name, ())
    ]
    assert stacks
    return sum(tensor.nbytes for tensor in stacks)


def adapter_bytes(folder: Path) -> int:
    return sum(tensor.nbytes for tensor in load_file(folder / "adapter_model.safetensors").values())


@pytest.mark.engine
@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_adapters_and_interventions_share_a_batch(
    family: Family, model_folder: Callable[[Family], Path], tmp_path: Path
) -> None:
    """All requests have the same prompt, so that a prefix cache that mixed adapters would be noticed.

    The multimodal family has other names in the checkpoint than in vLLM, which loads only its language model.
    """
    folder = model_folder(family)
    adapters: dict[str, Path] = {}
    expected: dict[str | None, Mapping[str, Any]] = {}

    async def check() -> None:
        merged: dict[str | None, Path] = {None: folder}
        for seed, (name, targets) in enumerate(TARGETS.items()):
            adapters[name], merged[name] = tiny_adapter(folder, tmp_path / name, targets=targets, seed=seed)
        for adapter, path in merged.items():
            reference = TransformersEngine(path)
            expected[adapter] = await answers(reference, None)
            await reference.close()
        engine = await VllmEngine.open(folder, settings=replace(SMALL, adapters=adapters))
        try:
            reserved = await engine._loop.call(lambda llm: llm.apply_model(reserved_bytes))
            estimate = Adapters.read(adapters, model=folder).memory_bytes(dtype="float32", on_cpu=True)
            assert estimate == sum(reserved) + sum(adapter_bytes(path) for path in adapters.values())
            results = await asyncio.gather(*(answers(engine, adapter) for adapter in expected))
        finally:
            await engine.close()
        for adapter, result in zip(expected, results, strict=True):
            assert result["generated"] == expected[adapter]["generated"]
            np.testing.assert_allclose(result["scored"], expected[adapter]["scored"], rtol=0, atol=1e-4)
            np.testing.assert_allclose(result["captured"], expected[adapter]["captured"], rtol=1e-4, atol=1e-4)
        assert len({str(result) for result in results}) == len(expected)

    asyncio.run(check())
