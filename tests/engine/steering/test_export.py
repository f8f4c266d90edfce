"""An exported checkpoint gives the answers of the steered model."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from ampsweep.domain.intervention import Intervention
from ampsweep.errors import AmpsweepError, InvalidRequest, UnsupportedModel
from ampsweep.folders.model import fingerprint
from ampsweep.folders.weights import INDEX
from benchmarks.comparisons.mixed_load import random_neurons
from benchmarks.models.families import Family
from engine.base import Score, ScoreRequest, Steering
from engine.hf.engine import TransformersEngine
from engine.neurons.neuron_set import NeuronSet
from engine.steering.edits import resolve
from engine.steering.export import CARD, export
from engine.vllm.engine import VllmEngine
from engine.vllm.settings import VllmSettings
from tests.engine.both_engines import both_engines
from tests.engine.neuron_sets import make_neuron_set

SCALINGS: list[dict[str, Any]] = [
    {"languages": ["fr"], "op": "scale", "factor": 3.0},
    {"languages": {"fr": 0.5, "tr": -1.0}, "op": "scale", "factor": 2.5, "layers": [0, 2]},
    {"languages": ["en"], "op": "scale", "factor": 0.0, "non_target": {"op": "scale", "factor": 1.5}},
    {"languages": ["tr"], "op": "scale", "factor": -2.0, "selection": "random", "seed": 3},
]
FACTOR_2 = {"languages": ["fr"], "op": "scale", "factor": 2}


def logprobs(engine: TransformersEngine, steering: Steering | None = None) -> list[float]:
    request = ScoreRequest(context="the thing", continuation=" in the end is another", steering=steering)
    return list(asyncio.run(engine.score(request)).logprobs)


@pytest.mark.parametrize(
    "family",
    [
        "qwen2",
        *(
            pytest.param(family, marks=pytest.mark.processes)  # they take seconds together
            for family in (
                *("gemma2", "mistral3", "nemotron_h", "lfm2", "olmo_hybrid", "qwen3_5_text", "glm4", "arcee", "xglm"),
                *("bamba", "gpt_neo", "youtu", "codegen"),
            )
        ),
    ],
)
@pytest.mark.parametrize("raw", SCALINGS, ids=lambda raw: str(raw["factor"]))
def test_the_exported_model_gives_the_answers_of_the_steered_one(
    family: Family, raw: dict[str, Any], reference: Callable[[Family], TransformersEngine], tmp_path: Path, request: Any
) -> None:
    steered, folder = reference(family), request.getfixturevalue("model_folder")(family)
    neurons, intervention = random_neurons(steered.info), Intervention.from_dict(raw)
    steered.add_neurons(neurons)
    written = export(folder, neurons, intervention, tmp_path / "out")
    plain = TransformersEngine(tmp_path / "out")
    expected = logprobs(steered, Steering(intervention=intervention, neurons=neurons.id))
    np.testing.assert_allclose(logprobs(plain), expected, rtol=0, atol=2e-5)
    assert np.abs(np.subtract(expected, logprobs(steered))).max() > 1e-2
    assert plain.info.fingerprint == written.fingerprint != steered.info.fingerprint
    changed = resolve(intervention, neurons)
    assert (written.neurons, written.layers) == (len(changed.indices), int(np.count_nonzero(np.diff(changed.offsets))))


@pytest.mark.engine
def test_the_exported_model_gives_the_answers_of_the_steered_one_in_vllm(tmp_path: Path) -> None:
    settings = VllmSettings(slots=4, max_num_seqs=8, kv_cache_bytes=64 * 1024**2, compile=False)
    request = ScoreRequest(context="the thing", continuation=" in the end is another")

    async def plain(folder: Path) -> Score:
        engine = await VllmEngine.open(folder, settings=settings)
        try:
            return await engine.score(request)
        finally:
            await engine.close()

    with both_engines("qwen2", tmp_path / "model", settings) as both:
        steering = Steering(intervention=Intervention.from_dict(SCALINGS[2]), neurons=both.neurons.id)
        steered = both.run(both.vllm.score(replace(request, steering=steering)))
        unsteered = both.run(both.vllm.score(request))
        export(tmp_path / "model", both.neurons, steering.intervention, tmp_path / "out")
    exported = asyncio.run(plain(tmp_path / "out"))
    np.testing.assert_allclose(exported.logprobs, steered.logprobs, rtol=0, atol=2e-5)
    assert np.abs(np.subtract(steered.logprobs, unsteered.logprobs)).max() > 1e-2


def test_a_transposed_projection_is_scaled_by_its_rows(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=3, n_head=2, n_inner=24, vocab_size=50)).eval()
    model.save_pretrained(tmp_path / "gpt2")
    neurons = make_neuron_set({"fr": [(0, 1), (2, 5), (2, 23)]}, width=24)
    export(tmp_path / "gpt2", neurons, Intervention.from_dict({**FACTOR_2, "factor": 9}), tmp_path / "out")
    ids = torch.tensor([[3, 1, 4, 1, 5]])
    factors = torch.ones(3, 24)
    factors[tuple(neurons.neurons["fr"].T.tolist())] = 9.0
    blocks: Any = model.transformer.h
    handles = [
        block.mlp.act.register_forward_hook(lambda _module, _args, out, factor=factor: out * factor)
        for block, factor in zip(blocks, factors, strict=True)
    ]
    with torch.inference_mode():
        expected = model(ids).logits
        for handle in handles:
            handle.remove()
        assert not torch.allclose(model(ids).logits, expected)
        exported = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
        torch.testing.assert_close(exported(ids).logits, expected)


def _digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_only_the_columns_of_the_neurons_change_and_shards_stay(
    model_folder: Callable[[Family], Path], tmp_path: Path
) -> None:
    folder = tmp_path / "sharded"
    AutoModelForCausalLM.from_pretrained(model_folder("llama")).to(torch.bfloat16).save_pretrained(
        folder, max_shard_size="60KB"
    )
    others = {"pytorch_model.bin", "consolidated.safetensors", "consolidated.safetensors.index.json", "params.json"}
    for name in others:
        (folder / name).write_bytes(b"weights of another format, unscaled")
    (folder / "LICENSE").write_text("free")
    before = _digests(folder)
    pairs = [(1, 0), (1, 127), (2, 64)]
    export(folder, make_neuron_set({"fr": pairs}, width=128), Intervention.from_dict(FACTOR_2), tmp_path / "out")
    assert _digests(folder) == before
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {path.name for path in folder.iterdir()} - others | {CARD}
    shards = sorted(set(json.loads((tmp_path / "out" / INDEX).read_text())["weight_map"].values()))
    assert len(shards) > 2
    for shard in shards:
        old, new = load_file(folder / shard), load_file(tmp_path / "out" / shard)
        for name, weights in old.items():
            expected = weights.clone()
            for layer, index in pairs:
                if name == f"model.layers.{layer}.mlp.down_proj.weight":
                    expected[:, index] = (weights[:, index].float() * 2).to(torch.bfloat16)
            assert torch.equal(new[name], expected)
            assert new[name].dtype == torch.bfloat16


def test_the_model_card_describes_the_intervention(model_folder: Callable[[Family], Path], tmp_path: Path) -> None:
    folder = model_folder("qwen2")
    neurons = make_neuron_set({"fr": [(1, 0), (1, 5)]}, width=96)
    intervention = Intervention.from_dict(FACTOR_2)
    export(folder, neurons, intervention, tmp_path / "out")
    card = (tmp_path / "out" / CARD).read_text()
    assert fingerprint(folder) in card
    assert neurons.id in card
    assert "| 1 | 2 |" in card
    assert json.loads(card.split("```json")[1].split("```")[0]) == intervention.to_dict()


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        ({**FACTOR_2, "op": "add"}, "intervention.op"),
        ({**FACTOR_2, "op": "set", "statistic": "mean"}, "intervention.op"),
        ({**FACTOR_2, "non_target": {"op": "set", "factor": 0}}, "intervention.non_target.op"),
        ({**FACTOR_2, "scope": "generation"}, "intervention.scope"),
        ({**FACTOR_2, "tokens": {"end": 3}}, "intervention.tokens"),
        ({**FACTOR_2, "when": "drift"}, "intervention.when"),
        ({**FACTOR_2, "part": "answer"}, "intervention.part"),
        ({**FACTOR_2, "languages": ["xx"]}, "intervention.languages"),
        ({**FACTOR_2, "layers": [3]}, "intervention.layers"),
    ],
)
def test_an_intervention_that_weights_cannot_express_is_rejected(
    raw: dict[str, Any], param: str, model_folder: Callable[[Family], Path], tmp_path: Path
) -> None:
    neurons = make_neuron_set({"fr": [(1, 0)]}, width=96)
    with pytest.raises(InvalidRequest) as caught:
        export(model_folder("qwen2"), neurons, Intervention.from_dict(raw), tmp_path / "out")
    assert caught.value.param == param
    assert list(tmp_path.iterdir()) == []


def _with_config(folder: Path, out: Path, **change: Any) -> Path:
    out.mkdir()
    for path in folder.iterdir():
        (out / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(config | change))
    return out


def test_models_that_cannot_be_scaled_are_rejected(model_folder: Callable[[Family], Path], tmp_path: Path) -> None:
    def refused(folder: Path, neurons: NeuronSet) -> AmpsweepError:
        with pytest.raises(AmpsweepError) as caught:
            export(folder, neurons, Intervention.from_dict(FACTOR_2), tmp_path / "out")
        assert not (tmp_path / "out").exists()
        return caught.value

    folder, fitting = model_folder("qwen2"), make_neuron_set({"fr": [(1, 0)]}, width=96)
    unknown = refused(_with_config(folder, tmp_path / "unknown", model_type="mixtral"), fitting)
    assert isinstance(unknown, UnsupportedModel)
    assert "mixtral" in unknown.message
    assert "3 layers of 96" in refused(folder, make_neuron_set({"fr": [(1, 0)]}, width=97)).message
    assert "0 layers" in refused(_with_config(folder, tmp_path / "gpt", model_type="gpt_neox"), fitting).message
    quantized = _with_config(folder, tmp_path / "quantized")
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.down_proj.weight"] = weights["model.layers.1.mlp.down_proj.weight"].to(torch.int8)
    save_file(weights, quantized / "model.safetensors")
    assert "layers.1.mlp.down_proj.weight has dtype I8" in refused(quantized, fitting).message
    (tmp_path / "there").mkdir()
    with pytest.raises(InvalidRequest, match="there already exists"):
        export(folder, fitting, Intervention.from_dict(FACTOR_2), tmp_path / "there")
