"""Captured activations equal those of a forward pass that is written by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ampsweep.domain.generation.chunk import Chunk
from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.domain.intervention import Intervention
from ampsweep.errors import InvalidRequest
from ampsweep.folders.corpus import Sentence
from benchmarks.models.families import LAYERS, WIDTH, Family
from engine.base import Capture, CaptureRequest, GenerateRequest, ScoreRequest, Steering
from engine.capture.selection import NeuronSelection
from engine.hf.engine import TransformersEngine
from engine.identify.record_request import RecordRequest
from tests.engine.forward import HandModel
from tests.engine.neuron_sets import make_neuron_set

TEXT = "The end of the thing in the north, and then another one"
CHANGED = [(0, 3), (1, 5), (2, 90)]


def captured(engine: TransformersEngine, neurons: NeuronSelection, raw: dict[str, Any] | None, **more: Any) -> Capture:
    neuron_set = make_neuron_set({"fr": CHANGED}, layers=LAYERS, width=engine.info.widths.width)
    engine.add_neurons(neuron_set)
    steering = None if raw is None else Steering(intervention=Intervention.from_dict(raw), neurons=neuron_set.id)
    request = CaptureRequest(prompt=TEXT, neurons=neurons, steering=steering, **more)
    return asyncio.run(engine.capture(request))


def noted_logits(engine: TransformersEngine) -> list[int]:
    """Return a list that gets the number of tokens whose logits are computed, at each forward pass."""
    computed: list[int] = []
    head = engine._model.model.get_output_embeddings()
    head.register_forward_hook(lambda _head, _inputs, logits: computed.append(logits.shape[1]))
    return computed


@pytest.mark.parametrize("family", ["qwen2", "gemma2"])
@pytest.mark.parametrize(
    ("which", "edited"),
    [
        (None, {}),
        ({"scope": "all"}, dict.fromkeys(range(100), 1.0)),
        ({"scope": "prompt"}, dict.fromkeys(range(5), 1.0)),
        ({"scope": "generation"}, dict.fromkeys(range(5, 100), 1.0)),
        ({"scope": "all", "tokens": {"positions": [0, 6, 99]}}, {0: 1.0, 6: 1.0}),
        ({"scope": "prompt", "tokens": {"start": -3, "end": -1}}, {2: 1.0, 3: 1.0}),
        ({"scope": "generation", "tokens": {"start": 1, "end": 4, "decay": 0.5}}, {6: 1.0, 7: 0.5, 8: 0.25}),
    ],
    ids=["unsteered", "all", "prompt", "generation", "positions", "slice", "decay"],
)
def test_the_activations_are_those_before_the_edit(
    family: Family,
    which: dict[str, Any] | None,
    edited: dict[int, float],
    model_folder: Callable[[Family], Path],
    reference: Callable[[Family], TransformersEngine],
) -> None:
    raw = None if which is None else {"languages": ["fr"], "op": "set", "factor": 4.0, **which}
    neurons = NeuronSelection.of({0: np.array([3, 4]), 2: np.arange(WIDTH[family])})
    capture = captured(reference(family), neurons, raw, prompt_tokens=5)
    seen: dict[int, Tensor] = {}

    def edit(layer: int, activation: Tensor) -> Tensor:
        seen[layer] = activation.clone()
        changed = activation.clone()
        for position in range(len(activation)):
            if strength := edited.get(position):
                columns = [index for at, index in CHANGED if at == layer]
                changed[position, columns] += strength * (4.0 - changed[position, columns])
        return changed

    HandModel(model_folder(family)).logprobs(capture.token_ids, edit)
    assert 9 < len(capture.token_ids) < 100
    assert len(capture.token_texts) == len(capture.token_ids) == len(capture.activations[0])
    for layer, indices, values in zip(neurons.layers, neurons.indices, capture.activations, strict=True):
        np.testing.assert_allclose(values, seen[layer][:, torch.from_numpy(indices)], rtol=0, atol=1e-4)
    assert (np.abs(capture.activations[0][:, 0] - 4.0) > 1e-3).all(), "the edit itself is not in the values"


def test_a_vector_changes_the_activations_of_the_layers_above(
    reference: Callable[[Family], TransformersEngine],
) -> None:
    engine = reference("qwen2")
    neurons = NeuronSelection.of({0: np.arange(4), 1: np.arange(4)})
    residual = np.stack([np.ones((LAYERS, 64)), np.zeros((LAYERS, 64))]).astype(np.float32)
    made = make_neuron_set({"fr": CHANGED, "tr": []}, layers=LAYERS, width=engine.info.widths.width)
    engine.add_neurons(replace(made, residual_mean=residual, id="ns_vectors"))
    raw = {"languages": ["fr"], "op": "add", "factor": 9.0, "vector": "diffmean", "layers": [0]}
    steering = Steering(intervention=Intervention.from_dict(raw), neurons="ns_vectors")
    plain, steered = (
        asyncio.run(engine.capture(CaptureRequest(prompt=TEXT, neurons=neurons, steering=each)))
        for each in (None, steering)
    )
    np.testing.assert_array_equal(plain.activations[0], steered.activations[0])
    assert np.abs(plain.activations[1] - steered.activations[1]).max() > 1e-2


def test_neither_a_capture_nor_a_recording_computes_logits(model_folder: Callable[[Family], Path]) -> None:
    engine = TransformersEngine(model_folder("qwen2"))
    computed = noted_logits(engine)
    captured(engine, NeuronSelection.of({0: np.arange(2)}), {"languages": ["fr"], "op": "set", "factor": 4.0})
    asyncio.run(engine.record([Sentence(language="en", text=TEXT)], RecordRequest(max_tokens=100)))
    assert computed == []


def test_only_the_logits_that_are_needed_are_computed(model_folder: Callable[[Family], Path]) -> None:
    engine = TransformersEngine(model_folder("qwen2"))
    computed = noted_logits(engine)
    score = asyncio.run(engine.score(ScoreRequest(context=TEXT, continuation=" of the sea")))
    assert computed == [len(score.token_ids) + 1]

    async def answered(prompt_logprobs: int | None) -> list[Chunk]:
        sampling = SamplingParams(max_tokens=2, ignore_eos=True)
        request = GenerateRequest(prompt=TEXT, sampling=sampling, prompt_logprobs=prompt_logprobs)
        return [chunk async for chunk in engine.generate(request)]

    without, with_prompt = asyncio.run(answered(None)), asyncio.run(answered(0))
    assert computed[1:] == [1, 1, with_prompt[0].prompt_tokens, 1]
    assert [chunk.token_ids for chunk in without] == [chunk.token_ids for chunk in with_prompt]
    assert with_prompt[0].prompt is not None
    assert len(with_prompt[0].prompt.logprobs) == with_prompt[0].prompt_tokens


def test_an_adapter_is_refused(reference: Callable[[Family], TransformersEngine]) -> None:
    with pytest.raises(InvalidRequest, match="LoRA adapters require the vllm engine"):
        captured(reference("qwen2"), NeuronSelection.of({0: np.arange(2)}), None, adapter="formal")
